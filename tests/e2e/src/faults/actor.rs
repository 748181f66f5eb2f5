//! A client with an account of its own that nobody else writes to: it changes mailboxes at random, and compares
//! everything that it is told with the model.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use super::{
    dice::Dice,
    model::{Account, Broken, OPEN},
    report::Violation,
    talk::{Answer, Talk, whole},
    world::{Change, Flags, Op},
};

/// Between two operations.
const PAUSE: (u64, u64) = (30, 150);
/// Between two tries to connect.
const AGAIN: Duration = Duration::from_millis(300);
/// Looked at as a whole after so many operations, on average.
const LOOK_EVERY: usize = 30;
/// More messages than this in a mailbox are thinned out.
const MANY: usize = 12;
/// Where messages are; these mailboxes stay.
const FIXED: [&str; 3] = ["INBOX", "left", "right"];
/// Names of mailboxes that come and go.
const ROOMS: [&str; 4] = ["room1", "room2", "room3", "room4"];
const FLAGS: [&str; 4] = ["\\seen", "\\flagged", "\\answered", "$label1"];
/// How long the last look is tried for.
const LAST: Duration = Duration::from_secs(120);

/// What all actors have done.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// By kind: acknowledged, refused, without an answer.
    pub operations: BTreeMap<&'static str, [u64; 3]>,
    /// Whole looks that were compared with the model.
    pub looks: u64,
    /// What was wrong.
    pub violations: Vec<Violation>,
}

/// What the actors share with who watches them.
#[derive(Debug, Default)]
pub(super) struct Shared {
    tally: Mutex<Tally>,
    stop: AtomicBool,
    /// Raised by who wants everybody to look.
    wanted: AtomicU64,
}

impl Shared {
    pub fn tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self, kind: &'static str, which: usize) {
        self.tally().operations.entry(kind).or_default()[which] += 1;
    }
}

/// All actors.
pub(super) struct Troupe {
    pub shared: Arc<Shared>,
    looked: Vec<Arc<AtomicU64>>,
    threads: Vec<JoinHandle<()>>,
}

impl Troupe {
    /// Starts an actor for each account.
    pub fn start(imap: SocketAddr, accounts: &[String], seed: u64) -> Self {
        let shared = Arc::new(Shared::default());
        let (mut looked, mut threads) = (Vec::new(), Vec::new());
        for (number, account) in (1_u64..).zip(accounts) {
            let done = Arc::new(AtomicU64::new(0));
            let mut actor = Actor {
                imap,
                user: account.clone(),
                name: format!("{seed}-{number}-{}", std::process::id()),
                dice: Dice::new(seed, number),
                shared: shared.clone(),
                looked: done.clone(),
                account: None,
                talk: None,
                tokens: 0,
            };
            looked.push(done);
            threads.push(std::thread::spawn(move || actor.play()));
        }
        Self { shared, looked, threads }
    }

    /// Wants a whole look of everybody; answers what [`Self::have_looked`] is asked by.
    pub fn want_looks(&self) -> u64 {
        self.shared.wanted.fetch_add(1, Ordering::SeqCst) + 1
    }

    /// How many have not looked since then.
    pub fn missing(&self, wanted: u64) -> usize {
        self.looked.iter().filter(|looked| looked.load(Ordering::SeqCst) < wanted).count()
    }

    /// Stops all, each after a last look.
    pub fn finish(self) -> Tally {
        self.shared.stop.store(true, Ordering::SeqCst);
        for (thread, looked) in self.threads.into_iter().zip(&self.looked) {
            if thread.join().is_err() {
                let number = looked.load(Ordering::SeqCst);
                let what = format!("an actor panicked after look {number}");
                self.shared.tally().violations.push(Violation::now("actor", what));
            }
        }
        std::mem::take(&mut *self.shared.tally())
    }
}

struct Actor {
    imap: SocketAddr,
    user: String,
    /// Makes tokens of several actors and runs differ.
    name: String,
    dice: Dice,
    shared: Arc<Shared>,
    looked: Arc<AtomicU64>,
    /// None before the first look, and after a violation.
    account: Option<Account>,
    talk: Option<Talk>,
    tokens: u64,
}

impl Actor {
    fn play(&mut self) {
        while !self.shared.stop.load(Ordering::SeqCst) {
            self.turn();
            std::thread::sleep(Duration::from_millis(self.dice.between(PAUSE.0, PAUSE.1)));
        }
        let until = Instant::now() + LAST;
        while !self.look() {
            if Instant::now() > until {
                let what = format!("not within {} s after all was healed", LAST.as_secs());
                self.violation("the last look", what);
                return;
            }
            std::thread::sleep(AGAIN);
        }
    }

    fn turn(&mut self) {
        if let Some(account) = &mut self.account {
            account.settle(Instant::now());
        }
        let wanted = self.looked.load(Ordering::SeqCst) < self.shared.wanted.load(Ordering::SeqCst);
        let waits = self.account.as_ref().is_none_or(|account| account.open() >= OPEN);
        if waits || wanted || self.talk.is_none() || self.dice.below(LOOK_EVERY) == 0 {
            if !self.look() {
                std::thread::sleep(AGAIN);
            }
            return;
        }
        if let Some(op) = self.choose() {
            self.act(op);
        }
    }

    /// Looks at everything, after a login where there is no connection. False when it could not be read.
    fn look(&mut self) -> bool {
        let wanted = self.shared.wanted.load(Ordering::SeqCst);
        let done = match self.talk.take() {
            Some(talk) => Answer::Done(talk),
            None => Talk::start(self.imap, &self.user),
        };
        let answer = match done {
            Answer::Done(mut talk) => {
                let answer = match &mut self.account {
                    None => whole(&mut talk).and_then(|found| Ok(Ok(Some(Account::found(&found))))),
                    Some(account) => compare(&mut talk, account),
                };
                self.talk = Some(talk);
                answer
            }
            other => other.and_then(|_| anyhow::bail!("LOGIN")),
        };
        match answer {
            Answer::Done(Ok(found)) => {
                self.account = found.or_else(|| self.account.take());
                self.shared.tally().looks += 1;
                self.looked.fetch_max(wanted, Ordering::SeqCst);
                true
            }
            Answer::Done(Err(Broken(what))) => self.violation("what was read", what),
            Answer::Wrong(what) => self.violation("what was read", what),
            // A mailbox that is named and not there: seen while it went.
            Answer::No(_) => false,
            Answer::None(_) => {
                self.talk = None;
                false
            }
        }
    }

    /// Tells of it, and begins anew with what is there.
    fn violation(&mut self, about: &str, what: String) -> bool {
        let violation = Violation::now(&format!("{about}, {}", self.user), what);
        self.shared.tally().violations.push(violation);
        self.account = None;
        false
    }

    fn act(&mut self, op: Op) {
        let (Some(talk), Some(account)) = (&mut self.talk, &mut self.account) else { return };
        let (kind, result) = (op.kind(), talk.ask(&op));
        let outcome = match result {
            Answer::Done(told) => {
                self.shared.count(kind, 0);
                account.acknowledged(&op, &told)
            }
            Answer::No(why) => {
                self.shared.count(kind, 1);
                account.refused(&op, why)
            }
            Answer::None(_) => {
                self.shared.count(kind, 2);
                account.unanswered(op, Instant::now());
                self.talk = None;
                Ok(())
            }
            Answer::Wrong(what) => Err(Broken(format!("{op:?}: {what}"))),
        };
        if let Err(Broken(what)) = outcome {
            self.violation("an answer", what);
        }
    }

    /// Something that makes sense now.
    fn choose(&mut self) -> Option<Op> {
        let account = self.account.as_ref()?;
        let there = account.mailboxes();
        if let Some(name) = FIXED.iter().find(|name| !there.iter().any(|known| known == *name)) {
            let name = (*name).to_owned();
            return (!account.is_unsure(&name)).then_some(Op::Create { name });
        }
        let mailbox = self.dice.pick(&there)?.clone();
        let messages = account.messages(&mailbox);
        let uids = self.some(&messages);
        match self.dice.below(20) {
            0..3 => self.rooms(&there),
            3..9 if messages.len() < MANY => Some(self.append(mailbox)),
            9..13 if !uids.is_empty() => {
                let change = *self.dice.pick(&[Change::Add, Change::Remove, Change::Replace])?;
                Some(Op::Store { mailbox, uids, change, flags: self.flags() })
            }
            13..17 if !uids.is_empty() => {
                let others: Vec<&String> = there.iter().filter(|name| **name != mailbox).collect();
                let to = (*self.dice.pick(&others)?).clone();
                let copied = account_room(self.account.as_ref()?, &to) && self.dice.chance(50);
                let from = mailbox;
                Some(if copied { Op::Copy { from, uids, to } } else { Op::Move { from, uids, to } })
            }
            _ => self.thin_out(mailbox, &messages),
        }
    }

    /// Marks some as deleted, or expunges what is marked.
    fn thin_out(&mut self, mailbox: String, messages: &[(u32, bool)]) -> Option<Op> {
        let marked: Vec<u32> = messages.iter().filter(|(_, marked)| *marked).map(|(uid, _)| *uid).collect();
        if !marked.is_empty() {
            return Some(Op::Expunge { mailbox, uids: marked });
        }
        let uids = self.some(messages);
        let flags = Flags::from(["\\deleted".to_owned()]);
        (!uids.is_empty()).then_some(Op::Store { mailbox, uids, change: Change::Add, flags })
    }

    fn rooms(&mut self, there: &[String]) -> Option<Op> {
        let account = self.account.as_ref()?;
        let known: BTreeSet<&str> = there.iter().map(String::as_str).collect();
        let sure: Vec<&str> = ROOMS.into_iter().filter(|name| !account.is_unsure(name)).collect();
        let (full, free): (Vec<&str>, Vec<&str>) = sure.into_iter().partition(|name| known.contains(name));
        let named = |name: &&str| (*name).to_owned();
        let from = self.dice.pick(&full).map(named);
        let to = self.dice.pick(&free).map(named);
        match (from, to, self.dice.below(3)) {
            (Some(name), None, _) | (Some(name), _, 0) => Some(Op::Delete { name }),
            (Some(from), Some(to), 1) => Some(Op::Rename { from, to }),
            (_, Some(name), _) => Some(Op::Create { name }),
            (None, None, _) => None,
        }
    }

    fn append(&mut self, mailbox: String) -> Op {
        self.tokens += 1;
        let token = format!("{}-{}", self.name, self.tokens);
        Op::Append { mailbox, token, flags: self.flags() }
    }

    fn flags(&mut self) -> Flags {
        let dice = &mut self.dice;
        FLAGS.into_iter().filter(|_| dice.chance(40)).map(str::to_owned).collect()
    }

    /// One to four of them.
    fn some(&mut self, messages: &[(u32, bool)]) -> Vec<u32> {
        let count = self.dice.between(1, 4);
        let mut uids: Vec<u32> =
            (0..count).filter_map(|_| self.dice.pick(messages).map(|(uid, _)| *uid)).collect();
        uids.sort_unstable();
        uids.dedup();
        uids
    }
}

fn account_room(account: &Account, mailbox: &str) -> bool {
    account.messages(mailbox).len() < MANY
}

/// Compares all mailboxes with the model.
fn compare(talk: &mut Talk, account: &mut Account) -> Answer<Result<Option<Account>, Broken>> {
    let names = match talk.list() {
        Answer::Done(names) => names,
        other => return other.and_then(|_| anyhow::bail!("LIST")),
    };
    if let Err(broken) = account.listed(&names) {
        return Answer::Done(Err(broken));
    }
    for name in names {
        let result = match talk.look(&name) {
            Answer::Done(seen) => account.seen(&name, &seen),
            Answer::No(super::model::Refusal::Missing) => account.missing(&name),
            other => return other.and_then(|_| anyhow::bail!("SELECT")),
        };
        if let Err(broken) = result {
            return Answer::Done(Err(broken));
        }
    }
    Answer::Done(Ok(None))
}
