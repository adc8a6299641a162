//! What can be done to a data folder on which nothing runs.

use super::{DataDir, StackError, backends::Opened, data_dir::Lock, waits::Patience};
use crate::{
    adapters::embedded::folder::{self, Folder},
    config::Config,
    ports::Outcome,
    rt::tokio_rt::TokioRuntime,
    telemetry::Metrics,
    wire::routes::Role,
};

/// Whose store is which file.
const STORES: [(Role, &str); 3] =
    [(Role::User, folder::USER), (Role::Tweet, folder::TWEET), (Role::Timeline, COPY)];

/// The store that is only a copy of what the others know.
pub const COPY: &str = folder::TIMELINE;

/// Marks everything that was committed at or after `since_ms` as unsent; the next start publishes
/// it. Gives the number of events. With `rebuild` a [`COPY`] that is lost is made anew first.
///
/// # Errors
/// [`StackError`]; a replay may be repeated without harm. With `rebuild` also if nothing is lost.
pub async fn replay(dir: &DataDir, since_ms: u64, rebuild: bool) -> Result<u64, StackError> {
    let lock = lock(dir)?;
    // What a start would refuse is refused before anything is changed.
    dir.read_token()?;
    if rebuild && !Folder::give_up(dir.root(), COPY)? {
        let why = "it is there: a replay without `--rebuild` is enough";
        return Err(StackError::other("begin `timeline.db` anew", why));
    }
    let opened = open(dir, lock, &[Role::User, Role::Tweet]).await?;
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
    let opened = open(dir, lock(dir)?, &roles).await?;
    opened.0.close(&TokioRuntime::handle()).await;
    Ok(true)
}

fn lock(dir: &DataDir) -> Result<Lock, StackError> {
    if !dir.root().exists() {
        return Err(StackError::Absent(dir.root().to_owned()));
    }
    dir.lock_all()
}

async fn open(dir: &DataDir, lock: Lock, roles: &[Role]) -> Result<(Opened, Lock), StackError> {
    let (rt, config, metrics) = (TokioRuntime::handle(), Config::default(), Metrics::new());
    Ok((Opened::open(dir, &rt, &config, &metrics, roles, &Patience::Once).await?, lock))
}
