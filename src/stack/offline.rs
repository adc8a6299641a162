//! What can be done to a data folder on which nothing runs.

use std::sync::Arc;

use super::{DataDir, StackError, backends::Opened};
use crate::{
    adapters::embedded::folder::Folder, config::Config, ports::Outcome, rt::tokio_rt::TokioRuntime,
    wire::routes::Role,
};

/// Whose store is which file.
const STORES: [(Role, &str); 3] =
    [(Role::User, "user.db"), (Role::Tweet, "tweet.db"), (Role::Timeline, "timeline.db")];

/// Marks everything that was committed at or after `since_ms` as unsent; the next start publishes
/// it. Gives the number of events.
///
/// # Errors
/// [`StackError`]; a replay may be repeated without harm.
pub async fn replay(dir: &DataDir, since_ms: u64) -> Result<u64, StackError> {
    let opened = open(dir, &[Role::User, Role::Tweet]).await?;
    let mut moved = 0;
    let mut failure = None;
    for (_, outbox) in opened.0.backends.outboxes() {
        match outbox.replay(since_ms).await {
            Outcome::Done(count) => moved += count,
            Outcome::Failed(error) | Outcome::Unknown(error) => failure = Some(error),
        }
    }
    opened.0.close(&TokioRuntime::handle()).await;
    failure.map_or(Ok(moved), |error| Err(StackError::other("replay an outbox", error)))
}

/// Opens every store that was made, closes it again, and reads keys and token. `false` if nothing
/// was made yet.
///
/// # Errors
/// Why one of them cannot be used.
pub async fn check(dir: &DataDir) -> Result<bool, StackError> {
    let known = Folder::read(dir.root())?;
    // A folder of an older build has no list.
    let made = |store: &&str| match &known {
        Some(folder) => folder.has(store),
        None => dir.root().join(store).exists(),
    };
    let roles: Vec<Role> =
        STORES.iter().filter(|(_, store)| made(store)).map(|(r, _)| *r).collect();
    dir.read_token()?;
    if roles.is_empty() {
        return Ok(false);
    }
    let opened = open(dir, &roles).await?;
    opened.0.close(&TokioRuntime::handle()).await;
    Ok(true)
}

async fn open(
    dir: &DataDir,
    roles: &[Role],
) -> Result<(Opened, super::data_dir::Lock), StackError> {
    if !dir.root().exists() {
        let (path, reason) = (dir.root().to_owned(), "there is no such folder".to_owned());
        return Err(StackError::Unwritable { path, reason });
    }
    let lock = dir.lock_all()?;
    let config = Arc::new(Config::default());
    Ok((Opened::open(dir, &TokioRuntime::handle(), &config, roles).await?, lock))
}
