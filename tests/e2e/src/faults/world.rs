//! One way in which an account can be, as far as its client can know, and what an operation makes of it.

use std::collections::{BTreeMap, BTreeSet};

/// Flags of a message, in lower case.
pub type Flags = BTreeSet<String>;

/// Something that a client asks for, that is done wholly or not at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// APPEND of the message with this token.
    Append { mailbox: String, token: String, flags: Flags },
    /// UID STORE.
    Store { mailbox: String, uids: Vec<u32>, change: Change, flags: Flags },
    /// UID COPY, to another mailbox.
    Copy { from: String, uids: Vec<u32>, to: String },
    /// UID MOVE, to another mailbox.
    Move { from: String, uids: Vec<u32>, to: String },
    /// UID EXPUNGE.
    Expunge { mailbox: String, uids: Vec<u32> },
    /// CREATE.
    Create { name: String },
    /// RENAME.
    Rename { from: String, to: String },
    /// DELETE.
    Delete { name: String },
}

/// What UID STORE does with its flags.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// +FLAGS
    Add,
    /// -FLAGS
    Remove,
    /// FLAGS
    Replace,
}

impl Op {
    /// The mailboxes that it names.
    pub fn names(&self) -> Vec<&str> {
        match self {
            Self::Append { mailbox, .. } | Self::Store { mailbox, .. } | Self::Expunge { mailbox, .. } => {
                vec![mailbox]
            }
            Self::Copy { from, to, .. } | Self::Move { from, to, .. } | Self::Rename { from, to } => {
                vec![from, to]
            }
            Self::Create { name } | Self::Delete { name } => vec![name],
        }
    }

    /// Does it make, rename or delete a mailbox?
    pub fn is_structural(&self) -> bool {
        matches!(self, Self::Create { .. } | Self::Rename { .. } | Self::Delete { .. })
    }

    /// The word that it is counted by.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Append { .. } => "append",
            Self::Store { .. } => "store",
            Self::Copy { .. } => "copy",
            Self::Move { .. } => "move",
            Self::Expunge { .. } => "expunge",
            Self::Create { .. } => "create",
            Self::Rename { .. } => "rename",
            Self::Delete { .. } => "delete",
        }
    }
}

/// What a server tells with its OK.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Told {
    /// The UIDVALIDITY in APPENDUID or COPYUID.
    pub validity: Option<u32>,
    /// The UID in APPENDUID; old and new ones in COPYUID.
    pub uids: Vec<(u32, u32)>,
    /// UIDs and flags in FETCH responses.
    pub flags: BTreeMap<u32, Flags>,
}

/// A message as FETCH shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenMessage {
    pub uid: u32,
    pub token: String,
    pub flags: Flags,
}

/// A mailbox as SELECT and FETCH show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    pub validity: u32,
    pub uid_next: u32,
    pub modseq: u64,
    pub messages: Vec<SeenMessage>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Message {
    /// Not known before it was seen, when the answer to APPEND, COPY or MOVE did not come.
    pub uid: Option<u32>,
    /// No UID below this one.
    at_least: u32,
    pub token: String,
    pub flags: Flags,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) struct Mailbox {
    validity: Option<u32>,
    /// That of an earlier mailbox of this name.
    above: u32,
    uid_next: u32,
    modseq: u64,
    pub messages: Vec<Message>,
}

/// One way in which the account can be.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) struct World {
    pub mailboxes: BTreeMap<String, Mailbox>,
    /// The UIDVALIDITY of the last mailbox of each name that is gone.
    gone: BTreeMap<String, u32>,
    /// Operations without an answer that have not been done, and still may be.
    pub open: BTreeSet<u64>,
}

/// Why something cannot be.
type Why = String;

impl World {
    /// The only one, at the beginning.
    pub fn found(mailboxes: BTreeMap<String, Mailbox>) -> Self {
        Self { mailboxes, ..Self::default() }
    }

    /// The account after the operation; an error when it cannot be done so here, or not with what was told.
    pub fn after(&self, op: &Op, told: Option<&Told>) -> Result<Self, Why> {
        let mut next = self.clone();
        match op {
            Op::Append { mailbox, token, flags } => next.append(mailbox, (token, flags), told)?,
            Op::Store { mailbox, uids, change, flags } => {
                next.store(mailbox, uids, (*change, flags), told)?
            }
            Op::Copy { from, uids, to } => drop(next.copy(from, uids, to, told)?),
            Op::Move { from, uids, to } => {
                let moved = next.copy(from, uids, to, told)?;
                next.mailbox(from)?.messages.retain(|m| !m.uid.is_some_and(|uid| moved.contains(&uid)));
            }
            Op::Expunge { mailbox, uids } => next
                .mailbox(mailbox)?
                .messages
                .retain(|m| !(m.uid.is_some_and(|uid| uids.contains(&uid)) && m.flags.contains("\\deleted"))),
            Op::Create { name } => {
                if self.mailboxes.contains_key(name) {
                    return Err(format!("{name} is there already"));
                }
                let above = self.gone.get(name).copied().unwrap_or(0);
                next.mailboxes.insert(name.clone(), Mailbox { above, ..Mailbox::default() });
            }
            Op::Rename { from, to } => {
                if self.mailboxes.contains_key(to) {
                    return Err(format!("{to} is there already"));
                }
                let renamed = next.take(from)?;
                next.mailboxes.insert(to.clone(), renamed);
            }
            Op::Delete { name } => drop(next.take(name)?),
        }
        Ok(next)
    }

    fn mailbox(&mut self, name: &str) -> Result<&mut Mailbox, Why> {
        self.mailboxes.get_mut(name).ok_or_else(|| format!("there is no {name}"))
    }

    fn take(&mut self, name: &str) -> Result<Mailbox, Why> {
        let taken = self.mailboxes.remove(name).ok_or_else(|| format!("there is no {name}"))?;
        let last = self.gone.entry(name.to_owned()).or_default();
        *last = (*last).max(taken.validity.unwrap_or(0)).max(taken.above);
        Ok(taken)
    }

    fn append(&mut self, to: &str, (token, flags): (&str, &Flags), told: Option<&Told>) -> Result<(), Why> {
        let mailbox = self.mailbox(to)?;
        let uid = match told {
            None => None,
            Some(told) => {
                mailbox.is_valid(told.validity.ok_or("no APPENDUID was told")?)?;
                Some(told.uids.first().ok_or("no UID was told")?.1)
            }
        };
        mailbox.add(token, flags, uid)
    }

    fn store(
        &mut self,
        name: &str,
        uids: &[u32],
        (change, flags): (Change, &Flags),
        told: Option<&Told>,
    ) -> Result<(), Why> {
        let mailbox = self.mailbox(name)?;
        for message in &mut mailbox.messages {
            if !message.uid.is_some_and(|uid| uids.contains(&uid)) {
                continue;
            }
            match change {
                Change::Add => message.flags.extend(flags.iter().cloned()),
                Change::Remove => message.flags.retain(|flag| !flags.contains(flag)),
                Change::Replace => message.flags.clone_from(flags),
            }
        }
        for (uid, flags) in told.into_iter().flat_map(|told| &told.flags) {
            let message = mailbox.messages.iter().find(|message| message.uid == Some(*uid));
            match message {
                None if mailbox.messages.iter().any(|message| message.uid.is_none()) => {}
                None => return Err(format!("UID {uid} of {name} was told of, and is not there")),
                Some(message) if message.flags == *flags => {}
                Some(message) => {
                    return Err(format!("UID {uid} of {name} has {:?}, told {flags:?}", message.flags));
                }
            }
        }
        Ok(())
    }

    /// Answers the UIDs that were there.
    fn copy(&mut self, from: &str, uids: &[u32], to: &str, told: Option<&Told>) -> Result<Vec<u32>, Why> {
        let source = self.mailbox(from)?;
        let found: Vec<Message> = source
            .messages
            .iter()
            .filter(|m| m.uid.is_some_and(|uid| uids.contains(&uid)))
            .cloned()
            .collect();
        let there: Vec<u32> = found.iter().filter_map(|message| message.uid).collect();
        let target = self.mailbox(to)?;
        if let Some(told) = told {
            let of: Vec<u32> = told.uids.iter().map(|(old, _)| *old).collect();
            if of != there {
                return Err(format!("{there:?} of {uids:?} are in {from}, COPYUID tells of {of:?}"));
            }
            if !there.is_empty() {
                target.is_valid(told.validity.ok_or("no COPYUID was told")?)?;
            }
        }
        for (n, message) in found.iter().enumerate() {
            let uid = told.and_then(|told| told.uids.get(n)).map(|(_, new)| *new);
            target.add(&message.token, &message.flags, uid)?;
        }
        Ok(there)
    }

    /// This world, with what was seen of a mailbox known; an error when it cannot be seen here.
    pub fn seeing(&self, name: &str, seen: &Seen) -> Result<Self, Why> {
        let mut next = self.clone();
        let mailbox = next.mailbox(name)?;
        mailbox.is_valid(seen.validity)?;
        if seen.uid_next < mailbox.uid_next {
            return Err(format!("UIDNEXT went back from {} to {}", mailbox.uid_next, seen.uid_next));
        }
        if seen.modseq < mailbox.modseq {
            return Err(format!("HIGHESTMODSEQ went back from {} to {}", mailbox.modseq, seen.modseq));
        }
        if !seen.messages.is_sorted_by_key(|message| message.uid) {
            return Err("UIDs do not ascend".to_owned());
        }
        for (n, seen) in seen.messages.iter().enumerate() {
            let message = mailbox.messages.get_mut(n);
            let message =
                message.ok_or_else(|| format!("UID {} ({}) is one too many", seen.uid, seen.token))?;
            message.is(seen)?;
        }
        if let Some(lost) = mailbox.messages.get(seen.messages.len()) {
            return Err(format!("{} (UID {:?}) is not there", lost.token, lost.uid));
        }
        let last = seen.messages.last().map_or(0, |message| message.uid.saturating_add(1));
        mailbox.uid_next = seen.uid_next.max(last);
        mailbox.modseq = seen.modseq;
        Ok(next)
    }
}

impl Mailbox {
    /// A mailbox as it is found at the beginning.
    pub fn found(seen: &Seen) -> Self {
        let messages = seen.messages.iter().map(|message| Message {
            uid: Some(message.uid),
            at_least: message.uid,
            token: message.token.clone(),
            flags: message.flags.clone(),
        });
        Self {
            validity: Some(seen.validity),
            above: 0,
            uid_next: seen.uid_next,
            modseq: seen.modseq,
            messages: messages.collect(),
        }
    }

    fn is_valid(&mut self, validity: u32) -> Result<(), Why> {
        match self.validity {
            Some(known) if known != validity => Err(format!("UIDVALIDITY was {known} and is {validity}")),
            None if validity <= self.above => {
                Err(format!("UIDVALIDITY {validity}, and a mailbox of this name had {} before", self.above))
            }
            _ => {
                self.validity = Some(validity);
                Ok(())
            }
        }
    }

    fn add(&mut self, token: &str, flags: &Flags, uid: Option<u32>) -> Result<(), Why> {
        if let Some(uid) = uid {
            if uid < self.uid_next {
                return Err(format!("UID {uid} for {token}, when UIDNEXT was {} already", self.uid_next));
            }
            self.uid_next = uid.saturating_add(1);
        }
        let at_least = uid.unwrap_or(self.uid_next);
        self.messages.push(Message { uid, at_least, token: token.to_owned(), flags: flags.clone() });
        Ok(())
    }
}

impl Message {
    /// An error when this is not what was seen.
    fn is(&mut self, seen: &SeenMessage) -> Result<(), Why> {
        let Self { uid, at_least, token, flags } = self;
        if *token != seen.token || uid.is_some_and(|uid| uid != seen.uid) {
            return Err(format!(
                "where {token} (UID {uid:?}) should be is {} (UID {})",
                seen.token, seen.uid
            ));
        }
        if seen.uid < *at_least {
            return Err(format!("{token} has UID {}, when UIDNEXT was {at_least} already", seen.uid));
        }
        if *flags != seen.flags {
            return Err(format!("UID {} ({token}) has {:?}, not {flags:?}", seen.uid, seen.flags));
        }
        *uid = Some(seen.uid);
        Ok(())
    }
}
