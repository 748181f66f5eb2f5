//! A model of what IMAP shows of one account that has one client: which states it can be in, after what was answered,
//! what was not, and what was seen.
//!
//! An operation whose answer did not come may have been done, or not, or may be done a while later: what a client has
//! sent can lie in a socket of a process that stands still, or be sent again when a cut network heals. So the model keeps every
//! state that the account can be in, each a [`World`]; what is seen or answered leaves those that agree with it. If none does, a rule was broken.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::{Duration, Instant},
};

use super::world::{Mailbox, Op, Seen, Told, World};

/// After this time what was not answered is done or never will be. A cut lasts half a minute, and TCP tries again at the
/// latest after twice the time that it was silent.
pub(super) const LATE: Duration = Duration::from_secs(120);
/// As many operations without an answer are kept apart; with more the client waits.
pub(super) const OPEN: usize = 3;
/// What is told of the past with a violation.
const HISTORY: usize = 24;

/// Why an operation was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// A mailbox that it names is not there.
    Missing,
    /// A mailbox of that name is there already.
    Exists,
    /// The server cannot do it now; nothing was done.
    Unavailable,
}

/// A rule was broken: what happened, why it cannot be, and what came before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken(pub String);

struct Open {
    op: Op,
    since: Instant,
}

/// What an account can be.
pub struct Account {
    worlds: BTreeSet<World>,
    open: BTreeMap<u64, Open>,
    next: u64,
    history: VecDeque<String>,
}

impl Account {
    /// An account as it is found at the beginning.
    pub fn found(mailboxes: &BTreeMap<String, Seen>) -> Self {
        let found = mailboxes.iter().map(|(name, seen)| (name.clone(), Mailbox::found(seen)));
        let world = World::found(found.collect());
        Self { worlds: BTreeSet::from([world]), open: BTreeMap::new(), next: 0, history: VecDeque::new() }
    }

    /// The server said OK, and this.
    ///
    /// # Errors
    /// When it cannot have been done.
    pub fn acknowledged(&mut self, op: &Op, told: &Told) -> Result<(), Broken> {
        let what = format!("{op:?} was acknowledged: {told:?}");
        self.keep(what, |world| world.after(op, Some(told)))
    }

    /// The server said NO.
    ///
    /// # Errors
    /// When there was no reason for it.
    pub fn refused(&mut self, op: &Op, why: Refusal) -> Result<(), Broken> {
        let what = format!("{op:?} was refused: {why:?}");
        self.keep(what, |world| {
            let there = |name: &str| world.mailboxes.contains_key(name);
            let reason = match (why, op) {
                (Refusal::Unavailable, _) => true,
                (Refusal::Exists, Op::Create { name }) => there(name),
                (Refusal::Exists, Op::Rename { to, .. }) => there(to),
                (Refusal::Exists, _) => false,
                (Refusal::Missing, Op::Rename { from, .. }) => !there(from),
                (Refusal::Missing, _) => op.names().iter().any(|name| !there(name)),
            };
            if reason { Ok(world.clone()) } else { Err("there was no reason for it".to_owned()) }
        })
    }

    /// No answer came.
    pub fn unanswered(&mut self, op: Op, now: Instant) {
        self.note(format!("{op:?} got no answer"));
        self.next += 1;
        self.worlds = std::mem::take(&mut self.worlds)
            .into_iter()
            .map(|mut world| {
                world.open.insert(self.next);
                world
            })
            .collect();
        self.open.insert(self.next, Open { op, since: now });
    }

    /// LIST showed these names.
    ///
    /// # Errors
    /// When it cannot show them.
    pub fn listed(&mut self, names: &BTreeSet<String>) -> Result<(), Broken> {
        self.keep(format!("LIST shows {names:?}"), |world| {
            let known: BTreeSet<String> = world.mailboxes.keys().cloned().collect();
            if known == *names { Ok(world.clone()) } else { Err(format!("there should be {known:?}")) }
        })
    }

    /// SELECT said that there is no such mailbox.
    ///
    /// # Errors
    /// When there is one.
    pub fn missing(&mut self, name: &str) -> Result<(), Broken> {
        self.keep(format!("{name} is not there"), |world| {
            if world.mailboxes.contains_key(name) {
                return Err("it was acknowledged".to_owned());
            }
            Ok(world.clone())
        })
    }

    /// A mailbox was read.
    ///
    /// # Errors
    /// When it cannot be so.
    pub fn seen(&mut self, name: &str, seen: &Seen) -> Result<(), Broken> {
        let messages: Vec<String> = seen
            .messages
            .iter()
            .map(|m| format!("{}={}{:?}", m.uid, m.token, m.flags.iter().collect::<Vec<_>>()))
            .collect();
        let what = format!(
            "{name} was read: UIDVALIDITY {}, UIDNEXT {}, HIGHESTMODSEQ {}, {}",
            seen.validity,
            seen.uid_next,
            seen.modseq,
            messages.join(" ")
        );
        self.keep(what, |world| world.seeing(name, seen))
    }

    /// Keeps the worlds in which this can happen, as they are after it.
    fn keep(&mut self, what: String, step: impl Fn(&World) -> Result<World, String>) -> Result<(), Broken> {
        self.spread();
        let (mut kept, mut reasons) = (BTreeSet::new(), BTreeSet::new());
        for world in &self.worlds {
            match step(world) {
                Ok(next) => drop(kept.insert(next)),
                Err(reason) => drop(reasons.insert(reason)),
            }
        }
        if kept.is_empty() {
            let reasons: Vec<String> = reasons.into_iter().take(4).collect();
            let past: Vec<&str> = self.history.iter().map(String::as_str).collect();
            return Err(Broken(format!(
                "{what}\n  but {}\n  without an answer: {:?}\n  before:\n    {}",
                reasons.join("\n  or "),
                self.open.values().map(|open| &open.op).collect::<Vec<_>>(),
                past.join("\n    ")
            )));
        }
        self.worlds = kept;
        self.open.retain(|id, _| self.worlds.iter().any(|world| world.open.contains(id)));
        self.note(what);
        Ok(())
    }

    /// Whatever got no answer may have been done by now, in any order.
    fn spread(&mut self) {
        let mut fresh: Vec<World> = self.worlds.iter().cloned().collect();
        while let Some(world) = fresh.pop() {
            for id in &world.open {
                let Some(open) = self.open.get(id) else { continue };
                let Ok(mut next) = world.after(&open.op, None) else { continue };
                next.open.remove(id);
                if self.worlds.insert(next.clone()) {
                    fresh.push(next);
                }
            }
        }
    }

    /// What got no answer for long is not done any more.
    pub fn settle(&mut self, now: Instant) {
        let over = |open: &Open| now.saturating_duration_since(open.since) >= LATE;
        let ids: Vec<u64> = self.open.iter().filter(|(_, open)| over(open)).map(|(id, _)| *id).collect();
        if ids.is_empty() {
            return;
        }
        self.spread();
        self.worlds = std::mem::take(&mut self.worlds)
            .into_iter()
            .map(|mut world| {
                world.open.retain(|id| !ids.contains(id));
                world
            })
            .collect();
        self.open.retain(|id, _| !ids.contains(id));
    }

    /// Operations of which it is not known whether they are done.
    pub fn open(&self) -> usize {
        self.open.len()
    }

    /// Does one of them make, rename or delete this mailbox?
    pub fn is_unsure(&self, name: &str) -> bool {
        self.open.values().any(|open| open.op.is_structural() && open.op.names().contains(&name))
    }

    /// The mailboxes that are there for certain.
    pub fn mailboxes(&self) -> Vec<String> {
        let Some(first) = self.worlds.first() else { return Vec::new() };
        first.mailboxes.keys().filter(|name| !self.is_unsure(name)).cloned().collect()
    }

    /// UIDs and flags of a mailbox, as they are in one of the worlds.
    pub fn messages(&self, name: &str) -> Vec<(u32, bool)> {
        let mailbox = self.worlds.first().and_then(|world| world.mailboxes.get(name));
        let messages = mailbox.into_iter().flat_map(|mailbox| &mailbox.messages);
        messages.filter_map(|m| Some((m.uid?, m.flags.contains("\\deleted")))).collect()
    }

    fn note(&mut self, what: String) {
        if self.history.len() == HISTORY {
            self.history.pop_front();
        }
        self.history.push_back(format!("{} {what}", jiff::Timestamp::now()));
    }
}

#[cfg(test)]
mod tests;
