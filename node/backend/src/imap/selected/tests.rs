//! What is told when, as a table.

use mailcluster_store::{Message, SystemFlag};

use super::*;

fn message(uid: Uid, modseq: ModSeq) -> Message {
    Message {
        uid,
        modseq,
        flags: Flags::default().with(SystemFlag::Seen),
        internal_date: 0,
        zone_minutes: 0,
        size: 1,
        delivery: None,
        body: 0,
    }
}

fn selected(uids: &[Uid]) -> Selected {
    let (_, watch) = watch::channel(0);
    Selected::new(1, false, 10, uids.to_vec(), watch)
}

fn told(selected: &mut Selected, changed: &[(Uid, ModSeq)], expunged: &[Uid], may_expunge: bool) -> String {
    let changes = Changes {
        changed: changed.iter().map(|&(uid, modseq)| message(uid, modseq)).collect(),
        expunged: expunged.to_vec(),
        highest_modseq: 20,
    };
    let mut out = Vec::new();
    selected.tell(Pending::new(changes), may_expunge, true, &mut out);
    String::from_utf8(out).unwrap()
}

#[test]
fn numbers_change_only_when_allowed() {
    let mut mailbox = selected(&[3, 5, 9]);
    assert_eq!(
        told(&mut mailbox, &[(9, 12), (11, 13)], &[3, 4], false),
        "* 3 FETCH (UID 9 FLAGS (\\Seen) MODSEQ (12))\r\n* 4 EXISTS\r\n* 0 RECENT\r\n"
    );
    assert!(mailbox.has_gone());
    assert_eq!(told(&mut mailbox, &[], &[9], true), "* 3 EXPUNGE\r\n* 1 EXPUNGE\r\n");
    assert_eq!(mailbox.uids, [5, 11]);
    assert_eq!(told(&mut mailbox, &[], &[3, 9], true), "");
}

#[test]
fn own_changes_are_not_told_twice() {
    let mut mailbox = selected(&[3, 5]);
    mailbox.knows(3, 12);
    mailbox.knows(5, 12);
    assert_eq!(
        told(&mut mailbox, &[(3, 12), (5, 13)], &[], true),
        "* 2 FETCH (UID 5 FLAGS (\\Seen) MODSEQ (13))\r\n"
    );
    assert_eq!(mailbox.modseq, 20);
}
