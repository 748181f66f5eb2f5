//! `failover`, `fence confirm`, `store adopt`, `store replace-replica` and `store restore-lease`: what a person asks of the
//! operator, as annotations on MailStores and Nodes; and `store salvage`. The operator carries it out, or says in the MailStore's conditions why not. The directory,
//! which does not see annotations, is asked to note each of them in the audit log ([`Note`]).

mod adopt;
mod force;
mod note;
mod replace;
mod restore;
mod salvage;
mod waiting;

use std::{
    io::{self, BufRead, IsTerminal, Write},
    time::Duration,
};

use k8s_openapi::api::core::v1::Node;
use kube::{
    Api, Resource, ResourceExt,
    api::{Patch, PatchParams},
};
use mailcluster_api::{
    MailStore,
    mailstore::{FAILOVER, FAILOVER_REFUSED as REFUSED, Phase, REBALANCED},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::json;

use crate::{
    args::{Failover, Fence, Global, Store},
    connect::Cluster,
    failure::Failure,
    output::{self, Format},
};
use note::Note;
use waiting::{refusal, until};

/// On a Node: the boot id that a person has seen end. On a MailStore: the UID of the pod that did.
const FENCE_CONFIRMED: &str = "mailcluster.io/fence-confirmed";
/// Pause between two looks.
const LOOK: Duration = Duration::from_millis(500);

pub(super) fn in_cluster(global: &Global) -> Result<(), Failure> {
    match global.standalone {
        Some(_) => Err(Failure::Usage("a standalone node has no siblings: this is for clusters".into())),
        None => Ok(()),
    }
}

async fn annotate<K>(api: &Api<K>, name: &str, key: &str, value: &str) -> Result<K, Failure>
where
    K: Resource + Clone + DeserializeOwned + Serialize + std::fmt::Debug,
{
    let patch = json!({"metadata": {"annotations": {key: value}}});
    Ok(api.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await?)
}

async fn store(cluster: &Cluster, name: &str) -> Result<MailStore, Failure> {
    let store: MailStore = cluster.api().get(name).await?;
    if store.spec.cluster == cluster.name() {
        Ok(store)
    } else {
        Err(Failure::NotFound(format!("MailStore {name} belongs to the cluster {}", store.spec.cluster)))
    }
}

/// `failover STORE [--to NODE]`
pub async fn failover(asked: Failover, global: &Global) -> Result<(), Failure> {
    in_cluster(global)?;
    let cluster = Cluster::find(global).await?;
    if asked.force {
        return force::run(asked, &cluster, global.output).await;
    }
    let (host, after) = moved(&cluster, &asked).await?;
    let status = after.status.clone().unwrap_or_default();
    match global.output {
        Format::Json => output::json(&json!({"store": asked.store, "status": status})),
        Format::Text if asked.wait == 0 => output::line(&format!("asked to move {}", asked.store)),
        Format::Text => output::line(&format!(
            "{} is served from {} (it was on {})",
            asked.store,
            status.host.unwrap_or_default(),
            host.unwrap_or_else(|| "no node".into())
        )),
    }
    Ok(())
}

/// Asks for a move, and waits for it as long as was asked; answers the node before, and the MailStore after it.
pub(super) async fn moved(
    cluster: &Cluster,
    asked: &Failover,
) -> Result<(Option<String>, MailStore), Failure> {
    let before = store(cluster, &asked.store).await?;
    let host = before.status.as_ref().and_then(|s| s.host.clone());
    if asked.to.is_some() && asked.to == host {
        return Err(Failure::Failed(format!("{} is on {} already", asked.store, host.unwrap_or_default())));
    }
    let api: Api<MailStore> = cluster.api();
    let target = asked.to.clone().unwrap_or_else(|| "any".to_owned());
    let note = Note::write(cluster, format!("failover {} to {target}", asked.store)).await;
    // What the operator asked for by itself is a person's wish from here on.
    let request = json!({"metadata": {"annotations": {FAILOVER: target, REFUSED: null, REBALANCED: null}}});
    api.patch(&asked.store, &PatchParams::default(), &Patch::Merge(request)).await?;
    let waited = wait(&api, asked, &before).await;
    // Again when the directory was away: it may be what was moved.
    note.finish(cluster).await;
    Ok((host, waited?))
}

fn epoch(store: &MailStore) -> i64 {
    store.status.as_ref().and_then(|s| s.serving.as_ref()).map_or(0, |s| s.epoch)
}

/// Is it done: served anew, the request taken away?
fn has_moved(before: &MailStore, now: &MailStore) -> bool {
    let phase = now.status.as_ref().and_then(|s| s.phase);
    !now.annotations().contains_key(FAILOVER) && phase == Some(Phase::Serving) && epoch(now) > epoch(before)
}

/// What keeps it from moving, as the operator says.
fn obstacle(store: &MailStore) -> Option<String> {
    let conditions = &store.status.as_ref()?.conditions;
    let blocked = conditions.iter().find(|c| c.type_ == "FailoverBlocked" && c.status == "True")?;
    Some(format!("{}: {}", blocked.reason, blocked.message))
}

async fn wait(api: &Api<MailStore>, asked: &Failover, before: &MailStore) -> Result<MailStore, Failure> {
    let is_done = |now: &MailStore| match refusal(now, REFUSED, FAILOVER) {
        _ if has_moved(before, now) => Ok(true),
        Some(why) => Err(Failure::Failed(format!("{} is not moved: {why}", asked.store))),
        None => Ok(false),
    };
    let late = format!("{} has not moved within {} s; the request stands", asked.store, asked.wait);
    until(api, (&asked.store, asked.wait), is_done, &late).await
}

/// `fence confirm NODE`
pub async fn fence(command: Fence, global: &Global) -> Result<(), Failure> {
    in_cluster(global)?;
    let Fence::Confirm { node: name, yes } = command;
    let cluster = Cluster::find(global).await?;
    let nodes: Api<Node> = Api::all(cluster.client.clone());
    match nodes.get_opt(&name).await? {
        Some(node) => {
            let boot = boot_to_confirm(&node)?;
            confirm(&name, &boot, yes)?;
            let note = Note::write(&cluster, format!("fence confirm {name}, boot {boot}")).await;
            annotate(&nodes, &name, FENCE_CONFIRMED, &boot).await?;
            note.finish(&cluster).await;
            match global.output {
                Format::Json => output::json(&json!({"node": name, "bootID": boot, "stores": []})),
                Format::Text => output::line(&format!("confirmed: boot {boot} of node {name} is over")),
            }
            Ok(())
        }
        None => gone(&cluster, &name, yes, global.output).await,
    }
}

/// The boot that is said to be over; never one whose node is plainly alive.
fn boot_to_confirm(node: &Node) -> Result<String, Failure> {
    let name = node.name_any();
    let status = node.status.as_ref();
    let conditions = status.and_then(|s| s.conditions.as_ref());
    if conditions.is_some_and(|c| c.iter().any(|c| c.type_ == "Ready" && c.status == "True")) {
        return Err(Failure::Failed(format!(
            "node {name} is Ready: it runs, and confirming its end could destroy mail; power it off first"
        )));
    }
    let boot = status.and_then(|s| s.node_info.as_ref()).map(|i| i.boot_id.clone());
    boot.filter(|b| !b.is_empty()).ok_or_else(|| Failure::Failed(format!("node {name} has told no boot id")))
}

fn confirm(node: &str, what: &str, yes: bool) -> Result<(), Failure> {
    let question = format!(
        "You state that node {node} ({what}) has no power, or that its disk is no longer attached to it.\n\
         If it still runs, mail will be destroyed. Type the node's name to go on: "
    );
    ask(&question, node, yes)
}

/// Has a person type `word` to go on, unless that was said beforehand.
pub(super) fn ask(question: &str, word: &str, yes: bool) -> Result<(), Failure> {
    if yes {
        return Ok(());
    }
    if !io::stdin().is_terminal() {
        return Err(Failure::Usage("say --yes when nobody can be asked".into()));
    }
    eprint!("{question}");
    let _ = io::stderr().flush();
    let mut typed = String::new();
    let read = io::stdin().lock().read_line(&mut typed);
    if read.is_ok() && typed.trim() == word { Ok(()) } else { Err(Failure::Failed("not confirmed".into())) }
}

/// The node's object was deleted: what is confirmed is the end of the pods that served there.
async fn gone(cluster: &Cluster, node: &str, yes: bool, out: Format) -> Result<(), Failure> {
    let api: Api<MailStore> = cluster.api();
    let mut stores = api.list(&kube::api::ListParams::default()).await?.items;
    stores.retain(|s| s.spec.cluster == cluster.name() && was_on(s, node));
    if stores.is_empty() {
        return Err(Failure::NotFound(format!(
            "there is no node {node}, and no store was served from it last"
        )));
    }
    let names: Vec<_> = stores.iter().map(ResourceExt::name_any).collect();
    confirm(node, &format!("gone from Kubernetes; it served {}", names.join(", ")), yes)?;
    let note =
        Note::write(cluster, format!("fence confirm {node}, gone; it served {}", names.join(", "))).await;
    let mut confirmed = Vec::new();
    for store in stores {
        let serving = store.status.as_ref().and_then(|s| s.serving.as_ref());
        if let Some(serving) = serving {
            let uid = serving.pod_uid.clone();
            annotate(&api, &store.name_any(), FENCE_CONFIRMED, &uid).await?;
            confirmed.push((store.name_any(), uid));
        }
    }
    note.finish(cluster).await;
    match out {
        Format::Json => {
            let store = |(store, uid): &(String, String)| json!({"store": store, "podUID": uid});
            let stores: Vec<_> = confirmed.iter().map(store).collect();
            output::json(&json!({"node": node, "bootID": null, "stores": stores}));
        }
        Format::Text => {
            let line = |(store, uid): &(String, String)| {
                output::line(&format!("confirmed: pod {uid}, which served {store}, is over"));
            };
            confirmed.iter().for_each(line);
        }
    }
    Ok(())
}

fn was_on(store: &MailStore, node: &str) -> bool {
    let Some(status) = &store.status else { return false };
    match &status.node_identity {
        Some(identity) => identity.node == node,
        None => status.host.as_deref() == Some(node),
    }
}

/// `store restore-lease STORE`, and the others
pub async fn store_command(command: Store, global: &Global) -> Result<(), Failure> {
    in_cluster(global)?;
    match command {
        Store::RestoreLease { store, without, wait } => {
            restore::run(restore::Asked { store, without, wait }, global).await
        }
        Store::Adopt(asked) => adopt::run(asked, global).await,
        Store::ReplaceReplica { store, copy, yes, wait } => {
            replace::run(replace::Asked { store, copy, yes, wait }, global).await
        }
        Store::Salvage { store, file } => salvage::run(&store, &file, global).await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store(value: serde_json::Value) -> MailStore {
        let mut store: MailStore = serde_json::from_value(json!({
            "apiVersion": "mailcluster.io/v1alpha1", "kind": "MailStore",
            "metadata": {"name": "demo-0"},
            "spec": {"kind": "Mail", "cluster": "demo", "replicas": []},
            "status": value,
        }))
        .unwrap();
        store.metadata.annotations = Some(Default::default());
        store
    }

    fn serving(epoch: i64, phase: &str) -> MailStore {
        store(json!({"phase": phase, "host": "node1", "serving": {
            "epoch": epoch, "replica": "r", "podUID": "u", "endpoint": "10.0.0.1:11443",
            "since": "2026-01-01T00:00:00Z"}}))
    }

    #[test]
    fn a_move_is_over_when_a_newer_epoch_serves_and_the_request_is_gone() {
        let before = serving(3, "Serving");
        let mut asked = serving(4, "Serving");
        asked.annotations_mut().insert(FAILOVER.into(), "any".into());
        for (now, expected) in [
            (before.clone(), false),
            (serving(4, "Settling"), false),
            (asked, false),
            (serving(4, "Serving"), true),
        ] {
            assert_eq!(has_moved(&before, &now), expected, "{now:?}");
        }
    }

    #[test]
    fn a_living_node_cannot_be_confirmed_dead() {
        let node = |ready: &str| -> Node {
            serde_json::from_value(json!({
                "metadata": {"name": "node1"},
                "status": {
                    "conditions": [{"type": "Ready", "status": ready}],
                    "nodeInfo": {"bootID": "b-1", "architecture": "", "containerRuntimeVersion": "",
                        "kernelVersion": "", "kubeProxyVersion": "", "kubeletVersion": "", "machineID": "",
                        "operatingSystem": "", "osImage": "", "systemUUID": ""},
                },
            }))
            .unwrap()
        };
        assert!(boot_to_confirm(&node("True")).is_err());
        for ready in ["False", "Unknown"] {
            assert_eq!(boot_to_confirm(&node(ready)), Ok("b-1".into()));
        }
        assert!(boot_to_confirm(&Node::default()).is_err());
    }

    #[test]
    fn stores_of_a_vanished_node_are_found_by_the_machine_that_held_them() {
        let on = |identity: &str| {
            store(json!({"host": "node9", "nodeIdentity":
                {"node": identity, "bootID": "b", "systemUUID": "s"}}))
        };
        assert!(was_on(&on("node1"), "node1") && !was_on(&on("node2"), "node1"));
        assert!(was_on(&serving(1, "Down"), "node1") && !was_on(&on("node1"), "node9"));
    }
}
