//! What a node carries, and making it carry one of everything before it is cut off.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::{
    drill::Say,
    site::{SYSTEM, Site, wait_for},
};

/// Until a replacement runs.
const REPLACED: Duration = Duration::from_secs(90);
/// Until all is where it shall be.
const LIMIT: Duration = Duration::from_secs(240);
/// The operator's pods.
const OPERATOR: &str = "app.kubernetes.io/name=mailcluster-operator";
/// The MailCluster's frontends.
const FRONTEND: &str = "app.kubernetes.io/component=frontend";

/// Which of the parts a node carries.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Carried {
    /// The pod that leads the operator.
    pub leader: bool,
    /// A Ready frontend, while there is another one elsewhere.
    pub frontend: bool,
    /// A mail store.
    pub mail: bool,
    /// The directory.
    pub directory: bool,
}

impl Carried {
    /// What is not there.
    #[must_use]
    pub fn lacks(&self) -> Vec<&'static str> {
        let parts = [
            (self.leader, "the operator's leader"),
            (self.frontend, "a Ready frontend beside one elsewhere"),
            (self.mail, "a mail store"),
            (self.directory, "the directory"),
        ];
        parts.into_iter().filter(|(there, _)| !there).map(|(_, what)| what).collect()
    }
}

/// A pod, as far as it matters here.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seat {
    pod: String,
    node: String,
    ready: bool,
}

impl Site {
    /// What a node carries now.
    ///
    /// # Errors
    /// When the API cannot be asked, or nothing leads the operator.
    pub fn carried(&self, node: &str) -> Result<Carried> {
        let stores = self.stores()?;
        let here =
            |kind: &str| stores.iter().any(|s| s.kind == kind && s.host == node && s.phase == "Serving");
        let frontends = self.seats(&self.namespace, FRONTEND)?;
        let ready = |here: bool| frontends.iter().any(|seat| seat.ready && (seat.node == node) == here);
        Ok(Carried {
            leader: self.node_of(SYSTEM, &self.leader()?)? == node,
            frontend: ready(true) && ready(false),
            mail: here("Mail"),
            directory: here("Directory"),
        })
    }

    /// Makes a node carry the operator's leader, a frontend, a mail store and the directory: stores are moved by the
    /// admin command, the others by deleting pods until their replacements are there.
    ///
    /// # Errors
    /// When it does not within four minutes; the message says what is missing.
    pub fn make_carry_all(&self, say: Say<'_>, node: &str) -> Result<()> {
        wait_for(&format!("{node} carries one of everything"), LIMIT, || {
            let carried = self.carried(node)?;
            let lacks = carried.lacks();
            let Some(first) = lacks.first() else { return Ok(Some(())) };
            say(&format!("{node} lacks {first}"));
            // The leader last: it is what moves the stores.
            if !carried.directory {
                self.move_one(node, "Directory")?;
            } else if !carried.mail {
                self.move_one(node, "Mail")?;
            } else if !carried.frontend {
                let seats = self.seats(&self.namespace, FRONTEND)?;
                self.replace(&self.namespace, FRONTEND, &seats, frontend_in_the_way(&seats, node))?;
            } else {
                let (seats, leader) = (self.seats(SYSTEM, OPERATOR)?, self.leader()?);
                self.replace(SYSTEM, OPERATOR, &seats, operator_in_the_way(&seats, &leader, node))?;
            }
            bail!("it lacks {}", lacks.join(", "))
        })
    }

    /// The first store of this kind that reaches the node goes there.
    fn move_one(&self, node: &str, kind: &str) -> Result<()> {
        let mut refused = Vec::new();
        for store in self.stores()?.iter().filter(|store| store.kind == kind && store.host != node) {
            match self.admin(&["failover", &store.name, "--to", node], "") {
                Ok(_) => return Ok(()),
                Err(error) => refused.push(format!("{error:#}")),
            }
        }
        bail!("no store of kind {kind} goes to {node}: {}", refused.join("; "))
    }

    /// Deletes a pod, and waits until all are Ready again, as many as there were.
    fn replace(&self, namespace: &str, label: &str, before: &[Seat], pod: Option<&str>) -> Result<()> {
        if let Some(pod) = pod {
            self.kubernetes.kubectl(&["-n", namespace, "delete", "pod", pod, "--timeout=60s"])?;
        }
        wait_for("every pod is Ready", REPLACED, || {
            let now = self.seats(namespace, label)?;
            let gone = !now.iter().any(|seat| Some(seat.pod.as_str()) == pod);
            Ok((gone && now.len() >= before.len() && now.iter().all(|seat| seat.ready)).then_some(()))
        })?;
        // Whoever led may have been deleted.
        wait_for("an operator leads", REPLACED, || {
            let leader = self.leader()?;
            Ok((Some(leader.as_str()) != pod).then_some(()))
        })
    }

    fn seats(&self, namespace: &str, label: &str) -> Result<Vec<Seat>> {
        let text = self.kubernetes.kubectl(&["-n", namespace, "get", "pods", "-l", label, "-o", "json"])?;
        Ok(seats(&serde_json::from_str(&text).context("kubectl's answer")?))
    }
}

/// The pods that stay.
fn seats(list: &Value) -> Vec<Seat> {
    let text = |pod: &Value, pointer: &str| {
        pod.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    let stay = list["items"].as_array().into_iter().flatten();
    let stay = stay.filter(|pod| pod.pointer("/metadata/deletionTimestamp").is_none());
    let seat = |pod: &Value| {
        let conditions = pod.pointer("/status/conditions").and_then(Value::as_array);
        let ready = conditions.into_iter().flatten().any(|c| c["type"] == "Ready" && c["status"] == "True");
        Seat { pod: text(pod, "/metadata/name"), node: text(pod, "/spec/nodeName"), ready }
    };
    stay.map(seat).collect()
}

/// Which operator is to be deleted, so that the leader comes to `node`; none while one is not Ready yet.
fn operator_in_the_way<'a>(seats: &'a [Seat], leader: &str, node: &str) -> Option<&'a str> {
    if seats.iter().any(|seat| !seat.ready) {
        return None;
    }
    let leads = seats.iter().find(|seat| seat.pod == leader)?;
    let mut standby = seats.iter().filter(|seat| seat.pod != leader);
    if leads.node == node {
        None
    } else if standby.clone().any(|seat| seat.node == node) {
        Some(&leads.pod)
    } else {
        // Its replacement avoids the nodes of the other two, the one that ends and the one that leads.
        standby.next().or(Some(leads)).map(|seat| seat.pod.as_str())
    }
}

/// Which frontend is to be deleted, so that some are on `node` and some elsewhere; none while one is not Ready yet.
fn frontend_in_the_way<'a>(seats: &'a [Seat], node: &str) -> Option<&'a str> {
    if seats.iter().any(|seat| !seat.ready) {
        return None;
    }
    let (here, elsewhere): (Vec<_>, Vec<_>) = seats.iter().partition(|seat| seat.node == node);
    match (here.as_slice(), elsewhere.as_slice()) {
        ([], [first, ..]) | ([first, _, ..], []) => Some(&first.pod),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn at(places: &[(&str, &str)]) -> Vec<Seat> {
        let seat = |&(pod, node): &(&str, &str)| Seat { pod: pod.into(), node: node.into(), ready: true };
        places.iter().map(seat).collect()
    }

    #[test]
    fn the_leader_comes_to_the_node() {
        for (places, expected) in [
            (vec![("lead", "n1"), ("other", "n2")], None),
            // The standby is there already: it will lead.
            (vec![("lead", "n2"), ("other", "n1")], Some("lead")),
            (vec![("lead", "n2"), ("other", "n3")], Some("other")),
            (vec![("lead", "n2")], Some("lead")),
            (vec![("other", "n2")], None),
        ] {
            assert_eq!(operator_in_the_way(&at(&places), "lead", "n1"), expected, "{places:?}");
        }
        let mut starting = at(&[("lead", "n2"), ("other", "n3")]);
        starting[1].ready = false;
        assert_eq!(operator_in_the_way(&starting, "lead", "n1"), None);
    }

    #[test]
    fn frontends_are_here_and_elsewhere() {
        for (places, expected) in [
            (vec![("a", "n1"), ("b", "n2")], None),
            (vec![("a", "n2"), ("b", "n3")], Some("a")),
            (vec![("a", "n1"), ("b", "n1")], Some("a")),
            (vec![("a", "n1")], None),
            (vec![], None),
        ] {
            assert_eq!(frontend_in_the_way(&at(&places), "n1"), expected, "{places:?}");
        }
    }

    #[test]
    fn pods_that_go_do_not_count() {
        let list = json!({"items": [
            {"metadata": {"name": "a", "deletionTimestamp": "2026-01-01T00:00:00Z"}},
            {"metadata": {"name": "b"}, "spec": {"nodeName": "n1"},
                "status": {"conditions": [{"type": "Ready", "status": "True"}]}},
        ]});
        assert_eq!(seats(&list), at(&[("b", "n1")]));
    }

    #[test]
    fn what_is_missing_is_named() {
        let all = Carried { leader: true, frontend: true, mail: true, directory: true };
        assert!(all.lacks().is_empty());
        assert_eq!(Carried { mail: false, ..all }.lacks(), ["a mail store"]);
    }
}
