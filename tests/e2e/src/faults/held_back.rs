//! Pods whose kubelet lets them wait are made anew, and it is told each time.
//!
//! A kubelet lets a container that ended soon after its start wait longer each time, up to five minutes: that is Kubernetes'
//! way with crash loops. A nemesis that kills the same pod often only looks like one, and a recovery has five minutes
//! altogether; a person would delete such a pod, whose successor does not wait. But a process that ends by itself waits just
//! so: what each of them ended with is printed, and how often it was done stands in the report. Exit code 137 is
//! SIGKILL, the nemesis' or the kubelet's; any other is the process's own.

use std::{
    collections::BTreeSet,
    sync::{Mutex, PoisonError},
};

use anyhow::Result;
use serde_json::Value;

use crate::{drill::Say, site::Site};

/// Which were made anew, by their UIDs: a pod that goes is seen more than once.
#[derive(Debug, Default)]
pub(super) struct HeldBack {
    seen: Mutex<BTreeSet<String>>,
}

/// A pod that waits in CrashLoopBackOff.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Waiting {
    uid: String,
    name: String,
    /// How its last process has ended, for people.
    ended: String,
}

impl HeldBack {
    /// Deletes the pods of the cluster that wait now.
    ///
    /// # Errors
    /// When the API does not do it.
    pub fn make_anew(&self, site: &Site, say: Say<'_>) -> Result<()> {
        let pods = site.get(&["pods", "-l", "app.kubernetes.io/name=mailcluster"])?;
        for pod in waiting(&pods) {
            let words = ["-n", &site.namespace, "delete", "pod", &pod.name, "--wait=false"];
            site.kubernetes.kubectl(&words)?;
            if self.seen.lock().unwrap_or_else(PoisonError::into_inner).insert(pod.uid) {
                say(&format!("  {} is held back by its kubelet and made anew: {}", pod.name, pod.ended));
            }
        }
        Ok(())
    }

    /// How many were made anew.
    pub fn count(&self) -> usize {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

fn waiting(pods: &Value) -> Vec<Waiting> {
    let text = |value: &Value, at: &str| value.pointer(at).and_then(Value::as_str).map(str::to_owned);
    let one = |pod: &Value| {
        let container = pod.pointer("/status/containerStatuses/0")?;
        if text(container, "/state/waiting/reason")? != "CrashLoopBackOff" {
            return None;
        }
        let last = container.pointer("/lastState/terminated").unwrap_or(&Value::Null);
        let word = |key: &str| last[key].to_string().replace('"', "");
        let restarts = container["restartCount"].to_string();
        let ended = format!(
            "{restarts} restarts, the last process ended with {} ({}) at {}",
            word("exitCode"),
            word("reason"),
            word("finishedAt")
        );
        Some(Waiting { uid: text(pod, "/metadata/uid")?, name: text(pod, "/metadata/name")?, ended })
    };
    pods["items"].as_array().into_iter().flatten().filter_map(one).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_what_its_kubelet_holds_back_waits_and_its_end_is_told() {
        let pod = |reason: &str| {
            json!({"metadata": {"name": "a-0-a-0", "uid": "u"}, "status": {"containerStatuses": [{
                "restartCount": 3, "state": {"waiting": {"reason": reason}},
                "lastState": {"terminated": {"exitCode": 137, "reason": "Error",
                    "finishedAt": "2026-01-01T00:00:00Z"}}}]}})
        };
        let runs =
            json!({"metadata": {"name": "b"}, "status": {"containerStatuses": [{"state": {"running": {}}}]}});
        let list = json!({"items": [pod("ContainerCreating"), runs, pod("CrashLoopBackOff"), {}]});
        let ended = "3 restarts, the last process ended with 137 (Error) at 2026-01-01T00:00:00Z";
        let expected = Waiting { uid: "u".into(), name: "a-0-a-0".into(), ended: ended.into() };
        assert_eq!(waiting(&list), [expected]);
    }
}
