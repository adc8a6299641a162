//! Single flight: of several calls that would rebuild the same timeline, one does and the others
//! wait for it.

use std::{
    collections::BTreeMap,
    sync::{Arc, Weak},
};

use parking_lot::Mutex;
use tokio::sync::{Mutex as Turn, OwnedMutexGuard};

use crate::domain::UserId;

/// Dead turns are swept out when there are more than this many.
const SWEEP_AT: usize = 1_024;

/// Whose timelines are being rebuilt.
#[derive(Debug, Default)]
pub(super) struct Flights(Mutex<BTreeMap<UserId, Weak<Turn<()>>>>);

impl Flights {
    /// Waits for the turn of `user`; it ends when the guard is dropped.
    pub(super) async fn enter(&self, user: UserId) -> OwnedMutexGuard<()> {
        let turn = {
            let mut turns = self.0.lock();
            if turns.len() > SWEEP_AT {
                turns.retain(|_, turn| turn.strong_count() > 0);
            }
            let known = turns.get(&user).and_then(Weak::upgrade);
            known.unwrap_or_else(|| {
                let turn = Arc::new(Turn::new(()));
                turns.insert(user, Arc::downgrade(&turn));
                turn
            })
        };
        turn.lock_owned().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_user_waits_and_another_does_not() {
        let flights = Flights::default();
        let first = flights.enter(UserId(1)).await;
        let _other = flights.enter(UserId(2)).await;
        let mut second = std::pin::pin!(flights.enter(UserId(1)));
        assert!(futures_util::poll!(second.as_mut()).is_pending());
        drop(first);
        assert!(futures_util::poll!(second.as_mut()).is_ready());
    }

    #[tokio::test]
    async fn turns_that_nobody_holds_are_swept() {
        let flights = Flights::default();
        for user in 0..3_000 {
            drop(flights.enter(UserId(user)).await);
        }
        assert!(flights.0.lock().len() <= SWEEP_AT + 1);
    }
}
