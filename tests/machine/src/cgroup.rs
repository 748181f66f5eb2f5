//! The lab's cgroups, version 1 and 2: what belongs to a node, and stopping or killing all of it at once.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::paths::instance;
use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

const MOUNT: &str = "/sys/fs/cgroup";
/// What a kubelet cannot do without.
const CONTROLLERS: [&str; 4] = ["cpu", "cpuset", "memory", "pids"];

/// The cgroup hierarchies of this machine.
#[derive(Clone, Debug)]
pub enum Cgroups {
    /// Version 1: the mount points of its controllers.
    V1(Vec<PathBuf>),
    /// Version 2, the unified hierarchy.
    V2,
}

impl Cgroups {
    /// What this machine has.
    ///
    /// # Errors
    /// No hierarchy that can stop a node is mounted.
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

    /// The version, with how far it has been tried.
    pub fn version(&self) -> &'static str {
        match self {
            Self::V1(_) => "v1 (the lab's tests run on it)",
            Self::V2 => "v2 (written for, never tried)",
        }
    }

    /// Why a node's kubelet would not find here what it needs; nothing when it would.
    pub fn lack(&self) -> Option<String> {
        match self {
            Self::V1(hierarchies) => {
                let has = |controller: &str| {
                    hierarchies
                        .iter()
                        .filter_map(|path| path.file_name()?.to_str())
                        .any(|name| name.split(',').any(|part| part == controller))
                };
                let missing: Vec<_> = CONTROLLERS.into_iter().filter(|controller| !has(controller)).collect();
                (!missing.is_empty())
                    .then(|| format!("cgroup controllers are missing: {}", missing.join(", ")))
            }
            Self::V2 => delegate(Path::new(MOUNT)).err().map(|error| format!("{error:#}")),
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
        if !folder.is_dir() {
            // Nothing of it was ever started.
            return Ok(());
        }
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

/// What the cgroup that this process is in, and those above it, may use of memory; nothing where no limit is set.
pub fn memory_limit() -> Option<u64> {
    let own = fs::read_to_string("/proc/self/cgroup").ok()?;
    let (mount, path) = own.lines().find_map(|line| {
        let (_, rest) = line.split_once(':')?;
        match rest.split_once(':')? {
            ("", path) => Some((PathBuf::from(MOUNT), path)),
            (controllers, path) if controllers.split(',').any(|name| name == "memory") => {
                Some((Path::new(MOUNT).join("memory"), path))
            }
            _ => None,
        }
    })?;
    let groups = Path::new(path).ancestors().map(|part| mount.join(part.strip_prefix("/").unwrap_or(part)));
    let files = groups.flat_map(|group| ["memory.max", "memory.limit_in_bytes"].map(|name| group.join(name)));
    // "max", or a number near 2^63 that stands for it.
    let limits = files.filter_map(|file| fs::read_to_string(file).ok()?.trim().parse::<u64>().ok());
    limits.filter(|limit| *limit < 1 << 60).min()
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
    let given = folder.join("cgroup.subtree_control");
    for controller in controllers.split_whitespace() {
        // One that cannot be had (a real-time group in use, say) may be one that isn't needed.
        let _optional = fs::write(&given, format!("+{controller}"));
    }
    let given = fs::read_to_string(given)?;
    let missing = not_given(&given);
    if missing.is_empty() {
        return Ok(());
    }
    // In a container with a cgroup namespace of its own the container's processes are in the root group, and
    // version 2 gives nothing to the children of a group with processes.
    bail!(
        "the cgroup {} cannot give its children {} (in a container: its processes must be moved to a group of their own first)",
        folder.display(),
        missing.join(", ")
    )
}

/// Which of those that are needed a `cgroup.subtree_control` lacks.
fn not_given(subtree_control: &str) -> Vec<&'static str> {
    let given: Vec<&str> = subtree_control.split_whitespace().collect();
    CONTROLLERS.into_iter().filter(|controller| !given.contains(controller)).collect()
}

/// The processes of a cgroup and those under it.
pub fn collect(folder: &Path, found: &mut Vec<i32>) {
    let text = fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
    found.extend(text.lines().filter_map(|line| line.parse::<i32>().ok()).filter(|&pid| pid > 0));
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            collect(&entry.path(), found);
        }
    }
}

/// Sends a signal to each; one that is gone already doesn't matter.
pub fn signal_all(pids: &[i32], signal: Signal) {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_group_does_not_give_is_named() {
        assert!(not_given("cpuset cpu io memory hugetlb pids\n").is_empty());
        assert_eq!(not_given("cpu pids\n"), ["cpuset", "memory"]);
        assert_eq!(not_given(""), CONTROLLERS);
    }

    #[test]
    fn version_1_needs_its_hierarchies_mounted() {
        let v1 = |names: &[&str]| Cgroups::V1(names.iter().map(|name| Path::new(MOUNT).join(name)).collect());
        assert_eq!(v1(&["cpu,cpuacct", "cpuset", "memory", "pids", "freezer"]).lack(), None);
        let said = v1(&["cpu", "cpuset", "pids", "freezer"]).lack();
        assert_eq!(said.as_deref(), Some("cgroup controllers are missing: memory"));
    }
}
