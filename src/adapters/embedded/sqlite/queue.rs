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

/// First in, first out; never more than `max` jobs wait.
pub(super) struct Queue<T> {
    state: Mutex<State<T>>,
    filled: Condvar,
    max: usize,
}

struct State<T> {
    jobs: VecDeque<T>,
    closed: bool,
}

impl<T> Queue<T> {
    pub(super) fn new(max: usize) -> Self {
        let state = State { jobs: VecDeque::new(), closed: false };
        Self { state: Mutex::new(state), filled: Condvar::new(), max }
    }

    /// Appends a job, without waiting.
    pub(super) fn push(&self, job: T) -> Result<(), Refusal<T>> {
        let mut state = self.state.lock();
        if state.closed {
            return Err(Refusal::Closed(job));
        }
        if state.jobs.len() >= self.max {
            return Err(Refusal::Full(job));
        }
        state.jobs.push_back(job);
        drop(state);
        self.filled.notify_one();
        Ok(())
    }

    /// The next job; `None` once the queue is closed and empty.
    pub(super) fn pop(&self) -> Option<T> {
        let mut state = self.state.lock();
        loop {
            if let Some(job) = state.jobs.pop_front() {
                return Some(job);
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
