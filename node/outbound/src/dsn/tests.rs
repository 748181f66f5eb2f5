use proptest::prelude::*;

use super::*;

fn reported(address: &str) -> Reported {
    Reported {
        address: address.to_owned(),
        original: None,
        notify: None,
        status: Status::new(5, 2, 2),
        text: "The mailbox refused it".into(),
        remote: Some("mx.example.net".into()),
        diagnostic: Some("552 5.2.2 over quota\r\n\r\n--evil".into()),
        last_attempt: Some(3600),
        retry_until: Some(7200),
    }
}

fn report<'a>(recipients: &'a [Reported], message: &'a [u8]) -> Report<'a> {
    Report {
        id: "01ID",
        hostname: "mail.example.org",
        sender: "ann@example.org",
        accepted_as: "01MSG",
        envelope_id: None,
        arrived: 0,
        now: 60,
        utf8: false,
        ret: None,
        message,
        is_whole: true,
        action: Action::Failed,
        recipients,
    }
}

fn text(report: &Report<'_>) -> String {
    String::from_utf8(write(report).unwrap().octets).unwrap()
}

const MESSAGE: &[u8] = b"Subject: hello\r\nX: y\r\n\r\nsecret body\r\n";

#[test]
fn who_is_told_of_what() {
    use Action::{Delayed, Delivered, Expanded, Failed, Relayed};
    let on = |success, failure, delay| Some(Notify::On { success, failure, delay });
    for (notify, told) in [
        (None, &[Failed, Delayed][..]),
        (Some(Notify::Never), &[]),
        (on(false, true, false), &[Failed]),
        (on(false, false, true), &[Delayed]),
        (on(true, false, false), &[Delivered, Relayed, Expanded]),
        (on(true, true, true), &[Failed, Delayed, Delivered, Relayed, Expanded]),
    ] {
        for action in [Failed, Delayed, Delivered, Relayed, Expanded] {
            assert_eq!(is_wanted("a@b", notify, action), told.contains(&action), "{notify:?} {action:?}");
            assert!(!is_wanted("", notify, action), "never to nobody");
            let all = [Reported { notify, ..reported("x@y") }];
            let one = Report { action, ..report(&all, MESSAGE) };
            assert_eq!(write(&one).is_some(), told.contains(&action));
            assert_eq!(write(&Report { sender: "", ..one }), None);
        }
    }
}

#[test]
fn the_same_report_has_the_same_id_and_another_has_another() {
    let (one, two) = (5 << 80 | 1, 5 << 80 | 2);
    let id = report_id(one, "a@b", Action::Failed);
    assert_eq!(id, report_id(one, "a@b", Action::Failed));
    assert_eq!(id >> 80, 5, "it sorts by the message's time");
    for other in [
        report_id(one, "a@c", Action::Failed),
        report_id(two, "a@b", Action::Failed),
        report_id(one, "a@b", Action::Delayed),
        report_id(one, "a@b", Action::Delivered),
    ] {
        assert_ne!(id, other);
    }
}

#[test]
fn a_failure_tells_people_and_programs() {
    let original = OriginalRecipient { kind: "rfc822".into(), address: "Bob@example.org".into() };
    let all =
        [Reported { original: Some(original), ..reported("bob@example.net") }, reported("eve@example.net")];
    let text = text(&Report { envelope_id: Some("Q 1"), ..report(&all, MESSAGE) });
    for part in [
        "To: <ann@example.org>\r\n",
        "report-type=delivery-status; boundary=\"=_01ID\"\r\n\r\n--=_01ID\r\n",
        "Auto-Submitted: auto-replied\r\n",
        "    bob@example.net\r\n\r\nThe mailbox refused it.\r\nThe answer of mx.example.net was: 552 5.2.2 over quota    --evil\r\n",
        "\r\n--=_01ID\r\nContent-Type: message/delivery-status\r\n\r\nOriginal-Envelope-Id: Q 1\r\n\
         Reporting-MTA: dns; mail.example.org\r\nArrival-Date: Thu, 1 Jan 1970 00:00:00 +0000\r\n\r\n\
         Original-Recipient: rfc822; Bob@example.org\r\nFinal-Recipient: rfc822; bob@example.net\r\n\
         Action: failed\r\nStatus: 5.2.2\r\nRemote-MTA: dns; mx.example.net\r\n\
         Diagnostic-Code: smtp; 552 5.2.2 over quota    --evil\r\n\
         Last-Attempt-Date: Thu, 1 Jan 1970 01:00:00 +0000\r\nFinal-Log-ID: 01MSG\r\n\r\n\
         Final-Recipient: rfc822; eve@example.net\r\n",
        "\r\n--=_01ID\r\nContent-Type: text/rfc822-headers\r\nContent-Transfer-Encoding: 7bit\r\n\r\n\
         Subject: hello\r\nX: y\r\n\r\n--=_01ID--\r\n",
    ] {
        assert!(text.contains(part), "{part:?} in {text}");
    }
    assert!(!text.contains("secret body") && !text.contains("Will-Retry-Until"));
    assert!(!text.replace("\r\n", "").contains(['\r', '\n']));
}

#[test]
fn a_delay_says_until_when() {
    let all = [Reported { status: Status::new(4, 4, 1), diagnostic: None, ..reported("bob@example.net") }];
    let text = text(&Report { action: Action::Delayed, ret: Some(Ret::Full), ..report(&all, MESSAGE) });
    for part in [
        "Subject: Delayed mail, still being tried\r\n",
        "It will be tried until Thu, 1 Jan 1970 02:00:00 +0000.\r\n",
        "Action: delayed\r\nStatus: 4.4.1\r\n",
        "Will-Retry-Until: Thu, 1 Jan 1970 02:00:00 +0000\r\n",
        "text/rfc822-headers",
    ] {
        assert!(text.contains(part), "{part:?} in {text}");
    }
    assert!(!text.contains("Diagnostic-Code"));
}

#[test]
fn what_comes_back_is_what_was_asked_for() {
    let all = [reported("bob@example.net")];
    let large = [b"Subject: x\r\n\r\n".as_slice(), &vec![b'x'; 2 << 20]].concat();
    for (ret, is_whole, message, kind, whole) in [
        (None, true, MESSAGE, "text/rfc822-headers", false),
        (Some(Ret::Headers), true, MESSAGE, "text/rfc822-headers", false),
        (Some(Ret::Full), true, MESSAGE, "message/rfc822", true),
        (Some(Ret::Full), false, MESSAGE, "text/rfc822-headers", false),
        (Some(Ret::Full), true, &large, "text/rfc822-headers", false),
    ] {
        let text = text(&Report { ret, is_whole, ..report(&all, message) });
        assert!(text.contains(&format!("Content-Type: {kind}\r\n")), "{ret:?}");
        assert_eq!(text.contains("secret body") || text.len() > (1 << 20), whole, "{ret:?}");
    }
    let long = "X: y\r\n".repeat(10_000);
    assert!(text(&report(&all, long.as_bytes())).len() < (16 << 10) + 4096, "a header is bounded");
}

#[test]
fn a_report_is_in_ascii_unless_the_message_was_not() {
    let original = OriginalRecipient { kind: "utf-8".into(), address: "j\u{fc}@example.org".into() };
    let all = [Reported {
        original: Some(original),
        diagnostic: Some("550 gibt\u{2019}s nicht".into()),
        ..reported("b\u{f6}b@example.net")
    }];
    let message = "Subject: hi\r\n\r\nx\r\n".as_bytes();
    let ascii = write(&report(&all, message)).unwrap();
    assert!(!ascii.utf8 && !ascii.eight_bit);
    let text = String::from_utf8(ascii.octets).unwrap();
    for part in [
        "Original-Recipient: utf-8; j\\x{FC}@example.org\r\n",
        "Final-Recipient: utf-8; b\\x{F6}b@example.net\r\n",
        "Diagnostic-Code: smtp; 550 gibt?s nicht\r\n",
        "Content-Type: message/delivery-status\r\n",
    ] {
        assert!(text.contains(part), "{part:?} in {text}");
    }
    let utf8 = write(&Report { utf8: true, ..report(&all, message) }).unwrap();
    assert!(utf8.utf8 && utf8.eight_bit);
    let text = String::from_utf8(utf8.octets).unwrap();
    for part in [
        "report-type=global-delivery-status;",
        "Content-Type: message/global-delivery-status\r\nContent-Transfer-Encoding: 8bit\r\n\r\n",
        "Original-Recipient: utf-8; j\u{fc}@example.org\r\n",
        "Final-Recipient: utf-8; b\u{f6}b@example.net\r\n",
        "Content-Type: message/global-headers\r\n",
    ] {
        assert!(text.contains(part), "{part:?} in {text}");
    }
    // Eight bits in the header that is quoted need 8BITMIME, not SMTPUTF8.
    let all = [reported("bob@example.net")];
    let eight = write(&report(&all, "Subject: \u{fc}\r\n\r\n".as_bytes())).unwrap();
    assert!(!eight.utf8 && eight.eight_bit);
    let text = String::from_utf8(eight.octets).unwrap();
    assert!(text.contains("boundary=\"=_01ID\"\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"));
    assert!(text.contains("text/rfc822-headers\r\nContent-Transfer-Encoding: 8bit\r\n"));
}

#[test]
fn a_message_that_knows_the_boundary_does_not_break_out() {
    let all = [reported("bob@example.net")];
    let message = b"Subject: x\r\n\r\n--=_01ID\r\nContent-Type: text/html\r\n\r\nevil\r\n--=_1_01ID--\r\n";
    let text = text(&Report { ret: Some(Ret::Full), ..report(&all, message) });
    assert!(text.contains("boundary=\"=_2_01ID\""));
    assert_eq!(text.matches("\r\n--=_2_01ID").count(), 4);
    // One that knows them all does not come back.
    let all_of_them: String = (1..100).map(|number| format!("--=_{number}_01ID--\r\n")).collect();
    let message = format!("--=_01ID\r\n{all_of_them}");
    let text = self::text(&report(&all, message.as_bytes()));
    assert!(text.ends_with("7bit\r\n\r\n\r\n--=_01ID--\r\n") && !text.contains("=_9_"));
}

proptest! {
    /// Whatever came from elsewhere: the report has its four boundaries, no bare line ends, no line too long, and not
    /// a header or field more than it should.
    #[test]
    fn nothing_from_elsewhere_breaks_a_report(
        address in "\\PC{0,40}|[\\x00-\\x7f]{0,40}",
        said in "(\\PC|[\\x00-\\x7f]){0,900}",
        id in "\\PC{0,50}",
        utf8 in any::<bool>(),
        message in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let one = Reported { diagnostic: Some(said.clone()), text: said.clone(), remote: Some(said.clone()), ..reported(&address) };
        let recipients = [one];
        let made = write(&Report {
            utf8, id: &id, envelope_id: Some(&said), sender: "a\r\nBcc: x@y", ..report(&recipients, b"Subject: x\r\n\r\n")
        }).unwrap();
        let text = String::from_utf8(made.octets).unwrap();
        prop_assert_eq!(text.is_ascii(), !made.eight_bit);
        prop_assert!(utf8 || text.is_ascii());
        prop_assert!(!text.replace("\r\n", "").contains(['\r', '\n']));
        prop_assert!(text.lines().all(|line| line.len() < 998));
        let fields = |name: &str| text.lines().filter(|line| line.starts_with(name)).count();
        let counts = (fields("Final-Recipient:"), fields("Status:"), fields("Bcc:"), fields("Content-Type:"));
        prop_assert_eq!(counts, (1, 1, 0, 4));
        let boundary = text.split("boundary=\"").nth(1).unwrap().split('"').next().unwrap();
        prop_assert_eq!(text.matches(&format!("\r\n--{boundary}")).count(), 4);
        // Any octets may be quoted.
        let _ = write(&Report { ret: Some(Ret::Full), ..report(&recipients, &message) });
    }
}
