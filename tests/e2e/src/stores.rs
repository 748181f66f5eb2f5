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
    /// The epoch that the operator has seen: what it says is of that one.
    pub seen: u64,
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
            seen: item.pointer("/status/epoch").and_then(Value::as_u64).unwrap_or(0),
            endpoint: text("/status/serving/endpoint"),
            evidence: evidence.into_iter().flatten().map(|evidence| word(evidence, "kind")).collect(),
            blocked: blocked
                .map(|c| format!("{}: {}", word(c, "reason"), word(c, "message")))
                .unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_worth_telling_is_read() {
        let view = StoreView::from_json(&json!({"metadata": {"name": "demo-0"}, "spec": {"kind": "Mail"},
            "status": {"phase": "Blocked", "host": "node1", "serving": {"epoch": 3, "endpoint": "10.0.0.1"},
                "evidence": [{"kind": "FenceJob"}], "conditions": [{"type": "FailoverBlocked", "status": "True",
                    "reason": "NoCandidate", "message": "none"}]}}));
        assert_eq!(
            (view.name.as_str(), view.kind.as_str(), view.phase.as_str()),
            ("demo-0", "Mail", "Blocked")
        );
        assert_eq!((view.host.as_str(), view.epoch, view.endpoint.as_str()), ("node1", 3, "10.0.0.1"));
        assert_eq!(
            (view.evidence, view.blocked.as_str()),
            (vec!["FenceJob".to_owned()], "NoCandidate: none")
        );
        assert_eq!(StoreView::from_json(&json!({})), StoreView::default());
    }
}
