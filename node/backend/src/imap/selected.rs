//! The selected mailbox as the client knows it: which UID stands behind which message number (RFC 3501 section 7.4).

use std::collections::{BTreeSet, HashMap};

use mailcluster_proto_imap::SequenceSet;
use mailcluster_store::{Changes, Flags};
use mailcluster_types::{ModSeq, Uid};
use tokio::sync::watch;

use super::{flags, reply::Fail};

/// Changes that have been read and not yet told.
#[derive(Debug, Default)]
pub(super) struct Pending(Option<Changes>);

impl Pending {
    pub fn new(changes: Changes) -> Self {
        Self(Some(changes))
    }
}

/// A selected mailbox.
pub(super) struct Selected {
    pub id: u64,
    pub read_only: bool,
    /// Changes up to this have been read.
    pub modseq: ModSeq,
    /// By message number less one; with those that are gone and not yet told.
    pub uids: Vec<Uid>,
    /// Expunged, the client does not know yet.
    gone: BTreeSet<Uid>,
    /// Flags the client knows already, since it changed them itself.
    known: HashMap<Uid, ModSeq>,
    pub watch: watch::Receiver<ModSeq>,
}

impl Selected {
    pub fn new(
        id: u64,
        read_only: bool,
        modseq: ModSeq,
        uids: Vec<Uid>,
        watch: watch::Receiver<ModSeq>,
    ) -> Self {
        Self { id, read_only, modseq, uids, gone: BTreeSet::new(), known: HashMap::new(), watch }
    }

    /// Has anything changed since the last look, or is something still to be told?
    pub fn may_have_changed(&self) -> bool {
        self.watch.has_changed().unwrap_or(true) || !self.gone.is_empty()
    }

    /// Are there messages that the client still counts and that do not exist any more?
    pub fn has_gone(&self) -> bool {
        !self.gone.is_empty()
    }

    /// The client has been told these flags, or asked not to be.
    pub fn knows(&mut self, uid: Uid, modseq: ModSeq) {
        self.known.insert(uid, modseq);
    }

    /// A UID's message number.
    pub fn number_of(&self, uid: Uid) -> Option<u32> {
        self.uids.binary_search(&uid).ok().and_then(number)
    }

    /// Message numbers less one, ascending, of those that are named and exist.
    pub fn resolve(&self, set: &SequenceSet, by_uid: bool) -> Result<Vec<u32>, Fail> {
        let count = u32::try_from(self.uids.len()).unwrap_or(u32::MAX);
        if by_uid {
            let ranges = set.resolve(self.uids.last().copied().unwrap_or(0));
            let mut places = Vec::new();
            for range in ranges {
                let from = self.uids.partition_point(|uid| uid < range.start());
                let to = self.uids.partition_point(|uid| uid <= range.end());
                places.extend((from..to).filter_map(|place| u32::try_from(place).ok()));
            }
            return Ok(places);
        }
        if set.largest_number() > count || (count == 0 && set.names_last()) {
            return Err(Fail::bad(format!("there are {count} messages")));
        }
        Ok(set.resolve(count).into_iter().flat_map(|range| range.start() - 1..*range.end()).collect())
    }

    /// The UIDs at these places.
    pub fn uids_at(&self, places: &[u32]) -> Vec<Uid> {
        places.iter().filter_map(|&place| self.uids.get(usize::try_from(place).ok()?).copied()).collect()
    }

    /// Writes what the client does not know: flags first (old numbers), then EXPUNGE if allowed, then EXISTS.
    pub fn tell(&mut self, pending: Pending, may_expunge: bool, condstore: bool, out: &mut Vec<u8>) {
        let mut arrived = false;
        if let Some(changes) = pending.0 {
            self.modseq = self.modseq.max(changes.highest_modseq);
            for message in changes.changed {
                match self.number_of(message.uid) {
                    Some(number) => {
                        let known =
                            self.known.get(&message.uid).is_some_and(|known| *known >= message.modseq);
                        if !known && !self.gone.contains(&message.uid) {
                            fetch_line(
                                out,
                                (number, message.uid),
                                &message.flags,
                                condstore.then_some(message.modseq),
                            );
                        }
                    }
                    None if self.uids.last().is_none_or(|last| *last < message.uid) => {
                        self.uids.push(message.uid);
                        arrived = true;
                    }
                    None => {}
                }
            }
            self.known.clear();
            self.gone.extend(changes.expunged.iter().filter(|uid| self.uids.binary_search(uid).is_ok()));
        }
        if may_expunge && !self.gone.is_empty() {
            self.tell_expunged(out);
        }
        if arrived {
            out.extend_from_slice(format!("* {} EXISTS\r\n* 0 RECENT\r\n", self.uids.len()).as_bytes());
        }
    }

    /// From the last to the first, so that each number is right when it is read.
    fn tell_expunged(&mut self, out: &mut Vec<u8>) {
        let gone = std::mem::take(&mut self.gone);
        for uid in gone.iter().rev() {
            if let Some(number) = self.number_of(*uid) {
                out.extend_from_slice(format!("* {number} EXPUNGE\r\n").as_bytes());
            }
        }
        self.uids.retain(|uid| !gone.contains(uid));
    }
}

fn number(place: usize) -> Option<u32> {
    u32::try_from(place).ok()?.checked_add(1)
}

/// `* n FETCH (UID u FLAGS (..) MODSEQ (m))`
pub(super) fn fetch_line(
    out: &mut Vec<u8>,
    (number, uid): (u32, Uid),
    flags: &Flags,
    modseq: Option<ModSeq>,
) {
    out.extend_from_slice(format!("* {number} FETCH (UID {uid} FLAGS ").as_bytes());
    flags::write(out, flags);
    if let Some(modseq) = modseq {
        out.extend_from_slice(format!(" MODSEQ ({modseq})").as_bytes());
    }
    out.extend_from_slice(b")\r\n");
}

#[cfg(test)]
mod tests;
