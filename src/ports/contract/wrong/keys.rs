//! Wrong stores of keys.

use std::sync::Arc;

use async_trait::async_trait;

use super::{Hushed, faults};
use crate::ports::{KeyStore, Outcome, Read, StoredKey, contract::keys::Context};

faults! {
    /// There is a key from the beginning.
    InventsKeys: [there_are_no_keys_at_first],
    /// The signing key comes last.
    Reorders: [keys_are_kept_in_order],
    /// Only the first keys are kept.
    KeepsTheFirst: [a_replacement_of_what_is_in_force_counts],
    /// Replaces whatever is in force.
    IgnoresBefore: [a_replacement_of_what_was_changes_nothing],
    /// Answers with what was asked for, not with what is in force.
    AnswersWhatWasAsked:
        [a_replacement_of_what_was_changes_nothing, of_many_first_keys_one_is_kept],
    /// The same replacement twice is taken for a lost race.
    RefusesRepeats: [a_replacement_that_is_repeated_changes_nothing],
    /// An outage is not told.
    SwallowsErrors: [an_outage_is_an_error],
}

struct Wrong {
    inner: Arc<dyn KeyStore>,
    fault: Fault,
    hushed: Hushed,
}

/// The store of `context` with `fault`.
#[must_use]
pub fn broken(context: Context, fault: Fault) -> Context {
    let (hushed, outage) = Hushed::new(fault == Fault::SwallowsErrors, context.outage);
    let keys = Arc::new(Wrong { inner: context.keys, fault, hushed });
    Context { keys, outage, ..context }
}

#[async_trait]
impl KeyStore for Wrong {
    async fn load(&self) -> Read<Vec<StoredKey>> {
        if self.hushed.is_down() {
            return Ok(Vec::new());
        }
        let mut keys = self.inner.load().await?;
        match self.fault {
            Fault::Reorders => keys.reverse(),
            Fault::InventsKeys if keys.is_empty() => {
                keys.push(StoredKey { kid: "key-0".to_owned(), seed: [0; 32], created_at_ms: 0 });
            }
            _ => {}
        }
        Ok(keys)
    }

    async fn replace(&self, before: &[StoredKey], after: &[StoredKey]) -> Outcome<Vec<StoredKey>> {
        if self.hushed.is_down() {
            return Outcome::Done(after.to_vec());
        }
        let in_force = self.inner.load().await.unwrap_or_default();
        match self.fault {
            Fault::KeepsTheFirst if !in_force.is_empty() => Outcome::Done(after.to_vec()),
            Fault::IgnoresBefore => self.inner.replace(&in_force, after).await,
            Fault::AnswersWhatWasAsked => {
                self.inner.replace(before, after).await.map(|_| after.to_vec())
            }
            Fault::RefusesRepeats if in_force == after => Outcome::Done(Vec::new()),
            _ => self.inner.replace(before, after).await,
        }
    }
}
