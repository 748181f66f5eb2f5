//! What the API server itself does with our definitions: rules and their messages, columns, names, scale.

use kube::api::{Patch, PatchParams, PostParams};
use mailcluster_api::MailCluster;
use serde_json::{Value, json};

use crate::world::World;

/// A cluster that the operator leaves alone.
const STILL: &str = "still";

/// Manifests and changes that are refused, with a part of the message that a person gets.
pub async fn refusals(world: &World) {
    let dry = PostParams { dry_run: true, ..PostParams::default() };
    for (change, part) in [
        (json!({"hostname": "mail"}), "fully qualified domain name"),
        (json!({"failover": {"leaseSeconds": 3}}), "leaseSeconds must be 4 to 120"),
        (json!({"failover": {"fencing": {"minimum": "LeaseExpired"}}}), "lets two nodes write to one volume"),
        (json!({"stores": {"count": 51}, "failover": {"leaseSeconds": 8}}), "at least 15"),
        (json!({"postmaster": "admin"}), "postmaster must be an address"),
        (
            json!({"frontends": {"proxyProtocol": {"trustedCIDRs": ["10.0.0.1"]}}}),
            "networks in CIDR notation",
        ),
        (json!({"stores": {"count": 0}}), "greater than or equal to 1"),
        (json!({"stores": {"replicas": 4}}), "less than or equal to 3"),
        (json!({"stores": {"durability": "Required"}}), "for stores with mirrors"),
        (json!({"stores": {"replaceAfterSeconds": 3600}}), "for stores with mirrors"),
        (json!({"stores": {"replicas": 2, "replaceAfterSeconds": 10}}), "greater than or equal to 60"),
        (json!({"stores": {"replicas": 2, "durability": "Required"}}), "stops every write while one"),
    ] {
        let object = serde_json::from_value(world.manifest("other", &change)).unwrap();
        refused(world.clusters().create(&dry, &object).await, &change, part);
    }
    let object = serde_json::from_value(world.manifest("demo-1", &json!({}))).unwrap();
    refused(world.clusters().create(&dry, &object).await, &json!("demo-1"), "must not end in");
    make_still(world).await;
    let dry = PatchParams { dry_run: true, ..PatchParams::default() };
    for (change, part) in [
        (json!({"stores": {"count": 2}}), "stores.count cannot shrink"),
        (json!({"stores": {"storage": {"storageClassName": "other"}}}), "storageClassName is fixed"),
        (json!({"stores": {"storage": {"size": "2Gi"}}}), "size is fixed"),
        (json!({"stores": {"storage": {"accessMode": "ReadWriteOnce"}}}), "accessMode is fixed"),
        (json!({"stores": {"replicas": 2}}), "stores.replicas is fixed"),
        (json!({"directory": {"storage": {"size": "2Gi"}}}), "neither add nor remove it"),
    ] {
        let patch = Patch::Merge(json!({"spec": change}));
        refused(world.clusters().patch(STILL, &dry, &patch).await, &change, part);
    }
    let id = |digit: &str| Patch::Merge(json!({"status": {"clusterID": digit.repeat(32)}}));
    world.clusters().patch_status(STILL, &PatchParams::default(), &id("a")).await.unwrap();
    refused(
        world.clusters().patch_status(STILL, &dry, &id("b")).await,
        &json!("id"),
        "clusterID never changes",
    );
}

fn refused(result: kube::Result<MailCluster>, case: &Value, part: &str) {
    let Err(error) = result else { panic!("{case} is accepted, not refused with {part:?}") };
    assert!(error.to_string().contains(part), "{case}: {error}");
}

async fn make_still(world: &World) {
    let change = json!({"paused": true, "stores": {"count": 3}});
    let object = serde_json::from_value(world.manifest(STILL, &change)).unwrap();
    world.clusters().create(&PostParams::default(), &object).await.unwrap();
}

/// What `kubectl get mail -o wide` shows, and by which names.
pub async fn columns_and_names(world: &World) {
    let expected = [
        (
            "mailclusters",
            vec!["Name", "Hostname", "Ready", "Frontends", "Stores", "Address", "Reason", "Message", "Age"],
        ),
        (
            "mailstores",
            vec![
                "Name",
                "Host",
                "Epoch",
                "Phase",
                "Failover",
                "Copies",
                "Accounts",
                "Old-Host",
                "Endpoint",
                "Last-Failover",
                "Age",
            ],
        ),
    ];
    for (plural, columns) in expected {
        let path = format!("/apis/mailcluster.io/v1alpha1/namespaces/{}/{plural}", world.namespace);
        let table = get(world, &path, "application/json;as=Table;v=v1;g=meta.k8s.io").await;
        let names: Vec<&str> = table["columnDefinitions"]
            .as_array()
            .unwrap()
            .iter()
            .filter_map(|column| column["name"].as_str())
            .collect();
        assert_eq!(names, columns, "{plural}");
    }
    let group = get(world, "/apis/mailcluster.io/v1alpha1", "application/json").await;
    for (plural, short) in [("mailclusters", "mc"), ("mailstores", "mst")] {
        let resource = group["resources"].as_array().unwrap().iter().find(|r| r["name"] == plural).unwrap();
        assert_eq!(resource["shortNames"], json!([short]));
        assert_eq!(resource["categories"], json!(["mail"]));
    }
}

async fn get(world: &World, path: &str, accept: &str) -> Value {
    let request = http::Request::get(path).header("Accept", accept).body(Vec::new()).unwrap();
    world.client.request(request).await.unwrap()
}

/// A manifest that leaves `frontends.replicas` out leaves the number to whoever scales.
pub async fn scale(world: &World) {
    let mut manifest = world.manifest(STILL, &json!({"paused": true, "stores": {"count": 3}}));
    manifest["spec"]["frontends"].as_object_mut().unwrap().remove("replicas");
    let force = PatchParams::apply("somebody").force();
    let scaled = Patch::Merge(json!({"spec": {"replicas": 5}}));
    world.clusters().patch(STILL, &force, &Patch::Apply(&manifest)).await.unwrap();
    world.clusters().patch_scale(STILL, &PatchParams::default(), &scaled).await.unwrap();
    let after = world.clusters().patch(STILL, &force, &Patch::Apply(&manifest)).await.unwrap();
    assert_eq!(after.spec.frontends.replicas, Some(5));
    world.delete_cluster(STILL).await;
}
