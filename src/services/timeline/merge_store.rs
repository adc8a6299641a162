//! Reading timelines out of the store: a newest-first merge of authors' partitions.
//!
//! An author's partition is read only when it can matter: a heap holds, per author, the next known
//! tweet or else an upper bound, first the author's `latest`. A reader with 2,000 followees needs
//! some 20 to 40 partition reads for a page, not 2,000.

use std::collections::{BinaryHeap, VecDeque};

use futures_util::{StreamExt, TryStreamExt, stream};

use crate::{
    domain::{Entry, TweetId, UserId, Window, merge::merge, ring::Slice},
    ports::{Read, TimelineStore, timeline_store::IDS_MAX},
};

/// Ids read from one author's partition at once: a page and a little more.
const PARTITION_READ: usize = 32;
/// Partitions read side by side for the nearest tweets above a bound.
const PARTITIONS_AT_ONCE: usize = 16;

/// The reader's own tweets, which are taken from the tweet role and not from the store.
#[derive(Debug, Default)]
pub(super) struct Own {
    /// Newest first, inside the window.
    pub(super) ids: Vec<TweetId>,
    /// There is nothing more in the direction of the window.
    pub(super) exhausted: bool,
}

impl Own {
    /// The same as a source to merge.
    pub(super) fn slice(self, author: UserId) -> Slice {
        let entries = self.ids.into_iter().map(|tweet| Entry { tweet, author }).collect();
        Slice { entries, floor: TweetId(0), exhausted: self.exhausted }
    }
}

/// What a merge found.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    /// Newest first, no gap between them.
    pub(super) entries: Vec<Entry>,
    /// There may be more in the direction of the window.
    pub(super) more: bool,
}

impl Found {
    /// The newest tweets of one author, newest first, of which at most `most` were asked for.
    pub(super) fn of_author(author: UserId, ids: Vec<TweetId>, most: usize) -> Self {
        let more = ids.len() == most;
        Self { entries: ids.into_iter().map(|tweet| Entry { tweet, author }).collect(), more }
    }

    /// The id above which the entries are complete; 0 if they are complete for ever.
    pub(super) fn floor(&self) -> TweetId {
        match self.entries.last() {
            Some(last) if self.more => TweetId(last.tweet.0.saturating_sub(1)),
            // Nothing was found although there may be something: nothing is vouched for.
            None if self.more => TweetId::MAX,
            _ => TweetId(0),
        }
    }
}

/// One author's tweets, as far as they have been read.
struct Source {
    author: UserId,
    buffer: VecDeque<TweetId>,
    more: bool,
    /// Not in the store: when the buffer is used up there is nothing to vouch for the rest.
    fixed: bool,
}

/// Merges the tweets of `authors` and of `own` (with its user) inside `window`.
pub(super) async fn read(
    store: &dyn TimelineStore,
    authors: &[UserId],
    own: Option<(UserId, Own)>,
    window: Window,
    limit: usize,
) -> Read<Found> {
    match window {
        Window::After(bound) => nearest_above(store, authors, own, bound, limit).await,
        Window::Latest | Window::Before(_) => newest(store, authors, own, window, limit).await,
    }
}

async fn newest(
    store: &dyn TimelineStore,
    authors: &[UserId],
    own: Option<(UserId, Own)>,
    window: Window,
    limit: usize,
) -> Read<Found> {
    let bound = window.below().map_or(TweetId::MAX, |b| TweetId(b.0.saturating_sub(1)));
    let mut sources = Vec::with_capacity(authors.len() + 1);
    // Ordered by id; of equal ids the read one comes first.
    let mut heap = BinaryHeap::with_capacity(authors.len() + 1);
    for (author, latest) in latest_of(store, authors).await? {
        let upper = latest.min(bound);
        if upper > TweetId(0) {
            heap.push((upper, false, sources.len()));
            sources.push(Source { author, buffer: VecDeque::new(), more: true, fixed: false });
        }
    }
    if let Some((author, own)) = own {
        let mut source =
            Source { author, buffer: own.ids.into(), more: !own.exhausted, fixed: true };
        if let Some(first) = source.buffer.pop_front() {
            heap.push((first, true, sources.len()));
            sources.push(source);
        }
    }
    let mut found = Found::default();
    while let Some((id, known, at)) = heap.pop() {
        if found.entries.len() == limit {
            found.more = true;
            break;
        }
        let source = &mut sources[at];
        if known {
            found.entries.push(Entry { tweet: id, author: source.author });
        } else {
            let below = Window::Before(TweetId(id.0 + 1));
            let ids = store.author_tweets(source.author, below, PARTITION_READ).await?;
            source.more = ids.len() == PARTITION_READ;
            source.buffer = ids.into();
        }
        match source.buffer.pop_front() {
            Some(next) => heap.push((next, true, at)),
            None if source.fixed && source.more => {
                found.more = true;
                break;
            }
            None if known && source.more => heap.push((TweetId(id.0 - 1), false, at)),
            None => {}
        }
    }
    Ok(found)
}

async fn nearest_above(
    store: &dyn TimelineStore,
    authors: &[UserId],
    own: Option<(UserId, Own)>,
    bound: TweetId,
    limit: usize,
) -> Read<Found> {
    let window = Window::After(bound);
    let fresh: Vec<UserId> = latest_of(store, authors)
        .await?
        .into_iter()
        .filter_map(|(author, latest)| (latest > bound).then_some(author))
        .collect();
    let slice = |author: UserId, ids: Vec<TweetId>, exhausted: bool| Slice {
        entries: ids.into_iter().map(|tweet| Entry { tweet, author }).collect(),
        floor: TweetId(0),
        exhausted,
    };
    let mut slices: Vec<Slice> = stream::iter(fresh)
        .map(|author| async move {
            let ids = store.author_tweets(author, window, limit).await?;
            let exhausted = ids.len() < limit;
            Ok(slice(author, ids, exhausted))
        })
        .buffered(PARTITIONS_AT_ONCE)
        .try_collect()
        .await?;
    if let Some((author, own)) = own {
        slices.push(own.slice(author));
    }
    let merged = merge(&slices, window, limit);
    Ok(Found { entries: merged.entries, more: !merged.exhausted })
}

async fn latest_of(store: &dyn TimelineStore, authors: &[UserId]) -> Read<Vec<(UserId, TweetId)>> {
    let mut all = Vec::with_capacity(authors.len());
    for ids in authors.chunks(IDS_MAX) {
        let rows = store.authors(ids).await?;
        all.extend(ids.iter().copied().zip(rows.into_iter().map(|row| row.latest)));
    }
    Ok(all)
}

#[cfg(test)]
#[path = "merge_store_tests.rs"]
mod tests;
