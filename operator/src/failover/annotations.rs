//! Annotations by which people talk to failover, and by which failover remembers. docs/failover.md documents them.

/// On a MailStore: move it, to the node named in the value; `any`: to whichever can take it. Removed when done.
pub const FAILOVER: &str = "mailcluster.io/failover";
/// The value of [`FAILOVER`] that names no node.
pub const ANY: &str = "any";
/// On a Node: the boot id (`status.nodeInfo.bootID`) that a person has seen end; `kubectl mailcluster fence confirm NODE`
/// writes it. On a MailStore: the UID of the holder's pod, for a node whose object is gone.
pub const FENCE_CONFIRMED: &str = "mailcluster.io/fence-confirmed";
/// On a MailStore, `true`: make its Lease anew from what the volume says, even where that is older or newer.
pub const RESTORE_LEASE: &str = "mailcluster.io/restore-lease";
/// On a MailStore: the UID of the pod whose graceful deletion failover asked for.
pub const DELETING: &str = "mailcluster.io/deleting-pod";
/// On a MailStore: the UID of the pod that `status.nodeIdentity` speaks of.
pub const HELD_BY: &str = "mailcluster.io/held-by";
/// On a MailStore: when its own crashes moved it, seconds since 1970, newest last.
pub const CRASH_MOVES: &str = "mailcluster.io/crash-moves";
/// On a MailStore: when its own crashes made the operator restart or move it, seconds since 1970, newest last.
pub const CRASH_TAKEOVERS: &str = "mailcluster.io/crash-takeovers";
/// On a fence Job: the node and the boot it may end.
pub const FENCE_NODE: &str = "mailcluster.io/fence-node";
/// On a fence Job: the boot it may end.
pub const FENCE_BOOT: &str = "mailcluster.io/fence-boot-id";

/// The times in a list of seconds that lie within `window` before `now`.
#[must_use]
pub fn recent(list: Option<&String>, now: i64, window: i64) -> Vec<i64> {
    list.map(String::as_str)
        .unwrap_or_default()
        .split(',')
        .filter_map(|t| t.parse().ok())
        .filter(|t| *t <= now && now - *t < window)
        .collect()
}

/// The same list with `now` at its end, without what is older than an hour.
#[must_use]
pub fn with(list: Option<&String>, now: i64) -> String {
    let mut times = recent(list, now, 3600);
    times.push(now);
    times.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_counted_within_their_window() {
        let list = "100,4000,x,4500,9999".to_owned();
        assert_eq!(recent(Some(&list), 4_600, 900), [4000, 4500]);
        assert_eq!(recent(None, 1, 900), Vec::<i64>::new());
        assert_eq!(with(Some(&list), 4_600), "4000,4500,4600");
    }
}
