//! What is there when something has failed: printed, because the machine may be gone before anyone can look.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::{
    kubernetes::Kubernetes,
    site::{NAMESPACE, SYSTEM},
};

/// The latest events that are shown of each namespace.
const EVENTS: usize = 40;
/// The last lines that are shown of a log.
const LINES: &str = "--tail=40";
/// The API may be what has failed.
const PATIENCE: &str = "--request-timeout=10s";
/// Every namespace's.
const KINDS: &str = "mailclusters,mailstores,pods,persistentvolumeclaims,persistentvolumes";

/// What there is, as lines for a person: objects, what the MailStores say of themselves, the latest events
/// and logs. What cannot be had is said instead.
#[must_use]
pub fn picture(kubernetes: &Kubernetes) -> String {
    let ask = |args: &[&str]| kubernetes.kubectl(&[args, &[PATIENCE]].concat());
    let json = |args: &[&str]| -> Result<Value> {
        serde_json::from_str(&ask(&[args, &["-o", "json"]].concat())?).context("kubectl's answer")
    };
    let objects = ask(&["get", KINDS, "-A", "-o", "wide"]);
    let stores = json(&["get", "mailclusters,mailstores", "-A"]);
    let pods = json(&["get", "pods", "-A"]);
    let events = json(&["get", "events", "-A"]);
    let served = namespaces(stores.as_ref().unwrap_or(&Value::Null));

    let mut lines = section("objects", objects.map(|text| text.lines().map(str::to_owned).collect()));
    lines.extend(section("conditions", stores.map(|list| conditions(&list))));
    for namespace in &served {
        let title = format!("latest events in {namespace}");
        lines.extend(section(&title, events.as_ref().map(|list| latest(list, namespace, EVENTS))));
    }
    for (namespace, pod) in worth_reading(pods.as_ref().unwrap_or(&Value::Null), &served) {
        let log = ask(&["-n", &namespace, "logs", &pod, "--all-containers", LINES]);
        let title = format!("log of {namespace}/{pod}");
        lines.extend(section(&title, log.map(|text| text.lines().map(str::to_owned).collect())));
    }
    lines.join("\n")
}

/// Indented, so that no line looks like one of the test's own.
fn section<E: std::fmt::Display>(title: &str, lines: Result<Vec<String>, E>) -> Vec<String> {
    let lines = lines.unwrap_or_else(|error| vec![format!("not known: {error:#}")]);
    let head = format!("  -- {title}");
    std::iter::once(head).chain(lines.into_iter().map(|line| format!("    {line}"))).collect()
}

/// The namespaces that the operator is in, and those that it serves.
fn namespaces(stores: &Value) -> BTreeSet<String> {
    let served = items(stores).map(|item| text(item, "/metadata/namespace"));
    served.chain([NAMESPACE, SYSTEM]).map(str::to_owned).collect()
}

/// Every condition of every object, a line each.
fn conditions(list: &Value) -> Vec<String> {
    let mut lines = Vec::new();
    for item in items(list) {
        let phase = text(item, "/status/phase");
        lines.push(format!("{} {} {phase}", text(item, "/kind"), text(item, "/metadata/name")));
        for condition in item.pointer("/status/conditions").and_then(Value::as_array).into_iter().flatten() {
            let word = |key: &str| condition[key].as_str().unwrap_or_default();
            let (kind, status, reason) = (word("type"), word("status"), word("reason"));
            lines.push(format!("  {kind}={status} {reason}: {}", word("message")));
        }
    }
    lines
}

/// The latest events of a namespace, the oldest of them first.
fn latest(list: &Value, namespace: &str, count: usize) -> Vec<String> {
    let mut events: Vec<(&str, &Value)> = items(list)
        .filter(|event| text(event, "/metadata/namespace") == namespace)
        .map(|event| (event_time(event), event))
        .collect();
    events.sort_by_key(|(at, _)| *at);
    let told = events.iter().skip(events.len().saturating_sub(count)).map(|(at, event)| {
        let object =
            format!("{}/{}", text(event, "/involvedObject/kind"), text(event, "/involvedObject/name"));
        let (kind, reason) = (text(event, "/type"), text(event, "/reason"));
        format!("{at} {kind} {reason} {object}: {}", text(event, "/message"))
    });
    told.collect()
}

/// When an event was seen last. Both kinds of recorders are among ours and Kubernetes' own.
#[must_use]
pub fn event_time(event: &Value) -> &str {
    let fields = ["/series/lastObservedTime", "/lastTimestamp", "/eventTime", "/metadata/creationTimestamp"];
    fields.into_iter().map(|field| text(event, field)).find(|time| !time.is_empty()).unwrap_or_default()
}

/// The operator's pods, and of the others in these namespaces those that are not Ready.
fn worth_reading(pods: &Value, namespaces: &BTreeSet<String>) -> Vec<(String, String)> {
    let is_ready = |pod: &Value| {
        let conditions = pod.pointer("/status/conditions").and_then(Value::as_array);
        conditions.into_iter().flatten().any(|c| c["type"] == "Ready" && c["status"] == "True")
    };
    let mut found = Vec::new();
    for pod in items(pods) {
        let (namespace, name) = (text(pod, "/metadata/namespace"), text(pod, "/metadata/name"));
        let started = pod.pointer("/status/containerStatuses/0").is_some();
        if namespaces.contains(namespace) && started && (namespace == SYSTEM || !is_ready(pod)) {
            found.push((namespace.to_owned(), name.to_owned()));
        }
    }
    found
}

fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list["items"].as_array().into_iter().flatten()
}

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_store_says_why_it_does_not_serve() {
        let list = json!({"items": [{"kind": "MailStore", "metadata": {"name": "weak-0", "namespace": "weak"},
            "status": {"phase": "Blocked", "conditions": [{"type": "FailoverBlocked", "status": "True",
                "reason": "NoSibling", "message": "no other node reaches the volume"}]}}]});
        assert_eq!(
            conditions(&list),
            [
                "MailStore weak-0 Blocked",
                "  FailoverBlocked=True NoSibling: no other node reaches the volume"
            ]
        );
        let served = namespaces(&list);
        assert_eq!(served.into_iter().collect::<Vec<_>>(), ["mail", "mailcluster-system", "weak"]);
    }

    #[test]
    fn the_latest_events_of_a_namespace_are_shown_in_order() {
        let event = |namespace: &str, reason: &str, time: Value| {
            let mut event = json!({"metadata": {"namespace": namespace, "creationTimestamp": "2026-01-01T00:00:09Z"},
                "type": "Normal", "reason": reason, "message": "m",
                "involvedObject": {"kind": "MailStore", "name": "x"}});
            if let (Some(event), Some(time)) = (event.as_object_mut(), time.as_object()) {
                event.extend(time.clone());
            }
            event
        };
        let list = json!({"items": [
            event("mail", "Third", json!({"lastTimestamp": null})),
            event("mail", "First", json!({"lastTimestamp": "2026-01-01T00:00:01Z"})),
            event("mail", "Second", json!({"eventTime": "2026-01-01T00:00:01.500000Z", "lastTimestamp": null,
                "series": {"lastObservedTime": "2026-01-01T00:00:02.000000Z"}})),
            event("other", "Foreign", json!({})),
        ]});
        let told = latest(&list, "mail", 2);
        assert_eq!(
            told,
            [
                "2026-01-01T00:00:02.000000Z Normal Second MailStore/x: m",
                "2026-01-01T00:00:09Z Normal Third MailStore/x: m"
            ]
        );
    }

    #[test]
    fn logs_of_the_operator_and_of_pods_that_are_not_ready_are_read() {
        let pod = |namespace: &str, name: &str, ready: &str| {
            json!({"metadata": {"namespace": namespace, "name": name},
                "status": {"containerStatuses": [{}], "conditions": [{"type": "Ready", "status": ready}]}})
        };
        let unstarted = json!({"metadata": {"namespace": "mail", "name": "pending"}, "status": {}});
        let list = json!({"items": [pod("mail", "good", "True"), pod("mail", "bad", "False"), unstarted,
            pod(SYSTEM, "operator", "True"), pod("kube-system", "dns", "False")]});
        let served = BTreeSet::from(["mail".to_owned(), SYSTEM.to_owned()]);
        let named: Vec<String> = worth_reading(&list, &served).into_iter().map(|(_, name)| name).collect();
        assert_eq!(named, ["bad", "operator"]);
    }

    #[test]
    fn no_line_looks_like_the_tests_own() {
        let lines = section("x", Ok::<_, String>(vec!["test result: ok.".to_owned()]));
        assert!(lines.iter().all(|line| line.starts_with("  ")), "{lines:?}");
        assert!(section("x", Err("no API"))[1].contains("no API"));
    }
}
