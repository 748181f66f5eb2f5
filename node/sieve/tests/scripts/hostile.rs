//! What scripts and messages may use up, and that nothing they contain ends anything but their own run.

use crate::{
    compile,
    mail::{ACCOUNT, Message, context},
    tell,
};
use mailcluster_sieve::{Action, Capabilities, Limits, Outcome, Script};
use proptest::prelude::*;

const MAIL: &str = "From: tim@example.com
To: ken@example.org, \"a, b\" <c@d.e>
Date: Fri, 04 Jul 2008 23:30:05 -0230
Received: from a by b; Fri, 04 Jul 2008 23:30:05 -0230
Message-ID: <1@x>
Subject: =?utf-8?Q?gr=C3=BCn?= [list] text
Content-Type: multipart/mixed; boundary=b

--b
Content-Type: text/plain

Some text.
--b--
";

fn limited(script: &str, limits: &Limits) -> Result<Script, String> {
    Script::compile(script.as_bytes(), &Capabilities::all(), limits).map_err(|error| error.message)
}

#[test]
fn each_limit_of_a_script() {
    let nested = |levels: usize| format!("{}keep;{}", "if true { ".repeat(levels), "}".repeat(levels));
    let nots = |levels: usize| format!("if {}true {{ }}", "not ".repeat(levels));
    let lists = |levels: usize| format!("if {}true{} {{ }}", "allof (".repeat(levels), ")".repeat(levels));
    // RFC 5228 section 2.10.7 asks for 15, RFC 5229 section 6 for 128 variables of 4000 characters.
    let variables = |count: usize| {
        let sets: String = (0..count).map(|n| format!("set \"v{n}\" \"x\";")).collect();
        format!("require \"variables\"; {sets}")
    };
    let long = |octets: usize| format!("require \"variables\"; set \"v\" \"{}\";", "x".repeat(octets));
    for good in [nested(15), nots(15), lists(15), nested(32), variables(128), variables(256), long(16_000)] {
        assert!(limited(&good, &Limits::default()).is_ok(), "{:.60}", good);
    }
    for (bad, message) in [
        (nested(33), "nested too deeply"),
        (nested(50_000), "the script has more than"),
        (nots(33), "nested too deeply"),
        (lists(33), "nested too deeply"),
        (nots(20_000), "nested too deeply"),
        (variables(257), "256 variables at most"),
        (long(16_001), "a variable has 16000 octets at most"),
        ("keep;".repeat(20_001), "too many commands"),
        (format!("redirect [{}\"a\"];", "\"a\",".repeat(20_001)), "too many commands"),
        (" ".repeat(128 * 1024 + 1), "the script has more than 131072 octets"),
    ] {
        let error = limited(&bad, &Limits::default()).unwrap_err();
        assert!(error.contains(message), "{:.60}: {error}", bad);
    }
}

#[test]
fn each_limit_of_a_run() {
    let redirects = |count: usize| (0..count).map(|n| format!("redirect \"a{n}@b.c\";")).collect::<String>();
    let files = |count: usize| {
        let files: String = (0..count).map(|n| format!("fileinto :copy \"{n}\";")).collect();
        format!("require [\"fileinto\", \"copy\"]; {files}")
    };
    let notify = |count: usize| {
        let to: String = (0..count).map(|n| format!("a{n}@b.c,")).collect();
        format!("require \"enotify\"; notify \"mailto:{}\";", to.trim_end_matches(','))
    };
    let duplicates = |count: usize| {
        let tests: String = (0..count).map(|n| format!("if duplicate :uniqueid \"{n}\" {{ }}")).collect();
        format!("require \"duplicate\"; {tests}")
    };
    let growing = |doublings: usize| {
        let set = "set \"a\" \"${a}${a}\";".repeat(doublings);
        let many = "${a}".repeat(100);
        format!("require [\"variables\", \"fileinto\"]; set \"a\" \"0123456789\"; {set} fileinto \"{many}\";")
    };
    for (script, error) in [
        (redirects(4), None),
        (redirects(5), Some("4 addresses at most")),
        (files(32), None),
        (files(33), Some("32 actions at most")),
        (notify(4), None),
        (notify(5), Some("4 addresses at most")),
        (duplicates(16), None),
        (duplicates(17), Some("16 duplicates at most")),
        (growing(5), None),
        (growing(30), Some("longer than 131072 octets")),
    ] {
        let outcome = compile(&script).run(&Message::new(MAIL), &context(ACCOUNT));
        let found = outcome.error.as_ref().map(|found| found.message.as_str()).unwrap_or_default();
        assert!(found.contains(error.unwrap_or_default()) && found.is_empty() == error.is_none(), "{found}");
        assert!(error.is_none() || tell(&outcome).starts_with("(keep), error"));
    }
    // Longer values are cut, between characters, and that is no error (RFC 5229 section 6).
    let cut = format!(
        "require [\"variables\", \"reject\"]; set \"a\" \"{}\"; set \"a\" \"x${{a}}${{a}}\"; set :length \"b\" \"${{a}}\"; reject \"${{b}}\";",
        "é".repeat(8000)
    );
    assert_eq!(tell(&compile(&cut).run(&Message::new(MAIL), &context(ACCOUNT))), "reject 8000");
    let flags: String = (0..100).map(|n| format!("f{n} ")).collect();
    let many = compile(&format!("require \"imap4flags\"; keep :flags \"{flags}\";"));
    let outcome = many.run(&Message::new(MAIL), &context(ACCOUNT));
    assert!(matches!(&outcome.actions[0].action, Action::Keep { flags } if flags.len() == 64));
}

/// Work is counted, so that this does not depend on how fast the machine is.
#[test]
fn wildcards_cost_in_proportion_to_the_value() {
    let work = |key: &str, octets: usize| {
        let script = compile(&format!("require \"body\"; if body :raw :matches \"{key}\" {{ discard; }}"));
        let mail = Message::new(format!("X: y\n\n{}", "a".repeat(octets)));
        let outcome = script.run(&mail, &context(ACCOUNT));
        assert_eq!(tell(&outcome), "(keep)", "{key:.40}");
        outcome.work
    };
    // What goes back at each star needs n to the power of the stars: 2^400 here.
    for key in [
        "*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*b".to_owned(),
        "*a".repeat(500) + "b",
        "*".repeat(1000) + "b",
    ] {
        let (one, two) = (work(&key, 1 << 20), work(&key, 1 << 21));
        assert!(one < 4 << 20 && two < 8 << 20, "{key:.40}: {one} {two}");
    }
    // With `?` a place costs as much as the part between two stars is long.
    let key = "*a?a?a?a?a?a?b*b";
    assert!(work(key, 1 << 20) < 20 << 20);
}

#[test]
fn work_ends() {
    let part = "?a".repeat(5000);
    let script = format!("require \"body\"; if body :raw :matches \"*{part}b*\" {{ discard; }}");
    let mail = Message::new(format!("X: y\n\n{}", "a".repeat(1 << 20)));
    let limits = Limits { work: 1 << 24, ..Limits::default() };
    let outcome = limited(&script, &limits).unwrap().run(&mail, &context(ACCOUNT));
    assert!(tell(&outcome).starts_with("(keep), error line 1, column 20: the script does too much work"));
    assert!(outcome.work <= limits.work);
    // Many keys, many fields, many names: each is paid for.
    let limits = Limits { work: 1 << 20, ..Limits::default() };
    let keys = "\"x\",".repeat(5000) + "\"y\"";
    let names: String = (0..5000).map(|n| format!("\"n{n}\",")).collect();
    let subjects = "Subject: z\nX-Empty:\n".repeat(1000) + "\n";
    let empty = "\"\",".repeat(5000) + "\"\"";
    for test in [
        format!("header \"subject\" [{keys}]"),
        format!("header [{names}\"x\"] \"x\""),
        format!("header :value \"gt\" \"x-empty\" [{empty}]"),
    ] {
        let script = limited(&format!("require \"relational\"; if {test} {{ }}"), &limits).unwrap();
        let outcome = script.run(&Message::new(&subjects), &context(ACCOUNT));
        assert!(outcome.error.is_some_and(|error| error.message.contains("too much work")));
    }
}

#[test]
fn an_id_that_is_too_long_is_no_duplicate() {
    let mail = format!("Message-ID: {}\n\n", "x".repeat(16_001));
    let outcome = compile("require \"duplicate\"; if duplicate { discard; }")
        .run(&Message::new(mail), &context(ACCOUNT));
    assert_eq!((tell(&outcome).as_str(), outcome.seen.len()), ("(keep)", 0));
}

/// Pieces that scripts are made of; the first is most of what there is.
const PIECES: &[&str] = &[
    "require [\"fileinto\", \"copy\", \"envelope\", \"variables\", \"imap4flags\", \"body\", \"date\", \"index\", \"relational\",
    \"comparator-i;ascii-numeric\", \"subaddress\", \"vacation-seconds\", \"enotify\", \"duplicate\", \"mailbox\", \"mailboxid\",
    \"environment\", \"encoded-character\", \"reject\", \"ereject\"];\r\n",
    "if header :matches [\"subject\", \"to\"] \"*[*]?*\" { set :upper :length \"a\" \"${1}${2}\"; }\r\n",
    "elsif anyof (not exists \"date\", address :domain :contains \"to\" [\"d.e\", \"${a}\"]) { fileinto :flags \"\\\\Seen x\" \"${a}b\"; }\r\n",
    "else { redirect :copy \"a@b.c\"; stop; }\r\n",
    "if allof (size :over 1K, body :content \"text\" :contains \"Some\", body :raw :matches \"*?x*\") { discard; }\r\n",
    "if date :zone \"+0100\" :index 1 :last \"received\" \"iso8601\" \"2008\" { keep; }\r\n",
    "if currentdate :value \"ge\" \"hour\" \"09\" { addflag \"a\" \"$x ${1}\"; }\r\n",
    "if envelope :detail :count \"eq\" :comparator \"i;ascii-numeric\" \"to\" \"1\" { vacation :days 3 :mime text:\r\nA: b\r\n\r\n..\r\n.\r\n; }\r\n",
    "if string :matches \"${a} ${0}\" [\"*a?b\", \"\\\\*\"] { notify :message \"${1}\" \"mailto:a@b.c?subject=%20x\"; }\r\n",
    "if duplicate :header \"message-id\" :seconds 60 :last { setflag \"\\\\Deleted\"; }\r\n",
    "if hasflag :contains [\"a\", \"b\"] \"x y\" { removeflag \"x\"; }\r\n",
    "set \"b\" \"${hex: 41 42}${unicode:20AC}${b}${b}\"; # comment\r\n",
    "if mailboxexists [\"a\", \"${b}\"] { reject \"no /* */\"; } /* comment */\r\n",
    "if environment :is \"location\" \"MDA\" { ereject \"${a}\"; }\r\n",
];

/// A test, of any shape.
fn test() -> impl Strategy<Value = String> {
    prop::sample::select(TESTS).prop_map(str::to_owned).prop_recursive(3, 12, 3, |inner| {
        let list = prop::collection::vec(inner.clone(), 1..4).prop_map(|tests| tests.join(", "));
        prop_oneof![
            inner.prop_map(|test| format!("not {test}")),
            list.clone().prop_map(|tests| format!("allof ({tests})")),
            list.prop_map(|tests| format!("anyof ({tests})")),
        ]
    })
}

/// A command, of any shape.
fn command() -> impl Strategy<Value = String> {
    prop::sample::select(COMMANDS).prop_map(str::to_owned).prop_recursive(3, 24, 4, |inner| {
        let block = prop::collection::vec(inner, 0..4).prop_map(|commands| commands.join(" "));
        (test(), block.clone(), test(), block.clone(), block).prop_map(
            |(first, then, second, other, last)| {
                format!("if {first} {{ {then} }} elsif {second} {{ {other} }} else {{ {last} }}")
            },
        )
    })
}

const TESTS: &[&str] = &[
    "true",
    "false",
    "size :over 100",
    "exists [\"to\", \"subject\"]",
    "header :matches \"subject\" \"*[*]*\"",
    "header :contains :comparator \"i;octet\" [\"to\", \"cc\"] [\"ken\", \"${a}\"]",
    "header :index 1 :last \"received\" \"x\"",
    "header :count \"gt\" :comparator \"i;ascii-numeric\" \"received\" \"0\"",
    "address :detail \"to\" \"\"",
    "address :domain :matches [\"from\", \"to\"] \"*.?*\"",
    "envelope :user :is [\"from\", \"to\"] [\"ken\", \"tim\"]",
    "body :contains \"text\"",
    "body :raw :matches \"*b*--\"",
    "body :content \"multipart\" :value \"lt\" \"${1}\"",
    "date :originalzone :matches \"date\" \"iso8601\" \"*T*\"",
    "currentdate :value \"ge\" \"julian\" \"5\"",
    "string :matches \"${a}${b}\" \"?*\"",
    "string :count \"eq\" [\"${a}\", \"\"] \"1\"",
    "hasflag :contains [\"a\", \"b\"] \"x Seen\"",
    "hasflag \"\\\\Seen\"",
    "duplicate",
    "duplicate :uniqueid \"${1}\" :handle \"${a}\" :last",
    "mailboxexists \"${b}\"",
    "environment :matches \"phase\" \"d*\"",
    "valid_notify_method \"mailto:${a}@b.c\"",
    "notify_method_capability \"mailto:a@b.c\" \"online\" \"maybe\"",
];

const COMMANDS: &[&str] = &[
    "keep;",
    "keep :flags \"${a}\";",
    "discard;",
    "stop;",
    "fileinto \"a\";",
    "fileinto :copy :create :flags [\"x\", \"y\"] \"b${a}\";",
    "fileinto :mailboxid \"${1}\" \"INBOX\";",
    "redirect \"a@b.c\";",
    "redirect :copy \"${a}@b.c\";",
    "reject \"no ${1}\";",
    "ereject \"no\";",
    "vacation :days 0 :addresses \"${a}\" :subject \"${1}\" \"away ${b}\";",
    "vacation :mime :from \"k <k@x.y>\" \"A: b\";",
    "notify :message \"${1}\" \"mailto:a@b.c\";",
    "notify :importance \"3\" \"mailto:${a}@b.c?cc=d@e.f\";",
    "set \"a\" \"${a}x${1}\";",
    "set :upperfirst :quotewildcard \"b\" \"${0}*\";",
    "set :encodeurl :length \"a\" \"${b}\";",
    "set \"c\" \"${b}${c}${b}${c}\";",
    "setflag \"\\\\Seen $x\";",
    "addflag \"a\" [\"y z\", \"${1}\"];",
    "removeflag \"x\";",
];

/// Words that scripts are made of; many of them in any order are one.
const WORDS: &[&str] = &[
    "keep;",
    "keep;",
    "stop;",
    "discard;",
    "{",
    "}",
    "{ keep; }",
    "{ }",
    "(",
    ")",
    ",",
    ";",
    "[",
    "]",
    "if",
    "if true {",
    "elsif",
    "else {",
    "not",
    "allof (",
    "anyof (",
    "true",
    "false",
    "size :over 1",
    "exists \"to\"",
    "header",
    "address",
    "envelope",
    "body",
    "date",
    "currentdate",
    "string",
    "hasflag",
    "duplicate",
    "ihave",
    "mailboxexists",
    "fileinto \"a\";",
    "fileinto",
    "redirect",
    "reject",
    "vacation",
    "notify",
    "set",
    "addflag",
    "\"a\"",
    "\"from\"",
    "\"1\"",
    "\"*\"",
    "[\"a\", \"b\"]",
    "5",
    "2K",
    ":is",
    ":contains",
    ":matches",
    ":value \"gt\"",
    ":count \"ge\"",
    ":all",
    ":user",
    ":index 1",
    ":last",
    ":copy",
    ":create",
    ":flags \"x\"",
    ":days 1",
    ":zone \"+0000\"",
    ":comparator \"i;octet\"",
    "#\n",
    "/* */",
    "\"${a}\"",
    "\"${a\"",
    "\"${1}\"",
    "require \"ihave\";",
    "text:\na\n.\n",
];

/// Limits that every script gets to.
const SMALL: Limits = Limits {
    script: 128 * 1024,
    nesting: 4,
    items: 1000,
    work: 20_000,
    variables: 3,
    variable: 5,
    string: 9,
    flags: 1,
    actions: 2,
    redirects: 1,
    notifications: 1,
    duplicates: 1,
    duplicate_seconds: 10,
    vacation_min_seconds: 5,
    vacation_max_seconds: 5,
};

/// What is put in the place of some octets.
const SCRAPS: &[&str] = &[
    "",
    "\"",
    "\\",
    "{",
    "}",
    "(",
    ")",
    "[",
    "]",
    ",",
    ";",
    ":",
    "${",
    "}",
    "*",
    "?",
    "\0",
    "\r",
    "\n",
    "\r\n.\r\n",
    "text:",
    ":matches",
    ":count",
    "not ",
    "allof (",
    "99999999999999999999",
    "0",
    "G",
    "é",
    "\u{10FFFF}",
    "/*",
    "*/",
    "#",
    "require",
    "include",
    "${a\"",
    "${1\"",
    "${a.\"",
    "${hex:4\"",
    "${unicode:D800}",
    "${hex:0}",
    "${a.b}",
    "${99}",
    "=?utf-8?B?",
    "--b",
    "; ",
    "(((((",
    "<",
    "@",
    "+",
];

type Edit = (usize, usize, usize);

fn edit(text: &[u8], edits: &[Edit]) -> Vec<u8> {
    let mut text = text.to_vec();
    for (at, length, scrap) in edits {
        let at = at % (text.len() + 1);
        let end = (at + length % 8).min(text.len());
        text.splice(at..end, SCRAPS[scrap % SCRAPS.len()].bytes());
    }
    text
}

fn edits(most: usize) -> impl Strategy<Value = Vec<Edit>> {
    prop::collection::vec((any::<usize>(), any::<usize>(), any::<usize>()), 0..most)
}

/// What holds of every outcome.
fn check(outcome: &Outcome, limits: &Limits) {
    assert!(outcome.work <= limits.work);
    assert!(outcome.actions.len() <= limits.actions + 1);
    let keeps = outcome.actions.iter().filter(|planned| planned.at.is_none()).count();
    assert!(keeps <= usize::from(outcome.implicit_keep));
    let count =
        |kind: fn(&Action) -> bool| outcome.actions.iter().filter(|planned| kind(&planned.action)).count();
    assert!(count(|action| matches!(action, Action::Redirect { .. })) <= limits.redirects);
    let rejects = count(|action| matches!(action, Action::Reject { .. }));
    let deliveries = count(|action| {
        matches!(
            action,
            Action::Keep { .. } | Action::FileInto(_) | Action::Redirect { .. } | Action::Vacation(_)
        )
    });
    assert!(rejects <= 1 && (rejects == 0 || deliveries == 0));
    // A message that is neither kept nor sent on nor refused was thrown away on purpose.
    let discards = count(|action| matches!(action, Action::Discard));
    assert!(deliveries + rejects + discards > 0);
    if outcome.error.is_some() {
        assert!(outcome.implicit_keep && outcome.actions.len() == 1 && outcome.seen.is_empty());
        assert!(matches!(&outcome.actions[0].action, Action::Keep { flags } if flags.is_empty()));
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: ProptestConfig::default().cases.max(2048),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn no_script_and_no_message_ends_more_than_its_run(
        pieces in prop::collection::vec(1..PIECES.len(), 1..6),
        script_edits in edits(3),
        mail_edits in edits(12),
        limits in prop_oneof![Just(Limits::default()), Just(SMALL)],
    ) {
        let script: String = std::iter::once(&0).chain(&pieces).map(|index| PIECES[*index]).collect();
        let script = edit(script.as_bytes(), &script_edits);
        match Script::compile(&script, &Capabilities::all(), &limits) {
            Err(error) => prop_assert!(!error.message.is_empty()),
            Ok(script) => {
                let mail = Message::new(edit(MAIL.as_bytes(), &mail_edits));
                check(&script.run(&mail, &context(ACCOUNT)), &limits);
                // The same again is the same.
                prop_assert_eq!(script.run(&mail, &context(ACCOUNT)), script.run(&mail, &context(ACCOUNT)));
            }
        }
    }

    #[test]
    fn whatever_right_scripts_do_is_bounded_and_sound(
        commands in prop::collection::vec(command(), 1..8),
        mail_edits in edits(6),
    ) {
        let script = format!("{} {}", PIECES[0], commands.join(" "));
        let mail = Message::new(edit(MAIL.as_bytes(), &mail_edits));
        check(&compile(&script).run(&mail, &context(ACCOUNT)), &Limits::default());
        if let Ok(script) = limited(&script, &SMALL) {
            check(&script.run(&mail, &context(ACCOUNT)), &SMALL);
        }
    }

    #[test]
    fn any_words_are_a_script_or_an_error(words in prop::collection::vec(0..WORDS.len(), 0..40)) {
        let words: Vec<&str> = words.iter().map(|index| WORDS[*index]).collect();
        let script = format!("{} {}", PIECES[0], words.join(" "));
        if let Ok(script) = Script::compile(script.as_bytes(), &Capabilities::all(), &Limits::default()) {
            check(&script.run(&Message::new(MAIL), &context(ACCOUNT)), &Limits::default());
        }
    }

    #[test]
    fn any_octets_are_a_script_or_an_error(octets in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Script::compile(&octets, &Capabilities::all(), &Limits::default());
    }

    #[test]
    fn wildcards_are_what_going_back_would_find(value in "[ab]{0,12}", key in "[ab*?]{0,8}") {
        let script = compile(&format!(
            "require [\"variables\", \"reject\"]; if string :matches \"{value}\" \"{key}\" \
             {{ reject \"<${{1}}|${{2}}|${{3}}|${{4}}|${{5}}|${{6}}|${{7}}|${{8}}>\"; }}"
        ));
        let found = tell(&script.run(&Message::new(MAIL), &context(ACCOUNT)));
        let expected = match going_back(value.as_bytes(), key.as_bytes()) {
            None => "(keep)".to_owned(),
            Some(mut parts) => {
                parts.resize(8, String::new());
                format!("reject <{}>", parts.join("|"))
            }
        };
        prop_assert_eq!(found, expected);
    }
}

/// The parts of the wildcards, each tried from the shortest.
fn going_back(value: &[u8], key: &[u8]) -> Option<Vec<String>> {
    let part = |length: usize, rest: Vec<String>| {
        let first = String::from_utf8_lossy(&value[..length]).into_owned();
        Some(std::iter::once(first).chain(rest).collect())
    };
    match key.split_first() {
        None => value.is_empty().then(Vec::new),
        Some((b'*', key)) => (0..=value.len())
            .find_map(|length| going_back(&value[length..], key).map(|rest| (length, rest)))
            .and_then(|(length, rest)| part(length, rest)),
        Some((b'?', key)) => going_back(value.get(1..)?, key).and_then(|rest| part(1, rest)),
        Some((octet, key)) => {
            if value.first() == Some(octet) {
                going_back(&value[1..], key)
            } else {
                None
            }
        }
    }
}
