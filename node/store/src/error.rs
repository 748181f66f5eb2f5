//! What can go wrong, told apart by what the caller must do next.

use mailcluster_types::{AccountId, ReplicaId};

/// The replica may no longer acknowledge: close the connection, say nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this replica may not acknowledge: it lost its lease, epoch or copies")]
pub struct Fenced;

/// Nothing was appended: answer the client NO or 4xx/5xx as the case says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Less is free than what is kept for expunging and flags, which still work: two segments or 5 % of the volume, 4 GiB
    /// at most.
    #[error("the volume is nearly full")]
    Full,
    /// The account's quota would be exceeded.
    #[error("over quota")]
    OverQuota,
    /// The account is not on this store. Never to be read as "unknown user" (invariant I10).
    #[error("account {0} is not on this store")]
    NoSuchAccount(AccountId),
    /// The account was deleted: its tombstone is here. Ids are never given anew, so this is final.
    #[error("account {0} was deleted")]
    AccountDeleted(AccountId),
    /// The mailbox does not exist (any more).
    #[error("no such mailbox")]
    NoSuchMailbox,
    /// A mailbox, alias, domain or account of that name exists.
    #[error("already exists")]
    AlreadyExists,
    /// The account has a mailbox for this special use.
    #[error("another mailbox has this special use")]
    UseTaken,
    /// The mailbox name is empty, too long, has control characters, or an empty level.
    #[error("not a valid mailbox name: {0}")]
    BadName(&'static str),
    /// INBOX cannot be deleted; a mailbox cannot be renamed into itself.
    #[error("not allowed: {0}")]
    NotAllowed(&'static str),
    /// There is no Sieve script of that name.
    #[error("no such script")]
    NoSuchScript,
    /// The active Sieve script cannot be deleted.
    #[error("the script is active")]
    ScriptIsActive,
    /// The account has as many Sieve scripts as it may have.
    #[error("an account has at most {limit} scripts")]
    TooManyScripts {
        /// How many.
        limit: u64,
    },
    /// The message or command is larger than the store takes.
    #[error("larger than {limit} octets")]
    TooLarge {
        /// The limit in octets.
        limit: u64,
    },
    /// The record's generation is not newer than the one held; or what a Sieve script knew has changed since it ran.
    #[error("an equal or newer generation is already here")]
    Stale,
}

/// Why a change was not confirmed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// Nothing was appended.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The change may or may not be on disk: close the connection without an answer (protocol: "after append,
    /// success or a closed connection, never NO").
    #[error("the outcome is unknown: the store stopped")]
    Unknown,
    /// The store does not serve (stopped, fenced or poisoned); nothing was appended.
    #[error("the store does not serve")]
    NotServing,
}

/// Why something could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// It does not exist (any more).
    #[error("not found")]
    NotFound,
    /// A checksum does not match: this one item is damaged (SERVERBUG), others are fine.
    #[error("damaged on disk: {0}")]
    Damaged(String),
    /// Disk or index could not be read.
    #[error("failed to read: {0}")]
    Io(String),
    /// The replica may not serve reads (protocol: may_read).
    #[error("the store does not serve")]
    NotServing,
}

/// Why a replica that follows a primary did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FollowError {
    /// It does not follow the log's end: the two must find out again where their logs part.
    #[error("a batch does not follow this replica's log")]
    Gap,
    /// Another primary was promised, or has been followed, up to this epoch.
    #[error("epoch {0} is promised")]
    Promised(mailcluster_types::Epoch),
    /// What is committed is never cut.
    #[error("records up to {applied} are committed: nothing behind {after} is cut")]
    Committed {
        /// Where the cut was asked for.
        after: mailcluster_types::Seq,
        /// What the index has.
        applied: mailcluster_types::Seq,
    },
    /// A batch is not what its sender says.
    #[error("a batch arrived damaged")]
    Damaged,
    /// Nothing was appended: the volume is full.
    #[error("the volume is full")]
    Full,
    /// A snapshot would touch what is kept free on the volume, beside what is there until it is whole.
    #[error("a snapshot needs {octets} octets more on this volume, and {free} are free")]
    NoRoom {
        /// What it needs.
        octets: u64,
        /// What there is.
        free: u64,
    },
    /// A snapshot is not taken, or could not be; what is here is as it was.
    #[error("the snapshot is not taken: {0}")]
    Snapshot(String),
    /// The index could not be brought up to the log.
    #[error("the index could not be brought up to the log: {0}")]
    Index(String),
    /// The log or the index failed: this replica stops.
    #[error("this replica is poisoned")]
    Broken,
}

/// Why a replica cannot be opened. The text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The volume is empty: it must be initialised on purpose, never in passing.
    #[error("{0} holds no store; it is initialised only when the lease is at epoch 0")]
    Empty(String),
    /// The volume belongs to another cluster, store or replica.
    #[error("{dir} belongs to {found}, expected {expected}: check which volume is mounted here")]
    Foreign {
        /// The directory.
        dir: String,
        /// Whose volume it is.
        found: String,
        /// Whose it should be.
        expected: String,
    },
    /// The directory is not empty and not a store: not initialised over it.
    #[error("{0} is not empty and holds no store: refusing to initialise over it")]
    NotEmpty(String),
    /// Another process has it open.
    #[error("{0} is in use by another process")]
    Locked(String),
    /// A file system that cannot keep promises (NFS, SMB, 9p, tmpfs, overlay, or a failed probe).
    #[error("{dir} is on {kind}, which cannot hold mail safely: {why}")]
    FileSystem {
        /// The directory.
        dir: String,
        /// The file system's name.
        kind: String,
        /// What to do.
        why: String,
    },
    /// Written by a newer version.
    #[error("{dir} has format {found}; this version reads up to {supported}: upgrade this node")]
    NewerFormat {
        /// The directory.
        dir: String,
        /// Its format.
        found: u32,
        /// What this binary reads.
        supported: u32,
    },
    /// A failed sync poisoned the replica on this boot.
    #[error("replica {0} was poisoned by a failed sync: replace the disk or restart the machine")]
    Poisoned(ReplicaId),
    /// The log is damaged below what was once synced.
    #[error(
        "the store is damaged at {0}: nothing was changed; save what can be read with `mailcluster-node store export`"
    )]
    Damaged(String),
    /// The log has a record that this version does not know: it was written by a newer one.
    #[error("record {seq} is of kind {kind} version {version}, unknown to this version: upgrade this node")]
    UnknownRecord {
        /// Its (or its batch's first) sequence.
        seq: mailcluster_types::Seq,
        /// Its kind.
        kind: u16,
        /// The kind's version.
        version: u8,
    },
    /// The epoch is not above the last one, or below what was promised.
    #[error("epoch {epoch} cannot begin: the last one is {last}, promised is {promise}")]
    Epoch {
        /// The epoch asked for.
        epoch: mailcluster_types::Epoch,
        /// The log's last epoch.
        last: mailcluster_types::Epoch,
        /// The highest promise.
        promise: mailcluster_types::Epoch,
    },
    /// Reading or writing failed.
    #[error("failed to open {dir}")]
    Io {
        /// The directory or file.
        dir: String,
        /// The cause.
        source: std::io::Error,
    },
    /// The index could not be opened or replayed.
    #[error("failed to open the index: {0}")]
    Index(String),
}
