//! The epoch table of a log, and where two logs part.

use crate::Position;

/// Where an epoch begins in a log: the record EpochStart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct EpochEntry {
    /// The epoch.
    pub epoch: u64,
    /// The sequence of its EpochStart, the first record of that epoch.
    pub first_seq: u64,
    /// Did a person let a replica begin it that need not have had every acknowledged record?
    pub forced: bool,
}

/// As much of a log as another replica must know to find where the two part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogShape<'a> {
    /// Its epochs, ascending.
    pub epochs: &'a [EpochEntry],
    /// Its last record; 0/0 of an empty log.
    pub end: Position,
}

impl LogShape<'_> {
    /// The epoch of a record; `None` where the log has no such record.
    pub(super) fn epoch_of(&self, seq: u64) -> Option<u64> {
        let began = self.epochs.iter().rev().find(|entry| entry.first_seq <= seq);
        began.filter(|_| seq <= self.end.seq).map(|entry| entry.epoch)
    }

    /// The last sequence written at the epoch that stands at `at` in the table.
    fn last_seq(&self, at: usize) -> u64 {
        self.epochs.get(at + 1).map_or(self.end.seq, |next| next.first_seq.saturating_sub(1))
    }
}

/// The last record that both logs have; 0/0 when there is none.
///
/// An epoch has one process, which appends one sequence (I1): two logs that both have an epoch's first record are equal
/// up to the end of the shorter part of that epoch. Positions alone say nothing (C1): two logs may have records of
/// different epochs under one sequence.
#[must_use]
pub fn fork(a: LogShape<'_>, b: LogShape<'_>) -> Position {
    let same = |(x, y): &(&EpochEntry, &EpochEntry)| x.epoch == y.epoch && x.first_seq == y.first_seq;
    let shared = a.epochs.iter().zip(b.epochs).take_while(same).count();
    let Some(last) = shared.checked_sub(1) else { return Position::default() };
    Position { epoch: a.epochs[last].epoch, seq: a.last_seq(last).min(b.last_seq(last)) }
}
