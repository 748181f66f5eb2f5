//! Which gates to write: pure.

use std::collections::{BTreeMap, BTreeSet};

/// Misses in a row after which a frontend is taken out.
const MISSES: u32 = 3;

/// Where a frontend belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gate {
    /// Into the Service.
    In,
    /// Out of it.
    Out,
}

/// One frontend in one round.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The pod's UID.
    pub uid: String,
    /// Its cluster.
    pub cluster: String,
    /// Did it answer?
    pub reached: bool,
    /// Its gate as it stands in the API; none: never written.
    pub gate: Option<bool>,
    /// Is it not Ready by our word alone? Its kubelet has said nothing since.
    pub is_held: bool,
}

/// What is remembered from round to round.
#[derive(Debug, Default)]
pub struct Round {
    misses: BTreeMap<String, u32>,
}

impl Round {
    /// The gates to write after this round. When no frontend of a cluster answers, the leader rather than all of them
    /// is cut off, and nothing is taken out.
    pub fn decide(&mut self, records: Vec<Record>) -> Vec<(String, Gate)> {
        let known: BTreeSet<&String> = records.iter().map(|r| &r.uid).collect();
        self.misses.retain(|uid, _| known.contains(uid));
        let alive: BTreeSet<String> =
            records.iter().filter(|r| r.reached).map(|r| r.cluster.clone()).collect();
        let mut writes = Vec::new();
        for record in records {
            let misses = self.misses.entry(record.uid.clone()).or_default();
            *misses = if record.reached { 0 } else { misses.saturating_add(1) };
            if record.reached && (record.gate != Some(true) || record.is_held) {
                writes.push((record.uid, Gate::In));
            } else if *misses >= MISSES && record.gate == Some(true) && alive.contains(&record.cluster) {
                writes.push((record.uid, Gate::Out));
            }
        }
        writes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(uid: &str, reached: bool, gate: Option<bool>) -> Record {
        Record { uid: uid.into(), cluster: "mail/demo".into(), reached, gate, is_held: false }
    }

    #[test]
    fn three_misses_take_a_frontend_out_and_one_answer_brings_it_back() {
        let mut round = Round::default();
        let both = |b: bool, gate| vec![record("a", true, Some(true)), record("b", b, gate)];
        assert_eq!(round.decide(both(true, None)), [("b".to_owned(), Gate::In)]);
        assert_eq!(round.decide(both(false, Some(true))), []);
        assert_eq!(round.decide(both(false, Some(true))), []);
        assert_eq!(round.decide(both(false, Some(true))), [("b".to_owned(), Gate::Out)]);
        assert_eq!(round.decide(both(false, Some(false))), []);
        assert_eq!(round.decide(both(true, Some(false))), [("b".to_owned(), Gate::In)]);
        assert_eq!(round.decide(both(false, Some(true))), [], "counted anew");
    }

    #[test]
    fn what_was_said_for_a_kubelet_that_is_silent_is_taken_back() {
        let mut round = Round::default();
        let held = |reached| vec![Record { is_held: true, ..record("a", reached, Some(true)) }];
        assert_eq!(round.decide(held(false)), []);
        assert_eq!(round.decide(held(true)), [("a".to_owned(), Gate::In)]);
    }

    #[test]
    fn the_last_frontends_stay_in() {
        let mut round = Round::default();
        for _ in 0..5 {
            let all = vec![record("a", false, Some(true)), record("b", false, Some(true))];
            assert_eq!(round.decide(all), []);
        }
        let one_back = vec![record("a", true, Some(true)), record("b", false, Some(true))];
        assert_eq!(round.decide(one_back), [("b".to_owned(), Gate::Out)]);
    }

    #[test]
    fn pods_that_are_gone_are_forgotten() {
        let mut round = Round::default();
        round.decide(vec![record("a", false, None)]);
        round.decide(vec![]);
        assert!(round.misses.is_empty());
    }
}
