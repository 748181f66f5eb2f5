//! What backend sessions count.

use std::sync::OnceLock;

use mailcluster_proto_smtp::Reply;
use prometheus::{IntCounterVec, IntGaugeVec, Opts, core::Collector};

static METRICS: OnceLock<Metrics> = OnceLock::new();

struct Metrics {
    recipients: IntCounterVec,
    sessions: IntGaugeVec,
}

impl Metrics {
    fn new() -> prometheus::Result<Self> {
        Ok(Self {
            recipients: IntCounterVec::new(
                Opts::new(
                    "mailcluster_lmtp_recipients_total",
                    "Recipients answered over LMTP: `delivered`, `duplicate` (had it already), `filtered` (in no mailbox, \
                     as a script says), `queued` for another store, `held` for a person, or `refused` with this status.",
                ),
                &["outcome", "status"],
            )?,
            sessions: IntGaugeVec::new(
                Opts::new(
                    "mailcluster_backend_sessions",
                    "Sessions of frontends and queues with this store.",
                ),
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
    Ok(vec![Box::new(metrics.recipients.clone()), Box::new(metrics.sessions.clone())])
}

/// A recipient's mail was taken.
pub(crate) fn taken(outcome: &str) {
    if let Some(metrics) = METRICS.get() {
        metrics.recipients.with_label_values(&[outcome, ""]).inc();
    }
}

/// A recipient was refused, at RCPT or after the message.
pub(crate) fn refused(reply: &Reply) {
    if let Some(metrics) = METRICS.get() {
        metrics.recipients.with_label_values(&["refused", reply.status().unwrap_or("")]).inc();
    }
}

/// Counts a session for as long as it lives.
pub(crate) struct Counted(&'static str);

pub(crate) fn session(service: &'static str) -> Counted {
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
