//! Ports behind a circuit. A line per call says how it ends; the rest is [`Circuit`].

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;

use super::Circuit;
use crate::{
    domain::{
        Body, Entry, Handle, MediaId, MediaKind, MediaShape, PairChange, PairState, Relations,
        SessionId, Token, TweetId, UserId, Window, edge::Blocked, fanout::Class,
        relations::Relation, ring::Slice,
    },
    ports::{
        Account, AuthorRow, Begun, BlobStore, BodyCache, BodyRead, Bus, CachedBody, Changed,
        Chosen, Counted, Counts, CreateUser, Created, Deleted, Due, EdgeChange, FollowerPage,
        GraphStore, HomeRead, HomeStore, KeyStore, ListKey, MediaStore, NewTweet, NewUpload,
        NewUser, Outbox, OutboxRow, OutboxStats, Outcome, PasswordHash, Presigned, Push,
        PushReport, Queue, QueueStats, RateLimiter, Read, Receipt, Received, Refresh, RefreshHash,
        RelationCache, Revoked, Seen, SessionRow, StoredBody, StoredKey, Target, TimelineCache,
        TimelineStore, TweetStore, UploadRow, UserStore, Verdict,
    },
    wire::{events::FollowerCursor, trace::TraceContext},
};

/// A port whose calls pass through a circuit.
pub struct Guarded<P: ?Sized> {
    inner: Arc<P>,
    circuit: Arc<Circuit>,
}

impl<P: ?Sized> Guarded<P> {
    /// `inner` behind `circuit`.
    #[must_use]
    pub fn new(inner: Arc<P>, circuit: &Arc<Circuit>) -> Arc<Self> {
        Arc::new(Self { inner, circuit: Arc::clone(circuit) })
    }
}

macro_rules! guard {
    ($port:ident {
        $($how:ident $call:ident($($arg:ident: $type:ty),*) -> $out:ty;)*
    } $(each {
        $($each:ident($to:ident: $to_type:ty, $entries:ident: $entries_type:ty
            $(, $more:ident: $more_type:ty)?);)*
    })?) => {
        #[async_trait]
        impl $port for Guarded<dyn $port> {
            $(async fn $call(&self, $($arg: $type),*) -> $out {
                self.circuit.$how(stringify!($call), self.inner.$call($($arg),*)).await
            })*
            $($(async fn $each(
                &self,
                $to: $to_type,
                $entries: $entries_type
                $(, $more: $more_type)?
            ) -> Vec<Outcome<()>> {
                let work = self.inner.$each($to, $entries $(, $more)?);
                self.circuit.each(stringify!($each), $entries.len(), work).await
            })*)?
        }
    };
}

guard!(UserStore {
    write create_user(user: &NewUser) -> Outcome<CreateUser>;
    read credentials(handle: &Handle) -> Read<Option<(Account, PasswordHash)>>;
    read by_handle(handle: &Handle) -> Read<Option<Account>>;
    read by_id(id: UserId) -> Read<Option<Account>>;
    write create_session(session: &SessionRow) -> Outcome<()>;
    write refresh(old: RefreshHash, new: RefreshHash, now_ms: u64) -> Outcome<Refresh>;
    write revoke(session: SessionId, now_ms: u64) -> Outcome<bool>;
    read revoked_since(since_ms: u64) -> Read<Revoked>;
});

guard!(GraphStore {
    write change(change: &EdgeChange) -> Outcome<Result<Changed, Blocked>>;
    read pair(a: UserId, b: UserId) -> Read<PairState>;
    read counts(user: UserId) -> Read<Counts>;
});

guard!(KeyStore {
    read load() -> Read<Vec<StoredKey>>;
    write replace(before: &[StoredKey], after: &[StoredKey]) -> Outcome<Vec<StoredKey>>;
});

guard!(Outbox {
    write claim(limit: usize, now_ms: u64, lease: Duration) -> Outcome<Vec<OutboxRow>>;
    write mark_sent(seqs: &[u64], now_ms: u64) -> Outcome<()>;
    write release(seqs: &[u64]) -> Outcome<()>;
    write replay(since_ms: u64) -> Outcome<u64>;
    write prune(before_ms: u64) -> Outcome<u64>;
    read stats() -> Read<OutboxStats>;
});

guard!(TweetStore {
    write create(tweet: &NewTweet) -> Outcome<Created>;
    write delete(author: UserId, id: TweetId, now_ms: u64, trace: Option<TraceContext>)
        -> Outcome<Deleted>;
    read by_author(author: UserId, window: Window, limit: usize) -> Read<Vec<Body>>;
});

guard!(MediaStore {
    write begin(new: &NewUpload, unused_max: u64) -> Outcome<Begun>;
    read find(ids: &[MediaId]) -> Read<Vec<Option<UploadRow>>>;
    write checked(id: MediaId, shape: MediaShape) -> Outcome<bool>;
    write due(before_ms: u64, limit: usize) -> Outcome<Vec<Due>>;
    write settle(done: &[Due], before_ms: u64) -> Outcome<()>;
});

guard!(BlobStore {
    read presign(id: MediaId, kind: MediaKind, bytes: u64, ttl: Duration) -> Read<Presigned>;
    read look(id: MediaId) -> Read<Option<Seen>>;
    write publish(id: MediaId, version: &str, kind: MediaKind) -> Outcome<bool>;
    write remove(id: MediaId, published: bool) -> Outcome<()>;
});

guard!(HomeStore {
    write put_homes(rows: &[(UserId, Entry)]) -> Outcome<()>;
    write raise_floor(user: UserId, floor: TweetId) -> Outcome<()>;
    read home(user: UserId, window: Window, limit: usize) -> Read<Slice>;
    read chosen() -> Read<Chosen>;
    write choose(chosen: Chosen) -> Outcome<()>;
});

guard!(TimelineStore {
    write put_tweets(bodies: &[Body]) -> Outcome<()>;
    write delete_tweets(ids: &[TweetId]) -> Outcome<()>;
    read bodies(ids: &[TweetId]) -> Read<Vec<Option<StoredBody>>>;
    read author_tweets(author: UserId, window: Window, limit: usize) -> Read<Vec<TweetId>>;
    read authors(ids: &[UserId]) -> Read<Vec<AuthorRow>>;
    write set_class(author: UserId, class: Class) -> Outcome<()>;
    write put_pairs(changes: &[PairChange]) -> Outcome<()>;
    read relations(user: UserId, after: Option<UserId>, limit: usize) -> Read<Vec<Relation>>;
    read followers(
        author: UserId,
        buckets: (u16, u16),
        after: Option<FollowerCursor>,
        limit: usize
    ) -> Read<FollowerPage>;
});

guard!(TimelineCache {
    read page(user: UserId, window: Window, limit: usize) -> Read<HomeRead>;
    read author_lists(authors: &[UserId], window: Window, limit: usize)
        -> Read<Vec<Option<crate::domain::ring::Slice>>>;
    write push(pushes: &[Push<'_>]) -> Outcome<PushReport>;
    write push_many(key: ListKey, entries: &[Entry], above: TweetId)
        -> Outcome<Option<PushReport>>;
    write begin_fill(key: ListKey) -> Outcome<Option<Token>>;
    write finish_fill(key: ListKey, token: Token, entries: &[Entry], floor: TweetId)
        -> Outcome<bool>;
    write invalidate(keys: &[ListKey]) -> Outcome<()>;
});

guard!(RelationCache {
    read get(user: UserId) -> Read<Option<Arc<Relations>>>;
    write begin_fill(user: UserId) -> Outcome<Token>;
    write finish_fill(user: UserId, token: Token, relations: Arc<Relations>) -> Outcome<bool>;
    write invalidate(users: &[UserId]) -> Outcome<()>;
});

guard!(BodyCache {
    read read(ids: &[TweetId]) -> Read<Vec<BodyRead>>;
    write fill(bodies: &[(TweetId, Token, CachedBody)]) -> Outcome<()>;
    write tombstone(ids: &[TweetId]) -> Outcome<()>;
});

guard!(RateLimiter {
    read check(calls: &[Counted<'_>]) -> Read<Vec<Verdict>>;
});

guard!(Bus {
    read receive(queue: Queue, max: usize, wait: Duration, visibility: Duration)
        -> Read<Vec<Received>>;
    write redrive(queue: Queue, max: usize) -> Outcome<u64>;
    read stats(queue: Queue) -> Read<QueueStats>;
} each {
    publish(to: Target, messages: &[Bytes]);
    acknowledge(queue: Queue, receipts: &[Receipt]);
    extend(queue: Queue, receipts: &[Receipt], visibility: Duration);
});
