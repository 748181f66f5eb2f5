use mailcluster_lmtp::WireError;

use super::*;

const QUOTA: Reply = Reply::new(552, "5.2.2 over quota");
const LATER: Reply = Reply::new(451, "4.3.0 later");
const OK: Reply = Reply::new(250, "2.0.0 ok");

fn ledger(fates: &[Fate]) -> Ledger {
    let mut ledger = Ledger::new(fates.len());
    fates.iter().enumerate().for_each(|(at, fate)| ledger.set(at, fate.clone()));
    ledger
}

#[test]
fn what_may_be_said() {
    use Fate::{Away, Delivered, HandedOff, Refused, Unknown};
    for (fates, verdict) in [
        (vec![Delivered], Verdict::Accepted { handed_off: 0 }),
        (vec![Delivered, HandedOff], Verdict::Accepted { handed_off: 1 }),
        (vec![Away, Refused(QUOTA)], Verdict::Later),
        (vec![Refused(QUOTA), Refused(QUOTA)], Verdict::Never(QUOTA)),
        (vec![Delivered, Away], Verdict::Silence),
        (vec![HandedOff, Refused(QUOTA)], Verdict::Silence),
        (vec![Unknown], Verdict::Silence),
        (vec![Unknown, Refused(QUOTA)], Verdict::Silence),
    ] {
        assert_eq!(ledger(&fates).verdict(), verdict, "{fates:?}");
    }
}

#[test]
fn a_copy_that_may_be_durable_silences_until_it_surely_is() {
    let mut ledger = ledger(&[Fate::Unknown]);
    ledger.set(0, Fate::Away);
    assert_eq!(ledger.verdict(), Verdict::Silence, "a later refusal does not undo what may have happened");
    ledger.set(0, Fate::HandedOff);
    assert_eq!(ledger.verdict(), Verdict::Accepted { handed_off: 1 });
}

#[test]
fn replies_after_the_message_become_fates() {
    let direct = |item| Entry { item, queued: false };
    let queued = |item| Entry { item, queued: true };
    let mut ledger = Ledger::new(5);
    ledger.record(
        &[direct(0), direct(1), direct(2), queued(3), queued(4)],
        Ok(vec![OK, LATER, QUOTA, OK, QUOTA]),
    );
    let expected = [Fate::Delivered, Fate::Away, Fate::Refused(QUOTA), Fate::HandedOff, Fate::Away];
    assert_eq!(ledger.fates, expected);
    assert_eq!(ledger.without_place(), [1, 2, 4]);
    ledger.record(&[direct(1)], Err(ClientError::After(WireError::Closed)));
    ledger.record(&[direct(2)], Err(ClientError::Before(WireError::Closed)));
    assert_eq!(ledger.fates[1..3], [Fate::Unknown, Fate::Away]);
}

#[test]
fn misunderstandings_between_programs_are_not_final() {
    for (reply, is) in [
        (QUOTA, true),
        (Reply::new(550, "5.1.1 no"), true),
        (Reply::new(554, "no"), true),
        (Reply::new(503, "5.5.1 order"), false),
        (Reply::new(555, "5.5.4 parameter"), false),
        (Reply::new(554, "5.5.1 no valid recipients"), false),
        (LATER, false),
    ] {
        assert_eq!(is_final(&reply), is, "{reply}");
    }
}

#[test]
fn places_are_those_that_take_part_then_those_offered_but_none_that_is_away() {
    let names = |names: &[&str]| names.iter().map(|n| StoreName::new(*n)).collect::<Vec<_>>();
    let places = places(&names(&["b", "a"]), &names(&["c", "a", "d"]), &names(&["c"]));
    assert_eq!(places, names(&["b", "a", "d"]));
}
