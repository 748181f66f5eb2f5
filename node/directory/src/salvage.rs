//! A store takes over what a forced promotion left behind: the file is read as it arrives, checked against the store's own
//! line, and put beside what is there item by item.

use std::pin::Pin;

use futures::{Future, StreamExt, stream::FuturesUnordered};
use mailcluster_failover::{
    Position,
    mirror::{EpochEntry, LogShape, fork},
};
use mailcluster_rpc::store::v1 as pb;
use mailcluster_store::{
    EpochMark, Refusal, Store, WriteError,
    left_behind::{
        Counts, FileReader, Head, Item, MAX_PIECE, Salvaged, What,
        file::{FileError, Part},
    },
};
use mailcluster_types::ModSeq;
use tonic::Status;

use crate::{Octets, service::unix_seconds};

/// Things not taken over that are told by name.
const TOLD: usize = 1000;
/// Changes of flags on their way at once.
const AT_ONCE: usize = 64;
/// Largest part of a file that one message may have.
const LARGEST: usize = 1 << 20;

type Change = Pin<Box<dyn Future<Output = Result<Salvaged, Status>> + Send>>;

/// Takes the whole file over.
pub async fn salvage(store: &Store, octets: Octets) -> Result<pb::SalvageResponse, Status> {
    let changes = FuturesUnordered::new();
    let mut work = Work { store, fork: None, changes, counts: Counts::default(), kept: 0, told: Vec::new() };
    let taken = work.take(octets).await;
    // One that broke off has brought something, too.
    store.stats().salvaged(unix_seconds(), work.counts, taken.is_ok().then_some(work.kept));
    taken.map(|()| work.answer())
}

fn unreadable(error: &FileError) -> Status {
    match error {
        FileError::Short => Status::aborted(error.to_string()),
        FileError::Foreign | FileError::Damaged(_) => Status::invalid_argument(error.to_string()),
    }
}

struct Work<'a> {
    store: &'a Store,
    /// The highest MODSEQ of both lines, once the file was found to be of a line that was left behind.
    fork: Option<ModSeq>,
    changes: FuturesUnordered<Change>,
    counts: Counts,
    /// Things that were not taken over, and the first of them by name.
    kept: u64,
    told: Vec<String>,
}

impl Work<'_> {
    async fn take(&mut self, mut octets: Octets) -> Result<(), Status> {
        let mut reader = FileReader::default();
        while let Some(piece) = octets.next().await {
            let piece = piece?;
            if piece.len() > LARGEST {
                return Err(Status::invalid_argument("a part of the file has at most 1 MiB"));
            }
            reader.push(&piece);
            while let Some(part) = reader.next_part().map_err(|e| unreadable(&e))? {
                match part {
                    Part::Head(head) => self.begin(&head).await?,
                    Part::Item(item) => self.item(item).await?,
                    Part::End(_) => {}
                }
            }
        }
        self.settle(0).await?;
        reader.finish().map_err(|e| unreadable(&e))
    }

    async fn begin(&mut self, head: &Head) -> Result<(), Status> {
        let identity = self.store.identity();
        if head.cluster != identity.cluster.to_bytes() || head.store != identity.store.as_str() {
            let text =
                format!("this is of store {}, and not of this cluster's {}", head.store, identity.store);
            return Err(Status::invalid_argument(text));
        }
        let end = self.store.committed();
        let epochs = self.store.read(|view| view.epochs()).await;
        let epochs = epochs.map_err(|e| Status::unavailable(e.to_string()))?;
        check(&epochs, Position { epoch: end.0, seq: end.1 }, head)?;
        self.fork = Some(head.modseq);
        Ok(())
    }

    /// Flags may be changed in any order; everything else has what came before it behind it.
    async fn item(&mut self, item: Item) -> Result<(), Status> {
        let fork = self.fork.ok_or_else(|| Status::invalid_argument("the file has no head"))?;
        let is_free = matches!(item.what, Some(What::Flags(_)));
        self.settle(if is_free { AT_ONCE - 1 } else { 0 }).await?;
        let change = Box::pin(change(self.store.clone(), fork, item));
        self.changes.push(change);
        if is_free { Ok(()) } else { self.settle(0).await }
    }

    /// Waits until no more than so many changes are on their way.
    async fn settle(&mut self, most: usize) -> Result<(), Status> {
        while self.changes.len() > most {
            if let Some(done) = self.changes.next().await {
                self.note(done?);
            }
        }
        Ok(())
    }

    fn note(&mut self, done: Salvaged) {
        self.counts += done.counts;
        self.kept += done.kept.len() as u64;
        let room = TOLD.saturating_sub(self.told.len());
        self.told.extend(done.kept.into_iter().take(room));
    }

    fn answer(self) -> pb::SalvageResponse {
        let Counts { messages, moved, flags, expunged, mailboxes, records, queued, already } = self.counts;
        pb::SalvageResponse {
            messages,
            moved,
            flags,
            expunged,
            already,
            mailboxes,
            records,
            queued,
            kept: self.kept,
            kept_lines: self.told,
        }
    }
}

/// One thing. What is refused by itself is told, and the others go on.
async fn change(store: Store, fork: ModSeq, item: Item) -> Result<Salvaged, Status> {
    let name = name(&item);
    match store.salvage(fork, item).await {
        Ok(receipt) => receipt.acknowledge().map_err(|_| again()),
        Err(WriteError::Refused(Refusal::Full)) => {
            Err(Status::resource_exhausted("the volume is full: make room, and send the file again"))
        }
        Err(WriteError::Refused(why)) => {
            Ok(Salvaged { kept: vec![format!("{name}: {why}")], ..Salvaged::default() })
        }
        Err(WriteError::NotServing | WriteError::Unknown) => Err(again()),
    }
}

fn again() -> Status {
    Status::unavailable("the store does not serve here any more: send the file again, nothing is done twice")
}

/// An item that is refused as a whole, for people.
fn name(item: &Item) -> String {
    match &item.what {
        Some(What::Mailbox(made) | What::Renamed(made)) => format!("mailbox {}", made.name),
        Some(What::Subscribed(made)) => format!("subscription to {}", made.name),
        Some(What::Sieve(script)) => format!("script {}", script.name),
        Some(What::Account(account)) => format!("account {}", account.address),
        Some(What::Domain(domain)) => format!("domain {}", domain.name),
        Some(What::Alias(alias)) => format!("alias {}", alias.address),
        Some(What::Audit(_)) => "a line of the audit log".into(),
        Some(What::Queued(_) | What::Done(_)) => "a queued message".into(),
        Some(What::Came(came)) => {
            let spots = came.bodies.iter().flat_map(|body| &body.came);
            let spots = spots.map(|message| format!("{} {}", message.name, message.uid));
            format!("messages {}", spots.collect::<Vec<_>>().join(", "))
        }
        Some(What::Flags(flags)) => format!("flags of message {} of mailbox {}", flags.uid, flags.mailbox),
        Some(What::Gone(gone)) => format!("messages that went from mailbox {}", gone.mailbox),
        None => "something that this version does not know".into(),
    }
}

/// Is the file of a line that a forced promotion has left behind, and was it taken from where the two part?
#[allow(clippy::result_large_err, reason = "what tonic handlers return")]
fn check(own: &[EpochMark], end: Position, head: &Head) -> Result<(), Status> {
    let entry = |epoch, first_seq, forced| EpochEntry { epoch, first_seq, forced };
    let mine: Vec<_> = own.iter().map(|mark| entry(mark.epoch, mark.first_seq, mark.forced)).collect();
    let theirs: Vec<_> = head.epochs.iter().map(|mark| entry(mark.epoch, mark.first, mark.forced)).collect();
    let left = LogShape { epochs: &theirs, end: Position { epoch: head.end_epoch, seq: head.end } };
    let common = fork(LogShape { epochs: &mine, end }, left);
    let new = mine.iter().find(|mark| mark.first_seq > common.seq);
    if !mine.iter().any(|mark| mark.forced && mark.first_seq > common.seq) {
        return Err(Status::failed_precondition(
            "no forced failover has left this copy's line behind: there is nothing to salvage",
        ));
    }
    if head.end <= common.seq {
        return Err(Status::failed_precondition("the copy has nothing that the store has not got"));
    }
    if head.after != common.seq {
        return Err(Status::failed_precondition(format!(
            "the lines part after record {common}: run `mailcluster-node store salvage` again with --after {common}"
        )));
    }
    // MODSEQs carry their epoch: none that both lines have is of one that began after they parted.
    if new.is_some_and(|new| head.modseq >> 32 >= new.epoch) {
        return Err(Status::invalid_argument("the file contradicts itself"));
    }
    Ok(())
}

const _: () = assert!(LARGEST < MAX_PIECE, "a part is less than a piece");

#[cfg(test)]
mod tests {
    use mailcluster_store::left_behind::HeadEpoch;

    use super::*;

    #[test]
    fn only_a_line_that_was_left_behind_by_force_is_taken_and_only_from_where_it_parted() {
        let own = |forced| {
            let mark = |epoch, first_seq, forced| EpochMark { epoch, first_seq, forced };
            vec![mark(1, 1, false), mark(4, 8, forced), mark(5, 20, false)]
        };
        let head = |epochs: &[(u64, u64)], end: (u64, u64), after, modseq| Head {
            epochs: epochs
                .iter()
                .map(|(epoch, first)| HeadEpoch { epoch: *epoch, first: *first, forced: false })
                .collect(),
            end_epoch: end.0,
            end: end.1,
            after,
            modseq,
            ..Head::default()
        };
        let end = Position { epoch: 5, seq: 30 };
        let ok = 1 << 32 | 9;
        let table = [
            (own(true), head(&[(1, 1)], (1, 12), 7, ok), ""),
            (own(true), head(&[(1, 1), (3, 10)], (3, 12), 7, ok), ""),
            // The copy had less of the shared epoch, and went on in another.
            (own(true), head(&[(1, 1), (3, 6)], (3, 12), 5, ok), ""),
            (own(true), head(&[(1, 1)], (1, 12), 6, ok), "part after record 1/7"),
            (own(true), head(&[(1, 1), (3, 6)], (3, 12), 7, ok), "part after record 1/5"),
            (own(true), head(&[(1, 1)], (1, 7), 7, ok), "has nothing"),
            (own(false), head(&[(1, 1)], (1, 12), 7, ok), "no forced failover"),
            (own(true), head(&[(1, 1), (4, 8), (5, 20)], (5, 25), 25, ok), "no forced failover"),
            (own(true), head(&[(1, 1)], (1, 12), 7, 4 << 32), "contradicts"),
        ];
        for (own, head, expected) in table {
            let said = check(&own, end, &head).err().map(|s| s.message().to_owned()).unwrap_or_default();
            assert!(said.contains(expected) && said.is_empty() == expected.is_empty(), "{head:?}: {said}");
        }
    }
}
