//! Wrong stores of users.

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use parking_lot::Mutex;

use super::{Hushed, faults};
use crate::{
    domain::{Handle, SessionId, UserId},
    ports::{
        Account, CreateUser, NewUser, Outcome, PasswordHash, Read, Refresh, RefreshHash, Revoked,
        SessionRow, UserStore, contract::users::Context,
    },
};

faults! {
    /// A stranger is found.
    InventsUsers: [there_is_nobody_at_first],
    /// Every second account is acknowledged and not written.
    DropsAccounts: [an_account_is_found_in_every_way],
    /// The password is not kept.
    LosesPasswords: [an_account_is_found_in_every_way],
    /// The same account again is refused.
    RefusesRepeats: [signing_up_twice_is_signing_up_once],
    /// A taken handle is acknowledged.
    AcknowledgesTakenHandles:
        [a_taken_handle_changes_nothing, of_many_who_want_a_handle_one_gets_it],
    /// A taken id is acknowledged.
    AcknowledgesTakenIds: [a_taken_id_changes_nothing],
    /// Answers with the old token.
    AnswersTheOldToken: [a_refresh_token_is_replaced],
    /// A lost answer ends the session.
    PunishesRepeats: [a_refresh_that_is_repeated_whole_gives_the_same],
    /// A used token is as good as a fresh one.
    AcceptsUsedTokens: [a_used_refresh_token_ends_the_session],
    /// Who comes second is told of the same success.
    LetsEverybodyWin: [of_many_refreshes_one_wins],
    /// A used token is refused and the session lives on.
    ForgivesUsedTokens: [a_used_refresh_token_ends_the_session],
    /// A session has no end.
    NeverExpires: [an_expired_session_is_not_refreshed, an_ended_session_is_not_revoked],
    /// Revoking does nothing.
    ForgetsRevocations: [a_revoked_session_is_not_refreshed],
    /// Every revocation is the first.
    RevokesAfresh: [a_session_is_revoked_once],
    /// All revocations are listed.
    ListsAllRevocations: [revocations_are_listed_by_time],
    /// Adding a session again brings back its first token.
    ResetsSessions: [adding_a_session_again_changes_nothing],
    /// Revoking one session of a user revokes all.
    RevokesAll: [sessions_are_apart],
    /// An outage is not told.
    SwallowsErrors: [an_outage_is_an_error],
}

#[derive(Default)]
struct Memory {
    accounts: u64,
    sessions: Vec<SessionRow>,
    /// Where a token that was used leads now.
    rotated: BTreeMap<RefreshHash, RefreshHash>,
}

struct Wrong {
    inner: Arc<dyn UserStore>,
    fault: Fault,
    hushed: Hushed,
    memory: Mutex<Memory>,
}

/// The store of `context` with `fault`.
#[must_use]
pub fn broken(context: Context, fault: Fault) -> Context {
    let (hushed, outage) = Hushed::new(fault == Fault::SwallowsErrors, context.outage);
    let users = Wrong { inner: context.users, fault, hushed, memory: Mutex::default() };
    Context { users: Arc::new(users), outage, ..context }
}

fn stranger(handle: &Handle) -> Account {
    let name = super::super::kit::name(1);
    Account { id: UserId(1), handle: handle.clone(), name, created_at_ms: 0 }
}

impl Wrong {
    fn session_of(&self, token: &RefreshHash) -> Option<SessionRow> {
        self.memory.lock().sessions.iter().find(|row| row.refresh == *token).cloned()
    }

    /// Follows a used token to the one that is good now.
    fn good_token(&self, mut token: RefreshHash) -> RefreshHash {
        let memory = self.memory.lock();
        while let Some(next) = memory.rotated.get(&token) {
            token = *next;
        }
        token
    }
}

#[async_trait]
impl UserStore for Wrong {
    async fn create_user(&self, user: &NewUser) -> Outcome<CreateUser> {
        if self.hushed.is_down() {
            return Outcome::Done(CreateUser::Created);
        }
        let mut user = user.clone();
        match self.fault {
            Fault::DropsAccounts => {
                let mut memory = self.memory.lock();
                memory.accounts += 1;
                if memory.accounts.is_multiple_of(2) {
                    return Outcome::Done(CreateUser::Created);
                }
            }
            Fault::LosesPasswords => user.password = PasswordHash(String::new()),
            Fault::RefusesRepeats
                if self.inner.by_handle(&user.account.handle).await.ok().flatten().is_some() =>
            {
                return Outcome::Done(CreateUser::HandleTaken);
            }
            _ => {}
        }
        let outcome = self.inner.create_user(&user).await;
        match (self.fault, &outcome) {
            (Fault::AcknowledgesTakenHandles, Outcome::Done(CreateUser::HandleTaken))
            | (Fault::AcknowledgesTakenIds, Outcome::Done(CreateUser::IdTaken)) => {
                Outcome::Done(CreateUser::Created)
            }
            _ => outcome,
        }
    }

    async fn credentials(&self, handle: &Handle) -> Read<Option<(Account, PasswordHash)>> {
        if self.hushed.is_down() { Ok(None) } else { self.inner.credentials(handle).await }
    }

    async fn by_handle(&self, handle: &Handle) -> Read<Option<Account>> {
        if self.hushed.is_down() {
            return Ok(None);
        }
        let found = self.inner.by_handle(handle).await?;
        let invents = self.fault == Fault::InventsUsers;
        Ok(found.or_else(|| invents.then(|| stranger(handle))))
    }

    async fn by_id(&self, id: UserId) -> Read<Option<Account>> {
        if self.hushed.is_down() { Ok(None) } else { self.inner.by_id(id).await }
    }

    async fn create_session(&self, session: &SessionRow) -> Outcome<()> {
        if self.hushed.is_down() {
            return Outcome::Done(());
        }
        {
            let mut memory = self.memory.lock();
            if self.fault == Fault::ResetsSessions && memory.rotated.contains_key(&session.refresh)
            {
                // What it leads to is asked for in its place from now on.
                memory.accounts = 1;
            }
            memory.sessions.push(session.clone());
        }
        self.inner.create_session(session).await
    }

    async fn refresh(&self, old: RefreshHash, new: RefreshHash, now_ms: u64) -> Outcome<Refresh> {
        if self.hushed.is_down() {
            return Outcome::Done(Refresh::Unknown);
        }
        let used = self.memory.lock().rotated.contains_key(&old);
        let reset = self.memory.lock().accounts == 1;
        let (mut asked, mut at) = (old, now_ms);
        match self.fault {
            Fault::AcceptsUsedTokens => asked = self.good_token(old),
            Fault::ResetsSessions if reset => asked = self.good_token(old),
            Fault::ForgivesUsedTokens if used => return Outcome::Done(Refresh::Unknown),
            Fault::PunishesRepeats if used => {
                let session = self.session_of(&old).map_or(SessionId(0), |row| row.id);
                drop(self.inner.revoke(session, now_ms).await);
                return Outcome::Done(Refresh::Reused(session));
            }
            Fault::NeverExpires => at = 0,
            _ => {}
        }
        let outcome = self.inner.refresh(asked, new, at).await;
        if let (Fault::LetsEverybodyWin, Outcome::Done(Refresh::Reused(_))) = (self.fault, &outcome)
        {
            let row = self.session_of(&old).map(|row| SessionRow { refresh: new, ..row });
            return Outcome::Done(row.map_or(Refresh::Unknown, Refresh::Rotated));
        }
        if let Outcome::Done(Refresh::Rotated(row)) = &outcome {
            self.memory.lock().rotated.insert(asked, new);
            if self.fault == Fault::AnswersTheOldToken {
                let row = SessionRow { refresh: old, ..row.clone() };
                return Outcome::Done(Refresh::Rotated(row));
            }
        }
        outcome
    }

    async fn revoke(&self, session: SessionId, now_ms: u64) -> Outcome<bool> {
        if self.hushed.is_down() || self.fault == Fault::ForgetsRevocations {
            return Outcome::Done(true);
        }
        if self.fault == Fault::RevokesAll {
            let sessions = self.memory.lock().sessions.clone();
            for row in sessions {
                drop(self.inner.revoke(row.id, now_ms).await);
            }
            return Outcome::Done(true);
        }
        let at = if self.fault == Fault::NeverExpires { 0 } else { now_ms };
        let outcome = self.inner.revoke(session, at).await;
        if self.fault == Fault::RevokesAfresh { outcome.map(|_| true) } else { outcome }
    }

    async fn revoked_since(&self, since_ms: u64) -> Read<Revoked> {
        if self.hushed.is_down() {
            return Ok(Revoked::default());
        }
        let since_ms = if self.fault == Fault::ListsAllRevocations { 0 } else { since_ms };
        self.inner.revoked_since(since_ms).await
    }
}
