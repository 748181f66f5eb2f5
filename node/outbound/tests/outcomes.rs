//! The client's session and the judgement of its outcomes together: whatever a server says, each recipient comes to an
//! end that fits what was sent.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may fail loudly")]

use std::collections::VecDeque;

use bytes::BytesMut;
use mailcluster_outbound::reply::{Action, Heard, judge};
use mailcluster_proto_smtp::{ClientSession, Envelope, Event, Needs, Outcome, Recipient};
use proptest::prelude::*;

/// A server that gives these answers, in turn, each when its command has come; then it is gone.
fn outcomes(offers: &str, recipients: usize, mut answers: VecDeque<String>) -> Vec<Outcome> {
    let mut session = ClientSession::new(false);
    let mut input = BytesMut::from("220 hi\r\n");
    session.receive(&mut input).unwrap();
    session.hello("mail.example.org").unwrap();
    session.output().clear();
    input.extend_from_slice(format!("250-x\r\n250 {offers}\r\n").as_bytes());
    session.receive(&mut input).unwrap();
    let recipient = |n| Recipient { address: format!("r{n}@example.net"), ..Recipient::default() };
    let envelope = Envelope { recipients: (0..recipients).map(recipient).collect(), ..Envelope::default() };
    session.begin(&envelope, &Needs::default()).unwrap();
    loop {
        let commands = session.output().split();
        let asked = commands.iter().filter(|b| **b == b'\n').count();
        for _ in 0..asked {
            let Some(answer) = answers.pop_front() else { return session.lost().unwrap() };
            input.extend_from_slice(format!("{answer}\r\n").as_bytes());
        }
        match session.receive(&mut input) {
            Ok(Some(Event::Ended(outcomes))) => return outcomes,
            Ok(Some(Event::Body)) => session.finish().unwrap(),
            Ok(None) if asked > 0 => {}
            _ => return session.lost().unwrap(),
        }
    }
}

fn actions(offers: &str, answers: &[&str]) -> Vec<Action> {
    let answers = answers.iter().map(|answer| (*answer).to_owned()).collect();
    let outcomes = outcomes(offers, 2, answers);
    outcomes
        .iter()
        .map(|o| judge(Heard { stage: o.stage, reply: o.reply.as_ref(), accepted_before: 0 }).action)
        .collect()
}

#[test]
fn each_recipient_comes_to_its_own_end() {
    use Action::{Bounce, Defer, Delivered, NextHost, Unknown};
    for offers in ["", "PIPELINING"] {
        for (answers, expected) in [
            (&["250 a", "250 b", "250 c", "354 go", "250 taken"][..], [Delivered, Delivered]),
            (&["250 a", "550 5.1.1 b", "250 c", "354 go", "250 taken"], [Bounce, Delivered]),
            (&["250 a", "450 4.7.1 b", "250 c", "354 go", "554 5.7.1 spam"], [Defer, Bounce]),
            (&["250 a", "250 b", "250 c", "354 go"], [Unknown, Unknown]),
            (&["250 a", "250 b", "250 c", "451 4.3.0 no"], [NextHost, NextHost]),
            (&["250 a", "250 b", "421 bye"], [NextHost, NextHost]),
            (&["552 5.3.4 large", "503 b", "503 c", "503 d"], [Bounce, Bounce]),
            (&["250 a"], [NextHost, NextHost]),
        ] {
            assert_eq!(actions(offers, answers), expected, "{offers} {answers:?}");
        }
    }
}

proptest! {
    #[test]
    fn mail_is_delivered_exactly_when_its_end_was_answered_so(
        offers in prop::sample::select(vec!["x", "PIPELINING", "CHUNKING"]),
        answers in prop::collection::vec("(2|3|4|5)[0-9]{2}( [245]\\.[0-9]\\.[0-9])? x|250 x|354 x", 0..9),
    ) {
        for outcome in outcomes(offers, 2, answers.into()) {
            let verdict = judge(Heard { stage: outcome.stage, reply: outcome.reply.as_ref(), accepted_before: 0 });
            prop_assert_eq!(verdict.action == Action::Delivered, outcome.is_delivered());
        }
    }
}
