//! Not an octet of an answer leaves the backend while a record of the change is written and not synced, whatever the
//! protocol and the command; and each of these cases notices when the sync is taken out.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may panic")]

mod imap_support;

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use imap_support::{Client, World};
use mailcluster_backend::{imap, lmtp, pop3};
use mailcluster_proto_imap::{Command, CommandBody, Decoder, Event, Limits};
use mailcluster_store::{
    OpenGate,
    testing::{Recorder, Setup},
};
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};

/// The server's end of a connection. At every write it looks how many batches are written and not synced.
struct Watch {
    stream: DuplexStream,
    recorder: Recorder,
    most_unsynced: Arc<AtomicUsize>,
}

impl AsyncRead for Watch {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, into)
    }
}

impl AsyncWrite for Watch {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        octets: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.most_unsynced.fetch_max(self.recorder.unsynced(), Ordering::SeqCst);
        Pin::new(&mut self.stream).poll_write(context, octets)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[derive(Debug, Clone, Copy)]
enum Protocol {
    Imap,
    Lmtp,
    Pop3,
}

/// A change, and the session before it. `{A}` stands for the account.
struct Case {
    name: &'static str,
    protocol: Protocol,
    before: &'static str,
    change: &'static str,
}

const fn imap(name: &'static str, before: &'static str, change: &'static str) -> Case {
    Case { name, protocol: Protocol::Imap, before, change }
}

const fn lmtp(name: &'static str, before: &'static str, change: &'static str) -> Case {
    Case { name, protocol: Protocol::Lmtp, before, change }
}

/// Two messages are in INBOX.
const CASES: &[Case] = &[
    imap("APPEND", "", "C: a APPEND INBOX {3+}␍one\nS…\nS: a OK [APPENDUID …] …"),
    imap("STORE", INBOX, "C: a STORE 1 +FLAGS (\\Flagged)\nS…\nS: a OK …"),
    imap("STORE .SILENT", INBOX, "C: a UID STORE 1:2 FLAGS.SILENT (kept)\nS…\nS: a OK …"),
    imap("COPY", INBOX, "C: a COPY 1:2 Archive\nS…\nS: a OK [COPYUID …] …"),
    imap("MOVE", INBOX, "C: a MOVE 1 Trash\nS…\nS: a OK …"),
    imap("EXPUNGE", DELETED, "C: a EXPUNGE\nS: * 1 EXPUNGE\nS…\nS: a OK …"),
    imap("UID EXPUNGE", DELETED, "C: a UID EXPUNGE 1\nS: * 1 EXPUNGE\nS…\nS: a OK …"),
    imap("CLOSE", DELETED, "C: a CLOSE\nS: a OK …"),
    imap("FETCH that sets \\Seen", INBOX, "C: a FETCH 1 BODY[]\nS…\nS: a OK …"),
    imap("CREATE", "", "C: a CREATE new/one\nS: a OK …"),
    imap("DELETE", "C: b CREATE old\nS: b OK …", "C: a DELETE old\nS: a OK …"),
    imap("RENAME", "C: b CREATE old\nS: b OK …", "C: a RENAME old new\nS: a OK …"),
    imap("SUBSCRIBE", "C: b UNSUBSCRIBE Sent\nS: b OK …", "C: a SUBSCRIBE Sent\nS: a OK …"),
    imap("UNSUBSCRIBE", "C: b SUBSCRIBE Sent\nS: b OK …", "C: a UNSUBSCRIBE Sent\nS: a OK …"),
    lmtp("one recipient", "C: RCPT TO:<a@b.c> MCACCT={A}\nS: 250 …", "S: 250 …delivered…"),
    lmtp("a recipient twice", TWICE, "S: 250 …delivered…\nS: 250 …delivered…"),
    lmtp("hand-off", "C: RCPT TO:<a@b.c> MCACCT={A} MCSTORE=s-9\nS: 250 …", "S: 250 …queued…"),
    lmtp("held", "C: RCPT TO:<a@b.c> MCHOLD=1\nS: 250 …", "S: 250 …held…"),
    Case {
        name: "DELE and QUIT",
        protocol: Protocol::Pop3,
        before: "C: DELE 1\nS: +OK…",
        change: "C: QUIT\nS: +OK…",
    },
];
const INBOX: &str = "C: s SELECT INBOX\nS…\nS: s OK …";
const DELETED: &str = "C: s SELECT INBOX\nS…\nS: s OK …\nC: d STORE 1 +FLAGS (\\Deleted)\nS…\nS: d OK …";
const TWICE: &str = "C: RCPT TO:<a@b.c> MCACCT={A}\nS: 250 …\nC: RCPT TO:<d@b.c> MCACCT={A}\nS: 250 …";

impl Case {
    /// The session up to the change.
    fn opening(&self) -> String {
        let (before, after) = match self.protocol {
            Protocol::Imap => {
                ("S: * OK …\nC: l AUTHENTICATE EXTERNAL YW5uQGV4YW1wbGUub3Jn\nS: l OK [CAPABILITY …] …", "")
            }
            Protocol::Lmtp => (
                "S: 220 …\nC: LHLO x\nS…\nS: 250 …\nC: MAIL FROM:<x@y.example>\nS: 250 …",
                "C: DATA\nS: 354 …",
            ),
            Protocol::Pop3 => ("S: +OK…\nC: AUTH EXTERNAL YW5u\nS: +OK…", ""),
        };
        format!("{before}\n{}\n{after}", self.before)
    }

    /// The change and its answer.
    fn closing(&self) -> String {
        match self.protocol {
            Protocol::Lmtp => format!("C: Subject: x␍␍text␍.\n{}", self.change),
            _ => self.change.to_owned(),
        }
    }
}

/// Plays a case; answers the most batches that were written and not synced at any write of an answer to the change.
async fn unsynced_at_the_answer(case: &Case, skip_sync: bool) -> usize {
    let setup = Setup { skip_sync, ..Setup::default() };
    let recorder = setup.recorder.clone();
    let world = World::with_setup(&setup, Arc::new(OpenGate)).await;
    for text in ["Subject: one\r\n\r\none\r\n", "Subject: two\r\n\r\ntwo\r\n"] {
        world.deliver(text).await;
    }
    let most_unsynced = Arc::new(AtomicUsize::new(0));
    let (near, stream) = tokio::io::duplex(64 << 10);
    let watch = Box::new(Watch { stream, recorder: recorder.clone(), most_unsynced: most_unsynced.clone() });
    let account = world.account;
    let task = match case.protocol {
        Protocol::Imap => tokio::spawn(imap::serve(watch, world.context(Some(account)))),
        Protocol::Pop3 => tokio::spawn(pop3::serve(watch, world.context(Some(account)))),
        Protocol::Lmtp => tokio::spawn(lmtp::serve(watch, world.context(None))),
    };
    let mut client = Client::new(near, task);
    let named = |script: &str| script.replace("{A}", &account.to_string());
    client.script(&named(&case.opening())).await;
    // Without a sync nothing of what came before is synced either.
    let (left, written) = (recorder.unsynced(), recorder.written());
    most_unsynced.store(left, Ordering::SeqCst);
    client.script(&named(&case.closing())).await;
    assert!(recorder.written() > written, "{}: changes nothing", case.name);
    most_unsynced.load(Ordering::SeqCst) - left
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_answer_comes_before_the_sync_of_what_it_confirms() {
    for case in CASES {
        assert_eq!(unsynced_at_the_answer(case, false).await, 0, "{} ({:?})", case.name, case.protocol);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_the_sync_taken_out_every_case_notices() {
    for case in CASES {
        let unsynced = unsynced_at_the_answer(case, true).await;
        assert!(unsynced > 0, "{} ({:?}) would not notice a missing sync", case.name, case.protocol);
    }
}

/// Does this command change the store? A command that is new must be put on one side before this compiles, and
/// those that do need a case above.
fn changes(body: &CommandBody) -> bool {
    use CommandBody as C;
    match body {
        C::Create(_) | C::Delete(_) | C::Rename(_) | C::Subscribe(_) | C::Unsubscribe(_) | C::Close => true,
        C::Expunge | C::UidExpunge(_) | C::Fetch(_) | C::Store(_) | C::Copy(_) | C::Move(_) => true,
        C::Capability | C::Noop | C::Logout | C::Id(_) | C::StartTls | C::Authenticate(_) | C::Login(_) => {
            false
        }
        C::Enable(_) | C::Namespace | C::Select(_) | C::Examine(_) | C::List(_) | C::Lsub(_) => false,
        C::Status(_) | C::Idle | C::Check | C::Unselect | C::Search(_) => false,
    }
}

#[test]
fn every_command_that_changes_something_has_a_case() {
    let mut seen = std::collections::HashSet::new();
    for case in CASES.iter().filter(|case| matches!(case.protocol, Protocol::Imap)) {
        let line = case.change.lines().next().unwrap().trim_start_matches("C: ");
        let mut decoder = Decoder::new(Limits::default());
        decoder.feed(format!("{line}\r\n").as_bytes());
        // APPEND is an event of its own: its message is streamed.
        if let Some(Event::Command(Command { body, .. })) = decoder.next_event() {
            assert!(changes(&body), "{}", case.name);
            seen.insert(std::mem::discriminant(&body));
        }
    }
    assert_eq!(seen.len(), 12, "as many as `changes` says yes to");
}
