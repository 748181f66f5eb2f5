//! What SMTP sessions count.

use std::sync::OnceLock;

use prometheus::{IntCounterVec, IntGaugeVec, Opts, core::Collector};

static METRICS: OnceLock<Metrics> = OnceLock::new();

struct Metrics {
    accepted: IntCounterVec,
    rejected: IntCounterVec,
    handed_off: IntCounterVec,
    logins: IntCounterVec,
    silent: IntCounterVec,
    checks: IntCounterVec,
    verdicts: IntCounterVec,
    sessions: IntGaugeVec,
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
            checks: counter(
                "checks_total",
                "Results of checks of mail from other sites, in the words of RFC 8601 section 2.7.",
                &["check", "result"],
            )?,
            verdicts: counter(
                "verdicts_total",
                "What was done with checked mail: `deliver`, `junk`, `refuse`, or `later` (put off, as too many were being \
                 checked).",
                &["action"],
            )?,
            sessions: IntGaugeVec::new(
                Opts::new("mailcluster_smtp_sessions", "SMTP connections."),
                &["service"],
            )?,
        })
    }
}

/// The metrics, to be registered. Counting starts with the first call.
///
/// # Errors
/// Never, as the names are constant; `prometheus` checks them all the same.
pub fn collectors() -> prometheus::Result<Vec<Box<dyn Collector>>> {
    let metrics = match METRICS.get() {
        Some(metrics) => metrics,
        None => {
            let made = Metrics::new()?;
            METRICS.get_or_init(|| made)
        }
    };
    Ok(vec![
        Box::new(metrics.accepted.clone()),
        Box::new(metrics.rejected.clone()),
        Box::new(metrics.handed_off.clone()),
        Box::new(metrics.logins.clone()),
        Box::new(metrics.silent.clone()),
        Box::new(metrics.checks.clone()),
        Box::new(metrics.verdicts.clone()),
        Box::new(metrics.sessions.clone()),
    ])
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

pub(super) fn check(check: &str, result: &str) {
    count(|m| &m.checks, &[check, result]);
}

pub(super) fn verdict(action: &str) {
    count(|m| &m.verdicts, &[action]);
}

/// Counts a session for as long as it lives.
pub(super) struct Counted(&'static str);

pub(super) fn session(service: &'static str) -> Counted {
    if let Some(metrics) = METRICS.get() {
        metrics.sessions.with_label_values(&[service]).inc();
    }
    Counted(service)
}

impl Drop for Counted {
    fn drop(&mut self) {
        if let Some(metrics) = METRICS.get() {
            metrics.sessions.with_label_values(&[self.0]).dec();
        }
    }
}
