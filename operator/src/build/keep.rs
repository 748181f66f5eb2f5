//! What pods are made of changes only when the MailCluster does: a new operator, which would render it otherwise,
//! restarts no mail pod. So a child keeps what was rendered, and for whom; the next operator goes on with that. Pure.

use std::collections::BTreeMap;

use mailcluster_api::{MailClusterSpec, labels, mailcluster::DeletionPolicy};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use crate::{apply::fingerprint, cluster::Cluster};

type Annotations = BTreeMap<String, String>;

/// What a rendering was made for, as it stands in an annotation.
#[derive(Debug, Clone, PartialEq, Eq)]
struct For {
    /// The MailCluster's UID and generation: while they stand, nobody has asked for anything else.
    request: String,
    /// A hash of what the rendering depends on: a change of anything else in the MailCluster is no reason either.
    spec: String,
    /// A hash of the rendering itself, so that one that was edited is not believed.
    rendering: String,
}

impl For {
    fn new(cluster: &Cluster, rendering: &Value) -> Self {
        Self {
            request: format!("{}.{}", cluster.owner.uid, cluster.generation),
            spec: fingerprint(&json!([pruned(&relevant(&cluster.spec)), cluster.image, cluster.id])),
            rendering: fingerprint(rendering),
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let mut words = text.split(' ').map(str::to_owned);
        Some(Self { request: words.next()?, spec: words.next()?, rendering: words.next()? })
    }

    fn text(&self) -> String {
        format!("{} {} {}", self.request, self.spec, self.rendering)
    }

    /// Was `self` made for what `wanted` is made for?
    fn serves(&self, wanted: &Self) -> bool {
        self.request == wanted.request || self.spec == wanted.spec
    }
}

/// The spec without what no pod depends on.
fn relevant(spec: &MailClusterSpec) -> Value {
    let mut spec = spec.clone();
    spec.stores.count = 0;
    spec.stores.replace_after_seconds = None;
    spec.frontends.replicas = None;
    spec.frontends.service_annotations.clear();
    spec.failover.suspend_until = None;
    spec.failover.rebalance = None;
    spec.failover.fencing.job = None;
    spec.deletion_policy = DeletionPolicy::default();
    spec.paused = false;
    spec.tls.secret_names.clear();
    serde_json::to_value(spec).unwrap_or_default()
}

/// Without what says nothing: a field that a newer schema adds is false or empty where nobody has set it.
fn pruned(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let kept = map.iter().map(|(key, value)| (key.clone(), pruned(value)));
            Value::Object(kept.filter(|(_, value)| !says_nothing(value)).collect())
        }
        Value::Array(items) => Value::Array(items.iter().map(pruned).collect()),
        other => other.clone(),
    }
}

fn says_nothing(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(map) => map.is_empty(),
        _ => false,
    }
}

/// The rendering to apply, with the annotations that its object gets: the one that `live` (the object's annotations)
/// carries where that was made for the same, else `rendered`.
///
/// # Errors
/// When it cannot be written as JSON.
pub fn keep<T>(
    cluster: &Cluster,
    live: Option<&Annotations>,
    rendered: T,
) -> serde_json::Result<(T, Annotations)>
where
    T: Serialize + DeserializeOwned,
{
    let fresh = serde_json::to_value(&rendered)?;
    let kept = live.and_then(|live| carried(cluster, live)).unwrap_or(fresh);
    // One that this version cannot read is of no use.
    let (value, part) = match serde_json::from_value::<T>(kept.clone()) {
        Ok(part) => (kept, part),
        Err(_) => (serde_json::to_value(&rendered)?, rendered),
    };
    let annotations = [
        (labels::RENDERED_FOR.to_owned(), For::new(cluster, &value).text()),
        (labels::RENDERED.to_owned(), value.to_string()),
    ];
    Ok((part, annotations.into()))
}

fn carried(cluster: &Cluster, live: &Annotations) -> Option<Value> {
    let value: Value = serde_json::from_str(live.get(labels::RENDERED)?).ok()?;
    let made = For::parse(live.get(labels::RENDERED_FOR)?)?;
    let wanted = For::new(cluster, &value);
    (made.rendering == wanted.rendering && made.serves(&wanted)).then_some(value)
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::PodTemplateSpec;

    use super::*;
    use crate::build::tests::cluster;

    fn template(grace: i64) -> PodTemplateSpec {
        serde_json::from_value(json!({"spec": {"containers": [], "terminationGracePeriodSeconds": grace}}))
            .unwrap()
    }

    #[test]
    #[allow(clippy::too_many_lines, reason = "one table")]
    fn what_is_there_wins_until_the_cluster_asks_for_something_else() {
        let old = cluster();
        let (first, made) = keep(&old, None, template(1)).unwrap();
        assert_eq!(first, template(1));
        let changed = |change: &dyn Fn(&mut Cluster)| {
            let mut cluster = old.clone();
            change(&mut cluster);
            cluster
        };
        let next = |c: &mut Cluster| c.generation += 1;
        let edited = |key: &str, value: &str| {
            let mut made = made.clone();
            made.insert(key.into(), value.into());
            made
        };
        for (name, cluster, live, kept) in [
            ("a new operator", old.clone(), made.clone(), true),
            ("made by hand, or before this was kept", old.clone(), Annotations::new(), false),
            (
                "scaled",
                changed(&|c| {
                    next(c);
                    c.spec.frontends.replicas = Some(9);
                }),
                made.clone(),
                true,
            ),
            (
                "a window for rebalancing",
                changed(&|c| {
                    next(c);
                    let window = json!({"window": {"start": "02:00", "durationMinutes": 60}});
                    c.spec.failover.rebalance = serde_json::from_value(window).unwrap();
                }),
                made.clone(),
                true,
            ),
            (
                "a field that a newer schema adds, nothing asked for",
                changed(&|c| c.spec.frontends.resources.requests.extend([("x".into(), Default::default())])),
                made.clone(),
                true,
            ),
            (
                "another image",
                changed(&|c| {
                    next(c);
                    c.image = "other".into();
                }),
                made.clone(),
                false,
            ),
            (
                "another host name",
                changed(&|c| {
                    next(c);
                    c.spec.hostname = "mx.example.org".into();
                }),
                made.clone(),
                false,
            ),
            (
                "a MailCluster made anew",
                changed(&|c| {
                    c.owner.uid = "other".into();
                    c.spec.hostname = "mx.example.org".into();
                }),
                made.clone(),
                false,
            ),
            ("edited by hand", old.clone(), edited(labels::RENDERED, "{\"spec\":null}"), false),
            ("no JSON", old.clone(), edited(labels::RENDERED, "{"), false),
        ] {
            let (found, after) = keep(&cluster, Some(&live), template(2)).unwrap();
            assert_eq!(found, template(if kept { 1 } else { 2 }), "{name}");
            // Whatever was decided stands at the next look.
            assert_eq!(keep(&cluster, Some(&after), template(3)).unwrap().0, found, "{name}, again");
        }
    }
}
