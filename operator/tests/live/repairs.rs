//! Whatever somebody deletes or edits is made as it was.

use k8s_openapi::api::{
    coordination::v1::Lease,
    rbac::v1::{ClusterRoleBinding, Subject},
};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams},
};
use serde_json::{Value, json};

use crate::world::{World, until};

/// A child and an edit of it.
struct Row {
    group: &'static str,
    kind: &'static str,
    name: &'static str,
    /// What is edited.
    place: &'static str,
    /// How: from the value there to another.
    edit: fn(&mut Value),
    /// Deleted too, before it is edited?
    deleted: bool,
}

const APPS: &str = "apps";
const CORE: &str = "";
const NETWORKING: &str = "networking.k8s.io";
const POLICY: &str = "policy";
const RBAC: &str = "rbac.authorization.k8s.io";
const LABEL: &str = "/metadata/labels/app.kubernetes.io~1instance";

fn row(
    (group, kind, name): (&'static str, &'static str, &'static str),
    place: &'static str,
    edit: fn(&mut Value),
) -> Row {
    Row { group, kind, name, place, edit, deleted: true }
}

/// An edit only: the object was deleted by another row, or must not be.
fn edited(
    object: (&'static str, &'static str, &'static str),
    place: &'static str,
    edit: fn(&mut Value),
) -> Row {
    Row { deleted: false, ..row(object, place, edit) }
}

fn push(list: &mut Value, item: Value) {
    match list {
        Value::Array(items) => items.push(item),
        other => *other = json!([item]),
    }
}

/// Every kind of child: what is there is changed.
fn changes() -> Vec<Row> {
    let text = |v: &mut Value| *v = json!("edited");
    let file = |v: &mut Value| v["node.yaml"] = json!("edited");
    let none = |v: &mut Value| *v = json!([]);
    let three = |v: &mut Value| *v = json!(3);
    let key = |v: &mut Value| *v = json!("eA==");
    vec![
        row((APPS, "StatefulSet", "live-0-a"), "/spec/replicas", |v| *v = json!(0)),
        row((APPS, "Deployment", "live-frontend"), "/spec/replicas", |v| *v = json!(7)),
        row((CORE, "Service", "live"), "/spec/selector", |v| v["app.kubernetes.io/instance"] = json!("x")),
        row((CORE, "ConfigMap", "live-0"), "/data", file),
        row((CORE, "ConfigMap", "live-frontend"), "/data", file),
        row((CORE, "ConfigMap", "live-ca"), "/data", |v| v["ca.crt"] = json!("edited")),
        row((CORE, "ServiceAccount", "live-0"), LABEL, text),
        row((CORE, "ServiceAccount", "live-frontend"), LABEL, text),
        row((CORE, "ServiceAccount", "live-admin"), LABEL, text),
        row((CORE, "Secret", "live-0-identity"), "/data/tls.key", key),
        row((CORE, "Secret", "live-frontend-identity"), "/data/tls.key", key),
        row((CORE, "Secret", "live-operator-identity"), "/data/tls.key", key),
        row((CORE, "Secret", "live-tls"), LABEL, text),
        row((POLICY, "PodDisruptionBudget", "live-0"), "/spec/maxUnavailable", three),
        row((POLICY, "PodDisruptionBudget", "live-frontend"), "/spec/maxUnavailable", three),
        row((NETWORKING, "NetworkPolicy", "live-backend"), "/spec/ingress", none),
        row((NETWORKING, "NetworkPolicy", "live-frontend"), "/spec/ingress", none),
        row((NETWORKING, "NetworkPolicy", "live-directory"), "/spec/ingress", none),
        row((RBAC, "Role", "live-0"), "/rules", none),
        row((RBAC, "Role", "live-frontend"), "/rules", none),
        row((RBAC, "RoleBinding", "live-0"), "/subjects", none),
        row((RBAC, "RoleBinding", "live-frontend"), "/subjects", none),
        // Last: with another authority, every certificate is made anew.
        row((CORE, "Secret", "live-ca"), LABEL, text),
    ]
}

/// What is there stays, and something is added to it.
fn additions() -> Vec<Row> {
    let entry = |v: &mut Value| v["added"] = json!("added");
    let secret = |v: &mut Value| v["added.crt"] = json!("eA==");
    let subject =
        |v: &mut Value| push(v, json!({"kind": "ServiceAccount", "name": "default", "namespace": "default"}));
    let rule = |v: &mut Value| {
        push(v, json!({"apiGroups": [""], "resources": ["secrets"], "verbs": ["get", "list"]}));
    };
    let variable = |v: &mut Value| push(&mut v[0]["env"], json!({"name": "ADDED", "value": "1"}));
    let volume = |v: &mut Value| push(v, json!({"name": "added", "emptyDir": {}}));
    vec![
        edited((RBAC, "Role", "live-0"), "/rules", rule),
        edited((RBAC, "Role", "live-frontend"), "/rules", rule),
        edited((RBAC, "RoleBinding", "live-0"), "/subjects", subject),
        edited((NETWORKING, "NetworkPolicy", "live-backend"), "/spec/ingress", |v| push(v, json!({}))),
        edited((CORE, "ConfigMap", "live-0"), "/data", entry),
        edited((CORE, "Secret", "live-tls"), "/data", secret),
        edited((CORE, "Secret", "live-0-identity"), "/data", secret),
        edited((CORE, "Service", "live"), "/spec/externalIPs", |v| push(v, json!("192.0.2.7"))),
        edited((APPS, "Deployment", "live-frontend"), "/spec/template/spec/containers", variable),
        edited((APPS, "StatefulSet", "live-0-a"), "/spec/template/spec/containers", variable),
        edited((APPS, "StatefulSet", "live-0-a"), "/spec/template/spec/volumes", volume),
    ]
}

/// Every kind of child, deleted, edited and added to.
pub async fn children(world: &World) {
    let store = world.stores().get("live-0").await.unwrap();
    let claim: &'static str = store.spec.replicas[0].pvc.clone().leak();
    let mut rows = additions();
    rows.push(edited((CORE, "PersistentVolumeClaim", claim), LABEL, |v| *v = json!("edited")));
    rows.extend(changes());
    for row in rows {
        let api = world.dynamic(row.group, row.kind);
        if row.deleted {
            deleted(&row, &api).await;
        }
        repaired(&row, &api).await;
    }
    world.until_served("live").await;
}

async fn deleted(row: &Row, api: &Api<DynamicObject>) {
    let name = row.name;
    let before = until(name, || async { api.get_opt(name).await.unwrap() }).await;
    api.delete(name, &DeleteParams::default()).await.unwrap();
    let other =
        |o: DynamicObject| (o.uid() != before.uid() && o.metadata.deletion_timestamp.is_none()).then_some(());
    until(&format!("{} {name} deleted", row.kind), || async {
        api.get_opt(name).await.unwrap().and_then(other)
    })
    .await;
}

async fn repaired(row: &Row, api: &Api<DynamicObject>) {
    let at = |o: &DynamicObject| serde_json::to_value(o).unwrap().pointer(row.place).cloned();
    let good = at(&until(row.name, || async { api.get_opt(row.name).await.unwrap() }).await);
    let mut value = good.clone().unwrap_or(Value::Null);
    (row.edit)(&mut value);
    let patch = patch_at(row.place, value.clone());
    let what = format!("{} {} edited at {}", row.kind, row.name, row.place);
    let done = api.patch(row.name, &PatchParams::default(), &Patch::Merge(&patch)).await;
    assert_ne!(at(&done.unwrap_or_else(|e| panic!("{what}: {e}"))), good, "{what}: no edit at all");
    until(&what, || async {
        let now = at(&api.get_opt(row.name).await.unwrap()?);
        // Keys and certificates are made anew, so that only the edit has to be gone.
        let anew =
            row.kind == "Secret" && now.is_some() && !still_edited(now.as_ref(), good.as_ref(), &value);
        (now == good || anew).then_some(())
    })
    .await;
}

/// Does a Secret's value still have what the edit brought?
fn still_edited(now: Option<&Value>, good: Option<&Value>, edited: &Value) -> bool {
    match (now, good, edited) {
        (Some(Value::Object(now)), Some(Value::Object(good)), Value::Object(edited)) => {
            edited.keys().filter(|key| !good.contains_key(*key)).any(|key| now.contains_key(key))
        }
        (now, _, edited) => now == Some(edited),
    }
}

/// A merge patch that sets what a JSON pointer names.
fn patch_at(place: &str, value: Value) -> Value {
    let keys: Vec<String> =
        place.split('/').skip(1).map(|key| key.replace("~1", "/").replace("~0", "~")).collect();
    keys.into_iter().rev().fold(value, |inner, key| json!({ key: inner }))
}

/// The directory's right to review tokens: taken away, and the object that gives it deleted.
pub async fn token_reviews(world: &World) {
    let api: Api<ClusterRoleBinding> = Api::all(world.client.clone());
    let ours =
        |s: &Subject| s.name == "live-directory" && s.namespace.as_deref() == Some(world.namespace.as_str());
    let binding = || async {
        let all = api.list(&ListParams::default()).await.unwrap().items;
        all.into_iter().find(|b| b.subjects.iter().flatten().any(ours))
    };
    let mut found = until("the directory may review tokens", binding).await;
    found.subjects.iter_mut().for_each(|all| all.retain(|s| !ours(s)));
    found.metadata.managed_fields = None;
    let name = found.name_any();
    api.replace(&name, &kube::api::PostParams::default(), &found).await.unwrap();
    until("the directory may review tokens again", binding).await;
    api.delete(&name, &DeleteParams::default()).await.unwrap();
    until("the directory may review tokens after all", binding).await;
}

/// A deleted MailStore comes back with the same copy, and a deleted Lease with no lower epoch.
pub async fn stores(world: &World) {
    let epoch = |s: &mailcluster_api::MailStore| s.status.as_ref().and_then(|s| s.epoch).unwrap_or(0);
    let before = world.stores().get("live-0").await.unwrap();
    world.stores().delete("live-0", &DeleteParams::default()).await.unwrap();
    let again = until("MailStore live-0 deleted", || async {
        let now = world.stores().get_opt("live-0").await.unwrap();
        now.filter(|s| s.uid() != before.uid() && s.metadata.deletion_timestamp.is_none())
    })
    .await;
    assert_eq!(again.spec.replicas, before.spec.replicas, "the same copy");
    if !world.serves() {
        return;
    }
    let served = |s: &mailcluster_api::MailStore| s.status.as_ref().is_some_and(|s| s.serving.is_some());
    let back = until("live-0 is served again", || async {
        world.stores().get_opt("live-0").await.unwrap().filter(|s| served(s) && epoch(s) > 0)
    })
    .await;
    assert!(epoch(&back) >= epoch(&before), "the epoch never falls");
    world.until_served("live").await;
    let leases: Api<Lease> = Api::namespaced(world.client.clone(), &world.namespace);
    let transitions = |l: &Lease| l.spec.as_ref().and_then(|s| s.lease_transitions).unwrap_or(0);
    let before = leases.get("live-0").await.unwrap();
    leases.delete("live-0", &DeleteParams::default()).await.unwrap();
    let again = until("Lease live-0 deleted", || async {
        leases.get_opt("live-0").await.unwrap().filter(|l| l.uid() != before.uid())
    })
    .await;
    assert!(transitions(&again) >= transitions(&before), "the epoch never falls");
    world.until_served("live").await;
}
