//! A disk whose loss of power is real: an ext4 image on an XFS that can clone a file in an instant. Mounted with
//! `commit=300`, so that little but syncs reaches the image; [`CrashDisk::cut`] goes on from a clone of the image,
//! without the page cache of what was mounted.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

/// A mounted disk, unmounted and removed when dropped.
pub struct CrashDisk {
    base: PathBuf,
    generation: u32,
}

/// The disk at one instant.
pub struct Cut {
    clone: PathBuf,
}

impl CrashDisk {
    /// Makes and mounts a disk of `megabytes`.
    ///
    /// # Errors
    /// Without root, loop devices or mkfs.xfs.
    pub fn new(name: &str, megabytes: u64) -> Result<Self> {
        let base = crate::scratch(name)?;
        let disk = Self { base, generation: 0 };
        File::create(disk.base.join("pool.xfs"))?.set_len((megabytes * 4 + 1024) << 20)?;
        tool("mkfs.xfs")?.args(["-q", "-m", "reflink=1"]).arg(disk.base.join("pool.xfs")).run()?;
        fs::create_dir_all(disk.base.join("pool"))?;
        fs::create_dir_all(disk.mount_point())?;
        Command::new("mount")
            .args(["-o", "loop"])
            .arg(disk.base.join("pool.xfs"))
            .arg(disk.base.join("pool"))
            .run()?;
        File::create(disk.image(0))?.set_len(megabytes << 20)?;
        Command::new("mkfs.ext4")
            .args(["-q", "-F", "-m", "0", "-E", "lazy_itable_init=0,lazy_journal_init=0,nodiscard"])
            .arg(disk.image(0))
            .run()?;
        disk.mount()?;
        Ok(disk)
    }

    /// Where it is mounted.
    #[must_use]
    pub fn mount_point(&self) -> PathBuf {
        self.base.join("disk")
    }

    fn image(&self, generation: u32) -> PathBuf {
        self.base.join("pool").join(format!("{generation}.img"))
    }

    fn mount(&self) -> Result<()> {
        Command::new("mount")
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
        let (from, to) = (File::open(self.image(self.generation))?, File::create(&clone)?);
        rustix::fs::ioctl_ficlone(&to, &from).context("failed to clone the image")?;
        Ok(Cut { clone })
    }

    /// Goes on from the cut. Nothing may use the disk any more.
    ///
    /// # Errors
    /// When something still uses it.
    pub fn restore(&mut self, cut: &Cut) -> Result<()> {
        Command::new("umount").arg(self.mount_point()).run()?;
        let old = self.image(self.generation);
        self.generation += 1;
        if cut.clone != self.image(self.generation) {
            bail!("a cut of another time");
        }
        self.mount()?;
        Ok(fs::remove_file(old)?)
    }
}

impl Drop for CrashDisk {
    fn drop(&mut self) {
        for folder in ["disk", "pool"] {
            let _gone = Command::new("umount").arg(self.base.join(folder)).status();
        }
        let _best_effort = fs::remove_dir_all(&self.base);
    }
}

/// A program of the host, or of the packages that the lab has unpacked.
fn tool(name: &str) -> Result<Command> {
    let found = |folder: &Path| {
        ["usr/sbin", "sbin", "usr/bin"].iter().map(|sub| folder.join(sub).join(name)).find(|p| p.is_file())
    };
    if let Some(path) = found(Path::new("/")) {
        return Ok(Command::new(path));
    }
    let unpacked = mailcluster_lab::Paths::from_environment()?.cache.join("debs");
    for entry in fs::read_dir(&unpacked)
        .with_context(|| format!("{name} is neither here nor in the lab's packages"))?
    {
        let root = entry?.path();
        if let Some(path) = found(&root) {
            let arch = format!("usr/lib/{}-linux-gnu", std::env::consts::ARCH);
            let libraries = format!(
                "{}:{}",
                root.join(&arch).display(),
                root.join(arch.trim_start_matches("usr/")).display()
            );
            let mut command = Command::new(path);
            command.env("LD_LIBRARY_PATH", libraries);
            return Ok(command);
        }
    }
    bail!("{name} is neither here nor in the lab's packages: run `cargo xtask lab up` once")
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
