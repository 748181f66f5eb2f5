//! Actions together, in their order, and how many of them.

use crate::{
    mail::{ACCOUNT, context},
    run, run_with, tell,
};
use mailcluster_sieve::{Action, Context, Outcome};

const ALL: &str = r#"require ["fileinto", "copy", "reject", "ereject", "vacation", "imap4flags", "variables", "enotify",
    "mailbox", "envelope", "vacation-seconds"];"#;

const MAIL: &str = "From: tim@example.com\nTo: ken@example.org\nSubject: Hi\n\nText.\n";

fn all(script: &str) -> String {
    run(&format!("{ALL} {script}"), MAIL)
}

#[test]
fn the_implicit_keep() {
    for (script, expected) in [
        ("", "(keep)"),
        ("stop; discard;", "(keep)"),
        ("keep;", "keep"),
        ("discard;", "discard"),
        ("discard; discard;", "discard"),
        ("discard; fileinto \"a\";", "discard, fileinto a"),
        ("fileinto \"a\"; stop; fileinto \"b\";", "fileinto a"),
        ("fileinto :copy \"a\";", "fileinto :copy a, (keep)"),
        ("fileinto :copy \"a\"; discard;", "fileinto :copy a, discard"),
        ("if true { if false { keep; } elsif true { stop; } else { discard; } discard; }", "(keep)"),
        ("if false { discard; } elsif false { discard; } else { fileinto \"a\"; }", "fileinto a"),
        ("setflag \"\\\\Seen\";", "(keep [\\Seen])"),
        ("setflag \"\\\\Seen\"; keep :flags \"\";", "keep"),
        ("set \"a\" \"b\";", "(keep)"),
    ] {
        assert_eq!(all(script), expected, "{script}");
    }
}

#[test]
fn a_mailbox_is_delivered_into_once() {
    for (script, expected) in [
        ("keep; keep;", "keep"),
        ("fileinto \"a\"; fileinto \"a\";", "fileinto a"),
        ("fileinto \"a\"; fileinto \"A\";", "fileinto a, fileinto A"),
        ("keep; fileinto \"inbox\";", "keep"),
        ("fileinto \"INBOX\"; keep;", "fileinto INBOX"),
        ("fileinto :copy \"INBOX\";", "fileinto :copy INBOX"),
        ("fileinto :copy \"a\"; fileinto \"a\";", "fileinto a"),
        ("fileinto \"a\"; fileinto :create \"a\";", "fileinto :create a"),
        // The last flags count.
        ("keep :flags \"one\"; keep :flags \"two\";", "keep [two]"),
        ("fileinto :flags \"one\" \"a\"; addflag \"three\"; fileinto \"a\";", "fileinto a [three]"),
        ("redirect \"a@b.c\"; redirect \"A <a@B.C>\";", "redirect a@b.c"),
        ("redirect :copy \"a@b.c\"; redirect \"A@b.c\";", "redirect :copy a@b.c, redirect A@b.c"),
    ] {
        assert_eq!(all(script), expected, "{script}");
    }
}

#[test]
fn what_contradicts_itself_keeps_the_message() {
    for (script, error) in [
        ("reject \"a\"; reject \"b\";", "rejected once"),
        ("reject \"a\"; ereject \"b\";", "rejected once"),
        ("reject \"a\"; keep;", "cannot be delivered"),
        ("reject \"a\"; fileinto :copy \"b\";", "cannot be delivered"),
        ("ereject \"a\"; redirect \"a@b.c\";", "cannot be delivered"),
        ("keep; reject \"a\";", "cannot be rejected"),
        ("redirect :copy \"a@b.c\"; ereject \"a\";", "cannot be rejected"),
        ("vacation \"a\"; reject \"b\";", "cannot be answered"),
        ("reject \"b\"; vacation \"a\";", "cannot be answered"),
        ("vacation \"a\"; vacation \"b\";", "answer a message once"),
        ("redirect \"${nobody}\";", "redirect needs one address"),
        ("set \"a\" \"a@b.c, d@e.f\"; redirect \"${a}\";", "redirect needs one address"),
        ("fileinto \"${nothing}\";", "no name of a mailbox"),
        ("notify \"tel:1\";", "notifications go by mailto"),
        ("if envelope \"${nothing}\" \"x\" { discard; }", "an envelope has"),
        ("if address \"${nothing}subject\" \"x\" { discard; }", "has none"),
    ] {
        let script = format!("{ALL} setflag \"\\\\Deleted\"; {script}");
        let outcome = run_with(&script, MAIL, &context(ACCOUNT));
        assert!(
            outcome.error.as_ref().is_some_and(|found| found.message.contains(error)),
            "{script}: {outcome:?}"
        );
        assert!(outcome.implicit_keep && outcome.seen.is_empty());
        // Nothing else is done, and flags that were set before do not go with it.
        assert!(tell(&outcome).starts_with("(keep), error"), "{script}: {}", tell(&outcome));
    }
    for (script, expected) in [
        ("discard; reject \"a\";", "discard, reject a"),
        ("reject \"a\"; notify \"mailto:a@b.c\";", "reject a, notify a@b.c: Hi"),
    ] {
        assert_eq!(all(script), expected, "{script}");
    }
}

#[test]
fn flags_of_variables_and_of_the_message() {
    for (script, expected) in [
        ("addflag \"a b\"; addflag [\"B\", \"c\", \"\"]; keep;", "keep [a b c]"),
        ("setflag \"a b c\"; removeflag [\"B\", \"x\"]; keep;", "keep [a c]"),
        ("setflag \"\\\\recent \\\\seen \\\\other ok\"; keep;", "keep [\\Seen ok]"),
        ("keep :flags [\"a b\", \"c\"];", "keep [a b c]"),
        ("set \"v\" \"a  a b\"; addflag \"v\" \"c\"; keep :flags \"${v}\";", "keep [a b c]"),
        ("addflag \"v\" \"a\"; keep;", "keep"),
        ("setflag \"a\"; if hasflag :matches \"?\" { fileinto \"${0}\"; }", "fileinto a [a]"),
    ] {
        assert_eq!(all(script), expected, "{script}");
    }
}

fn vacation_over(mail: &str, context: &Context<'_>) -> Outcome {
    run_with(&format!("{ALL} vacation :addresses \"k@alias.example\" \"away\";"), mail, context)
}

#[test]
fn who_is_answered() {
    let answered = |fields: &str, context: &Context<'_>| {
        let outcome = vacation_over(&format!("{fields}\n\nText.\n"), context);
        assert!(outcome.error.is_none() && outcome.implicit_keep);
        let found = outcome.actions.iter().any(|planned| matches!(planned.action, Action::Vacation(_)));
        assert_eq!(outcome.skipped.len(), usize::from(!found), "{outcome:?}");
        found
    };
    for (fields, expected) in [
        ("To: ken@example.org", true),
        ("Cc: x@y.z, Ken <KEN@Example.org>", true),
        ("Bcc: ken+sieve@example.org", true),
        ("Resent-To: k@alias.example", true),
        ("To: friends: ken@example.org;", true),
        ("To: kent@example.org", false),
        ("X-To: ken@example.org", false),
        ("To: ken@example.org\nAuto-Submitted: no", true),
        ("To: ken@example.org\nAuto-Submitted: No ; x=y", true),
        ("To: ken@example.org\nAuto-Submitted: auto-replied", false),
        ("To: ken@example.org\nAuto-Submitted:", false),
        ("To: ken@example.org\nList-Id: <x.y>", false),
        ("To: ken@example.org\nList-Unsubscribe: <mailto:x@y>", false),
        ("To: ken@example.org\nPrecedence: bulk", false),
        ("To: ken@example.org\nPrecedence: first-class", true),
    ] {
        assert_eq!(answered(fields, &context(ACCOUNT)), expected, "{fields}");
    }
    for (sender, expected) in [
        ("tim@example.com", true),
        ("postmaster@example.com", true),
        ("", false),
        ("ken@example.org", false),
        ("KEN+sieve@example.org", false),
        ("k@alias.example", false),
        ("MAILER-DAEMON@example.com", false),
        ("owner-list@example.com", false),
        ("list-request@example.com", false),
        ("not an address", false),
        ("tim", false),
    ] {
        let context = Context { sender, ..context(ACCOUNT) };
        assert_eq!(answered("To: ken@example.org", &context), expected, "{sender}");
    }
}

#[test]
fn answers_and_notifications_are_one_line_where_they_must_be() {
    // A decoded word may have a line end in it.
    let mail = "To: ken@example.org\nSubject: =?utf-8?Q?a=0D=0ABcc:_x@y.z?=\n\nText.\n";
    for script in [
        "vacation \"away\";",
        "if header :matches \"subject\" \"*\" { vacation :subject \"${1}\" \"away\"; }",
        "notify \"mailto:a@b.c\";",
        "if header :matches \"subject\" \"*\" { notify :message \"${1}\" \"mailto:a@b.c\"; }",
    ] {
        let outcome = run_with(&format!("{ALL} {script}"), mail, &context(ACCOUNT));
        let subject = match &outcome.actions[0].action {
            Action::Vacation(vacation) => &vacation.subject,
            Action::Notify(notify) => &notify.subject,
            _ => panic!("{outcome:?}"),
        };
        assert!(subject.contains("Bcc: x@y.z") && !subject.contains(['\r', '\n']), "{script}: {subject:?}");
    }
    // Texts keep their lines, and get no others and no control characters.
    let bells = "To: ken@example.org\nSubject: =?utf-8?Q?a=0Db=00c=07=0D=0Ad?=\n\nText.\n";
    for action in ["reject", "ereject", "vacation"] {
        let script = format!("{ALL} if header :matches \"subject\" \"*\" {{ {action} \"x\ny ${{1}}\"; }}");
        let told = tell(&run_with(&script, bells, &context(ACCOUNT)));
        assert!(told.contains("x\r\ny a b c \r\nd"), "{told:?}");
    }
    let id = "if header :matches \"subject\" \"*\" { fileinto :mailboxid \"${1}\" \"a\"; }";
    let told = run(&format!("require \"mailboxid\"; {ALL} {id}"), bells);
    assert!(told.contains("is no name of a mailbox"), "{told}");
    let from = "if header :matches \"subject\" \"*\" { vacation :from \"${1} <ken@example.org>\" \"away\"; }";
    let outcome = run_with(&format!("{ALL} {from}"), mail, &context(ACCOUNT));
    assert!(outcome.error.is_some_and(|error| error.message.starts_with(":from needs an address")));
}

#[test]
fn a_message_cannot_say_who_is_notified() {
    let mail = "From: evil@example.com\nX-To: mailto:victim@example.com\n\nText.\n";
    for script in [
        "if header :matches \"x-to\" \"*\" { notify \"${1}\"; }",
        "if header :matches \"x-to\" \"*\" { set \"to\" \"${1}\"; notify \"${to}\"; }",
        "if header :matches \"x-to\" \"*\" { set \"a\" \"${0}\"; if string :matches \"${a}\" \"*\" { notify \"${1}\"; } }",
        "if address :matches \"from\" \"*\" { addflag \"f\" \"${1}\"; notify \"mailto:${f}\"; }",
        "if envelope :matches \"from\" \"*\" { notify \"mailto:${1}\"; }",
    ] {
        let outcome = run_with(&format!("{ALL} {script}"), mail, &context(ACCOUNT));
        let error = outcome.error.map(|error| error.message).unwrap_or_default();
        assert!(error.contains("nothing from the message"), "{script}: {error}");
    }
    let own = "set \"to\" \"me@example.org\"; if string :matches \"${to}\" \"*@*\" { notify \"mailto:${1}@${2}\"; }";
    assert_eq!(run(&format!("{ALL} {own}"), mail), "notify me@example.org: , (keep)");
    // Programs' messages notify nobody (RFC 5436 section 2.7), and null senders' do.
    let auto = run_with(
        &format!("{ALL} notify \"mailto:a@b.c\";"),
        "Auto-Submitted: auto-notified\n\nText.\n",
        &context(ACCOUNT),
    );
    assert_eq!((tell(&auto).as_str(), auto.skipped.len()), ("(keep)", 1));
    let null = Context { sender: "", ..context(ACCOUNT) };
    assert_eq!(
        tell(&run_with(&format!("{ALL} notify \"mailto:a@b.c\";"), MAIL, &null)),
        "notify a@b.c: Hi, (keep)"
    );
    assert_eq!(run(&format!("{ALL} notify \"mailto:\";"), MAIL), "(keep)");
    // Nobody is told twice.
    let twice = "notify :message \"one\" \"mailto:a@b.c\"; notify :message \"two\" \"mailto:d@e.f?cc=a@B.c\"; notify \"mailto:d@e.f\";";
    assert_eq!(run(&format!("{ALL} {twice}"), MAIL), "notify a@b.c: one, notify d@e.f: two, (keep)");
}
