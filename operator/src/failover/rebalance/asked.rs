//! What the operator itself asked of a store in a window, as it stands in the store's annotations: pure.

use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use mailcluster_api::{MailCluster, MailStore, mailcluster::FailoverPolicy};

use super::super::{
    annotations as keys,
    report::{Part, REQUESTED},
    serves,
    window::Open,
};

/// The reason of a failover that the operator itself asked for.
const REBALANCED: &str = "Rebalanced";

/// The annotation that says which node the operator asked for, and until when the window is open in which it did.
#[must_use]
pub fn word(node: &str, open: Open) -> String {
    format!("{node} {}", open.until)
}

fn parse(store: &MailStore) -> Option<(&str, i64)> {
    let (node, until) = store.annotations().get(keys::REBALANCED)?.split_once(' ')?;
    Some((node, until.parse::<Timestamp>().ok()?.as_second()))
}

/// Is the word about a window that has closed, or not understood?
#[must_use]
pub fn is_over(store: &MailStore, now: i64) -> bool {
    parse(store).is_none_or(|(_, until)| until <= now)
}

/// Was this store moved since the window began, or asked to move, by the operator or by a person?
#[must_use]
pub fn stays(store: &MailStore, open: Open, now: i64) -> bool {
    let last = store.status.as_ref().and_then(|status| status.last_failover.as_ref());
    let by_a_person = last.filter(|last| last.reason == REQUESTED).is_some_and(|last| {
        let at = last.serving_at.as_ref().or(last.detected_at.as_ref());
        at.is_none_or(|at| at.0 >= open.since)
    });
    by_a_person || !is_over(store, now)
}

/// The operator's own request that has not gone.
fn is_own(store: &MailStore) -> bool {
    let asked = store.annotations().get(keys::FAILOVER);
    parse(store).is_some_and(|(node, _)| asked.is_some_and(|asked| asked == node))
}

/// Is the request that the store carries the operator's own, and too late to begin? The window has closed, or what
/// holds back moves that nobody asked for was set since.
#[must_use]
pub fn is_void(store: &MailStore, cluster: &MailCluster, now: i64) -> bool {
    let failover = &cluster.spec.failover;
    let is_held_back = failover.rebalance.is_none()
        || failover.policy == FailoverPolicy::Manual
        || failover.suspend_until.as_ref().is_some_and(|until| until.0.as_second() > now);
    is_own(store) && serves(store) && (is_held_back || is_over(store, now))
}

/// A move that the operator asked for is not told of as a person's.
pub fn note(part: &mut Part, store: &MailStore) {
    let begun = part.last_failover.as_mut().filter(|last| last.serving_at.is_none());
    if let Some(last) = begun.filter(|last| last.reason == REQUESTED && is_own(store)) {
        last.reason = REBALANCED.into();
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const SINCE: &str = "2026-11-28T02:00:00Z";
    const UNTIL: &str = "2026-11-28T04:00:00Z";

    fn at(time: &str) -> i64 {
        time.parse::<Timestamp>().unwrap().as_second()
    }

    fn open() -> Open {
        Open { since: SINCE.parse().unwrap(), until: UNTIL.parse().unwrap() }
    }

    fn store(annotations: &[(&str, &str)], status: &Value) -> MailStore {
        let annotations: std::collections::BTreeMap<_, _> = annotations.iter().copied().collect();
        serde_json::from_value(json!({
            "apiVersion": "mailcluster.io/v1alpha1", "kind": "MailStore",
            "metadata": {"name": "demo-0", "annotations": annotations},
            "spec": {"kind": "Mail", "cluster": "demo", "replicas": []},
            "status": status,
        }))
        .unwrap()
    }

    #[test]
    fn what_was_moved_in_a_window_stays_until_it_closes() {
        let own = word("n2", open());
        let last = |reason: &str, at: &str| json!({"lastFailover": {"reason": reason, "servingAt": at}});
        let (before, within) = ("2026-11-28T01:59:00Z", "2026-11-28T02:10:00Z");
        for (what, word, status, now, stays) in [
            ("nothing happened", None, json!({}), within, false),
            ("the operator moved it", Some(own.as_str()), json!({}), within, true),
            ("and it crashed since", Some(own.as_str()), last("Crashed", within), within, true),
            ("in the window before", Some(own.as_str()), json!({}), UNTIL, false),
            ("no word that is understood", Some("n2 soon"), json!({}), within, false),
            ("a person moved it", None, last("Requested", within), within, true),
            ("before the window", None, last("Requested", before), within, false),
            ("it was lost", None, last("NodeLost", within), within, false),
            (
                "a person's move that has not ended",
                None,
                json!({"lastFailover": {"reason": "Requested", "detectedAt": within}}),
                within,
                true,
            ),
        ] {
            let annotations: Vec<_> = word.map(|word| (keys::REBALANCED, word)).into_iter().collect();
            assert_eq!(super::stays(&store(&annotations, &status), open(), at(now)), stays, "{what}");
        }
    }

    #[test]
    fn a_request_of_the_operators_own_does_not_outlive_its_window() {
        let window = json!({"start": "02:00", "durationMinutes": 120});
        let cluster = |failover: Value| -> MailCluster {
            serde_json::from_value(json!({
                "apiVersion": "mailcluster.io/v1alpha1", "kind": "MailCluster", "metadata": {"name": "demo"},
                "spec": {"hostname": "mail.example.org", "stores": {"count": 1, "storage": {"size": "1Gi"}},
                    "failover": failover},
            }))
            .unwrap()
        };
        let set = || json!({"rebalance": {"window": window}});
        let with = |key: &str, value: &str| {
            let mut failover = set();
            failover[key] = json!(value);
            failover
        };
        let own = word("n2", open());
        let request = [(keys::FAILOVER, "n2"), (keys::REBALANCED, own.as_str())];
        let (serving, draining) = (json!({"phase": "Serving"}), json!({"phase": "Draining"}));
        let within = "2026-11-28T02:10:00Z";
        for (what, annotations, status, failover, now, void) in [
            ("the window is open", &request[..], &serving, set(), within, false),
            ("it has closed", &request[..], &serving, set(), UNTIL, true),
            ("it has begun by then", &request[..], &draining, set(), UNTIL, false),
            ("the window was taken out", &request[..], &serving, json!({}), within, true),
            ("moves are suspended", &request[..], &serving, with("suspendUntil", UNTIL), within, true),
            ("they were", &request[..], &serving, with("suspendUntil", SINCE), within, false),
            ("a person moves stores", &request[..], &serving, with("policy", "Manual"), within, true),
            ("a person's request", &request[..1], &serving, set(), UNTIL, false),
            ("a person's, since", &[(keys::FAILOVER, "n3"), request[1]][..], &serving, set(), UNTIL, false),
            ("there is none", &request[1..], &serving, set(), UNTIL, false),
        ] {
            let store = store(annotations, status);
            assert_eq!(is_void(&store, &cluster(failover), at(now)), void, "{what}");
        }
    }

    #[test]
    fn only_what_the_operator_asked_for_is_told_of_as_such() {
        let own = word("n2", open());
        let request = [(keys::FAILOVER, "n2"), (keys::REBALANCED, own.as_str())];
        for (what, annotations, reason, told) in [
            ("its own", &request[..], REQUESTED, REBALANCED),
            ("a person's", &request[..1], REQUESTED, REQUESTED),
            ("the holder was lost on the way", &request[..], "NodeLost", "NodeLost"),
        ] {
            let store = store(annotations, &json!({"lastFailover": {"reason": reason}}));
            let mut part = Part::of(store.status.as_ref().unwrap());
            note(&mut part, &store);
            assert_eq!(part.last_failover.unwrap().reason, told, "{what}");
        }
    }
}
