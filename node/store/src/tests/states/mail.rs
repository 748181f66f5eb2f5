//! A model of what a store holds, that knows nothing of logs and indexes, and the acts that change it.

use std::collections::{BTreeMap, BTreeSet};

use mailcluster_types::DeliveryId;

use super::rng::Rng;
use crate::{RecoverableFilter, View};

/// Everything a client can see, but for numbers that only rise.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mail {
    /// By owner and name.
    pub boxes: BTreeMap<(u128, String), Contents>,
    /// Text and waiting recipients, by delivery.
    pub queue: BTreeMap<u128, (String, BTreeSet<String>)>,
    pub subscribed: BTreeSet<(u128, String)>,
    /// What was expunged and is kept: owner, mailbox, UID, text and flags.
    pub gone: BTreeSet<(u128, Home, u32, String, u8)>,
}

/// Where an expunged message was.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Home {
    /// In a mailbox that is there, of this name.
    There(String),
    /// In one that is gone, and had this name.
    Was(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contents {
    pub uid_next: u32,
    /// Text and flags by UID.
    pub messages: BTreeMap<u32, (String, u8)>,
}

impl Default for Contents {
    fn default() -> Self {
        Self { uid_next: 1, messages: BTreeMap::new() }
    }
}

impl Contents {
    fn add(&mut self, message: (String, u8)) {
        self.messages.insert(self.uid_next, message);
        self.uid_next += 1;
    }
}

/// Something that is asked of a store.
#[derive(Debug, Clone)]
pub enum Act {
    Account(u128),
    Deliver {
        id: DeliveryId,
        to: Vec<u128>,
        text: String,
    },
    Append {
        to: (u128, String),
        flags: u8,
        text: String,
    },
    Flags {
        of: (u128, String),
        uids: Vec<u32>,
        add: bool,
        flags: u8,
    },
    Copy {
        of: (u128, String),
        uids: Vec<u32>,
        to: String,
        moving: bool,
    },
    Expunge {
        of: (u128, String),
        uids: Vec<u32>,
    },
    Create(u128, String),
    Rename((u128, String), String),
    Delete(u128, String),
    Put {
        id: DeliveryId,
        to: Vec<String>,
        text: String,
    },
    Done {
        id: DeliveryId,
        address: String,
    },
    /// What went from this mailbox comes back into it.
    Undelete(u128, String),
    /// All that is kept goes.
    Purge,
    Epoch,
}

const DEFAULTS: [&str; 6] = ["INBOX", "Sent", "Drafts", "Trash", "Junk", "Archive"];
const NAMES: [&str; 3] = ["a", "b", "ä"];

impl Act {
    /// Does it change which mailboxes there are? Then nothing else is under way.
    pub fn is_alone(&self) -> bool {
        matches!(
            self,
            Self::Account(_)
                | Self::Create(..)
                | Self::Rename(..)
                | Self::Delete(..)
                | Self::Undelete(..)
                | Self::Epoch
        )
    }
}

impl Mail {
    /// What a view shows.
    pub fn seen(view: &View) -> Result<Self, String> {
        let told = |e: crate::ReadError| e.to_string();
        let text = |body: u64| -> Result<String, String> {
            String::from_utf8(view.body(body).map_err(told)?.to_vec()).map_err(|e| e.to_string())
        };
        let mut mail = Self::default();
        for account in view.accounts(None, 100).map_err(told)? {
            for mailbox in view.mailboxes(account.id).map_err(told)? {
                let mut contents = Contents { uid_next: mailbox.uid_next, messages: BTreeMap::new() };
                for m in view.messages(mailbox.id, 1, u32::MAX).map_err(told)? {
                    contents.messages.insert(m.uid, (text(m.body)?, m.flags.system));
                }
                mail.boxes.insert((account.id.0, mailbox.name), contents);
            }
            for gone in view.recoverable(account.id, &RecoverableFilter::default(), 1000).map_err(told)? {
                let home = if gone.is_there { Home::There(gone.name) } else { Home::Was(gone.name) };
                mail.gone.insert((account.id.0, home, gone.uid, text(gone.body)?, gone.flags.system));
            }
            let names = view.subscriptions(account.id).map_err(told)?;
            mail.subscribed.extend(names.into_iter().map(|name| (account.id.0, name)));
        }
        for item in view.queue(None, 1000).map_err(told)? {
            let waiting = item.recipients.into_iter().map(|r| r.address).collect();
            mail.queue.insert(item.delivery.0, (text(item.body)?, waiting));
        }
        Ok(mail)
    }

    /// Does what a store would.
    pub fn act(&mut self, act: &Act) {
        match act {
            Act::Account(n) => {
                for name in DEFAULTS {
                    self.boxes.insert((*n, name.to_owned()), Contents::default());
                    self.subscribed.insert((*n, name.to_owned()));
                }
            }
            Act::Deliver { to, text, .. } => {
                for n in to {
                    let text = format!("Delivered-To: user{n}@example.org\r\n{text}");
                    self.mailbox(&(*n, "INBOX".to_owned())).add((text, 0));
                }
            }
            Act::Append { to, flags, text } => self.mailbox(to).add((text.clone(), *flags)),
            Act::Flags { of, uids, add, flags } => {
                for uid in uids {
                    if let Some((_, now)) = self.mailbox(of).messages.get_mut(uid) {
                        *now = if *add { *now | flags } else { *now & !flags };
                    }
                }
            }
            Act::Copy { of, uids, to, moving } => self.copy(of, uids, to, *moving),
            Act::Expunge { of, uids } => self.expunge(of, |uid| uids.contains(&uid)),
            Act::Create(n, name) => _ = self.boxes.insert((*n, name.clone()), Contents::default()),
            Act::Rename(from, to) => {
                let contents = self.boxes.remove(from).unwrap();
                self.boxes.insert((from.0, to.clone()), contents);
                self.rehome(from, &Home::There(to.clone()));
            }
            Act::Delete(n, name) => {
                let of = (*n, name.clone());
                self.expunge(&of, |_| true);
                self.rehome(&of, &Home::Was(name.clone()));
                self.boxes.remove(&of);
            }
            Act::Undelete(n, name) => {
                for (_, _, _, text, flags) in self.take_gone(&(*n, name.clone())) {
                    self.mailbox(&(*n, name.clone())).add((text, flags & !8));
                }
            }
            Act::Purge => self.gone.clear(),
            Act::Put { id, to, text } => {
                self.queue.insert(id.0, (text.clone(), to.iter().cloned().collect()));
            }
            Act::Done { id, address } => {
                if let Some((_, waiting)) = self.queue.get_mut(&id.0) {
                    waiting.remove(address);
                }
                self.queue.retain(|_, (_, waiting)| !waiting.is_empty());
            }
            Act::Epoch => {}
        }
    }

    fn mailbox(&mut self, key: &(u128, String)) -> &mut Contents {
        self.boxes.get_mut(key).unwrap()
    }

    fn expunge(&mut self, of: &(u128, String), goes: impl Fn(u32) -> bool) {
        let messages = std::mem::take(&mut self.mailbox(of).messages);
        let (gone, stays): (BTreeMap<_, _>, BTreeMap<_, _>) =
            messages.into_iter().partition(|(uid, _)| goes(*uid));
        self.mailbox(of).messages = stays;
        let home = Home::There(of.1.clone());
        self.gone.extend(gone.into_iter().map(|(uid, (text, flags))| (of.0, home.clone(), uid, text, flags)));
    }

    /// What went from a mailbox that is there, by UID.
    fn take_gone(&mut self, of: &(u128, String)) -> Vec<(u128, Home, u32, String, u8)> {
        let is_of =
            |gone: &(u128, Home, u32, String, u8)| gone.0 == of.0 && gone.1 == Home::There(of.1.clone());
        let taken: Vec<_> = self.gone.iter().filter(|gone| is_of(gone)).cloned().collect();
        self.gone.retain(|gone| !is_of(gone));
        taken
    }

    fn rehome(&mut self, of: &(u128, String), to: &Home) {
        let taken = self.take_gone(of);
        self.gone.extend(taken.into_iter().map(|(n, _, uid, text, flags)| (n, to.clone(), uid, text, flags)));
    }

    fn copy(&mut self, of: &(u128, String), uids: &[u32], to: &str, moving: bool) {
        let source = self.mailbox(of);
        let wanted: BTreeSet<u32> = uids.iter().copied().collect();
        let found: Vec<_> =
            wanted.iter().filter_map(|uid| Some((*uid, source.messages.get(uid)?.clone()))).collect();
        for (uid, message) in found {
            self.mailbox(&(of.0, to.to_owned())).add(message);
            if moving {
                self.mailbox(of).messages.remove(&uid);
            }
        }
    }

    /// Something that makes sense now.
    pub fn next_act(&self, rng: &mut Rng, id: DeliveryId) -> Act {
        let owners: Vec<u128> =
            self.boxes.keys().map(|(n, _)| *n).collect::<BTreeSet<_>>().into_iter().collect();
        if owners.len() < 3 {
            return Act::Account(u128::try_from(owners.len() + 1).unwrap());
        }
        let filled: Vec<_> =
            self.boxes.iter().filter(|(_, contents)| !contents.messages.is_empty()).collect();
        let who = *rng.pick(&owners);
        let made: Vec<&String> = self
            .boxes
            .keys()
            .filter(|(n, name)| *n == who && NAMES.contains(&name.as_str()))
            .map(|(_, n)| n)
            .collect();
        let free: Vec<&str> =
            NAMES.into_iter().filter(|name| !self.boxes.contains_key(&(who, (*name).to_owned()))).collect();
        let restorable: Vec<(u128, String)> = self
            .gone
            .iter()
            .filter_map(|(n, home, ..)| match home {
                Home::There(name) => Some((*n, name.clone())),
                Home::Was(_) => None,
            })
            .collect();
        let text = format!("text {} {}", id.0 & 0xffff, "x".repeat(rng.below(60) * rng.below(60)));
        let kind = rng.below(27);
        if let (5..=14, false) = (kind, filled.is_empty()) {
            let (of, contents) = *rng.pick(&filled);
            return self.change(rng, kind, of, contents);
        }
        match kind {
            15 | 16 if !free.is_empty() => Act::Create(who, (*rng.pick(&free)).to_owned()),
            17 if !made.is_empty() && !free.is_empty() => {
                Act::Rename((who, (*rng.pick(&made)).clone()), (*rng.pick(&free)).to_owned())
            }
            18 if !made.is_empty() => Act::Delete(who, (*rng.pick(&made)).clone()),
            19 => Act::Epoch,
            20 | 21 => {
                let to = (1..=1 + rng.below(2)).map(|n| format!("r{n}@example.net")).collect();
                Act::Put { id, to, text }
            }
            22 if !self.queue.is_empty() => {
                let waiting: Vec<_> = self.queue.iter().collect();
                let (id, (_, to)) = rng.pick(&waiting);
                let to: Vec<_> = to.iter().collect();
                Act::Done { id: DeliveryId(**id), address: (*rng.pick(&to)).clone() }
            }
            24 | 25 if !restorable.is_empty() => {
                let (n, name) = (*rng.pick(&restorable)).clone();
                Act::Undelete(n, name)
            }
            26 if !self.gone.is_empty() => Act::Purge,
            23 => Act::Append { to: (who, "Drafts".to_owned()), flags: 16, text },
            _ => {
                let to = owners.iter().copied().filter(|n| *n == who || rng.one_in(3)).collect();
                Act::Deliver { id, to, text }
            }
        }
    }

    fn change(&self, rng: &mut Rng, kind: usize, of: &(u128, String), contents: &Contents) -> Act {
        let all: Vec<u32> = contents.messages.keys().copied().collect();
        let mut uids: Vec<u32> = all.iter().copied().filter(|_| rng.one_in(3)).collect();
        uids.push(*rng.pick(&all));
        let of = of.clone();
        match kind {
            5..=7 => {
                // One that it has or has not: a change that changes nothing is no record.
                Act::Flags { of, uids, add: !rng.one_in(3), flags: 1 << rng.below(5) }
            }
            8..=11 => {
                let names: Vec<&String> =
                    self.boxes.keys().filter(|(n, _)| *n == of.0).map(|(_, n)| n).collect();
                let to = (*rng.pick(&names)).clone();
                let moving = kind < 10 && to != of.1;
                Act::Copy { of, uids, to, moving }
            }
            _ => Act::Expunge { of, uids },
        }
    }
}
