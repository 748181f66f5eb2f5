//! LIST, LSUB and STATUS (RFC 3501 sections 6.3.8 to 6.3.10, RFC 5258, RFC 5819).

mod matching;

use std::collections::HashMap;

use mailcluster_proto_imap::{
    MailboxName,
    command::{List, Lsub, Status, StatusItem},
    encode,
};
use mailcluster_store::Mailbox;
use matching::{Listed, Names};

use super::{
    reply::{Done, Fail, Outcome},
    session::Session,
};

/// Longest pattern, reference included.
const MAX_PATTERN: usize = 1000;

impl Session {
    pub(super) async fn list(&mut self, list: List) -> Outcome {
        if !list.extended && list.patterns.iter().all(|pattern| pattern.0.is_empty()) {
            // Asks for the separator (RFC 3501 section 6.3.8).
            self.untagged("LIST (\\Noselect) \"/\" \"\"");
            return Ok(Done::new("listed"));
        }
        let patterns = list
            .patterns
            .iter()
            .map(|pattern| joined(&list.reference, &pattern.0))
            .collect::<Result<Vec<_>, _>>()?;
        let (mailboxes, subscriptions) = self.names().await?;
        let names = Names::new(&mailboxes, subscriptions);
        let listed = names.list(&patterns, list.select, list.returns.subscribed);
        let by_name: HashMap<&str, &Mailbox> =
            mailboxes.iter().map(|mailbox| (mailbox.name.as_str(), mailbox)).collect();
        for entry in &listed {
            self.list_line("LIST", entry);
            if let (Some(items), true) = (&list.returns.status, entry.exists)
                && let Some(mailbox) = by_name.get(entry.name.as_str())
            {
                self.status_line(mailbox, items);
            }
            self.connection.relieve().await?;
        }
        Ok(Done::new("listed"))
    }

    pub(super) async fn lsub(&mut self, lsub: Lsub) -> Outcome {
        let pattern = joined(&lsub.reference, &lsub.pattern.0)?;
        let (mailboxes, subscriptions) = self.names().await?;
        for entry in Names::new(&mailboxes, subscriptions).lsub(&pattern) {
            self.list_line("LSUB", &entry);
            self.connection.relieve().await?;
        }
        Ok(Done::new("listed"))
    }

    pub(super) async fn status(&mut self, status: &Status) -> Outcome {
        match self.find(&status.mailbox).await? {
            Some(mailbox) => {
                self.condstore |= status.items.contains(&StatusItem::HighestModSeq);
                self.status_line(&mailbox, &status.items);
                Ok(Done::new("that is all"))
            }
            None => Err(Fail::no("NONEXISTENT", "no such mailbox")),
        }
    }

    async fn names(&mut self) -> Result<(Vec<Mailbox>, Vec<String>), Fail> {
        let account = self.account()?;
        let read = move |view: &mailcluster_store::View| {
            Ok((view.mailboxes(account)?, view.subscriptions(account)?))
        };
        Ok(self.context.store.read(read).await?)
    }

    fn list_line(&mut self, name: &str, listed: &Listed) {
        self.connection.put(format!("* {name} ({}) \"/\" ", listed.attributes.join(" ")).as_bytes());
        self.put_mailbox(&listed.name);
        if listed.child_info {
            self.connection.put(b" (\"CHILDINFO\" (\"SUBSCRIBED\"))");
        }
        self.connection.put(b"\r\n");
    }

    fn status_line(&mut self, mailbox: &Mailbox, items: &[StatusItem]) {
        let values: Vec<String> =
            items.iter().map(|item| format!("{} {}", item.name(), value(mailbox, *item))).collect();
        self.connection.put(b"* STATUS ");
        encode::mailbox(self.connection.out(), &mailbox.name);
        self.connection.put(format!(" ({})\r\n", values.join(" ")).as_bytes());
    }
}

fn value(mailbox: &Mailbox, item: StatusItem) -> u64 {
    match item {
        StatusItem::Messages => mailbox.counts.messages.into(),
        StatusItem::Recent => 0,
        StatusItem::UidNext => mailbox.uid_next.into(),
        StatusItem::UidValidity => mailbox.uid_validity.into(),
        StatusItem::Unseen => mailbox.counts.unseen.into(),
        StatusItem::Deleted => mailbox.counts.deleted.into(),
        StatusItem::Size => mailbox.counts.octets,
        StatusItem::HighestModSeq => mailbox.highest_modseq.max(1),
    }
}

/// The reference stands before the pattern as it is.
fn joined(reference: &MailboxName, pattern: &str) -> Result<String, Fail> {
    let joined = format!("{}{pattern}", reference.as_str());
    if joined.len() > MAX_PATTERN {
        return Err(Fail::no("LIMIT", "a pattern has at most 1000 octets"));
    }
    Ok(joined)
}
