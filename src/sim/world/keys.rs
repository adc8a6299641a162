//! Signing keys.

use async_trait::async_trait;

use super::{State, link::Link};
use crate::ports::{KeyStore, Kind, Outcome, Read, StoredKey};

/// The most keys that are kept.
const KEYS_MAX: usize = 2;

/// Signing keys at one node.
pub(super) struct SimKeys(pub(super) Link);

#[async_trait]
impl KeyStore for SimKeys {
    async fn load(&self) -> Read<Vec<StoredKey>> {
        self.0.read("load", (), |state, _| Ok(state.keys.clone())).await
    }

    async fn replace(&self, before: &[StoredKey], after: &[StoredKey]) -> Outcome<Vec<StoredKey>> {
        if after.len() > KEYS_MAX {
            let error = self.0.error(Kind::Unavailable, "more keys than may be kept");
            return Outcome::Failed(error);
        }
        let (old, new) = (before.to_vec(), after.to_vec());
        let replace = move |state: &mut State, _| {
            if state.keys == old {
                state.keys = new;
            }
            Ok(state.keys.clone())
        };
        self.0.write("replace", (before, after), replace).await
    }
}
