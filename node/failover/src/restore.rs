//! A Lease that is gone is made anew from what all copies of the store say of themselves (A5).
//!
//! **When nothing that was acknowledged can be missing.** What is acknowledged is with every member of the in-sync set, so one
//! member of the set in force is enough; but its copies are all that tell which set that was, and one that is not here may
//! know a later one. Let S be the last set that the longest log here names. Whoever writes the set behind S holds the store, or
//! takes it over, as a member of S, and notes that set in its own log; and so on for the sets behind that one. So when every
//! member of S is here with its data, and no log names a later set, there was none, but for one that its holder had not noted
//! yet (it does so at once): a smaller one has members that are here, and of a larger one they have what the new member has.
//! A takeover that a person forced is the exception, as it is to all of this: what it left behind, a person has given up.
//!
//! Fewer than all of S prove nothing, not even under Required, where a later set has two members. That counts on the same
//! copies being the store's for ever: of S = {A, B, C} with B and C here, A may have got D in the place of B or C since, and
//! have acknowledged with it what neither B nor C ever heard of. Nor do logs tell which durability was in force, and a Lease
//! that is older than they are tells of another day's. A person can know.

use crate::{
    Blocked, Decision, Durability, FencingMinimum, Holder, InForce, LeaseRecord, Observation, Phase,
    Position, ReplicaView, Step,
};

/// What a copy says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Witness {
    /// The copy's id.
    pub replica: String,
    /// Its process.
    pub process: Holder,
    /// The epoch that it serves at; 0: it does not.
    pub serves_at: u64,
    /// The last epoch of its log.
    pub last_epoch: u64,
    /// The last epoch of its log that began with a forced takeover; 0: none did.
    pub last_forced: u64,
    /// The highest epoch that it has promised.
    pub promise: u64,
    /// Where its log ends.
    pub end: Position,
    /// The latest version of the in-sync set that it knows of.
    pub in_sync_version: u64,
    /// The copies that must have what is acknowledged, by the last record of its log that names them; none: it does not say.
    pub in_sync: Vec<String>,
}

/// So many epochs, and versions of the in-sync set, are passed over when a copy that is not here may have more than those that
/// are: it may have begun epochs that nobody here has heard of, one at each start of its process, and no epoch has two
/// holders. It leaves room for more than 30,000 such times, as a MODSEQ has 31 bits for the epoch.
const UNSEEN: u64 = 1 << 16;

/// What a copy says of itself, as far as it tells who has everything.
#[derive(Debug, Clone, Copy)]
struct Account<'a> {
    /// Its id.
    id: &'a str,
    /// The last epoch that it has data of; 0: it is empty.
    line: u64,
    /// Where its log ends.
    end: Position,
    /// Who must have what is acknowledged, by its log.
    in_sync: &'a [String],
}

/// The copies that may have more than those that are here with their data: the members of the last in-sync set that is known
/// here which are not. `None` when there are none, or when nobody has any data. No names: nobody tells of a set.
fn missed(copies: &[Account<'_>]) -> Option<Vec<String>> {
    let with_data = || copies.iter().filter(|copy| copy.line > 0);
    let last = with_data().max_by_key(|copy| (copy.line, copy.end))?;
    let is_here = |id: &str| with_data().any(|copy| copy.id == id);
    let away: Vec<String> = last.in_sync.iter().filter(|id| !is_here(id)).cloned().collect();
    (last.in_sync.is_empty() || !away.is_empty()).then_some(away)
}

/// The last epoch that this copy has data of, or serves at.
fn line(w: &Witness) -> u64 {
    w.last_epoch.max(w.serves_at)
}

/// What is known of the store beside what its copies say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Shown<'a> {
    /// The Lease that stands, which is replaced; `None`: it is gone.
    pub lease: Option<&'a LeaseRecord>,
    /// The highest epoch that the route and the status have shown.
    pub epoch: u64,
    /// The copy that a person had take the store last, and the epoch that it was to begin.
    pub ordered: Option<(&'a str, u64)>,
}

impl Shown<'_> {
    /// The last forced takeover that the Lease knows of: the next epoch is one, too, when the copies end before what the Lease
    /// has seen committed (volumes that were restored from a backup). Clients have seen UIDs that those know nothing of.
    fn forced(&self, end: Position, epoch: u64) -> Option<u64> {
        let lease = self.lease?;
        if end < lease.position { Some(epoch + 1) } else { lease.forced }
    }
}

/// The record that the accounts of all copies give; `None`: there are none. Its epoch is the highest that one of them has
/// seen or promised, or that was `shown` elsewhere, and nothing below the end of the latest log is accepted. A process that
/// serves goes on holding it, under the strictest rule: such a Lease must not let another take the store without evidence
/// against it. Where a copy that is not here may have more, the next epoch is a forced one, above whatever that copy may have
/// begun: clients have seen UIDs that nobody here knows of, and what only that copy has is kept when it comes back.
#[must_use]
pub fn restored(copies: &[Witness], shown: Shown<'_>) -> Option<LeaseRecord> {
    // All were asked, so the last primary was: the one with the longest log of the last epoch. One that serves at an older
    // epoch was deposed, and does not know it yet.
    let last = copies.iter().max_by_key(|w| (line(w), w.serves_at, w.end))?;
    let known = shown.lease.map_or(0, |lease| lease.epoch).max(shown.epoch);
    let accounts: Vec<Account<'_>> = copies.iter().map(account).collect();
    let is_whole = missed(&accounts).is_none();
    let unseen = if is_whole { 0 } else { UNSEEN };
    let seen = copies.iter().map(|w| line(w).max(w.promise)).fold(0, u64::max);
    // Said again, as by an operator that died before it had removed the request, it passes over nothing more.
    let epoch = if known >= seen + unseen { known } else { known.max(seen) + unseen };
    let version = copies.iter().map(|w| w.in_sync_version).fold(1, u64::max) + unseen;
    // An epoch that another copy may have begun, or begin, has no second holder: whoever comes next takes the one above.
    let holds = last.serves_at > 0 && last.serves_at == epoch;
    // It took the lease and ended before its log said so: whoever comes next begins in its place.
    let took = |w: &Witness, of: &str, at: u64| w.replica == of && w.promise >= at && line(w) < at;
    let unbegun = shown.ordered.filter(|(of, at)| copies.iter().any(|w| took(w, of, *at))).map(|(_, at)| at);
    Some(LeaseRecord {
        epoch,
        // Of several, the others are let in when they have been seen to have everything, too.
        in_sync_version: version + u64::from(copies.len() > 1),
        position: last.end,
        holder: holds.then(|| last.process.clone()),
        replica: holds.then(|| last.replica.clone()),
        // Whoever follows it keeps what that takeover has left behind, rather than cut it off.
        forced: [
            Some(last.last_forced).filter(|epoch| *epoch > 0),
            unbegun,
            shown.forced(last.end, epoch),
            (!is_whole).then_some(epoch + 1),
        ]
        .into_iter()
        .flatten()
        .max(),
        in_force: holds.then_some(InForce { durability: Durability::Single, fencing: FencingMinimum::Proof }),
        ..LeaseRecord::initial(vec![last.replica.clone()], 1)
    })
}

fn account(w: &Witness) -> Account<'_> {
    Account { id: &w.replica, line: line(w), end: w.end, in_sync: &w.in_sync }
}

/// The copies that do not say what they have, and that no person leaves out.
pub(crate) fn silent(o: &Observation) -> Vec<String> {
    let is_silent = |r: &&ReplicaView| r.volume.is_none() && !o.left_out.contains(&r.id);
    o.replicas.iter().filter(is_silent).map(|r| r.id.clone()).collect()
}

/// Has it data of some epoch?
pub(crate) fn has_history(replica: &ReplicaView) -> bool {
    replica.volume.is_some_and(|volume| volume.last_epoch > 0)
}

/// The Lease is made anew when every copy has been asked: by itself where none that is not here can have more, else at a
/// person's word.
pub(crate) fn made_anew(o: &Observation, silent: Vec<String>) -> Decision {
    if !silent.is_empty() {
        return Decision::blocked(Blocked::CopiesSilent(silent));
    }
    let here = o.replicas.iter().filter_map(|r| Some((r, r.volume?)));
    let accounts: Vec<Account<'_>> = here
        .map(|(r, v)| Account { id: &r.id, line: v.last_epoch, end: v.end, in_sync: &r.in_sync })
        .collect();
    match missed(&accounts).filter(|_| !o.restore_asked) {
        Some(copies) => Decision::blocked(Blocked::CopiesMissed(copies)),
        None => Decision::new(Phase::Down, Step::RestoreLease),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Copies by one letter each: the last epoch and the end of the log, and the set that it names.
    type Told<'a> = (char, (u64, u64), &'a str);

    fn witness((id, (epoch, seq), in_sync): Told<'_>) -> Witness {
        Witness {
            replica: id.to_string(),
            process: Holder { pod_uid: format!("pod-{id}"), start_id: "s".into() },
            serves_at: 0,
            last_epoch: epoch,
            last_forced: 0,
            promise: epoch,
            end: Position { epoch, seq },
            in_sync_version: epoch,
            in_sync: in_sync.chars().map(String::from).collect(),
        }
    }

    /// What is told; who has everything then; `None`: all who may have more are here. Else who may have.
    const TABLE: [(&str, &[Told<'static>], char, Option<&str>); 14] = [
        ("all of the set are here", &[('a', (3, 9), "ab"), ('b', (3, 8), "ab")], 'a', None),
        ("one alone was left in the set", &[('a', (3, 9), "a"), ('b', (2, 4), "ab")], 'a', None),
        (
            "a set that an older log names counts no more",
            &[('a', (2, 7), "abc"), ('b', (4, 2), "bc"), ('c', (4, 1), "bc")],
            'b',
            None,
        ),
        (
            "an hour behind, the one that has all is not here",
            &[('b', (3, 4), "ab"), ('n', (0, 0), "")],
            'b',
            Some("a"),
        ),
        ("the one that has all came back empty", &[('a', (0, 0), ""), ('b', (3, 4), "ab")], 'b', Some("a")),
        (
            "two of three: the third may have gone on with a fourth",
            &[('b', (3, 9), "abc"), ('c', (3, 8), "abc")],
            'b',
            Some("a"),
        ),
        ("one of three", &[('c', (3, 9), "abc")], 'c', Some("ab")),
        ("an older log is longer", &[('a', (2, 99), "a"), ('b', (3, 1), "bc")], 'b', Some("c")),
        ("of one epoch the longer log knows", &[('a', (3, 8), "ab"), ('b', (3, 9), "b")], 'b', None),
        ("it knows of one that is not here", &[('a', (3, 8), "a"), ('b', (3, 9), "bc")], 'b', Some("c")),
        ("it does not say", &[('b', (3, 9), "")], 'b', Some("")),
        ("a new copy beside them", &[('a', (3, 9), "ab"), ('b', (3, 8), "ab"), ('n', (0, 0), "")], 'a', None),
        ("a single copy", &[('a', (3, 9), "a")], 'a', None),
        ("nobody has any data", &[('a', (0, 0), ""), ('b', (0, 0), "")], 'a', None),
    ];

    #[test]
    fn a5_who_may_have_more_is_told_by_the_last_set_that_is_known() {
        for (why, told, _, expected) in TABLE {
            let copies: Vec<Witness> = told.iter().copied().map(witness).collect();
            let accounts: Vec<Account<'_>> = copies.iter().map(account).collect();
            let expected = expected.map(|ids| ids.chars().map(String::from).collect::<Vec<_>>());
            assert_eq!(missed(&accounts), expected, "{why}");
        }
    }

    #[test]
    fn i1_a_lease_that_may_lack_something_is_above_all_that_was_begun_unseen_and_forced() {
        let has_data = |told: &[Told<'_>]| told.iter().any(|(_, (epoch, _), _)| *epoch > 0);
        for (why, told, has_all, missed) in TABLE.into_iter().filter(|(_, told, ..)| has_data(told)) {
            let copies: Vec<Witness> = told.iter().copied().map(witness).collect();
            let record = restored(&copies, Shown::default()).unwrap();
            let seen = copies.iter().map(|w| w.last_epoch).max().unwrap();
            let (epoch, forced) = match missed {
                None => (seen, None),
                Some(_) => (seen + UNSEEN, Some(seen + UNSEEN + 1)),
            };
            assert_eq!((record.epoch, record.forced), (epoch, forced), "{why}");
            let again = restored(&copies, Shown { lease: Some(&record), ..Shown::default() });
            assert_eq!(again.as_ref(), Some(&record), "{why}, said again");
            assert_eq!((record.in_sync, record.holder), (vec![has_all.to_string()], None), "{why}");
            assert_eq!(record.in_sync_version > UNSEEN, missed.is_some(), "{why}");
        }
    }

    #[test]
    fn a_process_that_serves_gives_way_where_another_copy_may_have_more() {
        let served = |in_sync| Witness { serves_at: 3, ..witness(('a', (3, 9), in_sync)) };
        let holder = |in_sync| restored(&[served(in_sync)], Shown::default()).unwrap().holder;
        assert!(holder("a").is_some() && holder("ab").is_none());
    }
}
