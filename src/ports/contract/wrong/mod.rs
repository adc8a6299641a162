//! Deliberately wrong adapters: a right one, wrapped so that it breaks one promise.
//!
//! One file per port: its `Fault`s and `broken`, which wraps the adapter of a context. A suite that
//! does not reject each of them is not worth its run.

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

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use super::Outage;
use crate::ports::Outbox;

/// Lists the ways in which an adapter can be wrong, each with the behaviours that reject it.
macro_rules! faults {
    ($($(#[$doc:meta])+ $name:ident: [$($behaviour:ident),+],)+) => {
        /// One way to be wrong.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Fault { $($(#[$doc])+ $name,)+ }

        impl Fault {
            /// All of them, each with the names of the behaviours that have to reject it.
            pub const ALL: &[(Self, &[&str])] =
                &[$((Self::$name, &[$(stringify!($behaviour)),+]),)+];
        }
    };
}
use faults;

/// A store that can be down while its adapter says that all is well.
#[derive(Clone, Debug, Default)]
struct Hushed(Arc<AtomicBool>);

impl Hushed {
    /// Whether it is down.
    fn is_down(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// The store of an adapter that is wrong in this way if `swallows`; its outage takes the place
    /// of `outage` then.
    fn new(swallows: bool, outage: Option<Outage>) -> (Self, Option<Outage>) {
        let hushed = Self::default();
        let down = hushed.clone();
        let own = Outage::new(move |on| down.0.store(on, Ordering::Relaxed));
        (hushed, if swallows { Some(own) } else { outage })
    }
}

/// Picks every `n`th call.
#[derive(Debug, Default)]
struct Every(AtomicU64);

impl Every {
    fn nth(&self, n: u64) -> bool {
        self.0.fetch_add(1, Ordering::Relaxed) % n == n - 1
    }
}

/// Marks all that waits in an outbox as sent.
async fn lose_events(outbox: &dyn Outbox) {
    let rows = outbox.claim(100, 0, Duration::ZERO).await.done().unwrap_or_default();
    let seqs: Vec<u64> = rows.iter().map(|row| row.seq).collect();
    drop(outbox.mark_sent(&seqs, 0).await);
}
