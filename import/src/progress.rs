//! How far an import is, and what is to be told of it.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Counts of a whole import, over all accounts.
#[derive(Debug, Default)]
pub struct Progress {
    /// Messages that were appended.
    pub messages: AtomicU64,
    /// Their octets.
    pub octets: AtomicU64,
    /// Messages that stood in the journals when they were opened.
    pub earlier: AtomicU64,
    /// Messages that stood in no journal and were found on the server, octet by octet.
    pub recognised: AtomicU64,
    /// Messages whose flags had changed since, and were changed.
    pub flagged: AtomicU64,
    /// What was not brought.
    pub skipped: AtomicU64,
    /// Messages that are known to be left in folders that are being read.
    pub left: AtomicU64,
}

impl Progress {
    pub(crate) fn add(counter: &AtomicU64, more: u64) {
        counter.fetch_add(more, Relaxed);
    }

    pub(crate) fn take(counter: &AtomicU64, less: u64) {
        counter.fetch_sub(less, Relaxed);
    }
}

/// Something that a person wants to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Something was not brought.
    Skipped {
        /// A file, a place in one, or a folder.
        what: String,
        /// The reason.
        why: String,
    },
    /// It did not go on, and is tried again.
    Waiting {
        /// The reason.
        why: String,
    },
}

/// Who is told of an account's events.
pub type Listener<'a> = &'a (dyn Fn(&str, &Event) + Sync);
