//! Hints within one process.
//!
//! One bounded channel per user who is subscribed to; all of a user's streams listen to it, and
//! every stream listens to one more, for what everybody is told. A stream that falls behind loses
//! the oldest hints, a user without streams has no channel, and a notifier never waits.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use async_trait::async_trait;
use parking_lot::RwLock;
use tokio::sync::broadcast::{self, error::RecvError};

use super::super::clock_map::IdMap;
use crate::{
    domain::UserId,
    ports::{Hint, HintStream, Hints},
};

/// Hints a stream may fall behind before the oldest are dropped. Above the hints that one post can
/// cause while its author waits for it (one per chunk chain).
const BEHIND_MAX: usize = 32;

/// Hints to everybody that a stream may fall behind before the oldest are dropped: the deletes of a
/// moment in which it was not scheduled.
const BEHIND_ALL_MAX: usize = 256;

/// Distributes hints to the streams of this process.
pub struct EmbeddedHints {
    table: Arc<Table>,
}

struct Table {
    channels: RwLock<IdMap<u64, broadcast::Sender<Hint>>>,
    everybody: broadcast::Sender<Hint>,
    streams: AtomicUsize,
    closed: crate::rt::Shutdown,
}

struct Stream {
    user: UserId,
    hints: Option<broadcast::Receiver<Hint>>,
    everybody: broadcast::Receiver<Hint>,
    table: Arc<Table>,
}

impl Default for EmbeddedHints {
    fn default() -> Self {
        Self::new()
    }
}

impl EmbeddedHints {
    /// Hints nobody listens to yet.
    #[must_use]
    pub fn new() -> Self {
        let (everybody, _) = broadcast::channel(BEHIND_ALL_MAX);
        let (channels, streams, closed) = Default::default();
        Self { table: Arc::new(Table { channels, everybody, streams, closed }) }
    }

    /// Open streams.
    #[must_use]
    pub fn streams(&self) -> usize {
        self.table.streams.load(Ordering::Relaxed)
    }
}

impl Drop for EmbeddedHints {
    fn drop(&mut self) {
        self.table.closed.cancel();
    }
}

#[async_trait]
impl Hints for EmbeddedHints {
    async fn notify(&self, hints: &[Hint]) {
        let channels = self.table.channels.read();
        for hint in hints {
            let channel = match hint.user() {
                Some(user) => channels.get(&user.0),
                None => Some(&self.table.everybody),
            };
            if let Some(channel) = channel {
                // Fails only if there is no stream, or the last is just being dropped.
                drop(channel.send(*hint));
            }
        }
    }

    async fn subscribe(&self, user: UserId) -> Box<dyn HintStream> {
        let mut channels = self.table.channels.write();
        let channel = channels.entry(user.0).or_insert_with(|| broadcast::channel(BEHIND_MAX).0);
        let hints = Some(channel.subscribe());
        let everybody = self.table.everybody.subscribe();
        self.table.streams.fetch_add(1, Ordering::Relaxed);
        Box::new(Stream { user, hints, everybody, table: Arc::clone(&self.table) })
    }

    fn wanted(&self) -> bool {
        self.streams() > 0
    }
}

#[async_trait]
impl HintStream for Stream {
    async fn next(&mut self) -> Option<Hint> {
        let hints = self.hints.as_mut()?;
        loop {
            let received = tokio::select! {
                biased;
                received = hints.recv() => received,
                received = self.everybody.recv() => received,
                () = self.table.closed.cancelled() => return None,
            };
            match received {
                Ok(hint) => return Some(hint),
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return None,
            }
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let mut channels = self.table.channels.write();
        // The receiver has to go first, or it would count itself.
        self.hints = None;
        if channels.get(&self.user.0).is_some_and(|channel| channel.receiver_count() == 0) {
            channels.remove(&self.user.0);
        }
        self.table.streams.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::domain::TweetId;

    const ADA: UserId = UserId(1);

    fn projected(part: u16) -> Hint {
        Hint::Projected { author: ADA, tweet: TweetId(9), part, parts: 4 }
    }

    #[tokio::test]
    async fn every_stream_of_a_user_is_told_and_nobody_else() {
        let hints = EmbeddedHints::new();
        let (mut first, mut second) = (hints.subscribe(ADA).await, hints.subscribe(ADA).await);
        let mut other = hints.subscribe(UserId(2)).await;
        hints.notify(&[projected(0), Hint::Home(ADA)]).await;
        for stream in [&mut first, &mut second] {
            assert_eq!(stream.next().await, Some(projected(0)));
            assert_eq!(stream.next().await, Some(Hint::Home(ADA)));
        }
        hints.notify(&[Hint::Home(UserId(2)), Hint::Home(UserId(3))]).await;
        let told = tokio::time::timeout(Duration::from_secs(5), other.next()).await;
        assert_eq!(told, Ok(Some(Hint::Home(UserId(2)))));
        hints.notify(&[Hint::Deleted(TweetId(5))]).await;
        for stream in [&mut first, &mut second, &mut other] {
            let told = tokio::time::timeout(Duration::from_secs(5), stream.next()).await;
            assert_eq!(told, Ok(Some(Hint::Deleted(TweetId(5)))));
        }
        for stream in [&mut first, &mut other] {
            let quiet = tokio::time::timeout(Duration::from_millis(20), stream.next()).await;
            assert!(quiet.is_err());
        }
    }

    #[tokio::test]
    async fn a_stream_hears_only_what_comes_after_it() {
        let hints = EmbeddedHints::new();
        let _keeps_the_channel = hints.subscribe(ADA).await;
        hints.notify(&[projected(0)]).await;
        let mut late = hints.subscribe(ADA).await;
        hints.notify(&[projected(1)]).await;
        assert_eq!(late.next().await, Some(projected(1)));
    }

    #[tokio::test]
    async fn a_stream_that_falls_behind_loses_the_oldest() {
        let hints = EmbeddedHints::new();
        let mut slow = hints.subscribe(ADA).await;
        for part in 0..100 {
            hints.notify(&[projected(part)]).await;
        }
        assert_eq!(slow.next().await, Some(projected(100 - BEHIND_MAX as u16)));
    }

    #[tokio::test]
    async fn hints_are_wanted_exactly_while_somebody_listens() {
        let hints = EmbeddedHints::new();
        assert!(!hints.wanted());
        let first = hints.subscribe(ADA).await;
        let second = hints.subscribe(ADA).await;
        drop(first);
        assert!(hints.wanted());
        drop(second);
        assert!(!hints.wanted());
        assert!(hints.table.channels.read().is_empty());
    }

    #[tokio::test]
    async fn a_stream_ends_when_the_source_goes() {
        let hints = EmbeddedHints::new();
        let mut stream = hints.subscribe(ADA).await;
        let waiting = tokio::spawn(async move { stream.next().await });
        tokio::task::yield_now().await;
        drop(hints);
        let ended = tokio::time::timeout(Duration::from_secs(5), waiting).await;
        assert_eq!(ended.expect("it must not wait for ever").unwrap(), None);
    }
}
