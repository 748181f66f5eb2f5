//! What a node counts of its store and certificates; sessions count for themselves. Every name stands in
//! docs/reference/metrics.md.

use std::{sync::Arc, time::Duration};

use anyhow::Result;
use mailcluster_arbiter::{LeaseGate, StatusHandle, clock};
use mailcluster_net::tls::CertStore;
use prometheus::{IntGauge, IntGaugeVec, Opts, Registry};

/// How often gauges are brought up to date.
const EVERY: Duration = Duration::from_secs(5);

/// Registers what sessions count.
pub fn register(registry: &Registry) -> Result<()> {
    mailcluster_frontend::smtp::metrics::register(registry)?;
    mailcluster_frontend::mailbox_metrics::register(registry)?;
    Ok(())
}

fn gauge(registry: &Registry, name: &str, help: &str, store: &str) -> Result<IntGauge> {
    let gauge = IntGauge::with_opts(
        Opts::new(format!("mailcluster_store_{name}"), help).const_label("store", store),
    )?;
    registry.register(Box::new(gauge.clone()))?;
    Ok(gauge)
}

/// Keeps the gauges of one store up to date, for ever; spawn it.
pub async fn watch_store(
    registry: Registry,
    store: String,
    status: StatusHandle,
    gate: Arc<LeaseGate>,
) -> Result<()> {
    let new = |name, help| gauge(&registry, name, help, &store);
    let serving = new("serving", "1 while this process serves the store.")?;
    let epoch = new("epoch", "Epoch this process holds, or held last.")?;
    let lease = new("lease_left_milliseconds", "How long the last renewal is still good; 0 when it is not.")?;
    let accounts = new("accounts", "Accounts on the store.")?;
    let octets = new("octets", "Octets of live mail.")?;
    let free = new("disk_free_octets", "Octets free on the store's volume.")?;
    let queued = new("queue_recipients", "Recipients waiting in the queue, without those held.")?;
    let held = new("queue_held_recipients", "Recipients held in the queue.")?;
    let oldest =
        new("queue_oldest_timestamp_seconds", "When the oldest queued message came, Unix time; 0: none.")?;
    let mut tick = tokio::time::interval(EVERY);
    loop {
        tick.tick().await;
        epoch.set(signed(gate.epoch()));
        lease.set(signed(gate.lease_until().saturating_sub(clock::boottime())));
        let current = status.get().store;
        serving.set(i64::from(current.is_some() && gate.open()));
        let Some(current) = current else {
            // Whoever serves it now tells of it: a sum over pods must not count it twice.
            [&accounts, &octets, &free, &queued, &held, &oldest].iter().for_each(|gauge| gauge.set(0));
            continue;
        };
        if let Ok((usage, queue)) = current.read(|view| Ok((view.usage()?, view.queue_stats()?))).await {
            accounts.set(signed(usage.accounts));
            octets.set(signed(usage.octets));
            free.set(signed(usage.free_octets));
            queued.set(signed(queue.recipients.saturating_sub(queue.held)));
            held.set(signed(queue.held));
            oldest.set(queue.oldest);
        }
    }
}

/// Keeps the expiry of the certificates shown to clients up to date, for ever; spawn it.
pub async fn watch_certificates(registry: Registry, certs: CertStore) -> Result<()> {
    let help = "When a certificate shown to clients expires, Unix time.";
    let expiry =
        IntGaugeVec::new(Opts::new("mailcluster_tls_not_after_timestamp_seconds", help), &["entry"])?;
    registry.register(Box::new(expiry.clone()))?;
    let mut tick = tokio::time::interval(EVERY);
    loop {
        tick.tick().await;
        expiry.reset();
        for certificate in certs.certificates() {
            expiry.with_label_values(&[&certificate.name]).set(certificate.not_after);
        }
    }
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
