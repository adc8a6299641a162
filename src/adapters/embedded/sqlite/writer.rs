//! The one thread that writes a file: group commit.
//!
//! Jobs of the bulk lane are small pieces of large work. They wait for all others, and fill the transactions
//! of those by one, so that neither lane stops the other: whoever writes little waits for one piece at most.
//!
//! It takes the first waiting job and all that wait behind it, runs each in a savepoint of one
//! `begin immediate` transaction, commits once (one fsync) and only then answers. A job that fails
//! undoes its savepoint and nothing else. A transaction of nothing but unsynced jobs commits without
//! the fsync; the next one that has it takes them along.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use rusqlite::{Connection, ErrorCode};
use tokio::sync::oneshot;

use super::{
    fault::{Fault, code_of, kind_of},
    queue::Queue,
};
use crate::ports::{Outcome, StoreError};

/// The most jobs of one transaction: bounds how long the first of them waits for its answer.
pub const BATCH_MAX: usize = 256;
/// The most pieces of the bulk lane in a transaction: bounds how long its fsync takes.
const BULK_MAX: usize = 8;
/// The longest wait for more jobs. It is spent only while the last batch shows that callers come in
/// groups; see [`Writer::linger`].
pub const LINGER_MAX: Duration = Duration::from_millis(2);
/// Rows written between two checkpoints: about as many pages as `SQLite` itself would wait for.
const CHECKPOINT_ROWS: u64 = 4_000;
/// Pages in the log above which a checkpoint waits for readers, so that the log starts anew.
const LOG_PAGES_MAX: i64 = 32_768;

/// Counts of one writer since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WriterStats {
    /// Transactions committed.
    pub commits: u64,
    /// Those of them that waited for the disk.
    pub syncs: u64,
    /// Jobs run in them, those that failed included.
    pub jobs: u64,
}

#[derive(Default)]
pub(super) struct Counters {
    commits: AtomicU64,
    syncs: AtomicU64,
    jobs: AtomicU64,
}

impl Counters {
    pub(super) fn read(&self) -> WriterStats {
        WriterStats {
            commits: self.commits.load(Ordering::Relaxed),
            syncs: self.syncs.load(Ordering::Relaxed),
            jobs: self.jobs.load(Ordering::Relaxed),
        }
    }
}

/// How the transaction of a job ended.
pub(super) enum End {
    Committed,
    RolledBack(&'static str, rusqlite::Error),
    Uncertain(&'static str, rusqlite::Error),
}

/// A job of any result type.
pub(super) trait Job: Send {
    /// Runs it; `false` if its savepoint must be undone.
    fn run(&mut self, conn: &Connection) -> bool;
    /// Whether its transaction must be on the disk before it is answered.
    fn synced(&self) -> bool;
    /// Tells its caller, who may be gone.
    fn answer(self: Box<Self>, end: &End);
}

/// A job made of a closure.
pub(super) struct Work<F, T> {
    store: &'static str,
    synced: bool,
    closure: Option<F>,
    value: Option<Result<T, Fault>>,
    answer: oneshot::Sender<Outcome<T>>,
}

impl<F, T> Work<F, T> {
    pub(super) fn new(
        store: &'static str,
        synced: bool,
        closure: F,
    ) -> (Self, oneshot::Receiver<Outcome<T>>) {
        let (answer, receiver) = oneshot::channel();
        (Self { store, synced, closure: Some(closure), value: None, answer }, receiver)
    }
}

impl<F, T> Job for Work<F, T>
where
    F: FnOnce(&Connection) -> Result<T, Fault> + Send,
    T: Send,
{
    fn run(&mut self, conn: &Connection) -> bool {
        let Some(closure) = self.closure.take() else { return false };
        // Whatever the closure leaves behind is in its savepoint, which is undone.
        let value = catch_unwind(AssertUnwindSafe(|| closure(conn)));
        let value = value.unwrap_or(Err(Fault::Panicked));
        let kept = value.is_ok();
        self.value = Some(value);
        kept
    }

    fn synced(&self) -> bool {
        self.synced
    }

    fn answer(self: Box<Self>, end: &End) {
        let error = |why: &str, cause: &rusqlite::Error| {
            StoreError::new(kind_of(cause), self.store, format!("{why}: {cause}"))
        };
        let outcome = match (self.value, end) {
            // Undone in its savepoint: certain, whatever became of the others.
            (Some(Err(fault)), _) => Outcome::Failed(fault.to_error(self.store)),
            (Some(Ok(value)), End::Committed) => Outcome::Done(value),
            (_, End::Uncertain(why, cause)) => Outcome::Unknown(error(why, cause)),
            (_, End::RolledBack(why, cause)) => Outcome::Failed(error(why, cause)),
            (None, End::Committed) => Outcome::Failed(Fault::Panicked.to_error(self.store)),
        };
        drop(self.answer.send(outcome));
    }
}

pub(super) struct Writer {
    pub(super) conn: Connection,
    pub(super) queue: Arc<Queue<Box<dyn Job>>>,
    pub(super) counters: Arc<Counters>,
    checkpointed_rows: u64,
    commit_time: Duration,
    /// Commits wait for the disk now.
    synced: bool,
}

impl Writer {
    pub(super) fn new(
        conn: Connection,
        queue: Arc<Queue<Box<dyn Job>>>,
        counters: Arc<Counters>,
    ) -> Self {
        Self {
            conn,
            queue,
            counters,
            checkpointed_rows: 0,
            commit_time: Duration::ZERO,
            synced: true,
        }
    }

    /// Runs until the queue is closed and empty, then folds the log into the file.
    pub(super) fn run(mut self) {
        let mut last = 0;
        let mut batch = Vec::new();
        while let Some((first, bulk)) = self.queue.pop() {
            batch.push(first);
            self.queue.drain_into(&mut batch, BATCH_MAX);
            // Without an fsync to share there is nothing to wait for, nor to learn from.
            if !bulk && batch.iter().any(|job| job.synced()) {
                self.linger(&mut batch, last);
                last = batch.len();
            }
            let end = self.transaction(&mut batch, if bulk { BULK_MAX - 1 } else { 1 });
            self.counters.jobs.fetch_add(batch.len() as u64, Ordering::Relaxed);
            if matches!(end, End::Committed) {
                self.counters.commits.fetch_add(1, Ordering::Relaxed);
                self.counters.syncs.fetch_add(u64::from(self.synced), Ordering::Relaxed);
            }
            for job in batch.drain(..) {
                job.answer(&end);
            }
            self.checkpoint_if_due();
        }
        // The last word of a log that is lost with the process is in the log's own file: a failed
        // checkpoint loses nothing.
        self.checkpoint("truncate");
    }

    /// Callers that wait for their answers come back together, but not all at once: without this
    /// the first to return commits alone and the rest wait for its fsync. Waiting for half a commit
    /// at most costs less than the fsync that it saves.
    fn linger(&self, batch: &mut Vec<Box<dyn Job>>, last: usize) {
        let expected = last.min(BATCH_MAX);
        if batch.len() < expected {
            let limit = (self.commit_time / 2).min(LINGER_MAX);
            self.queue.wait_for(expected - batch.len(), limit);
            self.queue.drain_into(batch, BATCH_MAX);
        }
    }

    /// Runs what is in `batch`, and adds at most `pieces` of the bulk lane.
    fn transaction(&mut self, batch: &mut Vec<Box<dyn Job>>, pieces: usize) -> End {
        let begun = self.sync(batch.iter().any(|job| job.synced()) || self.queue.has_bulk());
        if let Err(error) = begun.and_then(|()| self.step("begin immediate")) {
            return End::RolledBack("the transaction could not begin", error);
        }
        for job in batch.iter_mut() {
            if let Err(error) = self.savepoint(job.as_mut()) {
                return self.roll_back(error);
            }
        }
        for _ in 0..pieces {
            let Some(mut piece) = self.queue.pop_bulk() else { break };
            let ran = self.savepoint(piece.as_mut());
            batch.push(piece);
            if let Err(error) = ran {
                return self.roll_back(error);
            }
        }
        let begun = Instant::now();
        let result = self.step("commit");
        let took = begun.elapsed();
        // A smoothed commit time, so that one slow fsync does not make the next batches wait.
        if self.synced {
            self.commit_time = (self.commit_time * 7 + took) / 8;
        }
        match result {
            Ok(()) => End::Committed,
            // Nothing was written yet: somebody else held the file.
            Err(error) if code_of(&error) == Some(ErrorCode::DatabaseBusy) => self.roll_back(error),
            Err(error) => {
                // Frames may have reached the log before the error, and recovery may find them.
                if !self.conn.is_autocommit() {
                    drop(self.step("rollback"));
                }
                End::Uncertain("the commit failed", error)
            }
        }
    }

    /// Whether the next commit waits for the disk. With the log ahead, `normal` syncs it only before
    /// a checkpoint, so the file stays whole either way.
    fn sync(&mut self, synced: bool) -> rusqlite::Result<()> {
        if self.synced != synced {
            let level = if synced { "full" } else { "normal" };
            self.step(&format!("pragma synchronous = {level}"))?;
            self.synced = synced;
        }
        Ok(())
    }

    /// Runs one job. An error means that the whole transaction is lost: a full disk or an I/O error
    /// undoes it behind the job's back, and its savepoint is no longer there.
    fn savepoint(&self, job: &mut dyn Job) -> rusqlite::Result<()> {
        self.step("savepoint job")?;
        let kept = job.run(&self.conn);
        if !kept {
            self.step("rollback to job")?;
        }
        self.step("release job")
    }

    fn roll_back(&self, error: rusqlite::Error) -> End {
        let why = "the transaction was rolled back";
        if self.conn.is_autocommit() || self.step("rollback").is_ok() {
            End::RolledBack(why, error)
        } else {
            End::Uncertain("the rollback failed", error)
        }
    }

    fn step(&self, sql: &str) -> rusqlite::Result<()> {
        self.conn.prepare_cached(sql)?.execute([]).map(drop)
    }

    /// Folds the log into the file after the callers have their answers, so that none of them
    /// waits for it.
    fn checkpoint_if_due(&mut self) {
        let rows = self.conn.total_changes();
        if rows.wrapping_sub(self.checkpointed_rows) < CHECKPOINT_ROWS {
            return;
        }
        self.checkpointed_rows = rows;
        if self.checkpoint("passive").is_some_and(|pages| pages > LOG_PAGES_MAX) {
            self.checkpoint("restart");
        }
    }

    /// Gives the pages that were in the log.
    fn checkpoint(&self, mode: &str) -> Option<i64> {
        let sql = format!("pragma wal_checkpoint({mode})");
        let pages = self.conn.query_row(&sql, [], |row| row.get(1));
        pages.inspect_err(|error| tracing::warn!(%error, "checkpoint failed")).ok()
    }
}
