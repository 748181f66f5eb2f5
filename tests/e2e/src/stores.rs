//! MailStores as `kubectl get -o json` shows them.

use serde_json::Value;

/// What is worth telling of a store.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StoreView {
    /// Its name.
    pub name: String,
    /// Mail or Directory.
    pub kind: String,
    /// `status.phase`.
    pub phase: String,
    /// The node that serves it.
    pub host: String,
    /// Its epoch, as its holder has published it.
    pub epoch: u64,
    /// Where it is served.
    pub endpoint: String,
    /// Kinds of evidence gathered.
    pub evidence: Vec<String>,
    /// Reason and message of the condition FailoverBlocked, when it is true.
    pub blocked: String,
}

impl StoreView {
    /// Reads one item of a list.
    #[must_use]
    pub fn from_json(item: &Value) -> Self {
        let text =
            |pointer: &str| item.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
        let evidence = item.pointer("/status/evidence").and_then(Value::as_array);
        let conditions = item.pointer("/status/conditions").and_then(Value::as_array);
        let blocked = conditions
            .into_iter()
            .flatten()
            .find(|condition| condition["type"] == "FailoverBlocked" && condition["status"] == "True");
        let word = |value: &Value, key: &str| value[key].as_str().unwrap_or_default().to_owned();
        Self {
            name: text("/metadata/name"),
            kind: text("/spec/kind"),
            phase: text("/status/phase"),
            host: text("/status/host"),
            epoch: item.pointer("/status/serving/epoch").and_then(Value::as_u64).unwrap_or(0),
            endpoint: text("/status/serving/endpoint"),
            evidence: evidence.into_iter().flatten().map(|evidence| word(evidence, "kind")).collect(),
            blocked: blocked
                .map(|c| format!("{}: {}", word(c, "reason"), word(c, "message")))
                .unwrap_or_default(),
        }
    }
}

/// What happened between two looks at the same store; `None` when nothing did.
#[must_use]
pub fn describe_change(before: &StoreView, after: &StoreView) -> Option<String> {
    let mut changes = Vec::new();
    if before.phase != after.phase {
        changes.push(format!("{} -> {}", before.phase, after.phase));
    }
    if before.evidence != after.evidence && !after.evidence.is_empty() {
        changes.push(format!("evidence {}", after.evidence.join(", ")));
    }
    if before.host != after.host {
        changes.push(format!("host {} -> {}", before.host, after.host));
    }
    if before.epoch != after.epoch {
        changes.push(format!("serving at epoch {} ({})", after.epoch, after.endpoint));
    }
    if before.blocked != after.blocked && !after.blocked.is_empty() {
        changes.push(format!("blocked: {}", after.blocked));
    }
    (!changes.is_empty()).then(|| format!("{}: {}", after.name, changes.join("; ")))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn changes_are_told_once() {
        let item = |phase: &str, epoch: u64| {
            StoreView::from_json(&json!({"metadata": {"name": "demo-0"}, "spec": {"kind": "Mail"},
                "status": {"phase": phase, "host": "node1", "serving": {"epoch": epoch, "endpoint": "10.0.0.1"},
                "evidence": [{"kind": "FenceJob"}]}}))
        };
        assert_eq!(describe_change(&item("Serving", 1), &item("Serving", 1)), None);
        let told = describe_change(&item("Fencing", 1), &item("Serving", 2)).unwrap();
        assert_eq!(told, "demo-0: Fencing -> Serving; serving at epoch 2 (10.0.0.1)");
    }
}
