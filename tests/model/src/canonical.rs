//! States that nothing can tell apart are made one, so that a search can come to its end.

use crate::{
    Rule,
    world::{Cluster, Lease, Process, World},
};

/// The version of the lease that was read last.
pub const NOW: u8 = 1;

impl Cluster {
    /// A resourceVersion is compared with the one there is, and with nothing else: which number it has says nothing. Of a
    /// lease that was read and replaced since, only that much matters, where a takeover replaces the very one it read.
    pub(crate) fn forget(&self, world: &mut World) {
        let now = world.lease.version;
        for replica in &mut world.replicas {
            let Process::Candidate(read, _) = &mut replica.process else { continue };
            match (read.version == now, self.has(Rule::OneObject)) {
                (true, _) => read.version = NOW,
                (false, true) => *read = Lease::void(),
                (false, false) => read.version = 0,
            }
        }
        world.lease.version = NOW;
        if let Some(backup) = &mut world.backup {
            backup.version = 0;
        }
    }
}

impl Lease {
    /// One that was replaced.
    fn void() -> Self {
        Self {
            version: 0,
            holder: None,
            epoch: 0,
            replica: None,
            in_sync: 0,
            set_version: 0,
            position: (0, 0),
            forced: 0,
        }
    }
}
