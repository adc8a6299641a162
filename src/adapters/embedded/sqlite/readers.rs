//! Threads that read a file, each over a read-only connection of its own.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use rusqlite::Connection;
use tokio::sync::oneshot;

use super::{fault::Fault, queue::Queue};

/// A read of any result type; it answers by itself.
pub(super) type ReadJob = Box<dyn FnOnce(&Connection) + Send>;

/// A job out of a closure. A caller that is gone costs nothing.
pub(super) fn job<T, F>(work: F) -> (ReadJob, oneshot::Receiver<Result<T, Fault>>)
where
    F: FnOnce(&Connection) -> Result<T, Fault> + Send + 'static,
    T: Send + 'static,
{
    let (answer, receiver) = oneshot::channel();
    let run = move |conn: &Connection| {
        if answer.is_closed() {
            return;
        }
        let value = catch_unwind(AssertUnwindSafe(|| work(conn))).unwrap_or(Err(Fault::Panicked));
        drop(answer.send(value));
    };
    (Box::new(run), receiver)
}

pub(super) fn run(conn: &Connection, queue: &Arc<Queue<ReadJob>>) {
    while let Some((job, _)) = queue.pop() {
        job(conn);
    }
}
