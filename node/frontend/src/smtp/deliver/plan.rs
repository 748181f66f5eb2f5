//! The decisions of a delivery, without I/O.

use std::collections::BTreeMap;

use mailcluster_lmtp::ClientError;
use mailcluster_proto_smtp::Reply;
use mailcluster_types::StoreName;

use super::{Item, Verdict};

/// What is known of one copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fate {
    /// Nothing was tried, or it has no place yet (held mail).
    Open,
    /// It stands in an open transaction.
    Expected,
    /// Its store cannot take it now. Nothing was appended for it.
    Away,
    /// Its store will never take it. Nothing was appended for it.
    Refused(Reply),
    /// Its message was sent, and no reply came: it may be durable.
    Unknown,
    /// It is on its store.
    Delivered,
    /// It is in a queue.
    HandedOff,
}

impl Fate {
    pub(super) fn from_reply(reply: &Reply) -> Self {
        if is_final(reply) { Self::Refused(reply.clone()) } else { Self::Away }
    }
}

/// Refusals that are about the mailbox or the message, not about the way two programs talk.
pub(crate) fn is_final(reply: &Reply) -> bool {
    (550..=554).contains(&reply.code) && reply.status().is_none_or(|status| !status.starts_with("5.5."))
}

/// What a transaction that could not be opened means for its items.
pub(super) fn fate_of_error(error: &ClientError) -> Fate {
    match error {
        ClientError::Refused(reply) => Fate::from_reply(reply),
        ClientError::Before(_) | ClientError::Unfinished => Fate::Away,
        ClientError::After(_) => Fate::Unknown,
    }
}

/// How a transaction's message ended: a reply per entry, or an error.
pub(super) type Outcome = Result<Vec<Reply>, ClientError>;

/// One entry of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) item: usize,
    /// In the queue rather than in the mailbox.
    pub(super) queued: bool,
}

/// The account of all copies of one message.
#[derive(Debug)]
pub(super) struct Ledger {
    fates: Vec<Fate>,
    /// Why an item is handed off: for the metric.
    reasons: Vec<&'static str>,
    /// An item was sent once without a reply and has no durable copy that is known.
    unknown: Vec<bool>,
    away: Vec<StoreName>,
    /// Where there is room for it should its store die.
    reserved: Vec<Option<StoreName>>,
}

impl Ledger {
    pub(super) fn new(items: usize) -> Self {
        Self {
            fates: vec![Fate::Open; items],
            reasons: vec!["held"; items],
            unknown: vec![false; items],
            away: Vec::new(),
            reserved: vec![None; items],
        }
    }

    pub(super) fn set(&mut self, item: usize, fate: Fate) {
        match &fate {
            Fate::Away => self.reasons[item] = "away",
            Fate::Refused(_) => self.reasons[item] = "refused",
            Fate::Unknown => {
                self.reasons[item] = "unknown";
                self.unknown[item] = true;
            }
            _ => {}
        }
        self.fates[item] = fate;
    }

    pub(super) fn expect(&mut self, items: impl Iterator<Item = usize>) {
        items.for_each(|item| self.fates[item] = Fate::Expected);
    }

    pub(super) fn away(&mut self, store: StoreName) {
        self.away.push(store);
    }

    pub(super) fn stores_away(&self) -> &[StoreName] {
        &self.away
    }

    pub(super) fn reserve(&mut self, items: impl Iterator<Item = usize>, place: &StoreName) {
        items.for_each(|item| self.reserved[item] = Some(place.clone()));
    }

    pub(super) fn reserved(&self, item: usize) -> Option<&StoreName> {
        self.reserved[item].as_ref()
    }

    /// Items that neither stand in a transaction nor are durable.
    pub(super) fn without_place(&self) -> Vec<usize> {
        let placed = |fate: &Fate| matches!(fate, Fate::Expected | Fate::Delivered | Fate::HandedOff);
        (0..self.fates.len()).filter(|item| !placed(&self.fates[*item])).collect()
    }

    /// The refusal to pass on when every item was refused for good: better than a bounce later.
    pub(super) fn refused_by_all(&self) -> Option<Reply> {
        let refusal = |fate: &Fate| match fate {
            Fate::Refused(reply) => Some(reply.clone()),
            _ => None,
        };
        let refusals: Option<Vec<Reply>> = self.fates.iter().map(refusal).collect();
        refusals?.into_iter().next()
    }

    /// What came of a transaction.
    pub(super) fn record(&mut self, entries: &[Entry], outcome: Outcome) {
        match outcome {
            Ok(replies) => {
                for (entry, reply) in entries.iter().zip(&replies) {
                    let fate = match (reply.is_positive(), entry.queued) {
                        (true, false) => Fate::Delivered,
                        (true, true) => Fate::HandedOff,
                        (false, false) => Fate::from_reply(reply),
                        // A queue that says no to a hand-off has said nothing of the mailbox.
                        (false, true) => Fate::Away,
                    };
                    self.set(entry.item, fate);
                }
            }
            Err(error) => {
                let fate = match fate_of_error(&error) {
                    Fate::Unknown => Fate::Unknown,
                    _ => Fate::Away,
                };
                entries.iter().for_each(|entry| self.set(entry.item, fate.clone()));
            }
        }
    }

    /// Items still expected after all was sent have found no one.
    pub(super) fn release_failed(&mut self) {
        for fate in self.fates.iter_mut().filter(|fate| **fate == Fate::Expected) {
            *fate = Fate::Away;
        }
    }

    /// Why each handed-off item was.
    pub(super) fn reasons(&self) -> impl Iterator<Item = &'static str> {
        let handed = self.fates.iter().zip(&self.reasons).filter(|(fate, _)| **fate == Fate::HandedOff);
        handed.map(|(_, reason)| *reason)
    }

    /// What may be said now.
    pub(super) fn verdict(&self) -> Verdict {
        let durable = |fate: &Fate| matches!(fate, Fate::Delivered | Fate::HandedOff);
        if self.fates.iter().all(durable) {
            let handed_off = self.fates.iter().filter(|fate| **fate == Fate::HandedOff).count();
            return Verdict::Accepted { handed_off };
        }
        let risk = self.fates.iter().any(durable) || self.unknown.iter().any(|unknown| *unknown);
        match (risk, self.refused_by_all()) {
            (true, _) => Verdict::Silence,
            (false, Some(reply)) => Verdict::Never(reply),
            (false, None) => Verdict::Later,
        }
    }
}

/// What goes to a store of its own, by that store.
pub(super) fn by_store(items: &[Item]) -> BTreeMap<StoreName, Vec<usize>> {
    let mut stores: BTreeMap<StoreName, Vec<usize>> = BTreeMap::new();
    for (at, item) in items.iter().enumerate() {
        if let Some(store) = item.store() {
            stores.entry(store.clone()).or_default().push(at);
        }
    }
    stores
}

/// Places for a hand-off, best first: stores that take part, then those offered; never one that is away.
pub(super) fn places(part: &[StoreName], offered: &[StoreName], away: &[StoreName]) -> Vec<StoreName> {
    let mut places: Vec<StoreName> = Vec::new();
    for store in part.iter().chain(offered) {
        if !away.contains(store) && !places.contains(store) {
            places.push(store.clone());
        }
    }
    places
}

#[cfg(test)]
mod tests;
