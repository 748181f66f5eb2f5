//! Each rule, kept and broken.

use super::{
    super::world::{Change, Flags, SeenMessage},
    *,
};

fn flags(words: &str) -> Flags {
    words.split_whitespace().map(str::to_owned).collect()
}

/// `1=a 2=b\seen`: UID, token, flags.
fn seen(validity: u32, uid_next: u32, modseq: u64, messages: &str) -> Seen {
    let message = |text: &str| {
        let (uid, rest) = text.split_once('=').unwrap();
        let (token, words) =
            rest.split_once('\\').map_or((rest, String::new()), |(t, w)| (t, format!("\\{w}")));
        SeenMessage { uid: uid.parse().unwrap(), token: token.to_owned(), flags: flags(&words) }
    };
    Seen { validity, uid_next, modseq, messages: messages.split_whitespace().map(message).collect() }
}

/// `one` with two messages, `two` with none.
fn account() -> Account {
    Account::found(&BTreeMap::from([
        ("one".to_owned(), seen(7, 3, 10, "1=a 2=b")),
        ("two".to_owned(), seen(8, 5, 20, "")),
    ]))
}

fn append(mailbox: &str, token: &str) -> Op {
    Op::Append { mailbox: mailbox.to_owned(), token: token.to_owned(), flags: flags("\\seen") }
}

fn moved(uids: &[u32]) -> Op {
    Op::Move { from: "one".to_owned(), uids: uids.to_vec(), to: "two".to_owned() }
}

fn store(change: Change, words: &str) -> Op {
    Op::Store { mailbox: "one".to_owned(), uids: vec![2], change, flags: flags(words) }
}

fn expunge(uids: &[u32]) -> Op {
    Op::Expunge { mailbox: "one".to_owned(), uids: uids.to_vec() }
}

fn told(validity: u32, uids: &[(u32, u32)]) -> Told {
    Told { validity: Some(validity), uids: uids.to_vec(), ..Told::default() }
}

#[test]
fn what_was_acknowledged_is_seen_and_nothing_else() {
    for (what, one, two, good) in [
        ("all as it should be", seen(7, 4, 11, "1=a 2=b 3=c\\seen"), seen(8, 5, 20, ""), true),
        (
            "UIDNEXT and HIGHESTMODSEQ further on",
            seen(7, 9, 99, "1=a 2=b 3=c\\seen"),
            seen(8, 6, 20, ""),
            true,
        ),
        ("the message is lost", seen(7, 4, 11, "1=a 2=b"), seen(8, 5, 20, ""), false),
        ("an older message is lost", seen(7, 4, 11, "2=b 3=c\\seen"), seen(8, 5, 20, ""), false),
        ("its flag is lost", seen(7, 4, 11, "1=a 2=b 3=c"), seen(8, 5, 20, ""), false),
        ("another UID", seen(7, 5, 11, "1=a 2=b 4=c\\seen"), seen(8, 5, 20, ""), false),
        ("another message under the UID", seen(7, 4, 11, "1=a 2=b 3=d\\seen"), seen(8, 5, 20, ""), false),
        ("twice", seen(7, 5, 11, "1=a 2=b 3=c\\seen 4=c\\seen"), seen(8, 5, 20, ""), false),
        ("not in order", seen(7, 4, 11, "2=b 1=a 3=c\\seen"), seen(8, 5, 20, ""), false),
        ("UIDVALIDITY changed", seen(9, 4, 11, "1=a 2=b 3=c\\seen"), seen(8, 5, 20, ""), false),
        ("UIDNEXT went back", seen(7, 4, 11, "1=a 2=b 3=c\\seen"), seen(8, 4, 20, ""), false),
        ("HIGHESTMODSEQ went back", seen(7, 4, 9, "1=a 2=b 3=c\\seen"), seen(8, 5, 20, ""), false),
        ("somewhere else, too", seen(7, 4, 11, "1=a 2=b 3=c\\seen"), seen(8, 6, 20, "5=c\\seen"), false),
    ] {
        let mut account = account();
        account.acknowledged(&append("one", "c"), &told(7, &[(0, 3)])).unwrap();
        let result = account.seen("one", &one).and_then(|()| account.seen("two", &two));
        assert_eq!(result.is_ok(), good, "{what}: {result:?}");
    }
}

#[test]
fn an_answer_must_fit() {
    let reused = told(7, &[(0, 2)]);
    let elsewhere = told(8, &[(0, 3)]);
    for (what, op, told, good) in [
        ("APPENDUID", append("one", "c"), told(7, &[(0, 3)]), true),
        ("APPENDUID that was used", append("one", "c"), reused, false),
        ("APPENDUID of another UIDVALIDITY", append("one", "c"), elsewhere, false),
        ("no APPENDUID", append("one", "c"), Told::default(), false),
        ("into what is not there", append("none", "c"), told(7, &[(0, 3)]), false),
        ("COPYUID", moved(&[1, 2, 9]), told(8, &[(1, 5), (2, 6)]), true),
        ("COPYUID of one too few", moved(&[1, 2]), told(8, &[(1, 5)]), false),
        ("COPYUID of a used UID", moved(&[1]), told(8, &[(1, 4)]), false),
        ("nothing was moved", moved(&[9]), Told::default(), true),
        ("nothing was moved, and it was there", moved(&[1]), Told::default(), false),
    ] {
        let result = account().acknowledged(&op, &told);
        assert_eq!(result.is_ok(), good, "{what}: {result:?}");
    }
}

#[test]
fn flags_follow_the_three_kinds_of_store() {
    let two = |words: &str| seen(7, 3, 10, format!("1=a 2=b{words}").as_str());
    for (change, expected, wrong) in
        [(Change::Add, "\\x\\y", "\\y"), (Change::Replace, "\\y", "\\x\\y"), (Change::Remove, "\\x", "")]
    {
        // The notation has one word a message: the flag `\x\y` is two.
        let split = |mut seen: Seen| {
            let all: String = seen.messages[1].flags.iter().cloned().collect();
            seen.messages[1].flags =
                all.split('\\').filter(|flag| !flag.is_empty()).map(|flag| format!("\\{flag}")).collect();
            seen
        };
        let mut account = account();
        account.acknowledged(&store(Change::Replace, "\\x"), &Told::default()).unwrap();
        account.acknowledged(&store(change, "\\y"), &Told::default()).unwrap();
        let mut other = Account { worlds: account.worlds.clone(), ..self::account() };
        account.seen("one", &split(two(expected))).unwrap();
        assert!(other.seen("one", &split(two(wrong))).is_err(), "{change:?}");
    }
    let told = |words: &str| Told { flags: BTreeMap::from([(2, flags(words))]), ..Told::default() };
    account().acknowledged(&store(Change::Add, "\\x"), &told("\\x")).unwrap();
    assert!(account().acknowledged(&store(Change::Add, "\\x"), &told("")).is_err());
}

#[test]
fn only_what_is_marked_is_expunged_and_its_uid_does_not_come_back() {
    let mut account = account();
    account.acknowledged(&store(Change::Add, "\\deleted"), &Told::default()).unwrap();
    account.acknowledged(&expunge(&[1, 2]), &Told::default()).unwrap();
    let mut other = Account { worlds: account.worlds.clone(), ..self::account() };
    account.seen("one", &seen(7, 3, 12, "1=a")).unwrap();
    assert!(
        account.seen("one", &seen(7, 3, 12, "1=a 2=b\\deleted")).is_err(),
        "an acknowledged expunge undone"
    );
    assert!(other.acknowledged(&append("one", "c"), &told(7, &[(0, 2)])).is_err(), "a UID given twice");
}

#[test]
fn without_an_answer_it_is_wholly_done_or_not_at_all() {
    let (left, target) = (seen(7, 3, 10, "1=a 2=b"), seen(8, 5, 20, ""));
    let (gone, arrived) = (seen(7, 3, 11, ""), seen(8, 7, 21, "5=a 6=b"));
    for (what, one, two, good) in [
        ("not done", &left, &target, true),
        ("done", &gone, &arrived, true),
        ("removed, and nowhere", &gone, &target, false),
        // It may be done between the two looks.
        ("copied, seen before it was moved", &left, &arrived, true),
        ("half of it", &seen(7, 3, 11, "2=b"), &seen(8, 6, 21, "5=a"), false),
        ("in another order", &gone, &seen(8, 7, 21, "5=b 6=a"), false),
        ("under a UID that was used", &gone, &seen(8, 6, 21, "4=a 5=b"), false),
    ] {
        let mut account = account();
        account.unanswered(moved(&[1, 2]), Instant::now());
        let result = account.seen("one", one).and_then(|()| account.seen("two", two));
        assert_eq!(result.is_ok(), good, "{what}: {result:?}");
    }
}

#[test]
fn what_was_seen_done_stays_done() {
    let mut account = account();
    account.unanswered(append("one", "c"), Instant::now());
    account.seen("one", &seen(7, 4, 11, "1=a 2=b 3=c\\seen")).unwrap();
    assert_eq!(account.open(), 0);
    assert!(account.seen("one", &seen(7, 4, 11, "1=a 2=b")).is_err(), "seen, and lost by a failover");
}

#[test]
fn what_was_seen_copied_must_be_moved_in_the_end() {
    let mut account = account();
    account.unanswered(moved(&[1]), Instant::now());
    account.seen("two", &seen(8, 6, 21, "5=a")).unwrap();
    assert!(account.seen("one", &seen(7, 3, 11, "1=a 2=b")).is_err(), "in both places");
}

#[test]
fn late_is_late_and_not_for_ever() {
    let start = Instant::now();
    let (early, late) = (seen(7, 3, 10, "1=a 2=b"), seen(7, 4, 11, "1=a 2=b 3=c\\seen"));
    for (after, good) in [(LATE / 2, true), (LATE, false)] {
        let mut account = account();
        account.unanswered(append("one", "c"), start);
        account.seen("one", &early).unwrap();
        account.settle(start + after);
        assert_eq!(account.open(), usize::from(good));
        account.seen("one", &early).unwrap();
        assert_eq!(account.seen("one", &late).is_ok(), good, "{after:?}");
    }
}

#[test]
fn a_late_change_may_come_before_or_behind_others() {
    let one = |words: &str| seen(7, 3, 11, format!("1=a 2=b{words}").as_str());
    for (what, words, good) in
        [("late", "\\late", true), ("never, or overwritten", "\\x", true), ("neither", "", false)]
    {
        let mut account = account();
        account.unanswered(store(Change::Replace, "\\late"), Instant::now());
        account.seen("one", &one("")).unwrap();
        account.acknowledged(&store(Change::Replace, "\\x"), &Told::default()).unwrap();
        assert_eq!(account.seen("one", &one(words)).is_ok(), good, "{what}");
    }
}

#[test]
fn mailboxes_are_made_renamed_and_deleted() {
    let op = |word: &str, name: &str, to: &str| match word {
        "create" => Op::Create { name: name.to_owned() },
        "rename" => Op::Rename { from: name.to_owned(), to: to.to_owned() },
        _ => Op::Delete { name: name.to_owned() },
    };
    let names = |text: &str| text.split_whitespace().map(str::to_owned).collect::<BTreeSet<_>>();
    let mut account = account();
    account.acknowledged(&op("create", "three", ""), &Told::default()).unwrap();
    assert!(account.listed(&names("one two")).is_err(), "made and not listed");
    account.acknowledged(&op("rename", "one", "four"), &Told::default()).unwrap();
    account.seen("four", &seen(7, 3, 10, "1=a 2=b")).unwrap();
    account.missing("one").unwrap();
    assert!(account.missing("four").is_err());
    account.refused(&op("create", "four", ""), Refusal::Exists).unwrap();
    assert!(account.refused(&op("create", "five", ""), Refusal::Exists).is_err());
    assert!(account.refused(&append("four", "x"), Refusal::Missing).is_err(), "a mailbox is lost");
    account.refused(&append("four", "x"), Refusal::Unavailable).unwrap();
    account.acknowledged(&op("delete", "four", ""), &Told::default()).unwrap();
    assert!(account.listed(&names("two three four")).is_err(), "deleted and listed");
    account.acknowledged(&op("create", "four", ""), &Told::default()).unwrap();
    let mut other = Account { worlds: account.worlds.clone(), ..self::account() };
    assert!(account.seen("four", &seen(7, 1, 1, "")).is_err(), "the UIDVALIDITY that an earlier one had");
    other.seen("four", &seen(9, 1, 1, "")).unwrap();

    let mut unsure = self::account();
    unsure.unanswered(op("delete", "two", ""), Instant::now());
    assert_eq!((unsure.mailboxes(), unsure.is_unsure("two")), (vec!["one".to_owned()], true));
    unsure.listed(&names("one")).unwrap();
    assert!(unsure.listed(&names("one two")).is_err(), "seen deleted, and back");
}

#[test]
fn a_violation_tells_what_came_before_it() {
    let mut account = account();
    account.unanswered(append("two", "late"), Instant::now());
    account.acknowledged(&append("one", "c"), &told(7, &[(0, 3)])).unwrap();
    let Broken(text) = account.seen("one", &seen(7, 4, 11, "1=a 2=b")).unwrap_err();
    for part in ["c (UID Some(3)) is not there", "without an answer", "late", "was acknowledged"] {
        assert!(text.contains(part), "{part}: {text}");
    }
}
