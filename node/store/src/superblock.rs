//! The superblock: whose volume this is, what it has promised, and whether it was poisoned.
//!
//! Written whole to a temporary file, synced, renamed and the directory synced; so there is always one that is
//! whole. Magic `MCSTORE1`, format u32, length u32, CRC-32C u32 (little-endian), then a protobuf.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use mailcluster_types::{ClusterId, ReplicaId, StoreName};
use prost::Message as _;

use crate::{
    disk::Disk,
    error::OpenError,
    replica::{Identity, StoreKind},
};

/// The on-disk format of a volume whose log is all there.
pub const FORMAT: u32 = 1;
/// That of a volume on which a snapshot takes the place of what was there: a version that does not know of snapshots must
/// not open what is half-way between two states.
const INSTALLING: u32 = 2;
/// That of a volume on which a part of the log was given back: a version that does not know of packs must not open it.
const PACKED: u32 = 3;
/// The newest on-disk format that this version reads.
const NEWEST: u32 = PACKED;
const MAGIC: &[u8; 8] = b"MCSTORE1";
const PREFIX: usize = 20;

/// What the superblock says.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Superblock {
    /// Cluster id, 16 octets.
    #[prost(bytes = "vec", tag = "1")]
    pub cluster: Vec<u8>,
    /// The store.
    #[prost(string, tag = "2")]
    pub store: String,
    /// Replica id, 16 octets.
    #[prost(bytes = "vec", tag = "3")]
    pub replica: Vec<u8>,
    /// 1 mail, 2 directory.
    #[prost(uint32, tag = "4")]
    pub kind: u32,
    /// Initialisation is complete.
    #[prost(bool, tag = "5")]
    pub ready: bool,
    /// Highest epoch promised.
    #[prost(uint64, tag = "6")]
    pub promise: u64,
    /// The boot id on which a sync failed; empty when none did.
    #[prost(string, tag = "7")]
    pub poisoned: String,
    /// A whole snapshot takes the place of index and log; whoever opens the volume finishes that first.
    #[prost(bool, tag = "8")]
    pub installing: bool,
    /// From this record on the log has no gaps; 0: it has none at all.
    #[prost(uint64, tag = "9")]
    pub contiguous_from: u64,
}

impl Superblock {
    /// That of a new replica.
    pub fn new(identity: &Identity) -> Self {
        Self {
            cluster: identity.cluster.to_bytes().to_vec(),
            store: identity.store.as_str().to_owned(),
            replica: identity.replica.to_bytes().to_vec(),
            kind: match identity.kind {
                StoreKind::Mail => 1,
                StoreKind::Directory => 2,
            },
            ready: false,
            promise: 0,
            poisoned: String::new(),
            installing: false,
            contiguous_from: 0,
        }
    }

    /// Whose volume it is; `None` when the fields make no sense.
    pub fn identity(&self) -> Option<Identity> {
        Some(Identity {
            cluster: ClusterId::from_slice(&self.cluster)?,
            store: StoreName::from(self.store.as_str()),
            replica: ReplicaId::from_slice(&self.replica)?,
            kind: match self.kind {
                1 => StoreKind::Mail,
                2 => StoreKind::Directory,
                _ => return None,
            },
        })
    }

    /// The format that the volume has.
    pub fn format(&self) -> u32 {
        match self {
            Self { contiguous_from: 1.., .. } => PACKED,
            Self { installing: true, .. } => INSTALLING,
            _ => FORMAT,
        }
    }

    fn encode_file(&self) -> Vec<u8> {
        let body = self.encode_to_vec();
        let mut out = Vec::with_capacity(PREFIX + body.len());
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&self.format().to_le_bytes());
        out.extend_from_slice(&u32::try_from(body.len()).unwrap_or(u32::MAX).to_le_bytes());
        out.extend_from_slice(&crc32c::crc32c(&body).to_le_bytes());
        out.extend_from_slice(&body);
        out
    }

    /// Reads the superblock of `dir`.
    pub fn read(dir: &Path) -> Result<Self, OpenError> {
        let name = dir.display().to_string();
        let bytes = match fs::read(path(dir)) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Err(absent(dir)),
            Err(source) => return Err(OpenError::Io { dir: name, source }),
        };
        decode_file(&bytes).map_err(|problem| match problem {
            Problem::Newer(found) => OpenError::NewerFormat { dir: name, found, supported: NEWEST },
            Problem::Damaged => OpenError::Damaged(format!("{} (superblock)", path(dir).display())),
        })
    }

    /// Writes it durably.
    pub fn write(&self, disk: &Arc<dyn Disk>, dir: &Path) -> io::Result<()> {
        let temporary = dir.join("superblock.new");
        let mut file = disk.create(&temporary)?;
        file.write_at(0, &self.encode_file())?;
        file.sync()?;
        disk.rename(&temporary, &path(dir))?;
        disk.sync_dir(dir)
    }
}

enum Problem {
    Newer(u32),
    Damaged,
}

fn decode_file(bytes: &[u8]) -> Result<Superblock, Problem> {
    let prefix: &[u8; PREFIX] =
        bytes.get(..PREFIX).and_then(|p| p.try_into().ok()).ok_or(Problem::Damaged)?;
    let u32_at = |at: usize| u32::from_le_bytes([prefix[at], prefix[at + 1], prefix[at + 2], prefix[at + 3]]);
    if &prefix[..8] != MAGIC {
        return Err(Problem::Damaged);
    }
    if u32_at(8) > NEWEST {
        return Err(Problem::Newer(u32_at(8)));
    }
    let length = usize::try_from(u32_at(12)).map_err(|_| Problem::Damaged)?;
    let body = bytes[PREFIX..].get(..length).ok_or(Problem::Damaged)?;
    if crc32c::crc32c(body) != u32_at(16) {
        return Err(Problem::Damaged);
    }
    Superblock::decode(body).map_err(|_| Problem::Damaged)
}

/// Why there is no superblock: an empty volume, or something else's.
fn absent(dir: &Path) -> OpenError {
    match is_empty(dir) {
        Ok(true) => OpenError::Empty(dir.display().to_string()),
        Ok(false) => OpenError::Damaged(format!("{} (no superblock, yet not empty)", dir.display())),
        Err(e) if e.kind() == io::ErrorKind::NotFound => OpenError::Empty(dir.display().to_string()),
        Err(source) => OpenError::Io { dir: dir.display().to_string(), source },
    }
}

/// Is there nothing in the directory but what a file system or an interrupted initialisation puts there?
pub fn is_empty(dir: &Path) -> io::Result<bool> {
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name();
        if !["lost+found", "lock", "superblock.new", "probe", "probe.renamed"].iter().any(|n| name == *n) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Where the superblock lies.
pub fn path(dir: &Path) -> PathBuf {
    dir.join("superblock")
}

#[cfg(test)]
#[allow(clippy::panic, reason = "tests")]
mod tests {
    use super::*;
    use crate::disk::RealDisk;

    #[test]
    fn a_newer_format_and_damage_are_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(Superblock::read(dir.path()), Err(OpenError::Empty(_))));
        let block = Superblock { store: "m-0".into(), promise: 7, ..Superblock::default() };
        block.write(&(Arc::new(RealDisk) as Arc<dyn Disk>), dir.path()).unwrap();
        assert_eq!(Superblock::read(dir.path()).unwrap(), block);
        let good = fs::read(path(dir.path())).unwrap();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0x40;
            fs::write(path(dir.path()), &bad).unwrap();
            let newer = (8..12).contains(&at);
            match Superblock::read(dir.path()) {
                Err(OpenError::NewerFormat { .. }) if newer => {}
                Err(OpenError::Damaged(_)) if !newer => {}
                other => panic!("octet {at}: {other:?}"),
            }
        }
    }
}
