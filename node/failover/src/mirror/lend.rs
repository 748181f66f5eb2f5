//! Who is asked for a record that is damaged, and who may hand one out.

use super::log::LogShape;
use crate::Position;

/// What a replica knows that is asked for a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LendView<'a> {
    /// It has promised this epoch.
    pub promise: u64,
    /// The epoch of the primary that asks.
    pub asker: u64,
    /// Its log.
    pub own: LogShape<'a>,
    /// Everything up to this record is committed, by its index.
    pub commit: u64,
    /// The record.
    pub wanted: Position,
}

/// May it be handed out? Not to a primary that another has followed, nothing that may have to be cut off again, and nothing
/// of another line than the asker's.
#[must_use]
pub fn may_lend(view: &LendView<'_>) -> bool {
    view.asker >= view.promise
        && view.wanted.seq <= view.commit
        && view.own.epoch_of(view.wanted.seq) == Some(view.wanted.epoch)
}

/// What a primary knows whose own record is damaged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AskView<'a> {
    /// This replica.
    pub me: &'a str,
    /// Its log.
    pub own: LogShape<'a>,
    /// The effective in-sync set.
    pub effective: &'a [&'a str],
    /// What the index of each mirror has that has confirmed anything at this epoch.
    pub applied: &'a [(&'a str, u64)],
    /// The record.
    pub wanted: Position,
}

/// Who may have it: the members of the effective set of which this primary has heard that it is committed there. One that is
/// behind, or has not joined at this epoch, is not asked; nor is anybody for a record that is not of this line.
#[must_use]
pub fn askable(view: &AskView<'_>) -> Vec<String> {
    if view.own.epoch_of(view.wanted.seq) != Some(view.wanted.epoch) {
        return Vec::new();
    }
    let has_it = |id: &&&str| {
        **id != view.me && view.applied.iter().any(|(mirror, seq)| mirror == *id && *seq >= view.wanted.seq)
    };
    view.effective.iter().filter(has_it).map(|id| (*id).to_owned()).collect()
}
