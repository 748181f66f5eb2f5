//! The rules of the schema, evaluated as the API server does, and the messages a person gets.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use mailcluster_api::{MailCluster, MailStore, mailcluster::ACCEPT_UNSAFE};
use serde_json::{Value, json};

/// A good MailCluster, with `change` merged into its spec.
fn cluster(change: &Value) -> MailCluster {
    named("demo", change)
}

fn named(name: &str, change: &Value) -> MailCluster {
    let mut object = json!({
        "apiVersion": "mailcluster.io/v1alpha1", "kind": "MailCluster", "metadata": {"name": name},
        "spec": {"hostname": "mail.example.org",
                 "stores": {"count": 3, "storage": {"storageClassName": "local", "size": "10Gi"}}}});
    merge(&mut object["spec"], change);
    serde_json::from_value(object).unwrap()
}

fn merge(into: &mut Value, change: &Value) {
    match (into, change) {
        (Value::Object(into), Value::Object(change)) => {
            for (key, value) in change {
                merge(into.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (into, change) => *into = change.clone(),
    }
}

/// Asserts that creating is refused with a message that has `part` in it, or accepted when `part` is empty.
fn expect(case: &str, object: &MailCluster, part: &str) {
    let result = object.validate_cel();
    match (part, result) {
        ("", Ok(())) => {}
        ("", Err(errors)) => panic!("{case}: refused: {errors}"),
        (part, Ok(())) => panic!("{case}: accepted, not refused with {part:?}"),
        (part, Err(errors)) => assert!(errors.to_string().contains(part), "{case}: {errors}"),
    }
}

#[test]
fn what_is_asked_about_strangers() {
    for (case, change, part) in [
        (
            "screening",
            json!({"screening": {"allowCIDRs": ["10.0.0.0/8"], "blockCIDRs": ["2001:db8::/32"], "firstBanSeconds": 60}}),
            "",
        ),
        (
            "allowed by name",
            json!({"screening": {"allowCIDRs": ["example.org"]}}),
            "allowCIDRs must be networks",
        ),
        (
            "blocked by name",
            json!({"screening": {"blockCIDRs": ["example.org"]}}),
            "blockCIDRs must be networks",
        ),
        (
            "a first ban longer than the longest",
            json!({"screening": {"firstBanSeconds": 60, "longestBanSeconds": 30}}),
            "longer than longestBanSeconds",
        ),
        ("checks", json!({"inbound": {"spf": "Enforce", "dmarc": "Enforce"}}), ""),
        ("no checks", json!({"inbound": {"spf": "Off", "dkim": "Off", "dmarc": "Off"}}), ""),
        ("DMARC without DKIM", json!({"inbound": {"dkim": "Off"}}), "DMARC needs"),
        ("DMARC without SPF", json!({"inbound": {"spf": "Off", "dmarc": "Enforce"}}), "DMARC needs"),
        ("a list", json!({"inbound": {"dnsbls": [{"zone": "bl.example.org", "action": "Reject"}]}}), ""),
        (
            "no list",
            json!({"inbound": {"dnsbls": [{"zone": "bl example", "action": "Junk"}]}}),
            "zone must be",
        ),
        ("allowed networks", json!({"inbound": {"allowedCIDRs": ["192.0.2.0/24"]}}), ""),
        ("no networks", json!({"inbound": {"allowedCIDRs": ["192.0.2.1"]}}), "allowedCIDRs must be"),
    ] {
        expect(case, &cluster(&change), part);
    }
}

#[test]
fn what_is_refused_at_creation_and_why() {
    let unsafe_minimum = json!({"failover": {"fencing": {"minimum": "LeaseExpired"}}});
    let accepted =
        json!({"failover": {"fencing": {"minimum": "LeaseExpired", "acceptUnsafe": ACCEPT_UNSAFE}}});
    let half_accepted = json!({"failover": {"fencing": {"minimum": "Statement", "acceptUnsafe": "yes"}}});
    let manual = json!({"failover": {"policy": "Manual", "fencing": {"minimum": "Statement"}}});
    let proxies = json!({"frontends": {"proxyProtocol": {"trustedCIDRs": ["10.0.0.0/8", "2001:db8::/32"]}}});
    let not_a_network = json!({"frontends": {"proxyProtocol": {"trustedCIDRs": ["10.0.0.1"]}}});
    for (case, change, part) in [
        ("plain", json!({}), ""),
        (
            "screening",
            json!({"screening": {"allowCIDRs": ["10.0.0.0/8"], "blockCIDRs": ["2001:db8::/32"], "firstBanSeconds": 60}}),
            "",
        ),
        (
            "allowed by name",
            json!({"screening": {"allowCIDRs": ["example.org"]}}),
            "allowCIDRs must be networks",
        ),
        (
            "blocked by name",
            json!({"screening": {"blockCIDRs": ["example.org"]}}),
            "blockCIDRs must be networks",
        ),
        (
            "a first ban longer than the longest",
            json!({"screening": {"firstBanSeconds": 60, "longestBanSeconds": 30}}),
            "longer than longestBanSeconds",
        ),
        ("short host name", json!({"hostname": "mail"}), "fully qualified"),
        ("host name in capitals", json!({"hostname": "Mail.Example.org"}), "lower case"),
        ("host name with a final dot", json!({"hostname": "mail.example.org."}), "fully qualified"),
        ("an address for a host name", json!({"hostname": "postmaster@example.org"}), "fully qualified"),
        ("a limit", json!({"outbound": {"limits": {"messagesPerHour": 1}}}), ""),
        ("limits that limit nothing", json!({"outbound": {"limits": {}}}), "name a limit"),
        ("short lease", json!({"failover": {"leaseSeconds": 3}}), "4 to 120"),
        ("shortest lease", json!({"failover": {"leaseSeconds": 4}}), ""),
        ("many stores, default lease", json!({"stores": {"count": 51}}), ""),
        (
            "many stores, short lease",
            json!({"stores": {"count": 51}, "failover": {"leaseSeconds": 8}}),
            "at least 15",
        ),
        ("unsafe fencing", unsafe_minimum, "Proof"),
        ("unsafe fencing, accepted", accepted, ""),
        ("unsafe fencing, half accepted", half_accepted, "acceptUnsafe to '"),
        ("unsafe fencing by hand", manual, ""),
        ("postmaster", json!({"postmaster": "admin@example.org"}), ""),
        ("no postmaster", json!({"postmaster": "admin"}), "must be an address"),
        ("networks", proxies, ""),
        ("not a network", not_a_network, "CIDR"),
    ] {
        expect(case, &cluster(&change), part);
    }
}

#[test]
fn names_must_leave_room_for_children() {
    for (name, part) in [
        ("demo", ""),
        (&*"x".repeat(40), ""),
        (&*"x".repeat(41), "at most 40"),
        ("mail.example", "DNS label"),
        ("1st", "starts with a letter"),
        ("demo-1", "must not end"),
        ("my-directory", "must not end"),
        ("demo1", ""),
    ] {
        expect(name, &named(name, &json!({})), part);
    }
}

#[test]
fn what_cannot_be_changed() {
    let old = cluster(&json!({}));
    for (case, change, part) in [
        ("nothing", json!({}), ""),
        ("more stores", json!({"stores": {"count": 5}}), ""),
        ("fewer stores", json!({"stores": {"count": 2}}), "cannot shrink"),
        (
            "another class",
            json!({"stores": {"storage": {"storageClassName": "fast"}}}),
            "storageClassName is fixed",
        ),
        ("another size", json!({"stores": {"storage": {"size": "20Gi"}}}), "size is fixed"),
        (
            "another mode",
            json!({"stores": {"storage": {"accessMode": "ReadWriteOnce"}}}),
            "accessMode is fixed",
        ),
        (
            "a directory volume",
            json!({"directory": {"storage": {"size": "1Gi"}}}),
            "directory.storage is fixed",
        ),
        ("another host name", json!({"hostname": "mx.example.org"}), ""),
        ("another image", json!({"image": "registry.example/node:2"}), ""),
    ] {
        let result = cluster(&change).validate_cel_update(&old);
        match result {
            Ok(()) => assert_eq!(part, "", "{case}: accepted"),
            Err(errors) => assert!(!part.is_empty() && errors.to_string().contains(part), "{case}: {errors}"),
        }
    }
}

#[test]
fn the_epoch_never_falls() {
    let store = |epoch: i64, pod: &str| -> MailStore {
        serde_json::from_value(json!({
            "apiVersion": "mailcluster.io/v1alpha1", "kind": "MailStore", "metadata": {"name": "demo-0"},
            "spec": {"kind": "Mail", "cluster": "demo", "replicas": [{"id": "0".repeat(32), "pvc": "mail-demo-0-00000000"}]},
            "status": {"serving": {"epoch": epoch, "replica": "0".repeat(32), "podUID": pod,
                "endpoint": "10.0.0.1:11443", "since": "2026-01-01T00:00:00Z"}}}))
        .unwrap()
    };
    let old = store(5, "a");
    for (case, new, accepted) in [
        ("the same", store(5, "a"), true),
        ("the next", store(6, "b"), true),
        ("lower", store(4, "a"), false),
        ("another pod at the same epoch", store(5, "b"), false),
    ] {
        assert_eq!(new.validate_cel_update(&old).is_ok(), accepted, "{case}");
    }
    let mut gone = store(5, "a");
    gone.status.as_mut().unwrap().serving = None;
    assert!(gone.validate_cel_update(&old).is_err(), "the route is never removed");
}

#[test]
fn what_is_left_out_gets_its_default() {
    let spec = cluster(&json!({})).spec;
    assert_eq!(spec.frontends.replicas, Some(2));
    assert_eq!((spec.failover.max_concurrent, spec.failover.max_moves_per_hour), (2, 2));
    assert_eq!(spec.lease_seconds(), 8);
    assert_eq!(cluster(&json!({"stores": {"count": 51}})).spec.lease_seconds(), 15);
    assert_eq!(spec.directory_storage(), &spec.stores.storage);
}
