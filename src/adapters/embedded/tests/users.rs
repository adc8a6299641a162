use super::{account, fixture};
use crate::{
    domain::{SessionId, UserId},
    ports::{CreateUser, NewUser, Outcome, PasswordHash, Refresh, SessionRow},
};

fn user(id: u64, handle: &str) -> NewUser {
    NewUser { account: account(id, handle), password: PasswordHash("phc".into()) }
}

fn session() -> SessionRow {
    SessionRow { id: SessionId(u64::MAX), user: UserId(1), refresh: [1; 32], expires_at_ms: 500 }
}

#[tokio::test]
async fn a_handle_and_an_id_are_given_once_and_a_repeat_is_no_conflict() {
    let f = fixture();
    let users = &f.stores.user.users;
    assert_eq!(users.create_user(&user(1, "ada")).await, Outcome::Done(CreateUser::Created));
    assert_eq!(users.create_user(&user(1, "ada")).await, Outcome::Done(CreateUser::Created));
    assert_eq!(users.create_user(&user(2, "Ada")).await, Outcome::Done(CreateUser::HandleTaken));
    assert_eq!(users.create_user(&user(1, "bob")).await, Outcome::Done(CreateUser::IdTaken));
    let (found, password) =
        users.credentials(&account(1, "ada").handle).await.unwrap().expect("the account");
    assert_eq!((found, password.0), (account(1, "ada"), "phc".into()));
    assert_eq!(users.by_handle(&account(1, "bob").handle).await, Ok(None));
    assert_eq!(users.by_id(UserId(1)).await, Ok(Some(account(1, "ada"))));
    assert_eq!(users.by_id(UserId(2)).await, Ok(None));
}

#[tokio::test]
async fn a_refresh_token_works_once_and_its_second_use_ends_the_session() {
    let f = fixture();
    let users = &f.stores.user.users;
    assert!(users.create_session(&session()).await.is_done());
    let rotated = Refresh::Rotated(SessionRow { refresh: [2; 32], ..session() });
    assert_eq!(users.refresh([1; 32], [2; 32], 10).await, Outcome::Done(rotated.clone()));
    let again = users.refresh([1; 32], [2; 32], 11).await;
    assert_eq!(again, Outcome::Done(rotated), "the same call, after an answer that was lost");
    assert!(users.create_session(&session()).await.is_done(), "changes nothing");
    let stolen = users.refresh([1; 32], [3; 32], 12).await;
    assert_eq!(stolen, Outcome::Done(Refresh::Reused(SessionId(u64::MAX))));
    assert_eq!(users.refresh([2; 32], [4; 32], 13).await, Outcome::Done(Refresh::Unknown));
    assert_eq!(users.revoked_since(12).await.unwrap().sessions, [SessionId(u64::MAX)]);
    assert!(users.revoked_since(13).await.unwrap().sessions.is_empty());
}

#[tokio::test]
async fn a_repeat_of_a_rotation_that_is_no_longer_the_last_is_a_theft() {
    let f = fixture();
    let users = &f.stores.user.users;
    assert!(users.create_session(&session()).await.is_done());
    assert!(users.refresh([1; 32], [2; 32], 10).await.is_done());
    assert!(users.refresh([2; 32], [3; 32], 11).await.is_done());
    let late = users.refresh([1; 32], [2; 32], 12).await;
    assert_eq!(late, Outcome::Done(Refresh::Reused(SessionId(u64::MAX))));
}

#[tokio::test]
async fn a_session_ends_by_time_or_by_revocation_and_only_once() {
    let f = fixture();
    let users = &f.stores.user.users;
    assert!(users.create_session(&session()).await.is_done());
    assert_eq!(users.refresh([1; 32], [2; 32], 500).await, Outcome::Done(Refresh::Unknown));
    assert_eq!(users.revoke(session().id, 499).await, Outcome::Done(true));
    assert_eq!(users.revoke(session().id, 499).await, Outcome::Done(false));
    assert_eq!(users.revoke(SessionId(9), 1).await, Outcome::Done(false));
}

#[tokio::test]
async fn sessions_that_ended_long_ago_are_swept_with_their_tokens() {
    let f = fixture();
    let users = &f.stores.user.users;
    let row = |id: u64, token: u8, expires_at_ms: u64| SessionRow {
        id: SessionId(id),
        user: UserId(1),
        refresh: [token; 32],
        expires_at_ms,
    };
    let day = 24 * 3600 * 1000;
    for (id, token) in [(1, 1), (2, 2), (3, 3)] {
        assert!(users.create_session(&row(id, token, 500)).await.is_done());
    }
    assert!(users.create_session(&row(4, 4, 2 * day)).await.is_done());
    let left = async || {
        let count = |conn: &rusqlite::Connection| {
            let sql =
                "select (select count(*) from sessions), (select count(*) from refresh_tokens)";
            Ok(conn.query_row(sql, [], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?)))?)
        };
        f.stores.user.db.read("users", count).await.unwrap()
    };
    // Not before every access token has ended.
    drop(users.refresh([4; 32], [5; 32], 600).await);
    assert_eq!(left().await, (4, 5));
    drop(users.refresh([5; 32], [6; 32], day).await);
    assert_eq!(left().await, (2, 4));
    drop(users.refresh([6; 32], [7; 32], day).await);
    assert_eq!(left().await, (1, 4));
}
