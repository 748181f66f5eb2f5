//! What every part of the lab needs to act: paths, tools and cgroups of this machine.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::cgroup::Cgroups;
use crate::command::Cmd;
use crate::debs::{self, Tools};
use crate::kubebox;
use crate::paths::{NAME_VARIABLE, Paths, lab_name};
use crate::state::Process;

/// The cgroup of all that doesn't belong to a node.
pub(crate) const CONTROL: &str = "control";

/// This machine, ready for a lab.
#[derive(Clone, Debug)]
pub(crate) struct Site {
    pub paths: Paths,
    pub tools: Tools,
    pub kubebox: PathBuf,
    pub cgroups: Cgroups,
}

impl Site {
    /// The site of a lab that was brought up before: nothing is downloaded or built.
    pub fn open(paths: &Paths) -> Result<Self> {
        Ok(Self {
            tools: debs::location(paths),
            kubebox: kubebox::location(paths),
            cgroups: Cgroups::detect()?,
            paths: paths.clone(),
        })
    }

    /// The copy of xtask that the lab's own processes run.
    pub fn helper(&self) -> PathBuf {
        helper(&self.paths)
    }

    /// `kubectl` as the cluster's administrator.
    pub fn kubectl(&self) -> Cmd {
        Cmd::new(&self.kubebox)
            .without_ambient()
            .arg("kubectl")
            .env("KUBECONFIG", self.paths.kubeconfig())
            // Nor someone's own defaults and aliases in ~/.kube/kuberc.
            .env("KUBERC", "off")
            .env("PATH", self.tools.path())
    }

    /// Starts a process that goes on after this one, in a cgroup and a network namespace, its output in a log.
    pub fn spawn(&self, name: &str, group: &str, namespace: &str, argv: &[String]) -> Result<Process> {
        let log = self.paths.log(name);
        let log = File::options()
            .create(true)
            .append(true)
            .open(&log)
            .with_context(|| format!("{}", log.display()))?;
        let child = Command::new("setsid")
            .args(["sh", "-c", "echo 0 > \"$0/cgroup.procs\" && exec \"$@\""])
            .arg(self.cgroups.processes_of(group))
            .arg("nsenter")
            .arg(format!("--net=/run/netns/{namespace}"))
            .args(argv)
            .env_clear()
            .env("PATH", self.tools.path())
            .env("LD_LIBRARY_PATH", self.tools.libraries())
            .env("HOME", "/root")
            .env(NAME_VARIABLE, lab_name()?)
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("failed to start {name}"))?;
        Process::of(i32::try_from(child.id())?)
    }
}

/// Where the lab's own copy of xtask is: one that a rebuild during the lab's life doesn't take away.
pub(crate) fn helper(paths: &Paths) -> PathBuf {
    paths.lab.join("bin").join("xtask")
}

/// Copies xtask into the lab: from `$MAILCLUSTER_XTASK`, this very program, or one built beside it.
pub(crate) fn install_helper(paths: &Paths) -> Result<()> {
    let source = find_xtask()?;
    let target = helper(paths);
    fs::create_dir_all(paths.lab.join("bin"))?;
    fs::copy(&source, &target).with_context(|| format!("failed to copy {}", source.display()))?;
    fs::set_permissions(&target, fs::Permissions::from_mode(0o755))?;
    Ok(())
}

fn find_xtask() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("MAILCLUSTER_XTASK") {
        return Ok(PathBuf::from(path));
    }
    let own = std::env::current_exe()?;
    // A test program lies in `deps`, one folder below xtask.
    let candidates = own.ancestors().skip(1).take(2).map(|folder| folder.join("xtask"));
    let beside = candidates.filter(|path| path.is_file()).collect::<Vec<_>>();
    if own.file_name().is_some_and(|name| name == "xtask") {
        return Ok(own);
    }
    if let Some(found) = beside.first() {
        return Ok(found.clone());
    }
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../Cargo.toml");
    Cmd::line("cargo build --quiet -p xtask --manifest-path").arg(manifest).run_shown()?;
    let Some(folder) = own.ancestors().nth(2) else { bail!("xtask was not found beside {}", own.display()) };
    Ok(folder.join("xtask"))
}
