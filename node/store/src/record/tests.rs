//! The format is for ever: every kind and version has a golden file with one record of it. `MAILCLUSTER_BLESS=1`
//! writes the missing ones; a changed one is a broken format.
#![allow(clippy::panic, reason = "tests")]

use std::{fs, path::PathBuf};

use bytes::Bytes;

use super::*;

fn id(n: u8) -> Vec<u8> {
    vec![n; 16]
}

fn new_mailbox() -> NewMailbox {
    NewMailbox {
        id: 1 << 32 | 7,
        name: "Lists/rust".into(),
        uid_validity: 1_700_000_000,
        special_use: 2,
        modseq: 1 << 32 | 9,
        subscribed: true,
    }
}

fn recipient() -> Recipient {
    Recipient {
        address: "User@Example.org".into(),
        account: id(3),
        store: "mail-1".into(),
        attempts: 4,
        next_attempt: 1_700_000_300,
        last_error: "451 4.3.0 not now".into(),
        held: true,
        noticed: false,
        params: String::new(),
        returned: String::new(),
    }
}

type Samples = Vec<(Record, &'static [u8])>;

/// One of each kind, every field set.
fn samples() -> Samples {
    let first = [system(), incoming(), messages(), mailboxes(), renames(), accounts(), queue(), kept()];
    [first.concat(), undelete(), newer()].concat()
}

fn system() -> Samples {
    vec![
        (EpochStart { epoch: 5, in_sync: vec![id(1), id(2)], forced: true, anew: false }.into(), b""),
        (InSync { version: 6, in_sync: vec![id(1)] }.into(), b""),
        (Salvaged { marks: vec![Mark { place: 1 << 32 | 7, number: 12, born: 1 << 32 | 10 }] }.into(), b""),
    ]
}

fn incoming() -> Samples {
    let stored = Stored {
        account: id(3),
        recipient: "user@example.org".into(),
        mailbox: 1 << 32 | 7,
        uid: 12,
        modseq: 1 << 32 | 10,
        prefix: Bytes::from_static(b"Delivered-To: user@example.org\r\n"),
        ..Stored::default()
    };
    vec![
        (
            Deliver {
                delivery: id(4),
                sender: "sender@example.com".into(),
                at: 1_700_000_000,
                body_crc: crc32c::crc32c(b"body\r\n"),
                targets: vec![stored.clone(), Stored { mailbox: 0, uid: 0, modseq: 0, ..stored }],
                met: String::new(),
            }
            .into(),
            b"body\r\n",
        ),
        (
            Append {
                mailbox: 1 << 32 | 7,
                uid: 13,
                modseq: 1 << 32 | 11,
                system: 17,
                keywords: vec!["$Junk".into(), "Work".into()],
                internal_date: -1,
                zone_minutes: -330,
                body_crc: crc32c::crc32c(b"draft"),
                account: id(3),
            }
            .into(),
            b"draft",
        ),
    ]
}

fn messages() -> Samples {
    vec![
        (
            SetFlags {
                mailbox: 1 << 32 | 7,
                modseq: 1 << 32 | 12,
                groups: vec![FlagGroup { system: 9, keywords: vec!["Work".into()], uids: vec![1, 2, 300] }],
            }
            .into(),
            b"",
        ),
        (
            Expunge { mailbox: 1 << 32 | 7, modseq: 1 << 32 | 13, uids: vec![2, 4], at: 1_700_000_001 }
                .into(),
            b"",
        ),
        (
            Copy {
                from: 1 << 32 | 7,
                to: 1 << 32 | 8,
                uids: vec![5, 6],
                first_uid: 1,
                modseq: 1 << 32 | 14,
                moved_modseq: 1 << 32 | 15,
                at: 1_700_000_002,
            }
            .into(),
            b"",
        ),
    ]
}

fn mailboxes() -> Samples {
    vec![
        (CreateMailbox { account: id(3), mailboxes: vec![new_mailbox()] }.into(), b""),
        (DeleteMailbox { mailbox: 1 << 32 | 8, modseq: 1 << 32 | 16 }.into(), b""),
    ]
}

fn renames() -> Samples {
    vec![
        (
            RenameMailbox {
                account: id(3),
                created: vec![new_mailbox()],
                renames: vec![Rename { mailbox: 1 << 32 | 8, name: "Old".into() }],
                inbox: Some(MoveAll { from: 1 << 32 | 1, to: 1 << 32 | 7, modseq: 1 << 32 | 17 }),
                at: 1_700_000_003,
            }
            .into(),
            b"",
        ),
        (Subscribe { account: id(3), name: "Lists".into(), subscribed: true }.into(), b""),
        (
            PutSieve {
                account: id(3),
                name: "main".into(),
                script: Some(Bytes::from_static(b"keep;")),
                active: true,
            }
            .into(),
            b"",
        ),
    ]
}

fn accounts() -> Samples {
    vec![
        (
            PutAccount {
                id: id(3),
                address: "user@example.org".into(),
                store: "mail-0".into(),
                generation: 2,
                password_hash: "$argon2id$x".into(),
                quota_octets: 1 << 30,
                suspended: true,
                pending: true,
                tombstone: true,
                mailboxes: vec![new_mailbox()],
            }
            .into(),
            b"",
        ),
        (
            PutDomain { name: "example.org".into(), generation: 3, tombstone: true, ..Default::default() }
                .into(),
            b"",
        ),
        (
            PutAlias {
                address: "info@example.org".into(),
                accounts: vec![id(3), id(5)],
                generation: 4,
                tombstone: true,
            }
            .into(),
            b"",
        ),
        (PutGaps { missing: vec!["mail-0".into(), "mail-1".into()] }.into(), b""),
        (Audit { at: 1_700_000_004, who: "admin".into(), what: "account add".into() }.into(), b""),
    ]
}

fn queue() -> Samples {
    vec![
        (
            QueuePut {
                delivery: id(4),
                sender: "sender@example.com".into(),
                at: 1_700_000_005,
                recipients: vec![recipient()],
                body_crc: crc32c::crc32c(b"queued"),
                params: String::new(),
            }
            .into(),
            b"queued",
        ),
        (
            QueueUpdate {
                delivery: id(4),
                address: "User@Example.org".into(),
                retry: Some(recipient()),
                outcome: String::new(),
                at: 1_700_000_006,
            }
            .into(),
            b"",
        ),
    ]
}

/// Those of version 2.
fn newer() -> Samples {
    let asked = || Recipient { params: "NOTIFY=SUCCESS".into(), ..recipient() };
    let also = vec![Placed { mailbox: 1 << 32 | 8, uid: 3, modseq: 1 << 32 | 21, ..Placed::default() }];
    let filed = Stored {
        account: id(3),
        recipient: "user@example.org".into(),
        mailbox: 1 << 32 | 7,
        uid: 9,
        modseq: 1 << 32 | 20,
        system: 1,
        keywords: vec!["$Junk".into()],
        also,
        seen: vec![Seen { id: id(6), until: 1_700_000_100 }],
        detail: "fileinto".into(),
        ..Stored::default()
    };
    let deliver = Deliver {
        delivery: id(4),
        sender: "sender@example.com".into(),
        at: 1_700_000_011,
        body_crc: crc32c::crc32c(b"filed"),
        targets: vec![filed],
        met: "spf:pass".into(),
    };
    let keys = PutDomain { name: "example.org".into(), generation: 4, tombstone: false, keys: vec![1, 2] };
    let put = QueuePut {
        delivery: id(4),
        sender: "sender@example.com".into(),
        at: 1_700_000_012,
        recipients: vec![asked()],
        body_crc: crc32c::crc32c(b"queued"),
        params: "RET=HDRS".into(),
    };
    let held = QueueUpdate {
        delivery: id(4),
        address: "User@Example.org".into(),
        retry: Some(asked()),
        outcome: "held by admin".into(),
        at: 1_700_000_013,
    };
    vec![(deliver.into(), b"filed"), (keys.into(), b""), (put.into(), b"queued"), (held.into(), b"")]
}

fn kept() -> Samples {
    let message = KeptMessage {
        account: id(3),
        address: "user@example.org".into(),
        mailbox: 1 << 32 | 7,
        name: "Lists/rust".into(),
        uid_validity: 1_700_000_000,
        uid: 12,
        modseq: 1 << 32 | 11,
        system: 5,
        keywords: vec!["Work".into()],
        internal_date: 1_700_000_001,
        zone_minutes: -90,
        delivery: id(4),
    };
    let queued = KeptQueued {
        delivery: id(4),
        sender: "sender@example.com".into(),
        at: 1_700_000_002,
        recipients: vec![recipient()],
        params: String::new(),
    };
    let prefix = Bytes::from_static(b"Delivered-To: user@example.org\r\n");
    let body = KeptBody { id: 77, prefix, messages: vec![message], queued: Some(queued) };
    vec![(Kept { body_crc: 0x0102_0304, bodies: vec![body] }.into(), b"kept")]
}

fn undelete() -> Samples {
    let mailbox = 1 << 32 | 7;
    let from = vec![Retired { mailbox, uids: vec![2, 4] }, Retired { mailbox: 1 << 32 | 8, uids: vec![1] }];
    vec![
        (Retire { mailbox, modseq: 1 << 32 | 18, uids: vec![2, 4], at: 1_700_000_007 }.into(), b""),
        (RetireMailbox { mailbox, modseq: 1 << 32 | 19, at: 1_700_000_008 }.into(), b""),
        (
            Recover { to: 1 << 32 | 9, from, first_uid: 12, modseq: 1 << 32 | 20, at: 1_700_000_009 }.into(),
            b"",
        ),
        (Purge { at: 1_700_000_010, mailbox, uid: 4 }.into(), b""),
    ]
}

#[test]
fn every_kind_and_version_reads_and_writes_its_golden_file() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let samples = samples();
    for (name, kind, version) in Record::KINDS {
        let (record, body) = samples
            .iter()
            .find(|(r, _)| r.kind() == (*kind, *version))
            .unwrap_or_else(|| panic!("no sample of {name}"));
        let path = folder.join(format!("{kind:02}-v{version}-{name}.bin"));
        let mut bytes = Vec::new();
        let at = encode(record, body, &mut bytes);
        if std::env::var_os("MAILCLUSTER_BLESS").is_some() && !path.exists() {
            fs::write(&path, &bytes).unwrap();
        }
        let golden = Bytes::from(fs::read(&path).unwrap());
        assert_eq!(golden, bytes, "{name} is written differently: that is another version");
        let read = decode_all(&golden).unwrap();
        assert_eq!((read.len(), &read[0].record, read[0].body_at), (1, record, at), "{name}");
        assert_eq!(&read[0].body[..], *body, "{name}");
    }
    assert_eq!(samples.len(), Record::KINDS.len());
}

/// It said nothing yet of what a person did to one that stays; a record that has both is read as it is.
#[test]
fn an_update_of_the_first_version_that_has_both_is_still_read() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let golden = Bytes::from(fs::read(folder.join("41-v1-QueueUpdate-both.bin")).unwrap());
    let written = QueueUpdate {
        delivery: id(4),
        address: "User@Example.org".into(),
        retry: Some(recipient()),
        outcome: "delivered".into(),
        at: 1_700_000_006,
    };
    let read = decode_all(&golden).unwrap();
    assert_eq!((read.len(), &read[0].record), (1, &written.into()));
}

#[test]
fn an_unknown_kind_or_version_is_refused_and_so_is_garbage() {
    let mut bytes = Vec::new();
    encode(&Audit::default().into(), b"", &mut bytes);
    let with = |at: usize, value: u8| {
        let mut changed = bytes.clone();
        changed[at] = value;
        decode_all(&Bytes::from(changed)).err()
    };
    assert_eq!(with(5, 9), Some(DecodeError::Unknown { kind: 9 << 8 | 33, version: 1 }));
    assert_eq!(with(6, 2), Some(DecodeError::Unknown { kind: 33, version: 2 }));
    assert!(matches!(with(0, 99), Some(DecodeError::Malformed { .. })));
    assert!(matches!(with(8, 99), Some(DecodeError::Malformed { .. })));
    for cut in 1..bytes.len() {
        assert!(decode_all(&Bytes::copy_from_slice(&bytes[..cut])).is_err(), "cut at {cut}");
    }
}

/// An older program must not pass over what it does not know: it would lack it for ever.
#[test]
fn what_says_something_new_is_of_a_version_that_older_programs_refuse() {
    let text = || "x".to_owned();
    let deliver = |stored: Stored| Deliver { targets: vec![stored], ..Deliver::default() };
    let recipient = || Recipient { params: text(), ..Recipient::default() };
    let retry = |retry| QueueUpdate { retry: Some(retry), ..QueueUpdate::default() };
    let new: Vec<Record> = vec![
        Deliver { met: text(), ..Deliver::default() }.into(),
        deliver(Stored { system: 1, ..Stored::default() }).into(),
        deliver(Stored { keywords: vec![text()], ..Stored::default() }).into(),
        deliver(Stored { also: vec![Placed::default()], ..Stored::default() }).into(),
        deliver(Stored { filtered: true, ..Stored::default() }).into(),
        deliver(Stored { seen: vec![Seen::default()], ..Stored::default() }).into(),
        deliver(Stored { detail: text(), ..Stored::default() }).into(),
        PutDomain { keys: vec![1], ..PutDomain::default() }.into(),
        QueuePut { recipients: vec![recipient()], ..QueuePut::default() }.into(),
        retry(Recipient { returned: text(), ..Recipient::default() }).into(),
        QueueUpdate { outcome: text(), ..retry(Recipient::default()) }.into(),
    ];
    for record in new {
        let mut bytes = Vec::new();
        encode(&record, b"", &mut bytes);
        assert_eq!((record.kind().1, bytes[6]), (2, 2), "{record:?}");
        assert_eq!(decode_all(&Bytes::from(bytes)).unwrap()[0].record, record);
    }
    let old: Vec<Record> = vec![
        deliver(Stored { mailbox: 7, ..Stored::default() }).into(),
        PutDomain { name: text(), ..PutDomain::default() }.into(),
        QueuePut { params: text(), ..QueuePut::default() }.into(),
        QueueUpdate { outcome: text(), ..QueueUpdate::default() }.into(),
        retry(Recipient { last_error: text(), ..Recipient::default() }).into(),
    ];
    for record in old {
        assert_eq!(record.kind().1, 1, "{record:?}");
    }
}
