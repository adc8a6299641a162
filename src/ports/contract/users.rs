//! What every [`UserStore`] does.

use std::sync::Arc;

use super::{
    Check, Outage, behaviours,
    kit::{Must, NOW_MS, concurrently, handle, is_error, name, not_done, same, that},
};
use crate::{
    domain::{SessionId, UserId},
    ports::{
        Account, CreateUser, NewUser, Outcome, PasswordHash, Refresh, RefreshHash, SessionRow,
        UserStore,
    },
    rt::{BoxFuture, Rt},
};

/// A store without accounts.
#[derive(Clone)]
pub struct Context {
    /// The store.
    pub users: Arc<dyn UserStore>,
    /// The runtime it was made with.
    pub rt: Rt,
    /// Takes the store down.
    pub outage: Option<Outage>,
}

behaviours![
    there_is_nobody_at_first,
    an_account_is_found_in_every_way,
    signing_up_twice_is_signing_up_once,
    a_taken_handle_changes_nothing,
    a_taken_id_changes_nothing,
    of_many_who_want_a_handle_one_gets_it,
    a_refresh_token_is_replaced,
    a_refresh_that_is_repeated_whole_gives_the_same,
    a_used_refresh_token_ends_the_session,
    of_many_refreshes_one_wins,
    an_expired_session_is_not_refreshed,
    a_revoked_session_is_not_refreshed,
    a_session_is_revoked_once,
    an_ended_session_is_not_revoked,
    revocations_are_listed_by_time,
    adding_a_session_again_changes_nothing,
    sessions_are_apart,
    an_outage_is_an_error,
];

const HOUR_MS: u64 = 3_600_000;

fn newcomer(id: u64, handle_of: u64) -> NewUser {
    let account = Account {
        id: UserId(id),
        handle: handle(handle_of),
        name: name(id),
        created_at_ms: NOW_MS + id,
    };
    NewUser { account, password: PasswordHash(format!("$argon2id$of-{id}")) }
}

fn session(id: u64, user: u64, token: u8) -> SessionRow {
    SessionRow {
        id: SessionId(id),
        user: UserId(user),
        refresh: hash(token),
        expires_at_ms: NOW_MS + HOUR_MS,
    }
}

const fn hash(n: u8) -> RefreshHash {
    [n; 32]
}

impl Context {
    async fn sign_up(&self, user: &NewUser) -> Result<CreateUser, String> {
        self.users.create_user(user).await.must("create_user")
    }

    async fn log_in(&self, session: &SessionRow) -> Check {
        self.users.create_session(session).await.must("create_session")
    }

    async fn refresh(&self, old: u8, new: u8, now_ms: u64) -> Result<Refresh, String> {
        self.users.refresh(hash(old), hash(new), now_ms).await.must("refresh")
    }

    async fn refreshes(&self, old: u8, new: u8, now_ms: u64, expected: Refresh) -> Check {
        same(&format!("refresh of {old}"), &self.refresh(old, new, now_ms).await?, &expected)
    }

    async fn revoke(&self, id: u64, now_ms: u64) -> Result<bool, String> {
        self.users.revoke(SessionId(id), now_ms).await.must("revoke")
    }

    async fn revoked(&self, since_ms: u64) -> Result<Vec<u64>, String> {
        let found = self.users.revoked_since(since_ms).await.must("revoked_since")?;
        let mut ids: Vec<u64> = found.sessions.into_iter().map(|id| id.0).collect();
        ids.sort_unstable();
        Ok(ids)
    }

    /// The account of `user` is found in every way.
    async fn finds(&self, user: &NewUser) -> Check {
        let Account { id, handle, .. } = &user.account;
        let account = Some(user.account.clone());
        same("by_id", &self.users.by_id(*id).await.must("by_id")?, &account)?;
        same("by_handle", &self.users.by_handle(handle).await.must("by_handle")?, &account)?;
        let found = self.users.credentials(handle).await.must("credentials")?;
        let found = found.map(|(account, password)| (account, password.0));
        same("credentials", &found, &Some((user.account.clone(), user.password.0.clone())))
    }

    async fn has_no_id(&self, id: u64) -> Check {
        same("by_id", &self.users.by_id(UserId(id)).await.must("by_id")?, &None)
    }

    async fn has_no_handle(&self, of: u64) -> Check {
        let found = self.users.by_handle(&handle(of)).await.must("by_handle")?;
        same("by_handle", &found, &None)?;
        let found = self.users.credentials(&handle(of)).await.must("credentials")?;
        same("credentials", &found, &None)
    }
}

async fn there_is_nobody_at_first(context: Context) -> Check {
    context.has_no_id(1).await?;
    context.has_no_handle(1).await?;
    context.refreshes(1, 2, NOW_MS, Refresh::Unknown).await?;
    same("revoke", &context.revoke(1, NOW_MS).await?, &false)?;
    same("revoked", &context.revoked(0).await?, &Vec::new())
}

async fn an_account_is_found_in_every_way(context: Context) -> Check {
    for id in [1, 2] {
        same("answer", &context.sign_up(&newcomer(id, id)).await?, &CreateUser::Created)?;
    }
    context.finds(&newcomer(1, 1)).await?;
    context.finds(&newcomer(2, 2)).await
}

async fn signing_up_twice_is_signing_up_once(context: Context) -> Check {
    for _ in 0..2 {
        same("answer", &context.sign_up(&newcomer(1, 1)).await?, &CreateUser::Created)?;
        context.finds(&newcomer(1, 1)).await?;
    }
    Ok(())
}

async fn a_taken_handle_changes_nothing(context: Context) -> Check {
    context.sign_up(&newcomer(1, 1)).await?;
    same("answer", &context.sign_up(&newcomer(2, 1)).await?, &CreateUser::HandleTaken)?;
    context.has_no_id(2).await?;
    context.finds(&newcomer(1, 1)).await?;
    same("answer", &context.sign_up(&newcomer(2, 2)).await?, &CreateUser::Created)
}

async fn a_taken_id_changes_nothing(context: Context) -> Check {
    context.sign_up(&newcomer(1, 1)).await?;
    same("answer", &context.sign_up(&newcomer(1, 2)).await?, &CreateUser::IdTaken)?;
    context.has_no_handle(2).await?;
    context.finds(&newcomer(1, 1)).await
}

async fn of_many_who_want_a_handle_one_gets_it(context: Context) -> Check {
    let sign_up = |id| -> BoxFuture<'static, Outcome<CreateUser>> {
        let users = context.users.clone();
        Box::pin(async move { users.create_user(&newcomer(id, 77)).await })
    };
    let mut winners = Vec::new();
    for (id, answer) in (1..).zip(concurrently(&context.rt, (1..=8).map(sign_up)).await?) {
        match answer.must("create_user")? {
            CreateUser::Created => winners.push(id),
            CreateUser::HandleTaken => context.has_no_id(id).await?,
            CreateUser::IdTaken => return Err("an id is taken that nobody has".to_owned()),
        }
    }
    same("winners", &winners.len(), &1)?;
    context.finds(&newcomer(winners[0], 77)).await
}

async fn a_refresh_token_is_replaced(context: Context) -> Check {
    context.log_in(&session(5, 1, 10)).await?;
    context.refreshes(99, 11, NOW_MS, Refresh::Unknown).await?;
    context.refreshes(10, 11, NOW_MS, Refresh::Rotated(session(5, 1, 11))).await?;
    context.refreshes(11, 12, NOW_MS, Refresh::Rotated(session(5, 1, 12))).await?;
    context.refreshes(12, 13, NOW_MS, Refresh::Rotated(session(5, 1, 13))).await?;
    same("revoked", &context.revoked(0).await?, &Vec::new())
}

async fn a_refresh_that_is_repeated_whole_gives_the_same(context: Context) -> Check {
    // Its answer was lost, so it comes again with the same new token: every write may.
    context.log_in(&session(5, 1, 10)).await?;
    context.refreshes(10, 11, NOW_MS, Refresh::Rotated(session(5, 1, 11))).await?;
    context.refreshes(10, 11, NOW_MS + 1, Refresh::Rotated(session(5, 1, 11))).await?;
    context.refreshes(11, 12, NOW_MS + 2, Refresh::Rotated(session(5, 1, 12))).await
}

async fn a_used_refresh_token_ends_the_session(context: Context) -> Check {
    context.log_in(&session(5, 1, 10)).await?;
    context.refresh(10, 11, NOW_MS).await?;
    context.refresh(11, 12, NOW_MS).await?;
    context.refreshes(10, 66, NOW_MS + 3, Refresh::Reused(SessionId(5))).await?;
    context.refreshes(12, 13, NOW_MS + 4, Refresh::Unknown).await?;
    context.refreshes(66, 67, NOW_MS + 4, Refresh::Unknown).await?;
    same("revoked", &context.revoked(NOW_MS + 3).await?, &vec![5])
}

async fn of_many_refreshes_one_wins(context: Context) -> Check {
    context.log_in(&session(5, 1, 10)).await?;
    let refresh = |n: u8| -> BoxFuture<'static, Outcome<Refresh>> {
        let users = context.users.clone();
        Box::pin(async move { users.refresh(hash(10), hash(n), NOW_MS).await })
    };
    let mut won = 0;
    for answer in concurrently(&context.rt, (20..28).map(refresh)).await? {
        match answer.must("refresh")? {
            Refresh::Rotated(_) => won += 1,
            Refresh::Reused(id) => same("reused", &id, &SessionId(5))?,
            Refresh::Unknown => {}
        }
    }
    same("refreshes that won", &won, &1)?;
    same("revoked", &context.revoked(0).await?, &vec![5])
}

async fn an_expired_session_is_not_refreshed(context: Context) -> Check {
    context.log_in(&session(5, 1, 10)).await?;
    context.refreshes(10, 11, NOW_MS + HOUR_MS + 1, Refresh::Unknown).await?;
    let in_time = NOW_MS + HOUR_MS - 1;
    context.refreshes(10, 12, in_time, Refresh::Rotated(session(5, 1, 12))).await
}

async fn a_revoked_session_is_not_refreshed(context: Context) -> Check {
    context.log_in(&session(5, 1, 10)).await?;
    same("revoke", &context.revoke(5, NOW_MS).await?, &true)?;
    context.refreshes(10, 11, NOW_MS + 1, Refresh::Unknown).await
}

async fn a_session_is_revoked_once(context: Context) -> Check {
    context.log_in(&session(5, 1, 10)).await?;
    same("revoke", &context.revoke(5, NOW_MS).await?, &true)?;
    same("revoke again", &context.revoke(5, NOW_MS + 9).await?, &false)?;
    same("revoked then", &context.revoked(NOW_MS).await?, &vec![5])?;
    same("revoked later", &context.revoked(NOW_MS + 5).await?, &Vec::new())
}

async fn an_ended_session_is_not_revoked(context: Context) -> Check {
    context.log_in(&session(5, 1, 10)).await?;
    same("revoke", &context.revoke(5, NOW_MS + HOUR_MS + 1).await?, &false)
}

async fn revocations_are_listed_by_time(context: Context) -> Check {
    for (id, token) in [(5, 10), (6, 20), (7, 30), (8, 40)] {
        context.log_in(&session(id, 1, token)).await?;
    }
    for id in [5, 6, 7] {
        context.revoke(id, NOW_MS + id).await?;
    }
    same("all", &context.revoked(0).await?, &vec![5, 6, 7])?;
    same("from the second on", &context.revoked(NOW_MS + 6).await?, &vec![6, 7])?;
    same("after the last", &context.revoked(NOW_MS + 8).await?, &Vec::new())
}

async fn adding_a_session_again_changes_nothing(context: Context) -> Check {
    context.log_in(&session(5, 1, 10)).await?;
    context.log_in(&session(5, 1, 10)).await?;
    context.refresh(10, 11, NOW_MS).await?;
    context.log_in(&session(5, 1, 10)).await?;
    context.refreshes(10, 12, NOW_MS, Refresh::Reused(SessionId(5))).await?;
    context.log_in(&session(5, 1, 10)).await?;
    context.refreshes(10, 13, NOW_MS, Refresh::Unknown).await
}

async fn sessions_are_apart(context: Context) -> Check {
    context.log_in(&session(5, 1, 10)).await?;
    context.log_in(&session(6, 1, 20)).await?;
    context.log_in(&session(7, 2, 30)).await?;
    that(context.revoke(5, NOW_MS).await?, "a session is revoked")?;
    context.refreshes(20, 21, NOW_MS, Refresh::Rotated(session(6, 1, 21))).await?;
    context.refreshes(30, 31, NOW_MS, Refresh::Rotated(session(7, 2, 31))).await
}

async fn an_outage_is_an_error(context: Context) -> Check {
    let Some(outage) = &context.outage else { return Ok(()) };
    context.sign_up(&newcomer(1, 1)).await?;
    context.log_in(&session(5, 1, 10)).await?;
    outage.begin();
    let users = &context.users;
    not_done("create_user", &users.create_user(&newcomer(2, 2)).await)?;
    not_done("create_session", &users.create_session(&session(6, 1, 20)).await)?;
    not_done("refresh", &users.refresh(hash(10), hash(11), NOW_MS).await)?;
    not_done("revoke", &users.revoke(SessionId(5), NOW_MS).await)?;
    is_error("credentials", &users.credentials(&handle(1)).await)?;
    is_error("by_handle", &users.by_handle(&handle(1)).await)?;
    is_error("by_id", &users.by_id(UserId(1)).await)?;
    is_error("revoked_since", &users.revoked_since(0).await)
}
