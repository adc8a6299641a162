//! Bodies for a page: near, shared cache, store; for one's own tweets the tweet role at last.

use std::time::Duration;

use bytes::Bytes;

use super::Core;
use crate::{
    domain::{Body, Entry, TweetId, UserId},
    ports::{BodyRead, CachedBody, StoredBody, timeline_store::IDS_MAX},
    telemetry::metrics::Cache,
    wire::api::tweet_json,
};

/// Pause before the one retry for a body that no store knows: its write is on the way.
const UNKNOWN_RETRY: Duration = Duration::from_millis(20);

/// What is known of one candidate.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Known {
    /// The JSON to show.
    Live(Bytes),
    /// Deleted: to be skipped.
    Deleted,
    /// Nobody knows it.
    Nothing,
}

/// A tweet as it is put into a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Shown {
    pub(super) id: TweetId,
    pub(super) json: Bytes,
}

impl AsRef<[u8]> for Shown {
    fn as_ref(&self) -> &[u8] {
        &self.json
    }
}

/// Candidates with what is shown of them.
#[derive(Debug, Default)]
pub(super) struct Hydrated {
    /// The tweets to show, in the order of the candidates; skipped ones left out.
    pub(super) shown: Vec<Shown>,
    /// Something is known to be there and could not be shown.
    pub(super) degraded: bool,
}

impl Core {
    /// The bodies of `entries` for `reader`. What is deleted is skipped; what nobody knows is
    /// skipped too, and makes the page degraded.
    pub(super) async fn hydrate(&self, reader: UserId, entries: &[Entry]) -> Hydrated {
        let ids: Vec<TweetId> = entries.iter().map(|entry| entry.tweet).collect();
        let mut cached = match self.deps.bodies.read(&ids).await {
            Ok(cached) => cached,
            Err(error) => {
                self.common.metrics.store_error(&error);
                vec![BodyRead::Miss(None); ids.len()]
            }
        };
        let missing: Vec<usize> =
            (0..ids.len()).filter(|&at| matches!(cached[at], BodyRead::Miss(_))).collect();
        let misses = missing.len() as u64;
        self.common.metrics.cache(Cache::Body, ids.len() as u64 - misses, misses);
        let mut degraded = false;
        if !missing.is_empty() {
            let wanted: Vec<Entry> = missing.iter().map(|&at| entries[at]).collect();
            let mut known = self.stored_bodies(&wanted).await;
            self.find_unknown(reader, &wanted, &mut known).await;
            let mut fills = Vec::with_capacity(missing.len());
            for (&at, known) in missing.iter().zip(known) {
                let body = match known {
                    Known::Live(json) => CachedBody::Live(json),
                    Known::Deleted => CachedBody::Deleted,
                    Known::Nothing => {
                        degraded = true;
                        continue;
                    }
                };
                if let BodyRead::Miss(Some(token)) = cached[at] {
                    fills.push((ids[at], token, body.clone()));
                }
                cached[at] = BodyRead::Hit(body);
            }
            if !fills.is_empty() {
                // Not filled means that the next reader does it.
                let _ = self.deps.bodies.fill(&fills).await;
            }
        }
        let shown = cached
            .into_iter()
            .zip(ids)
            .filter_map(|(body, id)| match body {
                BodyRead::Hit(CachedBody::Live(json)) => Some(Shown { id, json }),
                BodyRead::Hit(CachedBody::Deleted) | BodyRead::Miss(_) => None,
            })
            .collect();
        Hydrated { shown, degraded }
    }

    /// A body as pages and caches hold it.
    fn json(&self, body: &Body) -> Bytes {
        tweet_json(body, &self.config.media.base_url).into()
    }

    async fn stored_bodies(&self, wanted: &[Entry]) -> Vec<Known> {
        let mut known = Vec::with_capacity(wanted.len());
        for entries in wanted.chunks(IDS_MAX) {
            let ids: Vec<TweetId> = entries.iter().map(|entry| entry.tweet).collect();
            match self.deps.store.bodies(&ids).await {
                Ok(bodies) => known.extend(bodies.into_iter().map(|body| match body {
                    Some(StoredBody::Live(body)) => Known::Live(self.json(&body)),
                    Some(StoredBody::Deleted) => Known::Deleted,
                    None => Known::Nothing,
                })),
                Err(error) => {
                    self.common.metrics.store_error(&error);
                    known.resize(known.len() + ids.len(), Known::Nothing);
                }
            }
        }
        known
    }

    /// One's own tweets are asked of the tweet role; for the others the store is asked once more.
    async fn find_unknown(&self, reader: UserId, wanted: &[Entry], known: &mut [Known]) {
        let nothing = |known: &[Known], own: bool| -> Vec<usize> {
            (0..wanted.len())
                .filter(|&at| known[at] == Known::Nothing && (wanted[at].author == reader) == own)
                .collect()
        };
        let own = nothing(known, true);
        if !own.is_empty() {
            let ids: Vec<TweetId> = own.iter().map(|&at| wanted[at].tweet).collect();
            if let Some(bodies) = self.peers.own_bodies(reader, &ids).await {
                for (&at, body) in own.iter().zip(bodies) {
                    // The tweet role knows every tweet: what it does not give is deleted.
                    known[at] = body.map_or(Known::Deleted, |b| Known::Live(self.json(&b)));
                }
            }
        }
        let others = nothing(known, false);
        if !others.is_empty() {
            self.common.rt.sleep(UNKNOWN_RETRY).await;
            let again: Vec<Entry> = others.iter().map(|&at| wanted[at]).collect();
            for (at, found) in others.into_iter().zip(self.stored_bodies(&again).await) {
                known[at] = found;
            }
        }
    }
}
