//! What a start waits for: how long, and where that is told.

use std::{collections::BTreeMap, sync::Arc};

use parking_lot::Mutex;

/// Stores that a process waits for, each with what came of the last attempt.
#[derive(Clone, Debug, Default)]
pub struct Waits(Arc<Mutex<BTreeMap<&'static str, String>>>);

impl Waits {
    /// `store` was not there, because of `why`.
    pub(super) fn note(&self, store: &'static str, why: &str) {
        self.0.lock().insert(store, why.to_owned());
    }

    /// `store` is waited for no more.
    pub(super) fn done(&self, store: &'static str) {
        self.0.lock().remove(store);
    }

    /// What is waited for now, by name.
    #[must_use]
    pub fn names(&self) -> Vec<&'static str> {
        self.0.lock().keys().copied().collect()
    }
}

/// How often a store that is not there is asked for again.
pub(super) enum Patience {
    /// Not at all: the start has failed.
    Once,
    /// Until it is there; meanwhile it stands among what is waited for.
    Wait(Waits),
}
