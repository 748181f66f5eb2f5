//! Records that came to say more than they did at first. A version that does not know what is new of a field would pass it over:
//! an older mirror would lack it for ever, whatever version its next program is. So a record that uses something new is
//! of another version, which older programs refuse; one that does not is written as ever.

use super::{Deliver, PutDomain, QueuePut, QueueUpdate, Recipient, Stored};

/// The version that knows all of a record.
pub trait Newer {
    /// Does it say something that version 1 does not know?
    fn is_newer(&self) -> bool;

    /// By what it says.
    fn version(&self) -> u8 {
        if self.is_newer() { 2 } else { 1 }
    }
}

impl Newer for Deliver {
    fn is_newer(&self) -> bool {
        !self.met.is_empty() || self.targets.iter().any(Stored::is_newer)
    }
}

impl Newer for Stored {
    fn is_newer(&self) -> bool {
        let Self { system, keywords, also, filtered, seen, detail, .. } = self;
        *system != 0
            || *filtered
            || !(keywords.is_empty() && also.is_empty() && seen.is_empty() && detail.is_empty())
    }
}

impl Newer for PutDomain {
    fn is_newer(&self) -> bool {
        !self.keys.is_empty()
    }
}

impl Newer for Recipient {
    fn is_newer(&self) -> bool {
        !(self.params.is_empty() && self.returned.is_empty())
    }
}

impl Newer for QueuePut {
    fn is_newer(&self) -> bool {
        self.recipients.iter().any(Recipient::is_newer)
    }
}

impl Newer for QueueUpdate {
    /// What a person did to one that stays goes into the history.
    fn is_newer(&self) -> bool {
        self.retry.as_ref().is_some_and(|retry| retry.is_newer() || !self.outcome.is_empty())
    }
}
