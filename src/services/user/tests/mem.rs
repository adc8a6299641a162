//! Accounts, sessions, edges and keys in memory.

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use parking_lot::Mutex;

use crate::{
    domain::{Handle, Pair, PairChange, PairState, SessionId, UserId, edge::Blocked},
    ports::{
        Account, Changed, Counts, CreateUser, EdgeChange, GraphStore, KeyStore, NewUser, Outcome,
        PasswordHash, Read, Refresh, RefreshHash, Revoked, SessionRow, StoredKey, UserStore,
    },
    services::kit::fakes::{MemOutbox, Plan},
    wire::events::Event,
};

/// Accounts, sessions, edges and keys in memory.
#[derive(Default)]
pub(super) struct Mem {
    pub(super) users: Mutex<BTreeMap<UserId, NewUser>>,
    pub(super) sessions: Mutex<BTreeMap<SessionId, SessionRow>>,
    pub(super) used: Mutex<BTreeMap<RefreshHash, SessionId>>,
    pub(super) revoked: Mutex<BTreeMap<SessionId, u64>>,
    pub(super) pairs: Mutex<BTreeMap<Pair, (u64, PairState)>>,
    pub(super) keys: Mutex<Vec<StoredKey>>,
    pub(super) ids_taken: Mutex<u32>,
    pub(super) plan: Plan,
    pub(super) outbox: Arc<MemOutbox>,
}

#[async_trait]
impl UserStore for Mem {
    async fn create_user(&self, user: &NewUser) -> Outcome<CreateUser> {
        let mut ids_taken = self.ids_taken.lock();
        if *ids_taken > 0 {
            *ids_taken -= 1;
            return Outcome::Done(CreateUser::IdTaken);
        }
        self.plan.write(|| {
            let mut users = self.users.lock();
            let id = user.account.id;
            let has = users.values().find(|u| u.account.handle == user.account.handle);
            match has {
                Some(has) if has.account.id != id => CreateUser::HandleTaken,
                _ => {
                    users.insert(id, user.clone());
                    CreateUser::Created
                }
            }
        })
    }

    async fn credentials(&self, handle: &Handle) -> Read<Option<(Account, PasswordHash)>> {
        let users = self.users.lock();
        let user = users.values().find(|user| user.account.handle == *handle);
        Ok(user.map(|user| (user.account.clone(), user.password.clone())))
    }

    async fn by_handle(&self, handle: &Handle) -> Read<Option<Account>> {
        Ok(self.credentials(handle).await?.map(|found| found.0))
    }

    async fn by_id(&self, id: UserId) -> Read<Option<Account>> {
        Ok(self.users.lock().get(&id).map(|user| user.account.clone()))
    }

    async fn create_session(&self, session: &SessionRow) -> Outcome<()> {
        self.plan.write(|| {
            self.sessions.lock().insert(session.id, session.clone());
        })
    }

    async fn refresh(&self, old: RefreshHash, new: RefreshHash, now_ms: u64) -> Outcome<Refresh> {
        if let Some(&session) = self.used.lock().get(&old) {
            self.revoked.lock().insert(session, now_ms);
            return Outcome::Done(Refresh::Reused(session));
        }
        let mut sessions = self.sessions.lock();
        let revoked = self.revoked.lock();
        let row = sessions.values_mut().find(|row| row.refresh == old);
        let Some(row) = row.filter(|row| !revoked.contains_key(&row.id)) else {
            return Outcome::Done(Refresh::Unknown);
        };
        self.plan.write(|| {
            row.refresh = new;
            self.used.lock().insert(old, row.id);
            Refresh::Rotated(row.clone())
        })
    }

    async fn revoke(&self, session: SessionId, now_ms: u64) -> Outcome<bool> {
        self.plan.write(|| self.revoked.lock().insert(session, now_ms).is_none())
    }

    async fn revoked_since(&self, since_ms: u64) -> Read<Revoked> {
        let revoked = self.revoked.lock();
        let since = revoked.iter().filter(|(_, at)| **at >= since_ms);
        Ok(Revoked { sessions: since.map(|(&id, _)| id).collect(), rest_since_ms: None })
    }
}

#[async_trait]
impl GraphStore for Mem {
    async fn change(&self, asked: &EdgeChange) -> Outcome<Result<Changed, Blocked>> {
        self.plan.write(|| {
            let pair = Pair::new(asked.actor, asked.target).unwrap();
            let mut pairs = self.pairs.lock();
            let (version, state) = pairs.get(&pair).copied().unwrap_or_default();
            let after = state.apply(pair, asked.actor, asked.change)?;
            let fresh = after != state;
            let now = PairChange { pair, version: version + u64::from(fresh), state: after };
            if fresh {
                pairs.insert(pair, (now.version, after));
                let event = Event::graph_changed(&now, 0, 0, asked.at_ms, asked.trace.clone());
                self.outbox.add(event.encode());
            }
            Ok(Changed { now, fresh, low_followers: 0, high_followers: 0 })
        })
    }

    async fn pair(&self, a: UserId, b: UserId) -> Read<PairState> {
        let pair = Pair::new(a, b).unwrap();
        Ok(self.pairs.lock().get(&pair).map(|row| row.1).unwrap_or_default())
    }

    async fn counts(&self, _user: UserId) -> Read<Counts> {
        Ok(Counts { followers: 1, following: 2 })
    }
}

#[async_trait]
impl KeyStore for Mem {
    async fn load(&self) -> Read<Vec<StoredKey>> {
        Ok(self.keys.lock().clone())
    }

    async fn replace(&self, before: &[StoredKey], after: &[StoredKey]) -> Outcome<Vec<StoredKey>> {
        let mut keys = self.keys.lock();
        if *keys == before {
            *keys = after.to_vec();
        }
        Outcome::Done(keys.clone())
    }
}
