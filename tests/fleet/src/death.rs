//! What becomes of every store when nodes die.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use kube::ResourceExt;
use mailcluster_api::{MailStore, mailstore::Phase};
use serde_json::{Value, json};

use crate::{plan, site::Site};

/// Between two looks.
const LOOK: Duration = Duration::from_millis(50);
/// A deadline, not an expectation.
const LIMIT: Duration = Duration::from_secs(900);

/// A store that was held on a node that died.
struct Lost {
    epoch: i64,
    /// Seconds until the operator had asked a copy to take it, and until it had noted that it serves.
    decided: Option<f64>,
    served: Option<f64>,
}

/// Does the operator say that this store serves?
pub fn serves(store: &MailStore) -> bool {
    store.status.as_ref().is_some_and(|status| status.phase == Some(Phase::Serving))
}

fn epoch(store: &MailStore) -> i64 {
    store.status.as_ref().and_then(|status| status.serving.as_ref()).map_or(0, |serving| serving.epoch)
}

/// From now on the nodes are dead; waits until all stores serve.
pub async fn follow(site: &Site) -> Result<Value> {
    let mut lost: BTreeMap<String, Lost> = BTreeMap::new();
    for store in site.stores.state() {
        let serving = store.status.as_ref().and_then(|status| status.serving.as_ref());
        let at = serving.and_then(|serving| serving.endpoint.parse().ok());
        let node = at.and_then(|at: std::net::SocketAddr| plan::node_at(at.ip()));
        if node.is_some_and(|node| site.size.dies(node)) {
            lost.insert(store.name_any(), Lost { epoch: epoch(&store), decided: None, served: None });
        }
    }
    ensure!(!lost.is_empty(), "no store is held on a node that dies");
    let begun = Instant::now();
    site.die();
    while lost.values().any(|store| store.served.is_none()) {
        let now = begun.elapsed();
        ensure!(now < LIMIT, "some stores do not serve after {} s", LIMIT.as_secs());
        for store in site.stores.state() {
            if let Some(known) = lost.get_mut(&store.name_any()) {
                known.look(&store, now.as_secs_f64());
            }
        }
        tokio::time::sleep(LOOK).await;
    }
    let all = |of: fn(&Lost) -> Option<f64>| spread(lost.values().filter_map(of).collect());
    Ok(
        json!({"lost": lost.len(), "decided": all(|store| store.decided), "served": all(|store| store.served)}),
    )
}

impl Lost {
    fn look(&mut self, store: &MailStore, now: f64) {
        let is_newer = epoch(store) > self.epoch;
        let target = store.status.as_ref().and_then(|status| status.target.as_ref());
        if is_newer || target.is_some_and(|target| target.epoch >= self.epoch) {
            self.decided.get_or_insert(now);
        }
        if is_newer && serves(store) {
            self.served.get_or_insert(now);
        }
    }
}

fn spread(mut seconds: Vec<f64>) -> Value {
    seconds.sort_by(f64::total_cmp);
    json!({"min": seconds.first(), "median": seconds.get(seconds.len() / 2), "max": seconds.last()})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store(epoch: i64, phase: &str, target: Option<i64>) -> MailStore {
        let mut object = json!({
            "apiVersion": "mailcluster.io/v1alpha1", "kind": "MailStore", "metadata": {"name": "big-0"},
            "spec": {"kind": "Mail", "cluster": "big", "replicas": []},
            "status": {"phase": phase, "serving": {"epoch": epoch, "replica": "aa", "podUID": "p",
                "endpoint": "198.18.1.1:11443", "since": "2026-01-01T00:00:00Z"}}});
        if let Some(epoch) = target {
            object["status"]["target"] = json!({"replica": "bb", "leaseVersion": "1", "epoch": epoch,
                "kind": "auto", "deadline": "2026-01-01T00:00:00Z"});
        }
        serde_json::from_value(object).unwrap()
    }

    #[test]
    fn a_store_is_decided_by_a_target_and_served_by_a_newer_epoch() {
        let mut lost = Lost { epoch: 3, decided: None, served: None };
        let steps = [
            (store(3, "Serving", None), (None, None)),
            (store(3, "Suspect", None), (None, None)),
            (store(3, "Promoting", Some(3)), (Some(2.0), None)),
            (store(4, "Settling", None), (Some(2.0), None)),
            (store(4, "Serving", None), (Some(2.0), Some(4.0))),
        ];
        for (n, (seen, expected)) in steps.into_iter().enumerate() {
            lost.look(&seen, n as f64);
            assert_eq!((lost.decided, lost.served), expected, "{n}");
        }
    }

    #[test]
    fn one_that_was_taken_between_two_looks_was_decided() {
        let mut lost = Lost { epoch: 3, decided: None, served: None };
        lost.look(&store(4, "Serving", None), 7.0);
        assert_eq!((lost.decided, lost.served), (Some(7.0), Some(7.0)));
    }
}
