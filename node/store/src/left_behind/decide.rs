//! What becomes of each thing that only the line left behind has, beside what the new line has by now. Functions of what
//! they are given: what the new line has touched since the two parted is never undone.

use mailcluster_types::ModSeq;

/// A message that both lines had when they parted, as the new line has it now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Here {
    /// It is gone.
    Gone,
    /// It is as it was.
    Same,
    /// It was changed.
    Changed,
}

/// How it is here: `modseq` of the message, `None` when it is not there; `fork` is the highest MODSEQ of both lines.
#[must_use]
pub fn here(modseq: Option<ModSeq>, fork: ModSeq) -> Here {
    match modseq {
        None => Here::Gone,
        Some(modseq) if modseq <= fork => Here::Same,
        Some(_) => Here::Changed,
    }
}

/// What is done with a change of a message that both lines had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// There is nothing to do.
    Nothing,
    /// It is made here, too.
    Apply,
    /// The new line's own change stands, and the item is listed.
    Keep,
}

/// Other flags; `equal`: it has them here, too.
#[must_use]
pub fn flags(here: Here, equal: bool) -> Verdict {
    match here {
        Here::Same | Here::Changed if equal => Verdict::Nothing,
        Here::Same => Verdict::Apply,
        Here::Changed | Here::Gone => Verdict::Keep,
    }
}

/// It went.
#[must_use]
pub fn gone(here: Here) -> Verdict {
    match here {
        Here::Gone => Verdict::Nothing,
        Here::Same => Verdict::Apply,
        Here::Changed => Verdict::Keep,
    }
}

/// Has the new line got a delivery by another way: from a queue that tried again?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Known {
    /// No.
    No,
    /// Yes.
    Yes,
    /// It is so old that nobody remembers.
    Forgotten,
}

/// The messages of one body that came on the line left behind.
#[derive(Debug, Clone, Copy)]
pub struct CameView<'a> {
    /// Both lines had the body when they parted: what came was moved or copied.
    pub was_there: bool,
    /// How many came.
    pub came: usize,
    /// How many of the messages that both lines had with this body the line left behind still has.
    pub held: usize,
    /// Those that it no longer has and the new line has: never [`Here::Gone`].
    pub lost: &'a [Here],
    /// Of a body that came with a delivery.
    pub known: Known,
}

/// What becomes of one of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// It is put there with a new UID.
    New,
    /// It is moved there from the place of this number in `lost`.
    Move(usize),
    /// The new line has it: by another way than this.
    Already,
    /// The new line has changed or removed the message that was moved: that stands.
    Keep,
    /// Nobody can tell whether the new line had it: a person has to.
    Hold,
}

/// What becomes of each message that came, in their order.
///
/// A client without MOVE copies and expunges: so what matters is not how they came, but that of the places of a body some
/// are lost and others came. As many as were lost have moved; the others are copies.
#[must_use]
pub fn place(view: &CameView<'_>) -> Vec<Place> {
    if !view.was_there {
        let first = match view.known {
            Known::No => Place::New,
            Known::Yes => Place::Already,
            Known::Forgotten => Place::Hold,
        };
        return std::iter::once(first).chain(std::iter::repeat(Place::New)).take(view.came).collect();
    }
    // Those that can be moved first: a change of the new line to one of several of the same body stands.
    let same = view.lost.iter().enumerate().filter(|(_, here)| **here == Here::Same);
    let mut moves = same.map(|(at, _)| Place::Move(at)).collect::<Vec<_>>();
    let changed = view.lost.iter().filter(|here| **here == Here::Changed).count();
    moves.extend(std::iter::repeat_n(Place::Keep, changed));
    if moves.is_empty() && view.held == 0 {
        // The only one that there was: the new line has removed it.
        moves.push(Place::Keep);
    }
    moves.into_iter().chain(std::iter::repeat(Place::New)).take(view.came).collect()
}

/// A record of the directory's, as far as it matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// Rises with every change.
    pub generation: u64,
    /// Logins are refused.
    pub suspended: bool,
    /// It was deleted.
    pub tombstone: bool,
}

/// What is done with a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Put {
    /// Nothing.
    Nothing,
    /// It takes the place of the one that is here.
    Put,
    /// It does, and stays suspended.
    PutSuspended,
    /// The one that is here is suspended.
    Suspend,
    /// It was deleted, and is not here: a person has to say so again.
    Listed,
}

/// An account's, domain's or alias's record. The later change wins, a disabling always does, and nothing is deleted.
/// `is_truth`: in the directory; a mail store follows that, and never changes a record by itself.
#[must_use]
pub fn record(left: Standing, here: Option<Standing>, is_truth: bool) -> Put {
    let is_later = here.is_none_or(|here| left.generation > here.generation);
    let is_live_here = here.is_some_and(|here| !here.tombstone);
    let is_suspended_here = here.is_some_and(|here| here.suspended && !here.tombstone);
    match () {
        () if left.tombstone && is_later && is_live_here && is_truth => Put::Listed,
        () if left.tombstone => Put::Nothing,
        () if is_later && is_truth && is_suspended_here && !left.suspended => Put::PutSuspended,
        () if is_later => Put::Put,
        () if is_truth && left.suspended && is_live_here && !is_suspended_here => Put::Suspend,
        () => Put::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_as_it_was_until_the_new_line_changes_it() {
        for (modseq, expected) in
            [(None, Here::Gone), (Some(9), Here::Same), (Some(10), Here::Same), (Some(11), Here::Changed)]
        {
            assert_eq!(here(modseq, 10), expected, "{modseq:?}");
        }
    }

    #[test]
    fn flags_and_expunges_never_undo_what_the_new_line_did() {
        use Here::{Changed, Gone, Same};
        use Verdict::{Apply, Keep, Nothing};
        for (here, equal, expected) in [
            (Same, false, Apply),
            (Same, true, Nothing),
            (Changed, false, Keep),
            (Changed, true, Nothing),
            (Gone, false, Keep),
        ] {
            assert_eq!(flags(here, equal), expected, "{here:?} {equal}");
        }
        for (here, expected) in [(Gone, Nothing), (Same, Apply), (Changed, Keep)] {
            assert_eq!(gone(here), expected, "{here:?}");
        }
    }

    #[test]
    fn a_delivery_that_the_new_line_has_is_not_put_there_twice() {
        use Place::{Already, Hold, New};
        for (known, came, expected) in [
            (Known::No, 1, vec![New]),
            (Known::Yes, 1, vec![Already]),
            (Known::Forgotten, 1, vec![Hold]),
            // Its copies are messages of their own.
            (Known::No, 3, vec![New, New, New]),
            (Known::Yes, 2, vec![Already, New]),
            (Known::Forgotten, 2, vec![Hold, New]),
            (Known::No, 0, vec![]),
        ] {
            let view = CameView { was_there: false, came, held: 0, lost: &[], known };
            assert_eq!(place(&view), expected, "{known:?} {came}");
        }
    }

    #[test]
    fn what_moved_moves_where_the_new_line_has_not_touched_it() {
        use Here::{Changed, Same};
        use Place::{Keep, Move, New};
        let table: &[(usize, usize, &[Here], &[Place])] = &[
            // Moved, and here as it was; changed; or gone.
            (1, 0, &[Same], &[Move(0)]),
            (1, 0, &[Changed], &[Keep]),
            (1, 0, &[], &[Keep]),
            // Copied: the original is there still, whatever the new line did to its own.
            (1, 1, &[], &[New]),
            (2, 1, &[], &[New, New]),
            // Copied and moved.
            (2, 0, &[Same], &[Move(0), New]),
            (2, 0, &[Changed], &[Keep, New]),
            (2, 0, &[], &[Keep, New]),
            // Several of one body, not all of which moved.
            (1, 0, &[Changed, Same], &[Move(1)]),
            (2, 0, &[Changed, Same], &[Move(1), Keep]),
            (1, 1, &[Same], &[Move(0)]),
            (0, 0, &[Same], &[]),
        ];
        for (came, held, lost, expected) in table {
            let view = CameView { was_there: true, came: *came, held: *held, lost, known: Known::No };
            assert_eq!(place(&view), *expected, "{came} came, {held} held, {lost:?}");
        }
    }

    #[test]
    fn the_later_record_wins_and_a_disabling_always() {
        let of = |generation, suspended, tombstone| Standing { generation, suspended, tombstone };
        let live = |generation| of(generation, false, false);
        let off = |generation| of(generation, true, false);
        let dead = |generation| of(generation, false, true);
        let table = [
            (live(5), None, Put::Put, Put::Put),
            (live(5), Some(live(4)), Put::Put, Put::Put),
            (live(5), Some(live(5)), Put::Nothing, Put::Nothing),
            (live(5), Some(live(6)), Put::Nothing, Put::Nothing),
            (live(5), Some(dead(4)), Put::Put, Put::Put),
            (live(5), Some(dead(6)), Put::Nothing, Put::Nothing),
            // In the directory a disabling wins over a later change, from either side.
            (off(5), Some(live(6)), Put::Suspend, Put::Nothing),
            (off(5), Some(live(4)), Put::Put, Put::Put),
            (off(5), Some(off(6)), Put::Nothing, Put::Nothing),
            (off(5), Some(dead(6)), Put::Nothing, Put::Nothing),
            (live(5), Some(off(4)), Put::PutSuspended, Put::Put),
            // Nothing is deleted.
            (dead(5), Some(live(4)), Put::Listed, Put::Nothing),
            (dead(5), Some(live(6)), Put::Nothing, Put::Nothing),
            (dead(5), Some(dead(4)), Put::Nothing, Put::Nothing),
            (dead(5), None, Put::Nothing, Put::Nothing),
        ];
        for (left, here, truth, copy) in table {
            assert_eq!(record(left, here, true), truth, "directory: {left:?} {here:?}");
            assert_eq!(record(left, here, false), copy, "mail store: {left:?} {here:?}");
        }
    }
}
