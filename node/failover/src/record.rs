//! The store's Lease, read and written: the one arbiter of who holds a store, at which epoch, with which copies.

use std::{collections::BTreeMap, fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::Millis;

/// Annotations of the Lease.
pub mod keys {
    /// Replica id of the holder.
    pub const REPLICA: &str = "mailcluster.io/replica";
    /// `v<version>:<id>,<id>`: the replicas that have every acknowledged record.
    pub const IN_SYNC: &str = "mailcluster.io/in-sync";
    /// How many members the in-sync set must have for writes: 1 or 2.
    pub const MIN_IN_SYNC: &str = "mailcluster.io/min-in-sync";
    /// `<epoch>/<seq>` of the last commit known at the last renewal.
    pub const POSITION: &str = "mailcluster.io/position";
    /// `durability=<Single|Preferred|Required>,fencing=<Proof|Statement|LeaseExpired>`: the rules the holder relies on.
    pub const IN_FORCE: &str = "mailcluster.io/in-force";
    /// Replica id that the holder hands the store to.
    pub const TRANSFER_TO: &str = "mailcluster.io/transfer-to";
    /// `<replica id>@<boot id>` of a replica whose sync failed.
    pub const POISONED: &str = "mailcluster.io/poisoned";
    /// `<boot id>:<ms>,<ms>`: when the holder's latest processes started, by CLOCK_BOOTTIME of that boot.
    pub const STARTS: &str = "mailcluster.io/starts";
    /// `<node>@<boot id>` where the holder's process runs, as it sees them itself.
    pub const SEAT: &str = "mailcluster.io/seat";
    /// The epoch at which a person let a replica take the store that need not have had everything.
    pub const FORCED: &str = "mailcluster.io/forced";
}

/// A text that is not what the protocol puts there. Whoever meets it decides nothing from the record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the lease's {field} is not understood: {text:?}")]
pub struct RecordError {
    field: &'static str,
    text: String,
}

impl RecordError {
    fn new(field: &'static str, text: &str) -> Self {
        Self { field, text: text.chars().take(100).collect() }
    }
}

/// How many copies an acknowledgement wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Durability {
    /// One copy: the volume itself is what moves.
    Single,
    /// Two where two are there; alone after recording it.
    Preferred,
    /// Two at least.
    Required,
}

/// What must be known of a dead holder before another process may open its volume; later is stricter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum FencingMinimum {
    /// That its lease ran out. Never safe for a frozen process on a volume two nodes can reach.
    LeaseExpired,
    /// That somebody said so: the Node object is gone, or tainted out-of-service.
    Statement,
    /// That it is dead: the kubelet's confirmation, a new boot id, a fence that read back Off, a person.
    Proof,
}

/// The rules that the holder goes by; the operator uses the stricter of these and the spec's (E2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InForce {
    /// How many copies an acknowledgement wants.
    pub durability: Durability,
    /// What a takeover of this holder wants.
    pub fencing: FencingMinimum,
}

impl InForce {
    /// Members that the in-sync set must have for writes.
    #[must_use]
    pub fn min_in_sync(self) -> usize {
        if self.durability == Durability::Required { 2 } else { 1 }
    }
}

/// A process: pod UID and an id drawn at its start. Never a pod's name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Holder {
    /// `metadata.uid` of the pod.
    pub pod_uid: String,
    /// Drawn at each process start.
    pub start_id: String,
}

/// A place in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Position {
    /// The epoch it was written at.
    pub epoch: u64,
    /// The record's sequence number.
    pub seq: u64,
}

/// A replica whose sync failed, and the boot on which it did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Poisoned {
    /// The replica.
    pub replica: String,
    /// `/proc/sys/kernel/random/boot_id`.
    pub boot_id: String,
}

/// When the holder's processes started, newest last, by CLOCK_BOOTTIME of one boot.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Starts {
    /// The boot they belong to.
    pub boot_id: String,
    /// Milliseconds of CLOCK_BOOTTIME.
    pub at: Vec<Millis>,
}

impl Starts {
    /// More than these are never kept.
    const KEPT: usize = 8;

    /// How many starts on `boot_id` lie within `window` before `now`.
    #[must_use]
    pub fn within(&self, boot_id: &str, now: Millis, window: Millis) -> usize {
        if self.boot_id != boot_id {
            return 0;
        }
        self.at.iter().filter(|at| **at <= now && now - **at < window).count()
    }

    /// The list with one more start in it; another boot's are forgotten.
    #[must_use]
    pub fn and(&self, boot_id: &str, now: Millis) -> Self {
        let mut at = if self.boot_id == boot_id { self.at.clone() } else { Vec::new() };
        at.push(now);
        let drop = at.len().saturating_sub(Self::KEPT);
        Self { boot_id: boot_id.to_owned(), at: at.split_off(drop) }
    }
}

/// What the Lease says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseRecord {
    /// The process that holds the store; `None` when it was released or never held.
    pub holder: Option<Holder>,
    /// `leaseTransitions`.
    pub epoch: u64,
    /// Replica id of the holder.
    pub replica: Option<String>,
    /// The replicas that have every acknowledged record.
    pub in_sync: Vec<String>,
    /// Rises with every change of `in_sync`.
    pub in_sync_version: u64,
    /// Members wanted for writes.
    pub min_in_sync: usize,
    /// The last commit known at the last renewal.
    pub position: Position,
    /// The holder's rules.
    pub in_force: Option<InForce>,
    /// Whom the holder hands the store to.
    pub transfer_to: Option<String>,
    /// A replica whose sync failed.
    pub poisoned: Option<Poisoned>,
    /// The holder's process starts.
    pub starts: Starts,
    /// Node and boot of the holder's process, as it sees them itself.
    pub seat: Option<String>,
    /// The epoch of the last forced takeover. It stays: whoever holds the store has an EpochStart in its log that says so,
    /// or begins one, also when the process that was let in ended before it could.
    pub forced: Option<u64>,
}

impl LeaseRecord {
    /// A store's first record: epoch 0, no holder, the replicas that the operator has drawn.
    #[must_use]
    pub fn initial(in_sync: Vec<String>, min_in_sync: usize) -> Self {
        Self {
            holder: None,
            epoch: 0,
            replica: None,
            in_sync,
            in_sync_version: 1,
            min_in_sync,
            position: Position::default(),
            in_force: None,
            transfer_to: None,
            poisoned: None,
            starts: Starts::default(),
            seat: None,
            forced: None,
        }
    }

    /// Reads what a Lease carries.
    ///
    /// # Errors
    /// When a field is malformed: nothing may be decided from such a record.
    pub fn parse(
        holder_identity: Option<&str>,
        transitions: Option<i32>,
        annotations: &BTreeMap<String, String>,
    ) -> Result<Self, RecordError> {
        let text = |key: &str| annotations.get(key).map(String::as_str).filter(|t| !t.is_empty());
        let transitions = transitions.unwrap_or(0);
        let epoch = u64::try_from(transitions)
            .map_err(|_| RecordError::new("leaseTransitions", &transitions.to_string()))?;
        let (in_sync_version, in_sync) = in_sync(annotations)?;
        let min_in_sync = text(keys::MIN_IN_SYNC)
            .map(|t| t.parse().map_err(|_| RecordError::new("min-in-sync", t)))
            .transpose()?
            .unwrap_or(1);
        Ok(Self {
            holder: holder_identity.filter(|h| !h.is_empty()).map(str::parse).transpose()?,
            epoch,
            replica: text(keys::REPLICA).map(str::to_owned),
            in_sync,
            in_sync_version,
            min_in_sync,
            position: text(keys::POSITION).map(str::parse).transpose()?.unwrap_or_default(),
            in_force: text(keys::IN_FORCE).map(str::parse).transpose()?,
            transfer_to: text(keys::TRANSFER_TO).map(str::to_owned),
            poisoned: text(keys::POISONED).map(parse_poisoned).transpose()?,
            starts: text(keys::STARTS).map(str::parse).transpose()?.unwrap_or_default(),
            seat: text(keys::SEAT).map(str::to_owned),
            forced: text(keys::FORCED)
                .map(|t| t.parse().map_err(|_| RecordError::new("forced", t)))
                .transpose()?,
        })
    }

    /// `holderIdentity`; `None` when nobody holds it.
    #[must_use]
    pub fn holder_identity(&self) -> Option<String> {
        self.holder.as_ref().map(ToString::to_string)
    }

    /// `leaseTransitions`; saturates far beyond any epoch that is ever reached.
    #[must_use]
    pub fn transitions(&self) -> i32 {
        i32::try_from(self.epoch).unwrap_or(i32::MAX)
    }

    /// Every annotation of the protocol; an empty text where there is nothing, so that an old one is overwritten.
    #[must_use]
    pub fn annotations(&self) -> BTreeMap<String, String> {
        let or_empty = |text: Option<String>| text.unwrap_or_default();
        let poisoned = self.poisoned.as_ref().map(|p| format!("{}@{}", p.replica, p.boot_id));
        [
            (keys::REPLICA, or_empty(self.replica.clone())),
            (keys::IN_SYNC, format!("v{}:{}", self.in_sync_version, self.in_sync.join(","))),
            (keys::MIN_IN_SYNC, self.min_in_sync.to_string()),
            (keys::POSITION, self.position.to_string()),
            (keys::IN_FORCE, or_empty(self.in_force.map(|i| i.to_string()))),
            (keys::TRANSFER_TO, or_empty(self.transfer_to.clone())),
            (keys::POISONED, or_empty(poisoned)),
            (keys::STARTS, self.starts.to_string()),
            (keys::SEAT, or_empty(self.seat.clone())),
            (keys::FORCED, or_empty(self.forced.map(|epoch| epoch.to_string()))),
        ]
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value))
        .collect()
    }

    /// Is this process the holder at this epoch?
    #[must_use]
    pub fn held_by(&self, me: &Holder, epoch: u64) -> bool {
        self.epoch == epoch && self.holder.as_ref() == Some(me)
    }
}

/// The version of the set of replicas that have every acknowledged record, and they, as a Lease's annotations name them;
/// version 0 and nobody where there is no such annotation.
///
/// # Errors
/// When it is malformed.
pub fn in_sync(annotations: &BTreeMap<String, String>) -> Result<(u64, Vec<String>), RecordError> {
    let text = annotations.get(keys::IN_SYNC).filter(|text| !text.is_empty());
    Ok(text.map(|text| parse_in_sync(text)).transpose()?.unwrap_or_default())
}

fn parse_in_sync(text: &str) -> Result<(u64, Vec<String>), RecordError> {
    let error = || RecordError::new("in-sync", text);
    let (version, ids) = text.strip_prefix('v').and_then(|t| t.split_once(':')).ok_or_else(error)?;
    let version = version.parse().map_err(|_| error())?;
    Ok((version, ids.split(',').filter(|id| !id.is_empty()).map(str::to_owned).collect()))
}

fn parse_poisoned(text: &str) -> Result<Poisoned, RecordError> {
    let (replica, boot_id) = text.split_once('@').ok_or_else(|| RecordError::new("poisoned", text))?;
    Ok(Poisoned { replica: replica.to_owned(), boot_id: boot_id.to_owned() })
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.pod_uid, self.start_id)
    }
}

impl FromStr for Holder {
    type Err = RecordError;

    fn from_str(text: &str) -> Result<Self, RecordError> {
        match text.split_once('/') {
            Some((pod_uid, start_id)) if !pod_uid.is_empty() && !start_id.is_empty() => {
                Ok(Self { pod_uid: pod_uid.to_owned(), start_id: start_id.to_owned() })
            }
            _ => Err(RecordError::new("holderIdentity", text)),
        }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.epoch, self.seq)
    }
}

impl FromStr for Position {
    type Err = RecordError;

    fn from_str(text: &str) -> Result<Self, RecordError> {
        text.split_once('/')
            .and_then(|(epoch, seq)| Some(Self { epoch: epoch.parse().ok()?, seq: seq.parse().ok()? }))
            .ok_or_else(|| RecordError::new("position", text))
    }
}

impl fmt::Display for InForce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "durability={:?},fencing={:?}", self.durability, self.fencing)
    }
}

impl FromStr for InForce {
    type Err = RecordError;

    fn from_str(text: &str) -> Result<Self, RecordError> {
        let error = || RecordError::new("in-force", text);
        let (durability, fencing) =
            text.strip_prefix("durability=").and_then(|t| t.split_once(",fencing=")).ok_or_else(error)?;
        Ok(Self { durability: durability.parse()?, fencing: fencing.parse()? })
    }
}

impl FromStr for Durability {
    type Err = RecordError;

    fn from_str(text: &str) -> Result<Self, RecordError> {
        match text {
            "Single" => Ok(Self::Single),
            "Preferred" => Ok(Self::Preferred),
            "Required" => Ok(Self::Required),
            _ => Err(RecordError::new("durability", text)),
        }
    }
}

impl FromStr for FencingMinimum {
    type Err = RecordError;

    fn from_str(text: &str) -> Result<Self, RecordError> {
        match text {
            "LeaseExpired" => Ok(Self::LeaseExpired),
            "Statement" => Ok(Self::Statement),
            "Proof" => Ok(Self::Proof),
            _ => Err(RecordError::new("fencing minimum", text)),
        }
    }
}

impl fmt::Display for Starts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at: Vec<String> = self.at.iter().map(ToString::to_string).collect();
        write!(f, "{}:{}", self.boot_id, at.join(","))
    }
}

impl FromStr for Starts {
    type Err = RecordError;

    fn from_str(text: &str) -> Result<Self, RecordError> {
        let error = || RecordError::new("starts", text);
        let (boot_id, at) = text.split_once(':').ok_or_else(error)?;
        let at = at
            .split(',')
            .filter(|t| !t.is_empty())
            .map(|t| t.parse().map_err(|_| error()))
            .collect::<Result<_, _>>()?;
        Ok(Self { boot_id: boot_id.to_owned(), at })
    }
}
