//! One folder on its way into its mailbox.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    io::{Read, Write},
};

use mailcluster_proto_imap::encode;

use crate::{
    Event, Flags, Found, Journal, Key, Listener, Progress, Unread,
    account::Stop,
    imap::{Appending, Client, Condition, Tagged},
    settle::{self, Unsettled},
    source::Visit,
};

/// APPENDs that are sent before the first one is answered: at most so many, of so many octets.
const AHEAD: usize = 32;
const AHEAD_OCTETS: usize = 1 << 20;
/// Changes of flags that are sent together.
const CHANGES: usize = 200;
/// The years that IMAP can write.
const LATEST: i64 = 253_402_300_799;

/// What was sent and not answered yet.
struct Sent {
    tag: u64,
    key: Key,
    name: String,
    flags: Flags,
    octets: usize,
}

/// A message that was brought before, whose flags have changed since.
struct Changed {
    key: Key,
    uid: u32,
    add: Flags,
    remove: Flags,
    now: Flags,
}

/// The mailbox that is filled.
#[derive(Clone, Copy)]
pub(crate) struct Target<'a> {
    pub name: &'a str,
    /// Its number in the journal.
    pub number: usize,
    pub uid_validity: u32,
    /// It is selected.
    pub is_open: bool,
}

/// What a folder's messages are appended with.
pub(crate) struct Filling<'a, S: Read + Write> {
    pub client: &'a mut Client<S>,
    pub journal: &'a mut Journal,
    pub progress: &'a Progress,
    pub tell: &'a mut dyn FnMut(&str, &str),
    pub into: Target<'a>,
    pub unsettled: Unsettled,
    /// Not sent again by this run: a server ends a session that only makes errors.
    pub refused: &'a mut HashSet<(usize, Key)>,
    sent: VecDeque<Sent>,
    octets_sent: usize,
    changed: Vec<Changed>,
    /// Messages of the folder that were expected and not looked at yet; counted in `progress`.
    left: u64,
}

impl<'a, S: Read + Write> Filling<'a, S> {
    pub fn new(
        client: &'a mut Client<S>,
        journal: &'a mut Journal,
        progress: &'a Progress,
        tell: &'a mut dyn FnMut(&str, &str),
        (into, unsettled): (Target<'a>, Unsettled),
        refused: &'a mut HashSet<(usize, Key)>,
    ) -> Self {
        Self {
            client,
            journal,
            progress,
            tell,
            into,
            unsettled,
            refused,
            sent: VecDeque::new(),
            octets_sent: 0,
            changed: Vec::new(),
            left: 0,
        }
    }

    /// Waits for all answers, and changes the flags that are to be changed.
    pub fn finish(&mut self) -> Result<(), Stop> {
        self.drain(0, 0)?;
        self.change_flags()
    }

    /// Reads answers until no more than so many messages and octets are on their way.
    fn drain(&mut self, messages: usize, octets: usize) -> Result<(), Stop> {
        while self.sent.len() > messages || self.octets_sent > octets {
            let answer = self.client.answer(&mut |_| ())?;
            let Some(sent) = self.sent.pop_front() else { break };
            if answer.tag != sent.tag {
                return Err(Stop::Again("an answer to another command".to_owned()));
            }
            self.octets_sent -= sent.octets;
            self.answered(&sent, &answer)?;
        }
        Ok(())
    }

    fn answered(&mut self, sent: &Sent, answer: &Tagged) -> Result<(), Stop> {
        match (answer.condition, answer.append_uid()) {
            (Condition::Ok, Some((uid_validity, uid))) if uid_validity == self.into.uid_validity => {
                self.journal.brought(self.into.number, sent.key, uid, &sent.flags)?;
                Progress::add(&self.progress.messages, 1);
                Progress::add(&self.progress.octets, sent.octets as u64);
                Ok(())
            }
            (Condition::Ok, _) => Err(anew()),
            (condition, _) => match refusal(condition, answer) {
                Refusal::OfMessage => {
                    self.refused.insert((self.into.number, sent.key));
                    (self.tell)(&sent.name, &Unread::Refused(answer.text.clone()).to_string());
                    Ok(())
                }
                Refusal::OfAccount => Err(Stop::Account(answer.text.clone())),
                Refusal::ForNow => Err(Stop::Again(answer.text.clone())),
            },
        }
    }

    /// Selects the mailbox, if it is not.
    fn open(&mut self) -> Result<(), Stop> {
        if self.into.is_open {
            return Ok(());
        }
        let opened = settle::open(self.client, self.into.name)?;
        if opened.is_none_or(|opened| opened.uid_validity != self.into.uid_validity) {
            return Err(anew());
        }
        self.into.is_open = true;
        Ok(())
    }

    /// Sends what `wants` has found changed.
    fn change_flags(&mut self) -> Result<(), Stop> {
        if self.changed.is_empty() {
            return Ok(());
        }
        self.drain(0, 0)?;
        self.open()?;
        let changed = std::mem::take(&mut self.changed);
        let mut groups: HashMap<String, Vec<u32>> = HashMap::new();
        for Changed { uid, add, remove, .. } in &changed {
            for (sign, flags) in
                [('+', add), ('-', remove)].into_iter().filter(|(_, flags)| !flags.is_empty())
            {
                groups.entry(format!("{sign}FLAGS.SILENT ({flags})")).or_default().push(*uid);
            }
        }
        for (what, mut uids) in groups {
            uids.sort_unstable();
            let answer =
                self.client.command(&format!("UID STORE {} {what}", encode::set(&uids)), &mut |_| ())?;
            if answer.condition != Condition::Ok {
                return Err(Stop::Again(format!("flags could not be changed: {}", answer.text)));
            }
        }
        for Changed { key, uid, now, .. } in changed {
            self.journal.brought(self.into.number, key, uid, &now)?;
            Progress::add(&self.progress.flagged, 1);
        }
        Ok(())
    }
}

fn anew() -> Stop {
    Stop::Again("the mailbox was made anew meanwhile".to_owned())
}

enum Refusal {
    OfMessage,
    OfAccount,
    ForNow,
}

/// What a refused APPEND means for what follows.
fn refusal(condition: Condition, answer: &Tagged) -> Refusal {
    match (condition, answer.code.as_str()) {
        (Condition::Bad, _) | (_, "TOOBIG" | "CANNOT") => Refusal::OfMessage,
        (_, "OVERQUOTA") => Refusal::OfAccount,
        _ => Refusal::ForNow,
    }
}

impl<S: Read + Write> Visit for Filling<'_, S> {
    type Stop = Stop;

    fn expects(&mut self, messages: u64) {
        Progress::take(&self.progress.left, self.left);
        Progress::add(&self.progress.left, messages);
        self.left = messages;
    }

    fn wants(&mut self, key: Key, flags: &Flags) -> Result<bool, Stop> {
        if self.left > 0 {
            self.left -= 1;
            Progress::take(&self.progress.left, 1);
        }
        let Some((uid, old)) = self.journal.known(self.into.number, key) else {
            let is_sent = self.sent.iter().any(|sent| sent.key == key);
            return Ok(!is_sent && !self.refused.contains(&(self.into.number, key)));
        };
        let changed =
            Changed { key, uid, add: flags.without(old), remove: old.without(flags), now: flags.clone() };
        if !changed.add.is_empty() || !changed.remove.is_empty() {
            self.changed.push(changed);
            if self.changed.len() >= CHANGES {
                self.change_flags()?;
            }
        }
        Ok(false)
    }

    fn message(&mut self, found: Found) -> Result<(), Stop> {
        let Found { key, name, octets, flags, date } = found;
        let date = date.clamp(0, LATEST);
        if self.unsettled.may_have(&octets, date) {
            self.drain(0, 0)?;
            self.open()?;
            if let Some(uid) = self.unsettled.claim(self.client, &octets, date)? {
                self.journal.brought(self.into.number, key, uid, &flags)?;
                Progress::add(&self.progress.recognised, 1);
                return Ok(());
            }
        }
        let size = octets.len();
        let tag = self.client.append(&Appending {
            mailbox: self.into.name,
            flags: &flags,
            date,
            octets: &octets,
        })?;
        drop(octets);
        self.sent.push_back(Sent { tag, key, name, flags, octets: size });
        self.octets_sent += size;
        let is_full = self.octets_sent > AHEAD_OCTETS || self.sent.len() >= AHEAD;
        if is_full { self.drain(AHEAD / 2, AHEAD_OCTETS / 2) } else { Ok(()) }
    }

    fn unread(&mut self, name: &str, why: &Unread) {
        (self.tell)(name, &why.to_string());
    }
}

impl<S: Read + Write> Drop for Filling<'_, S> {
    fn drop(&mut self) {
        Progress::take(&self.progress.left, self.left);
    }
}

/// Tells once of each thing that was not brought, however often it is met.
pub(crate) fn told_once<'a>(
    account: &'a str,
    progress: &'a Progress,
    listener: Listener<'a>,
    told: &'a mut HashSet<Key>,
) -> impl FnMut(&str, &str) + 'a {
    move |what, why| {
        if told.insert(Key::of(&[what.as_bytes()])) {
            Progress::add(&progress.skipped, 1);
            listener(account, &Event::Skipped { what: what.to_owned(), why: why.to_owned() });
        }
    }
}

#[cfg(test)]
mod tests;
