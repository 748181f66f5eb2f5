//! A map with a bound: when it is full, what matters least of a few goes.

use std::{collections::HashMap, hash::Hash};

/// How many entries are compared when one has to go.
const COMPARED: usize = 16;

/// A bounded map. Unlike with the order of use, an attacker who brings many new keys does not push out those that
/// already matter.
#[derive(Debug)]
pub struct Bounded<K, V> {
    index: HashMap<K, usize>,
    slots: Vec<(K, V)>,
    hand: usize,
    capacity: usize,
}

impl<K: Hash + Eq + Clone, V> Bounded<K, V> {
    /// Holds at most `capacity` entries (at least one).
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self { index: HashMap::new(), slots: Vec::new(), hand: 0, capacity: capacity.max(1) }
    }

    /// How many entries it holds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Does it hold none?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// The entry.
    #[must_use]
    pub fn get(&self, key: &K) -> Option<&V> {
        self.index.get(key).and_then(|at| self.slots.get(*at)).map(|(_, value)| value)
    }

    /// The entry, to be changed.
    pub fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        self.index.get(key).and_then(|at| self.slots.get_mut(*at)).map(|(_, value)| value)
    }

    /// Puts an entry. When it is new and there is no room, the one of a few that is worth least goes and is returned.
    pub fn insert(&mut self, key: K, value: V, worth: impl Fn(&V) -> f64) -> Option<(K, V)> {
        if let Some(held) = self.get_mut(&key) {
            *held = value;
            return None;
        }
        let gone = if self.slots.len() >= self.capacity { self.least(worth) } else { None };
        self.index.insert(key.clone(), self.slots.len());
        self.slots.push((key, value));
        gone
    }

    fn least(&mut self, worth: impl Fn(&V) -> f64) -> Option<(K, V)> {
        let len = self.slots.len();
        let compared = (0..COMPARED.min(len)).map(|step| (self.hand + step) % len);
        let worth_of = |at: usize| self.slots.get(at).map_or(f64::INFINITY, |(_, value)| worth(value));
        let least = compared.min_by(|a, b| worth_of(*a).total_cmp(&worth_of(*b)))?;
        self.hand = (self.hand + COMPARED) % len;
        let key = self.slots.get(least).map(|(key, _)| key.clone())?;
        self.remove(&key).map(|value| (key, value))
    }

    /// Takes an entry out.
    pub fn remove(&mut self, key: &K) -> Option<V> {
        let at = self.index.remove(key)?;
        let (_, value) = self.slots.swap_remove(at);
        if let Some((moved, _)) = self.slots.get(at) {
            self.index.insert(moved.clone(), at);
        }
        Some(value)
    }

    /// Keeps what `keep` says yes to.
    pub fn retain(&mut self, keep: impl Fn(&K, &V) -> bool) {
        self.slots.retain(|(key, value)| keep(key, value));
        self.index = self.slots.iter().enumerate().map(|(at, (key, _))| (key.clone(), at)).collect();
        self.hand = 0;
    }

    /// All entries.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.slots.iter().map(|(key, value)| (key, value))
    }

    /// Takes all entries out.
    pub fn take(&mut self) -> Vec<(K, V)> {
        self.index.clear();
        self.hand = 0;
        std::mem::take(&mut self.slots)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn worth(value: &u32) -> f64 {
        f64::from(*value)
    }

    #[test]
    fn what_matters_stays() {
        let mut table = Bounded::new(10);
        for key in 0..5 {
            table.insert(key, 100, worth);
        }
        for key in 1000..2000 {
            table.insert(key, 1, worth);
        }
        assert_eq!(table.len(), 10);
        assert!((0..5).all(|key| table.get(&key) == Some(&100)));
    }

    #[test]
    fn entries_are_found_replaced_and_taken_out() {
        let mut table = Bounded::new(4);
        for key in 0..4 {
            assert_eq!(table.insert(key, key, worth), None);
        }
        assert_eq!(table.insert(2, 20, worth), None, "replaced");
        assert_eq!(table.insert(9, 9, worth), Some((0, 0)));
        assert_eq!(table.remove(&1), Some(1));
        assert_eq!(table.remove(&1), None);
        for (key, value) in [(2, 20), (3, 3), (9, 9)] {
            assert_eq!(table.get(&key), Some(&value), "{key}");
        }
        table.retain(|key, _| *key != 3);
        assert_eq!((table.get(&3), table.get(&9), table.len()), (None, Some(&9), 2));
        assert_eq!(table.take().len(), 2);
        assert!(table.is_empty() && table.get(&9).is_none());
    }
}
