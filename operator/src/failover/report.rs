//! What failover writes into a MailStore's status: computed from what was there and what was decided, pure.

use k8s_openapi::{
    apimachinery::pkg::apis::meta::v1::{Condition, Time},
    jiff::{SignedDuration, Timestamp},
};
use mailcluster_api::{
    condition::{COPIES_DIFFER, DISK_DAMAGED, Draft, FAILOVER_BLOCKED, FORCED},
    mailstore::{
        self, Crash, Evidence, LastFailover, MailStoreStatus, NodeIdentity, SnapshotProgress, Target,
    },
};
use mailcluster_failover::{
    AdoptionStep, Blocked, Decision, Observation, Phase, Placement, Step, Undetected, unplaced_on,
};
use mailcluster_rpc::control::v1::DescribeResponse;
use serde_json::{Value, json};

use super::{crashes, forced};

/// The part of the status that failover owns.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Part {
    /// Where the store stands.
    pub phase: Option<mailstore::Phase>,
    /// The node it is served from.
    pub host: Option<String>,
    /// The node it was served from before.
    pub old_host: Option<String>,
    /// The Lease's epoch.
    pub epoch: Option<i64>,
    /// Copies that have everything, of how many.
    pub copies: Option<String>,
    /// Copies that take a snapshot.
    pub snapshots: Vec<SnapshotProgress>,
    /// Counts.
    pub accounts: Option<i64>,
    /// Counts.
    pub bytes: Option<i64>,
    /// The target.
    pub target: Option<Target>,
    /// Evidence.
    pub evidence: Vec<Evidence>,
    /// The last failover.
    pub last_failover: Option<LastFailover>,
    /// The last salvage.
    pub last_salvage: Option<mailstore::Salvage>,
    /// Own crashes.
    pub crashes: Vec<Crash>,
    /// The machine of the holder.
    pub node_identity: Option<NodeIdentity>,
    /// The copies, when none that has everything answers.
    pub survivors: Vec<mailstore::Survivor>,
    /// FailoverBlocked.
    pub blocked: Option<Condition>,
    /// Forced.
    pub forced: Option<Condition>,
    /// DiskDamaged.
    pub damaged: Option<Condition>,
    /// CopiesDiffer.
    pub differ: Option<Condition>,
}

impl Part {
    /// As it stands in a status.
    #[must_use]
    pub fn of(status: &MailStoreStatus) -> Self {
        let known = |type_| status.conditions.iter().find(|c| c.type_ == type_).cloned();
        Self {
            phase: status.phase,
            host: status.host.clone(),
            old_host: status.old_host.clone(),
            epoch: status.epoch,
            copies: status.copies.clone(),
            snapshots: status.snapshots.clone(),
            accounts: status.accounts,
            bytes: status.bytes,
            target: status.target.clone(),
            evidence: status.evidence.clone(),
            last_failover: status.last_failover.clone(),
            last_salvage: status.last_salvage.clone(),
            crashes: status.crashes.clone(),
            node_identity: status.node_identity.clone(),
            survivors: status.survivors.clone(),
            blocked: known(FAILOVER_BLOCKED),
            forced: known(FORCED),
            damaged: known(DISK_DAMAGED),
            differ: known(COPIES_DIFFER),
        }
    }

    fn conditions(&self) -> impl Iterator<Item = &Condition> {
        [&self.blocked, &self.forced, &self.damaged, &self.differ].into_iter().flatten()
    }

    /// The body of a server-side apply of just this part.
    #[must_use]
    pub fn patch(&self, resource_version: Option<&str>) -> Value {
        let mut status = json!({
            "phase": self.phase,
            "host": self.host,
            "oldHost": self.old_host,
            "epoch": self.epoch,
            "copies": self.copies,
            "accounts": self.accounts,
            "bytes": self.bytes,
            "target": self.target,
            "lastFailover": self.last_failover,
            "lastSalvage": self.last_salvage,
            "nodeIdentity": self.node_identity,
            "conditions": self.conditions().collect::<Vec<_>>(),
        });
        if let Value::Object(fields) = &mut status {
            fields.retain(|_, value| !value.is_null());
            if !self.evidence.is_empty() {
                fields.insert("evidence".into(), json!(self.evidence));
            }
            if !self.snapshots.is_empty() {
                fields.insert("snapshots".into(), json!(self.snapshots));
            }
            if !self.survivors.is_empty() {
                fields.insert("survivors".into(), json!(self.survivors));
            }
            if !self.crashes.is_empty() {
                fields.insert("crashes".into(), json!(self.crashes));
            }
        }
        let mut metadata = json!({});
        if let Some(version) = resource_version {
            metadata["resourceVersion"] = json!(version);
        }
        json!({
            "apiVersion": format!("{}/{}", mailcluster_api::GROUP, mailcluster_api::VERSION),
            "kind": "MailStore",
            "metadata": metadata,
            "status": status,
        })
    }
}

/// How far the snapshots have come that copies take, by their own accounts. In whole percents: a store's status is written a
/// hundred times for one at most.
pub fn snapshots<'a>(described: impl Iterator<Item = &'a DescribeResponse>) -> Vec<SnapshotProgress> {
    let progress = |copy: &DescribeResponse| {
        let percent = copy.snapshot_octets.min(copy.snapshot_of).saturating_mul(100) / copy.snapshot_of;
        SnapshotProgress {
            id: copy.replica.clone(),
            percent: i32::try_from(percent).unwrap_or(100),
            bytes: i64::try_from(copy.snapshot_of).unwrap_or(i64::MAX),
        }
    };
    described.filter(|copy| copy.open && copy.snapshot_of > 0).map(progress).collect()
}

/// A failover that came to its end with this write.
#[derive(Debug, Clone, PartialEq)]
pub struct Finished {
    /// Its record.
    pub record: LastFailover,
    /// From the first sign to serving.
    pub seconds: f64,
}

/// What the status shall say after this decision.
#[must_use]
pub fn next(
    (store, old): (&str, &Part),
    o: &Observation,
    decision: &Decision,
    seat: Option<&Placement>,
    now: Timestamp,
) -> (Part, Option<Finished>) {
    let mut part = old.clone();
    let lease_fresh =
        o.lease.as_ref().is_some_and(|l| l.unchanged_for.is_some_and(|age| age < o.store.lease_ms));
    let seat = seat.filter(|_| lease_fresh);
    part.phase = Some(shown(old, o, decision, seat));
    if let Some(lease) = &o.lease {
        part.epoch = i64::try_from(lease.record.epoch).ok().or(part.epoch).max(part.epoch);
    }
    part.copies = copies(o).or(part.copies);
    part.blocked =
        Some(condition(decision).finish(&old.blocked.iter().cloned().collect::<Vec<_>>(), None, now));
    begin(&mut part, o, decision, now);
    part.survivors = forced::survivors(o, decision, &old.survivors);
    part.forced = forced::condition(store, o, &part, now);
    // What was seen, never what is about to be done: this leader may die before it does it.
    if let (Some(node), Some(last)) = (unplaced_on(o), part.last_failover.as_mut())
        && last.serving_at.is_none()
        && !last.tried.iter().any(|tried| tried == node)
    {
        last.tried.push(node.to_owned());
    }
    crashes::note(&mut part.crashes, o, decision, now);
    let mut finished = None;
    if let (Phase::Serving, Some(seat)) = (decision.phase, seat) {
        settle(&mut part, seat);
        if matches!(decision.step, Step::Idle) {
            part.target = None;
            part.evidence.clear();
            finished = finish(&mut part, seat, now);
        }
    }
    (part, finished)
}

/// The phase to be shown. That a store serves is said together with the node it is served from: by a leader that has seen
/// its holder renew, and knows that holder's pod and node.
fn shown(old: &Part, o: &Observation, decision: &Decision, seat: Option<&Placement>) -> mailstore::Phase {
    let phase = phase_to(decision.phase);
    let held = o.lease.as_ref().is_some_and(|l| l.record.holder.is_some());
    match old.phase {
        Some(before)
            if phase == mailstore::Phase::Serving && (held || o.lease.is_none()) && seat.is_none() =>
        {
            before
        }
        _ => phase,
    }
}

/// How many copies of a mirrored store have everything.
fn copies(o: &Observation) -> Option<String> {
    let lease = o.lease.as_ref().filter(|_| !o.replicas.is_empty())?;
    let have = o.replicas.iter().filter(|r| lease.record.in_sync.contains(&r.id)).count();
    Some(format!("{have}/{}", o.replicas.len()))
}

/// The holder was seen renewing from this pod, on this boot of this machine.
fn settle(part: &mut Part, seat: &Placement) {
    if part.host.as_deref() != Some(seat.node.as_str()) {
        part.old_host = part.host.take().or(part.old_host.take());
        part.host = Some(seat.node.clone());
    }
    part.node_identity = Some(NodeIdentity {
        node: seat.node.clone(),
        boot_id: seat.boot_id.clone(),
        system_uuid: seat.system_uuid.clone(),
    });
}

/// A failover begins with the first step of one.
fn begin(part: &mut Part, o: &Observation, decision: &Decision, now: Timestamp) {
    let silent = o.lease.as_ref().and_then(|l| l.record.holder.as_ref().and(l.unchanged_for)).unwrap_or(0);
    let held_back = decision.phase == Phase::Blocked && silent >= o.store.lease_ms;
    let starts = matches!(decision.phase, Phase::Fencing | Phase::Draining)
        || held_back
        || (matches!(decision.phase, Phase::Reattaching | Phase::Promoting)
            && o.lease.as_ref().is_some_and(|l| l.record.epoch > 0));
    let under_way = part.last_failover.as_ref().is_some_and(|l| l.serving_at.is_none());
    if starts && !under_way {
        let late = i64::try_from(silent.saturating_sub(o.store.lease_ms)).unwrap_or(0);
        part.last_failover = Some(LastFailover {
            reason: reason(o, decision).into(),
            from: part.host.clone(),
            // When the lease had stood still for its whole length.
            detected_at: Some(Time(now - SignedDuration::from_millis(late))),
            ..LastFailover::default()
        });
    } else if let Some(last) = part.last_failover.as_mut().filter(|l| l.serving_at.is_none()) {
        // A node that dies is Ready for a while yet: what looked like a crash at first was not one.
        let lost = reason(o, decision);
        let is_more = last.reason == CRASHED && matches!(lost, NODE_LOST | NODE_GONE);
        if is_more || (lost == FORCED_BY_A_PERSON && decision.phase == Phase::Promoting) {
            last.reason = lost.into();
        }
    }
}

/// A person asked for it.
pub const REQUESTED: &str = "Requested";
/// The process ended, or froze, on a node that lives.
const CRASHED: &str = "Crashed";
/// The node is not Ready, or has another boot.
const NODE_LOST: &str = "NodeLost";
/// A person had a copy take the store that lacked something.
const FORCED_BY_A_PERSON: &str = "Forced";
/// The Node object is gone.
const NODE_GONE: &str = "NodeGone";

fn reason(o: &Observation, decision: &Decision) -> &'static str {
    let node = o.placement.as_ref().map(|p| (o.node(&p.node), &p.boot_id));
    match (&o.request, node) {
        _ if o.adoption.is_some() => "Adopted",
        _ if o.force.is_some() => FORCED_BY_A_PERSON,
        (Some(request), _) if request.drain => "NodeDrained",
        (Some(_), _) => REQUESTED,
        (None, Some((None, _))) => NODE_GONE,
        (None, Some((Some(node), boot))) if !node.ready || node.boot_id != *boot => NODE_LOST,
        _ if o.outdated && decision.phase == Phase::Draining => "ConfigurationChanged",
        _ if o.unauthorised && decision.phase == Phase::Draining => "AccountRenewed",
        _ if decision.phase == Phase::Reattaching => "Restarted",
        _ => CRASHED,
    }
}

fn finish(part: &mut Part, seat: &Placement, now: Timestamp) -> Option<Finished> {
    let last = part.last_failover.as_mut().filter(|l| l.serving_at.is_none())?;
    last.serving_at = Some(Time(now));
    last.to = Some(seat.node.clone());
    let from = last.detected_at.as_ref().map_or(now, |t| t.0);
    let millis = u32::try_from(now.as_millisecond().saturating_sub(from.as_millisecond())).unwrap_or(0);
    Some(Finished { record: last.clone(), seconds: f64::from(millis) / 1000.0 })
}

/// The condition FailoverBlocked.
fn condition(decision: &Decision) -> Draft {
    match &decision.step {
        Step::Block(why) => Draft::yes(FAILOVER_BLOCKED, why.reason(), message(why)),
        _ => Draft::no(FAILOVER_BLOCKED, "NothingBlocked", ""),
    }
}

/// What a step does, for an event.
#[must_use]
pub fn doing(step: &Step) -> String {
    match step {
        Step::Await(what) => format!("waits for {what}"),
        Step::Block(why) => message(why),
        Step::CreateFenceJob { node, .. } => format!("switches off node {node}"),
        Step::Pin(node) => format!("pins the store to node {node}"),
        Step::SetTarget(_) => "asks the replica to take the lease".into(),
        Step::HandOver(copy) => format!("asks the holder to hand the store over to copy {copy}"),
        Step::Promote(copy, mailcluster_failover::TargetKind::Forced) => {
            format!("a person orders copy {copy} to take the lease, which need not have everything")
        }
        Step::Promote(copy, _) => format!("asks copy {copy} to take the lease"),
        Step::Adopt(AdoptionStep::Record) => "writes down the volume as it shall be".into(),
        Step::Adopt(AdoptionStep::Delete) => "deletes the object of the old volume".into(),
        Step::Adopt(AdoptionStep::Release) => "lets the object of the old volume go".into(),
        Step::Adopt(AdoptionStep::Create) => "makes the volume anew for the node that has the disk".into(),
        Step::Replace(copy) => format!("gives the place of copy {copy} to a new one"),
        Step::AllowEviction(_) => "lets the pod be evicted".into(),
        Step::DeleteGracefully(_) | Step::DeleteForced(_) => "removes the pod that is in the way".into(),
        _ => String::new(),
    }
}

/// What a person reads, with what to do.
#[must_use]
pub fn message(why: &Blocked) -> String {
    match why {
        Blocked::Gate(gate) => gate.message().into(),
        Blocked::NoEvidence => "nothing proves yet that the old node writes no more: bring the node back, configure failover.fencing.job, or switch it off and run `kubectl mailcluster fence confirm NODE`".into(),
        Blocked::FenceFailed(what) => format!("the fence Job failed ({what}): look at its log, delete it to try again, or switch the node off and run `kubectl mailcluster fence confirm NODE`"),
        Blocked::NodeStillServes => "another store on that node renews its lease, so the node is not switched off".into(),
        Blocked::NoCandidate(nodes) => no_candidate(nodes),
        Blocked::OneNodeVolume => "one node alone reaches the volume: the store waits for that node, nothing can reattach its disk elsewhere".into(),
        Blocked::Flapping => "the store has crashed by itself more than 3 times in 15 minutes: look at its log, then run `kubectl mailcluster failover STORE`".into(),
        Blocked::Refused(what) => what.clone(),
        Blocked::Poisoned => "a sync failed on this disk: check or replace it, then delete the pod".into(),
        Blocked::LeaseMissing => "the Lease is missing and no replica answers for it: bring the store's pod up where it ran last".into(),
        Blocked::Unschedulable(what) => format!("the scheduler places the store's pod on no node that reaches the volume: {what}"),
        Blocked::UnfitNode(node, why) => format!("node {node} cannot take the store: {why}"),
        Blocked::Undetected(Undetected::TooFewReports) => "the lease is not renewed, and too few frontends say whether they reach the store: see why frontends do not answer".into(),
        Blocked::Undetected(Undetected::NodeDisagrees) => "the lease is not renewed, the node is Ready, and there is no frontend to ask: bring frontends up, or delete the store's pod".into(),
        Blocked::Undetected(_) => "the lease is not renewed, but frontends reach the store: see why its node does not reach the API server".into(),
        Blocked::NoCopy(copies) => format!("no copy that has everything can take the store{}: bring one of those back that have it; where they are gone for good, `kubectl mailcluster failover STORE --force` says what would be lost without them", each(copies)),
        Blocked::CopiesSilent(ids) => format!("the Lease is to be made anew from what every copy says of itself, and nothing is heard of {}: bring its pod up; when that copy is gone for good, run `kubectl mailcluster store restore-lease STORE --without COPY`, with --without for each that is", ids.join(", ")),
        Blocked::CopiesMissed(ids) if ids.is_empty() => "the Lease is to be made anew, and no copy that is here tells who has everything, as their nodes are of an older version: upgrade them, or run `kubectl mailcluster store restore-lease STORE` when no other copy is left".into(),
        Blocked::CopiesMissed(ids) => format!("the Lease is to be made anew, and by the logs that are here copy {} has everything and is not here with its data: register its volume, or bring it back under its id; when it is gone for good, run `kubectl mailcluster store restore-lease STORE`, and what only that copy has is missing", ids.join(", ")),
        Blocked::SharedBlockDevice => "the volume is a block device that several nodes reach: it is moved only after its node was fenced".into(),
    }
}

/// So many nodes are named, where many reach a volume.
const NAMED: usize = 5;

fn each(named: &[(String, &'static str)]) -> String {
    named.iter().take(NAMED).map(|(what, why)| format!("; {what}: {why}")).collect()
}

fn no_candidate(nodes: &[(String, &'static str)]) -> String {
    let more = nodes.len().saturating_sub(NAMED);
    let rest = if more > 0 { format!("; and {more} more") } else { String::new() };
    format!("no other node can take the store{}{rest}", each(nodes))
}

fn phase_to(phase: Phase) -> mailstore::Phase {
    match phase {
        Phase::Initialising => mailstore::Phase::Initialising,
        Phase::Serving => mailstore::Phase::Serving,
        Phase::Suspect => mailstore::Phase::Suspect,
        Phase::Draining => mailstore::Phase::Draining,
        Phase::Fencing => mailstore::Phase::Fencing,
        Phase::Reattaching => mailstore::Phase::Reattaching,
        Phase::Promoting => mailstore::Phase::Promoting,
        Phase::Settling => mailstore::Phase::Settling,
        Phase::Blocked => mailstore::Phase::Blocked,
        Phase::Down => mailstore::Phase::Down,
    }
}

/// The target of a step.
#[must_use]
pub fn target(
    o: &Observation,
    (replica, kind): (&str, mailcluster_failover::TargetKind),
    now: Timestamp,
    seconds: i64,
) -> Option<Target> {
    use mailcluster_failover::TargetKind as Kind;
    let lease = o.lease.as_ref()?;
    let deadline = Timestamp::from_second(now.as_second() + seconds).ok()?;
    Some(Target {
        replica: replica.to_owned(),
        lease_version: lease.resource_version.clone(),
        epoch: i64::try_from(lease.record.epoch).ok()?,
        kind: match kind {
            Kind::Initial => mailstore::TargetKind::Initial,
            Kind::Auto => mailstore::TargetKind::Auto,
            Kind::Planned => mailstore::TargetKind::Planned,
            Kind::Forced => mailstore::TargetKind::Forced,
        },
        deadline: Time(deadline),
    })
}

/// A piece of evidence, as it is recorded.
#[must_use]
pub fn evidence(
    o: &Observation,
    kind: mailcluster_failover::EvidenceKind,
    now: Timestamp,
) -> Option<Evidence> {
    let lease = o.lease.as_ref()?;
    let holder = lease.record.holder.as_ref()?;
    let placement = o.placement.as_ref().filter(|p| p.pod_uid == holder.pod_uid);
    Some(Evidence {
        kind: super::observe::kind_to(kind),
        pod_uid: holder.pod_uid.clone(),
        node: placement.map(|p| p.node.clone()).unwrap_or_default(),
        boot_id: placement.map(|p| p.boot_id.clone()).unwrap_or_default(),
        epoch: i64::try_from(lease.record.epoch).ok()?,
        at: Time(now),
        detail: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failover::observe::tests::{frozen, observed};

    #[test]
    fn that_it_serves_is_said_with_the_node_it_is_served_from() {
        let mut o = observed(&frozen());
        let seat = Placement { node: "n2".into(), ..o.placement.clone().unwrap() };
        let moved =
            Part { phase: Some(mailstore::Phase::Reattaching), host: Some("n1".into()), ..Part::default() };
        let serving = Decision { phase: Phase::Serving, step: Step::Idle };
        let mut told = |unchanged_for, seat: Option<&Placement>, old: &Part| {
            o.lease.as_mut().unwrap().unchanged_for = unchanged_for;
            let (part, _) = next(("demo-0", old), &o, &serving, seat, Timestamp::UNIX_EPOCH);
            (part.phase.unwrap().as_str(), part.host.unwrap())
        };
        let (before, after) = (("Reattaching", "n1".to_owned()), ("Serving", "n2".to_owned()));
        assert_eq!(told(None, Some(&seat), &moved), before, "it was not watched");
        assert_eq!(told(Some(9_000), Some(&seat), &moved), before, "it is not renewed");
        assert_eq!(told(Some(100), None, &moved), before, "nobody knows where");
        assert_eq!(told(Some(100), Some(&seat), &moved), after);
        let served = Part { phase: Some(mailstore::Phase::Serving), ..moved };
        assert_eq!(told(Some(100), None, &served), ("Serving", "n1".to_owned()));
    }

    #[test]
    fn snapshots_are_told_of_in_whole_percents_and_only_while_they_are_taken() {
        let copy = |replica: &str, open, (octets, of)| DescribeResponse {
            replica: replica.into(),
            open,
            snapshot_octets: octets,
            snapshot_of: of,
            ..DescribeResponse::default()
        };
        let all = [
            copy("aa", true, (0, 0)),
            copy("bb", true, (999, 1000)),
            copy("cc", true, (0, 7)),
            copy("dd", false, (1, 2)),
        ];
        let progress = |id: &str, percent, bytes| SnapshotProgress { id: id.into(), percent, bytes };
        assert_eq!(snapshots(all.iter()), [progress("bb", 99, 1000), progress("cc", 0, 7)]);
        let part = Part { snapshots: snapshots(all.iter()), ..Part::default() };
        let status = serde_json::from_value(part.patch(None)["status"].clone()).unwrap();
        assert_eq!(Part::of(&status).snapshots, part.snapshots);
        assert_eq!(Part::default().patch(None)["status"].get("snapshots"), None, "it is taken back");
    }
}
