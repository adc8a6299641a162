//! Follow, unfollow, block, unblock.
//!
//! What hides is answered only when the timeline role honours it; what shows may lag, and follows
//! the event.

use std::sync::Arc;

use crate::{
    domain::{Change, Pair, UserId},
    ports::{Changed, Counts, EdgeChange, GraphStore, Outcome, outcome::twice},
    rt::points,
    services::kit::{
        Calls, Code, Common, Fault, Kit, Relay,
        apply::{HIDE_BUDGET, apply},
    },
    wire::{api::Viewer, events::Event, trace::TraceContext},
};

/// How a change stands when it is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Settled {
    /// This call changed something.
    pub(super) fresh: bool,
    /// Something may still be shown that must not be; the event will see to it.
    pub(super) pending: bool,
    /// What is between the actor and the target now.
    pub(super) viewer: Viewer,
}

/// The follow graph.
pub(super) struct Graph {
    common: Common,
    calls: Arc<Calls>,
    store: Arc<dyn GraphStore>,
    relay: Arc<Relay>,
}

impl Graph {
    pub(super) fn new(kit: &Kit, store: Arc<dyn GraphStore>, relay: Arc<Relay>) -> Self {
        Self { common: kit.common.clone(), calls: Arc::clone(&kit.calls), store, relay }
    }

    /// Makes one change and, if it hides something, has it hidden.
    pub(super) async fn change(
        &self,
        actor: UserId,
        target: UserId,
        change: Change,
        trace: TraceContext,
    ) -> Result<Settled, Fault> {
        let pair = Pair::new(actor, target).ok_or(Code::Yourself)?;
        let at_ms = self.common.rt.wall_ms();
        let trace = Some(trace);
        let asked = EdgeChange { actor, target, change, at_ms, trace };
        let changed = self.commit(&asked).await?;
        let EdgeChange { trace, .. } = asked;
        let Changed { now, fresh, low_followers, high_followers } = changed;
        if fresh {
            self.relay.wake();
        }
        // A change that is in force already may be one that was answered 202: hide it again.
        // Version 0 was never anything else.
        let pending = change.hides() && now.version > 0 && {
            let event = Event::graph_changed(&now, low_followers, high_followers, at_ms, trace);
            !apply(&self.common.rt, &self.calls, event, HIDE_BUDGET).await
        };
        Ok(Settled { fresh, pending, viewer: viewer(pair, actor, now.state) })
    }

    async fn commit(&self, asked: &EdgeChange) -> Result<Changed, Fault> {
        self.common.rt.point(points::COMMIT).await;
        let (outcome, repeated) = twice(|| self.store.change(asked)).await;
        self.common.rt.point(points::COMMIT).await;
        match outcome {
            Outcome::Done(Ok(changed)) => {
                // The first attempt may be the one that changed it.
                Ok(Changed { fresh: changed.fresh || repeated, ..changed })
            }
            Outcome::Done(Err(_blocked)) => Err(Code::Blocked.into()),
            Outcome::Failed(error) => Err(error.into()),
            Outcome::Unknown(error) => {
                tracing::warn!(%error, "the outcome of a change is unknown");
                let fault = Fault::from(Code::UnknownOutcome);
                Err(fault.detail("it may have happened: asking again is safe"))
            }
        }
    }

    /// What is between two users, from the first one's side.
    pub(super) async fn between(&self, reader: UserId, other: UserId) -> Result<Viewer, Fault> {
        let pair = Pair::new(reader, other).ok_or(Code::Yourself)?;
        Ok(viewer(pair, reader, self.store.pair(reader, other).await?))
    }

    /// A user's counts.
    pub(super) async fn counts(&self, user: UserId) -> Result<Counts, Fault> {
        Ok(self.store.counts(user).await?)
    }
}

fn viewer(pair: Pair, reader: UserId, state: crate::domain::PairState) -> Viewer {
    let other = if reader == pair.low { pair.high } else { pair.low };
    let (own, theirs) = (state.side(pair, reader), state.side(pair, other));
    Viewer {
        following: own.follows,
        followed_by: theirs.follows,
        blocking: own.blocks,
        blocked_by: theirs.blocks,
    }
}
