//! What this machine must have, checked before anything is started or downloaded: each lack with its reason.

use std::fs;
use std::path::Path;

use anyhow::{Result, bail};

use crate::cgroup::Cgroups;
use crate::command::{Cmd, in_path};
use crate::paths::Paths;

const GIB: u64 = 1 << 30;
const MEMORY: u64 = 6 * GIB;
/// What a fresh machine needs for everything: downloads, builds, images and a lab. What lies in the cache already is part
/// of it.
const DISK: u64 = 20 * GIB;
/// What a lab alone may fill.
const DISK_OF_A_LAB: u64 = 6 * GIB;

/// Programs of the host, each with the Debian package that has it.
const PROGRAMS: &[(&str, &str)] = &[
    ("ip", "iproute2"),
    ("nsenter", "util-linux"),
    ("unshare", "util-linux"),
    ("setsid", "util-linux"),
    ("mount", "mount"),
    ("umount", "mount"),
    ("losetup", "mount"),
    ("mkfs.ext4", "e2fsprogs"),
    ("apt-get", "apt"),
    ("dpkg", "dpkg"),
    ("gcc", "gcc, with libc6-dev"),
];

/// Fails with every reason why a lab cannot run here.
pub fn check(paths: &Paths) -> Result<()> {
    let lacks = lacks(paths);
    if lacks.is_empty() {
        Ok(())
    } else {
        bail!("the lab cannot run on this machine:\n  - {}", lacks.join("\n  - "))
    }
}

/// Everything that is missing.
pub fn lacks(paths: &Paths) -> Vec<String> {
    let mut lacks: Vec<String> = root().err().map(|error| error.to_string()).into_iter().collect();
    lacks.extend(memory(
        &fs::read_to_string("/proc/meminfo").unwrap_or_default(),
        crate::cgroup::memory_limit(),
    ));
    match fs::create_dir_all(&paths.cache) {
        Ok(()) => lacks.extend(disk(paths)),
        Err(error) => lacks.push(format!("{} cannot be made: {error}", paths.cache.display())),
    }
    for (program, package) in PROGRAMS {
        if !in_path(program) {
            lacks.push(format!("the program {program} is missing (Debian package {package})"));
        }
    }
    lacks.extend(go(&Cmd::line("go env GOVERSION").output().unwrap_or_default()));
    // What only root may try would be said to be missing to anyone else.
    if root().is_ok() {
        lacks.extend(match Cgroups::detect() {
            Ok(cgroups) => cgroups.lack(),
            Err(error) => Some(error.to_string()),
        });
        lacks.extend(kernel());
    }
    lacks
}

/// Fails for anyone but root.
pub fn root() -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        bail!("the lab needs root: it makes network namespaces, mounts and cgroups");
    }
    Ok(())
}

/// Is there room for another lab beside one that is up?
pub fn room_for_another(paths: &Paths) -> bool {
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let memory = usable(&meminfo, crate::cgroup::memory_limit());
    memory.is_some_and(|bytes| bytes >= 3 * MEMORY)
        && free(paths).is_some_and(|free| free >= 2 * DISK_OF_A_LAB)
}

/// `limit` is what the cgroup that we are in may use at most.
fn usable(meminfo: &str, limit: Option<u64>) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let total = line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()? * 1024;
    Some(limit.map_or(total, |limit| limit.min(total)))
}

fn memory(meminfo: &str, limit: Option<u64>) -> Option<String> {
    let bytes = usable(meminfo, limit)?;
    let gib = |bytes: u64| format!("{}.{} GiB", bytes / GIB, bytes % GIB * 10 / GIB);
    (bytes < MEMORY).then(|| format!("it has {} of memory, {} are needed", gib(bytes), gib(MEMORY)))
}

fn free(paths: &Paths) -> Option<u64> {
    let stat = rustix::fs::statvfs(&paths.cache).ok()?;
    Some(stat.f_bavail * stat.f_frsize)
}

fn disk(paths: &Paths) -> Option<String> {
    let free = free(paths)?;
    // Counting takes a second or two.
    let held = if free < DISK { occupied(&paths.cache) } else { 0 };
    let needed = needed(held);
    (free < needed).then(|| {
        format!(
            "{} has {} GiB free, {} are needed (MAILCLUSTER_CACHE chooses another place)",
            paths.cache.display(),
            free / GIB,
            needed.div_ceil(GIB)
        )
    })
}

/// Octets that must be free where the cache holds so many.
fn needed(held: u64) -> u64 {
    DISK.saturating_sub(held).max(DISK_OF_A_LAB)
}

/// Octets on the disk under `folder`; other file systems that are mounted there are not counted.
fn occupied(folder: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let Ok(top) = fs::symlink_metadata(folder) else { return 0 };
    let (mut open, mut octets) = (vec![folder.to_owned()], 0);
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let Ok(found) = entry.metadata() else { continue };
            if found.dev() != top.dev() {
                continue;
            }
            octets += found.blocks() * 512;
            if found.is_dir() {
                open.push(entry.path());
            }
        }
    }
    octets
}

/// The first Go release that builds these sources is 1.24; `version` is like `go1.24.3`.
fn go(version: &str) -> Option<String> {
    let numbers: Vec<u32> =
        version.trim().trim_start_matches("go").split('.').map_while(|part| part.parse().ok()).collect();
    match numbers.as_slice() {
        [major, minor, ..] if (*major, *minor) >= (1, 24) => None,
        [] => Some("Go is missing: 1.24 or newer builds Kubernetes and helm (https://go.dev/dl)".to_owned()),
        _ => Some(format!("{} is too old: Go 1.24 or newer builds Kubernetes and helm", version.trim())),
    }
}

fn kernel() -> Vec<String> {
    let mut lacks = Vec::new();
    for name in ["ext4", "xfs", "overlay"] {
        let loaded = || Cmd::new("modprobe").args(["-q", name]).succeeds() && has_filesystem(name);
        if !has_filesystem(name) && !loaded() {
            lacks.push(format!("the kernel has no file system {name}"));
        }
    }
    for (kind, line) in [("veth", "veth0 type veth peer name veth1"), ("bridge", "br0 type bridge")] {
        // In a network namespace that is gone at once.
        let probe = Cmd::line("unshare --net ip link add").args(line.split(' '));
        if let Err(error) = probe.run() {
            lacks.push(format!("the kernel makes no {kind} interfaces here: {error:#}"));
        }
    }
    if !Path::new("/dev/loop-control").exists() && !Cmd::line("modprobe -q loop").succeeds() {
        lacks.push("the kernel has no loop devices".to_owned());
    }
    if !Path::new("/proc/self/ns/pid").exists() || !Path::new("/proc/self/ns/net").exists() {
        lacks.push("the kernel has no PID or network namespaces".to_owned());
    }
    lacks
}

fn has_filesystem(name: &str) -> bool {
    let known = fs::read_to_string("/proc/filesystems").unwrap_or_default();
    known.lines().any(|line| line.split_whitespace().last() == Some(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_little_memory_is_refused() {
        let plenty = "MemTotal:       24684084 kB\n";
        assert_eq!(memory(plenty, None), None);
        assert_eq!(memory(plenty, Some(8 * GIB)), None);
        for (meminfo, limit) in
            [("MemFree: 1 kB\nMemTotal:       4194304 kB\n", None), (plenty, Some(4 * GIB))]
        {
            let said = memory(meminfo, limit).unwrap();
            assert_eq!(said, "it has 4.0 GiB of memory, 6.0 GiB are needed");
        }
    }

    #[test]
    fn what_the_cache_holds_need_not_be_free() {
        for (held, expected) in [(0, 20), (5, 15), (14, 6), (30, 6)] {
            assert_eq!(needed(held * GIB), expected * GIB, "{held}");
        }
        let folder = std::env::temp_dir().join(format!("mailcluster-occupied-{}", std::process::id()));
        fs::create_dir_all(folder.join("below")).unwrap();
        fs::write(folder.join("below/file"), vec![1; 300 << 10]).unwrap();
        let octets = occupied(&folder);
        fs::remove_dir_all(&folder).unwrap();
        assert!((300 << 10..400 << 10).contains(&octets), "{octets}");
        assert_eq!(occupied(&folder), 0);
    }

    #[test]
    fn an_old_or_missing_go_is_refused() {
        for (version, fine) in [
            ("go1.24.0\n", true),
            ("go1.26", true),
            ("go2.0", true),
            ("go1.23.9", false),
            ("", false),
            ("go1.25rc1", false),
        ] {
            assert_eq!(go(version).is_none(), fine, "{version}");
        }
    }
}
