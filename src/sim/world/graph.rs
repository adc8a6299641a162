//! The follow graph: pairs with their versions, counts and outbox rows.

use std::collections::BTreeMap;

use async_trait::async_trait;

use super::{State, link::Link};
use crate::{
    domain::{Pair, PairChange, PairState, UserId, edge::Blocked},
    ports::{Changed, Counts, EdgeChange, GraphStore, Kind, Outcome, Read},
    wire::events::Event,
};

/// The user role's graph.
#[derive(Default)]
pub(super) struct Graph {
    pub(super) pairs: BTreeMap<Pair, PairChange>,
    counts: BTreeMap<UserId, Counts>,
}

impl Graph {
    fn now(&self, pair: Pair) -> PairChange {
        let unchanged = PairChange { pair, version: 0, state: PairState::default() };
        self.pairs.get(&pair).copied().unwrap_or(unchanged)
    }

    fn counts(&self, user: UserId) -> Counts {
        self.counts.get(&user).copied().unwrap_or_default()
    }

    fn change(&mut self, pair: Pair, asked: &EdgeChange) -> Result<Changed, Blocked> {
        let before = self.now(pair);
        let state = before.state.apply(pair, asked.actor, asked.change)?;
        let fresh = state != before.state;
        let mut now = before;
        if fresh {
            now = PairChange { pair, version: before.version + 1, state };
            self.pairs.insert(pair, now);
            let Pair { low, high } = pair;
            self.count(low, high, before.state.low.follows, state.low.follows);
            self.count(high, low, before.state.high.follows, state.high.follows);
        }
        let low_followers = self.counts(pair.low).followers;
        let high_followers = self.counts(pair.high).followers;
        Ok(Changed { now, fresh, low_followers, high_followers })
    }

    fn count(&mut self, actor: UserId, target: UserId, was: bool, is: bool) {
        let step = |n: &mut u64| *n = *n + u64::from(is) - u64::from(was);
        step(&mut self.counts.entry(actor).or_default().following);
        step(&mut self.counts.entry(target).or_default().followers);
    }
}

/// The follow graph at one node.
pub(super) struct SimGraph(pub(super) Link);

#[async_trait]
impl GraphStore for SimGraph {
    async fn change(&self, change: &EdgeChange) -> Outcome<Result<Changed, Blocked>> {
        let Some(pair) = Pair::new(change.actor, change.target) else {
            let message = "a user has no edge to themselves";
            return Outcome::Failed(self.0.error(Kind::Unavailable, message));
        };
        let asked = change.clone();
        let seq = self.0.begin(|state| &mut state.user_outbox).await;
        let apply = move |state: &mut State, _| {
            let changed = state.graph.change(pair, &asked);
            if let Ok(Changed { now, fresh: true, low_followers, high_followers }) = &changed {
                let (low, high) = (*low_followers, *high_followers);
                let event = Event::graph_changed(now, low, high, asked.at_ms, asked.trace);
                state.user_outbox.add(seq, &event);
            }
            Ok(changed)
        };
        self.0.write("change", (change.actor, change.change, change.target), apply).await
    }

    async fn pair(&self, a: UserId, b: UserId) -> Read<PairState> {
        let look = move |state: &mut State, _| {
            Ok(Pair::new(a, b).map(|pair| state.graph.now(pair).state).unwrap_or_default())
        };
        self.0.read("pair", (a, b), look).await
    }

    async fn counts(&self, user: UserId) -> Read<Counts> {
        let look = move |state: &mut State, _| Ok(state.graph.counts(user));
        self.0.read("counts", user, look).await
    }
}
