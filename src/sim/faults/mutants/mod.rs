//! Bugs that are built in on purpose, to prove that the checks find them.
//!
//! A bug is a wrapper around ports, so the services stay as they are. Each port has one wrapper, in
//! the file of that name, which behaves well but for the bug it was made for.

mod bus;
mod caches;
mod homes;
mod rpc;
mod store;
mod tweets;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64},
    },
};

use parking_lot::Mutex;

use crate::{
    domain::{Relations, TweetId, UserId, fanout::Strategy},
    ports::Rpc,
    rt::{Instant, Rt},
    sim::{faults::violation::Invariant, world::NodePorts},
};

macro_rules! mutants {
    ($($id:ident $name:literal $text:literal [$($broken:ident),+];)*) => {
        /// A bug that can be built in.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Mutant {
            $(#[doc = $text] $id,)*
        }

        impl Mutant {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$id),*];

            /// Its name in commands and reports.
            #[must_use]
            pub const fn id(self) -> &'static str {
                match self { $(Self::$id => $name,)* }
            }

            /// What it does wrong.
            #[must_use]
            pub const fn text(self) -> &'static str {
                match self { $(Self::$id => $text,)* }
            }

            /// What it is expected to break. It is found only if one of these says so: another
            /// check that meets it first may be wrong itself.
            #[must_use]
            pub const fn breaks(self) -> &'static [Invariant] {
                match self { $(Self::$id => &[$(Invariant::$broken),+],)* }
            }

            /// Whether it is expected to break the invariant with this name.
            #[must_use]
            pub fn explains(self, invariant: &str) -> bool {
                self.breaks().iter().any(|broken| broken.as_str() == invariant)
            }
        }
    };
}

mutants! {
    M01 "M01" "a post is acknowledged before it is committed"
        [OwnWrites, OneTweetPerKey, Ids, Durable];
    M03 "M03" "the relay marks rows as sent before it publishes them" [HomeSet, AuthorSet];
    M04 "M04" "the worker acknowledges messages before it writes" [HomeSet, AuthorSet];
    M06 "M06" "a home timeline is filled without its token" [HomeSet];
    M08 "M08" "the page does not filter unfollowed authors" [Unfollow, Block];
    M09 "M09" "the page does not filter deleted tweets" [Delete];
    M10 "M10" "an author becomes pulled without the phase in which both ways work" [HomeSet];
    M11 "M11" "an author's new tweet is not shown to the author at once" [OwnWrites];
    M17 "M17" "a timeline that is not cached is read as an empty one" [OwnWrites];
    M20 "M20" "a page shows a tweet that was delivered twice, twice" [Duplicate];
    M21 "M21" "a page is in the order of arrival" [Order];
    M24 "M24" "the fan-out goes on before its page of followers is delivered" [HomeSet];
    M26 "M26" "the relay sends by position and skips rows that commit late" [HomeSet, AuthorSet];
    M35 "M35" "a delete with a timestamp of its own loses against a later create" [Delete];
    MX1 "MX1" "an unfollow is acknowledged before the copy of the graph has it" [Unfollow, Block];
    MX2 "MX2" "relations are filled without their token" [Unfollow, Block, HomeSet];
    MX3 "MX3" "a backfill goes into a list that reaches below it" [HomeSet];
    MX4 "MX4" "nothing is ever applied before the answer" [Healed];
    MX5 "MX5" "every page says that it is degraded" [ReadsAnswered];
    MX6 "MX6" "a used idempotency key is taken for another post" [BadInput];
    MP1 "MP1" "a new follower's durable home timeline stays complete down to where it was" [HomeSet];
    MP2 "MP2" "one durable delivery in eight is acknowledged and not written" [HomeSet];
    MX7 "MX7" "after a failed call writes are refused for a while" [WritesAnswered];
}

impl Mutant {
    /// The strategy under which the bug can show.
    #[must_use]
    pub const fn strategy(self) -> Strategy {
        match self {
            Self::MP1 | Self::MP2 => Strategy::Push,
            _ => Strategy::Hybrid,
        }
    }

    /// The bug with this name, in any case.
    #[must_use]
    pub fn parse(id: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|mutant| mutant.id().eq_ignore_ascii_case(id))
    }
}

/// What wrappers of all nodes share: what a real bug would keep in its stores.
#[derive(Default)]
struct Memory {
    /// M26: the highest position that was sent.
    sent: AtomicU64,
    /// M08: everybody whom a reader ever could see.
    seen: Mutex<BTreeMap<UserId, BTreeSet<UserId>>>,
    /// M10: the phase is being skipped.
    skipping: AtomicBool,
    /// M10: users whose own edges changed, and who are to be told of that.
    changed: Mutex<BTreeSet<UserId>>,
    /// M20, M21: how often, and when first, a tweet came into a home timeline.
    arrivals: Mutex<BTreeMap<(UserId, TweetId), Arrival>>,
    arrived: AtomicU64,
    /// M35: when a tweet was created, in virtual milliseconds.
    created: Mutex<BTreeMap<TweetId, u64>>,
    /// MX7: when a call between roles failed last.
    failed: Mutex<Option<Instant>>,
}

#[derive(Clone, Copy)]
struct Arrival {
    place: u64,
    times: u32,
}

/// What a bug changes.
#[derive(Clone)]
pub struct Mutation {
    mutant: Option<Mutant>,
    memory: Arc<Memory>,
}

/// A port inside its wrapper.
struct Wrapped<P: ?Sized> {
    inner: Arc<P>,
    rt: Rt,
    mutant: Mutant,
    memory: Arc<Memory>,
}

impl Mutation {
    /// Nothing is wrong, or this.
    #[must_use]
    pub fn new(mutant: Option<Mutant>) -> Self {
        Self { mutant, memory: Arc::default() }
    }

    /// The ports of a node, with the bug.
    #[must_use]
    pub fn ports(&self, ports: NodePorts, rt: &Rt) -> NodePorts {
        let Some(mutant) = self.mutant else { return ports };
        let mut ports = ports;
        match mutant {
            Mutant::M01 | Mutant::MX6 => ports.tweets = self.wrap(mutant, rt, ports.tweets),
            Mutant::M03 | Mutant::M26 => {
                ports.tweet_outbox = self.wrap(mutant, rt, ports.tweet_outbox);
            }
            Mutant::M04 => ports.bus = self.wrap(mutant, rt, ports.bus),
            Mutant::M08 | Mutant::MX2 => ports.relations = self.wrap(mutant, rt, ports.relations),
            Mutant::M10 => {
                ports.relations = self.wrap(mutant, rt, ports.relations);
                ports.store = self.wrap(mutant, rt, ports.store);
            }
            Mutant::M09 => ports.bodies = self.wrap(mutant, rt, ports.bodies),
            Mutant::M35 => ports.store = self.wrap(mutant, rt, ports.store),
            Mutant::MP1 | Mutant::MP2 => ports.homes = self.wrap(mutant, rt, ports.homes),
            Mutant::M06 | Mutant::M17 | Mutant::M20 | Mutant::M21 | Mutant::M24 | Mutant::MX3 => {
                ports.cache = self.wrap(mutant, rt, ports.cache);
            }
            Mutant::M11 | Mutant::MX1 | Mutant::MX4 | Mutant::MX5 | Mutant::MX7 => {}
        }
        ports
    }

    /// The calls of a node, with the bug.
    #[must_use]
    pub fn rpc(&self, inner: Arc<dyn Rpc>, rt: &Rt) -> Arc<dyn Rpc> {
        match self.mutant {
            Some(
                mutant @ (Mutant::M11 | Mutant::MX1 | Mutant::MX4 | Mutant::MX5 | Mutant::MX7),
            ) => self.wrap(mutant, rt, inner),
            _ => inner,
        }
    }

    fn wrap<P: ?Sized>(&self, mutant: Mutant, rt: &Rt, inner: Arc<P>) -> Arc<Wrapped<P>> {
        Arc::new(Wrapped { inner, rt: rt.clone(), mutant, memory: Arc::clone(&self.memory) })
    }
}

impl Memory {
    /// A reader's relations as if nobody had ever been unfollowed.
    fn with_everybody(&self, reader: UserId, relations: &Relations) -> Relations {
        let mut seen = self.seen.lock();
        let all = seen.entry(reader).or_default();
        all.extend(relations.visible.iter().copied());
        Relations { visible: all.iter().copied().collect(), ..relations.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_read_back() {
        for mutant in Mutant::ALL {
            assert_eq!(Mutant::parse(&mutant.id().to_lowercase()), Some(*mutant));
        }
        assert_eq!(Mutant::ALL.len(), 23);
        assert_eq!(Mutant::parse("M99"), None);
    }
}
