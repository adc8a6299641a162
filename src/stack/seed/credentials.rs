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
    ports::StoredKey,
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

/// Who has a token, as a driver of load reads it.
#[derive(Debug, Deserialize)]
pub struct Credential {
    /// The user.
    pub id: UserId,
    /// The handle.
    pub handle: Handle,
    /// The access token.
    pub token: String,
}

/// What a credentials file says.
#[derive(Debug)]
pub struct Credentials {
    /// The order that its users were seeded with, as `chirp seed` is asked for it.
    pub seed: String,
    /// When the tokens end, in milliseconds since the Unix epoch.
    pub expires_at_ms: u64,
    /// The most followed first.
    pub users: Vec<Credential>,
}

/// Reads the file `path`.
///
/// # Errors
/// What is wrong with it, without anything that stands in it: it has secrets.
pub fn read(path: &Path) -> Result<Credentials, String> {
    let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
    let mut lines = text.lines();
    let foreign = || format!("it does not begin as `{SCHEMA}` does");
    let head: Head =
        lines.next().and_then(|line| serde_json::from_str(line).ok()).ok_or_else(foreign)?;
    if head.schema != SCHEMA {
        return Err(foreign());
    }
    let user = |(n, line)| {
        serde_json::from_str(line).map_err(|_| format!("line {} is no user with a token", n + 2))
    };
    let users = lines.enumerate().map(user).collect::<Result<_, _>>()?;
    Ok(Credentials { seed: head.seed, expires_at_ms: head.expires_at_ms, users })
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
pub fn write(
    rt: &Rt,
    path: &Path,
    (order, plan): (&Order, &Plan),
    key: &StoredKey,
    password: Option<String>,
    most: u32,
) -> Result<Written, StackError> {
    let failed = |why: String| StackError::other("make access tokens", why);
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
    replace(path, text.as_bytes()).map_err(|error| StackError::unwritable(path, &error))?;
    Ok(Written { tokens: users, password: has_password })
}

fn known_password(path: &Path, seed: &str) -> Option<String> {
    let text = std::fs::read_to_string(path).ok()?;
    let head: Head = serde_json::from_str(text.lines().next()?).ok()?;
    head.password.filter(|_| head.seed == seed)
}
