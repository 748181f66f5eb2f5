//! Volumes whose loss of power is real: ext4 images on an XFS that can clone a file in an instant.
//!
//! Each volume is mounted once in the host's mount namespace, below a folder from which mounts propagate into every
//! node; that is storage reachable from two machines. It is mounted with `commit=300`, so that little but syncs
//! reaches the image. When a node loses power, the image is cloned as it is, without the page cache of the mounted
//! ext4, and the clone takes the volume's place.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::mount::{MountPropagationFlags, mount_bind, mount_change};
use serde_json::{Value, json};

use crate::command::Cmd;
use crate::progress::say;
use crate::site::Site;
use crate::state::{Cut, State, Volume};

/// The StorageClass of the lab's volumes.
pub const STORAGE_CLASS: &str = "mail-local";

/// A volume to create.
#[derive(Clone, Debug)]
pub struct VolumeSpec {
    /// The PersistentVolume's name.
    pub name: String,
    /// The nodes that reach it: one, or several for storage that a sibling can take over.
    pub nodes: Vec<String>,
    /// Its size in bytes, at least 16 MiB.
    pub size: u64,
    /// The PersistentVolume's access modes.
    pub access_modes: Vec<String>,
}

impl VolumeSpec {
    /// A ReadWriteOncePod volume.
    pub fn new(name: &str, nodes: &[&str], size: u64) -> Self {
        Self {
            name: name.to_owned(),
            nodes: nodes.iter().map(|&node| node.to_owned()).collect(),
            size,
            access_modes: vec!["ReadWriteOncePod".to_owned()],
        }
    }
}

fn pool(site: &Site) -> PathBuf {
    site.paths.lab.join("pool")
}

/// Where a volume is mounted, on the host and in every node.
pub(crate) fn mount_point(site: &Site, name: &str) -> PathBuf {
    site.paths.lab.join("volumes").join(name)
}

/// Makes the lab's folder a mount of its own that propagates into nodes, and the pool of images in it.
pub(crate) fn create_pool(site: &Site) -> Result<()> {
    let lab = &site.paths.lab;
    mount_bind(lab, lab).context("failed to bind the lab's folder")?;
    mount_change(lab, MountPropagationFlags::SHARED | MountPropagationFlags::REC)?;
    let image = lab.join("pool.xfs");
    File::create(&image)?.set_len(64 << 30)?;
    site.tools.command("mkfs.xfs").args(["-q", "-m", "reflink=1"]).arg(&image).run()?;
    fs::create_dir_all(pool(site))?;
    let device = attach(&image)?;
    Cmd::line("mount -t xfs -o noatime").arg(&device).arg(pool(site)).run()
}

fn attach(image: &Path) -> Result<String> {
    Ok(Cmd::line("losetup --find --show").arg(image).output()?.trim().to_owned())
}

/// Makes a volume and mounts it.
pub(crate) fn create(site: &Site, state: &mut State, spec: &VolumeSpec) -> Result<()> {
    if state.volumes.iter().any(|volume| volume.name == spec.name) {
        bail!("there is a volume {} already", spec.name);
    }
    if spec.name.is_empty() || !spec.name.chars().all(|c| c.is_ascii_alphanumeric() || "-.".contains(c)) {
        bail!("{:?} is not a PersistentVolume's name", spec.name);
    }
    for node in &spec.nodes {
        state.node(node)?;
    }
    let image = pool(site).join(format!("{}.1.img", spec.name));
    File::create(&image)?.set_len(spec.size)?;
    // Nothing is left to be initialised later: a background write would commit more than was synced.
    Cmd::line("mkfs.ext4 -q -F -m 0 -E lazy_itable_init=0,lazy_journal_init=0,nodiscard")
        .arg(&image)
        .run()?;
    let volume = Volume {
        name: spec.name.clone(),
        nodes: spec.nodes.clone(),
        device: attach(&image)?,
        image,
        generation: 1,
    };
    mount(site, &volume)?;
    state.volumes.push(volume);
    state.save(&site.paths)
}

fn mount(site: &Site, volume: &Volume) -> Result<()> {
    let point = mount_point(site, &volume.name);
    fs::create_dir_all(&point)?;
    Cmd::line("mount -t ext4 -o noatime,commit=300").arg(&volume.device).arg(&point).run()
}

/// Clones the images of the volumes in use on a node whose processes stand still.
pub(crate) fn clone_used(site: &Site, state: &State, node: &str) -> Result<Vec<Cut>> {
    let mut cuts = Vec::new();
    let used = devices_in_use(site, node);
    for volume in state.volumes.iter().filter(|volume| used.contains(&device_number(&volume.device))) {
        let others = state.nodes.iter().filter(|other| other.is_on() && other.name != node);
        if let Some(other) = others
            .map(|other| &other.name)
            .find(|other| devices_in_use(site, other).contains(&device_number(&volume.device)))
        {
            say(&format!("{} is in use on {other} too: it goes on as it is, nothing is lost", volume.name));
            continue;
        }
        let clone = pool(site).join(format!("{}.{}.img", volume.name, volume.generation + 1));
        let (from, to) = (File::open(&volume.image)?, File::create(&clone)?);
        rustix::fs::ioctl_ficlone(&to, &from)
            .with_context(|| format!("failed to clone {}", volume.image.display()))?;
        cuts.push(Cut { volume: volume.name.clone(), image: clone });
    }
    Ok(cuts)
}

/// The device numbers (`7:3`) of what is mounted for pods of a node.
fn devices_in_use(site: &Site, node: &str) -> Vec<String> {
    // Without process 1 there is nothing of the node any more, nor a mount. Waiting for one is no use: it may be frozen.
    let Some(pid) = crate::node::running_init(site, node) else { return Vec::new() };
    let text = fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap_or_default();
    let fields = text.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    fields
        .filter(|f| f.len() > 4 && f[4].starts_with("/var/lib/kubelet/pods/"))
        .map(|f| f[2].to_owned())
        .collect()
}

fn device_number(device: &str) -> String {
    let name = device.trim_start_matches("/dev/");
    fs::read_to_string(format!("/sys/block/{name}/dev")).unwrap_or_default().trim().to_owned()
}

/// Puts the clones in the volumes' places; the node's processes, and with them its mounts, are gone. What an earlier
/// try has done already is left as it is.
pub(crate) fn replace(site: &Site, state: &mut State, cuts: &[Cut]) -> Result<()> {
    for cut in cuts {
        let Some(volume) = state.volumes.iter_mut().find(|volume| volume.name == cut.volume) else {
            continue;
        };
        if volume.image == cut.image {
            continue;
        }
        let point = mount_point(site, &volume.name);
        crate::cleanup::unmount_under(&point)?;
        // Also one that an earlier try has attached to the clone. A freed device's number may be another's by now.
        for device in devices_of(&volume.image).into_iter().chain(devices_of(&cut.image)) {
            detach(&device)?;
        }
        let old = std::mem::replace(&mut volume.image, cut.image.clone());
        volume.device = attach(&volume.image)?;
        volume.generation += 1;
        mount(site, volume)?;
        state.save(&site.paths)?;
        let _best_effort = fs::remove_file(&old);
    }
    Ok(())
}

/// The file that takes all that is left of a volume.
const FILLER: &str = "lab-filler";

/// Leaves nothing of a mounted volume.
pub(crate) fn fill(point: &Path) -> Result<()> {
    let path = point.join(FILLER);
    let file =
        File::options().create(true).append(true).open(&path).with_context(|| path.display().to_string())?;
    let mut end = file.metadata()?.len();
    let mut chunk: u64 = 64 << 20;
    while chunk >= 4096 {
        match rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), end, chunk) {
            Ok(()) => end += chunk,
            Err(rustix::io::Errno::NOSPC) => {
                // What was got of it is in the file.
                end = file.metadata()?.len();
                chunk /= 2;
            }
            Err(error) => return Err(error).with_context(|| path.display().to_string()),
        }
    }
    file.sync_all().with_context(|| path.display().to_string())
}

/// Gives back what [`fill`] has taken.
pub(crate) fn unfill(point: &Path) -> Result<()> {
    match fs::remove_file(point.join(FILLER)) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}

fn devices_of(image: &Path) -> Vec<String> {
    crate::cleanup::loop_devices(image)
}

/// Frees a loop device, and waits until nothing can write by it any more.
pub(crate) fn detach(device: &str) -> Result<()> {
    let backing = format!("/sys/block/{}/loop/backing_file", device.trim_start_matches("/dev/"));
    let deadline = Instant::now() + Duration::from_secs(20);
    while Path::new(&backing).exists() {
        let _retried = Cmd::line("losetup -d").arg(device).run();
        if Instant::now() > deadline {
            bail!("{device} is still in use after 20 s");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// The objects that offer volumes to the cluster.
pub(crate) fn objects(site: &Site, specs: &[VolumeSpec]) -> Value {
    let volumes = specs.iter().map(|spec| {
        json!({
            "apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": spec.name},
            "spec": {
                "capacity": {"storage": spec.size.to_string()}, "accessModes": spec.access_modes,
                "persistentVolumeReclaimPolicy": "Retain", "storageClassName": STORAGE_CLASS,
                "local": {"path": mount_point(site, &spec.name)},
                "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [
                    {"key": "kubernetes.io/hostname", "operator": "In", "values": spec.nodes}]}]}}}})
    });
    json!({"apiVersion": "v1", "kind": "List", "items": volumes.collect::<Vec<_>>()})
}

/// The StorageClass of the volumes.
pub(crate) fn storage_class() -> Value {
    json!({"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": STORAGE_CLASS},
           "provisioner": "kubernetes.io/no-provisioner", "volumeBindingMode": "WaitForFirstConsumer"})
}
