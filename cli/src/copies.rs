//! What a store's Lease says of its copies.

use k8s_openapi::api::coordination::v1::Lease;
use kube::ResourceExt;
use mailcluster_failover::{in_sync, keys};

/// Has this copy everything that was acknowledged? Of a Lease that is not understood none is believed to.
pub fn has_everything(lease: Option<&Lease>, id: &str) -> bool {
    let set = lease.and_then(|lease| in_sync(lease.annotations()).ok());
    set.is_some_and(|(_, ids)| ids.iter().any(|member| member == id))
}

/// Where this copy stands, for people.
pub fn standing(lease: Option<&Lease>, id: &str) -> String {
    let holds = lease.is_some_and(|lease| {
        let is_held =
            lease.spec.as_ref().and_then(|s| s.holder_identity.as_ref()).is_some_and(|h| !h.is_empty());
        is_held && lease.annotations().get(keys::REPLICA).is_some_and(|replica| replica == id)
    });
    match (holds, has_everything(lease, id)) {
        (true, _) => "serves",
        (false, true) => "has everything",
        (false, false) => "lacks something",
    }
    .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lease_says_where_copies_stand() {
        let lease: Lease = serde_json::from_value(serde_json::json!({
            "metadata": {"annotations": {keys::IN_SYNC: "v4:aa,bb", keys::REPLICA: "aa"}},
            "spec": {"holderIdentity": "p/s"},
        }))
        .unwrap();
        for (id, expected) in
            [("aa", "serves"), ("bb", "has everything"), ("cc", "lacks something"), ("", "lacks something")]
        {
            assert_eq!(standing(Some(&lease), id), expected, "{id}");
        }
        assert_eq!(standing(None, "aa"), "lacks something");
    }
}
