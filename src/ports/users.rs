//! Accounts, sessions and the follow graph: the user role's truth.

use async_trait::async_trait;

use super::{Outcome, Read};
use crate::{
    domain::{
        Change, DisplayName, Handle, PairChange, PairState, SessionId, UserId, edge::Blocked,
    },
    wire::trace::TraceContext,
};

/// A password as it is kept: an argon2id PHC string. Never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct PasswordHash(pub String);

impl std::fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PasswordHash(..)")
    }
}

/// A refresh token as it is kept: its SHA-256.
pub type RefreshHash = [u8; 32];

/// An account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// The user.
    pub id: UserId,
    /// The unique handle.
    pub handle: Handle,
    /// The display name.
    pub name: DisplayName,
    /// When it was made, in milliseconds since the Unix epoch.
    pub created_at_ms: u64,
}

/// An account that is asked for.
#[derive(Clone, Debug)]
pub struct NewUser {
    /// The account, with a candidate id.
    pub account: Account,
    /// The password.
    pub password: PasswordHash,
}

/// How a sign-up ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CreateUser {
    /// The account is there.
    Created,
    /// Somebody has the handle.
    HandleTaken,
    /// Somebody has the candidate id: try again with another.
    IdTaken,
}

/// A session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionRow {
    /// The session.
    pub id: SessionId,
    /// Whose.
    pub user: UserId,
    /// The refresh token that is good now.
    pub refresh: RefreshHash,
    /// The session ends then, in milliseconds since the Unix epoch.
    pub expires_at_ms: u64,
}

/// How a refresh ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refresh {
    /// The session, with the new refresh token in force.
    Rotated(SessionRow),
    /// The token was used before: somebody may have stolen it, so the session is revoked now.
    Reused(SessionId),
    /// No session has or had this token, or it has ended.
    Unknown,
}

/// The most sessions of one answer of [`UserStore::revoked_since`].
pub const REVOKED_MAX: usize = 10_000;

/// Revoked sessions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Revoked {
    /// The sessions.
    pub sessions: Vec<SessionId>,
    /// There are more: those that were revoked at or after this time, in milliseconds since the Unix
    /// epoch.
    pub rest_since_ms: Option<u64>,
}

impl Revoked {
    /// Cuts `rows` (when, which), which are in order and may be one more than [`REVOKED_MAX`].
    #[must_use]
    pub fn cut(mut rows: Vec<(u64, SessionId)>) -> Self {
        let more = rows.len() > REVOKED_MAX;
        rows.truncate(REVOKED_MAX);
        let rest_since_ms = rows.last().filter(|_| more).map(|&(at_ms, _)| at_ms);
        Self { sessions: rows.into_iter().map(|(_, session)| session).collect(), rest_since_ms }
    }
}

/// Accounts and sessions.
#[async_trait]
pub trait UserStore: Send + Sync {
    /// Adds an account. Repeating the call with the same id and handle gives `Created` again.
    async fn create_user(&self, user: &NewUser) -> Outcome<CreateUser>;

    /// The account with this handle, and its password.
    async fn credentials(&self, handle: &Handle) -> Read<Option<(Account, PasswordHash)>>;

    /// The account with this handle.
    async fn by_handle(&self, handle: &Handle) -> Read<Option<Account>>;

    /// The account with this id.
    async fn by_id(&self, id: UserId) -> Read<Option<Account>>;

    /// Adds a session. Repeating the call changes nothing.
    async fn create_session(&self, session: &SessionRow) -> Outcome<()>;

    /// Replaces the refresh token `old` by `new`, once. A second use of `old` revokes the session
    /// at `now_ms`.
    async fn refresh(&self, old: RefreshHash, new: RefreshHash, now_ms: u64) -> Outcome<Refresh>;

    /// Ends a session at `now_ms`. `false` if there is none, or it had ended.
    async fn revoke(&self, session: SessionId, now_ms: u64) -> Outcome<bool>;

    /// Sessions that were revoked at or after `since_ms`, those first that were revoked first, at most
    /// [`REVOKED_MAX`].
    async fn revoked_since(&self, since_ms: u64) -> Read<Revoked>;
}

/// One change that a user asks for.
#[derive(Clone, Debug)]
pub struct EdgeChange {
    /// Who asks.
    pub actor: UserId,
    /// Whom it is about; never the actor.
    pub target: UserId,
    /// What is asked.
    pub change: Change,
    /// Now, in milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// The request's trace, for the event.
    pub trace: Option<TraceContext>,
}

/// How a change ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changed {
    /// The pair as it is now; its version moved only if `fresh`.
    pub now: PairChange,
    /// Whether this call changed it. If not, no event was written.
    pub fresh: bool,
    /// Followers of the user with the smaller id.
    pub low_followers: u64,
    /// Followers of the user with the larger id.
    pub high_followers: u64,
}

/// Followers and followees of one user.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// How many follow the user.
    pub followers: u64,
    /// How many the user follows.
    pub following: u64,
}

/// The follow graph.
#[async_trait]
pub trait GraphStore: Send + Sync {
    /// Changes a pair, its counts and the outbox (one `graph_changed` event) in one transaction,
    /// under the pair's lock. A change that is in force already moves nothing and writes no event.
    /// `Err(Blocked)` refuses a follow and changes nothing.
    ///
    /// A call whose outcome was unknown has taken effect before any later change of the pair, or
    /// never will: a follow that came late would undo an unfollow that was acknowledged since.
    async fn change(&self, change: &EdgeChange) -> Outcome<Result<Changed, Blocked>>;

    /// The state between two different users; the default state if nothing ever happened.
    async fn pair(&self, a: UserId, b: UserId) -> Read<PairState>;

    /// A user's counts.
    async fn counts(&self, user: UserId) -> Read<Counts>;
}
