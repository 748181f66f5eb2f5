//! What SMTP sessions count.

use std::sync::OnceLock;

use prometheus::{IntCounterVec, Opts, Registry};

static METRICS: OnceLock<Metrics> = OnceLock::new();

struct Metrics {
    accepted: IntCounterVec,
    rejected: IntCounterVec,
    handed_off: IntCounterVec,
    logins: IntCounterVec,
    silent: IntCounterVec,
}

impl Metrics {
    fn new() -> prometheus::Result<Self> {
        let counter = |name: &str, help: &str, labels: &[&str]| {
            IntCounterVec::new(Opts::new(format!("mailcluster_smtp_{name}"), help), labels)
        };
        Ok(Self {
            accepted: counter("accepted_total", "Messages answered 250.", &["service"])?,
            rejected: counter("rejected_total", "Commands and messages refused.", &["service", "reason"])?,
            handed_off: counter(
                "handed_off_total",
                "Recipients put into another store's queue, because their store was away, refused them after \
                 acceptance, or because they are held.",
                &["reason"],
            )?,
            logins: counter("logins_total", "Submission logins.", &["result"])?,
            silent: counter(
                "silent_closes_total",
                "Messages whose connection was closed without a reply, as their outcome was unknown.",
                &["service"],
            )?,
        })
    }
}

/// Adds the counters to a registry. Counting starts with the first call.
///
/// # Errors
/// When the registry has metrics of the same names.
pub fn register(registry: &Registry) -> prometheus::Result<()> {
    let metrics = match METRICS.get() {
        Some(metrics) => metrics,
        None => {
            let made = Metrics::new()?;
            METRICS.get_or_init(|| made)
        }
    };
    for counter in
        [&metrics.accepted, &metrics.rejected, &metrics.handed_off, &metrics.logins, &metrics.silent]
    {
        registry.register(Box::new(counter.clone()))?;
    }
    Ok(())
}

fn count(pick: impl Fn(&Metrics) -> &IntCounterVec, labels: &[&str]) {
    if let Some(metrics) = METRICS.get() {
        pick(metrics).with_label_values(labels).inc();
    }
}

pub(super) fn accepted(service: &str) {
    count(|m| &m.accepted, &[service]);
}

pub(super) fn rejected(service: &str, reason: &str) {
    count(|m| &m.rejected, &[service, reason]);
}

pub(super) fn handed_off(reason: &str) {
    count(|m| &m.handed_off, &[reason]);
}

pub(super) fn login(result: &str) {
    count(|m| &m.logins, &[result]);
}

pub(super) fn silent(service: &str) {
    count(|m| &m.silent, &[service]);
}
