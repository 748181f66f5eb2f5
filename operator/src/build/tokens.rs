//! ServiceAccounts that somebody has deleted and that were made anew: tokens are bound to the old one, and the kubelet does
//! not renew those of running pods in time. Such pods are replaced. Pure.

use k8s_openapi::{
    api::{
        apps::v1::StatefulSet,
        core::v1::{Pod, ServiceAccount},
    },
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time},
};
use kube::ResourceExt;
use mailcluster_api::labels::ACCOUNT_SINCE;
use serde_json::Value;

/// Since when there has been this account, where it is younger than what its pods are made from. One that is not has
/// never been deleted: nothing is written about it, so that a new operator changes no pod.
#[must_use]
pub fn account_since(account: Option<&ServiceAccount>, child: Option<&ObjectMeta>) -> Option<String> {
    let (account, child) =
        (account?.metadata.creation_timestamp.as_ref()?, child?.creation_timestamp.as_ref()?);
    let text = || serde_json::to_value(account).ok()?.as_str().map(str::to_owned);
    (account > child).then(text)?
}

/// Is this pod older than its account, by what its StatefulSet says?
#[must_use]
pub fn refused(set: &StatefulSet, pod: &Pod) -> bool {
    let since = set.annotations().get(ACCOUNT_SINCE);
    let since = since.and_then(|text| serde_json::from_value::<Time>(Value::from(text.as_str())).ok());
    since.zip(pod.creation_timestamp()).is_some_and(|(since, made)| made < since)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn made<T: serde::de::DeserializeOwned>(at: &str, annotations: &Value) -> T {
        let object = json!({"metadata": {"creationTimestamp": at, "annotations": annotations}});
        serde_json::from_value(object).unwrap()
    }

    #[test]
    fn pods_older_than_their_account_are_known_by_their_statefulset() {
        let none = json!({});
        let account: ServiceAccount = made("2026-01-01T10:00:05Z", &none);
        let old: StatefulSet = made("2026-01-01T10:00:00Z", &none);
        let new: StatefulSet = made("2026-01-01T10:00:05Z", &none);
        assert_eq!(account_since(Some(&account), Some(&new.metadata)), None, "made together");
        assert_eq!(account_since(None, Some(&old.metadata)), None);
        assert_eq!(account_since(Some(&account), None), None);
        let since = account_since(Some(&account), Some(&old.metadata)).unwrap();
        let set: StatefulSet = made("2026-01-01T10:00:00Z", &json!({ ACCOUNT_SINCE: since }));
        for (pod, expected) in [("2026-01-01T10:00:04Z", true), ("2026-01-01T10:00:05Z", false)] {
            assert_eq!(refused(&set, &made(pod, &none)), expected, "{pod}");
            assert!(!refused(&old, &made(pod, &none)), "nothing is said");
        }
    }
}
