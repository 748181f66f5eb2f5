//! What proves that a holder is dead, what merely says so, and for which process it holds.

use serde::{Deserialize, Serialize};

use crate::{FencingMinimum, Holder, LeaseRecord, Observation, view::FenceJob};

/// The kinds of evidence, as they stand in `MailStore.status.evidence`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum EvidenceKind {
    /// Proof: our graceful delete by UID was completed by the kubelet of a Ready node.
    KubeletConfirmed,
    /// Proof: the node is back with another boot id.
    NewBoot,
    /// Proof: the Job `fence-<node>-<boot id>` read the power back Off.
    FenceJob,
    /// Proof: a person said `fence confirm`.
    HumanConfirmed,
    /// Statement: the Node object is gone.
    NodeDeleted,
    /// Statement: the node is tainted `node.kubernetes.io/out-of-service`.
    OutOfServiceTaint,
    /// Neither: the lease ran out.
    LeaseExpired,
}

impl EvidenceKind {
    /// The least demanding `fencing.minimum` that it satisfies.
    #[must_use]
    pub fn strength(self) -> FencingMinimum {
        match self {
            Self::KubeletConfirmed | Self::NewBoot | Self::FenceJob | Self::HumanConfirmed => {
                FencingMinimum::Proof
            }
            Self::NodeDeleted | Self::OutOfServiceTaint => FencingMinimum::Statement,
            Self::LeaseExpired => FencingMinimum::LeaseExpired,
        }
    }
}

/// One piece of evidence, bound to the process that it is about (E1, E5).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Evidence {
    /// What it is.
    pub kind: EvidenceKind,
    /// The holder's pod.
    #[serde(rename = "podUID")]
    pub pod_uid: String,
    /// The boot of the node that it ran on.
    #[serde(rename = "bootID")]
    pub boot_id: String,
    /// The epoch it held.
    pub epoch: u64,
    /// When it was found; for people only.
    pub at: String,
}

/// Evidence that can be seen now and is not recorded yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// What it is.
    pub kind: EvidenceKind,
}

/// Is there enough evidence that the holder of the lease's record is dead, for the stricter of the spec's and the
/// holder's own rules (E2), bound to that very process (E1 d)?
///
/// `elsewhere`: the store is to be opened on another node than the holder's. The kubelet's confirmation says that the
/// process has ended, not that a block device is unmounted (E4), and a lock proves nothing to another kernel. On the
/// same node and boot a new process that holds the volume's lock proves that the old one, which held it for life, ended.
#[must_use]
pub fn suffices(o: &Observation, elsewhere: bool) -> bool {
    let Some(lease) = &o.lease else { return false };
    let Some(holder) = &lease.record.holder else { return true };
    let wanted = stricter(o.store.fencing_minimum, lease.record.in_force.map(|i| i.fencing));
    if !elsewhere && same_kernel_lock(o, &holder.pod_uid) {
        return true;
    }
    let boot = o.placement.as_ref().filter(|p| p.pod_uid == holder.pod_uid).map(|p| p.boot_id.as_str());
    o.evidence.iter().any(|e| {
        speaks_of(e, holder, lease.record.epoch, wanted)
            && !(e.kind == EvidenceKind::FenceJob && contradicted(o))
            && boot.is_none_or(|b| e.boot_id == b)
            && !(elsewhere && o.volume.shared_block && e.kind == EvidenceKind::KubeletConfirmed)
    })
}

/// The boot that the fence Job read off is Ready: the Job has switched off another machine, so it proves nothing.
fn contradicted(o: &Observation) -> bool {
    o.placement
        .as_ref()
        .is_some_and(|p| o.node(&p.node).is_some_and(|n| n.ready && p.is(n) && p.same_boot(n)))
}

/// Does this evidence satisfy `wanted` against this very process?
fn speaks_of(e: &Evidence, holder: &Holder, epoch: u64, wanted: FencingMinimum) -> bool {
    e.kind.strength() >= wanted && e.pod_uid == holder.pod_uid && e.epoch == epoch
}

/// The node's own look at the recorded evidence before it opens a volume or takes a lease that another process holds:
/// is there enough against the record's holder, by the stricter of its rules and `wanted`? What the node cannot see
/// (boots, block devices) the operator has judged before it wrote the evidence down.
#[must_use]
pub fn enough(evidence: &[Evidence], record: &LeaseRecord, wanted: FencingMinimum) -> bool {
    let Some(holder) = &record.holder else { return true };
    let wanted = stricter(wanted, record.in_force.map(|i| i.fencing));
    evidence.iter().any(|e| speaks_of(e, holder, record.epoch, wanted))
}

fn stricter(spec: FencingMinimum, in_force: Option<FencingMinimum>) -> FencingMinimum {
    in_force.map_or(spec, |rule| rule.max(spec))
}

/// The strongest evidence about the lease's holder that the objects show now and that is not recorded yet.
#[must_use]
pub fn live_evidence(o: &Observation) -> Option<Found> {
    let lease = o.lease.as_ref()?;
    let holder = lease.record.holder.as_ref()?;
    if same_kernel_lock(o, &holder.pod_uid) {
        return None;
    }
    let recorded = |kind| {
        o.evidence
            .iter()
            .any(|e| e.kind == kind && e.pod_uid == holder.pod_uid && e.epoch == lease.record.epoch)
    };
    ORDER
        .into_iter()
        .find(|kind| visible(o, *kind, &holder.pod_uid) && !recorded(*kind))
        .map(|kind| Found { kind })
}

const ORDER: [EvidenceKind; 7] = [
    EvidenceKind::KubeletConfirmed,
    EvidenceKind::NewBoot,
    EvidenceKind::FenceJob,
    EvidenceKind::HumanConfirmed,
    EvidenceKind::NodeDeleted,
    EvidenceKind::OutOfServiceTaint,
    EvidenceKind::LeaseExpired,
];

/// Does a new process, on the node and boot of the holder, hold the lock that the holder held for life?
pub(crate) fn same_kernel_lock(o: &Observation, holder_pod: &str) -> bool {
    let Some(placement) = o.placement.as_ref().filter(|p| p.pod_uid == holder_pod) else { return false };
    o.node(&placement.node).is_some_and(|n| placement.is(n) && placement.same_boot(n))
        && o.pod.as_ref().is_some_and(|pod| {
            pod.uid != holder_pod && pod.node.as_deref() == Some(placement.node.as_str()) && pod.lock_held
        })
}

fn visible(o: &Observation, kind: EvidenceKind, pod_uid: &str) -> bool {
    let placement = o.placement.as_ref().filter(|p| p.pod_uid == pod_uid);
    // The node as it is now, if it is the machine that the holder ran on (a name can be given to another machine).
    let node = placement.and_then(|p| o.node(&p.node).filter(|n| p.is(n)));
    match (kind, placement, node) {
        (EvidenceKind::KubeletConfirmed, Some(p), Some(n)) => {
            let gone = o.pod.as_ref().is_none_or(|pod| pod.uid != pod_uid);
            o.deleting.as_deref() == Some(pod_uid) && gone && n.ready && p.same_boot(n)
        }
        (EvidenceKind::NewBoot, Some(p), Some(n)) => n.ready && p.other_boot(n),
        (EvidenceKind::FenceJob, Some(p), _) => {
            let off = |boot: &str| matches!(&o.fence_job, Some(FenceJob::Off { node, boot_id }) if *node == p.node && boot_id == boot);
            // A later boot of the same machine that was read off ends the earlier ones with it.
            !contradicted(o) && (off(&p.boot_id) || node.is_some_and(|n| p.other_boot(n) && off(&n.boot_id)))
        }
        (EvidenceKind::HumanConfirmed, Some(p), _) => {
            o.confirmed(&p.node, &p.boot_id)
                || node.is_some_and(|n| p.other_boot(n) && o.confirmed(&n.name, &n.boot_id))
                || o.confirmed_pods.iter().any(|uid| uid == pod_uid)
        }
        (EvidenceKind::HumanConfirmed, None, _) => o.confirmed_pods.iter().any(|uid| uid == pod_uid),
        // Another machine under its name says as much as none.
        (EvidenceKind::NodeDeleted, Some(_), None) => true,
        (EvidenceKind::OutOfServiceTaint, Some(_), Some(n)) => n.out_of_service,
        (EvidenceKind::LeaseExpired, _, _) => {
            o.lease.as_ref().is_some_and(|l| l.unchanged_for.is_some_and(|age| age >= o.store.lease_ms))
        }
        _ => false,
    }
}
