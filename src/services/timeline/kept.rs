//! Durable home timelines, which the strategy `push` keeps.
//!
//! Each is complete down to its floor: the highest of where the strategy began and how deep new followees
//! were given. Entries stay whatever becomes of their authors; the reader's relations decide what is shown,
//! as of every list.

use super::{
    Core,
    error::Error,
    merge_store::{Found, Own},
};
use crate::{
    domain::{Entry, TweetId, UserId, Window, fanout::Strategy, merge::merge, ring::Slice},
    ports::{Read, home_store::HOMES_MAX},
};

/// Entries that are read at once, at least: some are of authors who are not followed any more.
const KEPT_READ: usize = 100;
/// The most such reads for one page.
const KEPT_READS_MAX: usize = 20;

impl Core {
    /// Writes durable home timelines, if the strategy keeps them: before any list, so that a list that is
    /// filled meanwhile has the entry from one or the other.
    pub(super) async fn keep(&self, entry: Entry, homes: &[UserId]) -> Read<()> {
        if self.strategy() != Strategy::Push {
            return Ok(());
        }
        for users in homes.chunks(HOMES_MAX) {
            let rows: Vec<(UserId, Entry)> = users.iter().map(|&user| (user, entry)).collect();
            self.deps.homes.put_homes(&rows).await.certain()?;
        }
        self.common.metrics.kept(homes.len() as u64);
        Ok(())
    }

    /// Gives a follower's durable home timeline, if there is one, tweets of an author. Below them it is
    /// complete no more, as the author may have older ones.
    pub(super) async fn keep_all(&self, follower: UserId, found: &Found) -> Read<()> {
        if self.strategy() != Strategy::Push {
            return Ok(());
        }
        // The floor first: what is shown above it must have no gap at any instant.
        let floor = found.floor();
        if floor > TweetId(0) {
            self.deps.homes.raise_floor(follower, floor).await.certain()?;
        }
        let rows: Vec<(UserId, Entry)> =
            found.entries.iter().map(|&entry| (follower, entry)).collect();
        for rows in rows.chunks(HOMES_MAX) {
            self.deps.homes.put_homes(rows).await.certain()?;
        }
        self.common.metrics.kept(rows.len() as u64);
        Ok(())
    }

    /// A part of the reader's durable home timeline, and under its floor of what `authors` wrote, sorted
    /// by their ids. The reader's own tweets come from the tweet role too, because the copy may not have
    /// them yet.
    pub(super) async fn kept(
        &self,
        reader: UserId,
        authors: Vec<UserId>,
        window: Window,
        limit: usize,
    ) -> Result<(Found, bool), Error> {
        let Some(home) = self.kept_slice(reader, &authors, window, limit).await? else {
            return self.gathered(reader, authors, window, limit).await;
        };
        let floor = home.floor;
        if matches!(window, Window::After(bound) if bound < floor) {
            // What is nearest above the bound lies under the floor.
            return self.gathered(reader, authors, window, limit).await;
        }
        let own = self.peers.own_tweets(reader, window, limit).await;
        let mut degraded = own.is_none();
        let own = own.unwrap_or(Own { ids: Vec::new(), exhausted: true });
        let own = own.slice(reader);
        let merged = merge(&[home, own], window, limit);
        let mut found = Found { entries: merged.entries, more: !merged.exhausted };
        let ends_at_floor = merged.exhausted && floor > TweetId(0);
        if ends_at_floor && !matches!(window, Window::After(_)) {
            found.more = true;
            let missing = limit - found.entries.len();
            if missing > 0 {
                let top = TweetId(floor.0.saturating_add(1));
                let below = Window::Before(window.below().map_or(top, |bound| bound.min(top)));
                // What was found stands even if the store does not give the rest.
                match self.gathered(reader, authors, below, missing).await {
                    Ok((rest, torn)) => {
                        found.entries.extend(rest.entries);
                        found.more = rest.more;
                        degraded |= torn;
                    }
                    Err(_) => degraded = true,
                }
            }
        }
        Ok((found, degraded))
    }

    /// Those entries of the durable home timeline that `authors` wrote; `None` if they are so few among
    /// all that it is no short way to them.
    async fn kept_slice(
        &self,
        reader: UserId,
        authors: &[UserId],
        window: Window,
        limit: usize,
    ) -> Read<Option<Slice>> {
        let upward = matches!(window, Window::After(_));
        let since = self.deps.chosen.since;
        let mut whole = Slice::default();
        let mut from = window;
        for reads in 0.. {
            if reads == KEPT_READS_MAX {
                return Ok(None);
            }
            let part = self.deps.homes.home(reader, from, limit.max(KEPT_READ)).await?;
            whole.floor = whole.floor.max(part.floor).max(since);
            whole.exhausted = part.exhausted;
            let end = if upward { part.entries.first() } else { part.entries.last() };
            let end = end.map(|entry| entry.tweet);
            let shown = |entry: &Entry| {
                entry.tweet > whole.floor && authors.binary_search(&entry.author).is_ok()
            };
            let entries: Vec<Entry> = part.entries.into_iter().filter(shown).collect();
            if upward {
                whole.entries.splice(0..0, entries);
            } else {
                whole.entries.extend(entries);
            }
            let Some(end) = end.filter(|_| !whole.exhausted && whole.entries.len() < limit) else {
                break;
            };
            if end <= whole.floor {
                whole.exhausted = true;
                break;
            }
            from = if upward { Window::After(end) } else { Window::Before(end) };
        }
        if whole.entries.len() > limit {
            whole.exhausted = false;
            if upward {
                whole.entries.drain(..whole.entries.len() - limit);
            } else {
                whole.entries.truncate(limit);
            }
        }
        Ok(Some(whole))
    }
}
