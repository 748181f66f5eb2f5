//! What of a primary's log the other replicas may still want: it does not give that room back.

use crate::Millis;

/// Another replica of the store, as its primary knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Other {
    /// Does it count for what is acknowledged?
    pub is_in_sync: bool,
    /// The last record of what it has, or will have when the snapshot is there that it is sent. `None`: nobody knows, it was
    /// not heard at this epoch.
    pub has: Option<u64>,
    /// For how long it was not heard; since the term began, if it never was.
    pub silent: Millis,
}

/// What [`wanted_from`] is decided by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClaimView<'a> {
    /// The other replicas: those that are named, and those that count.
    pub others: &'a [Other],
    /// What is committed.
    pub commit: u64,
    /// For so long the log is kept for one that is silent.
    pub patience: Millis,
    /// Is the primary's volume short of room?
    pub is_short: bool,
}

/// The first record that must stay; `None`: all of them.
///
/// What a replica has last must stay, too: where their logs part one day, what follows is told apart by what comes before.
/// One that counts is always waited for. Another is, unless it is silent for long, or room is short: it takes a snapshot then,
/// and what a forced promotion of it would leave behind here need not be all there.
#[must_use]
pub fn wanted_from(view: &ClaimView<'_>) -> Option<u64> {
    let counts = |other: &&Other| other.is_in_sync || (!view.is_short && other.silent < view.patience);
    let all: Option<Vec<u64>> = view.others.iter().filter(counts).map(|other| other.has).collect();
    all.map(|all| all.into_iter().fold(view.commit, u64::min))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_is_kept_for_those_who_follow_and_not_without_end_for_those_who_do_not() {
        let other = |is_in_sync, has, silent| Other { is_in_sync, has, silent };
        let in_sync = |has| other(true, has, 0);
        let lags = |has, silent| other(false, has, silent);
        for (others, is_short, expected) in [
            (vec![], false, Some(90)),
            (vec![in_sync(Some(95))], false, Some(90)),
            (vec![in_sync(Some(90))], true, Some(90)),
            (vec![in_sync(None)], false, None),
            (vec![in_sync(None)], true, None),
            (vec![other(true, None, 1_000_000)], true, None),
            (vec![other(true, Some(80), 1_000_000)], true, Some(80)),
            (vec![in_sync(Some(95)), lags(Some(30), 0)], false, Some(30)),
            (vec![in_sync(Some(95)), lags(Some(30), 999)], false, Some(30)),
            (vec![in_sync(Some(95)), lags(Some(30), 1000)], false, Some(90)),
            (vec![in_sync(Some(95)), lags(Some(30), 0)], true, Some(90)),
            (vec![in_sync(Some(95)), lags(None, 999)], false, None),
            (vec![in_sync(Some(95)), lags(None, 1000)], false, Some(90)),
            (vec![in_sync(Some(95)), lags(None, 0)], true, Some(90)),
            (vec![lags(Some(30), 0), lags(Some(20), 5000)], false, Some(30)),
        ] {
            let view = ClaimView { others: &others, commit: 90, patience: 1000, is_short };
            assert_eq!(wanted_from(&view), expected, "{others:?} {is_short}");
        }
    }
}
