//! Home timelines and lists of pulled authors.

use async_trait::async_trait;
use redis::{Cmd, Value};

use super::{
    FILL_LEASE, IDLE_TTL, RENEWED_AFTER, RedisCache,
    fault::odd,
    millis,
    node::{Call, Purpose},
    only, relations,
    scripts::{SCRIPTS, Script},
};
use crate::{
    domain::{
        Entry, Ring, Token, TweetId, UserId, Window,
        ring::{CAPACITY_MIN, Slice},
    },
    ports::{
        HomeRead, HomeSlice, ListKey, Outcome, Push, PushReport, Read, StoreError, TimelineCache,
    },
};

const STORE: &str = "timeline_cache";
const ENTRY: usize = 16;

impl RedisCache {
    pub(super) fn list_key(&self, key: ListKey) -> String {
        match key {
            ListKey::Home(user) => self.redis.key("tl", user.0),
            ListKey::Author(author) => self.redis.key("at", author.0),
        }
    }

    fn push_call(&self, key: ListKey, entry: Entry) -> Call {
        let key = self.list_key(key);
        let mut cmd = SCRIPTS.push.run(&[&key]);
        cmd.arg(&bytes_of(&[entry])[..]).arg(self.entries_max);
        Call::new(key, cmd)
    }

    fn page_call(&self, user: UserId, window: Window, limit: usize) -> Call {
        let (list, relations) = (self.list_key(ListKey::Home(user)), self.relations_key(user));
        let cmd = reading(&SCRIPTS.page, &[&list, &relations], window, limit);
        Call::new(list, cmd)
    }

    /// The bytes that a push into `user`'s home timeline sends to the server, for whoever compares
    /// this cache with a client that does nothing else.
    #[must_use]
    pub fn push_command(&self, user: UserId, entry: Entry) -> Vec<u8> {
        self.push_call(ListKey::Home(user), entry).cmd.get_packed_command()
    }

    /// The bytes that [`TimelineCache::page`] sends to the server, as [`Self::push_command`].
    #[must_use]
    pub fn page_command(&self, user: UserId, window: Window, limit: usize) -> Vec<u8> {
        self.page_call(user, window, limit).cmd.get_packed_command()
    }

    /// The page of a reader whose two values are on different servers just now, because their slot
    /// moves: both are read and joined here. The relations are read after the list, so that nothing
    /// is shown that was hidden before the read began.
    async fn page_in_two(&self, user: UserId, window: Window, limit: usize) -> Read<HomeRead> {
        let mut values = Vec::new();
        for key in [self.list_key(ListKey::Home(user)), self.relations_key(user)] {
            let mut cmd = redis::cmd("GET");
            cmd.arg(&key);
            values.push(only(self.redis.read(STORE, &[Call::new(key, cmd)]).await?));
        }
        let Some(relations) = relations::decode(&values[1]) else {
            return Ok(HomeRead::NoRelations);
        };
        let ring = match values.swap_remove(0) {
            Value::BulkString(bytes) => Ring::from_bytes(bytes, self.entries_max).ok(),
            _ => None,
        };
        let Some(ring) = ring.filter(Ring::is_ready) else { return Ok(HomeRead::NoTimeline) };
        let slice = ring.slice(window, limit, |entry| relations.sees(entry.author));
        Ok(HomeRead::Hit(HomeSlice { slice, pulled: relations.pulled.into() }))
    }
}

/// A script that reads a part of a list.
fn reading(script: &Script, keys: &[&str], window: Window, limit: usize) -> Cmd {
    let (kind, bound) = match window {
        Window::Latest => ("L", 0),
        Window::Before(bound) => ("B", bound.0),
        Window::After(bound) => ("A", bound.0),
    };
    let mut cmd = script.run(keys);
    cmd.arg(kind).arg(&bound.to_be_bytes()[..]).arg(limit);
    cmd.arg(millis(IDLE_TTL)).arg(millis(IDLE_TTL.saturating_sub(RENEWED_AFTER)));
    cmd
}

fn bytes_of(entries: &[Entry]) -> Vec<u8> {
    let entry = |entry: &Entry| [entry.tweet.0.to_be_bytes(), entry.author.0.to_be_bytes()];
    entries.iter().flat_map(entry).flatten().collect()
}

fn entry_of(bytes: &[u8]) -> Entry {
    let (tweet, author) = bytes.split_at(ENTRY / 2);
    Entry { tweet: TweetId(relations::id(tweet)), author: UserId(relations::id(author)) }
}

/// The answer of a script that reads a part of a list.
fn slice_of(answer: &[Value]) -> Option<Slice> {
    let [Value::BulkString(floor), Value::Int(exhausted), Value::BulkString(entries), ..] = answer
    else {
        return None;
    };
    if floor.len() != ENTRY / 2 || entries.len() % ENTRY != 0 {
        return None;
    }
    let entries = entries.chunks_exact(ENTRY).map(entry_of).collect();
    let floor = TweetId(relations::id(floor));
    Some(Slice { entries, floor, exhausted: *exhausted == 1 })
}

fn home_of(value: &Value) -> Read<HomeRead> {
    let answer = match value {
        Value::Int(1) => return Ok(HomeRead::NoRelations),
        Value::Int(2) => return Ok(HomeRead::NoTimeline),
        Value::Array(answer) => answer.as_slice(),
        _ => &[],
    };
    match (slice_of(answer), answer.last()) {
        (Some(slice), Some(Value::BulkString(pulled))) if answer.len() == 4 => {
            Ok(HomeRead::Hit(HomeSlice { slice, pulled: relations::ids(pulled) }))
        }
        _ => Err(odd(STORE, value)),
    }
}

/// What a script answered, or that this was odd: it may have written.
pub(super) fn understood<T>(read: Result<T, StoreError>) -> Outcome<T> {
    match read {
        Ok(value) => Outcome::Done(value),
        Err(error) => Outcome::Unknown(error),
    }
}

fn report_of(values: &[Value]) -> Result<PushReport, StoreError> {
    let mut report = PushReport::default();
    for value in values {
        match value {
            Value::Int(0) => report.absent += 1,
            Value::Int(1) => report.delivered += 1,
            Value::Int(2) => report.repeated += 1,
            _ => return Err(odd(STORE, value)),
        }
    }
    Ok(report)
}

fn backfill_of(value: &Value) -> Result<Option<PushReport>, StoreError> {
    let counts = match value {
        Value::Int(-1) => return Ok(None),
        Value::Int(-2) => return Ok(Some(PushReport { absent: 1, ..PushReport::default() })),
        Value::Array(counts) => counts.as_slice(),
        _ => &[],
    };
    let [Value::Int(delivered), Value::Int(repeated)] = counts else {
        return Err(odd(STORE, value));
    };
    let (delivered, repeated) = (delivered.cast_unsigned(), repeated.cast_unsigned());
    Ok(Some(PushReport { delivered, repeated, absent: 0 }))
}

/// The answer of a script that says whether something stood.
pub(super) fn whether(store: &'static str, value: &Value) -> Result<bool, StoreError> {
    match value {
        Value::Int(0) => Ok(false),
        Value::Int(1) => Ok(true),
        _ => Err(odd(store, value)),
    }
}

/// Goes on with what a write answered.
pub(super) fn and_then<T, U>(
    outcome: Outcome<T>,
    next: impl FnOnce(T) -> Outcome<U>,
) -> Outcome<U> {
    match outcome {
        Outcome::Done(value) => next(value),
        Outcome::Failed(error) => Outcome::Failed(error),
        Outcome::Unknown(error) => Outcome::Unknown(error),
    }
}

#[async_trait]
impl TimelineCache for RedisCache {
    async fn page(&self, user: UserId, window: Window, limit: usize) -> Read<HomeRead> {
        let call = self.page_call(user, window, limit);
        match self.redis.answers(Purpose::Read, &[call]).await.pop() {
            Some(Ok(value)) => home_of(&value),
            Some(Err(fault)) if !fault.split => Err(fault.into_error(STORE)),
            _ => self.page_in_two(user, window, limit).await,
        }
    }

    async fn author_lists(
        &self,
        authors: &[UserId],
        window: Window,
        limit: usize,
    ) -> Read<Vec<Option<Slice>>> {
        let call = |&author: &UserId| {
            let key = self.list_key(ListKey::Author(author));
            let cmd = reading(&SCRIPTS.list, &[&key], window, limit);
            Call::new(key, cmd)
        };
        let calls: Vec<Call> = authors.iter().map(call).collect();
        let list = |value: &Value| match value {
            Value::Nil => Ok(None),
            Value::Array(answer) => slice_of(answer).map(Some).ok_or_else(|| odd(STORE, value)),
            _ => Err(odd(STORE, value)),
        };
        self.redis.read(STORE, &calls).await?.iter().map(list).collect()
    }

    async fn push(&self, pushes: &[Push<'_>]) -> Outcome<PushReport> {
        let mut calls = Vec::new();
        for push in pushes {
            let home = |&user: &UserId| self.push_call(ListKey::Home(user), push.entry);
            calls.extend(push.homes.iter().map(home));
            if push.author_list {
                calls.push(self.push_call(ListKey::Author(push.entry.author), push.entry));
            }
        }
        let written = self.redis.write(STORE, &calls).await;
        and_then(written, |values| understood(report_of(&values)))
    }

    async fn push_many(
        &self,
        key: ListKey,
        entries: &[Entry],
        above: TweetId,
    ) -> Outcome<Option<PushReport>> {
        let key = self.list_key(key);
        let mut cmd = SCRIPTS.push_many.run(&[&key]);
        cmd.arg(&above.0.to_be_bytes()[..]).arg(self.entries_max).arg(bytes_of(entries));
        let written = self.redis.write(STORE, &[Call::new(key, cmd)]).await;
        and_then(written, |values| understood(backfill_of(&only(values))))
    }

    async fn begin_fill(&self, key: ListKey) -> Outcome<Option<Token>> {
        let (key, token) = (self.list_key(key), self.redis.token());
        let mut cmd = SCRIPTS.begin_fill.run(&[&key]);
        cmd.arg(&token.0.to_be_bytes()[..]).arg(CAPACITY_MIN.min(self.entries_max));
        cmd.arg(millis(FILL_LEASE));
        let written = self.redis.write(STORE, &[Call::new(key, cmd)]).await;
        and_then(written, |values| understood(whether(STORE, &only(values))))
            .map(|begun| begun.then_some(token))
    }

    async fn finish_fill(
        &self,
        key: ListKey,
        token: Token,
        entries: &[Entry],
        floor: TweetId,
    ) -> Outcome<bool> {
        let mut sorted = entries.to_vec();
        sorted.sort_unstable();
        let key = self.list_key(key);
        let mut cmd = SCRIPTS.finish_fill.run(&[&key]);
        cmd.arg(&token.0.to_be_bytes()[..]).arg(&floor.0.to_be_bytes()[..]);
        cmd.arg(self.entries_max).arg(millis(IDLE_TTL)).arg(bytes_of(&sorted));
        // A second run would say that the token does not stand, though the first one stored.
        let written = self.redis.write(STORE, &[Call::once(key, cmd)]).await;
        and_then(written, |values| understood(whether(STORE, &only(values))))
    }

    async fn invalidate(&self, keys: &[ListKey]) -> Outcome<()> {
        let drop_list = |&key: &ListKey| unlink(self.list_key(key));
        let calls: Vec<Call> = keys.iter().map(drop_list).collect();
        self.redis.write(STORE, &calls).await.map(drop)
    }
}

/// Drops a value; the server frees its memory later.
pub(super) fn unlink(key: String) -> Call {
    let mut cmd = redis::cmd("UNLINK");
    cmd.arg(&key);
    Call::new(key, cmd)
}
