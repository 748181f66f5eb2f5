//! What a store's Lease says of its copies.

use k8s_openapi::api::coordination::v1::Lease;
use kube::ResourceExt;

/// Annotation of a Lease: `version:id,id,…`, the copies that have everything.
const IN_SYNC: &str = "mailcluster.io/in-sync";
/// Annotation of a Lease: the copy of its holder.
const REPLICA: &str = "mailcluster.io/replica";

/// Has this copy everything that was acknowledged?
pub fn has_everything(lease: Option<&Lease>, id: &str) -> bool {
    let set = lease.and_then(|lease| lease.annotations().get(IN_SYNC)?.split_once(':'));
    set.is_some_and(|(_, ids)| ids.split(',').any(|member| member == id))
}

/// Where this copy stands, for people.
pub fn standing(lease: Option<&Lease>, id: &str) -> String {
    let holds = lease.is_some_and(|lease| {
        let is_held =
            lease.spec.as_ref().and_then(|s| s.holder_identity.as_ref()).is_some_and(|h| !h.is_empty());
        is_held && lease.annotations().get(REPLICA).is_some_and(|replica| replica == id)
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
            "metadata": {"annotations": {IN_SYNC: "4:aa,bb", REPLICA: "aa"}}, "spec": {"holderIdentity": "p/s"},
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
