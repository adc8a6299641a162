//! What can be done to a data folder on which nothing runs, and to servers whatever runs over them.

use std::sync::Arc;

pub use super::backends::external::Look;
use super::{
    DataDir, StackError,
    backends::{self, Opened},
    data_dir::Lock,
    waits::Patience,
};
use crate::{
    adapters::embedded::{
        Db,
        folder::{self, Folder},
        seeds,
        sqlite::Options,
        users,
    },
    config::Config,
    ports::{Outbox, Outcome},
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
    if rebuild && seeded(dir).await? {
        let why = "what was seeded is in no outbox: bring the file back, or seed another folder";
        return Err(StackError::other("begin `timeline.db` anew", why));
    }
    if rebuild && !Folder::give_up(dir.root(), COPY)? {
        let why = "it is there: a replay without `--rebuild` is enough";
        return Err(StackError::other("begin `timeline.db` anew", why));
    }
    let (opened, _lock) = open(dir, lock, &[Role::User, Role::Tweet]).await?;
    replay_all(opened, since_ms).await
}

/// Whether the folder, which the caller holds, was seeded.
async fn seeded(dir: &DataDir) -> Result<bool, StackError> {
    let file = dir.root().join(folder::USER);
    if !file.exists() {
        return Ok(false);
    }
    let rt = TokioRuntime::handle();
    // By itself, as the folder is not whole.
    let opened = rt.blocking(move || Db::open(&file, &users::schema(), Options::default())).await;
    let user = opened.ok_or_else(|| StackError::other("open the stores", "a panic"))??;
    let mark = seeds::mark(&user).await;
    rt.blocking(move || user.close()).await;
    Ok(mark.map_err(|error| StackError::other("read what was seeded", error))?.is_some())
}

/// The same for the databases that `config` names; whatever runs over them publishes it.
///
/// # Errors
/// [`StackError`]; a replay may be repeated without harm.
pub async fn replay_servers(config: &Config, since_ms: u64) -> Result<u64, StackError> {
    let outboxes = backends::external::outboxes(&TokioRuntime::handle(), config).await?;
    replay_each(outboxes, since_ms).await
}

/// How the caches, the bus and the bucket that `config` names answer. Changes nothing.
pub async fn look(config: &Config) -> Vec<(&'static str, Look)> {
    // Boxed, as the futures of three drivers lie in it.
    Box::pin(backends::external::look(&TokioRuntime::handle(), config)).await
}

async fn replay_all(opened: Opened, since_ms: u64) -> Result<u64, StackError> {
    let outboxes = opened.backends.outboxes().into_iter().map(|(_, outbox)| outbox).collect();
    let moved = replay_each(outboxes, since_ms).await;
    opened.close(&TokioRuntime::handle()).await;
    moved
}

async fn replay_each(outboxes: Vec<Arc<dyn Outbox>>, since_ms: u64) -> Result<u64, StackError> {
    let mut moved = 0;
    let mut failure = None;
    for outbox in outboxes {
        match outbox.replay(since_ms).await {
            Outcome::Done(count) => moved += count,
            Outcome::Failed(error) | Outcome::Unknown(error) => failure = Some(error),
        }
    }
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

/// There is a folder, and what it holds are the stores themselves.
pub(super) fn holds_stores(dir: &DataDir) -> Result<(), StackError> {
    if !dir.root().exists() {
        return Err(StackError::Absent(dir.root().to_owned()));
    }
    dir.check_kind("embedded")
}

pub(super) fn lock(dir: &DataDir) -> Result<Lock, StackError> {
    holds_stores(dir)?;
    dir.lock_all()
}

async fn open(dir: &DataDir, lock: Lock, roles: &[Role]) -> Result<(Opened, Lock), StackError> {
    let (rt, config, metrics) = (TokioRuntime::handle(), Config::default(), Metrics::new());
    Ok((Opened::open(dir, &rt, &config, &metrics, roles, &Patience::Look).await?, lock))
}
