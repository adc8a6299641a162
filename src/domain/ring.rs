//! The home timeline: a header and a ring of 16-byte entries, in id order.
//!
//! The bytes are the structure. An embedded cache holds them in memory and a shared cache holds
//! the same bytes as one string, so both obey the same rules:
//!
//! - a list is complete for every id **above** its [`floor`](Ring::floor), and nothing at or below
//!   it is held;
//! - it grows from 64 to 800 entries; then the oldest makes room and becomes the floor;
//! - an entry that is there, or is not above the floor, changes nothing.
//!
//! Numbers are big-endian, so that a script without 64-bit integers can compare them as strings.

use super::{TweetId, UserId, Window};

/// Entries a new ring has room for.
pub const CAPACITY_MIN: usize = 64;
/// The most entries a ring holds, as at Twitter and Mastodon (800).
pub const CAPACITY_MAX: usize = 800;
const HEADER: usize = 32;
const ENTRY: usize = 16;
const VERSION: u8 = 1;
const FILLING: u8 = 1;
const READY: u8 = 2;

/// One delivery: a tweet and who wrote it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Entry {
    /// The tweet.
    pub tweet: TweetId,
    /// Its author, so that a reader's relations filter without looking anything up.
    pub author: UserId,
}

/// Proof that a cache fill began and that nothing was lost since; random, never 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Token(pub u64);

/// What a push did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pushed {
    /// The entry is there now and was not before.
    Added,
    /// It was there already.
    Duplicate,
    /// It is at or below the floor.
    UnderFloor,
}

/// A part of a list, newest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Slice {
    /// The entries, newest first.
    pub entries: Vec<Entry>,
    /// The list is complete above this id.
    pub floor: TweetId,
    /// The list holds nothing more in the direction of the window.
    pub exhausted: bool,
}

/// A timeline's bytes. See the module text for the rules.
///
/// Header: version (1 byte), state (1), start (2), length (2), capacity (2), token (8), floor (8),
/// newest id (8).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ring {
    bytes: Vec<u8>,
    limit: u16,
}

/// The bytes are not a ring of this version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the bytes are not a timeline ring of version 1")]
pub struct NotARing;

impl Ring {
    /// An empty ring whose fill has begun. It takes pushes but may not be read yet.
    /// `limit`: the most entries, 1 to [`CAPACITY_MAX`].
    #[must_use]
    pub fn filling(token: Token, limit: usize) -> Self {
        let limit = limit.clamp(1, CAPACITY_MAX);
        let mut bytes = vec![0; HEADER + CAPACITY_MIN.min(limit) * ENTRY];
        bytes[0] = VERSION;
        bytes[1] = FILLING;
        let mut ring = Self { bytes, limit: limit as u16 };
        ring.put16(6, CAPACITY_MIN.min(limit));
        ring.put64(8, token.0);
        ring
    }

    /// Takes over bytes that [`Ring::as_bytes`] gave.
    ///
    /// # Errors
    /// [`NotARing`] if length, version or header do not fit.
    pub fn from_bytes(bytes: Vec<u8>, limit: usize) -> Result<Self, NotARing> {
        let ring = Self { bytes, limit: limit.clamp(1, CAPACITY_MAX) as u16 };
        let fits = ring.bytes.len() >= HEADER
            && ring.bytes[0] == VERSION
            && matches!(ring.bytes[1], FILLING | READY)
            && ring.capacity() > 0
            && ring.bytes.len() == HEADER + ring.capacity() * ENTRY
            && ring.len() <= ring.capacity()
            && ring.start() < ring.capacity();
        if fits { Ok(ring) } else { Err(NotARing) }
    }

    /// The bytes, header included.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Whether the fill is done and the ring may be read.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.bytes[1] == READY
    }

    /// The token of the fill that made it.
    #[must_use]
    pub fn token(&self) -> Token {
        Token(self.get64(8))
    }

    /// The list is complete above this id; 0 means complete for ever.
    #[must_use]
    pub fn floor(&self) -> TweetId {
        TweetId(self.get64(16))
    }

    /// Entries held.
    #[must_use]
    pub fn len(&self) -> usize {
        self.get16(4)
    }

    /// Whether it holds nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A new fill takes over one that has not ended; what was pushed meanwhile stays.
    pub fn restart_fill(&mut self, token: Token) {
        self.put64(8, token.0);
    }

    /// Ends the fill: `entries` are united with what was pushed meanwhile, everything at or below
    /// `floor` goes, and the ring may be read.
    pub fn finish_fill(&mut self, entries: &[Entry], floor: TweetId) {
        self.raise_floor(floor);
        let mut sorted = entries.to_vec();
        sorted.sort_unstable();
        for entry in sorted {
            self.push(entry);
        }
        self.bytes[1] = READY;
    }

    /// Puts one delivery in its place. Appends in constant time if it is the newest.
    pub fn push(&mut self, entry: Entry) -> Pushed {
        if entry.tweet.0 > self.get64(24) && entry.tweet > self.floor() {
            self.append(entry);
            return Pushed::Added;
        }
        if entry.tweet <= self.floor() {
            return Pushed::UnderFloor;
        }
        match self.search(entry.tweet) {
            Ok(_) => Pushed::Duplicate,
            Err(at) => self.insert_late(at, entry),
        }
    }

    /// Entries inside `window` that `keep` accepts, at most `limit`, newest first. For
    /// [`Window::After`] these are the nearest above, not the newest.
    #[must_use]
    pub fn slice(&self, window: Window, limit: usize, keep: impl Fn(Entry) -> bool) -> Slice {
        let len = self.len();
        let mut entries = Vec::with_capacity(limit.min(len));
        let mut exhausted = true;
        let mut take = |entry: Entry| {
            if entries.len() == limit {
                exhausted = false;
                return false;
            }
            entries.push(entry);
            true
        };
        if let Window::After(bound) = window {
            let from = match self.search(bound) {
                Ok(at) => at + 1,
                Err(at) => at,
            };
            let found = (from..len).map(|i| self.at(i)).filter(|&e| keep(e));
            for entry in found {
                if !take(entry) {
                    break;
                }
            }
            entries.reverse();
        } else {
            let to = match window.below() {
                Some(bound) => self.search(bound).unwrap_or_else(|at| at),
                None => len,
            };
            let found = (0..to).rev().map(|i| self.at(i)).filter(|&e| keep(e));
            for entry in found {
                if !take(entry) {
                    break;
                }
            }
        }
        Slice { entries, floor: self.floor(), exhausted }
    }

    fn raise_floor(&mut self, floor: TweetId) {
        if floor <= self.floor() {
            return;
        }
        self.put64(16, floor.0);
        let keep_from = match self.search(floor) {
            Ok(at) => at + 1,
            Err(at) => at,
        };
        let kept: Vec<Entry> = (keep_from..self.len()).map(|i| self.at(i)).collect();
        self.rewrite(&kept);
    }

    fn append(&mut self, entry: Entry) {
        if self.len() == self.capacity() {
            if self.capacity() < usize::from(self.limit) {
                self.grow();
            } else {
                self.drop_oldest();
            }
        }
        let at = self.len();
        self.put16(4, at + 1);
        self.set(at, entry);
        self.put64(24, entry.tweet.0);
    }

    /// Puts an entry where it belongs by moving the newer ones up: events come out of order only by a
    /// little, so these are few.
    fn insert_late(&mut self, at: usize, entry: Entry) -> Pushed {
        let mut at = at;
        if self.len() == usize::from(self.limit) {
            if at == 0 {
                self.put64(16, entry.tweet.0);
                return Pushed::UnderFloor;
            }
            self.drop_oldest();
            at -= 1;
        } else if self.len() == self.capacity() {
            self.grow();
        }
        let len = self.len();
        self.put16(4, len + 1);
        for place in (at..len).rev() {
            let from = self.offset(place);
            let to = self.offset(place + 1);
            self.bytes.copy_within(from..from + ENTRY, to);
        }
        self.set(at, entry);
        Pushed::Added
    }

    /// Makes room at the lower end; the floor rises to what is gone.
    fn drop_oldest(&mut self) {
        let oldest = self.at(0).tweet;
        self.put64(16, oldest.0);
        self.put16(2, (self.start() + 1) % self.capacity());
        self.put16(4, self.len() - 1);
    }

    fn rewrite(&mut self, entries: &[Entry]) {
        while self.capacity() < entries.len() {
            self.grow();
        }
        self.put16(2, 0);
        self.put16(4, entries.len());
        for (i, &entry) in entries.iter().enumerate() {
            self.set(i, entry);
        }
        self.put64(24, entries.last().map_or(0, |e| e.tweet.0));
    }

    fn grow(&mut self) {
        let entries: Vec<Entry> = (0..self.len()).map(|i| self.at(i)).collect();
        let capacity = (self.capacity() * 2).min(usize::from(self.limit));
        self.bytes.resize(HEADER + capacity * ENTRY, 0);
        self.put16(6, capacity);
        self.put16(2, 0);
        for (i, &entry) in entries.iter().enumerate() {
            self.set(i, entry);
        }
    }

    /// Position of `tweet`, or where it would stand.
    fn search(&self, tweet: TweetId) -> Result<usize, usize> {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = usize::midpoint(low, high);
            match self.at(middle).tweet.cmp(&tweet) {
                std::cmp::Ordering::Equal => return Ok(middle),
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
            }
        }
        Err(low)
    }

    fn offset(&self, index: usize) -> usize {
        let mut slot = self.start() + index;
        if slot >= self.capacity() {
            slot -= self.capacity();
        }
        HEADER + slot * ENTRY
    }

    fn at(&self, index: usize) -> Entry {
        let offset = self.offset(index);
        Entry { tweet: TweetId(self.get64(offset)), author: UserId(self.get64(offset + 8)) }
    }

    fn set(&mut self, index: usize, entry: Entry) {
        let offset = self.offset(index);
        self.put64(offset, entry.tweet.0);
        self.put64(offset + 8, entry.author.0);
    }

    fn start(&self) -> usize {
        self.get16(2)
    }

    fn capacity(&self) -> usize {
        self.get16(6)
    }

    fn get16(&self, at: usize) -> usize {
        usize::from(u16::from_be_bytes([self.bytes[at], self.bytes[at + 1]]))
    }

    fn put16(&mut self, at: usize, value: usize) {
        let value = u16::try_from(value).expect("a ring has at most 800 entries");
        self.bytes[at..at + 2].copy_from_slice(&value.to_be_bytes());
    }

    fn get64(&self, at: usize) -> u64 {
        let mut number = [0; 8];
        number.copy_from_slice(&self.bytes[at..at + 8]);
        u64::from_be_bytes(number)
    }

    fn put64(&mut self, at: usize, value: u64) {
        self.bytes[at..at + 8].copy_from_slice(&value.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn entry(id: u64) -> Entry {
        Entry { tweet: TweetId(id), author: UserId(id % 7) }
    }

    /// The same rules, written the slow and obvious way.
    #[derive(Default)]
    struct Model {
        entries: BTreeMap<u64, u64>,
        floor: u64,
    }

    impl Model {
        fn push(&mut self, e: Entry, limit: usize) -> Pushed {
            if e.tweet.0 <= self.floor {
                return Pushed::UnderFloor;
            }
            if self.entries.insert(e.tweet.0, e.author.0).is_some() {
                return Pushed::Duplicate;
            }
            if self.entries.len() > limit {
                let (oldest, _) = self.entries.pop_first().unwrap();
                self.floor = oldest;
                if oldest == e.tweet.0 {
                    return Pushed::UnderFloor;
                }
            }
            Pushed::Added
        }
    }

    proptest! {
        #[test]
        fn a_ring_does_what_the_model_does(
            ids in prop::collection::vec(1_u64..400, 0..300),
            limit in 1_usize..120,
            fill in prop::collection::vec(1_u64..400, 0..100),
            fill_floor in 0_u64..200,
            bound in 0_u64..420,
            page in 1_usize..30,
        ) {
            let mut ring = Ring::filling(Token(9), limit);
            let mut model = Model::default();
            let half = ids.len() / 2;
            for &id in &ids[..half] {
                prop_assert_eq!(ring.push(entry(id)), model.push(entry(id), limit));
            }
            let filled: Vec<Entry> = fill.iter().map(|&id| entry(id)).collect();
            ring.finish_fill(&filled, TweetId(fill_floor));
            if fill_floor > model.floor {
                model.floor = fill_floor;
                model.entries.retain(|&id, _| id > fill_floor);
            }
            let mut sorted = filled;
            sorted.sort_unstable();
            for e in sorted {
                model.push(e, limit);
            }
            for &id in &ids[half..] {
                prop_assert_eq!(ring.push(entry(id)), model.push(entry(id), limit));
            }
            prop_assert_eq!(ring.floor().0, model.floor);
            let ring = Ring::from_bytes(ring.as_bytes().to_vec(), limit).unwrap();
            let newest_first: Vec<Entry> = model.entries.keys().rev().map(|&id| entry(id)).collect();
            let all = ring.slice(Window::Latest, 1_000, |_| true);
            prop_assert_eq!(&all.entries, &newest_first);
            prop_assert!(all.exhausted);

            let below: Vec<Entry> = newest_first.iter().copied().filter(|e| e.tweet.0 < bound).collect();
            let got = ring.slice(Window::Before(TweetId(bound)), page, |_| true);
            prop_assert_eq!(got.exhausted, below.len() <= page);
            prop_assert_eq!(got.entries, below.into_iter().take(page).collect::<Vec<_>>());

            let odd = |e: Entry| e.tweet.0 % 2 == 1;
            let above: Vec<Entry> = newest_first.iter().copied().filter(|e| e.tweet.0 > bound && odd(*e)).collect();
            let nearest = above[above.len().saturating_sub(page)..].to_vec();
            let got = ring.slice(Window::After(TweetId(bound)), page, odd);
            prop_assert_eq!(got.exhausted, above.len() <= page);
            prop_assert_eq!(got.entries, nearest);
        }
    }

    #[test]
    fn a_full_ring_says_where_its_knowledge_ends() {
        let mut ring = Ring::filling(Token(1), CAPACITY_MAX);
        ring.finish_fill(&[], TweetId(0));
        for id in 1..=1_000 {
            assert_eq!(ring.push(entry(id)), Pushed::Added);
        }
        assert_eq!(ring.len(), CAPACITY_MAX);
        assert_eq!(ring.floor(), TweetId(200));
        assert_eq!(ring.push(entry(200)), Pushed::UnderFloor);
        assert_eq!(ring.push(entry(201)), Pushed::Duplicate);
    }

    #[test]
    fn foreign_bytes_are_refused() {
        let good = Ring::filling(Token(1), 10);
        for (at, value) in [(0, 9), (1, 7), (4, 200), (7, 0), (2, 200)] {
            let mut bytes = good.as_bytes().to_vec();
            bytes[at] = value;
            assert_eq!(Ring::from_bytes(bytes, 10), Err(NotARing), "byte {at}");
        }
        assert_eq!(Ring::from_bytes(vec![], 10), Err(NotARing));
    }
}
