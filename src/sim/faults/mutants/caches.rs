//! M06, M08, M09, M17, M20, M21, M24, MX2 and MX3, and half of M10: wrappers of the caches.

use std::{
    cmp::Reverse,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use async_trait::async_trait;

use super::{Arrival, Mutant, Wrapped};
use crate::{
    domain::{Entry, Relations, Token, TweetId, UserId, Window, ring::Slice},
    ports::{
        BodyCache, BodyRead, CachedBody, HomeRead, HomeSlice, ListKey, Outcome, Push, PushReport,
        Read, RelationCache, TimelineCache,
    },
};

/// M24: a page of followers is delivered this much later, in milliseconds.
const BEHIND_MS: u64 = 1_500;

impl Wrapped<dyn TimelineCache> {
    fn arrive(&self, homes: &[UserId], entry: Entry) {
        let mut arrivals = self.memory.arrivals.lock();
        for &home in homes {
            let place = self.memory.arrived.fetch_add(1, Ordering::Relaxed);
            let arrival =
                arrivals.entry((home, entry.tweet)).or_insert(Arrival { place, times: 0 });
            arrival.times += 1;
        }
    }

    fn arrival(&self, reader: UserId, entry: Entry) -> Option<Arrival> {
        self.memory.arrivals.lock().get(&(reader, entry.tweet)).copied()
    }

    fn disorder(&self, reader: UserId, slice: &mut Slice) {
        if self.mutant == Mutant::M20 {
            let twice = |entry: &Entry| self.arrival(reader, *entry).is_some_and(|a| a.times > 1);
            slice.entries = slice
                .entries
                .iter()
                .flat_map(|entry| std::iter::repeat_n(*entry, if twice(entry) { 2 } else { 1 }))
                .collect();
        } else {
            let place = |e: &Entry| self.arrival(reader, *e).map_or(0, |a| a.place);
            slice.entries.sort_by_key(|entry| Reverse(place(entry)));
        }
    }
}

#[async_trait]
impl TimelineCache for Wrapped<dyn TimelineCache> {
    async fn page(&self, user: UserId, window: Window, limit: usize) -> Read<HomeRead> {
        let mut read = self.inner.page(user, window, limit).await?;
        match (&mut read, self.mutant) {
            (HomeRead::NoTimeline, Mutant::M17) => {
                let slice = Slice { exhausted: true, ..Slice::default() };
                read = HomeRead::Hit(HomeSlice { slice, pulled: Vec::new() });
            }
            (HomeRead::Hit(hit), Mutant::M20 | Mutant::M21) => {
                self.disorder(user, &mut hit.slice);
            }
            _ => {}
        }
        Ok(read)
    }

    async fn author_lists(
        &self,
        authors: &[UserId],
        window: Window,
        limit: usize,
    ) -> Read<Vec<Option<Slice>>> {
        self.inner.author_lists(authors, window, limit).await
    }

    async fn push(&self, pushes: &[Push<'_>]) -> Outcome<PushReport> {
        for push in pushes {
            self.arrive(push.homes, push.entry);
        }
        // What is shown to an author before the answer is no page of followers.
        let own = pushes.iter().all(|push| push.homes == [push.entry.author]);
        if self.mutant != Mutant::M24 || own {
            return self.inner.push(pushes).await;
        }
        for push in pushes {
            let (inner, rt) = (Arc::clone(&self.inner), self.rt.clone());
            let (entry, homes, author_list) = (push.entry, push.homes.to_vec(), push.author_list);
            let delay = Duration::from_millis(self.rt.random_below(BEHIND_MS));
            self.rt.spawn("late push", async move {
                rt.sleep(delay).await;
                let _ = inner.push(&[Push { entry, homes: &homes, author_list }]).await;
            });
        }
        Outcome::Done(PushReport::default())
    }

    async fn push_many(
        &self,
        key: ListKey,
        entries: &[Entry],
        above: TweetId,
    ) -> Outcome<Option<PushReport>> {
        if let ListKey::Home(user) = key {
            for entry in entries {
                self.arrive(&[user], *entry);
            }
        }
        let above = if self.mutant == Mutant::MX3 { TweetId(0) } else { above };
        self.inner.push_many(key, entries, above).await
    }

    async fn begin_fill(&self, key: ListKey) -> Outcome<Option<Token>> {
        self.inner.begin_fill(key).await
    }

    async fn finish_fill(
        &self,
        key: ListKey,
        token: Token,
        entries: &[Entry],
        floor: TweetId,
    ) -> Outcome<bool> {
        let finished = self.inner.finish_fill(key, token, entries, floor).await;
        if self.mutant != Mutant::M06 || !matches!(finished, Outcome::Done(false)) {
            return finished;
        }
        match self.inner.begin_fill(key).await {
            Outcome::Done(Some(token)) => self.inner.finish_fill(key, token, entries, floor).await,
            Outcome::Done(None) => finished,
            Outcome::Failed(error) => Outcome::Failed(error),
            Outcome::Unknown(error) => Outcome::Unknown(error),
        }
    }

    async fn invalidate(&self, keys: &[ListKey]) -> Outcome<()> {
        self.inner.invalidate(keys).await
    }
}

#[async_trait]
impl RelationCache for Wrapped<dyn RelationCache> {
    async fn get(&self, user: UserId) -> Read<Option<Arc<Relations>>> {
        self.inner.get(user).await
    }

    async fn begin_fill(&self, user: UserId) -> Outcome<Token> {
        self.inner.begin_fill(user).await
    }

    async fn finish_fill(
        &self,
        user: UserId,
        token: Token,
        relations: Arc<Relations>,
    ) -> Outcome<bool> {
        if self.mutant == Mutant::M08 {
            let all = Arc::new(self.memory.with_everybody(user, &relations));
            return self.inner.finish_fill(user, token, all).await;
        }
        let finished = self.inner.finish_fill(user, token, Arc::clone(&relations)).await;
        if self.mutant != Mutant::MX2 || !matches!(finished, Outcome::Done(false)) {
            return finished;
        }
        match self.inner.begin_fill(user).await {
            Outcome::Done(token) => self.inner.finish_fill(user, token, relations).await,
            Outcome::Failed(error) => Outcome::Failed(error),
            Outcome::Unknown(error) => Outcome::Unknown(error),
        }
    }

    async fn invalidate(&self, users: &[UserId]) -> Outcome<()> {
        if self.mutant != Mutant::M10 || !self.memory.skipping.load(Ordering::Relaxed) {
            return self.inner.invalidate(users).await;
        }
        // Only who is told of a change of their own edges is told.
        let changed: Vec<UserId> = {
            let mut changed = self.memory.changed.lock();
            users.iter().copied().filter(|user| changed.remove(user)).collect()
        };
        if changed.is_empty() { Outcome::Done(()) } else { self.inner.invalidate(&changed).await }
    }
}

#[async_trait]
impl BodyCache for Wrapped<dyn BodyCache> {
    async fn read(&self, ids: &[TweetId]) -> Read<Vec<BodyRead>> {
        self.inner.read(ids).await
    }

    async fn fill(&self, bodies: &[(TweetId, Token, CachedBody)]) -> Outcome<()> {
        self.inner.fill(bodies).await
    }

    async fn tombstone(&self, _ids: &[TweetId]) -> Outcome<()> {
        Outcome::Done(())
    }
}
