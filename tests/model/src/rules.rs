//! Rules that can be left out, to see that the model finds what each prevents.

/// A rule of the protocol, by the schedule in docs/failover.md that it closes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Rule {
    /// A1: holder, epoch and in-sync set are one object, replaced as a whole.
    OneObject,
    /// B2: while a change of the set is under way, both sets must confirm.
    Union,
    /// B3: a replica is its disk's id, not its name.
    ReplicaIds,
    /// C1: logs are compared by epoch and content, not by position.
    MatchByEpoch,
    /// C3: every process start takes a new epoch.
    NewEpoch,
    /// C4: nothing uncommitted is visible.
    CommitFirst,
    /// C5: nothing is served before the epoch's first record is committed in it.
    Settle,
    /// C5: whoever is let in while a primary settles has all that was in its log when its epoch began, not only what it knows
    /// to be committed.
    AllOfTheLog,
    /// C7: a promise is on disk before anything rests on it.
    DurablePromise,
    /// I7: a mirror refuses epochs below its promise.
    PromiseFirst,
    /// A5: a replica that has seen a higher epoch than the lease says that the lease was rolled back.
    RolledBack,
    /// I3: a forced takeover stands in the lease, so that the next process of the store says it too.
    ForcedInLease,
    /// I2: what lies behind the fork of a forced line is kept whole, not only what is known to be committed.
    KeepForks,
    /// I6: a forced line passes over UIDs that the one before may have given.
    SkipUids,
    /// I6: a forced replica's last records, of which it does not know whether they were committed, get other names where
    /// epochs that it has missed may have given theirs to others.
    NewNames,
    /// I8: nothing is committed by a lease that looks good, only by what the members of the set confirm.
    NoClock,
    /// C6: a primary that is refused because of a promise goes above it.
    GoAbove,
}

impl Rule {
    /// All of them.
    pub const ALL: [Self; 17] = [
        Self::OneObject,
        Self::Union,
        Self::ReplicaIds,
        Self::MatchByEpoch,
        Self::NewEpoch,
        Self::CommitFirst,
        Self::Settle,
        Self::AllOfTheLog,
        Self::DurablePromise,
        Self::PromiseFirst,
        Self::RolledBack,
        Self::ForcedInLease,
        Self::KeepForks,
        Self::SkipUids,
        Self::NewNames,
        Self::NoClock,
        Self::GoAbove,
    ];
}
