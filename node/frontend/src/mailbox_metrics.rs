//! What the IMAP and POP3 services of a frontend count.

use std::sync::OnceLock;

use prometheus::{IntCounterVec, IntGaugeVec, Opts, core::Collector};

static METRICS: OnceLock<Metrics> = OnceLock::new();

struct Metrics {
    logins: IntCounterVec,
    sessions: IntGaugeVec,
    octets: IntCounterVec,
}

impl Metrics {
    fn new() -> prometheus::Result<Self> {
        let opts = |name: &str, help: &str| Opts::new(format!("mailcluster_mailbox_{name}"), help);
        Ok(Self {
            logins: IntCounterVec::new(
                opts("logins_total", "IMAP and POP3 logins by result."),
                &["service", "result"],
            )?,
            sessions: IntGaugeVec::new(
                opts(
                    "sessions",
                    "IMAP and POP3 connections; `login`: before the login, `proxied`: after it.",
                ),
                &["service", "state"],
            )?,
            octets: IntCounterVec::new(
                opts("proxied_octets_total", "Octets passed on between clients and backends."),
                &["service", "direction"],
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
        Box::new(metrics.logins.clone()),
        Box::new(metrics.sessions.clone()),
        Box::new(metrics.octets.clone()),
    ])
}

pub(crate) fn login(service: &str, result: &str) {
    if let Some(metrics) = METRICS.get() {
        metrics.logins.with_label_values(&[service, result]).inc();
    }
}

pub(crate) fn octets(service: &str, up: u64, down: u64) {
    if let Some(metrics) = METRICS.get() {
        metrics.octets.with_label_values(&[service, "up"]).inc_by(up);
        metrics.octets.with_label_values(&[service, "down"]).inc_by(down);
    }
}

/// Counts a session in a state for as long as it lives.
pub(crate) struct InState(&'static str, &'static str);

pub(crate) fn in_state(service: &'static str, state: &'static str) -> InState {
    if let Some(metrics) = METRICS.get() {
        metrics.sessions.with_label_values(&[service, state]).inc();
    }
    InState(service, state)
}

impl Drop for InState {
    fn drop(&mut self) {
        if let Some(metrics) = METRICS.get() {
            metrics.sessions.with_label_values(&[self.0, self.1]).dec();
        }
    }
}
