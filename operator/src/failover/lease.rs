//! The stores' Leases as the operator writes them: once at epoch 0, and anew from a replica's own account.

use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{Resource, ResourceExt};
use mailcluster_api::{FINALIZER, MailStore, labels};
use mailcluster_failover::{Holder, LeaseRecord, Position, RecordError, Shown, Witness};
use mailcluster_rpc::control::v1::DescribeResponse;

/// Reads what a Lease says.
///
/// # Errors
/// When it is not understood: then nothing is decided from it.
pub fn record(lease: &Lease) -> Result<LeaseRecord, RecordError> {
    let spec = lease.spec.as_ref();
    LeaseRecord::parse(
        spec.and_then(|s| s.holder_identity.as_deref()),
        spec.and_then(|s| s.lease_transitions),
        lease.annotations(),
    )
}

/// Is the holder of this Lease on that node, by its own word? One that is not understood may be.
#[must_use]
pub fn sits_on(lease: &Lease, node: &str) -> bool {
    record(lease).map_or(true, |record| {
        let seat = record.seat.as_deref().and_then(|seat| seat.rsplit_once('@'));
        record.holder.is_some() && seat.is_none_or(|(on, _)| on == node)
    })
}

/// A store's Lease with this record.
#[must_use]
pub fn build(store: &MailStore, record: &LeaseRecord, lease_seconds: u32) -> Lease {
    let mut own = labels::common(&store.spec.cluster);
    own.insert(labels::STORE.into(), store.name_any());
    Lease {
        metadata: ObjectMeta {
            name: Some(store.name_any()),
            namespace: store.namespace(),
            labels: Some(own),
            annotations: Some(record.annotations()),
            finalizers: Some(vec![FINALIZER.into()]),
            owner_references: store.controller_owner_ref(&()).map(|owner| vec![owner]),
            ..ObjectMeta::default()
        },
        spec: Some(LeaseSpec {
            holder_identity: Some(record.holder_identity().unwrap_or_default()),
            lease_transitions: Some(record.transitions()),
            lease_duration_seconds: i32::try_from(lease_seconds).ok(),
            ..LeaseSpec::default()
        }),
    }
}

/// The first record of a store.
#[must_use]
pub fn first(store: &MailStore) -> LeaseRecord {
    LeaseRecord::initial(store.spec.replicas.iter().map(|r| r.id.clone()).collect(), 1)
}

/// The record that the replicas' own accounts of their volumes give, all of them; `None` while one is missing that has ever been
/// opened and is not `left_out`. `old`: what the Lease says until then.
#[must_use]
pub fn restored(
    store: &MailStore,
    old: Option<&LeaseRecord>,
    all: &[&DescribeResponse],
    left_out: &[String],
) -> Option<LeaseRecord> {
    let is_copy =
        |d: &&&DescribeResponse, id: &String| d.open && d.replica == *id && d.store == store.name_any();
    let described = |id: &String| all.iter().find(|d| is_copy(d, id)).map(|d| witness(store, d));
    let status = store.status.as_ref();
    let was_opened = |id: &String| !store.spec.is_mirrored() || status.is_some_and(|s| s.was_opened(id));
    let must_tell = |id: &String| was_opened(id) && !left_out.contains(id);
    let asked = store.spec.replicas.iter().map(|r| (must_tell(&r.id), described(&r.id)));
    let copies: Option<Vec<Witness>> =
        asked.filter(|(must_tell, told)| *must_tell || told.is_some()).map(|(_, told)| told).collect();
    // The route and the status may know an epoch that an older volume does not: it never falls.
    let routed = status.and_then(|s| s.serving.as_ref()).map(|s| s.epoch);
    let shown = [routed, status.and_then(|s| s.epoch)].into_iter().flatten();
    let epoch = shown.filter_map(|epoch| u64::try_from(epoch).ok()).max().unwrap_or(0);
    let last = status.and_then(|s| s.last_failover.as_ref()?.forced.as_ref());
    let ordered = last.and_then(|forced| Some((forced.copy.as_str(), u64::try_from(forced.epoch?).ok()?)));
    mailcluster_failover::restored(&copies?, Shown { lease: old, epoch, ordered })
}

fn witness(store: &MailStore, d: &DescribeResponse) -> Witness {
    // A single copy has what there is, whatever set its log names from times when there were others.
    let in_sync = if store.spec.is_mirrored() { d.in_sync.clone() } else { vec![d.replica.clone()] };
    Witness {
        replica: d.replica.clone(),
        process: Holder { pod_uid: d.pod_uid.clone(), start_id: d.start_id.clone() },
        serves_at: d.epoch,
        last_epoch: d.last_epoch,
        last_forced: d.last_forced,
        promise: d.promise,
        end: Position { epoch: d.end_epoch, seq: d.end_seq },
        in_sync_version: d.in_sync_version,
        in_sync,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store() -> MailStore {
        serde_json::from_value(serde_json::json!({
            "apiVersion": "mailcluster.io/v1alpha1", "kind": "MailStore",
            "metadata": {"name": "demo-0", "namespace": "mail", "uid": "u"},
            "spec": {"kind": "Mail", "cluster": "demo", "replicas": [{"id": "aa", "pvc": "mail-demo-0-aa"}]},
        }))
        .unwrap()
    }

    #[test]
    fn the_first_lease_is_at_epoch_0_and_read_back_the_same() {
        let first = first(&store());
        let lease = build(&store(), &first, 8);
        assert_eq!(record(&lease), Ok(first.clone()));
        assert_eq!((first.epoch, first.in_sync, first.holder), (0, vec!["aa".to_owned()], None));
        assert_eq!(lease.finalizers(), [FINALIZER]);
    }

    #[test]
    fn a_lease_says_itself_where_its_holder_sits() {
        let holder = Some(Holder { pod_uid: "p".into(), start_id: "s".into() });
        let with = |holder: &Option<Holder>, seat: Option<&str>| {
            let record =
                LeaseRecord { holder: holder.clone(), seat: seat.map(str::to_owned), ..first(&store()) };
            build(&store(), &record, 8)
        };
        assert!(sits_on(&with(&holder, Some("n1@boot")), "n1"));
        assert!(!sits_on(&with(&holder, Some("n2@boot")), "n1"));
        assert!(!sits_on(&with(&None, Some("n1@boot")), "n1"), "released");
        assert!(sits_on(&with(&holder, None), "n1"), "it does not say");
    }

    #[test]
    fn i1_a_restored_lease_gives_an_epoch_that_was_begun_to_nobody_else() {
        let mut three = store();
        three.spec.replicas = ["aa", "bb", "cc"]
            .map(|id| serde_json::from_value(serde_json::json!({"id": id, "pvc": id})).unwrap())
            .into();
        let copy = |replica: &str, epoch, (last_epoch, promise), end_seq| DescribeResponse {
            open: true,
            store: "demo-0".into(),
            replica: replica.into(),
            pod_uid: format!("pod-{replica}"),
            epoch,
            last_epoch,
            promise,
            end_epoch: last_epoch,
            end_seq,
            in_sync: vec!["aa".into(), "bb".into()],
            ..DescribeResponse::default()
        };
        // The serving epoch, the last and the promised one of each, and where it ends; then who holds it at which epoch,
        // and who has everything.
        for (why, [aa, bb, cc], holder, epoch, in_sync) in [
            ("one serves", [(3, (3, 3), 9), (0, (3, 3), 9), (0, (3, 3), 8)], Some("pod-aa"), 3, "aa"),
            ("it was deposed", [(3, (3, 3), 9), (0, (4, 4), 8), (0, (3, 4), 7)], None, 4, "bb"),
            ("by one that serves", [(3, (3, 3), 9), (4, (4, 4), 8), (0, (4, 4), 8)], Some("pod-bb"), 4, "bb"),
            ("by one that begins", [(3, (3, 3), 9), (0, (3, 4), 8), (0, (3, 3), 7)], None, 4, "aa"),
            ("nobody serves", [(0, (3, 3), 9), (0, (3, 3), 7), (0, (2, 3), 9)], None, 3, "aa"),
        ] {
            let all = [("aa", aa), ("bb", bb), ("cc", cc)]
                .map(|(id, (serves, seen, end))| copy(id, serves, seen, end));
            let record = restored(&three, None, &all.each_ref(), &[]).unwrap();
            let pod = record.holder.as_ref().map(|holder| holder.pod_uid.as_str());
            assert_eq!(
                (pod, record.epoch, &*record.in_sync),
                (holder, epoch, &[in_sync.to_owned()][..]),
                "{why}"
            );
            assert_eq!(record.replica.is_some(), pod.is_some(), "{why}");
        }
    }

    #[test]
    fn a_restored_lease_tells_of_the_forced_takeover_that_its_line_begins_with() {
        let mut three = store();
        three.spec.replicas = ["aa", "bb", "cc"]
            .map(|id| serde_json::from_value(serde_json::json!({"id": id, "pvc": id})).unwrap())
            .into();
        // The last epoch and the last forced one of each; then what the Lease says.
        for (why, [aa, bb, cc], forced) in [
            ("nobody was", [(3, 0), (3, 0), (2, 0)], None),
            ("all follow it", [(5, 4), (5, 4), (5, 4)], Some(4)),
            ("one keeps what was left behind", [(3, 0), (5, 4), (5, 4)], Some(4)),
            ("only the one that was let in has it yet", [(4, 4), (3, 0), (3, 0)], Some(4)),
            (
                "a copy that was left behind by it was let in by an earlier one",
                [(3, 2), (5, 5), (5, 5)],
                Some(5),
            ),
        ] {
            let all =
                [("aa", aa), ("bb", bb), ("cc", cc)].map(|(id, (last, last_forced))| DescribeResponse {
                    open: true,
                    store: "demo-0".into(),
                    replica: id.into(),
                    last_epoch: last,
                    last_forced,
                    promise: last,
                    end_epoch: last,
                    end_seq: 9,
                    in_sync: vec!["aa".into(), "bb".into()],
                    ..DescribeResponse::default()
                });
            three.status = None;
            let record = restored(&three, None, &all.each_ref(), &[]).unwrap();
            assert_eq!(record.forced, forced, "{why}");
            let written = build(&three, &record, 8);
            assert_eq!(super::record(&written).unwrap().forced, forced, "{why}");
        }
    }

    #[test]
    fn a_forced_takeover_that_ended_before_its_first_record_is_not_forgotten() {
        let copy = |(last_epoch, promise)| DescribeResponse {
            open: true,
            store: "demo-0".into(),
            replica: "aa".into(),
            last_epoch,
            promise,
            end_epoch: last_epoch,
            ..DescribeResponse::default()
        };
        // The last epoch of its log, and what it has promised; the copy and the epoch of the order.
        for (why, said, order, forced) in [
            ("it took the lease", (3, 5), Some(("aa", 5)), Some(5)),
            ("it did not take it", (3, 3), Some(("aa", 5)), None),
            ("its log says how it began", (5, 5), Some(("aa", 5)), None),
            ("another was ordered", (3, 5), Some(("bb", 5)), None),
            ("nobody was", (3, 5), None, None),
        ] {
            let mut store = store();
            store.status = order.map(|(copy, epoch)| {
                let forced = serde_json::json!({"copy": copy, "epoch": epoch, "end": "3/9", "acknowledged": "3/12",
                    "missingAtLeast": 3});
                serde_json::from_value(serde_json::json!({"lastFailover": {"reason": "Forced", "forced": forced}}))
                    .unwrap()
            });
            assert_eq!(restored(&store, None, &[&copy(said)], &[]).unwrap().forced, forced, "{why}");
        }
    }

    #[test]
    fn a_copy_that_was_never_opened_has_nothing_to_tell() {
        let mut two = store();
        two.spec.replicas = ["aa", "bb"]
            .map(|id| serde_json::from_value(serde_json::json!({"id": id, "pvc": id})).unwrap())
            .into();
        let told = DescribeResponse {
            open: true,
            store: "demo-0".into(),
            replica: "aa".into(),
            last_epoch: 3,
            promise: 3,
            end_epoch: 3,
            end_seq: 9,
            in_sync: vec!["aa".into()],
            ..DescribeResponse::default()
        };
        for (opened, epoch) in [(vec!["aa"], Some(3)), (vec!["aa", "bb"], None)] {
            let mirrors: Vec<_> =
                opened.iter().map(|id| serde_json::json!({"id": id, "endpoint": "10.0.0.1:11443"})).collect();
            two.status = serde_json::from_value(serde_json::json!({"mirrors": mirrors})).unwrap();
            assert_eq!(restored(&two, None, &[&told], &[]).map(|record| record.epoch), epoch, "{opened:?}");
        }
        assert_eq!(restored(&two, None, &[], &[]), None, "nobody has told anything");
    }

    #[test]
    fn a_copy_that_a_person_leaves_out_is_not_waited_for_and_keeps_its_line() {
        let mut three = store();
        three.spec.replicas = ["aa", "bb", "cc"]
            .map(|id| serde_json::from_value(serde_json::json!({"id": id, "pvc": id})).unwrap())
            .into();
        let mirrors =
            ["aa", "bb", "cc"].map(|id| serde_json::json!({"id": id, "endpoint": "10.0.0.1:11443"}));
        three.status = serde_json::from_value(serde_json::json!({"mirrors": mirrors})).unwrap();
        let told = |id: &str, in_sync: &str| DescribeResponse {
            open: true,
            store: "demo-0".into(),
            replica: id.into(),
            last_epoch: 7,
            promise: 7,
            end_epoch: 7,
            end_seq: if id == "bb" { 9 } else { 8 },
            in_sync: in_sync.split(' ').map(str::to_owned).collect(),
            ..DescribeResponse::default()
        };
        // What the logs say of who has everything, and who is left out; is there a Lease then, and is it a forced one?
        for (in_sync, left_out, forced) in [
            ("aa bb cc", "", None),
            ("aa bb cc", "aa", Some(true)),
            ("bb cc", "aa", Some(false)),
            ("bb cc", "dd", None),
        ] {
            let all = [told("bb", in_sync), told("cc", in_sync)];
            let record = restored(&three, None, &all.each_ref(), &[left_out.to_owned()]);
            assert_eq!(record.as_ref().map(|r| r.forced.is_some()), forced, "{in_sync}, without {left_out}");
            assert!(record.is_none_or(|r| r.in_sync == ["bb"]), "{in_sync}, without {left_out}");
        }
    }

    #[test]
    fn a5_a_restored_lease_is_no_older_than_the_volume() {
        let described = DescribeResponse {
            open: true,
            store: "demo-0".into(),
            replica: "aa".into(),
            last_epoch: 7,
            promise: 8,
            end_epoch: 7,
            end_seq: 42,
            in_sync_version: 3,
            ..DescribeResponse::default()
        };
        let record = restored(&store(), None, &[&described], &[]).unwrap();
        assert_eq!((record.epoch, record.in_sync_version), (8, 3));
        assert_eq!(record.position, Position { epoch: 7, seq: 42 });
        assert_eq!(record.holder, None);
        let mut routed = store();
        routed.status =
            serde_json::from_value(serde_json::json!({"epoch": 11, "serving": {"epoch": 12, "replica": "aa",
            "podUID": "p", "endpoint": "10.0.0.1:11443", "since": "2026-01-01T00:00:00Z"}}))
            .unwrap();
        assert_eq!(restored(&routed, None, &[&described], &[]).unwrap().epoch, 12, "the epoch never falls");
        // A Lease that stands: its epoch, up to where it has seen commits; the new one's, and whether the next is forced.
        for (why, old, end, epoch, forced) in [
            ("etcd is older", 3, (3, 9), 8, None),
            ("they agree", 9, (7, 42), 9, None),
            ("the volume is older", 9, (9, 50), 9, Some(10)),
            ("the volume is older by a little", 7, (7, 43), 8, Some(9)),
        ] {
            let position = Position { epoch: end.0, seq: end.1 };
            let old = LeaseRecord { epoch: old, position, ..LeaseRecord::initial(vec!["aa".into()], 1) };
            let record = restored(&store(), Some(&old), &[&described], &[]).unwrap();
            assert_eq!((record.epoch, record.forced), (epoch, forced), "{why}");
            assert_eq!(record.position, Position { epoch: 7, seq: 42 }, "{why}");
        }
        for other in [
            DescribeResponse { open: false, ..described.clone() },
            DescribeResponse { replica: "bb".into(), ..described.clone() },
            DescribeResponse { store: "demo-1".into(), ..described },
        ] {
            assert_eq!(restored(&store(), None, &[&other], &[]), None);
        }
    }
}
