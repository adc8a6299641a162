//! Who a token belongs to, and whether it still counts.
//!
//! Every role checks tokens itself, with the keys that the user role publishes and the revocations
//! that it tells. A warm check is one look-up, the end of life and the revocation.
//!
//! **Bound**: a revoked session is refused at once by the replica that revoked it, everywhere else
//! after at most twice `auth.revocation_poll_ms` while the user role answers, and at the end of the
//! token's life (`auth.access_ttl_s`) otherwise.

use std::{
    collections::BTreeMap,
    hash::{BuildHasher, BuildHasherDefault, DefaultHasher},
    sync::Arc,
    time::Duration,
};

use http::HeaderValue;
use parking_lot::RwLock;
use quick_cache::{OptionsBuilder, UnitWeighter, sync::Cache, sync::DefaultLifecycle};
use tokio::sync::watch;

use super::{
    Common,
    answers::{Code, Fault},
    calls::Calls,
    token::{Claims, TokenError, VerifyingKeys},
    uncounted::Failures,
};
use crate::{
    domain::{DisplayName, Handle, SessionId, UserId},
    rt::Instant,
    wire::{
        api::Jwks,
        internal::{REVOCATIONS, Revocations},
        routes::Role,
    },
};

/// Verified tokens that are kept: 64 Ki at about 1 KiB each.
const TOKENS_MAX: usize = 65_536;
/// Each poll asks for what was revoked this much earlier than the last one ended, because clocks of
/// replicas differ and a revocation is stamped before it is committed.
const OVERLAP_MS: u64 = 30_000;
/// A verifier looks for new keys this often. A new key is published for longer than this before it
/// signs.
pub const KEYS_REFRESH: Duration = Duration::from_mins(1);
/// Keys are asked for no more often than this, whatever tokens come in.
const KEYS_REFETCH_MIN: Duration = Duration::from_secs(1);
/// Until it is ready a verifier polls this often, so that a start takes no longer than it must.
const START_POLL: Duration = Duration::from_millis(20);
/// Time limit of one call for keys or revocations.
const ASK_LIMIT: Duration = Duration::from_secs(1);

/// The owner of an accepted token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// Who.
    pub user: UserId,
    /// The session that the token belongs to.
    pub session: SessionId,
    /// The user's handle.
    pub handle: Handle,
    /// The user's display name.
    pub name: DisplayName,
    /// The token ends then, in milliseconds since the Unix epoch.
    pub expires_at_ms: u64,
    /// No rate limit counts their calls ([`super::uncounted`]).
    pub uncounted: bool,
}

/// A token's text with its owner: the text is compared on every hit, as the cache is keyed by a
/// hash of it.
type Known = Arc<(Box<str>, Arc<Verified>)>;
type Hasher = BuildHasherDefault<DefaultHasher>;

/// How far the revocations were heard.
struct Heard {
    until_ms: u64,
    more: bool,
}

/// Checks access tokens.
pub struct Verifier {
    common: Common,
    calls: Arc<Calls>,
    known: Cache<u64, Known, UnitWeighter, Hasher>,
    keys: RwLock<Arc<VerifyingKeys>>,
    /// When keys were last asked for because of a token; held meanwhile, so that one asks for all.
    asked: tokio::sync::Mutex<Option<Instant>>,
    /// Revoked sessions, with the time at which their last token has ended.
    revoked: RwLock<BTreeMap<SessionId, u64>>,
    ready: watch::Sender<bool>,
    /// Somebody waits for keys where nobody asks for them unless they are needed.
    wanted: tokio::sync::Notify,
    /// Checks of a claim that failed, by address.
    pub(super) failures: Failures,
}

impl Verifier {
    /// A verifier that has no keys yet.
    ///
    /// # Panics
    /// Never: the cache is given all it must be given.
    #[must_use]
    pub fn new(common: Common, calls: Arc<Calls>) -> Self {
        let options = OptionsBuilder::new()
            .estimated_items_capacity(TOKENS_MAX)
            .weight_capacity(TOKENS_MAX as u64)
            .shards(16)
            .build()
            .expect("capacity and weight are given");
        let lifecycle = DefaultLifecycle::default();
        Self {
            common,
            calls,
            known: Cache::with_options(options, UnitWeighter, Hasher::default(), lifecycle),
            keys: RwLock::default(),
            asked: tokio::sync::Mutex::default(),
            revoked: RwLock::default(),
            ready: watch::Sender::new(false),
            wanted: tokio::sync::Notify::new(),
            failures: Failures::default(),
        }
    }

    /// `true` once tokens can be checked: keys are held, and revocations were heard once.
    pub fn ready(&self) -> watch::Receiver<bool> {
        self.ready.subscribe()
    }

    /// Waits until tokens can be checked, `limit` at most; whether they can.
    pub(super) async fn ready_within(&self, limit: Duration) -> bool {
        if *self.ready.borrow() {
            return true;
        }
        self.wanted.notify_one();
        let mut ready = self.ready.subscribe();
        let heard = self.common.rt.timeout(limit, ready.wait_for(|ready| *ready)).await;
        heard.is_ok_and(|heard| heard.is_ok())
    }

    /// The time.
    pub(super) fn now(&self) -> Instant {
        self.common.rt.now()
    }

    /// The owner of the token in an `Authorization` header.
    pub async fn authenticate(
        &self,
        authorization: Option<&HeaderValue>,
    ) -> Result<Arc<Verified>, Fault> {
        let token = authorization.and_then(bearer).ok_or(Code::Unauthorized)?;
        let hash = hash_of(token);
        let owner = match self.seen(hash, token) {
            Some(owner) => owner,
            None => self.learn(hash, token).await?,
        };
        if self.common.rt.wall_ms() >= owner.expires_at_ms {
            return Err(Fault::from(Code::Unauthorized).detail("the access token has expired"));
        }
        if self.revoked.read().contains_key(&owner.session) {
            return Err(Fault::from(Code::Unauthorized).detail("the session was ended"));
        }
        Ok(owner)
    }

    /// The owner of a token that was accepted here before and still is. Costs next to nothing.
    #[must_use]
    pub fn recall(&self, authorization: Option<&HeaderValue>) -> Option<Arc<Verified>> {
        let token = authorization.and_then(bearer)?;
        self.seen(hash_of(token), token).filter(|owner| self.still_valid(owner))
    }

    pub(super) fn seen(&self, hash: u64, token: &str) -> Option<Arc<Verified>> {
        let known = self.known.get(&hash).filter(|known| *known.0 == *token)?;
        Some(Arc::clone(&known.1))
    }

    /// Whether a token that was accepted still is: for calls that last longer than a check.
    #[must_use]
    pub fn still_valid(&self, owner: &Verified) -> bool {
        self.common.rt.wall_ms() < owner.expires_at_ms
            && !self.revoked.read().contains_key(&owner.session)
    }

    /// Refuses a session's tokens from now on, here.
    pub fn revoke(&self, session: SessionId) {
        let until = self.common.rt.wall_ms() + self.keep_ms();
        self.revoked.write().insert(session, until);
    }

    /// Runs until the shutdown: keys every [`KEYS_REFRESH`], revocations every poll.
    pub async fn run(&self) {
        self.run_from(START_POLL).await;
    }

    /// Runs from the moment on when somebody first waits in [`Self::ready_within`]. Nobody else waits,
    /// so if the user role does not answer it is asked no more often than at any time.
    pub(super) async fn run_when_wanted(&self) {
        tokio::select! {
            biased;
            () = self.common.shutdown.cancelled() => return,
            () = self.wanted.notified() => {}
        }
        self.run_from(Duration::MAX).await;
    }

    /// Asks every `start_poll`, if that is less than the poll, until it is ready.
    async fn run_from(&self, start_poll: Duration) {
        let poll = self.common.config.auth.revocation_poll();
        let life_ms = self.common.config.auth.access_ttl_s * 1_000;
        let mut since = self.common.rt.wall_ms().saturating_sub(life_ms + OVERLAP_MS);
        let mut keys_due = self.common.rt.now();
        loop {
            if self.common.rt.now() >= keys_due && self.ask_keys().await {
                keys_due = self.common.rt.now().plus(KEYS_REFRESH);
            }
            match self.ask_revocations(since).await {
                Some(Heard { until_ms, more: true }) => {
                    // Not past what was heard last, and never twice from the same place.
                    since = until_ms.max(since + 1);
                    continue;
                }
                Some(Heard { until_ms, more: false }) => {
                    since = until_ms.saturating_sub(OVERLAP_MS);
                    let ready = !self.keys.read().is_empty();
                    self.ready
                        .send_if_modified(|was| !std::mem::replace(was, ready || *was) && ready);
                }
                None => {}
            }
            let pause = if *self.ready.borrow() { poll } else { poll.min(start_poll) };
            tokio::select! {
                biased;
                () = self.common.shutdown.cancelled() => return,
                () = self.common.rt.sleep(pause) => {}
            }
        }
    }

    /// A revoked session is remembered until its last token has ended by every clock.
    fn keep_ms(&self) -> u64 {
        self.common.config.auth.access_ttl_s * 1_000 + 2 * OVERLAP_MS
    }

    async fn learn(&self, hash: u64, token: &str) -> Result<Arc<Verified>, Fault> {
        let keys = Arc::clone(&self.keys.read());
        let claims = match keys.verify(token) {
            Err(TokenError::UnknownKey) => {
                self.refetch_keys().await;
                let keys = Arc::clone(&self.keys.read());
                if keys.is_empty() {
                    return Err(Fault::from(Code::Unavailable).detail("no keys are known yet"));
                }
                keys.verify(token)
            }
            verified => verified,
        };
        let claims =
            claims.map_err(|error| Fault::from(Code::Unauthorized).detail(error.text()))?;
        Ok(self.remember(hash, token, claims))
    }

    /// The owner of a token that a key signed which is held, for a caller who can do without: nobody is
    /// asked for another key.
    pub(super) fn check(&self, hash: u64, token: &str) -> Option<Arc<Verified>> {
        let keys = Arc::clone(&self.keys.read());
        let claims = keys.verify(token).ok()?;
        Some(self.remember(hash, token, claims))
    }

    fn remember(&self, hash: u64, token: &str, claims: Claims) -> Arc<Verified> {
        let owner = Arc::new(Verified {
            user: claims.sub,
            session: claims.sid,
            handle: claims.handle,
            name: claims.name,
            expires_at_ms: claims.exp.saturating_mul(1_000),
            uncounted: claims.uncounted,
        });
        self.known.insert(hash, Arc::new((token.into(), Arc::clone(&owner))));
        owner
    }

    /// Asks for keys because a token names an unknown one, unless that was done just now.
    async fn refetch_keys(&self) {
        let came = self.common.rt.now();
        let mut asked = self.asked.lock().await;
        // Whoever waited takes what was answered meanwhile, and does not ask after them.
        if asked.is_none_or(|at| came.since(at) >= KEYS_REFETCH_MIN) {
            // Before as well, as whoever asks may be gone before the answer.
            *asked = Some(came);
            self.ask_keys().await;
            *asked = Some(self.common.rt.now());
        }
    }

    async fn ask_keys(&self) -> bool {
        let path = "/.well-known/jwks.json";
        match self.calls.get_public::<Jwks>(Role::User, path, ASK_LIMIT).await {
            Ok(Some(jwks)) => {
                let keys = VerifyingKeys::new(&jwks);
                let usable = !keys.is_empty();
                if usable {
                    *self.keys.write() = Arc::new(keys);
                }
                usable
            }
            Ok(None) => false,
            Err(error) => {
                tracing::debug!(%error, "keys could not be asked for");
                false
            }
        }
    }

    /// Hears of revoked sessions.
    async fn ask_revocations(&self, since: u64) -> Option<Heard> {
        let path = format!("{REVOCATIONS}?since={since}");
        let heard = match self.calls.get::<Revocations>(Role::User, &path, ASK_LIMIT).await {
            Ok(heard) => heard?,
            Err(error) => {
                tracing::debug!(%error, "revocations could not be asked for");
                return None;
            }
        };
        let now = self.common.rt.wall_ms();
        let until = now + self.keep_ms();
        let mut revoked = self.revoked.write();
        // A session that is told again keeps its first end, or it would stay as long as it is told.
        for session in heard.sessions {
            revoked.entry(session).or_insert(until);
        }
        revoked.retain(|_, until| *until > now);
        Some(Heard { until_ms: heard.until_ms, more: heard.more })
    }
}

impl TokenError {
    const fn text(self) -> &'static str {
        match self {
            Self::Invalid => "the access token is not valid",
            Self::UnknownKey => "the access token names an unknown key",
        }
    }
}

/// The token of a `Bearer` header (RFC 6750; the scheme's case does not matter).
pub(super) fn bearer(header: &HeaderValue) -> Option<&str> {
    let (scheme, token) = header.to_str().ok()?.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

/// Hashes the end of the token, which is its signature: enough to tell tokens apart.
pub(super) fn hash_of(token: &str) -> u64 {
    let bytes = token.as_bytes();
    Hasher::default().hash_one(&bytes[bytes.len().saturating_sub(32)..])
}
