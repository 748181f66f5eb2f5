//! A person's order that a copy take a store of which it need not have everything: read, reported, refused.

use k8s_openapi::{
    apimachinery::pkg::apis::meta::v1::{Condition, Time},
    jiff::Timestamp,
};
use kube::{ResourceExt, runtime::events::EventType};
use mailcluster_api::{
    MailStore,
    condition::{Draft, FORCED},
    force,
    mailstore::{Forced, Survivor},
    names::REPLICAS,
};
use mailcluster_failover::{
    Blocked, Decision, ForceRequest, Observation, Phase, PodState, ReplicaView, Step,
};
use serde_json::{Value, json};

use super::{act::Scene, mover::Mover, report::Part};

/// What a person orders, or why it cannot be read.
#[must_use]
pub fn order(store: &MailStore) -> Option<Result<ForceRequest, String>> {
    let text = store.annotations().get(force::ANNOTATION)?;
    let read = serde_json::from_str::<force::Request>(text);
    Some(match read {
        Ok(force::Request { copy, epoch, accept_loss }) => Ok(ForceRequest { copy, epoch, accept_loss }),
        Err(error) => Err(format!("the annotation {} cannot be read: {error}", force::ANNOTATION)),
    })
}

/// The copies as they are when none that has everything answers, for the person who decides. Nothing is written while the
/// store serves.
#[must_use]
pub fn survivors(o: &Observation, decision: &Decision, old: &[Survivor]) -> Vec<Survivor> {
    let waits = matches!(&decision.step, Step::Block(Blocked::NoCopy(_)));
    if waits || o.force.is_some() {
        return o.replicas.iter().map(survivor).collect();
    }
    if decision.phase == Phase::Serving { Vec::new() } else { old.to_vec() }
}

fn survivor(copy: &ReplicaView) -> Survivor {
    let newest = copy.volume.map(|v| v.newest).filter(|at| *at > 0);
    Survivor {
        id: copy.id.clone(),
        node: copy.pod.as_ref().and_then(|pod| pod.node.clone()),
        state: state(copy).into(),
        end: copy.volume.map(|v| v.end.to_string()),
        newest: newest.and_then(|at| Timestamp::from_second(at).ok()).map(Time),
    }
}

fn state(copy: &ReplicaView) -> &'static str {
    match copy.pod.as_ref().map(|pod| &pod.state) {
        None => "no pod",
        Some(PodState::Silent) => "does not answer",
        Some(PodState::Waiting) => "waits to open its volume",
        Some(PodState::Standby) => "stands by",
        Some(PodState::CrashLoop) => "stands by after a crash loop",
        Some(PodState::Active) => "takes over",
        Some(PodState::Forked(_)) => "keeps a line that was left behind",
        Some(PodState::Refused(_)) => "refuses its volume",
        Some(PodState::Poisoned) => "its disk failed a sync",
    }
}

/// What is known of the loss when this copy is ordered to take the store.
#[must_use]
pub fn record(o: &Observation, copy: &str) -> Forced {
    let end = o.replicas.iter().find(|r| r.id == copy).and_then(|r| r.volume).map(|v| v.end);
    let (end, position) =
        (end.unwrap_or_default(), o.lease.as_ref().map(|l| l.record.position).unwrap_or_default());
    let known = if position > end { position.seq.saturating_sub(end.seq) } else { 0 };
    let accepted = matches!(&o.force, Some(Ok(order)) if order.accept_loss);
    let epoch = o.lease.as_ref().and_then(|l| i64::try_from(l.record.epoch.checked_add(1)?).ok());
    Forced {
        copy: copy.to_owned(),
        epoch,
        end: end.to_string(),
        acknowledged: position.to_string(),
        missing_at_least: i64::try_from(known).unwrap_or(i64::MAX),
        loss_accepted: accepted,
    }
}

/// How that is said in words.
#[must_use]
pub fn told(forced: &Forced) -> String {
    let known = match forced.missing_at_least {
        0 => "nothing is known to be missing".to_owned(),
        n => format!("at least {n} changes that were acknowledged are missing"),
    };
    format!(
        "copy {} ends at {}, and {} was acknowledged: {known}, and whatever was acknowledged after the last renewal of the lease",
        forced.copy, forced.end, forced.acknowledged
    )
}

/// The condition Forced: from a forced takeover until every copy follows the line that began with it.
#[must_use]
pub fn condition(store: &str, o: &Observation, part: &Part, now: Timestamp) -> Option<Condition> {
    let Some(lease) = &o.lease else { return part.forced.clone() };
    let epoch = lease.record.forced?;
    let follows = |r: &ReplicaView| lease.record.in_sync.contains(&r.id);
    let draft = if o.replicas.iter().all(follows) {
        Draft::no(FORCED, "EveryCopyFollows", "")
    } else {
        let kept = kept(store, o);
        let last = part.last_failover.as_ref().and_then(|last| last.forced.as_ref());
        let lost = last.map(|forced| format!(" {}.", told(forced))).unwrap_or_default();
        let reason = if kept.is_empty() { "CopiesMissing" } else { "ForkKept" };
        let message = format!("a person had a copy take the store at epoch {epoch}.{lost}{kept}");
        Draft::yes(FORCED, reason, message)
    };
    Some(draft.finish(part.forced.as_slice(), None, now))
}

/// The copies that keep another line, and what to do about them.
fn kept(store: &str, o: &Observation) -> String {
    let all = o.replicas.iter().zip(REPLICAS).filter(|(copy, _)| copy.is_forked());
    let told = |(copy, letter): (&ReplicaView, char)| {
        let end = copy.volume.map(|v| v.end).unwrap_or_default();
        let after = match copy.pod.as_ref().map(|pod| &pod.state) {
            Some(PodState::Forked(after)) => after.as_str(),
            _ => "",
        };
        format!(
            " Copy {letter} ({}) keeps what was left behind, from {after} up to {end}, and follows nobody: `kubectl mailcluster store replace-replica {store} {letter}` gives its place to a new one and keeps its volume, from which `mailcluster-node store salvage --after {after}` writes what `kubectl mailcluster store salvage {store}` brings back.",
            copy.id
        )
    };
    all.map(told).collect()
}

impl Mover {
    /// As with other requests: one that cannot be done is not kept.
    pub(super) async fn refuse_force(&self, scene: &Scene<'_>, why: &str) -> anyhow::Result<()> {
        let answer = json!({ force::ANNOTATION: Value::Null, force::REFUSED: why });
        self.annotate(scene.store, &answer).await?;
        self.say(scene, EventType::Warning, "ForcedFailoverRefused", why);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
