//! A copy that is behind serves by a person's order alone; what it lacks stands on the disk of one that comes back, and is
//! brought from there.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use mailcluster_e2e::wait_for;
use mailcluster_lab::VolumeSpec;
use mailcluster_test_clients::{Ledger, Load, LoadPlan};
use serde_json::Value;

use crate::{
    beside::judged,
    mirrors::{AFTER, COPIES, all_in_sync, mirrored, store, volume},
    stage::{LIMIT, Stage, say},
    volumes::emptied,
};

/// Messages that the copy that is behind does not have.
const MISSED: usize = 30;
/// Where a disk's content waits; a volume is empty to the store when it has this folder alone.
const ASIDE: &str = "lost+found/aside";
/// What a store's folder has.
const LOG: &str = "log";

/// A copy of the store: its pod, where it runs, and its disk.
struct Copy {
    pod: String,
    node: String,
    letter: String,
    disk: PathBuf,
}

impl Copy {
    fn find(twin: &Stage, store: &str, wanted: impl Fn(&str) -> bool) -> Result<Self> {
        let pod = twin.site.copy_on(store, wanted)?;
        let object = twin.site.get(&["pod", &pod])?;
        let node = object.pointer("/spec/nodeName").and_then(Value::as_str).context("no node")?.to_owned();
        let letter = pod.trim_end_matches("-0").chars().last().context("no letter")?.to_string();
        let volumes = object.pointer("/spec/volumes").and_then(Value::as_array).cloned().unwrap_or_default();
        let claim = volumes.iter().find_map(|v| v.pointer("/persistentVolumeClaim/claimName")?.as_str());
        let claim = twin.site.get(&["persistentvolumeclaim", claim.context("it has no claim")?])?;
        let name = claim.pointer("/spec/volumeName").and_then(Value::as_str).context("it is not bound")?;
        let disk = twin.site.lab()?.volume_path(name);
        Ok(Self { pod, node, letter, disk })
    }

    /// Its process ends at once, and a new one finds what is on the disk.
    fn killed(&self, twin: &Stage) -> Result<()> {
        twin.site.lab()?.kill_pod(&twin.site.namespace, &self.pod)
    }
}

/// Everything on a disk goes from one of its folders to another.
fn moved(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        if entry.file_name() != "lost+found" {
            std::fs::rename(entry.path(), to.join(entry.file_name()))?;
        }
    }
    Ok(())
}

/// The folder of the store on a disk.
fn store_on(disk: &Path) -> Result<PathBuf> {
    let below = std::fs::read_dir(disk)?.filter_map(|entry| Some(entry.ok()?.path()));
    let mut folders = below.chain([disk.to_owned()]);
    folders.find(|folder| folder.join(LOG).is_dir()).context("there is no store on the disk")
}

/// Condition Forced of a store: its status, reason and message.
fn said_of_force(twin: &Stage, store: &str) -> Result<[String; 3]> {
    let object = twin.site.get(&["mailstore", store])?;
    let all = object.pointer("/status/conditions").and_then(Value::as_array).cloned().unwrap_or_default();
    let found = all.iter().find(|c| c["type"] == "Forced").cloned().unwrap_or_default();
    Ok(["status", "reason", "message"].map(|key| found[key].as_str().unwrap_or_default().to_owned()))
}

/// The copy in this pod is frozen until it is left out, and mail is accepted that it does not get. Nothing is sent any more
/// when this answers: the only store will be away.
fn missed(twin: &Stage, store: &str, behind: &str) -> Result<Ledger> {
    let load = Load::start(&LoadPlan {
        addr: twin.site.port(25)?,
        lmtp: false,
        recipients: twin.addresses.clone(),
        threads: 2,
        size: 4096,
        pause: Duration::from_millis(50),
        timeout: Duration::from_secs(60),
        name: format!("missed-{}", std::process::id()),
    });
    let accepted = twin.site.lab()?.pause_pod(&twin.site.namespace, behind).and_then(|()| {
        wait_for("it is left out", LIMIT, || {
            let now = twin.site.in_sync()?;
            Ok(now.iter().any(|(name, copies)| *name == store && *copies < COPIES).then_some(()))
        })?;
        let before = load.accepted();
        wait_for("mail is accepted without it", LIMIT, || {
            Ok((load.accepted() >= before + MISSED).then_some(()))
        })
    });
    let ledger = load.finish();
    accepted.map(|()| ledger)
}

/// The disk of the one mirror that has everything dies, and that of the primary is away; a mirror is left that was left out.
/// It serves by a person's order. The primary's disk comes back with what was left behind, and that is brought.
pub fn forced(stage: &Stage) -> Result<Ledger> {
    let twin = mirrored(stage)?;
    let before = store(&twin)?;
    let (name, lab) = (before.name.clone(), twin.site.lab()?);
    let primary = Copy::find(&twin, &name, |node| node == before.host)?;
    let behind = Copy::find(&twin, &name, |node| node != before.host)?;
    let other = Copy::find(&twin, &name, |node| node != before.host && node != behind.node)?;
    for copy in [&primary, &other] {
        let spare = volume(AFTER, &copy.node);
        lab.create_volumes(&[VolumeSpec::new(&spare, &[copy.node.as_str()], 420 << 20)])?;
    }
    let mut promised = missed(&twin, &name, &behind.pod)?;
    emptied(&other.disk)?;
    other.killed(&twin)?;
    moved(&primary.disk, &primary.disk.join(ASIDE))?;
    primary.killed(&twin)?;
    // Thawed, it would read what its kernel had still taken from the primary, and might lack nothing.
    behind.killed(&twin)?;
    wait_for("no copy that has everything answers", LIMIT, || {
        Ok(twin.site.store(&name)?.blocked.starts_with("NoInSyncCopy").then_some(()))
    })?;
    let said = twin.site.admin(&["failover", &name, "--force", "--yes", "--wait", "120"], "")?;
    say(said.trim());
    let now = store(&twin)?;
    ensure!(now.host == behind.node && now.epoch > before.epoch, "{} at epoch {}", now.host, now.epoch);
    let after = comes_back(&twin, &name, &primary)?;
    // Under Required nothing is taken before a second copy has joined.
    for copy in [&other, &primary] {
        let words = ["store", "replace-replica", &name, &copy.letter, "--yes", "--wait", "240"];
        twin.site.admin(&words, "")?;
    }
    brought(&twin, &name, (&primary.disk, &after))?;
    all_in_sync(&twin)?;
    wait_for("nothing is left to say of it", LIMIT, || {
        Ok((said_of_force(&twin, &name)?[0] == "False").then_some(()))
    })?;
    promised.merge(&twin.sending("after-force", || Ok(()))?);
    judged(&twin, &promised)
}

/// The old primary's disk is there again: its copy keeps its line, and the store says from where on.
fn comes_back(twin: &Stage, store: &str, old: &Copy) -> Result<String> {
    moved(&old.disk.join(ASIDE), &old.disk)?;
    // It may have ended by itself over the empty disk, and is started again by the kubelet.
    if let Err(error) = old.killed(twin) {
        say(&format!("the process over the empty disk is gone: {error}"));
    }
    let told = wait_for("the store says that a line is kept", LIMIT, || {
        let [is_forced, reason, message] = said_of_force(twin, store)?;
        Ok((is_forced == "True" && reason == "ForkKept").then_some(message))
    })?;
    say(&told);
    let after = told.split("--after ").nth(1).and_then(|rest| rest.split('`').next()?.split(' ').next());
    Ok(after.context("it does not say where the lines part")?.to_owned())
}

/// What the disk of the replaced copy has is brought, and a second time nothing is.
fn brought(twin: &Stage, store: &str, (disk, after): (&Path, &str)) -> Result<()> {
    let folder = store_on(disk)?;
    let file = std::env::temp_dir().join(format!("left-behind-{}", std::process::id()));
    // The pod of the copy that was replaced lets go of its disk when it has ended.
    wait_for("what was left behind is written", LIMIT, || {
        let _ = std::fs::remove_file(&file);
        let node = twin.site.binaries.join("mailcluster-node");
        let tool = Command::new(node)
            .args(["store", "salvage", "--after", after])
            .args([&folder, &file])
            .stdin(Stdio::null())
            .output()?;
        let told = String::from_utf8_lossy(&tool.stderr).into_owned();
        ensure!(tool.status.success(), "{told}");
        Ok(Some(()))
    })?;
    let words = ["store", "salvage", store, file.to_str().context("no UTF-8")?, "--output", "json"];
    let (first, second) = (twin.site.admin(&words, "")?, twin.site.admin(&words, "")?);
    std::fs::remove_file(&file)?;
    say(first.trim());
    let count = |told: &str| -> Result<u64> {
        let told: Value = serde_json::from_str(told)?;
        told["messages"].as_u64().context("no number of messages")
    };
    ensure!(count(&first)? > 0 && count(&second)? == 0, "{first}, and then {second}");
    Ok(())
}
