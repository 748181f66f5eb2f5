//! Leader election among the operator's replicas by a Lease of 6 seconds.
//!
//! Expiry is judged by each replica's own clock, from when it saw the record change; times written by others are for
//! people only. A leader that could not renew for three quarters of the lease steps down in the process. A standby
//! watches the lease, and reads it only when no renewal is seen.

mod observer;

use std::{
    future::ready,
    pin::{Pin, pin},
    time::Duration,
};

use futures::{Stream, StreamExt};
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
    jiff::Timestamp,
};
use kube::{
    Api, ResourceExt,
    api::PostParams,
    runtime::{WatchStreamExt, watcher},
};
use mailcluster_api::retry::Retry;
use tokio::sync::watch;

use self::observer::{Decision, Observer};
use crate::context::Context;

/// The Lease's name, in the operator's own namespace.
pub const LEASE: &str = "mailcluster-operator";
/// How long a lease is good for.
pub const DURATION: Duration = Duration::from_secs(6);
/// How often it is renewed, or read where nothing shows that it is.
const PERIOD: Duration = Duration::from_millis(1_500);
/// Between two attempts at least.
const BREATH: Duration = Duration::from_millis(50);
/// No answer for this long counts as a failed attempt.
const ATTEMPT: Duration = Duration::from_millis(1_400);

/// Does this replica lead, and since when?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Leadership {
    /// Yes or no.
    pub leading: bool,
    /// When that last changed, by [`boot_time`].
    pub since: Duration,
    /// Until when the last renewal is good: a process that was frozen past it leads no more, whoever says so.
    pub good_until: Duration,
}

impl Leadership {
    /// Not leading, from now on.
    #[must_use]
    pub fn standby() -> Self {
        Self { leading: false, since: boot_time(), good_until: Duration::ZERO }
    }

    /// Does it lead now, and for at least `span` more?
    #[must_use]
    pub fn holds_for(&self, span: Duration, now: Duration) -> bool {
        self.leading && now.saturating_add(span) < self.good_until
    }
}

/// Time since the machine started, suspended time included; never set back.
#[must_use]
pub fn boot_time() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    Duration::new(u64::try_from(now.tv_sec).unwrap_or(0), u32::try_from(now.tv_nsec).unwrap_or(0))
}

/// Leads when it can, tells so through `lead`, and ends when the process is to stop (giving the lease up).
///
/// # Errors
/// Never while running; the signature leaves room for the caller's context.
pub async fn run(ctx: Context, lead: watch::Sender<Leadership>) -> anyhow::Result<()> {
    if !ctx.config.leader_election {
        set(&lead, Duration::MAX);
        ctx.stop.cancelled().await;
        return Ok(());
    }
    let api: Api<Lease> = Api::namespaced(ctx.client.clone(), &ctx.config.namespace);
    let me = ctx.config.identity.holder();
    let mut observer = Observer::default();
    let mut good_until = Duration::ZERO;
    let mut changes = pin!(changes(api.clone()));
    while !ctx.stop.is_cancelled() {
        let started = boot_time();
        match tokio::time::timeout(ATTEMPT, attempt(&api, &me, &mut observer)).await {
            Ok(Ok(true)) => good_until = started + DURATION * 3 / 4,
            Ok(Ok(false)) => good_until = Duration::ZERO,
            Ok(Err(error)) => tracing::warn!(%error, "the leader's lease could not be read or written"),
            Err(_) => tracing::warn!("the API server did not answer about the leader's lease in time"),
        }
        set(&lead, good_until);
        ctx.metrics.leading.set(i64::from(boot_time() < good_until));
        tokio::select! {
            () = ctx.stop.cancelled() => {}
            () = rest(&mut observer, started, good_until, changes.as_mut()) => {}
        }
    }
    set(&lead, Duration::ZERO);
    if good_until > Duration::ZERO {
        release(&api, &me).await;
    }
    Ok(())
}

/// Every change of the lease. It only tells that a leader is there: where it may not be watched, it is read.
fn changes(api: Api<Lease>) -> impl Stream<Item = Lease> {
    let config = watcher::Config::default().fields(&format!("metadata.name={LEASE}"));
    watcher(api, config).backoff(Retry::default()).touched_objects().filter_map(|lease| {
        ready(lease.inspect_err(|error| tracing::debug!(%error, "the leader's lease is not watched")).ok())
    })
}

/// Waits until the lease is to be renewed, or read again.
async fn rest(
    observer: &mut Observer,
    looked: Duration,
    good_until: Duration,
    mut changes: Pin<&mut impl Stream<Item = Lease>>,
) {
    loop {
        let due = if good_until <= looked {
            observer.due(looked)
        } else if good_until > boot_time() {
            good_until.min(looked + PERIOD)
        } else {
            looked + PERIOD
        };
        tokio::select! {
            () = tokio::time::sleep(due.saturating_sub(boot_time()).max(BREATH)) => return,
            Some(lease) = changes.next() => {
                let (holder, version) = told(&lease);
                observer.shown(&holder, &version, boot_time());
            }
        }
    }
}

/// Whose the lease is, and in which version.
fn told(lease: &Lease) -> (String, String) {
    let holder = lease.spec.as_ref().and_then(|spec| spec.holder_identity.clone());
    (holder.unwrap_or_default(), lease.resource_version().unwrap_or_default())
}

fn set(lead: &watch::Sender<Leadership>, good_until: Duration) {
    lead.send_if_modified(|l| {
        let leading = boot_time() < good_until;
        l.good_until = good_until;
        let changed = l.leading != leading;
        if changed {
            tracing::info!(leading, "leadership changed");
            (l.leading, l.since) = (leading, boot_time());
        }
        changed
    });
}

/// One renewal or look at the lease. True: it is ours, and was written just now.
async fn attempt(api: &Api<Lease>, me: &str, observer: &mut Observer) -> kube::Result<bool> {
    let from_memory = observer.held.is_some();
    let renewed = once(api, me, observer).await?;
    // What was remembered may be older than what somebody else wrote without taking the lease.
    if renewed || !from_memory { Ok(renewed) } else { once(api, me, observer).await }
}

async fn once(api: &Api<Lease>, me: &str, observer: &mut Observer) -> kube::Result<bool> {
    let known = match observer.held.take() {
        Some(lease) => Some(lease),
        None => api.get_opt(LEASE).await?,
    };
    let Some(lease) = known else {
        return created(api, me).await;
    };
    let spec = lease.spec.clone().unwrap_or_default();
    let (holder, version) = told(&lease);
    let decision = observer.decide(me, &holder, &version, boot_time());
    if decision == Decision::Wait {
        return Ok(false);
    }
    let mut next = lease;
    next.spec = Some(claim(me, &spec, decision == Decision::Take));
    match api.replace(LEASE, &PostParams::default(), &next).await {
        Ok(lease) => {
            observer.held = Some(lease);
            Ok(true)
        }
        // Somebody else wrote, or removed it: read it before the next attempt.
        Err(kube::Error::Api(status)) if status.is_conflict() || status.is_not_found() => Ok(false),
        Err(error) => Err(error),
    }
}

async fn created(api: &Api<Lease>, me: &str) -> kube::Result<bool> {
    let lease = Lease {
        metadata: ObjectMeta { name: Some(LEASE.into()), ..ObjectMeta::default() },
        spec: Some(claim(me, &LeaseSpec::default(), true)),
    };
    match api.create(&PostParams::default(), &lease).await {
        Ok(_) => Ok(true),
        Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(false),
        Err(error) => Err(error),
    }
}

fn claim(me: &str, old: &LeaseSpec, taken: bool) -> LeaseSpec {
    let now = MicroTime(Timestamp::now());
    let transitions = old.lease_transitions.unwrap_or(0);
    LeaseSpec {
        holder_identity: Some(me.into()),
        lease_duration_seconds: Some(i32::try_from(DURATION.as_secs()).unwrap_or(i32::MAX)),
        renew_time: Some(now.clone()),
        acquire_time: if taken { Some(now) } else { old.acquire_time.clone() },
        lease_transitions: Some(if taken { transitions.saturating_add(1) } else { transitions }),
        ..LeaseSpec::default()
    }
}

/// Gives the lease up, so that the next leader need not wait. Best effort.
async fn release(api: &Api<Lease>, me: &str) {
    let attempt = async {
        let mut lease = api.get(LEASE).await?;
        let spec = lease.spec.get_or_insert_default();
        if spec.holder_identity.as_deref() == Some(me) {
            spec.holder_identity = Some(String::new());
            api.replace(LEASE, &PostParams::default(), &lease).await?;
        }
        Ok::<(), kube::Error>(())
    };
    if !matches!(tokio::time::timeout(ATTEMPT, attempt).await, Ok(Ok(()))) {
        tracing::info!("the leader's lease was not given up; the next leader waits for its end");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_slept_past_its_lease_leads_no_more() {
        let s = Duration::from_secs;
        let leader = Leadership { leading: true, since: s(1), good_until: s(10) };
        assert!(leader.holds_for(s(0), s(9)) && leader.holds_for(s(2), s(7)));
        assert!(!leader.holds_for(s(2), s(8)), "too little is left for a call");
        assert!(!leader.holds_for(s(0), s(10)) && !leader.holds_for(s(0), s(99)));
        assert!(!Leadership { leading: false, ..leader }.holds_for(s(0), s(2)));
    }
}
