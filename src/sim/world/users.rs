//! Accounts and sessions.

use std::collections::BTreeMap;

use async_trait::async_trait;

use super::{State, link::Link};
use crate::{
    domain::{Handle, SessionId, UserId},
    ports::{
        Account, CreateUser, Kind, NewUser, Outcome, PasswordHash, Read, Refresh, RefreshHash,
        Revoked, SessionRow, StoreError, UserStore, users::REVOKED_MAX,
    },
};

struct Session {
    user: UserId,
    expires_at_ms: u64,
    revoked_at_ms: Option<u64>,
}

struct Refreshing {
    session: SessionId,
    successor: Option<RefreshHash>,
}

/// The user role's tables, but for the graph.
#[derive(Default)]
pub(super) struct Users {
    pub(super) accounts: BTreeMap<UserId, NewUser>,
    handles: BTreeMap<Handle, UserId>,
    sessions: BTreeMap<SessionId, Session>,
    tokens: BTreeMap<RefreshHash, Refreshing>,
}

impl Users {
    fn create(&mut self, user: NewUser) -> CreateUser {
        let Account { id, handle, .. } = &user.account;
        match self.accounts.get(id) {
            Some(held) if held.account.handle == *handle => return CreateUser::Created,
            Some(_) => return CreateUser::IdTaken,
            None => {}
        }
        if self.handles.contains_key(handle) {
            return CreateUser::HandleTaken;
        }
        self.handles.insert(handle.clone(), *id);
        self.accounts.insert(*id, user);
        CreateUser::Created
    }

    fn by_handle(&self, handle: &Handle) -> Option<&NewUser> {
        self.accounts.get(self.handles.get(handle)?)
    }

    fn create_session(&mut self, row: &SessionRow) -> Result<(), StoreError> {
        if let Some(held) = self.sessions.get(&row.id) {
            let token = self.tokens.get(&row.refresh);
            let again = held.user == row.user && token.is_some_and(|t| t.session == row.id);
            let refused = "another session has this id";
            return again
                .then_some(())
                .ok_or_else(|| StoreError::new(Kind::Unavailable, "users", refused));
        }
        let (user, expires_at_ms) = (row.user, row.expires_at_ms);
        self.sessions.insert(row.id, Session { user, expires_at_ms, revoked_at_ms: None });
        self.tokens.insert(row.refresh, Refreshing { session: row.id, successor: None });
        Ok(())
    }

    fn refresh(&mut self, old: RefreshHash, new: RefreshHash, now_ms: u64) -> Refresh {
        let Some(token) = self.tokens.get(&old) else { return Refresh::Unknown };
        let (id, successor) = (token.session, token.successor);
        let session = &self.sessions[&id];
        if session.revoked_at_ms.is_some() || session.expires_at_ms <= now_ms {
            return Refresh::Unknown;
        }
        let (user, expires_at_ms) = (session.user, session.expires_at_ms);
        let row = SessionRow { id, user, refresh: new, expires_at_ms };
        match successor {
            None => {
                self.tokens.insert(new, Refreshing { session: id, successor: None });
                self.tokens.insert(old, Refreshing { session: id, successor: Some(new) });
                Refresh::Rotated(row)
            }
            // The same call again, after an answer that was lost.
            Some(same) if same == new && self.tokens[&new].successor.is_none() => {
                Refresh::Rotated(row)
            }
            Some(_) => {
                self.revoke(id, now_ms);
                Refresh::Reused(id)
            }
        }
    }

    fn revoke(&mut self, id: SessionId, now_ms: u64) -> bool {
        let live = |s: &&mut Session| s.revoked_at_ms.is_none() && s.expires_at_ms > now_ms;
        let session = self.sessions.get_mut(&id).filter(live);
        session.map(|session| session.revoked_at_ms = Some(now_ms)).is_some()
    }

    fn revoked_since(&self, since_ms: u64) -> Revoked {
        let when = |(&id, session): (&SessionId, &Session)| Some((session.revoked_at_ms?, id));
        let mut rows: Vec<_> = self.sessions.iter().filter_map(when).collect();
        rows.retain(|&(at_ms, _)| at_ms >= since_ms);
        rows.sort_unstable();
        rows.truncate(REVOKED_MAX + 1);
        Revoked::cut(rows)
    }
}

/// Accounts and sessions at one node.
pub(super) struct SimUsers(pub(super) Link);

#[async_trait]
impl UserStore for SimUsers {
    async fn create_user(&self, user: &NewUser) -> Outcome<CreateUser> {
        let asked = user.clone();
        let create = move |state: &mut State, _| Ok(state.users.create(asked));
        self.0.write("create_user", &user.account, create).await
    }

    async fn credentials(&self, handle: &Handle) -> Read<Option<(Account, PasswordHash)>> {
        let look = |state: &mut State, _| {
            let found = state.users.by_handle(handle);
            Ok(found.map(|user| (user.account.clone(), user.password.clone())))
        };
        self.0.read("credentials", handle, look).await
    }

    async fn by_handle(&self, handle: &Handle) -> Read<Option<Account>> {
        let look = |state: &mut State, _| {
            Ok(state.users.by_handle(handle).map(|user| user.account.clone()))
        };
        self.0.read("by_handle", handle, look).await
    }

    async fn by_id(&self, id: UserId) -> Read<Option<Account>> {
        let look = move |state: &mut State, _| {
            Ok(state.users.accounts.get(&id).map(|user| user.account.clone()))
        };
        self.0.read("by_id", id, look).await
    }

    async fn create_session(&self, session: &SessionRow) -> Outcome<()> {
        let row = session.clone();
        let create = move |state: &mut State, _| state.users.create_session(&row);
        self.0.write("create_session", (session.id, session.user), create).await
    }

    async fn refresh(&self, old: RefreshHash, new: RefreshHash, now_ms: u64) -> Outcome<Refresh> {
        let refresh = move |state: &mut State, _| Ok(state.users.refresh(old, new, now_ms));
        self.0.write("refresh", now_ms, refresh).await
    }

    async fn revoke(&self, session: SessionId, now_ms: u64) -> Outcome<bool> {
        let revoke = move |state: &mut State, _| Ok(state.users.revoke(session, now_ms));
        self.0.write("revoke", session, revoke).await
    }

    async fn revoked_since(&self, since_ms: u64) -> Read<Revoked> {
        let look = move |state: &mut State, _| Ok(state.users.revoked_since(since_ms));
        self.0.read("revoked_since", since_ms, look).await
    }
}
