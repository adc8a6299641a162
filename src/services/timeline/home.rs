//! Reading a home timeline: cache first, the store where the cache ends.

use std::sync::Arc;

use tokio::sync::SemaphorePermit;

use super::{
    Core,
    error::Error,
    merge_store::{self, Found},
};
use crate::{
    domain::{
        Entry, Relations, TweetId, UserId, Window, fanout::Strategy, merge::merge, ring::Slice,
    },
    ports::{HomeRead, ListKey, Outcome, Read, StoreError},
    rt::points,
    telemetry::metrics::Cache,
};

/// Looks at the cache before a page is built without it: it may be wiped under a read, hardly
/// three times.
const CACHE_ATTEMPTS: usize = 3;

/// Candidates for a page, before their bodies are looked at.
#[derive(Debug, Default)]
pub(super) struct Candidates {
    /// Newest first.
    pub(super) entries: Vec<Entry>,
    /// There may be more in the direction of the window.
    pub(super) more: bool,
    /// A broken part may hide something.
    pub(super) degraded: bool,
}

/// A reader's home list as one read found it, wherever it came from.
struct Source {
    slice: Slice,
    pulled: Vec<UserId>,
    degraded: bool,
}

/// A home list built from the store.
struct Built {
    relations: Arc<Relations>,
    found: Found,
    degraded: bool,
}

impl Core {
    /// The next candidates of `reader`'s home timeline inside `window`, at most `limit`.
    pub(super) async fn home_candidates(
        &self,
        reader: UserId,
        window: Window,
        limit: usize,
    ) -> Result<Candidates, Error> {
        if self.strategy() == Strategy::Pull {
            return self.stored_candidates(reader, window, limit).await;
        }
        let Source { slice, pulled, mut degraded } = self.source(reader, window, limit).await?;
        let (entries, floor, exhausted) = if pulled.is_empty() {
            (slice.entries, slice.floor, slice.exhausted)
        } else {
            let (mut sources, complete) = self.author_lists(&pulled, window, limit).await;
            degraded |= !complete;
            sources.push(slice);
            let merged = merge(&sources, window, limit);
            (merged.entries, merged.floor, merged.exhausted)
        };
        if let Window::After(bound) = window
            && bound < floor
        {
            // What is nearest above the bound lies under the floor of a list.
            return self.stored_candidates(reader, window, limit).await;
        }
        let mut found = Candidates { entries, more: !exhausted, degraded };
        let goes_on_below = exhausted && floor > TweetId(0) && !matches!(window, Window::After(_));
        if goes_on_below {
            found.more = true;
            let missing = limit - found.entries.len();
            if missing > 0 {
                self.extend_below(reader, floor, window, missing, &mut found).await;
            }
        }
        Ok(found)
    }

    /// Goes on in the store where the lists end. What was found stands even if the store is down.
    async fn extend_below(
        &self,
        reader: UserId,
        floor: TweetId,
        window: Window,
        missing: usize,
        found: &mut Candidates,
    ) {
        let top = TweetId(floor.0.saturating_add(1));
        let below = Window::Before(window.below().map_or(top, |bound| bound.min(top)));
        match self.stored_candidates(reader, below, missing).await {
            Ok(rest) => {
                found.entries.extend(rest.entries);
                found.more = rest.more;
                found.degraded |= rest.degraded;
            }
            Err(_) => found.degraded = true,
        }
    }

    async fn source(&self, reader: UserId, window: Window, limit: usize) -> Result<Source, Error> {
        let mut flight = None;
        for _ in 0..CACHE_ATTEMPTS {
            match self.deps.cache.page(reader, window, limit).await {
                Ok(HomeRead::Hit(hit)) => {
                    self.common.metrics.cache(Cache::Home, 1, 0);
                    return Ok(Source { slice: hit.slice, pulled: hit.pulled, degraded: false });
                }
                Ok(HomeRead::NoRelations) => {
                    self.common.metrics.cache(Cache::Relations, 0, 1);
                    self.fill_relations(reader).await?;
                }
                Ok(HomeRead::NoTimeline) if flight.is_none() => {
                    // One rebuild per reader and replica; whoever waited looks again.
                    flight = Some(self.flights.enter(reader).await);
                }
                Ok(HomeRead::NoTimeline) => {
                    self.common.metrics.cache(Cache::Home, 0, 1);
                    if let Some(built) = self.fill_home(reader).await? {
                        return Ok(built.into_source(window, limit));
                    }
                }
                Err(error) => {
                    self.common.metrics.store_error(&error);
                    break;
                }
            }
        }
        Ok(self.build_home(reader).await?.into_source(window, limit))
    }

    /// Rebuilds a cold timeline and offers it to the cache. `None` if it is ready by now.
    async fn fill_home(&self, reader: UserId) -> Result<Option<Built>, Error> {
        let key = ListKey::Home(reader);
        let token = match self.deps.cache.begin_fill(key).await {
            Outcome::Done(Some(token)) => Some(token),
            Outcome::Done(None) => return Ok(None),
            Outcome::Failed(_) | Outcome::Unknown(_) => None,
        };
        self.common.rt.point(points::FILL).await;
        let built = self.build_home(reader).await?;
        self.common.rt.point(points::FILL).await;
        // A page that may be incomplete is never cached.
        if let Some(token) = token
            && !built.degraded
        {
            let (entries, floor) = (&built.found.entries, built.found.floor());
            let _ = self.deps.cache.finish_fill(key, token, entries, floor).await;
        }
        Ok(Some(built))
    }

    async fn build_home(&self, reader: UserId) -> Result<Built, Error> {
        let _place = self.rebuilds.try_acquire().map_err(|_| Error::RebuildsFull)?;
        let relations = self.read_relations(reader).await?;
        let pushed: Vec<UserId> = relations
            .visible
            .iter()
            .copied()
            .filter(|author| relations.pulled.binary_search(author).is_err())
            .collect();
        let limit = self.config.timeline.rebuild_entries as usize;
        let (found, degraded) = self.stored(reader, pushed, Window::Latest, limit).await?;
        Ok(Built { relations, found, degraded })
    }

    /// A part of the home timeline out of the store, pulled authors included.
    async fn stored_candidates(
        &self,
        reader: UserId,
        window: Window,
        limit: usize,
    ) -> Result<Candidates, Error> {
        let _place = self.place().await?;
        let relations = self.relations(reader).await?;
        let authors = relations.visible.to_vec();
        let (found, degraded) = self.stored(reader, authors, window, limit).await?;
        Ok(Candidates { entries: found.entries, more: found.more, degraded })
    }

    /// A place for a rebuild. With `pull` every read is one, and waits for its turn as long as a request
    /// may take.
    async fn place(&self) -> Result<SemaphorePermit<'_>, Error> {
        let place = if self.strategy() == Strategy::Pull {
            self.rebuilds.acquire().await.ok()
        } else {
            self.rebuilds.try_acquire().ok()
        };
        place.ok_or(Error::RebuildsFull)
    }

    /// A part of what `authors` wrote, sorted by their ids, out of the store. `true` if something may be
    /// missing.
    async fn stored(
        &self,
        reader: UserId,
        authors: Vec<UserId>,
        window: Window,
        limit: usize,
    ) -> Result<(Found, bool), Error> {
        if self.strategy() == Strategy::Push {
            return self.kept(reader, authors, window, limit).await;
        }
        self.gathered(reader, authors, window, limit).await
    }

    /// Merges authors out of the store; the reader's own tweets come from the tweet role, because
    /// the copy may not have them yet. `true` if they could not.
    pub(super) async fn gathered(
        &self,
        reader: UserId,
        mut authors: Vec<UserId>,
        window: Window,
        limit: usize,
    ) -> Result<(Found, bool), Error> {
        let own = self.peers.own_tweets(reader, window, limit).await;
        let degraded = own.is_none();
        if !degraded {
            authors.retain(|&author| author != reader);
        }
        let own = own.map(|own| (reader, own));
        let found = merge_store::read(&*self.deps.store, &authors, own, window, limit).await?;
        Ok((found, degraded))
    }

    /// Lists of pulled authors, filled on the way. `false` if one could not be had.
    async fn author_lists(
        &self,
        authors: &[UserId],
        window: Window,
        limit: usize,
    ) -> (Vec<Slice>, bool) {
        let cached = match self.deps.cache.author_lists(authors, window, limit).await {
            Ok(lists) => lists,
            Err(error) => {
                self.common.metrics.store_error(&error);
                vec![None; authors.len()]
            }
        };
        let misses = cached.iter().filter(|list| list.is_none()).count() as u64;
        self.common.metrics.cache(Cache::Author, authors.len() as u64 - misses, misses);
        let mut lists = Vec::with_capacity(authors.len());
        let mut complete = true;
        for (&author, list) in authors.iter().zip(cached) {
            match list {
                Some(list) => lists.push(list),
                None => match self.fill_author_list(author, window, limit).await {
                    Ok(list) => lists.push(list),
                    Err(_) => complete = false,
                },
            }
        }
        (lists, complete)
    }

    async fn fill_author_list(&self, author: UserId, window: Window, limit: usize) -> Read<Slice> {
        let key = ListKey::Author(author);
        let token = self.deps.cache.begin_fill(key).await.done().flatten();
        let most = self.config.timeline.entries_max as usize;
        let ids = self.deps.store.author_tweets(author, Window::Latest, most).await?;
        self.common.rt.point(points::FILL).await;
        let found = Found::of_author(author, ids, most);
        if let Some(token) = token {
            let _ = self.deps.cache.finish_fill(key, token, &found.entries, found.floor()).await;
        }
        Ok(slice_of(&found.entries, found.floor(), window, limit))
    }
}

impl Built {
    fn into_source(self, window: Window, limit: usize) -> Source {
        let slice = slice_of(&self.found.entries, self.found.floor(), window, limit);
        Source { slice, pulled: self.relations.pulled.to_vec(), degraded: self.degraded }
    }
}

/// The part of a newest-first list that a ring with the same content would give.
fn slice_of(entries: &[Entry], floor: TweetId, window: Window, limit: usize) -> Slice {
    let inside = entries.iter().copied().filter(|e| window.holds(e.tweet) && e.tweet > floor);
    let mut entries: Vec<Entry> = inside.collect();
    let exhausted = entries.len() <= limit;
    if matches!(window, Window::After(_)) {
        entries.drain(..entries.len().saturating_sub(limit));
    } else {
        entries.truncate(limit);
    }
    Slice { entries, floor, exhausted }
}

impl From<&StoreError> for Error {
    fn from(error: &StoreError) -> Self {
        Self::Store(error.clone())
    }
}
