//! A limiter that lets everything pass, and hints that may be lost.

use std::{collections::BTreeMap, time::Duration};

use async_trait::async_trait;
use tokio::sync::mpsc;

use super::link::{Chance, Link};
use crate::{
    domain::UserId,
    ports::{Counted, Hint, HintStream, Hints, RateLimiter, Read, Verdict},
};

/// Hints that wait for one subscriber at most; further ones are dropped.
const WAITING_MAX: usize = 64;

/// Allows every call.
pub(super) struct AllowAll;

#[async_trait]
impl RateLimiter for AllowAll {
    async fn check(&self, calls: &[Counted<'_>]) -> Read<Vec<Verdict>> {
        let allow = |call: &Counted<'_>| Verdict {
            allowed: true,
            remaining: call.limit.burst.saturating_sub(1),
            retry_after: Duration::ZERO,
            reset_after: Duration::ZERO,
        };
        Ok(calls.iter().map(allow).collect())
    }
}

/// All subscribers, in the order in which they came.
#[derive(Default)]
pub(super) struct Hub {
    subscribers: BTreeMap<u64, (UserId, mpsc::Sender<Hint>)>,
    last: u64,
}

impl Hub {
    fn sweep(&mut self) {
        self.subscribers.retain(|_, (_, sender)| !sender.is_closed());
    }

    fn tell(&self, hint: Hint) {
        for (user, sender) in self.subscribers.values() {
            if hint.user().is_none_or(|told| told == *user) {
                // A full queue means that the subscriber has enough reasons to read again.
                let _ = sender.try_send(hint);
            }
        }
    }
}

struct Stream(mpsc::Receiver<Hint>);

#[async_trait]
impl HintStream for Stream {
    async fn next(&mut self) -> Option<Hint> {
        self.0.recv().await
    }
}

/// Hints at one node; they reach subscribers at every node while the cache is up.
pub(super) struct SimHints(pub(super) Link);

#[async_trait]
impl Hints for SimHints {
    async fn notify(&self, hints: &[Hint]) {
        let p = self.0.world.knobs().hint_loss;
        for &hint in hints {
            let lost = self.0.hit(Chance::HintLoss, p).is_some() || !self.0.reachable();
            self.0.note("notify", format_args!("{hint:?}{}", if lost { " lost" } else { "" }));
            if !lost {
                self.0.world.with(|state, _| state.hub.tell(hint));
            }
        }
    }

    async fn subscribe(&self, user: UserId) -> Box<dyn HintStream> {
        let (sender, receiver) = mpsc::channel(WAITING_MAX);
        self.0.note("subscribe", user);
        self.0.world.with(|state, _| {
            state.hub.sweep();
            state.hub.last += 1;
            let number = state.hub.last;
            state.hub.subscribers.insert(number, (user, sender));
        });
        Box::new(Stream(receiver))
    }

    fn wanted(&self) -> bool {
        self.0.world.with(|state, _| {
            state.hub.sweep();
            !state.hub.subscribers.is_empty()
        })
    }
}
