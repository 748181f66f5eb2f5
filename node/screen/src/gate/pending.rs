//! What is to be reported, added up.

use std::collections::HashMap;

use crate::{Cidr, Kind, Observation};

/// Entries that name an account, of one report.
const NAMED: usize = 10_000;
/// Entries of one report in all.
const MOST: usize = 20_000;

/// What was seen since the last report.
#[derive(Debug, Default)]
pub(super) struct Pending {
    entries: HashMap<(Cidr, Kind, String), u32>,
    dropped: u64,
}

impl Pending {
    /// One more. When there are many already it is counted without its account; when there is no room, as dropped.
    pub(super) fn add(&mut self, client: Cidr, kind: Kind, account: String) {
        let mut key = (client, kind, account);
        if self.entries.len() >= NAMED && !self.entries.contains_key(&key) {
            key.2 = String::new();
        }
        if self.entries.len() >= MOST && !self.entries.contains_key(&key) {
            self.dropped = self.dropped.saturating_add(1);
            return;
        }
        let count = self.entries.entry(key).or_default();
        *count = count.saturating_add(1);
    }

    /// All of it.
    pub(super) fn take(&mut self) -> Vec<Observation> {
        let entries = std::mem::take(&mut self.entries);
        entries
            .into_iter()
            .map(|((client, kind, account), count)| Observation { client, kind, account, count })
            .collect()
    }

    /// What found no room, ever.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_bounded_and_adds_up() {
        let client = |number: u32| Cidr::address(std::net::Ipv4Addr::from_bits(number).into());
        let mut pending = Pending::default();
        for number in 0..50_000_u32 {
            pending.add(client(1), Kind::Failed, format!("user{number}"));
        }
        let report = pending.take();
        assert_eq!(report.len(), NAMED + 1);
        assert_eq!(
            report.iter().map(|seen| seen.count).sum::<u32>(),
            50_000,
            "nothing is lost of one client"
        );
        assert!(pending.take().is_empty());
        for number in 0..50_000 {
            pending.add(client(number), Kind::Abuse, String::new());
        }
        assert_eq!((pending.take().len(), pending.dropped()), (MOST, 30_000));
    }
}
