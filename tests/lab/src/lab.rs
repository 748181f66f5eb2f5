//! The lab as its users see it: bring it up, attach to it, take it down.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::command::Cmd;
use crate::guard::Guard;
use crate::lock::Lock;
use crate::network::{self, hub};
use crate::paths::Paths;
use crate::progress::{say, step};
use crate::ranges::MAX_NODES;
use crate::site::{CONTROL, Site, install_helper};
use crate::state::{ApiServer, Owner, State, host_boot_id, new_uuid};
use crate::volumes::{self, VolumeSpec};
use crate::{cleanup, control_plane, debs, kubebox, nftables, node, pause, preflight};

/// What to bring up.
#[derive(Clone, Debug)]
pub struct Options {
    /// How many nodes, 1 to [`MAX_NODES`].
    pub nodes: usize,
    /// How many API servers on the one etcd: 1 or 2.
    pub api_servers: usize,
    /// Whether the lab goes on after the program that brought it up has ended.
    pub keep: bool,
    /// For what it is.
    pub owner: Owner,
}

impl Default for Options {
    fn default() -> Self {
        Self { nodes: 2, api_servers: 1, keep: false, owner: Owner::default() }
    }
}

/// A lab that is up.
#[derive(Debug)]
pub struct Lab {
    pub(crate) site: Site,
    guard: Option<Guard>,
}

impl Lab {
    /// Brings a lab up; what a killed run or a reboot left is cleared first. Unless `keep` is set, it goes down
    /// when the returned value is dropped or the program ends in whatever way.
    ///
    /// # Errors
    /// The machine isn't fit (with every reason), a lab is up already, or a part doesn't start; what had been
    /// started by then is removed.
    pub fn up(options: &Options) -> Result<Self> {
        if !(1..=MAX_NODES).contains(&options.nodes) || !(1..=2).contains(&options.api_servers) {
            bail!("a lab has 1 to {MAX_NODES} nodes and 1 or 2 API servers");
        }
        let paths = Paths::from_environment()?;
        preflight::check(&paths)?;
        let lock = Lock::try_take(&paths)?;
        if let Some(state) = State::load(&paths)?.filter(|state| state.ready)
            && cleanup::anything_runs()?
        {
            bail!("{} (`cargo xtask lab status` shows it)", state.owner.described());
        }
        cleanup::remove_all(&paths).context("failed to clear what an earlier run left")?;
        let _old_logs = fs::remove_dir_all(paths.lab.join("log"));
        let tools = debs::ensure(&paths)?;
        nftables::check(&tools)?;
        kubebox::ensure(&paths)?;
        kubebox::ensure_helm(&paths)?;
        pause::ensure(&paths)?;
        fs::create_dir_all(paths.lab.join("log"))?;
        install_helper(&paths)?;
        let mut state = describe(options)?;
        state.save(&paths)?;
        let site = Site { tools, ..Site::open(&paths)? };
        let guard = Guard::start(&paths, &state.id)?;
        if let Err(error) = start(&site, &mut state) {
            step("failed: bringing down what was started (its logs stay)");
            cleanup::remove_all(&paths).context("failed to clean up after a failed start")?;
            guard.dismiss();
            return Err(error.context(format!(
                "failed to bring the lab up; its logs are in {}",
                paths.lab.join("log").display()
            )));
        }
        drop(lock);
        let mut lab = Self { site, guard: Some(guard) };
        if options.keep {
            lab.release();
        }
        Ok(lab)
    }

    /// What this machine lacks for a lab; each with what to do about it.
    ///
    /// # Errors
    /// The environment names no place or no name for a lab.
    pub fn lacks() -> Result<Vec<String>> {
        Ok(preflight::lacks(&Paths::from_environment()?))
    }

    /// Whether this machine has room for another lab, under another name, beside the one that is up.
    ///
    /// # Errors
    /// The environment names no place or no name for a lab.
    pub fn room_for_another() -> Result<bool> {
        Ok(preflight::room_for_another(&Paths::from_environment()?))
    }

    /// For what the lab of this name was brought up, or is being brought up; `None` where there is none since this
    /// machine's start.
    ///
    /// # Errors
    /// Another version brought it up.
    pub fn owner() -> Result<Option<Owner>> {
        let state = State::load(&Paths::from_environment()?)?;
        let boot = host_boot_id()?;
        Ok(state.filter(|state| state.host_boot_id == boot).map(|state| state.owner))
    }

    /// The lab that another program brought up.
    ///
    /// # Errors
    /// None is up.
    pub fn attach() -> Result<Self> {
        let paths = Paths::from_environment()?;
        let state = State::expect(&paths)?;
        if !state.ready || state.host_boot_id != host_boot_id()? || !cleanup::anything_runs()? {
            bail!("no lab is up: `cargo xtask lab up` brings one up, and clears what an earlier one left");
        }
        Ok(Self { site: Site::open(&paths)?, guard: None })
    }

    /// The lab in which this program runs, whether it is ready or not.
    pub(crate) fn of(paths: &Paths) -> Result<Self> {
        Ok(Self { site: Site::open(paths)?, guard: None })
    }

    /// Lets the lab go on after this program.
    pub fn release(&mut self) {
        if let Some(guard) = self.guard.take() {
            guard.dismiss();
        }
    }

    /// Ends and removes the lab; its logs stay. Without a lab it removes what one may have left.
    ///
    /// # Errors
    /// Another version brought it up, or something could not be removed; the message says what.
    pub fn down() -> Result<()> {
        preflight::root()?;
        let paths = Paths::from_environment()?;
        let _lock = Lock::take(&paths)?;
        // What another version has made may have names that aren't known here.
        State::load(&paths)?;
        cleanup::remove_all(&paths)
    }

    /// Ends and removes this lab, as dropping it does, and tells what could not be removed.
    ///
    /// # Errors
    /// As [`Self::down`].
    pub fn shutdown(mut self) -> Result<()> {
        let guard = self.guard.take();
        // Guarded to the end: should this program be ended in the middle, the guard takes over.
        let result = Self::down();
        if let Some(guard) = guard {
            guard.dismiss();
        }
        result
    }

    /// The state as it is now.
    ///
    /// # Errors
    /// The lab has been taken down meanwhile.
    pub fn state(&self) -> Result<State> {
        State::expect(&self.site.paths)
    }

    /// Where the lab's files are.
    pub fn paths(&self) -> &Paths {
        &self.site.paths
    }

    /// The administrator's kubeconfig, with everything in the file.
    pub fn kubeconfig(&self) -> PathBuf {
        self.site.paths.kubeconfig()
    }

    /// Runs `kubectl` as the administrator and returns what it wrote.
    ///
    /// # Errors
    /// It ended with an exit code other than 0; the message has what it said.
    pub fn kubectl<S: AsRef<str>>(&self, args: &[S]) -> Result<String> {
        self.site.kubectl().args(args.iter().map(AsRef::as_ref)).output()
    }

    /// `kubectl` as the administrator, to be started as its caller likes: for watches.
    pub fn kubectl_command(&self) -> std::process::Command {
        self.site.kubectl().into_inner()
    }

    /// Puts a program beside `kubectl` where `lab env` finds it.
    ///
    /// # Errors
    /// The lab's folder cannot be written to.
    pub fn offer(&self, program: &Path) -> Result<()> {
        let name = program.file_name().context("a program without a name")?;
        let link = self.site.paths.lab.join("bin").join(name);
        let _earlier = fs::remove_file(&link);
        std::os::unix::fs::symlink(program, &link).with_context(|| link.display().to_string())
    }

    /// Runs `kubectl` with that standard input.
    ///
    /// # Errors
    /// As [`Self::kubectl`].
    pub fn kubectl_with_input(&self, args: &[&str], input: &str) -> Result<String> {
        self.site.kubectl().args(args).input(input).output()
    }

    /// Applies a manifest, JSON or YAML, by server-side apply.
    ///
    /// # Errors
    /// As [`Self::kubectl`].
    pub fn apply(&self, manifest: &str) -> Result<()> {
        self.kubectl_with_input(&["apply", "--server-side", "--force-conflicts", "-f", "-"], manifest)
            .map(|_| ())
    }

    /// Runs `helm` as the administrator and returns what it wrote.
    ///
    /// # Errors
    /// It ended with an exit code other than 0; the message has what it said.
    pub fn helm<S: AsRef<str>>(&self, args: &[S]) -> Result<String> {
        let helm = Cmd::new(kubebox::helm_location(&self.site.paths)).without_ambient();
        // Helm's own caches go where the lab's files go, not into someone's home.
        let home = self.site.paths.lab.join("helm");
        let helm =
            helm.env("HELM_CACHE_HOME", home.join("cache")).env("HELM_CONFIG_HOME", home.join("config"));
        helm.env("HELM_DATA_HOME", home.join("data"))
            .env("KUBECONFIG", self.kubeconfig())
            .args(args.iter().map(AsRef::as_ref))
            .output()
    }

    /// A command of the lab's own tools (`nft`, `strace`, `conntrack`, `ctr`, …) in a node's network namespace; in that
    /// of this machine without a node. Processes are seen as this machine numbers them.
    pub fn tool(&self, node: Option<&str>, program: &str) -> std::process::Command {
        let program = self.site.tools.program(program);
        let mut command = if let Some(node) = node {
            let mut command = std::process::Command::new("nsenter");
            command.arg(format!("--net={}", self.network(node).display())).arg(program);
            command
        } else {
            std::process::Command::new(program)
        };
        command.env("PATH", self.site.tools.path()).env("LD_LIBRARY_PATH", self.site.tools.libraries());
        command
    }

    /// A node's network namespace, for programs that are to run in it.
    pub fn network(&self, node: &str) -> PathBuf {
        Path::new("/run/netns").join(network::namespace(node))
    }

    /// Loads an image archive into every node that is on.
    ///
    /// # Errors
    /// The archive cannot be read, or a node's containerd refuses it.
    pub fn load_image(&self, archive: &Path) -> Result<()> {
        for node in self.state()?.nodes.iter().filter(|node| node.is_on()) {
            node::load_image(&self.site, &node.name, archive)?;
        }
        Ok(())
    }

    /// Makes volumes and their PersistentVolume objects (class [`volumes::STORAGE_CLASS`], Retain).
    ///
    /// # Errors
    /// A name is taken, a node doesn't exist, or the file system cannot be made.
    pub fn create_volumes(&self, specs: &[VolumeSpec]) -> Result<()> {
        let lock = Lock::take(&self.site.paths)?;
        let mut state = self.state()?;
        for spec in specs {
            volumes::create(&self.site, &mut state, spec)?;
        }
        drop(lock);
        self.apply(&volumes::objects(&self.site, specs).to_string())
    }

    /// Fills a volume to its last octet.
    ///
    /// # Errors
    /// There is no such volume, or it cannot be written to.
    pub fn fill_volume(&self, name: &str) -> Result<()> {
        self.known_volume(name)?;
        volumes::fill(&self.volume_path(name))
    }

    /// Gives back what was filled.
    ///
    /// # Errors
    /// There is no such volume, or it cannot be written to.
    pub fn unfill_volume(&self, name: &str) -> Result<()> {
        self.known_volume(name)?;
        volumes::unfill(&self.volume_path(name))
    }

    fn known_volume(&self, name: &str) -> Result<()> {
        let known = self.state()?.volumes.iter().any(|volume| volume.name == name);
        if known { Ok(()) } else { bail!("there is no volume {name}") }
    }

    /// Where a volume is mounted on this machine.
    pub fn volume_path(&self, name: &str) -> PathBuf {
        volumes::mount_point(&self.site, name)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if let Some(guard) = self.guard.take() {
            if let Err(error) = Self::down() {
                say(&format!("{error:#}"));
            }
            guard.dismiss();
        }
    }
}

fn describe(options: &Options) -> Result<State> {
    Ok(State {
        id: new_uuid()?,
        host_boot_id: host_boot_id()?,
        ranges: network::choose_ranges()?,
        ready: false,
        owner: options.owner,
        api_servers: (1..=options.api_servers).map(|index| ApiServer { index, up: true }).collect(),
        nodes: (1..=options.nodes).map(node::describe).collect::<Result<_>>()?,
        volumes: Vec::new(),
        processes: std::collections::BTreeMap::new(),
        bmc_password: new_uuid()?.replace('-', ""),
    })
}

fn start(site: &Site, state: &mut State) -> Result<()> {
    let ranges = state.ranges;
    step(&format!(
        "address ranges: all {}, Services {}, pods {}",
        ranges.all(),
        ranges.services(),
        ranges.pods()
    ));
    site.cgroups.create(CONTROL)?;
    volumes::create_pool(site)?;
    network::create_hub(ranges, state.api_servers.len())?;
    control_plane::write_identities(site, state)?;
    for node in &state.nodes {
        node::write_files(site, ranges, node)?;
    }
    control_plane::start(site, state)?;
    step(&format!("starting {} nodes (about 20 seconds)", state.nodes.len()));
    let names: Vec<String> = state.nodes.iter().map(|node| node.name.clone()).collect();
    for name in &names {
        node::boot(site, state, name)?;
    }
    site.kubectl().args(["apply", "-f", "-"]).input(volumes::storage_class().to_string()).run()?;
    let words =
        [&site.helper().display().to_string(), "lab", "daemon", &site.paths.cache.display().to_string()];
    let daemon = site.spawn("daemon", CONTROL, &hub(), &words.map(str::to_owned))?;
    state.processes.insert("daemon".to_owned(), daemon);
    state.save(&site.paths)?;
    write_wrappers(site)?;
    wait_nodes_ready(site, names.len(), Duration::from_secs(300))?;
    state.ready = true;
    state.save(&site.paths)?;
    step(&format!("ready: {} nodes, Kubernetes {}", names.len(), kubebox::KUBERNETES_VERSION));
    Ok(())
}

/// `kubectl` and `helm` as programs, for `lab env`.
fn write_wrappers(site: &Site) -> Result<()> {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let bin = site.paths.lab.join("bin");
    let kubectl = bin.join("kubectl");
    fs::write(&kubectl, format!("#!/bin/sh\nexec '{}' kubectl \"$@\"\n", site.kubebox.display()))?;
    fs::set_permissions(&kubectl, fs::Permissions::from_mode(0o755))?;
    symlink(kubebox::helm_location(&site.paths), bin.join("helm"))?;
    Ok(())
}

fn wait_nodes_ready(site: &Site, count: usize, limit: Duration) -> Result<()> {
    let deadline = Instant::now() + limit;
    loop {
        let text = site.kubectl().args(["get", "nodes", "-o", "json"]).output().unwrap_or_default();
        let list: Value = serde_json::from_str(&text).unwrap_or_default();
        let nodes = list["items"].as_array().map(Vec::as_slice).unwrap_or_default();
        if nodes.iter().filter(|node| is_ready(node)).count() == count {
            return Ok(());
        }
        if Instant::now() > deadline {
            bail!("the nodes aren't Ready after {} s", limit.as_secs());
        }
        std::thread::sleep(Duration::from_secs(1));
    }
}

pub(crate) fn is_ready(node: &Value) -> bool {
    let conditions = node["status"]["conditions"].as_array().map(Vec::as_slice).unwrap_or_default();
    conditions.iter().any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}
