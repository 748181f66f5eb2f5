//! The examples of the RFCs, with the verdicts that their texts give. Scripts that are only sketched there are completed.

use crate::{
    compile, holds,
    mail::{ACCOUNT, Account, Message, NOW, context},
    run, run_with, tell,
};
use mailcluster_sieve::{Action, Capabilities, Context, Limits, Outcome, Script, Seen};

/// RFC 5228 section 1.2
const A: &str = "Date: Tue, 1 Apr 1997 09:06:31 -0800 (PST)
From: coyote@desert.example.org
To: roadrunner@acme.example.com
Subject: I have a present for you

Look, I'm sorry about the whole anvil thing, and I really
didn't mean to try and drop it on you from the top of the
cliff.  I want to try to make it up to you.
--
Wile E. Coyote   \"Super Genius\"   coyote@desert.example.org
";

/// RFC 5228 section 1.2
const B: &str = "From: youcouldberich!@reply-by-postal-mail.invalid
Sender: b1ff@de.res.example.com
To: rube@landru.example.com
Date:  Mon, 31 Mar 1997 18:26:10 -0800
Subject: $$$ YOU, TOO, CAN BE A MILLIONAIRE! $$$

YOU MAY HAVE ALREADY WON TEN MILLION DOLLARS, BUT I DOUBT
IT!  SO JUST POST THIS TO SIX HUNDRED NEWSGROUPS!  IT WILL
";

/// A message of these header fields.
fn message(fields: &str) -> String {
    format!("{fields}\n\nText.\n")
}

fn large(fields: &str, octets: usize) -> String {
    format!("{fields}\n\n{}\n", "x".repeat(octets))
}

#[test]
fn rfc5228_comments_blocks_and_sizes() {
    let hash = "if size :over 100k { # this is a comment\r\n discard;\r\n }";
    let bracket = "if size :over 100K { /* this is a comment\r\n this is still a comment */ discard /* this is a comment\r\n */ ;\r\n }";
    for script in [hash, bracket] {
        assert_eq!(run(script, A), "(keep)");
        assert_eq!(run(script, &large("From: a@b.c", 102_400)), "discard");
    }
    // 2.10.2: none of the short messages is that large, so the implicit keep is taken.
    assert_eq!(run("if size :over 500K { discard; }", A), "(keep)");
    // 4.3: the two are the same.
    for (message, first) in [(A.to_owned(), "keep"), (large("From: a@b.c", 1 << 20), "discard")] {
        assert_eq!(run("if size :under 1M { keep; } else { discard; }", &message), first);
        let second = if first == "keep" { "(keep)" } else { "discard" };
        assert_eq!(run("if not size :under 1M { discard; }", &message), second);
    }
}

#[test]
fn rfc5228_lists_and_comparators() {
    let to = r#"header :contains ["To", "Cc"] ["me@example.com", "me00@landru.example.com"]"#;
    for (fields, expected) in [
        ("To: me@example.com", true),
        ("Cc: x@y.z, ME00@landru.example.com", true),
        ("Bcc: me@example.com", false),
    ] {
        assert_eq!(holds("", to, &message(fields)), expected, "{fields}");
    }
    let missing =
        r#"if anyof (not exists ["From", "Date"], header :contains "from" "fool@example.com") { discard; }"#;
    assert_eq!(run(missing, A), "(keep)");
    assert_eq!(run(missing, &message("From: a@b.c")), "discard");
    assert_eq!(run(missing, &message("From: fool@example.com\nDate: x")), "discard");
    let fast = r#"header :contains :comparator "i;octet" "Subject" "MAKE MONEY FAST""#;
    assert!(holds("", fast, &message("Subject: You can MAKE MONEY FAST")));
    assert!(!holds("", fast, &message("Subject: You can Make Money Fast")));
}

#[test]
fn rfc5228_encoded_characters() {
    let dollars =
        r#"require "encoded-character"; if header :contains "Subject" "$${hex:24 24}" { discard; }"#;
    assert_eq!(run(dollars, B), "discard");
    assert_eq!(run(dollars, A), "(keep)");
    for (text, value) in [
        ("$${hex:40}", "$@"),
        ("${hex: 40 }", "@"),
        ("${HEX: 40}", "@"),
        ("${hex:40", "${hex:40"),
        ("${hex:400}", "${hex:400}"),
        ("${hex:4${hex:30}}", "${hex:40}"),
        ("${unicode:40}", "@"),
        ("${ unicode:40}", "${ unicode:40}"),
        ("${UNICODE:40}", "@"),
        ("${UnICoDE:0000040}", "@"),
        ("${Unicode:40}", "@"),
        ("${Unicode:Cool}", "${Unicode:Cool}"),
        ("${hex:}", "${hex:}"),
        ("${unicode:E9 20AC 1F600}", "é€😀"),
        ("${hex:c3\\\n\t a9}", "é"),
    ] {
        let script = format!("require [\"encoded-character\", \"reject\"]; reject \"{text}\";");
        assert_eq!(run(&script, A), format!("reject {value}"), "{text}");
    }
    for text in ["${unicode:200000}", "${Unicode:DF01}", "${unicode:FFFFFFFFF}"] {
        let script = format!("require [\"encoded-character\", \"reject\"]; reject \"{text}\";");
        let error = Script::compile(script.as_bytes(), &Capabilities::all(), &Limits::default()).unwrap_err();
        assert!(error.message.contains("no character"), "{error}");
        // Without the extension it is only text.
        assert_eq!(run(&format!("require \"reject\"; reject \"{text}\";"), A), format!("reject {text}"));
    }
}

#[test]
fn rfc5228_actions_and_tests() {
    let both = r#"require "fileinto"; if header :contains "from" "coyote" { discard; }
        elsif header :contains ["subject"] ["$$$"] { discard; } else { fileinto "INBOX"; }"#;
    let three = r#"if header :contains ["From"] ["coyote"] { redirect "acm@example.com"; }
        elsif header :contains "Subject" "$$$" { redirect "postmaster@example.com"; }
        else { redirect "field@example.com"; }"#;
    let harassment =
        r#"require "fileinto"; if header :contains ["from"] "coyote" { fileinto "INBOX.harassment"; }"#;
    let other = message("From: x@y.z");
    for (script, message, expected) in [
        (both, A, "discard"),
        (both, B, "discard"),
        (both, &other, "fileinto INBOX"),
        (three, A, "redirect acm@example.com"),
        (three, B, "redirect postmaster@example.com"),
        (three, &other, "redirect field@example.com"),
        (harassment, A, "fileinto INBOX.harassment"),
        (harassment, B, "(keep)"),
        (r#"redirect "bart@example.com";"#, A, "redirect bart@example.com"),
        (r#"if header :contains ["from"] ["idiot@example.com"] { discard; }"#, A, "(keep)"),
    ] {
        assert_eq!(run(script, message), expected, "{script}");
    }
    // 5.2, 5.3
    for (test, expected) in [
        ("allof (false, false)", false),
        ("allof (false, true)", false),
        ("allof (true, true)", true),
        ("anyof (false, false)", false),
        ("anyof (false, true)", true),
        ("anyof (true, true)", true),
    ] {
        assert_eq!(holds("", test, A), expected, "{test}");
    }
    // 5.1, 5.4, 5.5
    let tim = message("From: Tim <tim@example.com>");
    assert!(holds("", r#"address :is :all "from" "tim@example.com""#, &tim));
    assert!(holds("require \"envelope\";", r#"envelope :all :is "from" "tim@example.com""#, A));
    assert!(holds("", r#"not exists ["From","Date"]"#, &tim));
    // 5.7
    let coffee = message("X-Caffeine: C8H10N4O2\nCc:   ");
    assert!(!holds("", r#"header :is ["X-Caffeine"] [""]"#, &coffee));
    assert!(holds("", r#"header :contains ["X-Caffeine"] [""]"#, &coffee));
    assert!(!holds("", r#"header :contains ["X-Tea"] [""]"#, &coffee));
    assert!(holds("", r#"not header :matches "Cc" "?*""#, &coffee));
    assert!(!holds("", r#"not header :matches "X-Caffeine" "?*""#, &coffee));
}

#[test]
fn rfc5228_extended_example() {
    let script = r#"
     #
     # Example Sieve Filter
     # Declare any optional features or extension used by the script
     #
     require ["fileinto"];
     if header :is "Sender" "owner-ietf-mta-filters@imc.org"
             {
             fileinto "filter";  # move to "filter" mailbox
             }
     elsif address :DOMAIN :is ["From", "To"] "example.com"
             {
             keep;               # keep in "In" mailbox
             }
     elsif anyof (NOT address :all :contains
                    ["To", "Cc", "Bcc"] "me@example.com",
                  header :matches "subject"
                    ["*make*money*fast*", "*university*dipl*mas*"])
             {
             fileinto "spam";   # move to "spam" mailbox
             }
     else
             {
             fileinto "personal";
             }"#;
    for (fields, expected) in [
        ("Sender: owner-ietf-mta-filters@imc.org\nFrom: a@example.com", "fileinto filter"),
        ("From: a@EXAMPLE.com", "keep"),
        ("From: a@b.c\nTo: b@example.com", "keep"),
        ("From: a@b.c\nTo: b@sub.example.com", "fileinto spam"),
        ("From: a@b.c\nCc: me@example.com.invalid\nSubject: MAKE MONEY now fast", "fileinto spam"),
        ("From: a@b.c\nCc: me@example.com.invalid\nSubject: universities and diplomas", "fileinto personal"),
        ("From: a@b.c\nCc: me@example.com.invalid\nSubject: a university diplomas", "fileinto spam"),
    ] {
        assert_eq!(run(script, &message(fields)), expected, "{fields}");
    }
}

#[test]
fn rfc3894_copies() {
    assert_eq!(
        run(r#"require ["copy", "fileinto"]; fileinto :copy "incoming";"#, A),
        "fileinto :copy incoming, (keep)"
    );
    let plain = r#"require "fileinto"; fileinto "unfiltered"; keep;
        if header :contains "Subject" "MAKE MONEY FAST!!!" { discard; }"#;
    let spam = message("Subject: MAKE MONEY FAST!!!");
    assert_eq!(run(plain, &spam), "fileinto unfiltered, keep, discard");
    let copy = r#"require ["copy", "fileinto"]; fileinto :copy "unfiltered";
        if header :contains "Subject" "MAKE MONEY FAST!!!" { discard; }"#;
    assert_eq!(run(copy, &spam), "fileinto :copy unfiltered, discard");
    assert_eq!(run(r#"require "copy"; redirect :copy "a@b.c";"#, A), "redirect :copy a@b.c, (keep)");
}

/// RFC 5173 section 5.2; `&` lines are of the multiparts, `$` of the texts, `%` of the HTML, `!` of the header.
const PARTS: &str = "From: Whomever
To: Someone
Date: Whenever
Subject: whatever
Content-Type: multipart/mixed; boundary=outer

This is a multi-part message in MIME format. &

--outer
Content-Type: multipart/alternative; boundary=inner

This is a nested multi-part message in MIME format. &

--inner
Content-Type: text/plain; charset=\"us-ascii\"

Hello $

--inner
Content-Type: text/html; charset=\"us-ascii\"

<html><body>Hello</body></html> %

--inner--

This is the end of the inner MIME multipart. &

--outer
Content-Type: message/rfc822

From: Someone Else
Subject: hello request !

Please say Hello $

--outer--

This is the end of the outer MIME multipart. &
";

#[test]
fn rfc5173_bodies() {
    for (test, expected) in [
        (r#"body :content "multipart" :contains "MIME""#, true),
        (r#"body :content "multipart" :contains "nested""#, true),
        (r#"body :content "multipart" :contains "end of the inner""#, true),
        (r#"body :content "multipart/mixed" :contains "end of the inner""#, false),
        (r#"body :content "multipart" :contains "Hello""#, false),
        (r#"body :content "multipart" :matches "*format*end*""#, false),
        (r#"body :content "text/plain" :contains "Please say Hello""#, true),
        (r#"body :content "text/plain" :contains "html""#, false),
        (r#"body :content "text/html" :contains "Hello""#, true),
        (r#"body :content "text" :contains "<body>Hello""#, true),
        (r#"body :content "message/rfc822" :contains "Hello""#, true),
        (r#"body :content "message/rfc822" :contains "Please""#, false),
        (r#"body :content "" :contains ["Please", "nothing"]"#, true),
        (r#"body :content ["/plain", "text/", "a/b/c"] :contains """#, false),
        (r#"body :content "audio" :contains """#, false),
        (r#"body :contains "boundary=inner""#, false),
        (r#"body :raw :contains "boundary=inner""#, true),
        (r#"body :raw :contains "boundary=outer""#, false),
        (r#"body :text :contains "say Hello""#, true),
    ] {
        assert_eq!(holds("require \"body\";", test, PARTS), expected, "{test}");
    }
    for (script, message, expected) in [
        (r#"require "body"; if body :raw :contains "MAKE MONEY FAST" { discard; }"#, "", "(keep)"),
        (
            r#"require "body"; if body :raw :contains "MAKE MONEY FAST" { discard; }"#,
            "make money fast",
            "discard",
        ),
        (
            r#"require ["body", "fileinto"]; if body :content "text" :contains ["missile", "coordinates"] { fileinto "secrets"; }"#,
            "the coordinates",
            "fileinto secrets",
        ),
        (
            r#"require ["body", "fileinto"]; if body :text :contains "project schedule" { fileinto "project/schedule"; }"#,
            "our project schedule.",
            "fileinto project/schedule",
        ),
    ] {
        assert_eq!(run(script, &format!("From: a@b.c\n\n{message}\n")), expected, "{script}");
    }
    let audio = "Content-Type: audio/mp3\nContent-Transfer-Encoding: base64\n\nAAAA\n";
    let jukebox =
        r#"require ["body", "fileinto"]; if body :content "audio/mp3" :contains "" { fileinto "jukebox"; }"#;
    assert_eq!(run(jukebox, audio), "fileinto jukebox");
    assert_eq!(run(jukebox, A), "(keep)");
    // Section 4: a header alone has no body, not even an empty one.
    for (message, expected) in [("From: a@b.c\n", false), ("From: a@b.c\n\n", true)] {
        assert_eq!(holds("require \"body\";", r#"body :raw :is """#, message), expected, "{message:?}");
    }
    // Section 6: no match variables.
    let variables =
        r#"require ["body", "variables", "fileinto"]; if body :raw :matches "*" { fileinto "x${0}"; }"#;
    assert_eq!(run(variables, A), "fileinto x");
}

#[test]
fn rfc5183_environment() {
    for (test, expected) in [
        (r#"environment :contains "item" """#, false),
        (r#"environment :contains "location" """#, true),
        (r#"environment "location" "MDA""#, true),
        (r#"environment :matches "domain" "*.org""#, true),
        (r#"environment :is "remote-host" """#, true),
        (r#"environment :count "eq" "remote-host" "0""#, true),
        (r#"environment :count "eq" "phase" "1""#, true),
    ] {
        assert_eq!(holds("require [\"environment\", \"relational\"];", test, A), expected, "{test}");
    }
}

#[test]
fn rfc5229_strings() {
    for (text, value) in [
        ("&%${}!", "&%${}!"),
        ("${doh!}", "${doh!}"),
        ("${", "${"),
        ("${company", "${company"),
        ("${1", "${1"),
        ("${company.", "${company."),
        ("${1.company}", "${1.company}"),
        ("${full}", ""),
        ("${company}", "ACME"),
        ("${BAD${Company}", "${BADACME"),
        ("${President, ${Company} Inc.}", "${President, ACME Inc.}"),
        ("${com\\pany}", "ACME"),
        ("${com\\\\pany}", "${com\\pany}"),
        ("\\${company}", "ACME"),
        ("\\\\${company}", "\\ACME"),
        ("${dollar}{beep}", "${beep}"),
        ("${1}${00032}", ""),
    ] {
        let script = format!(
            "require [\"variables\", \"reject\"]; set \"company\" \"ACME\"; set \"dollar\" \"$\"; reject \"<{text}\";"
        );
        assert_eq!(run(&script, A), format!("reject <{value}"), "{text}");
    }
    let dear = r#"require ["encoded-character", "variables"]; set "name" "Ethelbert";
        if header :contains "Subject" "dear${hex:20 24 7b 4e}ame}" { discard; }"#;
    assert_eq!(run(dear, &message("Subject: My dear Ethelbert")), "discard");
    let letter =
        "require [\"variables\", \"reject\"]; set \"honorific\"  \"Mr\"; set \"first_name\" \"Wile\";
set \"last_name\"  \"Coyote\";
set \"vacation\" text:
Dear ${HONORIFIC} ${last_name},
I'm out, please leave a message after the meep.
.
;
reject \"${vacation}\";";
    assert_eq!(run(letter, A), "reject Dear Mr Coyote,\r\nI'm out, please leave a message after the meep.");
}

#[test]
fn rfc5229_match_variables() {
    let script = r#"require ["fileinto", "variables"];
        if header :matches "List-ID" "*<*@*" { fileinto "INBOX.lists.${2}"; stop; }
        if header :matches "Subject" "[*] *" { fileinto "INBOX.lists.${1}|${2}"; stop; }
        if address :matches ["To", "Cc"] ["coyote@**.com", "wile@**.com"] {
            fileinto "INBOX.business.${0}|${1}|${2}"; stop;
        } else { fileinto "none.${1}"; stop; }"#;
    for (fields, expected) in [
        ("List-ID: A list <acme-users@example.com>", "fileinto INBOX.lists.acme-users"),
        (
            "Subject: [acme-users] [fwd] version 1.0 is out",
            "fileinto INBOX.lists.acme-users|[fwd] version 1.0 is out",
        ),
        ("To: coyote@ACME.Example.COM", "fileinto INBOX.business.coyote@ACME.Example.COM||ACME.Example"),
        ("To: a@b.c", "fileinto none."),
    ] {
        assert_eq!(run(script, &message(fields)), expected, "{fields}");
    }
    let lazy = r#"require ["fileinto", "variables"];
        if anyof (true, address :domain :matches "To" "*.com") { fileinto "x${1}"; stop; }"#;
    assert_eq!(run(lazy, &message("To: a@b.com")), "fileinto x");
}

#[test]
fn rfc5229_modifiers_and_the_string_test() {
    for (set, value) in [
        (r#"set "b" "${a}";"#, "juMBlEd lETteRS"),
        (r#"set :length "b" "${a}";"#, "15"),
        (r#"set :lower "b" "${a}";"#, "jumbled letters"),
        (r#"set :upperfirst "b" "${a}";"#, "JuMBlEd lETteRS"),
        (r#"set :upperfirst :lower "b" "${a}";"#, "Jumbled letters"),
        (r#"set :lowerfirst :upper "b" "${a}";"#, "jUMBLED LETTERS"),
        (r#"set :quotewildcard "b" "Rock*";"#, r"Rock\*"),
        (r#"set :quotewildcard :length "b" "*?\\";"#, "6"),
        (r#"set :length "b" "größe";"#, "5"),
        (r#"set :upper "b" "ß";"#, "ß"),
    ] {
        let script = format!(
            "require [\"variables\", \"reject\"]; set \"a\" \"juMBlEd lETteRS\"; {set} reject \"${{b}}\";"
        );
        assert_eq!(run(&script, A), format!("reject {value}"), "{set}");
    }
    let pending = r#"require "variables"; set "state" "${state} pending";
        if string :matches " ${state} " "* pending *" { discard; }"#;
    assert_eq!(run(pending, A), "discard");
    let requires = r#"require ["variables", "relational", "comparator-i;ascii-numeric"];"#;
    let count = r#"string :count "eq" :comparator "i;ascii-numeric" ["", "a", "b", "${none}"] "2""#;
    assert!(holds(requires, count, A));
    assert!(!holds(requires, r#"string " a" "a""#, A), "white space stays");
}

#[test]
fn rfc5230_vacation() {
    let two = r#"require "vacation"; if header :contains "subject" "cyrus" {
            vacation "I'm out -- send mail to cyrus-bugs"; } else { vacation "I'm out -- call me at +1 304 555 0123"; }"#;
    let to_ken =
        |subject: &str| message(&format!("From: tim@example.com\nTo: ken@example.org\nSubject: {subject}"));
    let answer = |script: &str, message: &str| {
        let outcome = run_with(script, message, &context(ACCOUNT));
        let found = outcome.actions.iter().find_map(|planned| match &planned.action {
            Action::Vacation(vacation) => Some(vacation.clone()),
            _ => None,
        });
        found.unwrap_or_else(|| panic!("{outcome:?}"))
    };
    let (bug, dinner) = (answer(two, &to_ken("Cyrus bug")), answer(two, &to_ken("come over for dinner")));
    assert_eq!((bug.subject.as_str(), bug.to.as_str()), ("Auto: Cyrus bug", "tim@example.com"));
    assert_eq!(bug.seconds, 7 * 86_400);
    assert_ne!(bug.track, dinner.track, "two different answers are sent");
    // Variables are not put in before answers are told apart.
    let variable = r#"require ["vacation", "variables"]; if header :matches "subject" "*" {
        vacation :subject "Automatic response to: ${1}" "I'm away -- send mail to foo in my absence"; }"#;
    let (one, two) = (answer(variable, &to_ken("one")), answer(variable, &to_ken("two")));
    assert_eq!(
        (one.subject.as_str(), two.subject.as_str()),
        ("Automatic response to: one", "Automatic response to: two")
    );
    assert_eq!(one.track, two.track);
    let handle = r#"require "vacation"; if header :contains "subject" "lunch" {
        vacation :handle "ran-away" "I'm out and can't meet for lunch"; } else { vacation :handle "ran-away" "I'm out"; }"#;
    let (lunch, dinner) = (answer(handle, &to_ken("lunch?")), answer(handle, &to_ken("dinner?")));
    assert_eq!(lunch.track, dinner.track);
    assert_ne!(lunch.reason, dinner.reason);
    let days = r#"require "vacation"; vacation :days 23 :addresses ["tjs@example.edu", "ts4z@landru.example.edu"]
"I'm away until October 19.
If it's an emergency, call 911, I guess." ;"#;
    let away = answer(days, &message("To: TS4Z@landru.example.edu"));
    assert_eq!((away.subject.as_str(), away.seconds), ("Automated reply", 23 * 86_400));
    assert_eq!(away.reason, "I'm away until October 19.\r\nIf it's an emergency, call 911, I guess.");
    // The example lacks its last semicolon.
    let mime = "require \"vacation\"; vacation :mime text:
Content-Type: multipart/alternative; boundary=foo

--foo

I'm at the beach relaxing.  Mmmm, surf...

--foo--
.
;";
    assert!(answer(mime, &to_ken("x")).mime);
    let boss = r#"require "vacation"; if header :contains "from" "boss@example.edu" { redirect "pleeb@isp.example.org"; }
        else { vacation "Sorry, I'm away, I'll read your
message when I get around to it."; }"#;
    assert_eq!(run(boss, &message("From: boss@example.edu")), "redirect pleeb@isp.example.org");
    assert!(run(boss, &to_ken("x")).ends_with("(keep)"), "vacation leaves the implicit keep");
}

/// RFC 5230 section 7
#[test]
fn rfc5230_languages() {
    let language = r#"require "vacation";
        if header :contains ["accept-language", "content-language"] "en" { vacation "I am away this week."; }
        else { vacation "Estoy ausente esta semana."; }"#;
    let division = r#"require "vacation";
        if address :matches "from" "*@ourdivision.example.com" {
            vacation :subject "Gone fishing" "Having lots of fun! Back in a day or two!";
        } else { vacation :subject "Je suis parti cette semaine" "Je lirai votre message quand je retourne."; }"#;
    for (script, fields, expected) in [
        (language, "Accept-Language: de, en", "vacation Automated reply: I am away this week."),
        (language, "Content-Language: es", "vacation Automated reply: Estoy ausente esta semana."),
        (
            division,
            "From: a@ourdivision.example.com",
            "vacation Gone fishing: Having lots of fun! Back in a day or two!",
        ),
        (
            division,
            "From: a@b.c",
            "vacation Je suis parti cette semaine: Je lirai votre message quand je retourne.",
        ),
    ] {
        let told = run(script, &message(&format!("To: ken@example.org\n{fields}")));
        assert_eq!(told, format!("{expected}, (keep)"), "{fields}");
    }
}

/// Examples that need what is not there are refused, and say so.
#[test]
fn examples_with_other_extensions() {
    for (script, extension) in [
        (r#"require ["ereject", "spamtest", "fileinto", "comparator-i;ascii-numeric"];"#, "spamtest"),
        (r#"require ["mboxmetadata", "vacation"];"#, "mboxmetadata"),
        (r#"require ["enotify", "servermetadata", "variables", "envelope"];"#, "servermetadata"),
        (r#"require ["variables", "date", "editheader"];"#, "editheader"),
    ] {
        let error = Script::compile(script.as_bytes(), &Capabilities::all(), &Limits::default()).unwrap_err();
        assert!(error.message.starts_with(&format!("there is no extension \"{extension}\" here")), "{error}");
    }
}

#[test]
fn rfc6131_seconds() {
    let meeting = r#"require ["vacation-seconds"]; vacation :addresses ["tjs@example.edu", "ts4z@landru.example.edu"]
         :seconds 1800 "I am in a meeting, and do not have access to email.";"#;
    let every = r#"require ["vacation-seconds"]; vacation :handle "auto-resp" :seconds 0
        "Your request has been received.";"#;
    for (script, seconds) in [(meeting, 1800), (every, 0)] {
        let outcome = run_with(script, &message("To: ken@example.org, tjs@example.edu"), &context(ACCOUNT));
        let Action::Vacation(vacation) = &outcome.actions[0].action else { panic!("{outcome:?}") };
        assert_eq!(vacation.seconds, seconds);
    }
}

#[test]
fn rfc5231_relations() {
    let mail = message(
        "received: a\nreceived: b\nsubject: example\nto: foo@example.com, baz@example.com\ncc: qux@example.com",
    );
    let requires = r#"require ["relational", "comparator-i;ascii-numeric"];"#;
    for (test, expected) in [
        (r#"address :count "ge" :comparator "i;ascii-numeric" ["to", "cc"] ["3"]"#, true),
        (
            r#"anyof (address :count "ge" :comparator "i;ascii-numeric" ["to"] ["3"],
                      address :count "ge" :comparator "i;ascii-numeric" ["cc"] ["3"])"#,
            false,
        ),
        (r#"header :count "ge" :comparator "i;ascii-numeric" ["received"] ["3"]"#, false),
        (r#"header :count "ge" :comparator "i;ascii-numeric" ["received", "subject"] ["3"]"#, true),
        (r#"header :count "ge" :comparator "i;ascii-numeric" ["to", "cc"] ["3"]"#, false),
    ] {
        assert_eq!(holds(requires, test, &mail), expected, "{test}");
    }
    let extended = r#"require ["relational", "comparator-i;ascii-numeric", "fileinto"];
        if header :value "lt" :comparator "i;ascii-numeric" ["x-priority"] ["3"] { fileinto "Priority"; }
        elsif address :count "gt" :comparator "i;ascii-numeric" ["to"] ["5"] { fileinto "SPAM"; }
        elsif address :value "gt" :all :comparator "i;ascii-casemap" ["from"] ["M"] { fileinto "From N-Z"; }
        else { fileinto "From A-M"; }
        if allof ( address :count "eq" :comparator "i;ascii-numeric" ["to", "cc"] ["1"] ,
                   address :all :comparator "i;ascii-casemap" ["to", "cc"] ["me@foo.example.com"] )
        { fileinto "Only me"; }"#;
    for (fields, expected) in [
        ("X-Priority: 2 (high)", "fileinto Priority"),
        ("X-Priority: high\nFrom: zoe@x.y", "fileinto From N-Z"),
        ("To: a@x, b@x, c@x, d@x, e@x, f@x", "fileinto SPAM"),
        ("From: alice@x.y\nTo: me@foo.example.com", "fileinto From A-M, fileinto Only me"),
        ("From: alice@x.y\nTo: me@foo.example.com\nCc: b@x", "fileinto From A-M"),
    ] {
        assert_eq!(run(extended, &message(fields)), expected, "{fields}");
    }
}

#[test]
fn rfc5232_flags() {
    let requires =
        r#"require ["imap4flags", "variables", "fileinto", "relational", "comparator-i;ascii-numeric"];"#;
    let with = |script: &str, message: &str| run(&format!("{requires} {script}"), message);
    assert_eq!(
        with(r#"if size :over 500K { setflag "\\Deleted"; }"#, &large("X: y", 600_000)),
        "(keep [\\Deleted])"
    );
    let boss = r#"if header :contains "from" "boss@frobnitzm.example.edu" {
        setflag "flagvar" "\\Flagged"; fileinto :flags "${flagvar}" "INBOX.From Boss"; }"#;
    assert_eq!(
        with(boss, &message("From: boss@frobnitzm.example.edu")),
        "fileinto INBOX.From Boss [\\Flagged]"
    );
    for add in [
        r#"addflag "flagvar" "\\Deleted"; addflag "flagvar" "\\Answered";"#,
        r#"addflag "flagvar" ["\\Deleted", "\\Answered"];"#,
        r#"addflag "flagvar" "\\Deleted \\Answered";"#,
    ] {
        let script = format!(r#"{add} keep :flags "${{flagvar}}";"#);
        assert_eq!(with(&script, A), "keep [\\Deleted \\Answered]", "{add}");
    }
    let mdn = r#"if header :contains "Disposition-Notification-To" "mel@example.com" { addflag "flagvar" "$MDNRequired"; }
        if header :contains "from" "imap@cac.washington.example.edu" { removeflag "flagvar" "$MDNRequired";
        fileinto :flags "${flagvar}" "INBOX.imap-list"; }"#;
    let fields = "Disposition-Notification-To: mel@example.com\nFrom: imap@cac.washington.example.edu";
    assert_eq!(with(mdn, &message(fields)), "fileinto INBOX.imap-list");
    for (test, expected) in [
        (r#"hasflag :is "b A""#, true),
        (r#"hasflag ["b","A"]"#, true),
        (r#"hasflag "c""#, false),
        (r#"hasflag :contains "MyVar" "Junk""#, true),
        (r#"hasflag :contains "MyVar" "forward""#, true),
        (r#"hasflag :contains "MyVar" ["label", "forward"]"#, true),
        (r#"hasflag :contains "MyVar" ["junk", "forward"]"#, true),
        (r#"hasflag :contains "MyVar" "junk forward""#, true),
        (r#"hasflag :contains "MyVar" "forward junk""#, true),
        (r#"hasflag :contains "MyVar" "label""#, false),
        (r#"hasflag :contains "MyVar" ["label1", "label2"]"#, false),
        (r#"hasflag :count "ge" :comparator "i;ascii-numeric" "MyFlags" "2""#, true),
        (r#"hasflag :count "ge" :comparator "i;ascii-numeric" "MyFlags" "3""#, false),
    ] {
        let requires = format!(
            r#"{requires} setflag "A B"; setflag "MyFlags" "A B"; set "MyVar"
            "NonJunk Junk gnus-forward $Forwarded NotJunk JunkRecorded $Junk $NotJunk";"#
        );
        let script = format!("{requires} setflag \"A B\"; if {test} {{ discard; }}");
        assert_eq!(run(&script, A) == "discard", expected, "{test}");
    }
}

/// RFC 5232 section 9. Its text has `anyof` without a list and `remove` instead of `removeflag`: both are errors.
#[test]
fn rfc5232_extended_example() {
    let script = r#"require ["fileinto", "imap4flags", "variables"];
    if size :over 1M {
        addflag "MyFlags" "Big";
        if header :is "From" "boss@company.example.com" { addflag "MyFlags" "\\Flagged"; }
        fileinto :flags "${MyFlags}" "Big messages";
    }
    if header :is "From" "grandma@example.net" {
        addflag "MyFlags" ["\\Answered", "$MDNSent"];
        fileinto :flags "${MyFlags}" "GrandMa";
    }
    if header :is "Sender" "owner-ietf-mta-filters@example.org" {
        set "MyFlags" "\\Flagged $Work";
        keep :flags "${MyFlags}";
    }
    elsif ANYOF1 address :domain :is ["From", "To"] "company.example.com" ANYOF2 {
        keep :flags "${MyFlags}"; # keep in "Inbox" folder
    }
    elsif anyof (not address :all :contains ["To", "Cc"] "me@company.example.com",
                 header :matches "subject" ["*make*money*fast*", "*university*dipl*mas*"]) {
        REMOVE "MyFlags" "\\Flagged";
        fileinto :flags "${MyFlags}" "spam";
    }
    else { fileinto :flags "${MyFlags}" "personal"; }"#;
    let fill = |open: &str, close: &str, remove: &str| {
        script.replace("ANYOF1", open).replace("ANYOF2", close).replace("REMOVE", remove)
    };
    for wrong in [fill("anyof", "", "removeflag"), fill("", "", "remove")] {
        assert!(Script::compile(wrong.as_bytes(), &Capabilities::all(), &Limits::default()).is_err());
    }
    let script = fill("", "", "removeflag");
    let boss = large("From: boss@company.example.com", 1 << 20);
    assert_eq!(run(&script, &boss), "fileinto Big messages [Big \\Flagged], keep [Big \\Flagged]");
    let grandma = "From: grandma@example.net\nTo: me@company.example.com.invalid";
    assert_eq!(
        run(&script, &large(grandma, 1 << 20)),
        "fileinto Big messages [Big], fileinto GrandMa [Big \\Answered $MDNSent], \
         fileinto personal [Big \\Answered $MDNSent]"
    );
    assert_eq!(
        run(&script, &message(grandma)),
        "fileinto GrandMa [\\Answered $MDNSent], fileinto personal [\\Answered $MDNSent]"
    );
    assert_eq!(
        run(&script, &message("Sender: owner-ietf-mta-filters@example.org")),
        "keep [\\Flagged $Work]"
    );
    let spam = message("To: x@y.z");
    assert_eq!(run(&script, &spam), "fileinto spam");
}

#[test]
fn rfc5233_subaddresses() {
    let script = r#"require ["envelope", "subaddress", "fileinto"];
        if envelope :user "to" "postmaster" { fileinto "inbox.postmaster"; stop; }
        if envelope :detail "to" "mta-filters" { fileinto "inbox.ietf-mta-filters"; }
        if envelope :detail "to" "foo" { redirect "ken@example.net"; }"#;
    for (recipient, expected) in [
        ("postmaster@example.com", "fileinto inbox.postmaster"),
        ("postmaster+x@example.com", "fileinto inbox.postmaster"),
        ("ken+mta-filters@example.com", "fileinto inbox.ietf-mta-filters"),
        ("ken+foo@example.com", "redirect ken@example.net"),
        ("ken@example.com", "(keep)"),
    ] {
        let context = Context { recipient, ..context(ACCOUNT) };
        assert_eq!(tell(&run_with(script, A, &context)), expected, "{recipient}");
    }
    let empty = r#"envelope :detail "to" """#;
    for (recipient, expected) in [("ken+@example.com", "discard"), ("ken@example.com", "(keep)")] {
        let script = format!(r#"require ["envelope", "subaddress"]; if {empty} {{ discard; }}"#);
        let context = Context { recipient, ..context(ACCOUNT) };
        assert_eq!(tell(&run_with(&script, A, &context)), expected, "{recipient}");
    }
}

#[test]
fn rfc5260_dates() {
    let urgent = r#"require ["date", "relational", "fileinto"];
        if allof(header :is "from" "boss@example.com",
                 date :value "ge" :originalzone "date" "hour" "09",
                 date :value "lt" :originalzone "date" "hour" "17") { fileinto "urgent"; }"#;
    for (date, expected) in [
        ("Tue, 1 Apr 1997 09:00:00 -0800", "fileinto urgent"),
        ("Tue, 1 Apr 1997 16:59:59 +0900", "fileinto urgent"),
        ("Tue, 1 Apr 1997 17:00:00 -0800", "(keep)"),
        ("Tue, 1 Apr 1997 08:59:59 -0800", "(keep)"),
        ("yesterday", "(keep)"),
    ] {
        let mail = message(&format!("From: boss@example.com\nDate: {date}"));
        assert_eq!(run(urgent, &mail), expected, "{date}");
    }
    let weekend = r#"require ["date", "relational", "fileinto"];
        if anyof(date :is "received" "weekday" "0", date :is "received" "weekday" "6") { fileinto "weekend"; }"#;
    // The account's clocks are five hours behind: Monday 04:00 UTC is Sunday there.
    for (date, expected) in [
        ("Mon, 6 Jul 2026 04:00:00 +0000", "fileinto weekend"),
        ("Mon, 6 Jul 2026 05:00:00 +0000", "(keep)"),
        ("Sat, 4 Jul 2026 05:00:00 +0000", "fileinto weekend"),
    ] {
        let mail =
            message(&format!("Received: from a by b; {date}\nReceived: from c by d; 1 Jan 2000 00:00 Z"));
        assert_eq!(run(weekend, &mail), expected, "{date}");
    }
    // The example has a comma too many behind its last string.
    let cutoff = r#"require ["date", "relational", "index"];
        if date :value "gt" :index 2 :zone "-0500" "received" "iso8601" "2007-02-26T09:00:00-05:00"
        { redirect "aftercutoff@example.org"; }"#;
    for (second, expected) in [
        ("Mon, 26 Feb 2007 14:00:01 +0000", "redirect aftercutoff@example.org"),
        ("Mon, 26 Feb 2007 14:00:00 +0000", "(keep)"),
    ] {
        let mail = message(&format!("Received: a; 1 Mar 2007 00:00 Z\nReceived: b; {second}"));
        assert_eq!(run(cutoff, &mail), expected, "{second}");
    }
}

#[test]
fn rfc5260_current_dates() {
    let at = |script: &str, now: i64| tell(&run_with(script, A, &Context { now, ..context(ACCOUNT) }));
    let pager = r#"require ["date", "relational"];
        if anyof(currentdate :is "weekday" "0", currentdate :is "weekday" "6",
                 currentdate :value "lt" "hour" "09", currentdate :value "ge" "hour" "17")
        { redirect "pager@example.com"; }"#;
    const HOUR: i64 = 3600;
    // Saturday; Monday at 16:30, 17:30, and Tuesday at 08:30 and 09:30.
    for (now, expected) in [
        (NOW, "redirect pager@example.com"),
        (NOW + 48 * HOUR, "(keep)"),
        (NOW + 49 * HOUR, "redirect pager@example.com"),
        (NOW + 64 * HOUR, "redirect pager@example.com"),
        (NOW + 65 * HOUR, "(keep)"),
    ] {
        assert_eq!(at(pager, now), expected, "{now}");
    }
    let folder = r#"require ["date", "variables", "fileinto"];
        if currentdate :matches "month" "*" { set "month" "${1}"; }
        if currentdate :matches "year"  "*" { set "year"  "${1}"; }
        fileinto "${month}-${year}";"#;
    assert_eq!(at(folder, NOW), "fileinto 07-2026");
    let week = r#"require ["date", "relational", "vacation"];
        if allof(currentdate :value "ge" "date" "2007-06-30", currentdate :value "le" "date" "2007-07-07")
        { vacation :days 7  "I'm away during the first week in July."; }"#;
    let mail = message("To: ken@example.org");
    for (now, expected) in [(1_183_300_000, true), (NOW, false)] {
        let outcome = run_with(week, &mail, &Context { now, ..context(ACCOUNT) });
        assert_eq!(tell(&outcome).contains("first week"), expected, "{now}");
    }
}

#[test]
fn rfc5429_refusals() {
    let ereject = r#"require ["ereject"]; if address "from" "someone@example.com" {
        ereject "I no longer accept mail from this address"; }"#;
    assert_eq!(
        run(ereject, &message("From: someone@example.com")),
        "ereject I no longer accept mail from this address"
    );
    let big = "require [\"reject\"];
if size :over 100K {
    reject text:
Your message is too big.  If you want to send me a big attachment,
put it on a public web site and send me a URL.
.
    ;
}";
    assert_eq!(
        run(big, &large("X: y", 102_400)),
        "reject Your message is too big.  If you want to send me a big attachment,\r\n\
         put it on a public web site and send me a URL."
    );
    assert_eq!(run(big, A), "(keep)");
    let coyote = "require [\"reject\"];
if header :contains \"from\" \"coyote@desert.example.org\" {
    reject text:
I am not taking mail from you, and I don't
want your birdseed, either!
.
    ;
}";
    assert!(run(coyote, A).starts_with("reject I am not taking mail"));
}

#[test]
fn rfc5435_notifications() {
    let first = r#"require ["enotify", "fileinto", "variables"];
        if header :contains "from" "boss@example.org" {
            notify :importance "1" :message "This is probably very important" "mailto:alm@example.com";
            stop;
        }
        if header :contains "to" "sievemailinglist@example.org" {
            if header :matches "Subject" "*" { set "subject" "${1}"; }
            if header :matches "From" "*" { set "from" "${1}"; }
            notify :importance "3" :message "[SIEVE] ${from}: ${subject}" "mailto:alm@example.com";
            fileinto "INBOX.sieve";
        }"#;
    assert_eq!(
        run(first, &message("From: boss@example.org")),
        "notify alm@example.com: This is probably very important, (keep)"
    );
    assert_eq!(
        run(first, &message("From: a@b.c\nTo: sievemailinglist@example.org\nSubject: Hello")),
        "notify alm@example.com: [SIEVE] a@b.c: Hello, fileinto INBOX.sieve"
    );
    let second = r#"require ["enotify", "fileinto", "variables", "envelope"];
        if header :matches "from" "*@*.example.org" {
            if envelope :all :matches "from" "*" { set "env_from" " [really: ${1}]"; }
            if header :matches "Subject" "*" { set "subject" "${1}"; }
            if address :matches :all "from" "*" { set "from_addr" "${1}"; }
            notify :message "${from_addr}${env_from}: ${subject}" "mailto:alm@example.com";
        }"#;
    assert_eq!(
        run(second, &message("From: boss@mail.example.org\nSubject: Hello")),
        "notify alm@example.com: boss@mail.example.org [really: tim@example.com]: Hello, (keep)"
    );
}

#[test]
fn rfc5435_methods() {
    // Example 3 notifies by xmpp and tel, which fail when they are reached.
    let third = r#"require ["enotify", "variables"];
        set "notif_method" "xmpp:tim@example.com?message;subject=SIEVE;body=You%20got%20mail";
        if header :contains "subject" "Your dog" { set "notif_method" "tel:+14085551212"; }
        if header :contains "to" "sievemailinglist@example.org" { set "notif_method" ""; }
        if not string :is "${notif_method}" "" { notify "${notif_method}"; }
        if header :contains "from" "boss@example.org" {
            if header :matches "Subject" "*" { set "subject" "${1}"; }
            if not header :contains "subject" "FYI:" {
                notify :importance "1" :message "BOSS: ${subject}" "tel:+14085551212";
            }
        }"#;
    assert_eq!(run(third, &message("To: sievemailinglist@example.org")), "(keep)");
    assert!(run(third, A).contains("error line 5, column 50: notifications go by mailto: here"));
    assert_eq!(compile(third).warnings().len(), 1);
    // Examples 4, 5 and 6.
    let four = r#"not valid_notify_method ["mailto:", "http://gw.example.net/notify?test"]"#;
    assert!(holds("require \"enotify\";", four, A));
    let online = |method: &str, answer: &str| {
        holds(
            "require \"enotify\";",
            &format!("notify_method_capability \"{method}\" \"Online\" \"{answer}\""),
            A,
        )
    };
    assert!(!online("xmpp:tim@example.com?message;subject=SIEVE", "yes"));
    assert!(online("mailto:a@b.c", "maybe"));
    let six = r#"require ["enotify", "variables"]; set :encodeurl "body_param" "Safe body&evil=evilbody";
        notify "mailto:tim@example.com?body=${body_param}";"#;
    let outcome = run_with(six, A, &context(ACCOUNT));
    let Action::Notify(notify) = &outcome.actions[0].action else { panic!("{outcome:?}") };
    assert_eq!(
        (notify.body.as_str(), notify.subject.as_str()),
        ("Safe body&evil=evilbody", "I have a present for you")
    );
}

#[test]
fn rfc5436_mailto() {
    let script = r#"require ["enotify", "variables"];
        if header :contains "list-id" "knitting.example.com" {
            if header :matches "Subject" "[*] *" {
                notify :message "From ${1} list: ${2}" :importance "3"
                    "mailto:0123456789@sms.example.net?to=backup@example.com";
            }
        }"#;
    let mail =
        message("List-Id: Knitting Mailing List <knitting.example.com>\nSubject: [Knitting] A new sweater");
    assert_eq!(
        run(script, &mail),
        "notify 0123456789@sms.example.net backup@example.com: From Knitting list: A new sweater, (keep)"
    );
}

#[test]
fn rfc5463_ihave() {
    let known = r#"require "ihave"; if ihave "fileinto" { fileinto "a"; } else { discard; }"#;
    assert_eq!(run(known, A), "fileinto a");
    let unknown = r#"require "ihave"; if ihave "vnd.none" { none :tag "a" { keep; } } else { discard; }"#;
    assert_eq!(run(unknown, A), "discard");
    let early = r#"require "ihave"; if true { fileinto "a"; }"#;
    assert!(run(early, A).contains("error line 1, column 28: \"fileinto\" is used before an ihave"));
    let error = r#"require "ihave"; if not ihave "vnd.none" { error "no ${nothing}"; }"#;
    assert!(run(error, A).ends_with("error line 1, column 44: no ${nothing}"));
    // What is found stays switched on, and nothing is if one of several is missing.
    assert_eq!(
        run(r#"require "ihave"; if ihave "copy" { } redirect :copy "a@b.c";"#, A),
        "redirect :copy a@b.c, (keep)"
    );
    let partly = r#"require "ihave"; if ihave ["copy", "vnd.none"] { } redirect :copy "a@b.c";"#;
    assert!(run(partly, A).contains("error"));
    // Variables change how the script is read: only require can ask for them.
    assert_eq!(run(r#"require "ihave"; if ihave "variables" { discard; }"#, A), "(keep)");
    assert_eq!(run(r#"require ["variables", "ihave"]; if ihave "variables" { discard; }"#, A), "discard");
}

#[test]
fn rfc5490_mailboxes() {
    let script = r#"require ["fileinto", "reject", "mailbox"];
        if mailboxexists "Partners" { fileinto "Partners"; }
        else { reject "This message was not accepted by the Mailstore"; }"#;
    let account = Account { mailboxes: vec!["Partners"], seen: vec![] };
    assert_eq!(tell(&run_with(script, A, &context(&account))), "fileinto Partners");
    assert_eq!(run(script, A), "reject This message was not accepted by the Mailstore");
    let all = r#"require "mailbox"; if mailboxexists ["Partners", "Others"] { discard; }"#;
    assert_eq!(tell(&run_with(all, A, &context(&account))), "(keep)");
}

/// RFC 9042 sections 4.1 and 4.3
#[test]
fn rfc9042_mailbox_ids() {
    let script = r#"require ["fileinto", "mailboxid", "mailbox"];
        if mailboxidexists "F6352ae03-b7f5-463c-896f-d8b48ee3" {
            fileinto :mailboxid "F6352ae03-b7f5-463c-896f-d8b48ee3" :create "INBOX.harassment";
        }"#;
    assert_eq!(
        run(script, A),
        "fileinto :create :mailboxid F6352ae03-b7f5-463c-896f-d8b48ee3 INBOX.harassment"
    );
}

#[test]
fn rfc7352_duplicates() {
    let mail = message("Message-ID:  <1@x>\nSubject: ALERT: down\nX-Event-ID: e1");
    let account = |handle, id| Account { mailboxes: vec![], seen: vec![(handle, id)] };
    let outcome = |script: &str, account: &Account| -> Outcome { run_with(script, &mail, &context(account)) };
    let marks = |outcome: &Outcome| -> Vec<Seen> { outcome.seen.clone() };
    // Section 3.2: the three are the same.
    for script in [
        r#"require "duplicate"; if duplicate { discard; }"#,
        r#"require "duplicate"; if duplicate :header "message-id" { discard; }"#,
        r#"require ["duplicate", "variables"]; if header :matches "message-id" "*" {
            if duplicate :uniqueid "${0}" { discard; } }"#,
    ] {
        let first = outcome(script, ACCOUNT);
        assert_eq!(tell(&first), "(keep)", "{script}");
        let mark = Seen { handle: String::new(), id: b"<1@x>".to_vec(), seconds: 7 * 86_400 };
        assert_eq!(marks(&first), [mark]);
        let second = outcome(script, &account("", "<1@x>"));
        assert_eq!((tell(&second).as_str(), marks(&second).len()), ("discard", 0), "{script}");
    }
    let trash = r#"require ["duplicate", "fileinto", "mailbox"]; if duplicate { fileinto :create "Trash/Duplicate"; }"#;
    assert_eq!(tell(&outcome(trash, &account("", "<1@x>"))), "fileinto :create Trash/Duplicate");
    let alerts = r#"require ["duplicate", "variables", "imap4flags", "fileinto"];
        if header :matches "subject" "ALERT: *" {
            if duplicate :seconds 60 :uniqueid "${1}" { setflag "\\seen"; }
            fileinto "Alerts";
        }"#;
    assert_eq!(tell(&outcome(alerts, ACCOUNT)), "fileinto Alerts");
    assert_eq!(tell(&outcome(alerts, &account("", "down"))), "fileinto Alerts [\\Seen]");
    // Example 3, by mail.
    let notify = r#"require ["variables", "envelope", "enotify", "duplicate"];
        if envelope :matches "from" "*" { set "sender" "${1}"; }
        if header :matches "subject" "*" { set "subject" "${1}"; }
        if string :comparator "i;ascii-casemap" :matches "${subject}" "Re:*" { set "subject" "${1}"; }
        if not duplicate :seconds 1800 :uniqueid "${sender} ${subject}" {
            notify :message "[SIEVE] ${sender}: ${subject}" "mailto:user@im.example.com";
        }"#;
    let first = outcome(notify, ACCOUNT);
    assert!(tell(&first).starts_with("notify user@im.example.com: [SIEVE] tim@example.com: ALERT: down"));
    assert_eq!(
        (marks(&first)[0].seconds, marks(&first)[0].id.as_slice()),
        (1800, &b"tim@example.com ALERT: down"[..])
    );
    // Example 4: handles keep ids apart; :last renews what was seen.
    let handles =
        r#"require "duplicate"; if duplicate :header "X-Event-ID" :handle "notifier" :last { discard; }"#;
    assert_eq!(tell(&outcome(handles, &account("", "e1"))), "(keep)");
    let again = outcome(handles, &account("notifier", "e1"));
    assert_eq!((tell(&again).as_str(), marks(&again).len()), ("discard", 1));
    let both = r#"require ["duplicate", "imap4flags"];
        if duplicate :header "X-Event-ID" :handle "notifier" { discard; }
        if allof ( duplicate :header "X-Ticket-ID" :handle "support",
            address "to" "support@example.com", header :contains "subject" "fileserver") { setflag "\\seen"; }"#;
    let ticket = message("X-Ticket-ID: e1\nTo: support@example.com\nSubject: the fileserver");
    for (handle, expected) in [("support", "(keep [\\Seen])"), ("notifier", "(keep)")] {
        assert_eq!(tell(&run_with(both, &ticket, &context(&account(handle, "e1")))), expected, "{handle}");
    }
}

#[test]
fn rfc7352_what_is_not_remembered() {
    let mail = message("Message-ID: <1@x>");
    let seen = Account { mailboxes: vec![], seen: vec![("", "<1@x>")] };
    // Nothing to go by, and nothing to remember.
    for script in [
        r#"require "duplicate"; if duplicate :header "X-None" { discard; }"#,
        r#"require "duplicate"; if duplicate :header "not a name:" { discard; }"#,
        r#"require "duplicate"; if duplicate :seconds 0 { discard; }"#,
    ] {
        let outcome = run_with(script, &mail, &context(&seen));
        assert_eq!((tell(&outcome).as_str(), outcome.seen.len()), ("(keep)", 0), "{script}");
    }
    // A script that fails remembers nothing.
    let fails = r#"require ["duplicate", "vacation"]; if duplicate { } vacation "a"; vacation "b";"#;
    let outcome = run_with(fails, &mail, &context(ACCOUNT));
    assert!(outcome.error.is_some() && outcome.seen.is_empty());
}

#[test]
fn a_script_can_be_run_again() {
    let script = compile(
        r#"require ["variables", "fileinto"]; if header :matches "subject" "*" { fileinto "${1}"; }"#,
    );
    for subject in ["one", "two"] {
        let mail = Message::new(message(&format!("Subject: {subject}")));
        assert_eq!(tell(&script.run(&mail, &context(ACCOUNT))), format!("fileinto {subject}"));
    }
}
