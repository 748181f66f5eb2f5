//! Whether a store's pod may be evicted: failover's word, on the MailStore, from which the pod's PodDisruptionBudget is made.

use kube::ResourceExt;
use mailcluster_api::MailStore;
use mailcluster_failover::Eviction;

use super::annotations::EVICTION;

/// What stands for the time in the annotation of a budget that was shut again.
const SHUT: &str = "shut";
/// By so many seconds a word may be younger than the present that it is judged by.
const NEAR: i64 = 10;

/// The annotation that lets this pod be evicted from now (seconds since 1970) on.
#[must_use]
pub fn open(pod_uid: &str, now: i64) -> String {
    format!("{pod_uid} {now}")
}

/// The annotation that lets no pod be evicted, and remembers that this one might have been.
#[must_use]
pub fn shut(pod_uid: &str) -> String {
    format!("{pod_uid} {SHUT}")
}

/// How many of a store's pods may be away by eviction. Of a mirrored store one, as a primary hands its store over when it
/// is told to end; else what is not understood lets none go.
#[must_use]
pub fn budget(store: &MailStore) -> i32 {
    if store.spec.is_mirrored() {
        return 1;
    }
    i32::from(parse(store).is_some_and(|(_, since)| since.is_some()))
}

/// As failover sees it.
#[must_use]
pub fn view(store: &MailStore, now: i64) -> Option<Eviction> {
    let (pod_uid, since) = parse(store)?;
    let open_ms = since.map(|at| match now.saturating_sub(at) {
        // Written since `now` was read, by this clock or by one that is a little ahead.
        ahead if (-NEAR..0).contains(&ahead) => 0,
        // A time in the far future is another clock's: it has been open for too long rather than for ever.
        seconds => u64::try_from(seconds).map_or(u64::MAX, |s| s.saturating_mul(1_000)),
    });
    Some(Eviction { pod_uid: pod_uid.to_owned(), open_ms })
}

fn parse(store: &MailStore) -> Option<(&str, Option<i64>)> {
    let (uid, since) = store.annotations().get(EVICTION)?.split_once(' ')?;
    if since == SHUT { Some((uid, None)) } else { Some((uid, Some(since.parse().ok()?))) }
}

#[cfg(test)]
mod tests {
    use mailcluster_api::mailstore::{MailStoreSpec, StoreKind};

    use super::*;

    #[test]
    fn the_budget_follows_the_word_and_an_odd_one_lets_nobody_go() {
        let eviction = |open_ms| Some(Eviction { pod_uid: "u".into(), open_ms });
        for (word, allowed, seen) in [
            (None, 0, None),
            (Some(open("u", 100)), 1, eviction(Some(7_000))),
            (Some(open("u", 108)), 1, eviction(Some(0))),
            (Some(open("u", 117)), 1, eviction(Some(0))),
            (Some(open("u", 118)), 1, eviction(Some(u64::MAX))),
            (Some(shut("u")), 0, eviction(None)),
            (Some("u".into()), 0, None),
            (Some("u soon".into()), 0, None),
        ] {
            let spec = MailStoreSpec {
                kind: StoreKind::Mail,
                cluster: "demo".into(),
                replicas: Vec::new(),
                pinned_node: None,
            };
            let mut store = MailStore::new("demo-0", spec);
            store.metadata.annotations = word.clone().map(|word| [(EVICTION.into(), word)].into());
            assert_eq!((budget(&store), view(&store, 107)), (allowed, seen), "{word:?}");
        }
    }
}
