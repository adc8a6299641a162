//! Home timelines and lists of pulled authors.

use async_trait::async_trait;

use super::{CacheKey, Memory, Value};
use crate::{
    domain::{
        Entry, Ring, Token, TweetId, UserId, Window,
        ring::{Pushed, Slice},
    },
    ports::{HomeRead, HomeSlice, Kind, ListKey, Outcome, Push, PushReport, Read, TimelineCache},
    sim::world::link::{Chance, Link},
};

impl Memory {
    fn list(&self, key: CacheKey) -> Option<&Ring> {
        match self.get(key) {
            Some(Value::List(ring)) => Some(ring),
            _ => None,
        }
    }

    fn list_mut(&mut self, key: CacheKey) -> Option<&mut Ring> {
        match self.get_mut(key) {
            Some(Value::List(ring)) => Some(ring),
            _ => None,
        }
    }

    fn page(&self, user: UserId, window: Window, limit: usize) -> HomeRead {
        let Some(Value::Relations { value: Some(relations), .. }) =
            self.get(CacheKey::Relations(user))
        else {
            return HomeRead::NoRelations;
        };
        let Some(ring) = self.list(CacheKey::Home(user)).filter(|ring| ring.is_ready()) else {
            return HomeRead::NoTimeline;
        };
        let slice = ring.slice(window, limit, |entry| relations.sees(entry.author));
        HomeRead::Hit(HomeSlice { slice, pulled: relations.pulled.to_vec() })
    }

    fn author_list(&self, author: UserId, window: Window, limit: usize) -> Option<Slice> {
        let ring = self.list(CacheKey::Author(author)).filter(|ring| ring.is_ready())?;
        Some(ring.slice(window, limit, |_| true))
    }

    fn push(&mut self, key: CacheKey, entries: &[Entry], report: &mut PushReport) {
        let Some(ring) = self.list_mut(key) else {
            report.absent += 1;
            return;
        };
        for entry in entries {
            match ring.push(*entry) {
                Pushed::Added => report.delivered += 1,
                Pushed::Duplicate | Pushed::UnderFloor => report.repeated += 1,
            }
        }
    }

    fn push_many(
        &mut self,
        key: CacheKey,
        entries: &[Entry],
        above: TweetId,
    ) -> Option<PushReport> {
        if self.list(key).is_some_and(|ring| ring.floor() < above) {
            return None;
        }
        let mut report = PushReport::default();
        self.push(key, entries, &mut report);
        Some(report)
    }

    fn begin_list(&mut self, key: CacheKey) -> Option<Token> {
        if self.list(key).is_some_and(Ring::is_ready) {
            return None;
        }
        let token = self.token();
        let max = self.entries_max;
        match self.list_mut(key) {
            Some(ring) => ring.restart_fill(token),
            None => self.insert(key, Value::List(Ring::filling(token, max))),
        }
        Some(token)
    }

    fn finish_list(
        &mut self,
        key: CacheKey,
        token: Token,
        entries: &[Entry],
        floor: TweetId,
    ) -> bool {
        let stands = self.list(key).is_some_and(|ring| !ring.is_ready() && ring.token() == token);
        if stands && let Some(ring) = self.list_mut(key) {
            ring.finish_fill(entries, floor);
        }
        stands
    }
}

/// Timelines at one node.
pub(in crate::sim::world) struct SimTimelines(pub(in crate::sim::world) Link);

impl SimTimelines {
    /// Pushes, of which only a part may happen.
    async fn deliver(
        &self,
        op: &'static str,
        mut deliveries: Vec<(CacheKey, Vec<Entry>)>,
    ) -> Outcome<PushReport> {
        let count = deliveries.len() as u64;
        let p = self.0.world.knobs().partial;
        let cut = self.0.hit(Chance::Partial, p).filter(|_| count > 1);
        if let Some(size) = cut {
            deliveries.truncate((size % count) as usize);
        }
        let args = format!("{deliveries:?}");
        let push = move |memory: &mut Memory, _| {
            let mut report = PushReport::default();
            for (key, entries) in &deliveries {
                memory.push(*key, entries, &mut report);
            }
            report
        };
        match self.0.fenced(op, args, push).await {
            Outcome::Done(_) if cut.is_some() => {
                self.0.note(op, "only in part");
                Outcome::Unknown(self.0.error(Kind::Timeout, "only in part"))
            }
            outcome => outcome,
        }
    }
}

#[async_trait]
impl TimelineCache for SimTimelines {
    async fn page(&self, user: UserId, window: Window, limit: usize) -> Read<HomeRead> {
        let look = move |memory: &mut Memory, _| memory.page(user, window, limit);
        self.0.look("page", (user, window, limit), look).await
    }

    async fn author_lists(
        &self,
        authors: &[UserId],
        window: Window,
        limit: usize,
    ) -> Read<Vec<Option<Slice>>> {
        let look = |memory: &mut Memory, _| {
            authors.iter().map(|author| memory.author_list(*author, window, limit)).collect()
        };
        self.0.look("author_lists", (authors, window, limit), look).await
    }

    async fn push(&self, pushes: &[Push<'_>]) -> Outcome<PushReport> {
        let mut deliveries = Vec::new();
        for push in pushes {
            let entries = vec![push.entry];
            if push.author_list {
                deliveries.push((CacheKey::Author(push.entry.author), entries.clone()));
            }
            deliveries.extend(push.homes.iter().map(|u| (CacheKey::Home(*u), entries.clone())));
        }
        self.deliver("push", deliveries).await
    }

    async fn push_many(
        &self,
        key: ListKey,
        entries: &[Entry],
        above: TweetId,
    ) -> Outcome<Option<PushReport>> {
        let owned = entries.to_vec();
        let push = move |memory: &mut Memory, _| memory.push_many(key.into(), &owned, above);
        self.0.fenced("push_many", (key, entries, above), push).await
    }

    async fn begin_fill(&self, key: ListKey) -> Outcome<Option<Token>> {
        let begin = move |memory: &mut Memory, _| memory.begin_list(key.into());
        self.0.fenced("begin_fill", key, begin).await
    }

    async fn finish_fill(
        &self,
        key: ListKey,
        token: Token,
        entries: &[Entry],
        floor: TweetId,
    ) -> Outcome<bool> {
        let owned = entries.to_vec();
        let finish =
            move |memory: &mut Memory, _| memory.finish_list(key.into(), token, &owned, floor);
        self.0.fenced("finish_fill", (key, token, entries, floor), finish).await
    }

    async fn invalidate(&self, keys: &[ListKey]) -> Outcome<()> {
        let owned = keys.to_vec();
        let drop_all = move |memory: &mut Memory, _| {
            for key in owned {
                memory.remove(key.into());
            }
        };
        self.0.fenced("invalidate", keys, drop_all).await
    }
}
