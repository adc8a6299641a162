//! What the suites are written with: short assertions that give sentences, and test data.

use std::{fmt::Debug, time::Duration};

use tokio::sync::oneshot;

use super::Check;
use crate::{
    domain::{
        Body, DisplayName, Entry, Handle, MediaId, MediaKind, MediaList, MediaRef, MediaShape,
        TweetId, TweetText, UserId, Window,
    },
    ports::{Outbox, OutboxRow, Outcome, Read},
    rt::{BoxFuture, Rt},
    wire::{events::Event, trace::TraceContext},
};

/// A short wait: long enough to be seen on a busy machine, short enough for many of them.
pub(super) const SHORT: Duration = Duration::from_millis(50);
/// Longer than any suite runs.
pub(super) const LONG: Duration = Duration::from_mins(10);
/// How long something may take that should happen at once.
pub(super) const SOON: Duration = Duration::from_secs(3);
/// Some moment, in milliseconds since the Unix epoch.
pub(super) const NOW_MS: u64 = 1_800_000_000_000;

/// Takes the value out of a call that has to succeed.
pub(super) trait Must {
    /// What the call gives.
    type Value;
    /// The value, or a sentence with `what` in it.
    fn must(self, what: &str) -> Result<Self::Value, String>;
}

impl<T> Must for Outcome<T> {
    type Value = T;

    fn must(self, what: &str) -> Result<T, String> {
        match self {
            Self::Done(value) => Ok(value),
            Self::Failed(error) => Err(format!("{what}: failed: {error}")),
            Self::Unknown(error) => Err(format!("{what}: unknown: {error}")),
        }
    }
}

impl<T> Must for Read<T> {
    type Value = T;

    fn must(self, what: &str) -> Result<T, String> {
        self.map_err(|error| format!("{what}: {error}"))
    }
}

/// `found` has to be `expected`.
pub(super) fn same<T: PartialEq + Debug>(what: &str, found: &T, expected: &T) -> Check {
    if found == expected {
        Ok(())
    } else {
        Err(format!("{what}: found {found:?}, expected {expected:?}"))
    }
}

/// `condition` has to hold.
pub(super) fn that(condition: bool, what: &str) -> Check {
    if condition { Ok(()) } else { Err(format!("it does not hold that {what}")) }
}

/// A write while the store is down must not be done.
pub(super) fn not_done<T>(what: &str, outcome: &Outcome<T>) -> Check {
    that(!outcome.is_done(), &format!("{what} is not done during an outage"))
}

/// A read while the store is down must be an error.
pub(super) fn is_error<T>(what: &str, read: &Read<T>) -> Check {
    that(read.is_err(), &format!("{what} is an error during an outage"))
}

/// Runs tasks at the same time and gives their values, in the order of the tasks.
pub(super) async fn concurrently<T: Send + 'static>(
    rt: &Rt,
    tasks: impl IntoIterator<Item = BoxFuture<'static, T>>,
) -> Result<Vec<T>, String> {
    let mut waiting = Vec::new();
    for task in tasks {
        let (tx, rx) = oneshot::channel();
        let run = async move { drop(tx.send(task.await)) };
        // The handle is not needed: the channel tells of the end, also of a bad one.
        drop(rt.spawn("contract", run));
        waiting.push(rx);
    }
    let mut values = Vec::new();
    for rx in waiting {
        values.push(rx.await.map_err(|_| "a concurrent call panicked".to_owned())?);
    }
    Ok(values)
}

/// The events that were written since the last call, in order.
pub(super) async fn new_events(outbox: &dyn Outbox) -> Result<Vec<Event>, String> {
    let rows = outbox.claim(1_000, NOW_MS, LONG).await.must("claim")?;
    let decode = |row: &OutboxRow| Event::decode(&row.event).map_err(|error| error.to_string());
    rows.iter().map(decode).collect()
}

/// The handle of user `n`.
pub(super) fn handle(n: u64) -> Handle {
    Handle::parse(&format!("user_{n}")).expect("it is short and has no odd character")
}

/// The display name of user `n`.
pub(super) fn name(n: u64) -> DisplayName {
    DisplayName::parse(&format!("User {n}")).expect("it is short and has no odd character")
}

/// A tweet of `author`, written at [`NOW_MS`].
pub(super) fn body(id: u64, author: u64) -> Body {
    Body {
        id: TweetId(id),
        author: UserId(author),
        handle: handle(author),
        name: name(author),
        text: TweetText::parse(&format!("<b>tweet</b> {id} é 🦀\n'\"")).expect("it is short"),
        media: MediaList::default(),
        created_at_ms: NOW_MS,
    }
}

/// The same with as many pictures as its id has tens, up to four.
pub(super) fn pictured(id: u64, author: u64) -> Body {
    let picture = |n: u64| {
        let shape = MediaShape { kind: MediaKind::Webp, width: 9, height: n as u32 + 1 };
        MediaRef { id: MediaId(u128::from(id) << 70 | u128::from(n)), shape }
    };
    let media =
        MediaList::new((0..id / 10 % 5).map(picture).collect()).expect("at most four, each once");
    Body { media, ..body(id, author) }
}

/// A delivery.
pub(super) const fn entry(tweet: u64, author: u64) -> Entry {
    Entry { tweet: TweetId(tweet), author: UserId(author) }
}

/// A trace that `n` tells from others.
pub(super) fn trace(n: u8) -> TraceContext {
    TraceContext::new([n; 24])
}

/// Ids out of numbers.
pub(super) fn tweets(ids: &[u64]) -> Vec<TweetId> {
    ids.iter().copied().map(TweetId).collect()
}

/// Ids out of numbers.
pub(super) fn users(ids: &[u64]) -> Vec<UserId> {
    ids.iter().copied().map(UserId).collect()
}

/// Windows on the list 50, 40, 30, 20, 10, a limit, and what they show.
pub(super) const WINDOWS: &[(Window, usize, &[u64])] = &[
    (Window::Latest, 2, &[50, 40]),
    (Window::Latest, 9, &[50, 40, 30, 20, 10]),
    (Window::Before(TweetId(40)), 2, &[30, 20]),
    (Window::Before(TweetId(35)), 2, &[30, 20]),
    (Window::Before(TweetId(20)), 2, &[10]),
    (Window::Before(TweetId(10)), 2, &[]),
    (Window::Before(TweetId::MAX), 1, &[50]),
    (Window::After(TweetId(20)), 2, &[40, 30]),
    (Window::After(TweetId(15)), 2, &[30, 20]),
    (Window::After(TweetId(40)), 2, &[50]),
    (Window::After(TweetId(50)), 2, &[]),
    (Window::After(TweetId(0)), 1, &[10]),
    (Window::After(TweetId::MAX), 2, &[]),
];
