//! Wrong graphs.

use std::{collections::BTreeSet, sync::Arc};

use async_trait::async_trait;
use parking_lot::Mutex;

use super::{Every, Hushed, faults, lose_events};
use crate::{
    domain::{Change, PairState, UserId, edge::Blocked},
    ports::{
        Changed, Counts, EdgeChange, GraphStore, Outbox, Outcome, Read, contract::graph::Context,
    },
};

faults! {
    /// Everybody follows everybody at first.
    InventsEdges: [strangers_have_no_edges],
    /// Changes are written without their event.
    LosesEvents: [a_follow_is_written_with_its_event],
    /// The two sides of a pair are told the wrong way round.
    SwapsSides: [a_follow_is_written_with_its_event],
    /// Every change is fresh.
    ChangesAfresh: [a_change_in_force_writes_nothing, the_same_change_at_once_happens_once],
    /// Versions are not told.
    TellsOneVersion:
        [every_change_of_a_pair_has_the_next_version, changes_at_once_have_versions_one_after_another],
    /// All pairs share one count of versions.
    SharesVersions: [pairs_have_versions_of_their_own],
    /// The other's follow outlives a block.
    KeepsFollowsOfBlocked: [a_block_ends_both_follows],
    /// A follow lifts a block.
    FollowsThroughBlocks: [a_blocked_follow_changes_nothing],
    /// The end of a block brings follows back.
    RevivesFollows: [lifting_a_block_brings_nothing_back],
    /// Muting is taken for unfollowing.
    UnfollowsMuted: [muting_leaves_the_counts],
    /// Followers and followees are counted the wrong way round.
    SwapsCounts: [counts_follow_the_edges],
    /// One change in five is acknowledged and not written.
    DropsOneInFive: [follows_at_once_are_all_counted],
    /// An outage is not told.
    SwallowsErrors: [an_outage_is_an_error],
}

struct Wrong {
    inner: Arc<dyn GraphStore>,
    outbox: Arc<dyn Outbox>,
    fault: Fault,
    every: Every,
    hushed: Hushed,
    memory: Mutex<Memory>,
}

#[derive(Default)]
struct Memory {
    changes: u64,
    follows: BTreeSet<(UserId, UserId)>,
}

/// The graph of `context` with `fault`.
#[must_use]
pub fn broken(context: Context, fault: Fault) -> Context {
    let (hushed, outage) = Hushed::new(fault == Fault::SwallowsErrors, context.outage);
    let graph = Arc::new(Wrong {
        inner: context.graph,
        outbox: context.outbox.clone(),
        fault,
        every: Every::default(),
        hushed,
        memory: Mutex::default(),
    });
    Context { graph, outage, ..context }
}

type Answer = Outcome<Result<Changed, Blocked>>;

const fn turned(state: PairState) -> PairState {
    PairState { low: state.high, high: state.low }
}

impl Wrong {
    async fn ask(&self, asked: &EdgeChange, change: Change, actor: UserId) -> Answer {
        let target = if actor == asked.actor { asked.target } else { asked.actor };
        self.inner.change(&EdgeChange { actor, target, change, ..asked.clone() }).await
    }

    /// Does more, or less, than is asked for.
    async fn bend(&self, asked: &EdgeChange) -> Option<Answer> {
        let EdgeChange { actor, target, change, .. } = *asked;
        match (self.fault, change) {
            (Fault::DropsOneInFive, _) if self.every.nth(5) => {
                // The answer of something that changes nothing.
                Some(self.ask(asked, Change::Unblock, actor).await)
            }
            (Fault::FollowsThroughBlocks, Change::Follow) => {
                for user in [actor, target] {
                    drop(self.ask(asked, Change::Unblock, user).await);
                }
                None
            }
            (Fault::RevivesFollows, Change::Unblock) => {
                drop(self.ask(asked, change, actor).await);
                if !self.memory.lock().follows.contains(&(target, actor)) {
                    return None;
                }
                Some(self.ask(asked, Change::Follow, target).await)
            }
            (Fault::UnfollowsMuted, Change::Mute) => {
                drop(self.ask(asked, Change::Unfollow, actor).await);
                None
            }
            _ => None,
        }
    }

    fn tell(&self, asked: &EdgeChange, changed: &mut Changed) {
        let memory = &mut *self.memory.lock();
        memory.changes += u64::from(changed.fresh);
        if asked.change == Change::Follow {
            memory.follows.insert((asked.actor, asked.target));
        }
        match self.fault {
            Fault::SwapsSides => changed.now.state = turned(changed.now.state),
            Fault::ChangesAfresh => changed.fresh = true,
            Fault::TellsOneVersion => changed.now.version = 1,
            Fault::SharesVersions => changed.now.version = memory.changes,
            Fault::KeepsFollowsOfBlocked if asked.change == Change::Block => {
                changed.now.state.high.follows = true;
            }
            _ => {}
        }
    }
}

#[async_trait]
impl GraphStore for Wrong {
    async fn change(&self, asked: &EdgeChange) -> Answer {
        if self.hushed.is_down() {
            return Outcome::Done(Err(Blocked));
        }
        let answer = match self.bend(asked).await {
            Some(answer) => answer,
            None => self.inner.change(asked).await,
        };
        if self.fault == Fault::LosesEvents {
            lose_events(&*self.outbox).await;
        }
        answer.map(|result| {
            result.map(|mut changed| {
                self.tell(asked, &mut changed);
                changed
            })
        })
    }

    async fn pair(&self, a: UserId, b: UserId) -> Read<PairState> {
        if self.hushed.is_down() {
            return Ok(PairState::default());
        }
        let mut state = self.inner.pair(a, b).await?;
        if self.fault == Fault::InventsEdges {
            state.low.follows = true;
        }
        Ok(state)
    }

    async fn counts(&self, user: UserId) -> Read<Counts> {
        if self.hushed.is_down() {
            return Ok(Counts::default());
        }
        let Counts { followers, following } = self.inner.counts(user).await?;
        Ok(match self.fault {
            Fault::SwapsCounts => Counts { followers: following, following: followers },
            _ => Counts { followers, following },
        })
    }
}
