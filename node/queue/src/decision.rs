//! The runner's decisions, without I/O and clocks.

use std::time::Duration;

use mailcluster_proto_smtp::Reply;
use mailcluster_store::{QueueItem, QueueRecipient};
use mailcluster_types::{Located, StoreName};

/// Where a recipient's mail should go now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Destination {
    /// To its account on this store.
    Store(StoreName),
    /// The account was deleted.
    Gone,
}

/// Follows an account that has moved since its mail was queued. Only a tombstone that was read ends the waiting: a
/// directory that does not know the account says nothing of where it is, and the store that was recorded is tried
/// (invariant I10).
pub(crate) fn destination(recorded: &StoreName, answer: Option<Located>) -> Destination {
    match answer {
        Some(Located::Deleted) => Destination::Gone,
        Some(Located::On(store)) => Destination::Store(store),
        Some(Located::Unknown) | None => Destination::Store(recorded.clone()),
    }
}

/// Is this recipient to be tried at `now` for `store`?
pub(crate) fn is_due(recipient: &QueueRecipient, store: &StoreName, now: i64) -> bool {
    !recipient.held && recipient.next_attempt <= now && recipient.store.as_ref() == Some(store)
}

/// Has the message waited longer than it may?
pub(crate) fn is_expired(item: &QueueItem, now: i64, max_age: Duration) -> bool {
    let age = u64::try_from(now.saturating_sub(item.queued_at)).unwrap_or(0);
    age > max_age.as_secs()
}

/// 1, 2, 4 … seconds after the first, second, third … failure, at most `limit`.
pub(crate) fn back_off(failures: u32, limit: Duration) -> Duration {
    let doubled = 1u64.checked_shl(failures.saturating_sub(1)).unwrap_or(u64::MAX);
    Duration::from_secs(doubled).min(limit)
}

/// The mark that is committed before an attempt.
pub(crate) fn mark(recipient: &QueueRecipient, now: i64, limit: Duration) -> QueueRecipient {
    let attempts = recipient.attempts.saturating_add(1);
    let wait = i64::try_from(back_off(attempts, limit).as_secs()).unwrap_or(i64::MAX);
    QueueRecipient { attempts, next_attempt: now.saturating_add(wait), ..recipient.clone() }
}

/// Refusals that are about the mailbox or the message, not about the way two programs talk.
pub(crate) fn is_final(reply: &Reply) -> bool {
    (550..=554).contains(&reply.code) && reply.status().is_none_or(|status| !status.starts_with("5.5."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_limit() {
        let seconds = |n| back_off(n, Duration::from_secs(60)).as_secs();
        assert_eq!([1, 2, 3, 4, 6, 7, 64, 65, u32::MAX].map(seconds), [1, 2, 4, 8, 32, 60, 60, 60, 60]);
    }

    #[test]
    fn mail_follows_an_account_that_moved_and_only_a_tombstone_ends_it() {
        let (old, new) = (StoreName::new("old"), StoreName::new("new"));
        for (answer, expected) in [
            (None, Destination::Store(old.clone())),
            (Some(Located::Unknown), Destination::Store(old.clone())),
            (Some(Located::On(new.clone())), Destination::Store(new)),
            (Some(Located::Deleted), Destination::Gone),
        ] {
            assert_eq!(destination(&old, answer.clone()), expected, "{answer:?}");
        }
    }
}
