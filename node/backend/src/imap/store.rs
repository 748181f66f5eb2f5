//! STORE and UID STORE (RFC 3501 section 6.4.6, RFC 7162 section 3.1.3).

use mailcluster_proto_imap::{
    command::{Store, StoreOp},
    encode,
};
use mailcluster_store::{FlagChange, FlagOp, FlagsChanged, WriteError};
use mailcluster_types::Uid;

use super::{
    flags,
    reply::{Done, News, Outcome},
    selected::{Selected, fetch_line},
    session::Session,
};

/// Messages changed by one record. Large sets are changed page by page: STORE need not be atomic.
const PAGE: usize = 2000;

impl Session {
    pub(super) async fn store(&mut self, store: &Store) -> Outcome {
        self.condstore |= store.unchanged_since.is_some();
        let condstore = self.condstore;
        let flags = flags::for_store(&store.flags)?;
        let mailbox = self.writable()?;
        let id = mailbox.id;
        let places = mailbox.resolve(&store.set, store.uid)?;
        let uids = mailbox.uids_at(&places);
        let mut modified: Vec<Uid> = Vec::new();
        let mut left_out = false;
        for (at, page) in uids.chunks(PAGE).enumerate() {
            let change = FlagChange {
                mailbox: id,
                uids: page.to_vec(),
                op: match store.op {
                    StoreOp::Replace => FlagOp::Replace,
                    StoreOp::Add => FlagOp::Add,
                    StoreOp::Remove => FlagOp::Remove,
                },
                flags: flags.clone(),
                unchanged_since: store.unchanged_since,
            };
            self.connection.relieve().await?;
            let receipt = match self.context.store.set_flags(change).await {
                // The pages before this one are durable: NO would deny them.
                Err(WriteError::Refused(refused)) if at > 0 => {
                    tracing::info!(session = %self.context.client.session, %refused, "STORE left messages out");
                    left_out = true;
                    continue;
                }
                result => result?,
            };
            let pending = self.poll_after_change().await?;
            let changed = receipt.acknowledge()?;
            modified.extend_from_slice(&changed.modified);
            if let Some(mailbox) = &mut self.selected {
                tell_own(mailbox, &changed, (store.silent, condstore), self.connection.out());
            }
            self.tell(pending, News::NoExpunge);
        }
        let gone = self.selected.as_ref().is_some_and(Selected::has_gone);
        let text = if left_out { "some messages were not changed" } else { "stored" };
        let done = Done::new(text).news(News::None);
        if !modified.is_empty() {
            let numbers = if store.uid { modified } else { self.numbers(&modified) };
            return Ok(done.code(format!("MODIFIED {}", encode::set(&numbers))));
        }
        Ok(if gone { done.code("EXPUNGEISSUED") } else { done })
    }

    fn numbers(&self, uids: &[Uid]) -> Vec<u32> {
        let Some(mailbox) = &self.selected else { return Vec::new() };
        uids.iter().filter_map(|&uid| mailbox.number_of(uid)).collect()
    }
}

/// FETCH lines for what the client changed. With `.SILENT` only MODSEQ is told, to who speaks CONDSTORE.
fn tell_own(
    mailbox: &mut Selected,
    changed: &FlagsChanged,
    (silent, condstore): (bool, bool),
    out: &mut Vec<u8>,
) {
    for (uid, modseq, flags) in &changed.now {
        mailbox.knows(*uid, *modseq);
        let Some(number) = mailbox.number_of(*uid) else { continue };
        if !silent {
            fetch_line(out, (number, *uid), flags, condstore.then_some(*modseq));
        } else if condstore {
            out.extend_from_slice(format!("* {number} FETCH (UID {uid} MODSEQ ({modseq}))\r\n").as_bytes());
        }
    }
}
