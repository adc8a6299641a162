//! The engine: one `SQLite` file, one writer thread with group commit, a few reader threads.
//!
//! [`Db::write`] puts a closure into the next transaction, [`Db::read`] runs one on a read-only
//! connection; both answer through a oneshot, so no async thread ever waits for a disk. The log is
//! write-ahead with `synchronous = full`: what was answered with done survives the death of process
//! and machine ([`Db::write_unsynced`] says who may do with less). Several processes may open one
//! file; they take turns by the file's lock.

mod fault;
mod identity;
mod open;
mod queue;
mod readers;
mod statements;
mod writer;

#[cfg(test)]
mod step_tests;
#[cfg(test)]
mod tests;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    thread::{self, JoinHandle},
};

use parking_lot::Mutex;
pub use rusqlite::Connection;

pub use self::{
    fault::Fault,
    identity::{Owner, folder_of},
    open::{BUSY_MAX, OpenError, Schema, lacking},
    statements::Statements,
    writer::{BATCH_MAX, LINGER_MAX, WriterStats},
};
use self::{
    queue::{Queue, Refusal},
    readers::ReadJob,
    writer::{Counters, Job, Work, Writer},
};
pub use crate::adapters::sql::{bound, from_key, key};
use crate::ports::{Kind, Outcome, Read, StoreError};

/// Puts a job into a lane.
type Push = fn(&Queue<Box<dyn Job>>, Box<dyn Job>) -> Result<(), Refusal<Box<dyn Job>>>;

/// Sizes of an engine.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Reader threads. Default 2.
    pub readers: usize,
    /// Jobs that may wait for the writer, and reads that may wait for a reader; above it they fail
    /// with [`Kind::Full`]. Default 4,096.
    pub queue_max: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { readers: 2, queue_max: 4_096 }
    }
}

/// An open file; cheap to clone. [`Db::close`] ends its threads, as does the drop of the last clone.
#[derive(Clone)]
pub struct Db(Arc<Inner>);

struct Inner {
    path: PathBuf,
    writes: Arc<Queue<Box<dyn Job>>>,
    reads: Arc<Queue<ReadJob>>,
    counters: Arc<Counters>,
    readers: Mutex<Vec<JoinHandle<()>>>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

impl std::fmt::Debug for Db {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Db").field(&self.0.path).finish()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.close();
    }
}

impl Inner {
    fn close(&self) {
        // The writer last: only the last connection takes the log away, and only one that may
        // write can.
        self.reads.close();
        let readers = std::mem::take(&mut *self.readers.lock());
        self.join(readers);
        self.writes.close();
        let writer = self.writer.lock().take();
        self.join(writer);
    }

    fn join(&self, threads: impl IntoIterator<Item = JoinHandle<()>>) {
        // A job may hold the last clone; its thread cannot wait for itself.
        let own = thread::current().id();
        for thread in threads.into_iter().filter(|thread| thread.thread().id() != own) {
            if thread.join().is_err() {
                tracing::error!(path = %self.path.display(), "a thread of the engine panicked");
            }
        }
    }
}

impl Db {
    /// Opens `path`, makes its tables if it is new, takes the steps that an older version lacks,
    /// and starts its threads. Blocks for some milliseconds.
    ///
    /// # Errors
    /// [`OpenError`]; nothing was changed then, but that an empty file may have been made.
    pub fn open(path: &Path, schema: &Schema, options: Options) -> Result<Self, OpenError> {
        Self::open_in(path, schema, options, None)
    }

    /// As [`Self::open`], for a store of the folder that `owner` names.
    pub(super) fn open_in(
        path: &Path,
        schema: &Schema,
        options: Options,
        owner: Option<Owner<'_>>,
    ) -> Result<Self, OpenError> {
        let conn = open::writer(path, schema, owner)?;
        let readers: Vec<Connection> =
            (0..options.readers.max(1)).map(|_| open::reader(path)).collect::<Result<_, _>>()?;
        let writes = Arc::new(Queue::new(options.queue_max));
        let reads = Arc::new(Queue::new(options.queue_max));
        let counters = Arc::new(Counters::default());
        let db = Self(Arc::new(Inner {
            path: path.to_owned(),
            writes: writes.clone(),
            reads: reads.clone(),
            counters: counters.clone(),
            readers: Mutex::new(Vec::new()),
            writer: Mutex::new(None),
        }));
        let thread = Writer::new(conn, writes, counters);
        let thread = db.start(format!("{}-writer", schema.name), move || thread.run())?;
        *db.0.writer.lock() = Some(thread);
        for (number, conn) in readers.into_iter().enumerate() {
            let reads = reads.clone();
            let name = format!("{}-reader-{number}", schema.name);
            let thread = db.start(name, move || readers::run(&conn, &reads))?;
            db.0.readers.lock().push(thread);
        }
        Ok(db)
    }

    fn start(
        &self,
        name: String,
        run: impl FnOnce() + Send + 'static,
    ) -> Result<JoinHandle<()>, OpenError> {
        let thread = thread::Builder::new().name(name).spawn(run);
        thread.map_err(|error| OpenError::not_writable(&self.0.path, &error))
    }

    /// Runs `work` in the next transaction and gives its value once that is on the disk. If `work`
    /// fails, what it wrote is undone. It runs even if the caller has gone away; it must not begin
    /// or end transactions. `store` names the port in errors.
    pub async fn write<T, F>(&self, store: &'static str, work: F) -> Outcome<T>
    where
        F: FnOnce(&Connection) -> Result<T, Fault> + Send + 'static,
        T: Send + 'static,
    {
        self.submit(store, true, Queue::push, work).await
    }

    /// As [`Db::write`], for one of many pieces of large work: it waits for all other writes. A piece
    /// should take no longer than a millisecond, as others may wait for it.
    pub async fn write_bulk<T, F>(&self, store: &'static str, work: F) -> Outcome<T>
    where
        F: FnOnce(&Connection) -> Result<T, Fault> + Send + 'static,
        T: Send + 'static,
    {
        self.submit(store, true, Queue::push_bulk, work).await
    }

    /// As [`Db::write`], but answered before the disk has it: it survives the death of the process,
    /// and that of the machine only once a later [`Db::write`] was answered. For leases, receipts
    /// and marks, whose loss does no more than repeat what may always be repeated.
    pub async fn write_unsynced<T, F>(&self, store: &'static str, work: F) -> Outcome<T>
    where
        F: FnOnce(&Connection) -> Result<T, Fault> + Send + 'static,
        T: Send + 'static,
    {
        self.submit(store, false, Queue::push, work).await
    }

    async fn submit<T, F>(
        &self,
        store: &'static str,
        synced: bool,
        push: Push,
        work: F,
    ) -> Outcome<T>
    where
        F: FnOnce(&Connection) -> Result<T, Fault> + Send + 'static,
        T: Send + 'static,
    {
        let (job, answer) = Work::new(store, synced, work);
        if let Err(refusal) = push(&self.0.writes, Box::new(job)) {
            return Outcome::Failed(refused(store, &refusal));
        }
        let lost = |_| {
            let error = StoreError::new(Kind::Unavailable, store, "the writer is gone");
            Outcome::Unknown(error)
        };
        answer.await.unwrap_or_else(lost)
    }

    /// Runs `work` on a read-only connection. It sees every write that was answered before.
    pub async fn read<T, F>(&self, store: &'static str, work: F) -> Read<T>
    where
        F: FnOnce(&Connection) -> Result<T, Fault> + Send + 'static,
        T: Send + 'static,
    {
        let (job, answer) = readers::job(work);
        self.0.reads.push(job).map_err(|refusal| refused(store, &refusal))?;
        match answer.await {
            Ok(value) => value.map_err(|fault| fault.to_error(store)),
            Err(_) => Err(StoreError::new(Kind::Unavailable, store, "the reader is gone")),
        }
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    /// What the writer did since it was opened.
    pub fn stats(&self) -> WriterStats {
        self.0.counters.read()
    }

    /// Reads the whole file for damage. Blocks for about a second per gigabyte.
    ///
    /// # Errors
    /// [`OpenError::Corrupt`] with the first damage.
    pub fn check(&self) -> Result<(), OpenError> {
        open::check(&self.0.path, &open::reader(&self.0.path)?)
    }

    /// Refuses new work, ends what waits, folds the log into the file and joins the threads: the
    /// last to close a file leaves no log beside it.
    /// Blocks; call it away from the async threads. Repeating it does nothing.
    pub fn close(&self) {
        self.0.close();
    }
}

fn refused<T>(store: &'static str, refusal: &Refusal<T>) -> StoreError {
    match refusal {
        Refusal::Full(_) => StoreError::new(Kind::Full, store, "the queue is full"),
        Refusal::Closed(_) => StoreError::new(Kind::Unavailable, store, "the store is closed"),
    }
}
