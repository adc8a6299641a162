//! The credentials file: ready access tokens of seeded users, for whoever drives load.
//!
//! A line of JSON each, readable by the owner only. The first has the format, the order, the password of
//! all users and when the tokens end; every other a user's id, handle and token, the most followed first.
//! No rate limit counts a call with one of them ([`Claims::uncounted`]): who may write the data set may.

use std::{fmt::Write as _, path::Path, time::Duration};

use serde::{Deserialize, Serialize};

use super::{
    super::{StackError, kind::replace},
    Order, Plan,
};
use crate::{
    domain::{Handle, SessionId, UserId},
    ports::{KeyStore, StoredKey, keys::signs},
    rt::Rt,
    services::kit::token::{Claims, ISSUER, SigningKey},
};

/// The file in a data folder.
pub const FILE: &str = "credentials.jsonl";
/// The most users who get a token unless another number is asked for: the file has some 600 bytes each.
pub const TOKENS_MAX: u32 = 100_000;

/// The format.
const SCHEMA: &str = "chirp.credentials/1";
/// Life of the tokens: a day of load. A signing key lives longer.
const LIFE: Duration = Duration::from_hours(24);

/// The first line.
#[derive(Debug, Serialize, Deserialize)]
struct Head {
    schema: String,
    seed: String,
    /// Of all users; `None` if nobody knows it any more.
    password: Option<String>,
    expires_at_ms: u64,
}

#[derive(Serialize)]
struct Line<'a> {
    id: UserId,
    handle: &'a Handle,
    token: &'a str,
}

/// What was written.
#[derive(Clone, Copy, Debug)]
pub struct Written {
    /// Users who have a token in it.
    pub tokens: u32,
    /// Whether it has the password of all.
    pub password: bool,
}

/// Writes the file `path`: tokens of the first `most` users. A password that is not given is taken from
/// the file that is there, if it is of the same order.
///
/// # Errors
/// [`StackError`]; a file that is there stays as it is.
pub async fn write(
    rt: &Rt,
    path: &Path,
    (order, plan): (&Order, &Plan),
    keys: &dyn KeyStore,
    password: Option<String>,
    most: u32,
) -> Result<Written, StackError> {
    let failed = |why: String| StackError::other("make access tokens", why);
    let key = signing_key(rt, keys).await?;
    let key = SigningKey::new(&key.kid, &key.seed).ok_or_else(|| failed("a key".to_owned()))?;
    let seed = order.to_string();
    let password = password.or_else(|| known_password(path, &seed));
    let has_password = password.is_some();
    let now_ms = rt.wall_ms();
    let expires_at_ms = now_ms + LIFE.as_millis() as u64;
    let head = Head { schema: SCHEMA.to_owned(), seed, password, expires_at_ms };
    let users = plan.users().min(most);
    let mut text = serde_json::to_string(&head).map_err(|e| failed(e.to_string()))?;
    for user in 0..users {
        let account = plan.account(user);
        let claims = Claims {
            sub: account.id,
            sid: SessionId(u64::from(user) + 1),
            handle: account.handle.clone(),
            name: account.name,
            iat: now_ms / 1_000,
            exp: expires_at_ms / 1_000,
            iss: ISSUER.to_owned(),
            aud: ISSUER.to_owned(),
            uncounted: true,
        };
        let token = key.sign(&claims).ok_or_else(|| failed("a signature".to_owned()))?;
        let line = Line { id: account.id, handle: &account.handle, token: &token };
        let line = serde_json::to_string(&line).map_err(|e| failed(e.to_string()))?;
        let _ = write!(text, "\n{line}");
    }
    text.push('\n');
    replace(path, text.as_bytes()).map_err(|error| {
        let (path, reason) = (path.to_owned(), error.to_string());
        StackError::Unwritable { path, reason }
    })?;
    Ok(Written { tokens: users, password: has_password })
}

fn known_password(path: &Path, seed: &str) -> Option<String> {
    let text = std::fs::read_to_string(path).ok()?;
    let head: Head = serde_json::from_str(text.lines().next()?).ok()?;
    head.password.filter(|_| head.seed == seed)
}

/// The key that signs now; one is made if there is none.
async fn signing_key(rt: &Rt, keys: &dyn KeyStore) -> Result<StoredKey, StackError> {
    let failed = |error| StackError::other("read the signing keys", error);
    let mut known = keys.load().await.map_err(failed)?;
    if known.is_empty() {
        known = keys.replace(&[], &[StoredKey::new(rt)]).await.certain().map_err(failed)?;
    }
    let key = signs(&known, rt.wall_ms()).cloned();
    key.ok_or_else(|| StackError::other("read the signing keys", "there is none"))
}
