//! `store adopt --pv PV --to NODE`: a disk that stands in another machine now.

use k8s_openapi::api::core::v1::{Node, PersistentVolume};
use kube::{
    Api, ResourceExt,
    api::{ListParams, Patch, PatchParams},
};
use mailcluster_api::{MailStore, adoption, mailstore::Phase};
use serde_json::{Value, json};

use super::{
    FAILOVER, FENCE_CONFIRMED, Note, REFUSED, in_cluster,
    waiting::{refusal, until},
};
use crate::{
    args::{Adopt, Global},
    connect::Cluster,
    failure::Failure,
    output::{self, Format},
};

/// `store adopt --pv PV --to NODE`
pub async fn run(asked: Adopt, global: &Global) -> Result<(), Failure> {
    in_cluster(global)?;
    let cluster = Cluster::find(global).await?;
    let volumes: Api<PersistentVolume> = Api::all(cluster.client.clone());
    let volume = volumes
        .get_opt(&asked.pv)
        .await?
        .ok_or_else(|| Failure::NotFound(format!("there is no PersistentVolume {}", asked.pv)))?;
    let api: Api<MailStore> = cluster.api();
    let mut stores = api.list(&ListParams::default()).await?.items;
    stores.retain(|s| s.spec.cluster == cluster.name());
    let store = owner(&volume, &cluster.namespace, &stores)?;
    let nodes: Api<Node> = Api::all(cluster.client.clone());
    can_have_it(nodes.get_opt(&asked.to).await?.as_ref(), &asked.to)?;
    let old = match last_node(store) {
        Some(name) => nodes.get_opt(&name).await?,
        None => None,
    };
    let confirmed = confirmation(&asked, store, old.as_ref())?;
    let name = store.name_any();
    let what = if confirmed.is_some() { ", its old process said to have ended" } else { "" };
    let note = format!("store adopt: {name} on {} by {}{what}", asked.to, asked.pv);
    let note = Note::write(&cluster, note).await;
    let patch = Patch::Merge(request(&volume, &asked.to, confirmed.as_deref())?);
    api.patch(&name, &PatchParams::default(), &patch).await?;
    let waited = wait(&api, &name, &asked).await;
    note.finish(&cluster).await;
    let now = waited?;
    match global.output {
        Format::Json => output::json(&json!({"store": name, "status": now.status})),
        Format::Text if asked.wait == 0 => {
            output::line(&format!("asked to adopt {} on {} for {name}", asked.pv, asked.to));
        }
        Format::Text => output::line(&format!("{name} is served from {}", asked.to)),
    }
    Ok(())
}

/// The store whose claim the volume is bound to; not one that is served now.
fn owner<'a>(
    volume: &PersistentVolume,
    namespace: &str,
    stores: &'a [MailStore],
) -> Result<&'a MailStore, Failure> {
    let pv = volume.name_any();
    let claim = volume.spec.as_ref().and_then(|s| s.claim_ref.as_ref());
    let claim = claim.filter(|c| c.namespace.as_deref() == Some(namespace)).and_then(|c| c.name.as_ref());
    let owned = |s: &&MailStore| s.spec.replicas.iter().any(|r| Some(&r.pvc) == claim);
    let store = claim.and_then(|_| stores.iter().find(owned)).ok_or_else(|| {
        Failure::NotFound(format!(
            "PersistentVolume {pv} is not bound to the claim of a store of this cluster"
        ))
    })?;
    let status = store.status.as_ref();
    if status.and_then(|s| s.phase) == Some(Phase::Serving) {
        let host = status.and_then(|s| s.host.as_deref()).unwrap_or("a node");
        return Err(Failure::Failed(format!(
            "{} is served from {host}: power that machine off before its disk is moved",
            store.name_any()
        )));
    }
    Ok(store)
}

fn is_ready(node: &Node) -> bool {
    let conditions = node.status.as_ref().and_then(|s| s.conditions.as_ref());
    conditions.is_some_and(|c| c.iter().any(|c| c.type_ == "Ready" && c.status == "True"))
}

fn can_have_it(node: Option<&Node>, name: &str) -> Result<(), Failure> {
    let node = node.ok_or_else(|| Failure::NotFound(format!("there is no node {name}")))?;
    if !is_ready(node) {
        return Err(Failure::Failed(format!("node {name} is not Ready")));
    }
    if node.spec.as_ref().and_then(|s| s.unschedulable) == Some(true) {
        return Err(Failure::Failed(format!("node {name} is cordoned")));
    }
    Ok(())
}

fn last_node(store: &MailStore) -> Option<String> {
    let status = store.status.as_ref()?;
    status.node_identity.as_ref().map(|i| i.node.clone()).or_else(|| status.host.clone())
}

/// The pod whose end is stated, where it is. Not beside a node that is Ready: its kubelet ends the pod, and says so.
fn confirmation(asked: &Adopt, store: &MailStore, old: Option<&Node>) -> Result<Option<String>, Failure> {
    if !asked.accept_that_the_old_process_has_ended {
        return Ok(None);
    }
    let status = store.status.as_ref();
    let boot = status.and_then(|s| s.node_identity.as_ref()).map(|i| i.boot_id.as_str());
    let runs = |n: &&Node| {
        let now = n.status.as_ref().and_then(|s| s.node_info.as_ref()).map(|i| i.boot_id.as_str());
        is_ready(n) && (boot.is_none() || now == boot)
    };
    if let Some(node) = old.filter(runs) {
        return Err(Failure::Failed(format!(
            "node {} is Ready: leave --accept-that-the-old-process-has-ended out, its kubelet ends the pod",
            node.name_any()
        )));
    }
    Ok(status.and_then(|s| s.serving.as_ref()).map(|s| s.pod_uid.clone()))
}

/// The change of the MailStore that asks for it. A request to move the store is taken back: this is one.
fn request(volume: &PersistentVolume, to: &str, confirmed: Option<&str>) -> Result<Value, Failure> {
    let asked =
        adoption::Request { pv: volume.name_any(), uid: volume.uid().unwrap_or_default(), to: to.to_owned() };
    let text = serde_json::to_string(&asked).map_err(|error| Failure::Failed(error.to_string()))?;
    let mut annotations = json!({ adoption::ANNOTATION: text, FAILOVER: null, REFUSED: null });
    if let Some(pod) = confirmed {
        annotations[FENCE_CONFIRMED] = json!(pod);
    }
    Ok(json!({ "metadata": { "annotations": annotations } }))
}

/// Is it served there, and the request taken away?
fn is_adopted(store: &MailStore, to: &str) -> bool {
    let status = store.status.as_ref();
    !store.annotations().contains_key(adoption::ANNOTATION)
        && status.and_then(|s| s.phase) == Some(Phase::Serving)
        && status.and_then(|s| s.host.as_deref()) == Some(to)
}

async fn wait(api: &Api<MailStore>, name: &str, asked: &Adopt) -> Result<MailStore, Failure> {
    let is_done = |now: &MailStore| match refusal(now, REFUSED, adoption::ANNOTATION) {
        _ if is_adopted(now, &asked.to) => Ok(true),
        Some(why) => Err(Failure::Failed(format!("{} is not adopted: {why}", asked.pv))),
        None => Ok(false),
    };
    let late = format!("{name} is not served from {} within {} s; the request stands", asked.to, asked.wait);
    until(api, (name, asked.wait), is_done, &late).await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn volume(namespace: &str, claim: &str) -> PersistentVolume {
        serde_json::from_value(json!({
            "metadata": {"name": "pv1", "uid": "v1"},
            "spec": {"claimRef": {"namespace": namespace, "name": claim, "uid": "c1"}},
        }))
        .unwrap()
    }

    fn store(phase: &str) -> MailStore {
        serde_json::from_value(json!({
            "apiVersion": "mailcluster.io/v1alpha1", "kind": "MailStore", "metadata": {"name": "demo-0"},
            "spec": {"kind": "Mail", "cluster": "demo", "replicas": [{"id": "a".repeat(32), "pvc": "claim"}]},
            "status": {"phase": phase, "host": "n1",
                "nodeIdentity": {"node": "n1", "bootID": "b1", "systemUUID": "s1"},
                "serving": {"epoch": 3, "replica": "r", "podUID": "u", "endpoint": "10.0.0.1:11443",
                    "since": "2026-01-01T00:00:00Z"}},
        }))
        .unwrap()
    }

    fn node(ready: &str, boot: &str, cordoned: bool) -> Node {
        serde_json::from_value(json!({
            "metadata": {"name": "n1"}, "spec": {"unschedulable": cordoned},
            "status": {
                "conditions": [{"type": "Ready", "status": ready}],
                "nodeInfo": {"bootID": boot, "architecture": "", "containerRuntimeVersion": "",
                    "kernelVersion": "", "kubeProxyVersion": "", "kubeletVersion": "", "machineID": "",
                    "operatingSystem": "", "osImage": "", "systemUUID": ""},
            },
        }))
        .unwrap()
    }

    fn asked(accepts: bool) -> Adopt {
        Adopt { pv: "pv1".into(), to: "n3".into(), accept_that_the_old_process_has_ended: accepts, wait: 0 }
    }

    #[test]
    fn only_a_stores_own_volume_is_adopted_and_not_while_it_is_served() {
        for (volume, phase, word) in [
            (volume("mail", "claim"), "Blocked", ""),
            (volume("mail", "claim"), "Serving", "is served from n1"),
            (volume("mail", "other"), "Blocked", "is not bound to the claim"),
            (volume("elsewhere", "claim"), "Blocked", "is not bound to the claim"),
            (PersistentVolume::default(), "Blocked", "is not bound to the claim"),
        ] {
            let stores = [store(phase)];
            let said = owner(&volume, "mail", &stores).err().map(|e| e.to_string()).unwrap_or_default();
            assert!(said.contains(word) && said.is_empty() == word.is_empty(), "{phase} {volume:?}: {said}");
        }
    }

    #[test]
    fn the_node_must_be_there_and_ready() {
        let node = |ready, cordoned| Some(node(ready, "b", cordoned));
        for (node, good) in [
            (node("True", false), true),
            (node("Unknown", false), false),
            (node("True", true), false),
            (None, false),
        ] {
            assert_eq!(can_have_it(node.as_ref(), "n3").is_ok(), good, "{node:?}");
        }
    }

    #[test]
    fn the_end_of_a_process_is_not_stated_of_a_node_that_runs() {
        for (accepts, old, expected) in [
            (false, Some(node("True", "b1", false)), Ok(None)),
            (true, Some(node("True", "b1", false)), Err(())),
            (true, Some(node("True", "b2", false)), Ok(Some("u".to_owned()))),
            (true, Some(node("Unknown", "b1", false)), Ok(Some("u".to_owned()))),
            (true, None, Ok(Some("u".to_owned()))),
        ] {
            let said = confirmation(&asked(accepts), &store("Blocked"), old.as_ref()).map_err(drop);
            assert_eq!(said, expected, "{accepts} {old:?}");
        }
    }

    #[test]
    fn the_request_names_the_very_object_and_takes_back_a_move() {
        let patch = request(&volume("mail", "claim"), "n3", Some("u")).unwrap();
        let annotations = &patch["metadata"]["annotations"];
        let text = annotations[adoption::ANNOTATION].as_str().unwrap();
        let wanted = adoption::Request { pv: "pv1".into(), uid: "v1".into(), to: "n3".into() };
        assert_eq!(serde_json::from_str::<adoption::Request>(text).unwrap(), wanted);
        assert_eq!((&annotations[FAILOVER], &annotations[FENCE_CONFIRMED]), (&Value::Null, &json!("u")));
    }

    #[test]
    fn it_is_adopted_when_it_serves_there_and_the_request_is_gone() {
        let mut done = store("Serving");
        assert!(is_adopted(&done, "n1") && !is_adopted(&done, "n3") && !is_adopted(&store("Settling"), "n1"));
        done.annotations_mut().insert(adoption::ANNOTATION.into(), String::new());
        assert!(!is_adopted(&done, "n1"));
    }
}
