//! The steps of the schema, and what cannot be opened.

use std::net::TcpListener;

use chirp::{
    adapters::postgres::{
        OpenError, TweetStores, UserStores,
        migrate::{TWEET, USER},
    },
    config::{Postgres, Secret},
    domain::{TweetId, UserId, Window},
};

use super::{Server, contracts::tweet};
use crate::support::servers::endpoint;

fn of_user(server: &Server, database: &str) -> Postgres {
    Postgres { user_database: database.to_owned(), ..server.config.clone() }
}

pub async fn processes_that_start_at_once_take_each_step_once(server: Server) {
    let database = server.empty().await;
    let starts: Vec<_> = (0..4)
        .map(|_| {
            let (rt, config) = (server.rt.clone(), of_user(&server, &database));
            tokio::spawn(async move {
                UserStores::open(&rt, &endpoint(&config), true).await.map(|stores| stores.db)
            })
        })
        .collect();
    for start in starts {
        start.await.unwrap().unwrap();
    }
    let stores =
        UserStores::open(&server.rt, &endpoint(&of_user(&server, &database)), true).await.unwrap();
    assert_eq!(stores.users.by_id(UserId(1)).await, Ok(None));
}

pub async fn a_database_of_an_earlier_release_is_brought_up_to_date(server: Server) {
    let database = server.empty().await;
    server.migrate(&database, TWEET.first(1)).await;
    let old = "
        insert into authors values (1, 10);
        insert into tweets values (10, 1, 'user_1', 'Somebody', 'tweet 10', 1800000000000, null)";
    server.run(&database, old).await;
    let config = Postgres { tweet_database: database, ..server.config.clone() };
    let stores = TweetStores::open(&server.rt, &endpoint(&config), true).await.unwrap();
    assert!(stores.tweets.create(&tweet(5, 1)).await.is_done());
    let found = stores.tweets.by_author(UserId(1), Window::Latest, 9).await.unwrap();
    let ids: Vec<TweetId> = found.iter().map(|body| body.id).collect();
    assert_eq!(ids, [TweetId(11), TweetId(10)]);
    assert_eq!(stores.outbox.stats().await.unwrap().unsent, 1);
}

pub async fn a_database_of_a_later_release_is_accepted(server: Server) {
    let database = server.empty().await;
    server.migrate(&database, USER).await;
    let later = "
        insert into _sqlx_migrations (version, description, success, checksum, execution_time)
        values (999, 'later', true, '', 0)";
    server.run(&database, later).await;
    UserStores::open(&server.rt, &endpoint(&of_user(&server, &database)), true)
        .await
        .map(drop)
        .unwrap();
}

pub async fn a_step_that_was_changed_is_refused(server: Server) {
    let database = server.empty().await;
    server.migrate(&database, USER.first(2)).await;
    server.run(&database, "update _sqlx_migrations set checksum = 'x' where version = 2").await;
    let refused =
        UserStores::open(&server.rt, &endpoint(&of_user(&server, &database)), true).await.map(drop);
    let text = refused.unwrap_err().to_string();
    assert!(text.contains(&database) && text.contains("migration 2"), "{text}");
}

pub async fn what_cannot_be_opened_is_said_without_the_password(server: Server) {
    let password = Secret("hunter2hunter2".to_owned());
    let wrong = Postgres { password: password.clone(), ..server.config.clone() };
    let refused =
        UserStores::open(&server.rt, &endpoint(&wrong), true).await.map(drop).unwrap_err();
    assert!(matches!(refused, OpenError::Refused { .. }), "{refused}");
    let missing = of_user(&server, "nowhere");
    let missing =
        UserStores::open(&server.rt, &endpoint(&missing), true).await.map(drop).unwrap_err();
    assert!(matches!(missing, OpenError::Refused { .. }), "{missing}");
    let nobody = Postgres { port: 1, password, ..server.config.clone() };
    let absent =
        UserStores::open(&server.rt, &endpoint(&nobody), true).await.map(drop).unwrap_err();
    assert!(matches!(absent, OpenError::Unreachable { .. }), "{absent}");
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = Postgres { port: silent.local_addr().unwrap().port(), ..nobody };
    let late = UserStores::open(&server.rt, &endpoint(&silent), true).await.map(drop).unwrap_err();
    assert!(late.to_string().contains("no answer within 10 s"), "{late}");
    let pool = server.pool_with(&wrong, &server.config.user_database);
    let read = UserStores::over(pool.clone()).users.by_id(UserId(1)).await.unwrap_err();
    let texts = format!(
        "{refused} {refused:?} {absent} {late} {absent:?} {read} {read:?} {pool:?} {wrong:?}"
    );
    assert!(!texts.contains("hunter2"), "{texts}");
}
