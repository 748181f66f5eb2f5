//! What is running, in one JSON file: written whole under a lock, read by every process that uses the lab.

use std::collections::BTreeMap;
use std::fs;
use std::net::Ipv4Addr;
use std::path::PathBuf;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::paths::Paths;
use crate::ranges::Ranges;

/// The state file's content.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct State {
    /// Tells this lab from one brought up later.
    pub id: String,
    /// This machine's boot: after a reboot nothing of the lab can be running.
    pub host_boot_id: String,
    /// The address ranges.
    pub ranges: Ranges,
    /// Whether `up` has come to its end.
    pub ready: bool,
    /// For what it was brought up.
    #[serde(default)]
    pub owner: Owner,
    /// The API servers, in order of their numbers.
    pub api_servers: Vec<ApiServer>,
    /// The nodes, in order of their numbers.
    pub nodes: Vec<Node>,
    /// The volumes.
    pub volumes: Vec<Volume>,
    /// The processes started, by name, nodes' own ones aside.
    pub processes: BTreeMap<String, Process>,
    /// The password of every BMC's user `admin`.
    pub bmc_password: String,
}

/// For what a lab was brought up: who may take it down without being asked for it by its name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Owner {
    /// By a person, to play with.
    #[default]
    Person,
    /// For the demo.
    Demo,
    /// For tests.
    Tests,
}

impl Owner {
    /// Whose it is and how it is ended, for people.
    #[must_use]
    pub fn described(self) -> &'static str {
        match self {
            Self::Person => "a lab is up; `cargo xtask lab down` ends it",
            Self::Demo => "the lab of a demo is up; `cargo xtask demo --down` ends it",
            Self::Tests => {
                "the lab of a test run is up; that run ends it, or `cargo xtask lab down` where none is left"
            }
        }
    }
}

/// An API server.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ApiServer {
    /// 1 or 2.
    pub index: usize,
    /// Whether it is meant to run.
    pub up: bool,
}

/// A node.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Node {
    /// `node1`, `node2`, …
    pub name: String,
    /// 1, 2, …
    pub index: usize,
    /// Its power.
    pub power: Power,
    /// Whether its network link is up.
    pub connected: bool,
    /// What it is cut off from by `partition --from`: `api` or other nodes' names.
    pub cut_from: Vec<String>,
    /// Traffic that is dropped on it.
    #[serde(default)]
    pub blocks: Vec<Block>,
    /// The boot id its kubelet reports; a new one at every power-on.
    pub boot_id: String,
    /// Its machine id, and system UUID.
    pub machine_id: String,
}

/// Some of a node's traffic: what goes through its network interface, or between its pods and those that are named.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Block {
    /// In which direction.
    pub way: Way,
    /// Of this pod of the node only.
    pub own: Option<Ipv4Addr>,
    /// From and to these only; they may be pods of the same node.
    pub peers: Vec<Ipv4Addr>,
}

impl Block {
    /// Everything that goes this way.
    pub fn all(way: Way) -> Self {
        Self { way, own: None, peers: Vec::new() }
    }
}

/// A direction, as the node sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Way {
    /// What it would receive.
    In,
    /// What it sends.
    Out,
    /// Both.
    Both,
}

/// A node's power.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Power {
    /// It runs, or at least nobody has cut it.
    On,
    /// It is being cut: nothing of it runs any more, but its volumes may not have been cut yet. Until they have it does
    /// not count as off: who reads *Off* may mount them elsewhere.
    Cutting(Vec<Cut>),
    /// Nothing of it is left, and its volumes have lost what was not synced.
    Off,
}

/// The image of a volume in the instant its node lost power; it takes the volume's place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cut {
    /// The volume's name.
    pub volume: String,
    /// The image.
    pub image: PathBuf,
}

impl Node {
    /// Whether it runs.
    pub fn is_on(&self) -> bool {
        self.power == Power::On
    }

    /// The machine id in the form of a system UUID.
    pub fn system_uuid(&self) -> String {
        let part = |from: usize, to: usize| self.machine_id.get(from..to).unwrap_or_default();
        format!("{}-{}-{}-{}-{}", part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32))
    }
}

/// A volume: an ext4 image, mounted where the nodes that may use it find it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Volume {
    /// The PersistentVolume's name.
    pub name: String,
    /// The nodes that reach it.
    pub nodes: Vec<String>,
    /// The image file in use.
    pub image: PathBuf,
    /// The loop device of the image.
    pub device: String,
    /// How many images there have been: one more after each loss of power.
    pub generation: u32,
}

/// A process, told from a later one of the same number by its start time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// The process id.
    pub pid: i32,
    /// Field 22 of /proc/PID/stat: clock ticks after boot.
    pub started: u64,
}

impl Process {
    /// The process of that number, as it is now.
    pub(crate) fn of(pid: i32) -> Result<Self> {
        let started = started(pid).with_context(|| format!("process {pid} ended at once"))?;
        Ok(Self { pid, started })
    }

    /// Whether it still runs.
    pub fn alive(self) -> bool {
        started(self.pid) == Some(self.started)
    }
}

/// The start time of a process that is there and no zombie.
fn started(pid: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may hold anything.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?;
    if state == "Z" || state == "X" { None } else { fields.nth(18)?.parse().ok() }
}

impl State {
    /// Reads the state; `None` where no lab is up.
    pub(crate) fn load(paths: &Paths) -> Result<Option<Self>> {
        let path = paths.lab.join("state.json");
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("failed to read {}", path.display())),
        };
        // This machine lost its power before the file was on the disk, and so nothing runs either.
        let Ok(json) = serde_json::from_slice::<Value>(&text) else { return Ok(None) };
        let state = serde_json::from_value(json).with_context(|| {
            format!(
                "another version brought the lab of {} up: `{} lab down` ends it",
                path.display(),
                crate::site::helper(paths).display()
            )
        });
        state.map(Some)
    }

    /// Reads the state of a lab that must be there.
    pub(crate) fn expect(paths: &Paths) -> Result<Self> {
        Self::load(paths)?.context("no lab is up: `cargo xtask lab up` brings one up")
    }

    /// Replaces the file, whole.
    pub(crate) fn save(&self, paths: &Paths) -> Result<()> {
        let path = paths.lab.join("state.json");
        let fresh = path.with_extension("json.new");
        fs::write(&fresh, serde_json::to_vec_pretty(self)?)?;
        fs::rename(&fresh, &path).context("failed to write the lab's state")
    }

    /// The node of that name.
    ///
    /// # Errors
    /// There is none; the message names those there are.
    pub fn node(&self, name: &str) -> Result<&Node> {
        let found = self.nodes.iter().find(|node| node.name == name);
        found.with_context(|| {
            let names: Vec<&str> = self.nodes.iter().map(|node| node.name.as_str()).collect();
            format!("there is no node {name}: the lab has {}", names.join(", "))
        })
    }

    pub(crate) fn node_mut(&mut self, name: &str) -> Result<&mut Node> {
        self.node(name)?;
        self.nodes.iter_mut().find(|node| node.name == name).context("no such node")
    }
}

/// A new random UUID, from the kernel.
pub(crate) fn new_uuid() -> Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/uuid")?.trim().to_owned())
}

/// This machine's boot id.
pub(crate) fn host_boot_id() -> Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_of_another_version_is_named_as_such_and_half_a_file_is_none() {
        let cache = std::env::temp_dir().join(format!("mailcluster-state-{}", std::process::id()));
        let paths = Paths::in_cache(&cache).unwrap();
        fs::create_dir_all(&paths.lab).unwrap();
        let loaded = |text: Option<&str>| {
            if let Some(text) = text {
                fs::write(paths.lab.join("state.json"), text).unwrap();
            }
            State::load(&paths).map(|state| state.is_some()).map_err(|error| error.to_string())
        };
        let found =
            [None, Some(""), Some(r#"{"id": "1""#), Some(r#"{"id": "1", "ready": true}"#)].map(loaded);
        fs::remove_dir_all(&cache).unwrap();
        assert_eq!(found[..3], [Ok(false), Ok(false), Ok(false)]);
        let said = found[3].as_ref().unwrap_err();
        assert!(said.contains("bin/xtask lab down` ends it"), "{said}");
    }
}
