//! The mailboxes that mail is delivered to while faults are made: what was accepted is there, once, and a message that
//! was seen keeps its UID.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use anyhow::{Context, Result};
use mailcluster_test_clients::{Found, ImapClient, Ledger, Tls, damage, token_of};

use super::report::Violation;
use crate::layout::PASSWORD;

/// A whole mailbox may have to be read.
const PATIENCE: Duration = Duration::from_secs(60);

/// INBOX, as it was last seen.
#[derive(Debug, Default, Clone)]
struct Inbox {
    validity: Option<u32>,
    uid_next: u32,
    tokens: BTreeMap<u32, String>,
}

/// What is new in a mailbox, and the UIDs of all that is in it.
#[derive(Debug, Default)]
struct Read {
    validity: u32,
    uid_next: u32,
    uids: Vec<u32>,
    fresh: BTreeMap<u32, (String, Option<String>)>,
}

/// Every recipient's INBOX.
#[derive(Debug)]
pub(super) struct Inboxes {
    imap: SocketAddr,
    seen: BTreeMap<String, Inbox>,
}

impl Inboxes {
    pub fn of(imap: SocketAddr, addresses: &[String]) -> Self {
        Self { imap, seen: addresses.iter().map(|address| (address.clone(), Inbox::default())).collect() }
    }

    /// Reads what is new, and compares everything with what was seen before and with what was promised before this.
    ///
    /// # Errors
    /// When a mailbox cannot be read.
    pub fn check(&mut self, promised: &Ledger) -> Result<Vec<Violation>> {
        let mut wrong = Vec::new();
        for (address, inbox) in &mut self.seen {
            let read = read(self.imap, address, inbox.uid_next.max(1)).with_context(|| address.clone())?;
            let found = inbox.compare(read);
            wrong.extend(found.into_iter().map(|what| Violation::now(&format!("INBOX of {address}"), what)));
        }
        let copies = self.seen.iter().flat_map(|(account, inbox)| {
            inbox.tokens.values().map(|token| Found {
                token: token.clone(),
                account: account.clone(),
                damage: None,
            })
        });
        let verdict = promised.compare(&copies.collect::<Vec<_>>());
        // What has come since the promises were read is not among them; it is compared the next time.
        for (what, list) in [("lost", &verdict.lost), ("twice", &verdict.duplicated)] {
            wrong.extend(list.iter().map(|(token, account)| {
                Violation::now("mail", format!("{token} of {account}, which was accepted, is {what}"))
            }));
        }
        Ok(wrong)
    }
}

impl Inbox {
    /// What cannot be, of what was read; it is what was seen from now on.
    fn compare(&mut self, read: Read) -> Vec<String> {
        let mut wrong = Vec::new();
        if self.validity.is_some_and(|validity| validity != read.validity) {
            wrong.push(format!("UIDVALIDITY was {:?} and is {}", self.validity, read.validity));
        }
        if read.uid_next < self.uid_next {
            wrong.push(format!("UIDNEXT went back from {} to {}", self.uid_next, read.uid_next));
        }
        if !read.uids.is_sorted_by(|one, two| one < two) {
            wrong.push("UIDs do not ascend".to_owned());
        }
        let gone = self.tokens.iter().filter(|(uid, _)| read.uids.binary_search(uid).is_err());
        wrong.extend(gone.map(|(uid, token)| format!("UID {uid} ({token}) was seen and is gone")));
        for (uid, (token, damage)) in &read.fresh {
            if *uid < self.uid_next {
                wrong.push(format!("UID {uid} ({token}) is new, when UIDNEXT was {} already", self.uid_next));
            }
            wrong.extend(damage.iter().map(|damage| format!("UID {uid} ({token}) is damaged: {damage}")));
        }
        self.validity = Some(read.validity);
        let last = read.uids.last().map_or(0, |uid| uid.saturating_add(1));
        self.uid_next = read.uid_next.max(last).max(self.uid_next);
        self.tokens.extend(read.fresh.into_iter().map(|(uid, (token, _))| (uid, token)));
        wrong
    }
}

fn read(imap: SocketAddr, address: &str, from: u32) -> Result<Read> {
    let mut client = ImapClient::login(imap, Tls::Implicit, PATIENCE, address, PASSWORD)?;
    let selected = client.ok("SELECT INBOX")?;
    let number = |name: &str| {
        let line = selected.iter().find_map(|u| u.line.strip_prefix(&format!("* OK [{name} ")));
        let number = line.and_then(|rest| rest.split(']').next()).and_then(|text| text.parse().ok());
        number.with_context(|| format!("SELECT told no {name}"))
    };
    let mut read = Read { validity: number("UIDVALIDITY")?, uid_next: number("UIDNEXT")?, ..Read::default() };
    // The bodies first: what comes in between is new the next time.
    let bodies = client.ok(&format!("UID FETCH {from}:* (UID BODY.PEEK[])"))?;
    for fetched in bodies.iter().filter(|u| u.line.contains(" FETCH (")) {
        let fetched = fetched.fetched()?;
        // `7:*` names the last message, too, when it is an older one.
        if fetched.uid >= from && !fetched.body.is_empty() {
            let token = token_of(&fetched.body).context("a message without a token")?;
            read.fresh.insert(fetched.uid, (token, damage(&fetched.body)));
        }
    }
    let all = client.ok("UID FETCH 1:* (UID)")?;
    for fetched in all.iter().filter(|u| u.line.contains(" FETCH (")) {
        read.uids.push(fetched.fetched()?.uid);
    }
    // What has come in between the two would be taken for seen.
    let last = read.fresh.keys().last().copied().unwrap_or(from.saturating_sub(1));
    read.uids.retain(|uid| *uid < from || *uid <= last);
    read.uid_next = read.uid_next.min(last.saturating_add(1)).max(from);
    Ok(read)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fresh(messages: &[(u32, &str)]) -> BTreeMap<u32, (String, Option<String>)> {
        messages.iter().map(|(uid, token)| (*uid, ((*token).to_owned(), None))).collect()
    }

    #[test]
    fn what_was_seen_stays_as_it_was() {
        let first = Read { validity: 1, uid_next: 3, uids: vec![1, 2], fresh: fresh(&[(1, "a"), (2, "b")]) };
        for (what, read, wrong) in [
            ("nothing new", Read { validity: 1, uid_next: 3, uids: vec![1, 2], ..Read::default() }, 0),
            (
                "one more",
                Read { validity: 1, uid_next: 4, uids: vec![1, 2, 3], fresh: fresh(&[(3, "c")]) },
                0,
            ),
            ("one is gone", Read { validity: 1, uid_next: 3, uids: vec![2], ..Read::default() }, 1),
            ("UIDVALIDITY", Read { validity: 2, uid_next: 3, uids: vec![1, 2], ..Read::default() }, 1),
            ("UIDNEXT", Read { validity: 1, uid_next: 2, uids: vec![1, 2], ..Read::default() }, 1),
            (
                "a UID given twice",
                Read { validity: 1, uid_next: 3, uids: vec![1, 2], fresh: fresh(&[(2, "c")]) },
                1,
            ),
            ("no order", Read { validity: 1, uid_next: 3, uids: vec![2, 1], ..Read::default() }, 2),
        ] {
            let mut inbox = Inbox::default();
            assert!(
                inbox
                    .compare(Read { fresh: first.fresh.clone(), uids: first.uids.clone(), ..first })
                    .is_empty()
            );
            let found = inbox.compare(read);
            assert_eq!(found.len(), wrong, "{what}: {found:?}");
        }
        let mut inbox = Inbox::default();
        let mut damaged = first;
        damaged.fresh.insert(2, ("b".to_owned(), Some("short".to_owned())));
        assert_eq!(inbox.compare(damaged), ["UID 2 (b) is damaged: short"]);
    }
}
