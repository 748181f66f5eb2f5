//! What is given back, when, and how fast: decisions without effects.

use mailcluster_types::Seq;

use super::survey::Use;
use crate::{mirrors::Claim, segment, space};

const MIB: u64 = 1 << 20;
/// Newest segments that are always kept as they are.
const RETAINED_SEGMENTS: u64 = 4;
/// Octets of the newest log that are kept at most.
const RETAINED: u64 = 1 << 30;
/// Rows of bodies that one round moves at most: what is known of them is held in memory.
const ROUND_ROWS: u64 = 100_000;
/// Octets that one round keeps at most.
const ROUND_OCTETS: u64 = 1 << 30;

/// How short of room a volume is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Room {
    /// There is enough.
    Enough,
    /// Soon deliveries would be refused.
    Short,
}

/// What others may want, beside what those say who ought to know them: the log may name some that nobody has told of yet.
pub fn claim(in_sync: &[Vec<u8>], me: &[u8], said: Claim) -> Claim {
    let has_others = in_sync.iter().any(|id| id != me);
    if has_others && said == Claim::Nothing { Claim::All } else { said }
}

/// What a replica that follows keeps for others: what its primary says, and all as long as that says nothing (it takes a
/// snapshot then, is another line, or follows nobody). Where room is short, those who lag behind take a snapshot; what is
/// not in the index, and may be cut off, is kept in any case.
pub fn of_follower(told: Option<Seq>, applied: Seq, room: Room) -> Claim {
    match (told, room) {
        (None, _) => Claim::All,
        (Some(wanted), Room::Enough) => Claim::From(wanted.min(applied)),
        (Some(_), Room::Short) => Claim::From(applied),
    }
}

/// What bounds what may go.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// The segment of the last record that the index has: what follows it may not be committed, and be cut off.
    pub index: Seq,
    /// The first segment of the newest log.
    pub retained: Seq,
    /// What others may want.
    pub claim: Claim,
}

/// Only segments before this one may go, by all but the base.
pub fn before(segments: &[Seq], bounds: Bounds) -> Seq {
    bounds.index.min(bounds.retained).min(unclaimed(segments, bounds.claim))
}

/// The first segment that others may want something of: the one before that which has the record. Where lines part one day,
/// what came before tells the two apart; the one may have too little of that.
pub fn unclaimed(segments: &[Seq], claim: Claim) -> Seq {
    match claim {
        Claim::All => 0,
        Claim::From(wanted) => {
            let up_to = segments.partition_point(|first| *first <= wanted);
            up_to.checked_sub(2).and_then(|at| segments.get(at)).copied().unwrap_or(0)
        }
        Claim::Nothing => Seq::MAX,
    }
}

/// May the log begin with this record from now on?
pub fn may_begin(first: Seq, claim: Claim) -> bool {
    match claim {
        Claim::All => false,
        Claim::From(wanted) => first <= wanted,
        Claim::Nothing => true,
    }
}

/// By what is free on a volume.
pub fn room((free, total): (u64, u64)) -> Room {
    if free < space::reserve(total).saturating_mul(2) { Room::Short } else { Room::Enough }
}

/// Octets of the newest log that are kept as they are: four segments at least, 5 % of the volume and 1 GiB at most.
pub fn retained(segment_size: u64, total: u64) -> u64 {
    (segment_size * RETAINED_SEGMENTS).max(RETAINED.min(total / 20))
}

/// The first segment of those that are kept. `segments` have their lengths, ascending.
pub fn first_retained(segments: &[(Seq, u64)], octets: u64) -> Seq {
    let mut sum = 0;
    let kept = segments.iter().rev().find(|(_, length)| {
        sum += length;
        sum >= octets
    });
    kept.or(segments.first()).map_or(0, |(first, _)| *first)
}

/// The share of a file that must be dead, in percent.
pub fn least_dead(room: Room) -> u64 {
    match room {
        Room::Enough => 50,
        Room::Short => 20,
    }
}

/// Octets a second that are read and written.
pub fn octets_per_second(room: Room, is_busy: bool) -> u64 {
    match (room, is_busy) {
        (_, false) => 128 * MIB,
        (Room::Short, true) => 48 * MIB,
        (Room::Enough, true) => 16 * MIB,
    }
}

/// The files that are worth it, the most dead first; of segments only those before `before`. As many as a round takes.
pub fn victims(files: &[Use], before: Seq, room: Room) -> Vec<Use> {
    let is_due = |file: &&Use| {
        (segment::is_pack(file.number) || file.number < before)
            && file.dead() * 100 >= file.size * least_dead(room)
    };
    let mut due: Vec<Use> = files.iter().filter(is_due).copied().collect();
    // Parts in a thousand, so that files of about the same share are taken in the order of the log.
    due.sort_by_key(|file| (std::cmp::Reverse(file.dead() * 1000 / file.size.max(1)), file.number));
    let (mut rows, mut octets) = (0, 0);
    let mut fits = |file: &Use| {
        let is_first = rows == 0;
        rows += file.rows;
        octets += file.live;
        // A file that would be too much by itself is taken alone.
        file.rows == 0 || is_first || (rows <= ROUND_ROWS && octets <= ROUND_OCTETS)
    };
    due.into_iter().take_while(|file| fits(file)).collect()
}

/// What a new base would make possible, in octets: the dead ones of segments that are behind the last base.
pub fn gain(files: &[Use], before: Seq, base: Seq, room: Room) -> u64 {
    let without: u64 = victims(files, before.min(base), room).iter().map(Use::dead).sum();
    let with: u64 = victims(files, before, room).iter().map(Use::dead).sum();
    with.saturating_sub(without)
}

/// Is it worth to copy an index of so many octets for that?
pub fn is_base_worth(gain: u64, index: u64, room: Room) -> bool {
    let least = match room {
        Room::Enough => index,
        Room::Short => index / 8,
    };
    gain > 0 && gain >= least
}

/// Is there room for so many octets? They may come out of what is kept free, but for a half of it.
pub fn has_room((free, total): (u64, u64), octets: u64) -> bool {
    free.saturating_sub(space::reserve(total) / 2) >= octets
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    fn file(number: u64, size: u64, live: u64) -> Use {
        Use { number, size, live, rows: live, ids: (0, 0) }
    }

    #[test]
    fn whom_the_log_names_and_nobody_knows_may_want_all_of_it() {
        use Claim::{All, From, Nothing};
        let (me, other) = (vec![1; 16], vec![2; 16]);
        for (in_sync, said, expected) in [
            (vec![me.clone()], Nothing, Nothing),
            (vec![], Nothing, Nothing),
            (vec![me.clone(), other.clone()], Nothing, All),
            (vec![other.clone()], Nothing, All),
            (vec![me.clone()], All, All),
            (vec![me.clone(), other.clone()], From(7), From(7)),
            (vec![me.clone()], From(7), From(7)),
        ] {
            assert_eq!(claim(&in_sync, &me, said), expected, "{in_sync:?} {said:?}");
        }
    }

    #[test]
    fn who_follows_keeps_what_its_primary_says_and_what_is_not_in_its_index() {
        for (told, applied, room, expected) in [
            (None, 50, Room::Enough, Claim::All),
            (None, 50, Room::Short, Claim::All),
            (Some(30), 50, Room::Enough, Claim::From(30)),
            (Some(30), 50, Room::Short, Claim::From(50)),
            (Some(70), 50, Room::Enough, Claim::From(50)),
            (Some(70), 50, Room::Short, Claim::From(50)),
        ] {
            assert_eq!(of_follower(told, applied, room), expected, "{told:?} {applied} {room:?}");
        }
    }

    #[test]
    fn no_segment_goes_that_others_may_want_or_that_may_be_cut() {
        use Claim::{All, From, Nothing};
        let log = [11, 21, 31, 41, 51];
        for (index, retained, said, first) in [
            (51, 41, Nothing, 41),
            (31, 41, Nothing, 31),
            (51, 41, All, 0),
            (51, 51, From(30), 11),
            (51, 51, From(31), 21),
            (51, 51, From(50), 31),
            (51, 21, From(50), 21),
            (21, 51, From(50), 21),
            (51, 51, From(15), 0),
            // What it wants is not there any more.
            (51, 51, From(10), 0),
        ] {
            let bounds = Bounds { index, retained, claim: said };
            assert_eq!(before(&log, bounds), first, "{bounds:?}");
        }
        for (first, said, may) in
            [(31, All, false), (31, From(30), false), (31, From(31), true), (31, Nothing, true)]
        {
            assert_eq!(may_begin(first, said), may, "{first} {said:?}");
        }
    }

    #[test]
    fn the_newest_log_is_kept() {
        for (segment_size, total, kept) in [
            (64 * MIB, 1000 * GIB, GIB),
            (64 * MIB, 10 * GIB, GIB / 2),
            (64 * MIB, GIB, 256 * MIB),
            (MIB, 40 * MIB, 4 * MIB),
        ] {
            assert_eq!(retained(segment_size, total), kept, "{segment_size} {total}");
        }
        let log = [(1, 100), (11, 100), (21, 100), (31, 10)];
        for (octets, first) in [(0, 31), (10, 31), (11, 21), (110, 21), (111, 11), (310, 1), (999, 1)] {
            assert_eq!(first_retained(&log, octets), first, "{octets}");
        }
        assert_eq!(first_retained(&[], 1), 0);
    }

    #[test]
    fn the_most_dead_come_first_and_those_that_are_mostly_alive_stay() {
        let pack = segment::PACK | 3;
        let files =
            [file(1, 100, 50), file(11, 100, 51), file(21, 100, 0), file(31, 100, 0), file(pack, 100, 10)];
        let numbers =
            |before, room| victims(&files, before, room).into_iter().map(|f| f.number).collect::<Vec<_>>();
        for (before, room, chosen) in [
            (100, Room::Enough, vec![21, 31, pack, 1]),
            (100, Room::Short, vec![21, 31, pack, 1, 11]),
            (31, Room::Enough, vec![21, pack, 1]),
            (1, Room::Enough, vec![pack]),
        ] {
            assert_eq!(numbers(before, room), chosen, "{before} {room:?}");
        }
        assert_eq!(gain(&files, 100, 21, Room::Enough), 200);
        assert_eq!(gain(&files, 100, 100, Room::Enough), 0);
    }

    #[test]
    fn a_round_is_bounded() {
        let many: Vec<Use> = (1..=10).map(|n| file(n, 1_000_000, ROUND_ROWS / 4 + 1)).collect();
        assert_eq!(victims(&many, 100, Room::Enough).len(), 3);
        let large = [file(1, ROUND_OCTETS * 9, ROUND_OCTETS * 2), file(2, 100, 50)];
        let numbers =
            |files: &[Use]| victims(files, 100, Room::Enough).iter().map(|f| f.number).collect::<Vec<_>>();
        assert_eq!(numbers(&large), [1], "what is too much by itself goes alone");
    }

    #[test]
    fn room_decides_how_much_and_how_fast() {
        let reserve = space::reserve(100 * GIB);
        assert_eq!(room((reserve * 2, 100 * GIB)), Room::Enough);
        assert_eq!(room((reserve * 2 - 1, 100 * GIB)), Room::Short);
        assert!(octets_per_second(Room::Enough, true) < octets_per_second(Room::Short, true));
        assert!(octets_per_second(Room::Short, true) < octets_per_second(Room::Short, false));
        for (gain, index, room, worth) in [
            (0, 0, Room::Enough, false),
            (99, 100, Room::Enough, false),
            (100, 100, Room::Enough, true),
            (12, 100, Room::Short, true),
            (11, 100, Room::Short, false),
        ] {
            assert_eq!(is_base_worth(gain, index, room), worth, "{gain} {index} {room:?}");
        }
        assert!(has_room((reserve, 100 * GIB), reserve / 2));
        assert!(!has_room((reserve, 100 * GIB), reserve / 2 + 1));
    }
}
