//! Clients that change things until the node dies, and write down what they were told.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use mailcluster_interop::Standalone;
use mailcluster_test_clients::{ImapClient, message, token_of};

use crate::{
    ACTOR, login,
    memory::{Copy, Event},
};

/// What happened, in order.
#[derive(Clone, Default)]
pub struct Log(Arc<Mutex<Vec<Event>>>);

impl Log {
    fn push(&self, event: Event) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(event);
    }

    /// Have both clients got some OKs?
    pub fn is_busy(&self) -> bool {
        let events = self.events();
        let count = |wanted: &dyn Fn(&Event) -> bool| events.iter().filter(|event| wanted(event)).count();
        let acted = count(&|event| matches!(event, Event::Done { .. }));
        let flagged = count(&|event| matches!(event, Event::Flagged { account, .. } if account != ACTOR));
        acted >= 4 && flagged >= 2
    }

    /// All of it so far.
    pub fn events(&self) -> Vec<Event> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Both clients at work.
pub struct Clients {
    pub log: Log,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Clients {
    /// Logs in and starts; `round` makes tokens and keywords differ from other rounds'.
    pub fn start(node: &Standalone, round: &str) -> Result<Self> {
        let (log, stop) = (Log::default(), Arc::new(AtomicBool::new(false)));
        let mut flagging = Flagger { client: login(node, "a0@example.test")?, log: log.clone() };
        let mut acting = Actor { client: login(node, ACTOR)?, log: log.clone() };
        acting.client.ok("SELECT INBOX")?;
        let (first, second) = (stop.clone(), stop.clone());
        let (flag, name) = (format!("in-{round}"), round.to_owned());
        let threads = vec![
            // Both end with an error when the node does.
            std::thread::spawn(move || _ = flagging.run(&flag, &first)),
            std::thread::spawn(move || {
                for n in 0.. {
                    if second.load(Ordering::Relaxed) || acting.step(&format!("act-{name}-{n}"), n).is_err() {
                        break;
                    }
                }
            }),
        ];
        Ok(Self { log, stop, threads })
    }

    /// Stops, and answers everything that happened.
    pub fn finish(self) -> Vec<Event> {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            let _panicked = thread.join();
        }
        self.log.events()
    }
}

/// Sets a keyword on one message after the other.
struct Flagger {
    client: ImapClient,
    log: Log,
}

impl Flagger {
    fn run(&mut self, flag: &str, stop: &AtomicBool) -> Result<()> {
        let account = "a0@example.test".to_owned();
        while !stop.load(Ordering::Relaxed) {
            let mut known = Vec::new();
            for found in self.client.fetch_all("INBOX")? {
                let token = token_of(&found.body).context("no token")?;
                known.push((found.uid, token.clone()));
                let mailbox = "INBOX".to_owned();
                self.log.push(Event::Seen(Copy { account: account.clone(), mailbox, uid: found.uid, token }));
            }
            for (uid, token) in known.into_iter().rev().take(50) {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                self.client.ok(&format!("UID STORE {uid} +FLAGS.SILENT ({flag})"))?;
                self.log.push(Event::Flagged { account: account.clone(), token, flag: flag.to_owned() });
            }
        }
        Ok(())
    }
}

/// Appends, flags, copies, moves and expunges messages of its own.
struct Actor {
    client: ImapClient,
    log: Log,
}

impl Actor {
    /// One message's life: it comes, gets a keyword, and is copied, moved or expunged.
    fn step(&mut self, token: &str, n: usize) -> Result<()> {
        self.begin(token, false);
        let tagged = self.client.append("INBOX", "", &message(token, 2000))?;
        ensure!(tagged.starts_with("OK"), "{tagged}");
        let uid = last_uid(&tagged, "APPENDUID")?;
        self.done(token, Some(("INBOX", uid)), None);
        self.client.ok(&format!("UID STORE {uid} +FLAGS.SILENT (acted)"))?;
        let (account, flag) = (ACTOR.to_owned(), "acted".to_owned());
        self.log.push(Event::Flagged { account, token: token.to_owned(), flag });
        match n % 3 {
            0 => {
                self.begin(token, false);
                let to = self.transfer(&format!("UID COPY {uid} Archive"))?;
                self.done(token, Some(("Archive", to)), None);
            }
            1 => {
                self.begin(token, false);
                let to = self.transfer(&format!("UID MOVE {uid} Archive"))?;
                self.done(token, Some(("Archive", to)), Some(("INBOX", uid)));
            }
            _ => {
                self.client.ok(&format!("UID STORE {uid} +FLAGS.SILENT (\\Deleted)"))?;
                self.begin(token, true);
                self.client.ok(&format!("UID EXPUNGE {uid}"))?;
                self.done(token, None, Some(("INBOX", uid)));
            }
        }
        Ok(())
    }

    /// COPY or MOVE; answers the new UID.
    fn transfer(&mut self, command: &str) -> Result<u32> {
        let (untagged, tagged) = self.client.command(command)?;
        ensure!(tagged.starts_with("OK"), "{command}: {tagged}");
        let mut lines = untagged.iter().map(|untagged| &untagged.line).chain([&tagged]);
        let said = lines.find(|line| line.contains("COPYUID")).context("no COPYUID")?;
        last_uid(said, "COPYUID")
    }

    fn begin(&self, token: &str, removes: bool) {
        self.log.push(Event::Begun { token: token.to_owned(), removes });
    }

    fn done(&self, token: &str, here: Option<(&str, u32)>, gone: Option<(&str, u32)>) {
        let copy = |(mailbox, uid): (&str, u32)| Copy {
            account: ACTOR.to_owned(),
            mailbox: mailbox.to_owned(),
            uid,
            token: token.to_owned(),
        };
        self.log.push(Event::Done { token: token.to_owned(), here: here.map(copy), gone: gone.map(copy) });
    }
}

/// The last number in a response code like `[COPYUID 1 2 3]`.
fn last_uid(line: &str, code: &str) -> Result<u32> {
    let (_, rest) = line.split_once(code).with_context(|| format!("no {code} in {line}"))?;
    let uid = rest.split(']').next().and_then(|list| list.split(' ').next_back()?.parse().ok());
    uid.with_context(|| format!("no UID in {line}"))
}

/// A message comes right after a crash: its UID is a new one.
pub fn append_one(node: &Standalone, token: &str) -> Result<Vec<Event>> {
    let log = Log::default();
    let mut actor = Actor { client: login(node, ACTOR)?, log: log.clone() };
    actor.client.ok("SELECT INBOX")?;
    // 0: nothing of it is removed.
    actor.step(token, 0)?;
    Ok(log.events())
}

/// How long a client waits for an answer.
pub const LIMIT: Duration = Duration::from_secs(30);
