//! What a start waits for: how long, and where that is told.

use std::{collections::BTreeSet, sync::Arc};

use parking_lot::Mutex;

/// Stores that a process waits for. Why is told in the log: who asks may be anybody.
#[derive(Clone, Debug, Default)]
pub struct Waits(Arc<Mutex<BTreeSet<&'static str>>>);

impl Waits {
    /// `store` was not there.
    pub(super) fn note(&self, store: &'static str) {
        self.0.lock().insert(store);
    }

    /// `store` is waited for no more.
    pub(super) fn done(&self, store: &'static str) {
        self.0.lock().remove(store);
    }

    /// What is waited for now, by name.
    #[must_use]
    pub fn names(&self) -> Vec<&'static str> {
        self.0.lock().iter().copied().collect()
    }
}

/// How often a store that is not there is asked for again.
pub(super) enum Patience {
    /// Not at all; and nothing that a first start chooses is chosen, as this is no start.
    Look,
    /// Not at all: the start has failed.
    Once,
    /// Until it is there; meanwhile it stands among what is waited for.
    Wait(Waits),
}
