//! At most so many at once per key: connections of an address, streams of a user, what a role has
//! in work.

use std::{collections::BTreeMap, sync::Arc};

use parking_lot::Mutex;

/// How many places each key holds. Keys that hold none take no room.
#[derive(Debug)]
pub struct Places<K>(Arc<Mutex<BTreeMap<K, usize>>>);

/// A place; given back when dropped.
#[derive(Debug)]
pub struct Place<K: Ord> {
    key: K,
    places: Arc<Mutex<BTreeMap<K, usize>>>,
}

impl<K> Default for Places<K> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<K: Ord + Copy> Places<K> {
    /// A place for `key`; `None` if it holds `max` of them.
    #[must_use]
    pub fn take(&self, key: K, max: usize) -> Option<Place<K>> {
        let mut places = self.0.lock();
        let held = places.get(&key).copied().unwrap_or(0);
        if held >= max {
            return None;
        }
        places.insert(key, held + 1);
        Some(Place { key, places: Arc::clone(&self.0) })
    }
}

impl<K: Ord> Drop for Place<K> {
    fn drop(&mut self) {
        let mut places = self.places.lock();
        match places.get_mut(&self.key) {
            Some(held) if *held > 1 => *held -= 1,
            _ => drop(places.remove(&self.key)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_key_has_its_own_places_and_gets_them_back() {
        let places = Places::default();
        let first = places.take(1, 2).expect("none is taken");
        let second = places.take(1, 2).expect("one is left");
        assert!(places.take(1, 2).is_none());
        assert!(places.take(2, 2).is_some(), "another's places are not counted");
        drop(first);
        let third = places.take(1, 2).expect("one was given back");
        assert!(places.take(1, 2).is_none());
        drop((second, third));
        assert!(places.0.lock().is_empty(), "nothing is kept of who holds nothing");
    }
}
