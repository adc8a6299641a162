//! Contract suites: named behaviours that every adapter of a port shows, whatever it is made of.
//!
//! One file per port. Each has a `Context` (a fresh adapter and what is needed to drive it) and its
//! `BEHAVIOURS`; [`failures`] runs them. `tests/contract.rs` and, over servers, `tests/backends` say which
//! adapters are held to which suite. The suites are held to account themselves by [`wrong`]: each
//! deliberately wrong adapter is rejected, and each behaviour rejects at least one of them.
//!
//! The rules for a behaviour: it gets an adapter that holds nothing; it passes on a healthy adapter
//! on real and on virtual time; it waits through [`Rt`] only, mostly below 100 ms; it claims no
//! more than the port's text (a bus may double and reorder); it fails with a sentence, never with
//! a panic and never by hanging.

pub mod blobs;
pub mod body_cache;
pub mod bus;
pub mod graph;
pub mod hints;
pub mod home_store;
pub mod keys;
pub mod limiter;
pub mod media;
pub mod outbox;
pub mod relation_cache;
pub mod timeline_cache;
pub mod timeline_store;
pub mod tweets;
pub mod users;
pub mod wrong;

mod kit;

use std::{fmt, sync::Arc, time::Duration};

use crate::rt::{BoxFuture, Rt};

/// The longest that one behaviour may take; far above what any needs, so that only one that hangs
/// meets it.
pub const BEHAVIOUR_MAX: Duration = Duration::from_mins(1);

/// What is said of a behaviour that hangs.
pub const HANGS: &str = "it hangs";

/// How a behaviour ended: shown, or a sentence that says what was found instead.
pub type Check = Result<(), String>;

/// One thing that every adapter of a port does. `C` is the port's context.
pub struct Behaviour<C> {
    /// What it does, as a sentence in snake case.
    pub name: &'static str,
    /// Finds out, on a context that nobody used before.
    pub check: fn(C) -> BoxFuture<'static, Check>,
}

/// A behaviour that was not shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Its name.
    pub behaviour: &'static str,
    /// What was found instead.
    pub why: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.behaviour, self.why)
    }
}

/// Runs `behaviours` one after another, each on a context of its own, and gives those that were
/// not shown.
pub async fn failures<C>(
    rt: &Rt,
    behaviours: &[Behaviour<C>],
    fresh: impl Fn() -> C,
) -> Vec<Failure> {
    let mut failures = Vec::new();
    for behaviour in behaviours {
        let ended = rt.timeout(BEHAVIOUR_MAX, (behaviour.check)(fresh())).await;
        if let Err(why) = ended.unwrap_or_else(|_| Err(HANGS.to_owned())) {
            failures.push(Failure { behaviour: behaviour.name, why });
        }
    }
    failures
}

/// Takes the store under an adapter down (`true`) or up again. The suites only take it down.
///
/// A context without one skips the behaviour that needs it: not every adapter can be broken from
/// outside (a cache in the memory of the process cannot).
#[derive(Clone)]
pub struct Outage(Arc<dyn Fn(bool) + Send + Sync>);

impl Outage {
    /// An outage that `switch` begins and ends.
    pub fn new(switch: impl Fn(bool) + Send + Sync + 'static) -> Self {
        Self(Arc::new(switch))
    }

    /// Begins it.
    pub fn begin(&self) {
        (self.0)(true);
    }
}

impl fmt::Debug for Outage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Outage")
    }
}

/// Lists checks as the behaviours of a port, each under its own name.
macro_rules! behaviours {
    ($($check:ident),+ $(,)?) => {
        /// What every adapter of the port does.
        pub const BEHAVIOURS: &[$crate::ports::contract::Behaviour<Context>] = &[$(
            $crate::ports::contract::Behaviour {
                name: stringify!($check),
                check: |context| Box::pin($check(context)),
            }
        ),+];
    };
}
use behaviours;
