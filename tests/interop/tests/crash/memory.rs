//! What the crashes of one node may never change, and the comparison with what is there after each.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};
use mailcluster_interop::Standalone;
use mailcluster_test_clients::{Found, ImapClient, Ledger, Verdict};

use crate::{ACTOR, accounts, login};

/// The mailboxes that are read.
const MAILBOXES: [&str; 2] = ["INBOX", "Archive"];

/// What a client has begun, seen, or been told.
#[derive(Debug, Clone)]
pub enum Event {
    /// FETCH showed it.
    Seen(Copy),
    /// A STORE of this keyword got OK.
    Flagged { account: String, token: String, flag: String },
    /// A command that changes this message of the actor's was sent; `removes`: it may leave no copy.
    Begun { token: String, removes: bool },
    /// That command got OK, which said where a copy is now, and where none is any more.
    Done { token: String, here: Option<Copy>, gone: Option<Copy> },
}

/// A message at its place.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Copy {
    pub account: String,
    pub mailbox: String,
    pub uid: u32,
    pub token: String,
}

type Place = (String, String, u32);

impl Copy {
    fn place(&self) -> Place {
        (self.account.clone(), self.mailbox.clone(), self.uid)
    }
}

/// A message as it was found, with its flags.
struct Read {
    copy: Copy,
    flags: Vec<String>,
}

/// What was found, compared with what was promised.
#[derive(Debug)]
pub struct Report {
    /// Of what was sent by LMTP and SMTP.
    pub verdict: Verdict,
    /// Of flags, UIDs and what the actor did.
    pub wrong: Vec<String>,
}

impl Report {
    pub fn check(&self) -> Result<()> {
        ensure!(self.verdict.is_clean() && self.wrong.is_empty(), "{self:?}");
        Ok(())
    }
}

/// What was promised in all rounds.
#[derive(Default)]
pub struct Memory {
    /// Which message has, or had, a UID.
    uids: BTreeMap<Place, String>,
    /// UIDVALIDITY and the highest UIDNEXT of (account, mailbox).
    numbering: BTreeMap<(String, String), (u32, u32)>,
    /// (account, token, keyword).
    flagged: BTreeSet<(String, String, String)>,
    /// The actor's messages.
    there: BTreeMap<Place, String>,
    /// Of these a command was cut off by the crash; the boolean: they may be gone altogether.
    loose: BTreeMap<String, bool>,
    promised: Vec<Ledger>,
    wrong: Vec<String>,
}

impl Memory {
    /// What was sent counts as this ledger says.
    pub fn promise(&mut self, ledger: Ledger) {
        self.promised.push(ledger);
    }

    /// Learns what happened; only the first `certain` events were over before the crash.
    pub fn learn(&mut self, events: &[Event], certain: usize) {
        let (before, after) = events.split_at(certain.min(events.len()));
        let mut open = BTreeMap::new();
        for event in before {
            self.learn_certain(event);
            match event {
                Event::Begun { token, removes } => _ = open.insert(token.clone(), *removes),
                Event::Done { token, .. } => _ = open.remove(token),
                Event::Seen(_) | Event::Flagged { .. } => {}
            }
        }
        for event in after {
            if let Event::Begun { token, removes } = event {
                *open.entry(token.clone()).or_default() |= removes;
            }
        }
        self.loose.extend(open);
    }

    fn learn_certain(&mut self, event: &Event) {
        match event {
            Event::Seen(copy) => self.number(copy),
            Event::Flagged { account, token, flag } => {
                self.flagged.insert((account.clone(), token.clone(), flag.clone()));
            }
            Event::Begun { .. } => {}
            Event::Done { here, gone, .. } => {
                if let Some(copy) = here {
                    self.number(copy);
                    self.there.insert(copy.place(), copy.token.clone());
                }
                if let Some(copy) = gone {
                    self.there.remove(&copy.place());
                }
            }
        }
    }

    /// This UID is this message's, for ever.
    fn number(&mut self, copy: &Copy) {
        let first = self.uids.entry(copy.place()).or_insert_with(|| copy.token.clone());
        if *first != copy.token {
            self.wrong.push(format!("UID of {first} was given to {copy:?}"));
        }
    }

    /// Reads everything and compares.
    pub fn compare(&mut self, node: &Standalone) -> Result<Report> {
        let (mut sent, mut acted) = (Vec::new(), Vec::new());
        for account in accounts() {
            let mut client = login(node, &account)?;
            for mailbox in MAILBOXES {
                self.check_numbering(&mut client, &account, mailbox)?;
                for message in client.fetch_all(mailbox)? {
                    let found = Found::read(&account, &message.body)
                        .with_context(|| format!("{account} {mailbox} UID {}", message.uid))?;
                    let copy = Copy {
                        account: account.clone(),
                        mailbox: mailbox.to_owned(),
                        uid: message.uid,
                        token: found.token.clone(),
                    };
                    let read = Read { copy, flags: message.flags };
                    self.number(&read.copy);
                    self.check_flags(&read);
                    self.wrong
                        .extend(found.damage.as_ref().map(|damage| format!("{:?}: {damage}", read.copy)));
                    if account == ACTOR { acted.push(read.copy) } else { sent.push(found) }
                }
            }
        }
        self.check_acted(&acted);
        let mut all = Ledger::default();
        for ledger in &self.promised {
            all.merge(ledger);
        }
        Ok(Report { verdict: all.compare(&sent), wrong: std::mem::take(&mut self.wrong) })
    }

    /// UIDVALIDITY stays, UIDNEXT never falls and lies above every UID that was ever told.
    fn check_numbering(&mut self, client: &mut ImapClient, account: &str, mailbox: &str) -> Result<()> {
        let told = client.ok(&format!("EXAMINE {mailbox}"))?;
        let number = |key: &str| {
            let rest = told.iter().find_map(|untagged| Some(untagged.line.split_once(key)?.1));
            let number = rest.and_then(|rest| rest.split(']').next()?.parse::<u32>().ok());
            number.with_context(|| format!("EXAMINE said no {key}"))
        };
        let (validity, next) = (number("UIDVALIDITY ")?, number("UIDNEXT ")?);
        let key = (account.to_owned(), mailbox.to_owned());
        let (validity_before, next_before) =
            self.numbering.insert(key, (validity, next)).unwrap_or((validity, 0));
        let of = |uid| (account.to_owned(), mailbox.to_owned(), uid);
        let highest = self.uids.range(of(0)..=of(u32::MAX)).next_back().map_or(0, |((.., uid), _)| *uid);
        if validity != validity_before || next < next_before || next <= highest {
            self.wrong.push(format!(
                "{account} {mailbox}: UIDVALIDITY {validity_before} became {validity}; UIDNEXT {next} after \
                 {next_before} and UID {highest}"
            ));
        }
        Ok(())
    }

    fn check_flags(&mut self, read: &Read) {
        let (account, token) = (&read.copy.account, &read.copy.token);
        let first = (account.clone(), token.clone(), String::new());
        let promised = self.flagged.range(first..).take_while(|(a, t, _)| a == account && t == token);
        let lost: Vec<_> = promised.filter(|(.., flag)| !read.flags.contains(flag)).collect();
        if !lost.is_empty() {
            self.wrong.push(format!("{:?} has {:?} and lost {lost:?}", read.copy, read.flags));
        }
    }

    /// What the actor was told is so; of a message whose command was cut off, as before it or as after it.
    fn check_acted(&mut self, found: &[Copy]) {
        let now: BTreeMap<Place, String> =
            found.iter().map(|copy| (copy.place(), copy.token.clone())).collect();
        let copies = |token: &String| now.values().filter(|other| *other == token).count();
        let mut wrong = Vec::new();
        for (place, token) in &self.there {
            match self.loose.get(token) {
                None if !now.contains_key(place) => wrong.push(format!("{token} is not at {place:?}")),
                Some(false) if copies(token) == 0 => wrong.push(format!("{token} is nowhere")),
                _ => {}
            }
        }
        for (place, token) in &now {
            if !self.there.contains_key(place) && !self.loose.contains_key(token) {
                wrong.push(format!("{token} is at {place:?}, where it is not or no more"));
            }
            let here = now.iter().filter(|((_, mailbox, _), other)| *mailbox == place.1 && *other == token);
            if here.count() > 1 {
                wrong.push(format!("{token} is twice in {}", place.1));
            }
        }
        self.wrong.extend(wrong);
        self.there = now;
        self.loose.clear();
    }
}
