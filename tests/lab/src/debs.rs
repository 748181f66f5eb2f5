//! Debian packages, downloaded and unpacked into the cache: nothing is installed on the host, where
//! Debian's containerd would, for one, displace a docker-ce.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::apt::Apt;
use crate::cache_key::cache_key;
use crate::command::Cmd;
use crate::lock::Lock;
use crate::paths::Paths;
use crate::progress::step;

const PACKAGES: &[&str] = &[
    "containerd",
    "runc",
    "containernetworking-plugins",
    "etcd-server",
    "nftables",
    "conntrack",
    "xfsprogs",
    "strace",
];

/// Each must answer once the packages are unpacked; what is missing shows here and not in the middle of a start.
const PROBES: &[&str] = &[
    "containerd --version",
    "runc --version",
    "etcd --version",
    "nft --version",
    "mkfs.xfs -V",
    "strace --version",
];

/// The unpacked packages.
#[derive(Clone, Debug)]
pub(crate) struct Tools {
    root: PathBuf,
}

impl Tools {
    /// PATH with the unpacked programs first.
    pub fn path(&self) -> String {
        let root = self.root.display();
        format!("{root}/usr/sbin:{root}/usr/bin:{root}/sbin:{root}/bin:/usr/sbin:/usr/bin:/sbin:/bin")
    }

    /// LD_LIBRARY_PATH of the unpacked libraries.
    pub fn libraries(&self) -> String {
        let root = self.root.display();
        let arch = format!("{}-linux-gnu", std::env::consts::ARCH);
        format!("{root}/usr/lib/{arch}:{root}/lib/{arch}:{root}/usr/lib")
    }

    /// The folder of the CNI plugins.
    pub fn cni(&self) -> PathBuf {
        self.root.join("usr/lib/cni")
    }

    /// A command of the unpacked packages (or of the host, where they have none of that name).
    pub fn command(&self, program: &str) -> Cmd {
        Cmd::new(self.program(program)).env("PATH", self.path()).env("LD_LIBRARY_PATH", self.libraries())
    }

    /// The program's full path, or its bare name where the packages have none.
    pub fn program(&self, program: &str) -> PathBuf {
        ["usr/sbin", "usr/bin", "sbin", "bin"]
            .iter()
            .map(|folder| self.root.join(folder).join(program))
            .find(|path| path.exists())
            .unwrap_or_else(|| PathBuf::from(program))
    }
}

/// Where the packages of this distribution are, or will be, unpacked.
pub(crate) fn location(paths: &Paths) -> Tools {
    let release = fs::read("/etc/os-release").unwrap_or_default();
    let key = cache_key(&[PACKAGES.join(" ").as_bytes(), &release]);
    Tools { root: paths.cache.join("debs").join(key) }
}

/// A program of the packages, for use without a lab; what is missing is downloaded first.
///
/// # Errors
/// The packages cannot be had.
pub fn tool(program: &str) -> Result<Command> {
    let tools = ensure(&Paths::from_environment()?)?;
    let mut command = Command::new(tools.program(program));
    command.env("PATH", tools.path()).env("LD_LIBRARY_PATH", tools.libraries());
    Ok(command)
}

/// Downloads and unpacks what is not there yet.
pub(crate) fn ensure(paths: &Paths) -> Result<Tools> {
    let tools = location(paths);
    if tools.root.is_dir() {
        return Ok(tools);
    }
    // Several tests may need a tool at once: the first one gets it for all.
    let _lock = Lock::part(paths, "debs")?;
    if tools.root.is_dir() {
        return Ok(tools);
    }
    step("downloading containerd, etcd and tools as Debian packages (about 1 minute, once)");
    let work = paths.cache.join("debs").join("unpack");
    let _stale = fs::remove_dir_all(&work);
    let unpacked = Tools { root: work.join("root") };
    fs::create_dir_all(&unpacked.root)?;
    let result =
        download(paths, &work).and_then(|()| unpack(&work, &unpacked.root)).and_then(|()| probe(&unpacked));
    if result.is_ok() {
        fs::rename(&unpacked.root, &tools.root).context("failed to move the packages into place")?;
    }
    let _best_effort = fs::remove_dir_all(&work);
    result.map(|()| tools)
}

fn download(paths: &Paths, folder: &Path) -> Result<()> {
    Apt::with(paths, |apt| {
        let names = wanted(apt)?;
        Cmd::line("apt-get -q").args(apt.options()).arg("download").args(names).directory(folder).run()
    })
    .context("failed to download the Debian packages the lab needs")
}

/// The packages and those libraries under them that the host doesn't have.
fn wanted(apt: &Apt) -> Result<BTreeSet<String>> {
    let flags = ["recommends", "suggests", "conflicts", "breaks", "replaces", "enhances"];
    let closure = Cmd::line("apt-cache depends --recurse")
        .args(apt.options())
        .args(flags.iter().map(|flag| format!("--no-{flag}")))
        .args(PACKAGES)
        .output()?;
    let installed = Cmd::new("dpkg-query").args(["-W", "-f", "${Package} ${db:Status-Status}\n"]).output()?;
    let installed: BTreeSet<&str> =
        installed.lines().filter_map(|line| line.strip_suffix(" installed")).collect();
    let libraries = closure
        .lines()
        .filter(|line| line.starts_with("lib") && !line.contains(':') && !installed.contains(line));
    Ok(libraries.chain(PACKAGES.iter().copied()).map(str::to_owned).collect())
}

fn unpack(folder: &Path, root: &Path) -> Result<()> {
    let mut count = 0;
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "deb") {
            Cmd::line("dpkg -x").arg(&path).arg(root).run()?;
            count += 1;
        }
    }
    if count < PACKAGES.len() {
        bail!("only {count} packages were downloaded");
    }
    Ok(())
}

fn probe(tools: &Tools) -> Result<()> {
    for line in PROBES {
        let mut words = line.split(' ');
        let program = words.next().unwrap_or_default();
        if !tools.program(program).is_absolute() {
            bail!("{program} is not in the Debian packages that were downloaded");
        }
        tools.command(program).args(words).run().context("a downloaded program doesn't run here")?;
    }
    Ok(())
}
