//! The lab's cgroups, version 1 and 2: what belongs to a node, and stopping or killing all of it at once.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::paths::instance;
use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

const MOUNT: &str = "/sys/fs/cgroup";

/// The cgroup hierarchies of this machine.
#[derive(Clone, Debug)]
pub(crate) enum Cgroups {
    /// Version 1: the mount points of its controllers.
    V1(Vec<PathBuf>),
    /// Version 2, the unified hierarchy.
    V2,
}

impl Cgroups {
    pub fn detect() -> Result<Self> {
        if Path::new(MOUNT).join("cgroup.controllers").exists() {
            return Ok(Self::V2);
        }
        let hierarchies = mounted("cgroup");
        if !hierarchies.iter().any(|path| path.ends_with("freezer")) {
            bail!(
                "no cgroup hierarchy that can stop a node: neither cgroup v2 at {MOUNT} nor v1's freezer is mounted"
            );
        }
        Ok(Self::V1(hierarchies))
    }

    pub fn version(&self) -> &'static str {
        match self {
            Self::V1(_) => "v1",
            Self::V2 => "v2",
        }
    }

    /// The hierarchy that tells which processes belong to the lab.
    fn tracking(&self) -> PathBuf {
        match self {
            Self::V1(_) => Path::new(MOUNT).join("freezer"),
            Self::V2 => PathBuf::from(MOUNT),
        }
    }

    /// The folder to whose `cgroup.procs` a process of the group is written.
    pub fn processes_of(&self, group: &str) -> PathBuf {
        self.tracking().join(instance()).join(group).join("system")
    }

    /// The group's folder in the tracking hierarchy.
    pub fn folder(&self, group: &str) -> PathBuf {
        self.tracking().join(instance()).join(group)
    }

    /// Makes the cgroup of a node, in which its kubelet then makes the pods' ones.
    pub fn create(&self, group: &str) -> Result<()> {
        match self {
            Self::V1(hierarchies) => {
                for hierarchy in hierarchies {
                    let mut folder = hierarchy.clone();
                    for part in [instance(), group] {
                        let parent = folder.clone();
                        folder = folder.join(part);
                        fs::create_dir_all(&folder)?;
                        // A new cpuset is empty, and nothing can enter it.
                        for file in ["cpuset.cpus", "cpuset.mems"] {
                            if let Ok(value) = fs::read_to_string(parent.join(file)) {
                                fs::write(folder.join(file), value.trim())?;
                            }
                        }
                    }
                }
            }
            Self::V2 => {
                let mut folder = PathBuf::from(MOUNT);
                for part in [instance(), group] {
                    delegate(&folder)?;
                    folder = folder.join(part);
                    fs::create_dir_all(&folder)?;
                }
                delegate(&folder)?;
            }
        }
        fs::create_dir_all(self.processes_of(group)).context("failed to make a cgroup")
    }

    /// Every process of the group and of the cgroups under it.
    pub fn pids(&self, group: &str) -> Vec<i32> {
        let mut found = Vec::new();
        collect(&self.tracking().join(instance()).join(group), &mut found);
        found
    }

    /// Stops every process of the group where it is, as if time stood still.
    pub fn freeze(&self, group: &str) -> Result<()> {
        let folder = self.folder(group);
        let (file, word, state, sign) = match self {
            Self::V1(_) => ("freezer.state", "FROZEN", "freezer.state", "FROZEN"),
            Self::V2 => ("cgroup.freeze", "1", "cgroup.events", "frozen 1"),
        };
        fs::write(folder.join(file), word)?;
        let deadline = Instant::now() + Duration::from_secs(5);
        while !fs::read_to_string(folder.join(state))?.contains(sign) {
            if Instant::now() > deadline {
                bail!("the processes of {group} could not be frozen within 5 s");
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }

    fn thaw(&self, group: &str) {
        let (file, word) = match self {
            Self::V1(_) => ("freezer.state", "THAWED"),
            Self::V2 => ("cgroup.freeze", "0"),
        };
        let _not_frozen = fs::write(self.folder(group).join(file), word);
    }

    /// Kills every process of the group, frozen or not, and waits until none is left.
    pub fn kill(&self, group: &str) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let pids = self.pids(group);
            signal_all(&pids, Signal::KILL);
            // Only a thawed process can die in version 1; it does so before it runs another instruction.
            self.thaw(group);
            if pids.is_empty() {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!("processes of {group} survive SIGKILL: {pids:?}");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Removes the group's cgroups (`""`: all of the lab's) from every hierarchy; they must hold no process.
    pub fn remove(&self, group: &str) -> Result<()> {
        // Beside version 1 there may be a unified hierarchy, in which the kubelet leaves folders too.
        for hierarchy in mounted("cgroup").into_iter().chain(mounted("cgroup2")) {
            let folder = hierarchy.join(instance()).join(group);
            let deadline = Instant::now() + Duration::from_secs(10);
            while folder.is_dir() && !remove_tree(&folder) {
                if Instant::now() > deadline {
                    bail!("failed to remove the cgroup {}", folder.display());
                }
                std::thread::sleep(Duration::from_millis(50));
            }
        }
        Ok(())
    }
}

/// The mount points of a type of file system.
fn mounted(kind: &str) -> Vec<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let fields = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    fields.filter(|f| f.len() > 2 && f[2] == kind).map(|f| PathBuf::from(f[1])).collect()
}

/// Lets the children of a version 2 cgroup have every controller there is.
fn delegate(folder: &Path) -> Result<()> {
    let controllers = fs::read_to_string(folder.join("cgroup.controllers"))?;
    for controller in controllers.split_whitespace() {
        // One that cannot be had (a real-time group in use, say) isn't needed by the kubelet.
        let _optional = fs::write(folder.join("cgroup.subtree_control"), format!("+{controller}"));
    }
    Ok(())
}

/// The processes of a cgroup and those under it.
pub(crate) fn collect(folder: &Path, found: &mut Vec<i32>) {
    let text = fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
    found.extend(text.lines().filter_map(|line| line.parse::<i32>().ok()).filter(|&pid| pid > 0));
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            collect(&entry.path(), found);
        }
    }
}

/// Sends a signal to each; one that is gone already doesn't matter.
pub(crate) fn signal_all(pids: &[i32], signal: Signal) {
    for pid in pids.iter().filter_map(|&pid| Pid::from_raw(pid)) {
        let _gone = kill_process(pid, signal);
    }
}

fn remove_tree(folder: &Path) -> bool {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_tree(&entry.path());
        }
    }
    fs::remove_dir(folder).is_ok()
}
