//! The steps of the tables, and what cannot be opened.

use chirp::{
    adapters::cassandra::{
        CassandraTimelineStore, OpenError, check, migrate,
        migrate::{STEPS, Step, migrate_to},
    },
    config::{Cassandra, Secret},
    domain::TweetId,
    ports::TimelineStore as _,
};

use super::{Server, rows, tweet};
use crate::support::servers::endpoint;

pub async fn processes_that_start_at_once_make_the_tables_once(server: Server) {
    let config = server.elsewhere();
    let starts: Vec<_> = (0..4)
        .map(|_| {
            let (rt, config) = (server.rt.clone(), config.clone());
            tokio::spawn(async move { migrate(&rt, &endpoint(&config)).await })
        })
        .collect();
    for start in starts {
        start.await.unwrap().unwrap();
    }
    let store = server.open(&config).await;
    assert!(store.put_tweets(&[tweet(10, 1)]).await.is_done());
    // Again over what is there, which stays.
    migrate(&server.rt, &endpoint(&config)).await.unwrap();
    assert!(store.bodies(&[TweetId(10)]).await.unwrap()[0].is_some());
    let cql = format!("select version from {}.schema_versions", config.keyspace);
    let taken = rows::<(i32,)>(&server.session().await, cql).await;
    assert_eq!(taken.len(), STEPS.len());
}

pub async fn the_tables_are_what_the_steps_say(server: Server) {
    let config = server.empty().await;
    let cql = format!(
        "select table_name, column_name, type from system_schema.columns
         where keyspace_name = '{}'",
        config.keyspace
    );
    let mut found = rows::<(String, String, String)>(&server.session().await, cql).await;
    found.retain(|(table, ..)| table != "schema_versions");
    found.sort_unstable();
    let mut said: Vec<_> = STEPS.iter().flat_map(Step::columns).collect();
    said.sort_unstable();
    assert_eq!(found, said);
}

pub async fn a_keyspace_that_lacks_a_step_is_not_opened_and_the_step_is_named(server: Server) {
    let named: Vec<String> =
        STEPS.iter().map(|step| format!("{:04} {}", step.number, step.name)).collect();
    let nowhere = server.elsewhere();
    assert_eq!(check(&server.rt, &endpoint(&nowhere)).await.unwrap(), named);
    let config = server.empty().await;
    assert_eq!(check(&server.rt, &endpoint(&config)).await.unwrap(), Vec::<String>::new());
    // As if a step had been taken without a column, by whoever else makes the tables.
    let cql = format!("alter table {}.tweets drop handle", config.keyspace);
    server.session().await.query_unpaged(cql, ()).await.unwrap();
    assert_eq!(check(&server.rt, &endpoint(&config)).await.unwrap(), named[..1]);
    let refused = CassandraTimelineStore::open(&server.rt, &endpoint(&config)).await.unwrap_err();
    let OpenError::Behind { missing, .. } = refused else { panic!("{refused}") };
    assert_eq!(missing, named[..1]);
}

pub async fn a_step_that_was_changed_is_refused(server: Server) {
    let config = server.empty().await;
    let changed =
        [Step { cql: "create table if not exists a (\n b int,\n primary key ((b)))", ..STEPS[0] }];
    let refused = migrate_to(&server.rt, &endpoint(&config), &changed).await.unwrap_err();
    assert!(matches!(refused, OpenError::Foreign { .. }), "no wait mends it: {refused}");
    let refused = refused.to_string();
    assert!(refused.contains("changed") && refused.contains(&config.keyspace), "{refused}");
}

pub async fn a_later_release_is_accepted_until_one_that_excludes_this_one(server: Server) {
    let config = server.empty().await;
    let next = STEPS.last().unwrap().number + 1;
    let adds = "alter table tweets add if not exists later text";
    let mut steps = STEPS.to_vec();
    steps.push(Step { number: next, name: "later", cql: adds, oldest: 0 });
    migrate_to(&server.rt, &endpoint(&config), &steps).await.unwrap();
    migrate(&server.rt, &endpoint(&config)).await.unwrap();
    let store = server.open(&config).await;
    assert!(store.put_tweets(&[tweet(10, 1)]).await.is_done());
    let more = "alter table tweets add if not exists still_later text";
    steps.push(Step { number: next + 1, name: "exclusive", cql: more, oldest: next + 1 });
    migrate_to(&server.rt, &endpoint(&config), &steps).await.unwrap();
    for refused in [
        migrate(&server.rt, &endpoint(&config)).await.unwrap_err(),
        check(&server.rt, &endpoint(&config)).await.unwrap_err(),
        CassandraTimelineStore::open(&server.rt, &endpoint(&config)).await.map(drop).unwrap_err(),
    ] {
        assert!(matches!(refused, OpenError::Foreign { .. }), "no wait mends it: {refused}");
        assert!(refused.to_string().contains("newer release"), "{refused}");
    }
}

pub async fn an_absent_server_is_said_without_the_password(server: Server) {
    let (username, password) = ("chirp".to_owned(), Secret("hunter2hunter2".to_owned()));
    let nobody = Cassandra {
        addresses: "127.0.0.1:1".to_owned(),
        username,
        password,
        ..server.config.clone()
    };
    let absent =
        CassandraTimelineStore::open(&server.rt, &endpoint(&nobody)).await.map(drop).unwrap_err();
    assert!(matches!(absent, OpenError::Unreachable { .. }), "{absent}");
    let unmade = migrate(&server.rt, &endpoint(&nobody)).await.unwrap_err();
    assert!(absent.to_string().contains("127.0.0.1:1"), "{absent}");
    let cut = Cassandra { addresses: "127.0.0.1:1, 127.0.0.1:2".to_owned(), ..nobody.clone() };
    let both = check(&server.rt, &endpoint(&cut)).await.unwrap_err();
    assert!(both.to_string().contains("127.0.0.1:2"), "{both}");
    let store = server.open(&server.empty().await).await;
    let texts = format!("{absent} {absent:?} {unmade} {unmade:?} {both:?} {store:?} {nobody:?}");
    assert!(!texts.contains("hunter2"), "{texts}");
}
