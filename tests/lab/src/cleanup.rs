//! Leaving nothing behind: processes, namespaces, mounts, loop devices and cgroups, found by name and not by
//! what a file says, so that a killed run's and half an `up`'s are found too.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use crate::cgroup::Cgroups;
use crate::command::Cmd;
use crate::network::{host_link, namespace};
use crate::paths::{Paths, instance};
use crate::site::CONTROL;

const NAMESPACES: &str = "/run/netns";

/// Whether any process of a lab runs.
pub(crate) fn anything_runs() -> Result<bool> {
    Ok(!Cgroups::detect()?.pids("").is_empty())
}

/// Ends and removes all of the lab but its logs.
pub(crate) fn remove_all(paths: &Paths) -> Result<()> {
    let cgroups = Cgroups::detect()?;
    // First what could start or mount something anew.
    for group in std::iter::once(CONTROL.to_owned()).chain(groups(&cgroups)) {
        if cgroups.folder(&group).is_dir() {
            cgroups.kill(&group)?;
        }
    }
    for name in namespaces() {
        Cmd::line("ip netns del").arg(&name).run()?;
    }
    if Path::new("/sys/class/net").join(host_link()).exists() {
        Cmd::line("ip link del").arg(host_link()).run()?;
    }
    // A mounted device is only marked here and freed by its unmounting. After that its file's path couldn't be told.
    let devices = loop_devices(&paths.lab);
    for device in &devices {
        Cmd::line("losetup -d").arg(device).run()?;
    }
    unmount_under(&paths.lab)?;
    for device in &devices {
        crate::volumes::detach(device)?;
    }
    cgroups.remove("")?;
    remove_empty_namespace_mount();
    remove_files(&paths.lab)?;
    verify(paths, &cgroups)
}

fn groups(cgroups: &Cgroups) -> Vec<String> {
    entries(&cgroups.folder("")).into_iter().filter(|name| cgroups.folder(name).is_dir()).collect()
}

fn entries(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

fn namespaces() -> Vec<String> {
    let own = namespace("");
    entries(Path::new(NAMESPACES)).into_iter().filter(|name| name.starts_with(&own)).collect()
}

/// The mount points under a folder, the latest first.
pub(crate) fn mounts_under(folder: &Path) -> Vec<PathBuf> {
    let text = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let points = text.lines().filter_map(|line| line.split(' ').nth(4)).map(unescape);
    let mut points: Vec<PathBuf> = points.filter(|point| point.starts_with(folder)).collect();
    points.reverse();
    points
}

/// Undoes the octal escapes of /proc's mount tables.
pub(crate) fn unescape(text: &str) -> PathBuf {
    PathBuf::from(text.replace("\\040", " ").replace("\\011", "\t").replace("\\134", "\\"))
}

/// Unmounts what is mounted under a folder, and on it.
pub(crate) fn unmount_under(folder: &Path) -> Result<()> {
    for point in mounts_under(folder) {
        let plain = Cmd::new("umount").arg(&point).run();
        if plain.is_err() {
            Cmd::line("umount -l").arg(&point).run()?;
        }
    }
    Ok(())
}

/// The loop devices whose file lies under a folder.
pub(crate) fn loop_devices(folder: &Path) -> Vec<String> {
    let names = entries(Path::new("/sys/block")).into_iter().filter(|name| name.starts_with("loop"));
    let backed = names.filter(|name| {
        let file = fs::read_to_string(format!("/sys/block/{name}/loop/backing_file"));
        file.is_ok_and(|file| Path::new(file.trim()).starts_with(folder))
    });
    backed.map(|name| format!("/dev/{name}")).collect()
}

/// `ip netns` leaves a mount of its own behind when its last namespace is gone.
fn remove_empty_namespace_mount() {
    let folder = Path::new(NAMESPACES);
    if folder.is_dir() && entries(folder).is_empty() {
        while mounts_under(folder).iter().any(|point| point == folder)
            && Cmd::line("umount /run/netns").succeeds()
        {}
        let _in_use = fs::remove_dir(folder);
    }
}

fn remove_files(lab: &Path) -> Result<()> {
    for name in entries(lab).into_iter().filter(|name| name != "log") {
        let path = lab.join(name);
        if path.is_dir() && !path.is_symlink() { fs::remove_dir_all(&path)? } else { fs::remove_file(&path)? }
    }
    Ok(())
}

fn verify(paths: &Paths, cgroups: &Cgroups) -> Result<()> {
    let mut left: Vec<String> = cgroups.pids("").iter().map(|pid| format!("process {pid}")).collect();
    left.extend(namespaces().into_iter().map(|name| format!("network namespace {name}")));
    left.extend(mounts_under(&paths.lab).iter().map(|point| format!("mount {}", point.display())));
    left.extend(loop_devices(&paths.lab).into_iter().map(|device| format!("loop device {device}")));
    if cgroups.folder("").exists() {
        left.push(format!("cgroup /{}", instance()));
    }
    if left.is_empty() { Ok(()) } else { bail!("left behind: {}", left.join(", ")) }
}
