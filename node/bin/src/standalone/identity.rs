//! Who a standalone node is: drawn once, kept in its data directory, so that a volume put into another node's place
//! is known for what it is.

use std::{
    fs::{self, File},
    io::Write,
    path::Path,
};

use anyhow::{Context, Result};
use mailcluster_store::{Identity, StoreKind};
use mailcluster_types::{ClusterId, ReplicaId};
use serde::{Deserialize, Serialize};

use super::{DIRECTORY, STORE};

/// The file in the data directory.
const FILE: &str = "node.json";

/// Ids of a standalone node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeIdentity {
    cluster: ClusterId,
    store: ReplicaId,
    directory: ReplicaId,
}

impl NodeIdentity {
    /// Reads the ids, or draws them for a new node.
    pub fn load_or_draw(data: &Path) -> Result<Self> {
        let file = data.join(FILE);
        match fs::read(&file) {
            Ok(text) => {
                serde_json::from_slice(&text).with_context(|| format!("{} is damaged", file.display()))
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Self::draw(data),
            Err(error) => Err(error).with_context(|| format!("failed to read {}", file.display())),
        }
    }

    fn draw(data: &Path) -> Result<Self> {
        let drawn = Self {
            cluster: ClusterId::random()?,
            store: ReplicaId::random()?,
            directory: ReplicaId::random()?,
        };
        let beside = data.join("node.json.new");
        let mut file = File::create(&beside)?;
        file.write_all(&serde_json::to_vec_pretty(&drawn)?)?;
        file.sync_all()?;
        fs::rename(&beside, data.join(FILE))?;
        File::open(data)?.sync_all().context("failed to sync the data directory")?;
        Ok(drawn)
    }

    /// The mail store's identity.
    pub fn store(&self) -> Identity {
        Identity { cluster: self.cluster, store: STORE.into(), replica: self.store, kind: StoreKind::Mail }
    }

    /// The directory's.
    pub fn directory(&self) -> Identity {
        Identity {
            cluster: self.cluster,
            store: DIRECTORY.into(),
            replica: self.directory,
            kind: StoreKind::Directory,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_drawn_once() {
        let dir = std::env::temp_dir().join(format!("mailcluster-identity-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let drawn = NodeIdentity::load_or_draw(&dir).unwrap();
        assert_eq!(NodeIdentity::load_or_draw(&dir).unwrap(), drawn);
        fs::write(dir.join(FILE), "{}").unwrap();
        assert!(NodeIdentity::load_or_draw(&dir).is_err());
        fs::remove_dir_all(dir).unwrap();
    }
}
