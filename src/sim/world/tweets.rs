//! Tweets, their idempotency keys and outbox rows: one transaction is one step.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;

use super::{State, link::Link, media::Uploads};
use crate::{
    domain::{Body, TweetId, UserId, Window},
    ports::{Created, Deleted, NewTweet, Outcome, Read, TweetStore, tweets::KEY_TTL_MS},
    wire::{
        events::{Event, Fact},
        trace::TraceContext,
    },
};

/// A tweet's row, as checkers see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TweetRow {
    /// The tweet.
    pub body: Body,
    /// When it was deleted, if it was.
    pub deleted_at_ms: Option<u64>,
}

struct Key {
    body_hash: [u8; 32],
    tweet: TweetId,
    created_at_ms: u64,
}

/// The tweet role's tables.
#[derive(Default)]
pub(super) struct Tweets {
    pub(super) rows: BTreeMap<TweetId, TweetRow>,
    authors: BTreeMap<UserId, BTreeSet<TweetId>>,
    keys: BTreeMap<(UserId, String), Key>,
}

impl Tweets {
    fn create(&mut self, uploads: &mut Uploads, tweet: &NewTweet) -> Created {
        let (author, now_ms) = (tweet.body.author, tweet.body.created_at_ms);
        if let Some(asked) = &tweet.key
            && let Some(known) = self.keys.get(&(author, asked.key.clone()))
            && known.created_at_ms + KEY_TTL_MS > now_ms
        {
            return if known.body_hash == asked.body_hash {
                Created::Replay(self.rows[&known.tweet].body.clone())
            } else {
                Created::KeyReused
            };
        }
        let media = match uploads.take(tweet) {
            Ok(media) => media,
            Err((id, why)) => return Created::Unfit(id, why),
        };
        let own = self.authors.entry(author).or_default();
        let above = own.last().map_or(TweetId(0), |last| TweetId(last.0 + 1));
        let id = tweet.body.id.max(above);
        if self.rows.contains_key(&id) {
            return Created::IdTaken;
        }
        own.insert(id);
        let body = Body { id, media, ..tweet.body.clone() };
        uploads.give(&body);
        self.rows.insert(id, TweetRow { body: body.clone(), deleted_at_ms: None });
        if let Some(asked) = &tweet.key {
            let key = Key { body_hash: asked.body_hash, tweet: id, created_at_ms: now_ms };
            self.keys.insert((author, asked.key.clone()), key);
        }
        Created::Fresh(body)
    }

    /// Whether the tweet is deleted.
    pub(super) fn is_deleted(&self, id: TweetId) -> bool {
        self.rows.get(&id).is_some_and(|row| row.deleted_at_ms.is_some())
    }

    fn delete(&mut self, author: UserId, id: TweetId, now_ms: u64) -> Deleted {
        match self.rows.get_mut(&id) {
            None => Deleted::Missing,
            Some(row) if row.body.author != author => Deleted::NotOwner,
            Some(row) => {
                let fresh = row.deleted_at_ms.is_none();
                row.deleted_at_ms.get_or_insert(now_ms);
                Deleted::Gone { fresh }
            }
        }
    }

    fn by_author(&self, author: UserId, window: Window, limit: usize) -> Vec<Body> {
        let live = |id: &TweetId| {
            let row = &self.rows[id];
            (window.holds(*id) && row.deleted_at_ms.is_none()).then(|| row.body.clone())
        };
        let ids = self.authors.get(&author).into_iter().flatten();
        nearest(ids.filter_map(live), window, limit)
    }
}

/// Of ascending `items` those nearest to the window's bound, at most `limit`, newest first.
pub(super) fn nearest<T>(
    items: impl DoubleEndedIterator<Item = T>,
    window: Window,
    limit: usize,
) -> Vec<T> {
    if matches!(window, Window::After(_)) {
        let mut up: Vec<T> = items.take(limit).collect();
        up.reverse();
        up
    } else {
        items.rev().take(limit).collect()
    }
}

/// Tweets at one node.
pub(super) struct SimTweets(pub(super) Link);

#[async_trait]
impl TweetStore for SimTweets {
    async fn create(&self, tweet: &NewTweet) -> Outcome<Created> {
        let asked = tweet.clone();
        let seq = self.0.begin(|state| &mut state.tweet_outbox).await;
        let create = move |state: &mut State, _| {
            let State { tweets, uploads, .. } = state;
            let created = tweets.create(uploads, &asked);
            if let Created::Fresh(body) = &created {
                state.tweet_outbox.add(seq, &Event::tweet_created(body, asked.trace));
            }
            Ok(created)
        };
        let key = tweet.key.as_ref().map(|key| &key.key);
        self.0.write("create", (tweet.body.author, tweet.body.id, key), create).await
    }

    async fn delete(
        &self,
        author: UserId,
        id: TweetId,
        now_ms: u64,
        trace: Option<TraceContext>,
    ) -> Outcome<Deleted> {
        let seq = self.0.begin(|state| &mut state.tweet_outbox).await;
        let delete = move |state: &mut State, _| {
            let deleted = state.tweets.delete(author, id, now_ms);
            if deleted == (Deleted::Gone { fresh: true }) {
                state.uploads.end(id, now_ms);
                let fact = Fact::TweetDeleted { id, author };
                state.tweet_outbox.add(seq, &Event { at_ms: now_ms, trace, fact });
            }
            Ok(deleted)
        };
        self.0.write("delete", (author, id), delete).await
    }

    async fn by_author(&self, author: UserId, window: Window, limit: usize) -> Read<Vec<Body>> {
        let look = move |state: &mut State, _| Ok(state.tweets.by_author(author, window, limit));
        self.0.read("by_author", (author, window, limit), look).await
    }
}
