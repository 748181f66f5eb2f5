//! Ids that are derived: of mail that scripts send, and of what they remember. Messages come from strangers, so that the
//! hash is one whose collisions nobody finds.

use mailcluster_types::{AccountId, DeliveryId};
use ring::digest::{Context, SHA256};

/// What a script sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// The message, sent on.
    Redirect,
    /// An answer of `vacation`.
    Vacation,
    /// A notification; the number says which.
    Notify(u8),
    /// The account is told that its script fails.
    Failure,
}

/// The id of what a script sends about a delivery: always the same one, as old as the delivery's.
pub(super) fn derived(delivery: DeliveryId, account: AccountId, kind: Kind) -> DeliveryId {
    let (name, number) = match kind {
        Kind::Redirect => ("redirect", 0),
        Kind::Vacation => ("vacation", 0),
        Kind::Notify(number) => ("notify", number),
        Kind::Failure => ("failure", 0),
    };
    let hash = hash(&[name.as_bytes(), &[number], &delivery.to_bytes(), &account.to_bytes()]);
    let random = u128::from_be_bytes(hash) & ((1 << 80) - 1);
    DeliveryId(delivery.0 >> 80 << 80 | random)
}

/// What `duplicate` remembers under a handle.
pub(super) fn duplicate(handle: &str, id: &[u8]) -> [u8; 16] {
    hash(&[b"duplicate", handle.as_bytes(), id])
}

/// That a sender has had an answer of `vacation`.
pub(super) fn answered(track: &[u8], sender: &str) -> [u8; 16] {
    hash(&[b"vacation", track, sender.to_lowercase().as_bytes()])
}

/// That the account was told of a script that fails.
pub(super) fn told() -> [u8; 16] {
    hash(&[b"failure"])
}

fn hash(parts: &[&[u8]]) -> [u8; 16] {
    let mut context = Context::new(&SHA256);
    for part in parts {
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part);
    }
    let mut short = [0; 16];
    for (octet, full) in short.iter_mut().zip(context.finish().as_ref()) {
        *octet = *full;
    }
    short
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn each_thing_has_its_own_id_and_always_the_same() {
        let mut all = HashSet::new();
        for (delivery, account) in [(7, 1), (7, 2), (8, 1)] {
            let delivery = DeliveryId(1 << 90 | delivery);
            for kind in [Kind::Redirect, Kind::Vacation, Kind::Notify(0), Kind::Notify(1), Kind::Failure] {
                let id = derived(delivery, AccountId(account), kind);
                assert_eq!(id, derived(delivery, AccountId(account), kind));
                assert_eq!(id.0 >> 80, delivery.0 >> 80, "as old as the delivery");
                assert!(all.insert(id.0) && id != delivery, "{kind:?}");
            }
        }
        assert_ne!(duplicate("a", b"bc"), duplicate("ab", b"c"));
        assert_eq!(answered(b"t", "Ann@Example.org"), answered(b"t", "ann@example.org"));
        assert_ne!(answered(b"t", "ann@example.org"), answered(b"u", "ann@example.org"));
    }
}
