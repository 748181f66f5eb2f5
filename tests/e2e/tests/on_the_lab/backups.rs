//! Volumes and Leases that were restored from a backup.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mailcluster_e2e::{PASSWORD, wait_for};
use mailcluster_test_clients::{ImapClient, Ledger, Tls};
use serde_json::Value;

use crate::{
    beside::judged,
    mirrors,
    stage::{LIMIT, Stage, pod_of, say},
    volumes::{copy, refused, volume_of, with_pods_ended},
};

/// F44: a store of one copy lost its volume, and the backup of it is older than what the store has acknowledged. It is
/// refused by name until a person says that it is all there is; then it serves, what came behind the backup is gone, and no
/// UID that clients have seen is given to another message.
pub fn restored(stage: &Stage) -> Result<Ledger> {
    let (site, store) = (&stage.site, stage.other_store()?);
    let user = stage.user_of(&store)?;
    let ledger = stage.sending("backup", || Ok(()))?;
    let mut last = append(stage, &user)?;
    stage.settle()?;
    let volume = volume_of(stage, &store)?;
    let backup = site.lab()?.paths().lab.join("backup");
    with_pods_ended(stage, &[&store], || copy(&volume, &backup))?;
    site.wait_ready(LIMIT)?;
    for _ in 0..5 {
        last = append(stage, &user)?;
    }
    let before = site.store(&store)?;
    with_pods_ended(stage, &[&store], || copy(&backup, &volume))?;
    std::fs::remove_dir_all(&backup)?;
    refused(stage, &store, "StaleCopy")?;
    site.admin(&["store", "restore-lease", &store], "")?;
    let now = stage.serves_again(&store, before.epoch)?;
    site.wait_ready(LIMIT)?;
    let next = append(stage, &user)?;
    say(&format!("{store}: epoch {} -> {}; last UID {last:?}, next {next:?}", before.epoch, now.epoch));
    ensure!(next > last, "a UID that clients have seen was given again");
    Ok(ledger)
}

/// F26: the Lease of a store of one copy is put back to what it was an epoch ago, as when etcd is restored from a backup. The
/// store goes on from nothing that is older than its volume, and serves again, above all epochs, when a person says so.
pub fn lease_rolled_back(stage: &Stage) -> Result<Ledger> {
    let store = stage.other_store()?;
    rolled_back(stage, &store, || stage.site.lab()?.kill_pod(&stage.site.namespace, &pod_of(&store)))
}

/// The same of a store with mirrors, none of which is promoted by the old Lease.
pub fn mirrored_lease_rolled_back(stage: &Stage) -> Result<Ledger> {
    let twin = mirrors::mirrored(stage)?;
    let store = mirrors::store(&twin)?.name;
    let promised = rolled_back(&twin, &store, || twin.site.admin(&["failover", &store], "").map(drop))?;
    mirrors::all_in_sync(&twin)?;
    judged(&twin, &promised)
}

fn rolled_back(stage: &Stage, store: &str, on: impl FnOnce() -> Result<()>) -> Result<Ledger> {
    let site = &stage.site;
    stage.sending("lease-rolled-back", || {
        let (old, before) = (site.get(&["lease", store])?, site.store(store)?);
        on()?;
        let now = stage.serves_again(store, before.epoch)?;
        let words = ["-n", &site.namespace, "replace", "-f", "-"];
        let kept = ["name", "namespace", "labels", "annotations", "finalizers", "ownerReferences"];
        site.kubernetes.kubectl_with_input(&words, &as_in_a_backup(old, &kept).to_string())?;
        refused(stage, store, "StateRolledBack")?;
        site.admin(&["store", "restore-lease", store], "")?;
        let after = stage.serves_again(store, now.epoch)?;
        say(&format!("{store}: epoch {}, put back to {}, now {}", now.epoch, before.epoch, after.epoch));
        site.wait_ready(LIMIT)
    })
}

/// An object as it is put back: without its status, and of its metadata with this alone.
pub fn as_in_a_backup(mut object: Value, kept: &[&str]) -> Value {
    if let Some(fields) = object.as_object_mut() {
        fields.remove("status");
    }
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.retain(|key, _| kept.contains(&key.as_str()));
    }
    object
}

/// What names a message for ever: UIDVALIDITY, then UID.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Named(u32, u32);

/// A message in a folder of the user's; answers its name.
fn append(stage: &Stage, user: &str) -> Result<Named> {
    let mut client = wait_for("the user is let in", LIMIT, || {
        let login =
            ImapClient::login(stage.site.port(993)?, Tls::Implicit, Duration::from_secs(5), user, PASSWORD);
        login.map(Some)
    })?;
    // Not in INBOX, where everything is compared with what was promised.
    let _ = client.command("CREATE Kept")?;
    let answer = client.append("Kept", "", b"Subject: behind the backup\r\n\r\nText.")?;
    let code = answer.split_once("[APPENDUID ").and_then(|(_, rest)| rest.split_once(']'));
    let (code, _) = code.with_context(|| format!("APPEND: {answer}"))?;
    let mut numbers = code.split(' ').map(str::parse);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(validity)), Some(Ok(uid))) => Ok(Named(validity, uid)),
        _ => anyhow::bail!("APPEND: {answer}"),
    }
}
