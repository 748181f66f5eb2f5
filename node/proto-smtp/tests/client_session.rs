//! The client's session against servers that behave, and against those that do not.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may fail loudly")]

use bytes::BytesMut;
use mailcluster_proto_smtp::{
    BeginFault, BodyFault, ClientSession, Envelope, Event, Misfit, Needs, Outcome, Recipient, SessionFault,
    Stage, Utf8,
};
use proptest::prelude::*;

/// A session and what was read of its server.
struct Talk {
    session: ClientSession,
    input: BytesMut,
}

impl Talk {
    fn new() -> Self {
        Self { session: ClientSession::new(false), input: BytesMut::new() }
    }

    /// Greeted, and told these offers.
    fn after_hello(offers: &str) -> Self {
        let mut talk = Self::new();
        assert!(matches!(talk.hear("220 mx.example.net ESMTP\r\n"), Ok(Some(Event::Greeted(_)))));
        talk.session.hello("mail.example.org").unwrap();
        assert_eq!(talk.said(), "EHLO mail.example.org\r\n");
        let lines: Vec<&str> = std::iter::once("mx.example.net").chain(offers.split_whitespace()).collect();
        let (last, first) = lines.split_last().unwrap();
        let reply: String = first.iter().map(|line| format!("250-{line}\r\n")).collect();
        assert_eq!(talk.hear(&format!("{reply}250 {last}\r\n")), Ok(Some(Event::Hello)));
        talk
    }

    fn hear(&mut self, text: &str) -> Result<Option<Event>, SessionFault> {
        self.input.extend_from_slice(text.as_bytes());
        self.session.receive(&mut self.input)
    }

    fn said(&mut self) -> String {
        String::from_utf8(self.session.output().split().to_vec()).unwrap()
    }

    fn begin(&mut self, recipients: usize) {
        self.session.begin(&envelope(recipients), &Needs { size: 4, ..Needs::default() }).unwrap();
    }

    fn ended(&mut self, text: &str) -> Vec<(Stage, Option<u16>)> {
        match self.hear(text) {
            Ok(Some(Event::Ended(outcomes))) => short(&outcomes),
            other => panic!("not the end: {other:?}"),
        }
    }

    fn lost(&mut self) -> Vec<(Stage, Option<u16>)> {
        short(&self.session.lost().unwrap())
    }
}

fn short(outcomes: &[Outcome]) -> Vec<(Stage, Option<u16>)> {
    outcomes.iter().map(|o| (o.stage, o.reply.as_ref().map(|r| r.code))).collect()
}

fn envelope(recipients: usize) -> Envelope {
    let recipient = |n| Recipient { address: format!("r{n}@example.net"), ..Recipient::default() };
    Envelope {
        sender: "ann@example.org".into(),
        recipients: (0..recipients).map(recipient).collect(),
        ..Envelope::default()
    }
}

#[test]
fn without_pipelining_each_command_waits() {
    let mut talk = Talk::after_hello("SIZE");
    talk.begin(2);
    assert_eq!(talk.said(), "MAIL FROM:<ann@example.org> SIZE=4\r\n");
    assert_eq!(talk.hear("250 ok\r\n"), Ok(None));
    assert_eq!(talk.said(), "RCPT TO:<r0@example.net>\r\n");
    assert_eq!(talk.hear("550 5.1.1 who?\r\n"), Ok(None));
    assert_eq!(talk.said(), "RCPT TO:<r1@example.net>\r\n");
    assert_eq!(talk.hear("250 ok\r\n"), Ok(None));
    assert_eq!(talk.said(), "DATA\r\n");
    assert_eq!(talk.hear("354 go\r\n"), Ok(Some(Event::Body)));
    talk.session.push(b".\r").unwrap();
    talk.session.push(b"\n").unwrap();
    talk.session.finish().unwrap();
    assert_eq!(talk.said(), "..\r\n.\r\n");
    assert_eq!(talk.session.stage(), Stage::Dot);
    let Ok(Some(Event::Ended(outcomes))) = talk.hear("250 2.0.0 taken\r\n") else { panic!("not the end") };
    assert_eq!(short(&outcomes), [(Stage::Rcpt, Some(550)), (Stage::Dot, Some(250))]);
    assert_eq!(outcomes.iter().map(Outcome::is_delivered).collect::<Vec<_>>(), [false, true]);
    // The connection serves the next message, without RSET.
    talk.begin(1);
    assert_eq!(talk.said(), "MAIL FROM:<ann@example.org> SIZE=4\r\n");
}

#[test]
fn with_pipelining_a_message_takes_two_round_trips() {
    let mut talk = Talk::after_hello("PIPELINING");
    talk.begin(2);
    assert_eq!(
        talk.said(),
        "MAIL FROM:<ann@example.org>\r\nRCPT TO:<r0@example.net>\r\nRCPT TO:<r1@example.net>\r\nDATA\r\n"
    );
    assert_eq!(talk.hear("250 a\r\n250 b\r\n250 c\r\n354 d\r\n"), Ok(Some(Event::Body)));
    talk.session.push(b"hi").unwrap();
    talk.session.finish().unwrap();
    assert_eq!(talk.said(), "hi\r\n.\r\n");
    assert_eq!(talk.ended("451 4.3.0 disk\r\n"), [(Stage::Dot, Some(451)); 2]);
}

#[test]
fn many_recipients_leave_in_groups() {
    let mut talk = Talk::after_hello("PIPELINING");
    talk.begin(120);
    assert_eq!(talk.said().lines().count(), 50);
    assert_eq!(talk.hear(&"250 ok\r\n".repeat(49)), Ok(None));
    assert_eq!(talk.said(), "", "a group waits for all its answers");
    assert_eq!(talk.hear("250 ok\r\n"), Ok(None));
    assert_eq!(talk.said().lines().count(), 50);
    assert_eq!(talk.hear(&"250 ok\r\n".repeat(50)), Ok(None));
    assert!(talk.said().ends_with("DATA\r\n"));
    assert_eq!(talk.hear(&"250 ok\r\n".repeat(21)), Ok(None));
    assert_eq!(talk.hear("354 go\r\n"), Ok(Some(Event::Body)));
}

/// RFC 2920 section 3.1: a server may accept DATA although it accepted no recipient.
#[test]
fn data_without_a_recipient_is_ended_by_a_lone_dot_and_delivers_nothing() {
    for (mail, rcpt, stage, code) in
        [("250 ok", "550 no", Stage::Rcpt, 550), ("552 no", "503 no", Stage::Mail, 552)]
    {
        let mut talk = Talk::after_hello("PIPELINING");
        talk.begin(1);
        talk.said();
        assert_eq!(talk.hear(&format!("{mail}\r\n{rcpt}\r\n354 go\r\n")), Ok(None));
        assert_eq!(talk.said(), ".\r\n");
        assert_eq!(talk.ended("250 taken\r\n"), [(stage, Some(code))]);
    }
    // Rejected as it should be: RSET before the next.
    let mut talk = Talk::after_hello("PIPELINING");
    talk.begin(1);
    talk.said();
    assert_eq!(talk.ended("250 ok\r\n450 no\r\n554 none\r\n"), [(Stage::Rcpt, Some(450))]);
    talk.begin(1);
    assert!(talk.said().starts_with("RSET\r\nMAIL FROM:"));
}

#[test]
fn without_pipelining_no_data_is_asked_for_nobody() {
    let mut talk = Talk::after_hello("");
    talk.begin(1);
    talk.hear("250 ok\r\n").unwrap();
    talk.said();
    assert_eq!(talk.ended("550 no\r\n"), [(Stage::Rcpt, Some(550))]);
    assert_eq!(talk.said(), "");
    talk.begin(2);
    assert_eq!(talk.said(), "RSET\r\n");
    talk.hear("250 ok\r\n").unwrap();
    talk.said();
    assert_eq!(talk.ended("451 no\r\n"), [(Stage::Mail, Some(451)); 2]);
    assert_eq!(talk.said(), "", "recipients of a refused sender are not named");
    // A RSET that is refused says nothing of the message.
    talk.begin(1);
    assert_eq!(talk.ended("502 no RSET\r\n"), [(Stage::Mail, None)]);
    assert!(!talk.session.is_ready());
}

#[test]
fn chunks_follow_the_recipients_and_only_the_last_says_so() {
    let mut talk = Talk::after_hello("PIPELINING CHUNKING");
    talk.begin(1);
    assert_eq!(talk.said(), "MAIL FROM:<ann@example.org>\r\nRCPT TO:<r0@example.net>\r\n");
    assert_eq!(talk.hear("250 a\r\n250 b\r\n"), Ok(Some(Event::Body)));
    talk.session.push(b".a\r\n").unwrap();
    assert_eq!(talk.said(), "");
    talk.session.push(b"b").unwrap();
    assert_eq!(talk.said(), "BDAT 4\r\n.a\r\n");
    assert_eq!(talk.session.stage(), Stage::Body);
    talk.session.finish().unwrap();
    assert_eq!(talk.said(), "BDAT 3 LAST\r\nb\r\n");
    assert_eq!(talk.session.stage(), Stage::Dot, "the last chunk may have been taken");
    assert_eq!(talk.hear("250 4 octets\r\n"), Ok(None));
    assert_eq!(talk.ended("250 taken\r\n"), [(Stage::Dot, Some(250))]);

    talk.begin(1);
    talk.hear("250 a\r\n250 b\r\n").unwrap();
    talk.session.push(b"a\r\n").unwrap();
    talk.session.push(b"b\r\n").unwrap();
    assert_eq!(talk.ended("552 5.3.4 too much\r\n"), [(Stage::Body, Some(552))]);
    assert_eq!(talk.session.push(b"c\r\n"), Err(BodyFault::NotOpen));
    talk.said();
    talk.begin(1);
    assert!(talk.said().starts_with("RSET\r\n"));
}

#[test]
fn a_server_that_closes_answers_all_that_is_open() {
    let script = ["250 a\r\n", "250 b\r\n", "354 go\r\n"];
    for (heard, stage) in [(0, Stage::Mail), (1, Stage::Rcpt), (2, Stage::Data), (3, Stage::Body)] {
        let mut talk = Talk::after_hello("");
        talk.begin(1);
        for line in &script[..heard] {
            talk.hear(line).unwrap();
        }
        assert_eq!(talk.ended("421 4.3.2 bye\r\n"), [(stage, Some(421))]);
        assert!(!talk.session.is_ready());
    }
    let mut talk = Talk::after_hello("");
    assert!(matches!(talk.hear("421 idle\r\n"), Ok(Some(Event::Closing(_)))));
    assert!(!talk.session.is_ready());
}

#[test]
fn a_lost_connection_leaves_only_the_dot_open() {
    let script = ["250 a\r\n", "250 b\r\n", "354 go\r\n"];
    for (heard, stage) in [(0, Stage::Mail), (1, Stage::Rcpt), (2, Stage::Data), (3, Stage::Body)] {
        let mut talk = Talk::after_hello("");
        talk.begin(1);
        for line in &script[..heard] {
            talk.hear(line).unwrap();
        }
        assert_eq!(talk.lost(), [(stage, None)]);
    }
    let mut talk = Talk::after_hello("");
    talk.begin(2);
    for line in ["250 a\r\n", "550 b\r\n", "250 c\r\n", "354 go\r\n"] {
        talk.hear(line).unwrap();
    }
    talk.session.finish().unwrap();
    assert_eq!(talk.lost(), [(Stage::Rcpt, Some(550)), (Stage::Dot, None)]);
    assert_eq!(talk.session.lost(), None);
}

#[test]
fn no_server_can_end_a_message_before_we_do() {
    // (what was answered, in turn), the last of which is not an answer to what was asked.
    for (answers, fault, stage) in [
        (&["354 go\r\n"][..], SessionFault::Unexpected(354), Stage::Mail),
        (&["250 a\r\n", "354 go\r\n"], SessionFault::Unexpected(354), Stage::Rcpt),
        (&["250 a\r\n", "250 b\r\n", "250 taken\r\n"], SessionFault::Unexpected(250), Stage::Data),
        (&["250 a\r\n", "250 b\r\n", "354 go\r\n250 taken\r\n"], SessionFault::Ahead, Stage::Data),
        (
            &["250 a\r\n", "250 b\r\n", "354 go\r\n", "250 taken\r\n"],
            SessionFault::Unsolicited(250),
            Stage::Body,
        ),
        (&["250 a\r\n250 b\r\n"], SessionFault::Ahead, Stage::Mail),
        (&["250 a\r\n", "250 b\r\n354"], SessionFault::Ahead, Stage::Rcpt),
    ] {
        let mut talk = Talk::after_hello("");
        talk.begin(1);
        let (last, first) = answers.split_last().unwrap();
        for answer in first {
            talk.hear(answer).unwrap();
        }
        let heard = talk.hear(last);
        assert_eq!(heard, Err(fault), "{answers:?}");
        let outcomes = talk.session.lost().unwrap();
        assert_eq!(short(&outcomes), [(stage, None)], "{answers:?}");
        assert!(!outcomes.iter().any(Outcome::is_delivered));
    }
    let mut talk = Talk::after_hello("");
    talk.begin(1);
    for line in ["250 a\r\n", "250 b\r\n", "354 go\r\n"] {
        talk.hear(line).unwrap();
    }
    talk.session.finish().unwrap();
    assert_eq!(talk.hear("354 more\r\n"), Err(SessionFault::Unexpected(354)));
    assert_eq!(talk.lost(), [(Stage::Dot, None)]);
}

#[test]
fn a_session_that_is_answered_ahead_says_nothing_new() {
    let mut talk = Talk::after_hello("");
    talk.begin(1);
    for line in ["250 a\r\n", "250 b\r\n", "354 go\r\n"] {
        talk.hear(line).unwrap();
    }
    talk.session.finish().unwrap();
    assert_eq!(talk.ended("250 taken\r\n250 ahead\r\n"), [(Stage::Dot, Some(250))], "what was taken counts");
    assert!(!talk.session.is_ready());
    assert_eq!(talk.hear(""), Err(SessionFault::Unsolicited(250)));

    let mut talk = Talk::after_hello("");
    assert_eq!(talk.hear("25"), Ok(None));
    assert!(!talk.session.is_ready(), "also when it is half a reply");
}

#[test]
fn a_refusal_counts_also_when_the_server_closes_in_one_breath() {
    let mut talk = Talk::after_hello("");
    talk.begin(2);
    talk.hear("250 a\r\n").unwrap();
    let outcomes = talk.ended("550 5.1.1 who?\r\n421 too many errors\r\n");
    assert_eq!(outcomes, [(Stage::Rcpt, Some(550)), (Stage::Rcpt, Some(421))]);
    // What was said before a message began is no answer to its end.
    let mut talk = Talk::after_hello("CHUNKING");
    talk.begin(2);
    for line in ["250 a\r\n", "250 b\r\n"] {
        talk.hear(line).unwrap();
    }
    assert_eq!(talk.hear("550 c\r\n250 taken\r\n"), Err(SessionFault::Ahead));
    assert_eq!(talk.lost(), [(Stage::Body, None), (Stage::Rcpt, Some(550))]);
}

#[test]
fn a_message_that_another_reader_might_split_does_not_leave_whole() {
    for offers in ["", "CHUNKING"] {
        let mut talk = Talk::after_hello(offers);
        talk.begin(1);
        for line in ["250 a\r\n", "250 b\r\n"] {
            talk.hear(line).unwrap();
        }
        if offers.is_empty() {
            talk.hear("354 go\r\n").unwrap();
        }
        talk.session.push(b"a\r\n").unwrap();
        assert_eq!(talk.session.push(b"b\n.\r\nMAIL FROM:<evil@x>\r\n"), Err(BodyFault::BareNewline));
        assert_eq!(talk.session.finish(), Err(BodyFault::BareNewline));
        assert!(!talk.said().contains("evil"));
        assert_eq!(talk.lost(), [(Stage::Body, None)]);
    }
}

#[test]
fn an_old_server_is_greeted_the_old_way() {
    let mut talk = Talk::new();
    talk.hear("220 old\r\n").unwrap();
    talk.session.hello("mail.example.org").unwrap();
    talk.said();
    assert_eq!(talk.hear("502 what?\r\n"), Ok(None));
    assert_eq!(talk.said(), "HELO mail.example.org\r\n");
    assert_eq!(talk.hear("250-old\r\n250 PIPELINING\r\n"), Ok(Some(Event::Hello)));
    assert!(!talk.session.offers().pipelining);

    for (code, stage) in [("554", Stage::Connect), ("421", Stage::Connect)] {
        let mut talk = Talk::new();
        let heard = talk.hear(&format!("{code} go away\r\n"));
        assert!(matches!(heard, Ok(Some(Event::Refused(found, _))) if found == stage), "{heard:?}");
        assert!(!talk.session.is_ready());
    }
    let mut talk = Talk::new();
    talk.hear("220 x\r\n").unwrap();
    talk.session.hello("mail.example.org").unwrap();
    assert!(matches!(talk.hear("550 not you\r\n"), Ok(Some(Event::Refused(Stage::Hello, _)))));
}

#[test]
fn what_was_said_before_tls_is_forgotten_and_nothing_may_be_said_behind_it() {
    let mut talk = Talk::after_hello("STARTTLS AUTH PIPELINING");
    assert_eq!(
        talk.session.auth("PLAIN", Some("AGEAYg==")),
        Err(BeginFault::NotReady),
        "no password in clear"
    );
    talk.session.start_tls().unwrap();
    assert_eq!(talk.said(), "STARTTLS\r\n");
    assert_eq!(talk.hear("220 go\r\n"), Ok(Some(Event::StartTls)));
    assert!(!talk.session.is_ready(), "no mail before the handshake");
    talk.session.tls_started();
    assert!(!talk.session.offers().pipelining && !talk.session.is_ready());
    assert_eq!(talk.session.start_tls(), Err(BeginFault::NotReady));
    talk.session.hello("mail.example.org").unwrap();
    assert_eq!(talk.hear("250-mx\r\n250 AUTH PLAIN\r\n"), Ok(Some(Event::Hello)));
    assert!(talk.session.is_ready());

    let mut talk = Talk::after_hello("STARTTLS");
    talk.session.start_tls().unwrap();
    assert_eq!(talk.hear("220 go\r\n250 PIPELINING\r\n"), Err(SessionFault::Injected));

    let mut talk = Talk::after_hello("STARTTLS");
    talk.session.start_tls().unwrap();
    assert!(matches!(talk.hear("454 not now\r\n"), Ok(Some(Event::Refused(Stage::StartTls, _)))));
    assert!(talk.session.is_ready(), "whether to go on in clear is for the caller to say");
}

#[test]
fn logging_in_is_a_dialogue() {
    let mut talk = Talk { session: ClientSession::new(true), input: BytesMut::new() };
    talk.hear("220 x\r\n").unwrap();
    talk.session.hello("mail.example.org").unwrap();
    talk.hear("250-x\r\n250 AUTH PLAIN LOGIN\r\n").unwrap();
    talk.said();
    assert_eq!(talk.session.respond("DATA"), Err(BeginFault::NotReady));
    assert_eq!(talk.session.auth("PLAIN", Some("x\r\nRSET")), Err(BeginFault::Argument));
    talk.session.auth("LOGIN", None).unwrap();
    assert_eq!(talk.said(), "AUTH LOGIN\r\n");
    assert_eq!(talk.hear("334 VXNlcm5hbWU6\r\n"), Ok(Some(Event::Challenge("VXNlcm5hbWU6".into()))));
    assert!(!talk.session.is_ready());
    assert_eq!(talk.session.respond("a\r\nb"), Err(BeginFault::Argument));
    talk.session.respond("YQ==").unwrap();
    talk.hear("334 x\r\n").unwrap();
    talk.session.respond("").unwrap();
    assert_eq!(talk.said(), "YQ==\r\n\r\n");
    assert!(matches!(talk.hear("535 5.7.8 no\r\n"), Ok(Some(Event::Refused(Stage::Auth, _)))));
    talk.session.auth("PLAIN", Some("AGEAYg==")).unwrap();
    assert_eq!(talk.said(), "AUTH PLAIN AGEAYg==\r\n");
    assert_eq!(talk.hear("235 ok\r\n"), Ok(Some(Event::LoggedIn)));
}

#[test]
fn a_message_that_does_not_fit_is_not_begun() {
    let mut talk = Talk::after_hello("");
    let utf8 = Needs { utf8: Utf8::Headers, ..Needs::default() };
    assert_eq!(talk.session.begin(&envelope(1), &utf8), Err(Misfit::Utf8Headers.into()));
    assert!(talk.session.begin(&envelope(0), &Needs::default()).is_err());
    let mut bad = envelope(2);
    bad.recipients[1].address = "x@y>\r\nDATA".into();
    assert!(matches!(talk.session.begin(&bad, &Needs::default()), Err(BeginFault::Envelope(_))));
    assert_eq!(talk.said(), "");
    assert!(talk.session.is_ready());
    talk.begin(1);
    assert_eq!(talk.session.begin(&envelope(1), &Needs::default()), Err(BeginFault::NotReady));
}

#[test]
fn limits_of_the_server_are_kept() {
    let mut talk = Talk::new();
    talk.hear("220 x\r\n").unwrap();
    talk.session.hello("mail.example.org").unwrap();
    talk.hear("250-x\r\n250 LIMITS MAILMAX=1 RCPTMAX=3\r\n").unwrap();
    assert_eq!(talk.session.offers().recipients_at_once(100), 3);
    talk.begin(1);
    talk.ended("550 no\r\n");
    assert!(!talk.session.is_ready());
    talk.said();
    talk.session.quit().unwrap();
    assert_eq!(talk.said(), "QUIT\r\n");
    assert_eq!(talk.hear("221 bye\r\n"), Ok(None));
}

#[test]
fn what_is_kept_of_a_flood_is_bounded() {
    let mut talk = Talk::after_hello("PIPELINING");
    talk.begin(1);
    let line = format!("550-{}\r\n", "\u{fc}".repeat(2000));
    talk.hear("250 ok\r\n").unwrap();
    talk.hear(&line.repeat(100)).unwrap();
    let Ok(Some(Event::Ended(outcomes))) = talk.hear("550 end\r\n554 none\r\n") else {
        panic!("not the end")
    };
    assert!(outcomes[0].reply.as_ref().unwrap().text.len() <= 1000);
    let endless = "250-x\r\n".repeat(1000);
    let mut talk = Talk::after_hello("");
    talk.begin(1);
    assert!(matches!(talk.hear(&endless), Err(SessionFault::NotAReply(_))));
}

/// Lines that a server might send, most of them well-formed.
fn line() -> impl Strategy<Value = String> {
    prop_oneof![
        8 => prop::sample::select(vec!["250 ok", "354 go", "550 no", "451 no", "421 bye", "220 hi", "334 x", "235 y"])
            .prop_map(|line| format!("{line}\r\n")),
        1 => "[ -~]{0,20}".prop_map(|text| format!("{text}\r\n")),
        1 => "2[0-9][0-9][- ][A-Z0-9 =]{0,20}\r\n",
        1 => "\\PC{0,8}",
    ]
}

proptest! {
    /// Whatever a server says in whatever pieces: no panic, each recipient has an outcome, none is delivered unless
    /// the end of its message was sent, and the octets that leave are those of a client.
    #[test]
    fn no_server_brings_a_session_down(
        offers in prop::sample::select(vec!["", "PIPELINING", "PIPELINING CHUNKING", "CHUNKING"]),
        lines in prop::collection::vec(line(), 0..20),
        recipients in 1usize..5,
    ) {
        let mut talk = Talk::after_hello(offers);
        talk.begin(recipients);
        let mut finished = false;
        for line in lines {
            match talk.hear(&line) {
                Ok(Some(Event::Ended(outcomes))) => {
                    prop_assert_eq!(outcomes.len(), recipients);
                    prop_assert!(finished || !outcomes.iter().any(Outcome::is_delivered));
                    finished = false;
                    if talk.session.is_ready() {
                        talk.begin(recipients);
                    }
                }
                Ok(Some(Event::Body)) => {
                    prop_assert!(talk.session.push(b"text\r\n").is_ok());
                    prop_assert!(talk.session.finish().is_ok());
                    finished = true;
                }
                Ok(_) => {}
                Err(_) => break,
            }
        }
        if let Some(outcomes) = talk.session.lost() {
            prop_assert_eq!(outcomes.len(), recipients);
            prop_assert!(!outcomes.iter().any(Outcome::is_delivered));
            prop_assert!(finished || outcomes.iter().all(|o| o.stage < Stage::Dot));
        }
        prop_assert!(talk.said().lines().all(|line| line.len() < 100));
    }

    #[test]
    fn any_pieces_of_a_message_are_the_same_message(
        parts in prop::collection::vec("[.a]{0,6}(\r\n)?", 0..6),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..4),
    ) {
        let text = parts.concat();
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(text.len() + 1)).collect();
        cuts.extend([0, text.len()]);
        cuts.sort_unstable();
        let mut talk = Talk::after_hello("CHUNKING");
        talk.begin(1);
        talk.hear("250 a\r\n").unwrap();
        talk.said();
        talk.hear("250 b\r\n").unwrap();
        for cut in cuts.windows(2) {
            talk.session.push(&text.as_bytes()[cut[0]..cut[1]]).unwrap();
        }
        talk.session.finish().unwrap();
        let wire = talk.said();
        let mut rest = wire.as_str();
        let mut message = String::new();
        let mut last = false;
        while let Some((command, after)) = rest.split_once("\r\n") {
            prop_assert!(!last, "nothing follows the last chunk");
            let words: Vec<&str> = command.split(' ').collect();
            let size: usize = words[1].parse().unwrap();
            last = words.get(2) == Some(&"LAST");
            message.push_str(&after[..size]);
            rest = &after[size..];
        }
        let mut expected = text.clone();
        if !text.is_empty() && !text.ends_with("\r\n") {
            expected.push_str("\r\n");
        }
        prop_assert!(last);
        prop_assert_eq!(message, expected);
    }
}
