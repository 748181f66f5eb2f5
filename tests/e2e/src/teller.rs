//! Telling what happens to a cluster while it happens: Kubernetes' events as they come, and once a second what the
//! objects show and the callers' own figures.

use std::{
    collections::BTreeSet,
    io::BufReader,
    process::{Child, Stdio},
    sync::{
        Arc,
        mpsc::{self, RecvTimeoutError, Sender},
    },
    thread::JoinHandle,
    time::Duration,
};

use anyhow::{Context, Result};
use mailcluster_lab::Lab;
use serde_json::Value;

use crate::{
    site::{SYSTEM, Site},
    stores::StoreView,
};

/// The condition by which the operator takes a frontend out.
const GATE: &str = "mailcluster.io/frontend-reachable";
/// Between two lines of figures.
const SECOND: Duration = Duration::from_secs(1);

/// Told each line, from several threads.
pub type Tell = Arc<dyn Fn(&str) + Send + Sync>;

/// Tells until it is dropped.
#[derive(Debug)]
pub struct Teller {
    events: Child,
    stop: Option<Sender<()>>,
    threads: Vec<JoinHandle<()>>,
}

impl Teller {
    /// Starts telling; `figures` answers a line each second.
    ///
    /// # Errors
    /// When the API cannot be watched.
    pub fn start(
        site: &Site,
        tell: &Tell,
        mut figures: impl FnMut() -> String + Send + 'static,
    ) -> Result<Self> {
        let own = Site {
            kubernetes: Lab::attach()?.into(),
            namespace: site.namespace.clone(),
            cluster: site.cluster.clone(),
            binaries: site.binaries.clone(),
        };
        let mut seen = Seen::of(&own)?;
        let mut events = own
            .lab()?
            .kubectl_command()
            .args(["get", "events", "--all-namespaces", "--watch-only", "--output", "json"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .context("failed to watch the events")?;
        let stream = BufReader::new(events.stdout.take().context("no standard output")?);
        let (stop, stopped) = mpsc::channel();
        let (say, namespace) = (tell.clone(), own.namespace.clone());
        let reader = std::thread::spawn(move || {
            let values = serde_json::Deserializer::from_reader(stream).into_iter::<Value>();
            // It ends with the watch.
            for line in values.map_while(Result::ok).filter_map(|event| milestone(&event, &namespace)) {
                say(&line);
            }
        });
        let say = tell.clone();
        let looker = std::thread::spawn(move || {
            while stopped.recv_timeout(SECOND) == Err(RecvTimeoutError::Timeout) {
                say(&figures());
                // The API may be away for a moment.
                let Ok(now) = Seen::of(&own) else { continue };
                changes(&seen, &now).iter().for_each(|change| say(change));
                seen = now;
            }
        });
        Ok(Self { events, stop: Some(stop), threads: vec![reader, looker] })
    }
}

impl Drop for Teller {
    fn drop(&mut self) {
        drop(self.stop.take());
        let _ended_already = self.events.kill();
        let _status = self.events.wait();
        for thread in self.threads.drain(..) {
            let _panicked = thread.join();
        }
    }
}

/// What objects show that no event tells.
#[derive(Debug, Clone, Default)]
struct Seen {
    stores: Vec<StoreView>,
    leader: String,
    /// Frontends that clients are not sent to.
    out: BTreeSet<String>,
}

impl Seen {
    fn of(site: &Site) -> Result<Self> {
        let list = site.get(&["mailstores,pods"])?;
        let items = || list["items"].as_array().into_iter().flatten();
        Ok(Self {
            stores: items().filter(|item| item["kind"] == "MailStore").map(StoreView::from_json).collect(),
            leader: site.leader()?,
            out: items()
                .filter(|item| is_out(item))
                .map(|pod| text(pod, "/metadata/name").to_owned())
                .collect(),
        })
    }
}

/// A frontend whose gate is closed.
fn is_out(pod: &Value) -> bool {
    let conditions = pod.pointer("/status/conditions").and_then(Value::as_array);
    conditions.into_iter().flatten().any(|c| c["type"] == GATE && c["status"] == "False")
}

fn changes(before: &Seen, now: &Seen) -> Vec<String> {
    let mut lines = Vec::new();
    if before.leader != now.leader {
        lines.push(line("new leader", &now.leader, &format!("before: {}", before.leader)));
    }
    for pod in now.out.difference(&before.out) {
        lines.push(line(
            "frontend out",
            pod,
            "the operator's leader does not reach it: no client is sent to it",
        ));
    }
    for pod in before.out.difference(&now.out) {
        lines.push(line("frontend", pod, "is reached again, or gone"));
    }
    for store in &now.stores {
        let earlier = before.stores.iter().find(|other| other.name == store.name);
        if earlier.is_some_and(|earlier| earlier.epoch < store.epoch) {
            lines.push(line(
                "serving",
                &store.name,
                &format!("at epoch {} ({})", store.epoch, store.endpoint),
            ));
        }
    }
    lines
}

/// What an event means in the story; most mean nothing in it.
fn milestone(event: &Value, namespace: &str) -> Option<String> {
    let (kind, name) = (text(event, "/involvedObject/kind"), text(event, "/involvedObject/name"));
    let (reason, message) = (text(event, "/reason"), text(event, "/message"));
    let of = text(event, "/involvedObject/namespace");
    let word = match (kind, reason) {
        ("MailStore", "FailoverStarted") => "detected",
        ("MailStore", "EvidenceRecorded") => "evidence",
        ("MailStore", "FencingStarted") => "fencing",
        ("MailStore", "Pinned") => "pinned",
        ("MailStore", "PodDeleted") => "pod removed",
        ("MailStore", "FailoverFinished") => "moved",
        ("MailStore", "FailoverBlocked") => "blocked",
        ("MailStore", other) => {
            let phase = other.strip_prefix("Phase").unwrap_or(other);
            return Some(line("phase", name, &[phase, message].join(" ")));
        }
        ("Job", "Completed") if of == namespace => {
            return Some(line("fenced", name, "has read the power state back: Off"));
        }
        ("Job", "BackoffLimitExceeded" | "DeadlineExceeded") if of == namespace => "fence failed",
        ("Node", "NodeNotReady" | "NodeReady") => "node",
        ("Pod", "Started") if of == namespace && name.ends_with("-0") => {
            let node = text(event, "/source/host");
            return Some(line("reattached", name, &format!("runs on {node}, with the volume")));
        }
        ("Pod", "FailedScheduling" | "FailedMount") if of == namespace || of == SYSTEM => "waits",
        _ => return None,
    };
    Some(line(word, name, message))
}

fn line(word: &str, about: &str, what: &str) -> String {
    format!("{word:<12} {about}: {what}").trim_end().to_owned()
}

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn events_of_the_story_are_told_and_others_not() {
        let event = |kind: &str, namespace: &str, name: &str, reason: &str| {
            json!({"involvedObject": {"kind": kind, "namespace": namespace, "name": name}, "reason": reason,
                "message": "why", "source": {"host": "node2"}})
        };
        for (kind, namespace, name, reason, expected) in [
            ("MailStore", "mail", "demo-0", "FailoverStarted", Some("detected     demo-0: why")),
            ("MailStore", "mail", "demo-0", "EvidenceRecorded", Some("evidence     demo-0: why")),
            ("MailStore", "mail", "demo-0", "PhaseReattaching", Some("phase        demo-0: Reattaching why")),
            (
                "Job",
                "mail",
                "fence-x",
                "Completed",
                Some("fenced       fence-x: has read the power state back: Off"),
            ),
            ("Job", "other", "backup", "Completed", None),
            (
                "Pod",
                "mail",
                "demo-0-a-0",
                "Started",
                Some("reattached   demo-0-a-0: runs on node2, with the volume"),
            ),
            ("Pod", "mail", "demo-frontend-x", "Started", None),
            ("Pod", "mail", "demo-0-a-0", "Pulled", None),
            ("Node", "", "node1", "NodeNotReady", Some("node         node1: why")),
        ] {
            let told = milestone(&event(kind, namespace, name, reason), "mail");
            assert_eq!(told.as_deref(), expected, "{kind} {reason}");
        }
    }

    #[test]
    fn what_objects_show_is_told_once() {
        let store = |epoch| StoreView {
            name: "demo-0".into(),
            epoch,
            endpoint: "10.0.0.9".into(),
            ..StoreView::default()
        };
        let before = Seen { stores: vec![store(1)], leader: "one".into(), out: BTreeSet::new() };
        let after =
            Seen { stores: vec![store(2)], leader: "two".into(), out: BTreeSet::from(["f".to_owned()]) };
        let words: Vec<String> = changes(&before, &after)
            .iter()
            .map(|line| line.split("  ").next().unwrap_or_default().to_owned())
            .collect();
        assert_eq!(
            words,
            [
                "new leader",
                "frontend out f: the operator's leader does not reach it: no client is sent to it",
                "serving"
            ]
        );
        assert!(changes(&after, &after.clone()).is_empty());
    }

    #[test]
    fn a_closed_gate_is_seen() {
        let pod = |status: &str| json!({"kind": "Pod", "status": {"conditions": [{"type": GATE, "status": status}]}});
        assert!(is_out(&pod("False")) && !is_out(&pod("True")) && !is_out(&json!({"kind": "MailStore"})));
    }
}
