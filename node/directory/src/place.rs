//! Which store a new account goes to: a pure decision.

use std::{cmp::Reverse, collections::HashMap};

use mailcluster_types::StoreName;

use crate::StoreLoad;

/// A store with less than this share of its volume free gets no new accounts, while another has more.
const LEAST_FREE_PERCENT: u64 = 15;

/// The store with the fewest accounts among those that have room, so that a domain spreads over all stores; among
/// equals the one with the most room, then by name. `accounts` counts live accounts by store.
#[must_use]
pub fn place(stores: &[StoreLoad], accounts: &HashMap<StoreName, u64>) -> Option<StoreName> {
    let open = || stores.iter().filter(|s| s.takes_accounts);
    let rank = |s: &&StoreLoad| {
        let count = accounts.get(&s.store).copied().unwrap_or(0);
        (count, Reverse(s.free_octets.unwrap_or(0)), s.store.clone())
    };
    open()
        .filter(|s| has_room(s))
        .min_by_key(rank)
        .or_else(|| open().min_by_key(rank))
        .map(|s| s.store.clone())
}

fn has_room(store: &StoreLoad) -> bool {
    match (store.free_octets, store.total_octets) {
        (Some(free), Some(total)) => {
            u128::from(free) * 100 >= u128::from(total) * u128::from(LEAST_FREE_PERCENT)
        }
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(name: &str, free: u64, takes_accounts: bool) -> StoreLoad {
        StoreLoad { store: name.into(), free_octets: Some(free), total_octets: Some(100), takes_accounts }
    }

    #[test]
    fn fewest_accounts_among_those_with_room() {
        type Case<'a> = (&'a [(&'a str, u64, bool, u64)], Option<&'a str>);
        let cases: &[Case<'_>] = &[
            (&[], None),
            (&[("s-0", 50, false, 0)], None),
            (&[("s-0", 50, true, 3), ("s-1", 50, true, 2)], Some("s-1")),
            (&[("s-0", 50, true, 3), ("s-1", 14, true, 0)], Some("s-0")),
            (&[("s-0", 14, true, 3), ("s-1", 1, true, 0)], Some("s-1")),
            (&[("s-0", 50, true, 2), ("s-1", 60, true, 2)], Some("s-1")),
            (&[("s-1", 50, true, 2), ("s-0", 50, true, 2)], Some("s-0")),
            (&[("s-0", 50, true, 2), ("s-1", 60, false, 0)], Some("s-0")),
        ];
        for (stores, expected) in cases {
            let loads: Vec<_> = stores.iter().map(|(n, f, t, _)| load(n, *f, *t)).collect();
            let accounts = stores.iter().map(|(n, _, _, a)| (StoreName::from(*n), *a)).collect();
            assert_eq!(place(&loads, &accounts), expected.map(StoreName::from), "{stores:?}");
        }
    }

    #[test]
    fn a_thousand_accounts_spread_evenly() {
        let stores = ["a", "b", "c"].map(|n| StoreLoad::named(n.into()));
        let mut accounts = HashMap::new();
        for _ in 0..999 {
            *accounts.entry(place(&stores, &accounts).unwrap()).or_default() += 1;
        }
        assert!(accounts.values().all(|n| *n == 333), "{accounts:?}");
    }
}
