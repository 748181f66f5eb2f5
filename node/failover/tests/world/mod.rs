//! Observations to start from.

#![allow(dead_code, reason = "not every test file uses every observation")]

use mailcluster_failover::*;

/// The boot of node n1.
pub const BOOT: &str = "boot-1";

/// A process of that pod.
pub fn holder(pod: &str) -> Holder {
    Holder { pod_uid: pod.into(), start_id: "s1".into() }
}

fn node(name: &str) -> NodeView {
    NodeView {
        name: name.into(),
        uid: format!("uid-{name}"),
        ready: true,
        unready_ms: 0,
        unschedulable: false,
        out_of_service: false,
        boot_id: if name == "n1" { BOOT.into() } else { format!("boot-{name}") },
        system_uuid: format!("machine-{name}"),
        admits: true,
        stores: 0,
    }
}

#[allow(clippy::too_many_lines, reason = "one value, written out")]
/// A store served by pod-1 on n1 at epoch 5, on a volume that n1 and n2 reach.
pub fn healthy() -> Observation {
    let mut record = LeaseRecord::initial(vec!["aa".into()], 1);
    record.holder = Some(holder("pod-1"));
    record.epoch = 5;
    record.replica = Some("aa".into());
    record.position = Position { epoch: 5, seq: 100 };
    record.in_force = Some(InForce { durability: Durability::Single, fencing: FencingMinimum::Proof });
    Observation {
        store: StoreView {
            directory: false,
            replica: "aa".into(),
            turn: 0,
            policy: Policy::Automatic,
            paused: false,
            suspended: false,
            fencing_minimum: FencingMinimum::Proof,
            lease_ms: 8_000,
            restart_grace_ms: 10_000,
            max_moves_per_hour: 2,
            moves_last_hour: 0,
            takeovers_last_quarter: 0,
            known_before: true,
            fence_configured: true,
            replace_after_ms: None,
        },
        lease: Some(LeaseView {
            record,
            resource_version: "100".into(),
            unchanged_for: Some(500),
            terminating: false,
        }),
        placement: Some(Placement {
            pod_uid: "pod-1".into(),
            node: "n1".into(),
            boot_id: BOOT.into(),
            system_uuid: "machine-n1".into(),
        }),
        nodes: vec![node("n1"), node("n2"), node("n3")],
        pod: Some(PodView {
            uid: "pod-1".into(),
            node: Some("n1".into()),
            terminating: false,
            pin: None,
            unplaced: None,
            backs_off: false,
            cannot_start: false,
            state: PodState::Active,
            lock_held: true,
            volume_epoch: 5,
        }),
        replicas: Vec::new(),
        is_told: true,
        deleting: None,
        eviction: None,
        tried: Vec::new(),
        pin: None,
        template_pin: None,
        volume: VolumeView {
            bound: true,
            retain: true,
            nodes: vec!["n1".into(), "n2".into()],
            shared_block: false,
        },
        reach: Reach { frontends: 2, answered: 2, reach: 2, pending: 0 },
        evidence: Vec::new(),
        fence_job: None,
        confirmed_boots: Vec::new(),
        confirmed_pods: Vec::new(),
        target: None,
        serving: Some((5, "pod-1".into())),
        request: None,
        force: None,
        adoption: None,
        replace: None,
        restore_asked: false,
        left_out: Vec::new(),
        outdated: false,
        unauthorised: false,
        cluster: Cluster { nodes: 3, lost_nodes: 1, max_concurrent: 2, ..Cluster::default() },
    }
}

/// The same, with the lease unchanged for D and no frontend that reaches it.
pub fn suspect() -> Observation {
    let mut o = healthy();
    o.lease.as_mut().unwrap().unchanged_for = Some(8_000);
    o.reach.reach = 0;
    let pod = o.pod.as_mut().unwrap();
    (pod.state, pod.lock_held, pod.volume_epoch) = (PodState::Silent, false, 0);
    o
}

/// n1 is not Ready any more.
pub fn kill_node(o: &mut Observation) {
    o.nodes[0].ready = false;
}

/// What is done next.
pub fn step(o: &Observation) -> Step {
    next_step(o).step
}

/// Evidence against the holder of [`healthy`].
pub fn evidence(kind: EvidenceKind) -> Evidence {
    Evidence { kind, pod_uid: "pod-1".into(), boot_id: BOOT.into(), epoch: 5, at: "now".into() }
}

/// With the target that such a loss is answered with.
pub fn with_target(mut o: Observation) -> Observation {
    o.target = Some(Target {
        replica: "aa".into(),
        lease_version: "100".into(),
        epoch: 5,
        kind: TargetKind::Auto,
        overdue: false,
    });
    o
}
