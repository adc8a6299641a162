//! A bounded map for caches that may forget anything at any time, and its shards.
//!
//! Everything the process caches under 64-bit keys lives in one of these: timelines, relations,
//! bodies, rate limits. Which entry makes room follows from the calls alone (second chance, one
//! hand), never from a random hash seed, so that a run can be replayed. Start with [`Shards`].

use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, Hasher},
};

use parking_lot::{Mutex, MutexGuard};

/// Locks per map. Enough that two cores seldom meet, few enough that a fan-out to some hundred
/// lists finds several in each: a push pays for its lock only once per shard.
pub(super) const SHARDS: usize = 32;
/// Slots that an insert looks at for something stale, so that a map shrinks as it is used.
const SWEEP: usize = 2;
/// Slots that an insert into a full map gives a second chance; then the next one makes room,
/// used or not. Bounds the time under the lock.
const CHANCES: usize = 16;

/// Hashes ids: one multiplication, folded. No seed, so iteration and eviction are reproducible;
/// ids are given out by chirp itself and cannot be chosen to collide.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct IdHasher(u64);

impl IdHasher {
    const fn mix(id: u64) -> u64 {
        let wide = (id ^ 0x9e37_79b9_7f4a_7c15) as u128 * 0xd6e8_feb8_6659_fd93_u128;
        (wide >> 64) as u64 ^ wide as u64
    }
}

impl Hasher for IdHasher {
    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = Self::mix(self.0 ^ u64::from(byte));
        }
    }

    fn write_u64(&mut self, id: u64) {
        self.0 = Self::mix(self.0 ^ id);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// A hash map by id without a random seed.
pub(super) type IdMap<K, V> = HashMap<K, V, BuildHasherDefault<IdHasher>>;

struct Slot<V> {
    key: u64,
    used: bool,
    value: Option<V>,
}

/// At most `max` values. A full map evicts the next value under the hand that is stale or was not
/// [`get`](ClockMap::get) since the hand came by last.
pub(super) struct ClockMap<V> {
    index: IdMap<u64, u32>,
    slots: Vec<Slot<V>>,
    free: Vec<u32>,
    hand: usize,
    max: usize,
}

impl<V> ClockMap<V> {
    fn new(max: usize) -> Self {
        let max = max.clamp(1, u32::MAX as usize);
        Self { index: IdMap::default(), slots: Vec::new(), free: Vec::new(), hand: 0, max }
    }

    /// Values held.
    pub(super) fn len(&self) -> usize {
        self.index.len()
    }

    /// The values, in the order of their slots.
    pub(super) fn values(&self) -> impl Iterator<Item = &V> {
        self.slots.iter().filter_map(|slot| slot.value.as_ref())
    }

    /// The value of `key`, which counts as used.
    pub(super) fn get(&mut self, key: u64) -> Option<&mut V> {
        let slot = &mut self.slots[*self.index.get(&key)? as usize];
        slot.used = true;
        slot.value.as_mut()
    }

    /// The value of `key`; looking does not keep it from being evicted.
    pub(super) fn peek(&mut self, key: u64) -> Option<&mut V> {
        self.slots[*self.index.get(&key)? as usize].value.as_mut()
    }

    /// Where the value of `key` is, for [`ClockMap::at`], until the next insert or remove.
    pub(super) fn find(&self, key: u64) -> Option<u32> {
        self.index.get(&key).copied()
    }

    /// The value at a place that [`ClockMap::find`] gave; looking does not keep it.
    pub(super) fn at(&mut self, place: u32) -> Option<&mut V> {
        self.slots.get_mut(place as usize)?.value.as_mut()
    }

    /// Puts `value` in the place of whatever `key` had. Values that are `stale` make room first.
    pub(super) fn insert(&mut self, key: u64, value: V, stale: impl Fn(&V) -> bool) -> &mut V {
        let at = match self.index.get(&key) {
            Some(&at) => at as usize,
            None => self.take_slot(key, stale),
        };
        let slot = &mut self.slots[at];
        slot.key = key;
        slot.used = true;
        slot.value.insert(value)
    }

    /// Takes the value of `key` out.
    pub(super) fn remove(&mut self, key: u64) -> Option<V> {
        let at = self.index.remove(&key)?;
        self.free.push(at);
        self.slots[at as usize].value.take()
    }

    fn take_slot(&mut self, key: u64, stale: impl Fn(&V) -> bool) -> usize {
        for _ in 0..SWEEP {
            if self.advance().is_some_and(&stale) {
                self.remove(self.slots[self.hand].key);
            }
        }
        if self.free.is_empty() && self.slots.len() == self.max {
            self.evict(stale);
        }
        let at = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot { key, used: true, value: None });
            self.slots.len() as u32 - 1
        });
        self.index.insert(key, at);
        at as usize
    }

    fn evict(&mut self, stale: impl Fn(&V) -> bool) {
        for _ in 0..CHANCES {
            let worthless = self.advance().is_some_and(&stale);
            let slot = &mut self.slots[self.hand];
            if worthless || !std::mem::take(&mut slot.used) {
                break;
            }
        }
        self.remove(self.slots[self.hand].key);
    }

    /// Moves the hand to the next slot and gives what is in it.
    fn advance(&mut self) -> Option<&V> {
        self.hand = if self.hand + 1 < self.slots.len() { self.hand + 1 } else { 0 };
        self.slots.get(self.hand)?.value.as_ref()
    }
}

/// A [`ClockMap`] cut into [`SHARDS`] by key, each behind its own lock.
pub(super) struct Shards<V>(Box<[Mutex<ClockMap<V>>]>);

impl<V> Shards<V> {
    /// Room for about `max` values; a shard that the keys crowd evicts a little earlier.
    pub(super) fn new(max: usize) -> Self {
        let shard = || Mutex::new(ClockMap::new(max.div_ceil(SHARDS)));
        Self((0..SHARDS).map(|_| shard()).collect())
    }

    /// Where `key` lives. Takes bits that the map inside does not place by.
    pub(super) const fn shard_of(key: u64) -> usize {
        (IdHasher::mix(key) >> 48) as usize % SHARDS
    }

    /// The shard of `key`.
    pub(super) fn lock(&self, key: u64) -> MutexGuard<'_, ClockMap<V>> {
        self.0[Self::shard_of(key)].lock()
    }

    /// The shard with this number, below [`SHARDS`].
    pub(super) fn lock_at(&self, shard: usize) -> MutexGuard<'_, ClockMap<V>> {
        self.0[shard].lock()
    }

    /// Number of values, and the sum of `size` over them. Locks one shard after the other.
    pub(super) fn usage(&self, size: impl Fn(&V) -> usize) -> (usize, usize) {
        self.0.iter().fold((0, 0), |(count, total), shard| {
            let shard = shard.lock();
            (count + shard.len(), total + shard.values().map(&size).sum::<usize>())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_map_forgets_what_was_not_used() {
        let mut map = ClockMap::new(4);
        for key in 0..4 {
            map.insert(key, key, |_| false);
        }
        // The first round takes the second chance of all four, whatever makes room then.
        map.insert(4, 4, |_| false);
        let kept: Vec<u64> = (0..4).filter(|&key| map.peek(key).is_some()).collect();
        assert_eq!(kept.len(), 3);
        map.get(kept[0]);
        map.get(kept[1]);
        map.insert(5, 5, |_| false);
        assert!(map.peek(kept[2]).is_none(), "the only one that was not used goes");
        assert!(map.get(kept[0]).is_some() && map.get(kept[1]).is_some());
        assert_eq!(map.len(), 4);
    }

    #[test]
    fn stale_values_go_first_and_the_map_shrinks_as_it_is_used() {
        let mut map = ClockMap::new(1_000);
        for key in 0..100 {
            map.insert(key, 1, |_| false);
        }
        for key in 100..200 {
            map.insert(key, 2, |&value| value == 1);
        }
        assert_eq!(map.values().filter(|&&value| value == 1).count(), 0);
        assert_eq!(map.len(), 100);
    }

    #[test]
    fn a_map_of_many_keys_stays_within_its_bound() {
        let shards = Shards::new(1_000);
        for key in 0..50_000_u64 {
            shards.lock(key).insert(key, (), |()| false);
        }
        let (count, _) = shards.usage(|()| 0);
        assert!((900..=1_024).contains(&count), "{count}");
    }

    #[test]
    fn a_removed_key_leaves_its_slot_to_the_next() {
        let mut map = ClockMap::new(2);
        map.insert(1, 'a', |_| false);
        assert_eq!(map.remove(1), Some('a'));
        assert_eq!(map.remove(1), None);
        map.insert(2, 'b', |_| false);
        map.insert(3, 'c', |_| false);
        assert_eq!((map.peek(2).copied(), map.peek(3).copied()), (Some('b'), Some('c')));
        assert_eq!(map.slots.len(), 2);
    }
}
