//! Messages that a mailbox has beyond the journal: they came from elsewhere, or are ours and their answer was lost.
//! Each is compared with what would be appended next.

use std::{
    collections::HashMap,
    io::{Read, Write},
};

use crate::imap::{Client, Condition, ImapError, quoted};

/// A mailbox as it was opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Opened {
    pub uid_validity: u32,
    pub uid_next: u32,
}

/// Messages that may be ours, by size and date.
#[derive(Debug, Default)]
pub(crate) struct Unsettled {
    found: HashMap<(u64, i64), Vec<u32>>,
}

/// Opens a mailbox. `None`: there is none of that name.
pub(crate) fn open<S: Read + Write>(
    client: &mut Client<S>,
    mailbox: &str,
) -> Result<Option<Opened>, ImapError> {
    let (mut uid_validity, mut uid_next) = (None, None);
    let answer = client.command(&format!("SELECT {}", quoted(mailbox)), &mut |told| {
        uid_validity = uid_validity.or(told.number("UIDVALIDITY"));
        uid_next = uid_next.or(told.number("UIDNEXT"));
    })?;
    match (answer.condition, answer.code.as_str()) {
        (Condition::Ok, _) => {}
        (Condition::No, "NONEXISTENT") => return Ok(None),
        _ => return Err(ImapError::Bye(format!("SELECT: {}", answer.text))),
    }
    let number = |n: Option<u64>| n.and_then(|n| u32::try_from(n).ok());
    match (number(uid_validity), number(uid_next)) {
        (Some(uid_validity), Some(uid_next)) => Ok(Some(Opened { uid_validity, uid_next })),
        _ => Err(ImapError::Garbled("SELECT told no UIDVALIDITY or UIDNEXT".to_owned())),
    }
}

impl Unsettled {
    /// Those of the open mailbox above `last_uid`.
    pub fn look<S: Read + Write>(client: &mut Client<S>, last_uid: u32) -> Result<Self, ImapError> {
        let mut unsettled = Self::default();
        let first = last_uid.saturating_add(1);
        let answer =
            client.command(&format!("UID FETCH {first}:* (RFC822.SIZE INTERNALDATE)"), &mut |told| {
                let uid =
                    told.number("UID").and_then(|uid| u32::try_from(uid).ok()).filter(|uid| *uid >= first);
                if let (Some(uid), Some(size), Some(date)) =
                    (uid, told.number("RFC822.SIZE"), told.internal_date())
                {
                    unsettled.found.entry((size, date)).or_default().push(uid);
                }
            })?;
        if answer.condition == Condition::Ok { Ok(unsettled) } else { Err(ImapError::Bye(answer.text)) }
    }

    pub fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// Could one of them be this one?
    pub fn may_have(&self, octets: &[u8], date: i64) -> bool {
        self.found.contains_key(&(octets.len() as u64, date))
    }

    /// The UID of the one that is this message, octet by octet; it is no other's then.
    pub fn claim<S: Read + Write>(
        &mut self,
        client: &mut Client<S>,
        octets: &[u8],
        date: i64,
    ) -> Result<Option<u32>, ImapError> {
        let at = (octets.len() as u64, date);
        let Some(uids) = self.found.get_mut(&at) else { return Ok(None) };
        for place in 0..uids.len() {
            let Some(uid) = uids.get(place).copied() else { break };
            let mut is_same = false;
            client.command(&format!("UID FETCH {uid} (BODY.PEEK[])"), &mut |told| {
                is_same |= told.number("UID") == Some(uid.into()) && told.literal() == Some(octets);
            })?;
            if is_same {
                uids.remove(place);
                if uids.is_empty() {
                    self.found.remove(&at);
                }
                return Ok(Some(uid));
            }
        }
        Ok(None)
    }
}
