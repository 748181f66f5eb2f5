//! What the copy that serves a store says of its disk, of the other copies' indexes and of a salvage, for people.

use k8s_openapi::{
    apimachinery::pkg::apis::meta::v1::{Condition, Time},
    jiff::Timestamp,
};
use kube::ResourceExt;
use mailcluster_api::{
    MailStore,
    condition::{COPIES_DIFFER, DISK_DAMAGED, Draft},
    mailstore::{MailStoreSpec, Salvage},
    names::REPLICAS,
};
use mailcluster_rpc::control::v1::{DescribeResponse, Differing, Salvaged, State};

use super::report::Part;

/// What is said stays until the copy that serves says something else: one that does not answer takes nothing back.
pub fn note(part: &mut Part, store: &MailStore, said: &[&DescribeResponse], now: Timestamp) {
    let serves = |copy: &&&DescribeResponse| copy.open && copy.state == i32::from(State::Primary);
    let Some(copy) = said.iter().filter(serves).max_by_key(|copy| copy.epoch) else { return };
    part.damaged = said_of(damaged(&store.spec, copy), part.damaged.take(), now);
    part.last_salvage = copy.salvage.as_ref().and_then(salvage).or(part.last_salvage.take());
    part.differ = said_of(differ(&store.name_any(), &store.spec, copy), part.differ.take(), now);
}

/// A process remembers none but its own: what it does not speak of stays as it was written down.
fn salvage(done: &Salvaged) -> Option<Salvage> {
    let count = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    Some(Salvage {
        at: Time(Timestamp::from_second(done.at).ok()?),
        messages: count(done.messages),
        moved: count(done.moved),
        flags: count(done.flags),
        expunged: count(done.expunged),
        already: count(done.already),
        mailboxes: count(done.mailboxes),
        records: count(done.records),
        queued: count(done.queued),
        not_taken_over: count(done.kept),
    })
}

/// A condition that never held is not there.
fn said_of(draft: Draft, old: Option<Condition>, now: Timestamp) -> Option<Condition> {
    (draft.is_true() || old.is_some()).then(|| draft.finish(old.as_slice(), None, now))
}

fn letter(spec: &MailStoreSpec, id: &str) -> String {
    let place = spec.replicas.iter().position(|replica| replica.id == id);
    place.and_then(|place| REPLICAS.into_iter().nth(place)).map_or_else(|| "?".into(), |l| l.to_string())
}

fn damaged(spec: &MailStoreSpec, copy: &DescribeResponse) -> Draft {
    let (mended, lent, lost) = (copy.damage_mended, copy.damage_lent, copy.damage_lost);
    if mended + lent + lost == 0 {
        return Draft::no(DISK_DAMAGED, "NothingFound", "");
    }
    // Rounded, so that a mailbox that is read over and over is not written here each time.
    let about = |count: u64| if count > 10 { "many times".to_owned() } else { format!("{count} times") };
    let mut told = format!(
        "records on the disk of copy {} ({}) could not be read as they were written, since its process began:",
        letter(spec, &copy.replica),
        copy.replica
    );
    for (count, what) in [
        (mended, "mended with what another copy has"),
        (lent, "read from another copy, and not written here"),
        (lost, "no other copy had it or answered: such messages cannot be read"),
    ] {
        if count > 0 {
            told.push_str(&format!(" {} {what};", about(count)));
        }
    }
    told.push_str(" look at the disk");
    Draft::yes(DISK_DAMAGED, if lost > 0 { "Unreadable" } else { "Restored" }, told)
}

fn differ(store: &str, spec: &MailStoreSpec, copy: &DescribeResponse) -> Draft {
    if copy.differing.is_empty() {
        return Draft::no(COPIES_DIFFER, "NothingFound", "");
    }
    let own = letter(spec, &copy.replica);
    let told = |Differing { replica, table, .. }: &Differing| {
        format!(" copy {} ({replica}) in table {table};", letter(spec, replica))
    };
    let all: String = copy.differing.iter().map(told).collect();
    let message = format!(
        "the indexes of copies differ from that of copy {own}, which serves:{all} which one is wrong is not known: see docs/bad-days.md; `kubectl mailcluster store replace-replica {store} COPY` gives the place of the wrong one to a new one"
    );
    Draft::yes(COPIES_DIFFER, "IndexesDiffer", message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store() -> MailStore {
        serde_json::from_value(serde_json::json!({
            "apiVersion": "mailcluster.io/v1alpha1", "kind": "MailStore", "metadata": {"name": "demo-0"},
            "spec": {"kind": "Mail", "cluster": "demo",
                "replicas": [{"id": "aa", "pvc": "a"}, {"id": "bb", "pvc": "b"}]},
        }))
        .unwrap()
    }

    fn primary(damage: (u64, u64, u64), differing: &[&str]) -> DescribeResponse {
        let differing =
            differing.iter().map(|id| Differing { replica: (*id).into(), table: "message".into(), seq: 7 });
        DescribeResponse {
            replica: "aa".into(),
            open: true,
            state: State::Primary.into(),
            epoch: 3,
            damage_mended: damage.0,
            damage_lent: damage.1,
            damage_lost: damage.2,
            differing: differing.collect(),
            ..DescribeResponse::default()
        }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn nothing_is_said_before_something_was_found() {
        let mut part = Part::default();
        note(&mut part, &store(), &[&primary((0, 0, 0), &[])], at(1));
        assert_eq!(part, Part::default());
    }

    #[test]
    fn damage_is_told_with_what_became_of_it() {
        for (damage, reason, words) in [
            ((2, 0, 0), "Restored", "2 times mended"),
            ((0, 99, 0), "Restored", "many times read from another copy"),
            ((1, 0, 3), "Unreadable", "3 times no other copy"),
        ] {
            let mut part = Part::default();
            note(&mut part, &store(), &[&primary(damage, &[])], at(1));
            let said = part.damaged.clone().unwrap();
            assert_eq!((said.status.as_str(), said.reason.as_str()), ("True", reason));
            assert!(said.message.contains(words) && said.message.contains("copy a (aa)"), "{}", said.message);
            assert_eq!(part.differ, None);
            // Once more and many more times is the same, so that nothing is written each time.
            let before = part.clone();
            let again = |n: u64| if n > 10 { n + 5 } else { n };
            let damage = (again(damage.0), again(damage.1), again(damage.2));
            note(&mut part, &store(), &[&primary(damage, &[])], at(2));
            assert_eq!(part, before);
        }
    }

    #[test]
    fn what_a_salvage_brought_stays_when_the_process_that_did_it_is_gone() {
        let with = |at: Option<i64>, messages| DescribeResponse {
            salvage: at.map(|at| Salvaged { at, messages, kept: 2, ..Salvaged::default() }),
            ..primary((0, 0, 0), &[])
        };
        let mut part = Part::default();
        for (what, said, told) in [
            ("nothing was brought", with(None, 0), None),
            ("brought", with(Some(10), 7), Some((10, 7))),
            ("another process serves", with(None, 0), Some((10, 7))),
            ("sent again", with(Some(20), 0), Some((20, 0))),
            (
                "a mirror",
                DescribeResponse { state: State::Standby.into(), ..with(Some(30), 9) },
                Some((20, 0)),
            ),
        ] {
            note(&mut part, &store(), &[&said], at(1));
            let seen = part.last_salvage.as_ref().map(|s| (s.at.0.as_second(), s.messages));
            assert_eq!(seen, told, "{what}");
            assert!(part.last_salvage.as_ref().is_none_or(|s| s.not_taken_over == 2), "{what}");
            let status = serde_json::from_value(part.patch(None)["status"].clone()).unwrap();
            assert_eq!(Part::of(&status), part, "{what}");
        }
    }

    #[test]
    fn who_differs_is_named_until_the_one_that_serves_says_otherwise() {
        let mut part = Part::default();
        note(&mut part, &store(), &[&primary((0, 0, 0), &["bb"])], at(1));
        let said = part.differ.clone().unwrap();
        assert_eq!((said.status.as_str(), said.reason.as_str()), ("True", "IndexesDiffer"));
        assert!(said.message.contains("copy b (bb) in table message"), "{}", said.message);
        let status = serde_json::from_value(part.patch(None)["status"].clone()).unwrap();
        assert_eq!(Part::of(&status), part);
        let silent = [
            DescribeResponse { open: false, ..primary((0, 0, 0), &[]) },
            DescribeResponse { state: State::Standby.into(), ..primary((0, 0, 0), &[]) },
        ];
        note(&mut part, &store(), &silent.iter().collect::<Vec<_>>(), at(2));
        assert_eq!(part.differ.as_ref(), Some(&said));
        // Another that serves at a lower epoch is a primary that was.
        let was = DescribeResponse { epoch: 2, ..primary((0, 0, 0), &[]) };
        note(&mut part, &store(), &[&was, &primary((0, 0, 0), &["bb"])], at(3));
        assert_eq!(part.differ.as_ref(), Some(&said));
        note(&mut part, &store(), &[&primary((0, 0, 0), &[])], at(4));
        assert_eq!(part.differ.unwrap().status, "False");
    }
}
