//! Home timelines and lists of pulled authors: pages, fills and single writes. Fan-out is next door,
//! in `fanout`.

use async_trait::async_trait;

use super::{EmbeddedCache, Second, User, fanout::count, live_user};
use crate::{
    domain::{Entry, Ring, Token, TweetId, UserId, Window, ring::Slice},
    ports::{HomeRead, HomeSlice, ListKey, Outcome, Push, PushReport, Read, TimelineCache},
};

/// The recent tweets of one pulled author.
pub(super) struct AuthorList {
    pub(super) ring: Ring,
    expires: Second,
}

impl User {
    fn ready_timeline(&self) -> Option<&Ring> {
        self.timeline.as_ref().filter(|ring| ring.is_ready())
    }
}

impl EmbeddedCache {
    /// Runs `visit` on a list that exists; reading renews its time to live, writing does not.
    fn with_list<T>(
        &self,
        key: ListKey,
        read: bool,
        visit: impl FnOnce(&mut Ring) -> T,
    ) -> Option<T> {
        let now = self.now();
        match key {
            ListKey::Home(user) => {
                let mut shard = self.users.lock(user.0);
                let slot = live_user(&mut shard, user, now, read)?;
                slot.timeline.as_mut().map(visit)
            }
            ListKey::Author(author) => {
                let mut shard = self.authors.lock(author.0);
                let list = if read { shard.get(author.0) } else { shard.peek(author.0) };
                let list = list.filter(|list| list.expires > now)?;
                if read {
                    list.expires = now.renewed();
                }
                Some(visit(&mut list.ring))
            }
        }
    }

    fn page_of(&self, user: UserId, window: Window, limit: usize) -> HomeRead {
        let now = self.now();
        let mut shard = self.users.lock(user.0);
        let Some(slot) = live_user(&mut shard, user, now, true) else {
            return HomeRead::NoRelations;
        };
        let Some(relations) = slot.relations.as_deref() else {
            return HomeRead::NoRelations;
        };
        let Some(ring) = slot.ready_timeline() else {
            return HomeRead::NoTimeline;
        };
        let slice = ring.slice(window, limit, |entry| relations.sees(entry.author));
        HomeRead::Hit(HomeSlice { slice, pulled: relations.pulled.to_vec() })
    }
}

/// Begins a fill of the list in `place`.
fn begin(place: &mut Option<Ring>, token: Token, entries_max: usize) -> Option<Token> {
    match place {
        Some(ring) if ring.is_ready() => return None,
        Some(ring) => ring.restart_fill(token),
        None => *place = Some(Ring::filling(token, entries_max)),
    }
    Some(token)
}

#[async_trait]
impl TimelineCache for EmbeddedCache {
    async fn page(&self, user: UserId, window: Window, limit: usize) -> Read<HomeRead> {
        Ok(self.page_of(user, window, limit))
    }

    async fn author_lists(
        &self,
        authors: &[UserId],
        window: Window,
        limit: usize,
    ) -> Read<Vec<Option<Slice>>> {
        let slice = |ring: &mut Ring| ring.is_ready().then(|| ring.slice(window, limit, |_| true));
        let list = |&author| self.with_list(ListKey::Author(author), true, slice).flatten();
        Ok(authors.iter().map(list).collect())
    }

    async fn push(&self, pushes: &[Push<'_>]) -> Outcome<PushReport> {
        let mut report = self.push_homes(pushes).await;
        for push in pushes.iter().filter(|push| push.author_list) {
            let key = ListKey::Author(push.entry.author);
            match self.with_list(key, false, |ring| ring.push(push.entry)) {
                Some(what) => count(&mut report, what),
                None => report.absent += 1,
            }
        }
        Outcome::Done(report)
    }

    async fn push_many(
        &self,
        key: ListKey,
        entries: &[Entry],
        above: TweetId,
    ) -> Outcome<Option<PushReport>> {
        let pushed = self.with_list(key, false, |ring| {
            (ring.floor() >= above).then(|| {
                let mut report = PushReport::default();
                for &entry in entries {
                    count(&mut report, ring.push(entry));
                }
                report
            })
        });
        let absent = PushReport { absent: 1, ..PushReport::default() };
        Outcome::Done(pushed.unwrap_or(Some(absent)))
    }

    async fn begin_fill(&self, key: ListKey) -> Outcome<Option<Token>> {
        let token = self.token();
        let max = self.entries_max;
        let begun = match key {
            ListKey::Home(user) => {
                self.with_user(user, |slot| begin(&mut slot.timeline, token, max))
            }
            ListKey::Author(author) => {
                let now = self.now();
                let mut shard = self.authors.lock(author.0);
                if let Some(list) = shard.get(author.0).filter(|list| list.expires > now) {
                    (!list.ring.is_ready()).then(|| list.ring.restart_fill(token)).map(|()| token)
                } else {
                    let ring = Ring::filling(token, max);
                    let list = AuthorList { ring, expires: now.renewed() };
                    shard.insert(author.0, list, |list| list.expires <= now);
                    Some(token)
                }
            }
        };
        Outcome::Done(begun)
    }

    async fn finish_fill(
        &self,
        key: ListKey,
        token: Token,
        entries: &[Entry],
        floor: TweetId,
    ) -> Outcome<bool> {
        let stored = self.with_list(key, true, |ring| {
            let stands = !ring.is_ready() && ring.token() == token;
            if stands {
                ring.finish_fill(entries, floor);
            }
            stands
        });
        Outcome::Done(stored.unwrap_or(false))
    }

    async fn invalidate(&self, keys: &[ListKey]) -> Outcome<()> {
        for &key in keys {
            match key {
                ListKey::Home(user) => {
                    let mut shard = self.users.lock(user.0);
                    let Some(slot) = shard.peek(user.0) else { continue };
                    slot.timeline = None;
                    if slot.is_empty() {
                        shard.remove(user.0);
                    }
                }
                ListKey::Author(author) => drop(self.authors.lock(author.0).remove(author.0)),
            }
        }
        Outcome::Done(())
    }
}
