//! What a store's refusals are in LMTP.

use mailcluster_proto_smtp::{DataFault, Reply};
use mailcluster_store::Refusal;

/// A recipient that came from a queue or frontend must never be told "unknown" because of what this store lacks
/// (invariant I10): only quota, size and an account's tombstone are final.
pub(super) fn reply(refusal: &Refusal) -> Reply {
    match refusal {
        Refusal::Full => Reply::new(452, "4.3.1 the store is nearly full"),
        Refusal::OverQuota => Reply::new(552, "5.2.2 mailbox over quota"),
        Refusal::TooLarge { limit } => Reply::with(552, format!("5.3.4 message larger than {limit} octets")),
        Refusal::AccountDeleted(_) => Reply::new(550, "5.1.1 the mailbox was deleted"),
        Refusal::NoSuchAccount(_) => Reply::new(451, "4.3.0 the account is not here yet, or not any more"),
        Refusal::NoSuchMailbox
        | Refusal::AlreadyExists
        | Refusal::UseTaken
        | Refusal::NoSuchScript
        | Refusal::ScriptIsActive
        | Refusal::TooManyScripts { .. }
        | Refusal::BadName(_)
        | Refusal::NotAllowed(_)
        | Refusal::Stale => Reply::new(451, "4.3.0 cannot be delivered now"),
    }
}

/// What a faulty message is told, once its end was read.
pub(super) fn fault(fault: DataFault) -> Reply {
    match fault {
        DataFault::BareNewline => Reply::new(550, "5.6.11 bare CR or LF in message"),
        DataFault::Nul => Reply::new(550, "5.6.0 NUL in message"),
        DataFault::LineTooLong => Reply::new(550, "5.6.0 line too long in message"),
        DataFault::TooLarge => Reply::new(552, "5.3.4 message too large"),
    }
}
