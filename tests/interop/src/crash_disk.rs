//! A disk whose loss of power is real: an ext4 image on an XFS that can clone a file in an instant. Mounted with
//! `commit=300`, so that little but syncs reaches the image; [`CrashDisk::cut`] goes on from a clone of the image,
//! without the page cache of what was mounted.
//!
//! It is mounted in a mount namespace of its own, which the kernel takes away, with its mounts and loop devices, when
//! the last process in it has ended: a test that is killed leaves a folder of files behind, and nothing else.

use std::{
    fs::{self, File},
    io::Read,
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use anyhow::{Context, Result, bail};

use crate::mortal;

/// A mounted disk, unmounted and removed when dropped. It lives no longer than the thread that made it.
#[derive(Debug)]
pub struct CrashDisk {
    base: PathBuf,
    generation: u32,
    /// Keeps the namespace.
    holder: Child,
}

/// The disk at one instant.
#[derive(Debug)]
pub struct Cut {
    clone: PathBuf,
}

impl CrashDisk {
    /// Makes and mounts a disk of `megabytes`.
    ///
    /// # Errors
    /// Without root or loop devices, or when xfsprogs cannot be had.
    pub fn new(name: &str, megabytes: u64) -> Result<Self> {
        let base = crate::scratch(name)?;
        let disk = Self { base, generation: 0, holder: hold()? };
        let pool = disk.base.join("pool.xfs");
        File::create(&pool)?.set_len((megabytes * 4 + 1024) << 20)?;
        mailcluster_lab::tool("mkfs.xfs")?.args(["-q", "-m", "reflink=1"]).arg(&pool).run()?;
        fs::create_dir_all(disk.base.join("pool"))?;
        fs::create_dir_all(disk.mount_point())?;
        disk.inside("mount").args(["-o", "loop"]).arg(&pool).arg(disk.base.join("pool")).run()?;
        File::create(disk.seen(&disk.image(0)))?.set_len(megabytes << 20)?;
        disk.inside("mkfs.ext4")
            .args(["-q", "-F", "-m", "0", "-E", "lazy_itable_init=0,lazy_journal_init=0,nodiscard"])
            .arg(disk.image(0))
            .run()?;
        disk.mount()?;
        Ok(disk)
    }

    /// Where it is mounted, for programs that are started by [`Self::inside`].
    #[must_use]
    pub fn mount_point(&self) -> PathBuf {
        self.base.join("disk")
    }

    /// The words that start a program where the disk is mounted.
    #[must_use]
    pub fn entrance(&self) -> Vec<String> {
        vec!["nsenter".to_owned(), format!("--mount=/proc/{}/ns/mnt", self.holder.id()), "--".to_owned()]
    }

    fn inside(&self, program: &str) -> Command {
        let words = self.entrance();
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).arg(program);
        command
    }

    /// A path of the disk's namespace, as this process can open it.
    fn seen(&self, path: &std::path::Path) -> PathBuf {
        let root = PathBuf::from(format!("/proc/{}/root", self.holder.id()));
        root.join(path.strip_prefix("/").unwrap_or(path))
    }

    fn image(&self, generation: u32) -> PathBuf {
        self.base.join("pool").join(format!("{generation}.img"))
    }

    fn mount(&self) -> Result<()> {
        self.inside("mount")
            .args(["-o", "loop,noatime,commit=300"])
            .arg(self.image(self.generation))
            .arg(self.mount_point())
            .run()
    }

    /// The disk as it is in this instant, while everything goes on.
    ///
    /// # Errors
    /// When it cannot be cloned.
    pub fn cut(&self) -> Result<Cut> {
        let clone = self.image(self.generation + 1);
        let from = File::open(self.seen(&self.image(self.generation)))?;
        let to = File::create(self.seen(&clone))?;
        rustix::fs::ioctl_ficlone(&to, &from).context("failed to clone the image")?;
        Ok(Cut { clone })
    }

    /// Goes on from the cut. Nothing may use the disk any more.
    ///
    /// # Errors
    /// When something still uses it.
    pub fn restore(&mut self, cut: &Cut) -> Result<()> {
        self.inside("umount").arg(self.mount_point()).run()?;
        let old = self.image(self.generation);
        self.generation += 1;
        if cut.clone != self.image(self.generation) {
            bail!("a cut of another time");
        }
        self.mount()?;
        Ok(fs::remove_file(self.seen(&old))?)
    }
}

impl Drop for CrashDisk {
    fn drop(&mut self) {
        let _gone = self.holder.kill();
        let _reaped = self.holder.wait();
        let _best_effort = fs::remove_dir_all(&self.base);
    }
}

/// Starts a process in a mount namespace of its own. What this machine unmounts later is unmounted there too: it must
/// keep nothing busy.
fn hold() -> Result<Child> {
    let mut holder = mortal("unshare")
        .args(["--mount", "--propagation", "slave", "sh", "-c", "echo here; exec sleep infinity"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("failed to start unshare")?;
    let mut said = [0; 5];
    let told = holder.stdout.take().context("no standard output")?.read_exact(&mut said);
    if told.is_err() {
        let status = holder.wait()?;
        bail!("no mount namespace can be made ({status}): are you root?");
    }
    Ok(holder)
}

/// Running a command to its end, with what it said in the error.
trait Run {
    fn run(&mut self) -> Result<()>;
}

impl Run for Command {
    fn run(&mut self) -> Result<()> {
        let output = self.output().with_context(|| format!("failed to start {self:?}"))?;
        if !output.status.success() {
            bail!("{self:?}: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(())
    }
}
