//! A page: candidates and their bodies, until it is full or there is nothing more.

use super::{Core, error::Error, home::Candidates, hydrate::Shown, merge_store};
use crate::{
    domain::{Entry, TweetId, UserId, Window},
    wire::api::page_json,
};

/// A page before it is written.
#[derive(Debug, Default)]
pub(super) struct Page {
    /// The tweets, newest first.
    pub(super) shown: Vec<Shown>,
    /// Every candidate that was looked at, newest first.
    pub(super) looked_at: Vec<TweetId>,
    /// Cursor for the next older page.
    pub(super) next: Option<TweetId>,
    /// Cursor for what is newer.
    pub(super) prev: Option<TweetId>,
    /// Something may be missing.
    pub(super) degraded: bool,
}

impl Page {
    /// The page's JSON.
    pub(super) fn json(&self) -> Vec<u8> {
        page_json(&self.shown, self.next, self.prev, self.degraded)
    }
}

/// Which list is paged.
#[derive(Clone, Copy, Debug)]
pub(super) enum List {
    /// The reader's home timeline.
    Home,
    /// The tweets of an author.
    Author(UserId),
}

impl Core {
    /// A page of `list` for `reader`, at most `limit` tweets. Short only at the end, or after
    /// `candidates_max` candidates (then with a cursor).
    pub(super) async fn page(
        &self,
        reader: UserId,
        list: List,
        window: Window,
        limit: usize,
    ) -> Result<Page, Error> {
        let upward = matches!(window, Window::After(_));
        let most = self.config.timeline.candidates_max as usize;
        let mut page = Page::default();
        let mut from = window;
        loop {
            let missing = limit - page.shown.len();
            let found = self.candidates(reader, list, from, missing).await?;
            page.degraded |= found.degraded;
            let hydrated = self.hydrate(reader, &found.entries).await;
            page.degraded |= hydrated.degraded;
            let ids = found.entries.iter().map(|entry| entry.tweet);
            if upward {
                page.looked_at.splice(0..0, ids);
                page.shown.splice(0..0, hydrated.shown);
            } else {
                page.looked_at.extend(ids);
                page.shown.extend(hydrated.shown);
            }
            let full = page.shown.len() >= limit || page.looked_at.len() >= most;
            if full || !found.more || found.entries.is_empty() {
                let more_below = upward || found.more;
                page.prev = page.looked_at.first().copied();
                page.next = page.looked_at.last().copied().filter(|_| more_below);
                return Ok(page);
            }
            from = match (upward, page.looked_at.first(), page.looked_at.last()) {
                (true, Some(&newest), _) => Window::After(newest),
                (false, _, Some(&oldest)) => Window::Before(oldest),
                _ => return Ok(page),
            };
        }
    }

    async fn candidates(
        &self,
        reader: UserId,
        list: List,
        window: Window,
        limit: usize,
    ) -> Result<Candidates, Error> {
        match list {
            List::Home => self.home_candidates(reader, window, limit).await,
            List::Author(author) => self.author_candidates(reader, author, window, limit).await,
        }
    }

    /// An author's tweets. Authors read their own from the tweet role: they see them at once.
    async fn author_candidates(
        &self,
        reader: UserId,
        author: UserId,
        window: Window,
        limit: usize,
    ) -> Result<Candidates, Error> {
        let mut degraded = false;
        if reader == author {
            if let Some(own) = self.peers.own_tweets(author, window, limit).await {
                let entries = own.ids.into_iter().map(|tweet| Entry { tweet, author }).collect();
                return Ok(Candidates { entries, more: !own.exhausted, degraded });
            }
            degraded = true;
        }
        let found = merge_store::read(&*self.deps.store, &[author], None, window, limit).await?;
        Ok(Candidates { entries: found.entries, more: found.more, degraded })
    }
}
