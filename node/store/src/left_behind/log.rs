//! What the log says of where two lines part: from which MODSEQ and body on things are of one line alone. And what its records
//! behind that make, as it is at the end.

use std::path::Path;

use mailcluster_types::Seq;

use crate::{
    engine::Engine,
    error::ReadError,
    log_reader::{LogReader, LoggedBatch},
    record::{self, Framed, Record},
    replica::Identity,
    segment,
    tools::ToolError,
};

/// What both lines have, at most.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Shared {
    /// The highest MODSEQ.
    pub modseq: u64,
    /// Bodies that came later.
    pub bodies_since: u64,
}

/// Told of each batch with its records.
pub type Each<'a> = &'a mut dyn FnMut(&LoggedBatch, &[Framed]) -> Result<(), ToolError>;

/// A stopped copy's log.
pub struct Log<'a> {
    pub dir: &'a Path,
    pub identity: &'a Identity,
    /// Its last record.
    pub end: Seq,
}

impl Log<'_> {
    /// Reads from the segment that has `after` to the end.
    pub fn shared(&self, after: Seq) -> Result<Shared, ToolError> {
        let firsts = segment::list(&Engine::log_dir(self.dir))?;
        let mut shared = Shared::default();
        for first in firsts.iter().rev().filter(|first| **first <= after) {
            let mut found = Shared::default();
            self.each(first - 1, after, &mut |batch, records| {
                for (seq, framed) in (batch.seq..).zip(records) {
                    if seq <= after {
                        found.modseq = found.modseq.max(modseq(&framed.record));
                    }
                }
                Ok(())
            })?;
            shared.modseq = found.modseq;
            // A segment without any is one of the protocol's records alone.
            if found.modseq > 0 {
                break;
            }
        }
        if shared.modseq == 0 && firsts.first().is_none_or(|first| *first > 1) && after > 0 {
            let what = format!("record {after}: the log no longer reaches back to where the lines part");
            return Err(ToolError::NotFound(what));
        }
        self.each(after, self.end, &mut |_, records| {
            shared.bodies_since += records.iter().map(bodies).sum::<u64>();
            Ok(())
        })?;
        Ok(shared)
    }

    /// Every batch behind `after` up to the one with `until`.
    pub fn each(&self, after: Seq, until: Seq, each: Each<'_>) -> Result<(), ToolError> {
        let mut reader =
            LogReader::after(self.dir, self.identity.clone(), after).map_err(|e| unreadable(&e))?;
        while let Some(batch) = reader.next(until).map_err(|e| unreadable(&e))? {
            let records = record::decode_all(&batch.payload).map_err(|e| unreadable(&e))?;
            each(&batch, &records)?;
        }
        Ok(())
    }
}

/// Without every record it cannot be told what went and what is lost.
fn unreadable(error: &dyn std::error::Error) -> ToolError {
    let what = format!("its log, {error}; `mailcluster-node store export` saves what can be read");
    ToolError::Read(ReadError::Io(what))
}

/// The highest MODSEQ that a record gives.
fn modseq(record: &Record) -> u64 {
    let made = |all: &[record::NewMailbox]| all.iter().map(|m| m.modseq).max().unwrap_or(0);
    match record {
        Record::Deliver(r) => r.targets.iter().map(|t| t.modseq).max().unwrap_or(0),
        Record::Append(r) => r.modseq,
        Record::SetFlags(r) => r.modseq,
        Record::Expunge(r) => r.modseq,
        Record::Retire(r) => r.modseq,
        Record::RetireMailbox(r) => r.modseq,
        Record::Recover(r) => r.modseq,
        Record::Copy(r) => r.modseq.max(r.moved_modseq),
        Record::CreateMailbox(r) => made(&r.mailboxes),
        Record::DeleteMailbox(r) => r.modseq,
        Record::RenameMailbox(r) => made(&r.created).max(r.inbox.as_ref().map_or(0, |m| m.modseq)),
        Record::PutAccount(r) => made(&r.mailboxes),
        // Its floor is drawn without a record of its own.
        Record::EpochStart(r) if r.forced => r.epoch << 32,
        _ => 0,
    }
}

/// The bodies that a record adds to the index, each with a number of its own.
fn bodies(framed: &Framed) -> u64 {
    match &framed.record {
        Record::Deliver(r) => r.targets.iter().filter(|t| t.mailbox != 0).count() as u64,
        Record::Append(_) => 1,
        // Without a text it adds recipients to a message that waits.
        Record::QueuePut(_) => u64::from(!framed.body.is_empty()),
        _ => 0,
    }
}
