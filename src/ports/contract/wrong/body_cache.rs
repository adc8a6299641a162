//! Wrong caches of bodies.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use async_trait::async_trait;
use parking_lot::Mutex;

use super::{Every, Hushed, faults};
use crate::{
    domain::{Token, TweetId},
    ports::{BodyCache, BodyRead, CachedBody, Outcome, Read, contract::body_cache::Context},
};

faults! {
    /// Everybody may fill.
    EverybodyMayFill: [one_reader_may_fill_what_is_missing, of_readers_at_once_one_may_fill],
    /// Nobody may fill.
    NobodyMayFill: [one_reader_may_fill_what_is_missing],
    /// One fill in three is acknowledged and not kept.
    DropsOneInThree: [a_fill_is_read_whole],
    /// Bodies come in the order of their ids.
    Reorders: [reads_come_in_the_order_asked_for],
    /// What is missing is left out of the answer.
    LeavesOutMisses: [reads_come_in_the_order_asked_for],
    /// Any token stands.
    IgnoresTokens: [
        a_wrong_token_fills_nothing,
        a_fill_counts_once,
        a_tombstone_voids_the_fill_that_runs,
        a_tombstone_voids_a_fill_also_of_what_was_there
    ],
    /// A wrong token voids the whole call.
    RefusesTheWholeCall: [a_wrong_token_fills_nothing],
    /// Deletions are not kept.
    KeepsNoDeletions: [a_deletion_may_be_filled],
    /// A tombstone does nothing.
    ForgetsTombstones: [a_tombstone_hides_the_body],
    /// A tombstone waits for what is there; a fill that runs goes on.
    TombstonesSpareFills: [a_tombstone_voids_the_fill_that_runs],
    /// Only the first of many is marked.
    MarksTheFirst: [many_are_marked_in_one_call],
    /// A fill that began may take for ever.
    WaitsForDeadFills: [a_fill_that_never_ends_is_left_to_another],
    /// An outage is not told.
    SwallowsErrors: [an_outage_is_an_error],
}

struct Wrong {
    inner: Arc<dyn BodyCache>,
    fault: Fault,
    every: Every,
    hushed: Hushed,
    memory: Mutex<Memory>,
}

#[derive(Default)]
struct Memory {
    tokens: BTreeMap<TweetId, Token>,
    begun: BTreeSet<TweetId>,
    /// Bodies shown whatever the cache below says.
    forced: BTreeMap<TweetId, CachedBody>,
}

/// The cache of `context` with `fault`.
#[must_use]
pub fn broken(context: Context, fault: Fault) -> Context {
    let (hushed, outage) = Hushed::new(fault == Fault::SwallowsErrors, context.outage);
    let (inner, every, memory) = (context.bodies, Every::default(), Mutex::default());
    let bodies = Arc::new(Wrong { inner, fault, every, hushed, memory });
    Context { bodies, outage, ..context }
}

impl Wrong {
    fn bend(&self, id: TweetId, read: BodyRead) -> Option<BodyRead> {
        let memory = &mut *self.memory.lock();
        if let BodyRead::Miss(Some(token)) = read {
            memory.tokens.insert(id, token);
        }
        if let Some(body) = memory.forced.get(&id) {
            return Some(BodyRead::Hit(body.clone()));
        }
        match (self.fault, read) {
            (Fault::EverybodyMayFill, BodyRead::Miss(_)) => {
                Some(BodyRead::Miss(memory.tokens.get(&id).copied()))
            }
            (Fault::NobodyMayFill, BodyRead::Miss(_)) => Some(BodyRead::Miss(None)),
            (Fault::LeavesOutMisses, BodyRead::Miss(_)) => None,
            (Fault::KeepsNoDeletions, BodyRead::Hit(CachedBody::Deleted)) => {
                Some(BodyRead::Miss(None))
            }
            (Fault::WaitsForDeadFills, BodyRead::Miss(Some(token))) => {
                Some(BodyRead::Miss(memory.begun.insert(id).then_some(token)))
            }
            (_, read) => Some(read),
        }
    }
}

#[async_trait]
impl BodyCache for Wrong {
    async fn read(&self, ids: &[TweetId]) -> Read<Vec<BodyRead>> {
        if self.hushed.is_down() {
            return Ok(vec![BodyRead::Miss(None); ids.len()]);
        }
        let mut ids = ids.to_vec();
        if self.fault == Fault::Reorders {
            ids.sort_unstable();
        }
        let found = self.inner.read(&ids).await?;
        Ok(ids.iter().zip(found).filter_map(|(id, read)| self.bend(*id, read)).collect())
    }

    async fn fill(&self, bodies: &[(TweetId, Token, CachedBody)]) -> Outcome<()> {
        if self.hushed.is_down() {
            return Outcome::Done(());
        }
        let keeps = |(id, token, _): &&(TweetId, Token, CachedBody)| match self.fault {
            Fault::DropsOneInThree => !self.every.nth(3),
            Fault::RefusesTheWholeCall => {
                let tokens = &self.memory.lock().tokens;
                tokens.get(id) == Some(token)
                    && bodies.iter().all(|(id, token, _)| tokens.get(id) == Some(token))
            }
            _ => true,
        };
        let kept: Vec<_> = bodies.iter().filter(keeps).cloned().collect();
        if matches!(self.fault, Fault::IgnoresTokens | Fault::TombstonesSpareFills) {
            let memory = &mut *self.memory.lock();
            for (id, token, body) in bodies {
                let stands = memory.tokens.get(id) == Some(token);
                if stands || self.fault == Fault::IgnoresTokens {
                    memory.forced.insert(*id, body.clone());
                }
            }
        }
        self.inner.fill(&kept).await
    }

    async fn tombstone(&self, ids: &[TweetId]) -> Outcome<()> {
        if self.hushed.is_down() || self.fault == Fault::ForgetsTombstones {
            return Outcome::Done(());
        }
        for id in ids {
            self.memory.lock().forced.remove(id);
        }
        let marked = if self.fault == Fault::MarksTheFirst { &ids[..1] } else { ids };
        self.inner.tombstone(marked).await
    }
}
