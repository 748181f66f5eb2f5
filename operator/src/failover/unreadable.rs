//! Objects that this version cannot read, as after going back to an older one: they are told of, and hold up nobody else.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::{
    Resource, ResourceExt,
    core::DeserializeGuard,
    runtime::events::{Event, EventType},
};

use super::CALL_LIMIT;
use crate::context::Context;

/// An object that cannot be read as what it is called.
#[derive(Debug, Clone, PartialEq)]
pub struct Invalid {
    /// Which one, with the version that was seen.
    pub about: Box<ObjectReference>,
    /// What is wrong with it.
    pub error: String,
}

/// The object, if it can be read as one.
///
/// # Errors
/// What is wrong with it.
pub fn readable<K: Resource<DynamicType = ()>>(object: DeserializeGuard<K>) -> Result<K, Invalid> {
    let about = ObjectReference { resource_version: object.resource_version(), ..object.object_ref(&()) };
    object.0.map_err(|unreadable| Invalid { about: Box::new(about), error: unreadable.error })
}

/// Which versions of which objects have been told of.
#[derive(Debug, Default)]
pub(super) struct Unreadable {
    told: BTreeSet<(String, String)>,
}

impl Unreadable {
    /// Counts them; where this replica leads, tells of each version once, in the log and as an event of the object.
    pub fn tell(&mut self, ctx: &Context, invalid: &[Invalid]) {
        ctx.metrics.unreadable.set(i64::try_from(invalid.len()).unwrap_or(i64::MAX));
        if !ctx.leads() {
            return;
        }
        for Invalid { about, error } in self.news(invalid) {
            let kind = about.kind.clone().unwrap_or_default();
            tracing::error!(kind, name = about.name, namespace = about.namespace, error, "it cannot be read");
            let note = format!(
                "this version of the operator cannot read it, and does nothing for it: {error}. Correct it, or go to \
                 the operator's version that its resource definition is of"
            );
            let event = Event {
                type_: EventType::Warning,
                reason: "Unreadable".into(),
                note: Some(note.chars().take(1_000).collect()),
                action: "Failover".into(),
                secondary: None,
            };
            let (about, recorder) = (about.clone(), ctx.recorder.clone());
            tokio::spawn(async move {
                let published = recorder.publish(&event, &about);
                if let Ok(Err(error)) = tokio::time::timeout(CALL_LIMIT, published).await {
                    tracing::warn!(%error, "an event could not be published");
                }
            });
        }
    }

    /// Those of which nothing was said yet in this version.
    fn news<'a>(&mut self, invalid: &'a [Invalid]) -> Vec<&'a Invalid> {
        let key = |i: &Invalid| {
            let version = i.about.resource_version.clone().unwrap_or_default();
            (i.about.uid.clone().unwrap_or_default(), version)
        };
        self.told.retain(|told| invalid.iter().any(|i| key(i) == *told));
        invalid.iter().filter(|i| self.told.insert(key(i))).collect()
    }
}

#[cfg(test)]
mod tests {
    use kube::core::ObjectList;
    use mailcluster_api::MailStore;
    use serde_json::json;

    use super::*;

    fn listed(kind_of_second: &str) -> (Vec<MailStore>, Vec<Invalid>) {
        let store = |name: &str, kind: &str| {
            json!({
                "apiVersion": "mailcluster.io/v1alpha1", "kind": "MailStore",
                "metadata": {"name": name, "namespace": "mail", "uid": name, "resourceVersion": "7"},
                "spec": {"kind": kind, "cluster": "demo", "replicas": []},
            })
        };
        let list: ObjectList<DeserializeGuard<MailStore>> = serde_json::from_value(json!({
            "apiVersion": "mailcluster.io/v1alpha1", "kind": "MailStoreList", "metadata": {"resourceVersion": "9"},
            "items": [store("demo-0", "Mail"), store("demo-1", kind_of_second)],
        }))
        .unwrap();
        let (mut good, mut invalid) = (Vec::new(), Vec::new());
        for object in list.items {
            match readable(object) {
                Ok(store) => good.push(store),
                Err(error) => invalid.push(error),
            }
        }
        (good, invalid)
    }

    #[test]
    fn an_object_of_a_later_version_does_not_hide_the_others() {
        let (good, invalid) = listed("Later");
        assert_eq!(good.iter().map(|s| s.name_any()).collect::<Vec<_>>(), ["demo-0"]);
        assert_eq!(invalid.len(), 1);
        let about = &invalid[0].about;
        assert_eq!((about.kind.as_deref(), about.name.as_deref()), (Some("MailStore"), Some("demo-1")));
        assert!(invalid[0].error.contains("Later"), "{}", invalid[0].error);
        let (good, invalid) = listed("Mail");
        assert_eq!((good.len(), invalid.len()), (2, 0));
    }

    #[test]
    fn each_version_is_told_of_once() {
        let (_, mut invalid) = listed("Later");
        let mut unreadable = Unreadable::default();
        assert_eq!(unreadable.news(&invalid).len(), 1);
        assert!(unreadable.news(&invalid).is_empty(), "once");
        invalid[0].about.resource_version = Some("8".into());
        assert_eq!(unreadable.news(&invalid).len(), 1, "changed, and still unreadable");
    }
}
