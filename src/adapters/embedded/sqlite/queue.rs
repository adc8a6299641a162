//! A bounded queue between async callers and the threads of the engine.

use std::{collections::VecDeque, time::Duration, time::Instant};

use parking_lot::{Condvar, Mutex};

/// Why a job was not taken; it is given back.
pub(super) enum Refusal<T> {
    /// The queue is full.
    Full(T),
    /// The engine is closing.
    Closed(T),
}

/// First in, first out; never more than `max` jobs wait, and as many of the bulk lane, which are handed out
/// while no others wait.
pub(super) struct Queue<T> {
    state: Mutex<State<T>>,
    filled: Condvar,
    max: usize,
}

struct State<T> {
    jobs: VecDeque<T>,
    bulk: VecDeque<T>,
    closed: bool,
}

impl<T> Queue<T> {
    pub(super) fn new(max: usize) -> Self {
        let state = State { jobs: VecDeque::new(), bulk: VecDeque::new(), closed: false };
        Self { state: Mutex::new(state), filled: Condvar::new(), max }
    }

    /// Appends a job, without waiting.
    pub(super) fn push(&self, job: T) -> Result<(), Refusal<T>> {
        self.push_to(job, |state| &mut state.jobs)
    }

    /// Appends a job of the bulk lane, without waiting.
    pub(super) fn push_bulk(&self, job: T) -> Result<(), Refusal<T>> {
        self.push_to(job, |state| &mut state.bulk)
    }

    fn push_to(
        &self,
        job: T,
        lane: impl FnOnce(&mut State<T>) -> &mut VecDeque<T>,
    ) -> Result<(), Refusal<T>> {
        let mut state = self.state.lock();
        if state.closed {
            return Err(Refusal::Closed(job));
        }
        let jobs = lane(&mut state);
        if jobs.len() >= self.max {
            return Err(Refusal::Full(job));
        }
        jobs.push_back(job);
        drop(state);
        self.filled.notify_one();
        Ok(())
    }

    /// The next job, and whether it is of the bulk lane; `None` once the queue is closed and empty.
    pub(super) fn pop(&self) -> Option<(T, bool)> {
        let mut state = self.state.lock();
        loop {
            if let Some(job) = state.jobs.pop_front() {
                return Some((job, false));
            }
            if let Some(job) = state.bulk.pop_front() {
                return Some((job, true));
            }
            if state.closed {
                return None;
            }
            self.filled.wait(&mut state);
        }
    }

    /// Moves waiting jobs into `batch` until it holds `max`, without waiting.
    pub(super) fn drain_into(&self, batch: &mut Vec<T>, max: usize) {
        let mut state = self.state.lock();
        let take = max.saturating_sub(batch.len()).min(state.jobs.len());
        batch.extend(state.jobs.drain(..take));
    }

    /// The next job of the bulk lane, unless others wait.
    pub(super) fn pop_bulk(&self) -> Option<T> {
        let mut state = self.state.lock();
        if state.jobs.is_empty() { state.bulk.pop_front() } else { None }
    }

    /// Whether jobs of the bulk lane wait.
    pub(super) fn has_bulk(&self) -> bool {
        !self.state.lock().bulk.is_empty()
    }

    /// Waits until at least `count` jobs are there, or for `limit`.
    pub(super) fn wait_for(&self, count: usize, limit: Duration) {
        let deadline = Instant::now() + limit;
        let mut state = self.state.lock();
        while state.jobs.len() < count && !state.closed {
            if self.filled.wait_until(&mut state, deadline).timed_out() {
                return;
            }
        }
    }

    /// Refuses further jobs. What waits is still handed out.
    pub(super) fn close(&self) {
        self.state.lock().closed = true;
        self.filled.notify_all();
    }
}
