//! Is there more in what is there than was applied? An apply takes back what it changed, not what others added to a
//! list or map: a rule in a Role, a peer in a NetworkPolicy, a certificate in a Secret. Pure.

use serde_json::{Map, Value};

use super::drift::{is_nothing, same_quantity};

/// The parts of each kind that are ours as a whole: nobody adds to them.
fn owned(kind: &str) -> &'static [&'static str] {
    match kind {
        "Role" => &["/rules"],
        "RoleBinding" | "ClusterRoleBinding" => &["/subjects"],
        "NetworkPolicy" | "PodDisruptionBudget" => &["/spec"],
        "ConfigMap" => &["/data", "/binaryData"],
        "Secret" => &["/data"],
        "Service" => {
            &["/spec/selector", "/spec/ports", "/spec/externalIPs", "/spec/loadBalancerSourceRanges"]
        }
        "Deployment" | "StatefulSet" => &["/spec/template/spec"],
        _ => &[],
    }
}

/// A merge patch that takes back what was added; `None` when nothing was.
#[must_use]
pub fn surplus(kind: &str, live: &Value, desired: &Value) -> Option<Value> {
    let mut patch = Value::Null;
    for place in owned(kind) {
        let at = |object: &Value| object.pointer(place).cloned().unwrap_or_default();
        if let Some(back) = take_back(&at(live), &at(desired)) {
            let keys = place.split('/').skip(1).collect::<Vec<_>>();
            merge(&mut patch, keys.into_iter().rev().fold(back, |inner, key| object([(key.into(), inner)])));
        }
    }
    (!patch.is_null()).then_some(patch)
}

/// What turns `live` into `desired`, as a merge patch: lists as a whole, in objects only what differs.
fn take_back(live: &Value, desired: &Value) -> Option<Value> {
    if exact(live, desired) {
        return None;
    }
    let (Value::Object(live), Value::Object(desired)) = (live, desired) else { return Some(desired.clone()) };
    let added = live.iter().filter(|(key, value)| !desired.contains_key(*key) && !is_default(key, value));
    let gone = added.map(|(key, _)| (key.clone(), Value::Null));
    let changed = desired.iter().filter_map(|(key, want)| {
        Some((key.clone(), take_back(live.get(key).unwrap_or(&Value::Null), want)?))
    });
    Some(object(gone.chain(changed)))
}

/// Is `live` what is `desired`, but for the API server's defaults?
fn exact(live: &Value, desired: &Value) -> bool {
    match (live, desired) {
        (Value::Object(live), Value::Object(desired)) => {
            let wanted = |(key, want): (&String, &Value)| match live.get(key) {
                Some(have) => exact(have, want),
                None => is_nothing(want),
            };
            desired.iter().all(wanted)
                && live.iter().all(|(key, value)| desired.contains_key(key) || is_default(key, value))
        }
        (Value::Array(live), Value::Array(desired)) => {
            live.len() == desired.len()
                && desired.iter().all(|want| live.iter().any(|have| exact(have, want)))
        }
        (Value::String(live), Value::String(desired)) => live == desired || same_quantity(live, desired),
        (live, desired) => live == desired || (is_nothing(live) && is_nothing(desired)),
    }
}

/// What an API server adds by itself. One that a newer Kubernetes brings and that is missing here costs a write that
/// changes nothing at each look, no more.
fn is_default(key: &str, value: &Value) -> bool {
    let text = |expected: &str| value.as_str() == Some(expected);
    is_nothing(value)
        || match key {
            // Chosen by the API server, or a copy of what is beside it.
            "nodePort" | "serviceAccount" => true,
            "restartPolicy" => text("Always"),
            "dnsPolicy" => text("ClusterFirst"),
            "schedulerName" => text("default-scheduler"),
            "terminationMessagePath" => text("/dev/termination-log"),
            "terminationMessagePolicy" => text("File"),
            "protocol" => text("TCP"),
            "apiVersion" => text("v1"),
            "successThreshold" => value.as_i64() == Some(1),
            "defaultMode" => value.as_i64() == Some(0o644),
            _ => false,
        }
}

fn object(fields: impl IntoIterator<Item = (String, Value)>) -> Value {
    Value::Object(fields.into_iter().collect::<Map<_, _>>())
}

/// Puts one patch's fields beside another's.
fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    #[allow(clippy::too_many_lines, reason = "one table")]
    fn what_was_added_is_taken_back_and_defaults_are_not() {
        let rule = json!({"apiGroups": ["x"], "resources": ["y"], "verbs": ["get"]});
        let secrets = json!({"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]});
        let pod = |spec: Value| json!({"spec": {"template": {"metadata": {"annotations": {"a": "b"}}, "spec": spec}}});
        let node = json!({"name": "node", "env": [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "p"}}}],
            "resources": {"limits": {"cpu": "1000m"}}});
        let defaulted = json!({"name": "node", "terminationMessagePath": "/dev/termination-log",
            "env": [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "p", "apiVersion": "v1"}}}],
            "resources": {"limits": {"cpu": "1"}}});
        let mut with_variable = defaulted.clone();
        with_variable["env"][0]["name"] = json!("A");
        with_variable["env"].as_array_mut().unwrap().push(json!({"name": "B", "value": "1"}));
        for (name, kind, live, desired, expected) in [
            (
                "nothing",
                "Role",
                json!({"rules": [rule], "metadata": {"x": 1}}),
                json!({"rules": [rule]}),
                None,
            ),
            (
                "a rule",
                "Role",
                json!({"rules": [rule, secrets]}),
                json!({"rules": [rule]}),
                Some(json!({"rules": [rule]})),
            ),
            (
                "a subject",
                "ClusterRoleBinding",
                json!({"subjects": [{"name": "a"}, {"name": "b"}]}),
                json!({"subjects": [{"name": "a"}]}),
                Some(json!({"subjects": [{"name": "a"}]})),
            ),
            (
                "open to everybody",
                "NetworkPolicy",
                json!({"spec": {"ingress": [{"ports": [{"port": 1, "protocol": "TCP"}]}, {}]}}),
                json!({"spec": {"ingress": [{"ports": [{"port": 1}]}]}}),
                Some(json!({"spec": {"ingress": [{"ports": [{"port": 1}]}]}})),
            ),
            (
                "egress",
                "NetworkPolicy",
                json!({"spec": {"ingress": [{"ports": [{"port": 1, "protocol": "TCP"}]}], "egress": [{}]}}),
                json!({"spec": {"ingress": [{"ports": [{"port": 1}]}]}}),
                Some(json!({"spec": {"egress": null}})),
            ),
            (
                "a certificate",
                "Secret",
                json!({"data": {"a": "1", "b": "2"}}),
                json!({"data": {"a": "1"}}),
                Some(json!({"data": {"b": null}})),
            ),
            (
                "binary data",
                "ConfigMap",
                json!({"data": {"a": "1"}, "binaryData": {"b": "2"}}),
                json!({"data": {"a": "1"}}),
                Some(json!({"binaryData": null})),
            ),
            (
                "an address",
                "Service",
                json!({"spec": {"externalIPs": ["192.0.2.7"], "clusterIP": "10.0.0.1",
                    "ports": [{"port": 25, "nodePort": 30025, "protocol": "TCP"}]}}),
                json!({"spec": {"ports": [{"port": 25, "protocol": "TCP"}]}}),
                Some(json!({"spec": {"externalIPs": null}})),
            ),
            (
                "a pod's defaults",
                "StatefulSet",
                pod(
                    json!({"containers": [defaulted], "restartPolicy": "Always", "dnsPolicy": "ClusterFirst",
                    "serviceAccountName": "s", "serviceAccount": "s", "schedulerName": "default-scheduler"}),
                ),
                pod(json!({"containers": [node], "serviceAccountName": "s"})),
                None,
            ),
            (
                "a variable",
                "StatefulSet",
                pod(json!({"containers": [with_variable]})),
                pod(json!({"containers": [node]})),
                Some(json!({"spec": {"template": {"spec": {"containers": [node]}}}})),
            ),
            (
                "the host's network",
                "Deployment",
                pod(json!({"containers": [defaulted], "hostNetwork": true})),
                pod(json!({"containers": [node]})),
                Some(json!({"spec": {"template": {"spec": {"hostNetwork": null}}}})),
            ),
            ("another's business", "MailStore", json!({"spec": {"x": 1}}), json!({"spec": {}}), None),
        ] {
            assert_eq!(surplus(kind, &live, &desired), expected, "{name}");
        }
    }
}
