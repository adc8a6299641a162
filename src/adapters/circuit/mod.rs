//! A circuit breaker per server, and ports that wear one.
//!
//! [`FAILURES_MAX`] calls in a row that a server did not answer open its circuit: from then on calls
//! are refused at once, and nobody waits out a time limit for what will not come. After a pause one
//! call is let through; if it is answered the circuit closes, else it stays open, twice as long, up to
//! [`PAUSE_MAX`]. What a server answers with "no" (full, corrupt) is an answer. Callers back off by
//! themselves already; this saves the server from the rest, and workers from receiving in vain
//! ([`intake`]).

pub mod intake;
mod ports;

use std::{future::Future, sync::Arc, time::Duration};

use parking_lot::Mutex;

pub use self::{intake::Intake, ports::Guarded};
use crate::{
    ports::{Kind, Outcome, Read, StoreError},
    rt::{Instant, Rt},
    telemetry::Metrics,
};

/// Calls in a row without an answer that open a circuit: more than the connections of a pool that die
/// at once when a server is started anew.
pub const FAILURES_MAX: u32 = 10;
/// How long a circuit stays open at first: a server that is started anew needs about as long.
const PAUSE_MIN: Duration = Duration::from_millis(500);
/// How long it stays open at most, so that a server that is back is found soon.
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// The circuit of one server.
#[derive(Debug)]
pub struct Circuit {
    store: &'static str,
    rt: Rt,
    metrics: Metrics,
    state: Mutex<State>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Calls pass; so many in a row have failed.
    Closed(u32),
    /// Calls are refused until then.
    Open { until: Instant, pause: Duration },
    /// One call is on its way to find out.
    Probing { pause: Duration },
}

impl Circuit {
    /// A closed circuit of the server `store`.
    #[must_use]
    pub fn new(store: &'static str, rt: &Rt, metrics: &Metrics) -> Arc<Self> {
        metrics.store_up(store, true);
        let state = Mutex::new(State::Closed(0));
        Arc::new(Self { store, rt: rt.clone(), metrics: metrics.clone(), state })
    }

    /// Whether calls are refused now: it is open and its pause is not over, or a call is finding out.
    #[must_use]
    pub fn is_open(&self) -> bool {
        match *self.state.lock() {
            State::Closed(_) => false,
            State::Open { until, .. } => self.rt.now() < until,
            State::Probing { .. } => true,
        }
    }

    /// Runs a read, unless the circuit is open. `call` names it in the measurements.
    ///
    /// # Errors
    /// That of `work`, or that the circuit is open.
    pub async fn read<T>(
        &self,
        call: &'static str,
        work: impl Future<Output = Read<T>>,
    ) -> Read<T> {
        let mut pass = self.enter(call)?;
        let read = work.await;
        pass.ends(read.as_ref().err());
        read
    }

    /// Runs a write, unless the circuit is open: then it has failed.
    pub async fn write<T>(
        &self,
        call: &'static str,
        work: impl Future<Output = Outcome<T>>,
    ) -> Outcome<T> {
        let mut pass = match self.enter(call) {
            Ok(pass) => pass,
            Err(error) => return Outcome::Failed(error),
        };
        let outcome = work.await;
        pass.ends(match &outcome {
            Outcome::Done(_) => None,
            Outcome::Failed(error) | Outcome::Unknown(error) => Some(error),
        });
        outcome
    }

    /// Runs a write of `count` entries, unless the circuit is open: then each has failed.
    pub async fn each(
        &self,
        call: &'static str,
        count: usize,
        work: impl Future<Output = Vec<Outcome<()>>>,
    ) -> Vec<Outcome<()>> {
        let mut pass = match self.enter(call) {
            Ok(pass) => pass,
            Err(error) => return vec![Outcome::Failed(error); count],
        };
        let outcomes = work.await;
        // One entry that was answered shows that the server is there.
        let answered = outcomes.iter().any(|outcome| match outcome {
            Outcome::Done(()) => true,
            Outcome::Failed(error) | Outcome::Unknown(error) => !is_silence(error),
        });
        let error = outcomes.iter().find_map(|outcome| match outcome {
            Outcome::Done(()) => None,
            Outcome::Failed(error) | Outcome::Unknown(error) => Some(error),
        });
        pass.ends(error.filter(|_| !answered));
        outcomes
    }

    fn enter(&self, call: &'static str) -> Result<Pass<'_>, StoreError> {
        let mut state = self.state.lock();
        let now = self.rt.now();
        match *state {
            State::Closed(_) => {}
            State::Open { until, pause } if until <= now => *state = State::Probing { pause },
            State::Open { .. } | State::Probing { .. } => {
                let message = "it has not answered for a while and is not asked now";
                return Err(StoreError::new(Kind::Unavailable, self.store, message));
            }
        }
        drop(state);
        Ok(Pass { circuit: self, call, began: now, ended: false })
    }

    fn succeeded(&self) {
        let mut state = self.state.lock();
        if *state != State::Closed(0) {
            let was_open = !matches!(*state, State::Closed(_));
            *state = State::Closed(0);
            drop(state);
            if was_open {
                self.metrics.store_up(self.store, true);
                tracing::info!(store = self.store, "a store answers again");
            }
        }
    }

    fn failed(&self) {
        let mut state = self.state.lock();
        let pause = match *state {
            State::Closed(failures) if failures + 1 < FAILURES_MAX => {
                *state = State::Closed(failures + 1);
                return;
            }
            State::Closed(_) => PAUSE_MIN,
            State::Probing { pause } => (pause * 2).min(PAUSE_MAX),
            // A call that began before it was opened.
            State::Open { .. } => return,
        };
        let until = self.rt.now().plus(self.rt.jitter(pause));
        let was_closed = matches!(*state, State::Closed(_));
        *state = State::Open { until, pause };
        drop(state);
        if was_closed {
            self.metrics.store_up(self.store, false);
            tracing::warn!(store = self.store, "a store does not answer and is asked seldom now");
        }
    }
}

/// Whether an error means that no answer came.
fn is_silence(error: &StoreError) -> bool {
    match error.kind {
        Kind::Unavailable | Kind::Timeout => true,
        Kind::Full | Kind::Corrupt => false,
    }
}

/// A call that was let through.
struct Pass<'a> {
    circuit: &'a Circuit,
    call: &'static str,
    began: Instant,
    ended: bool,
}

impl Pass<'_> {
    fn ends(&mut self, error: Option<&StoreError>) {
        self.ended = true;
        let Circuit { store, rt, metrics, .. } = self.circuit;
        metrics.store_call(store, self.call, rt.now().since(self.began));
        if error.is_some_and(is_silence) {
            self.circuit.failed();
        } else {
            self.circuit.succeeded();
        }
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        // Its caller has gone and it has found out nothing: the next one may.
        let mut state = self.circuit.state.lock();
        if let State::Probing { pause } = *state {
            *state = State::Open { until: self.circuit.rt.now(), pause };
        }
    }
}

#[cfg(test)]
mod tests;
