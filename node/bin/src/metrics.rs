//! What a node tells Prometheus. Sessions count for themselves; stores, queues, listeners and certificates are read
//! when they are asked for. `mailcluster-node metrics-reference` writes docs/reference/metrics.md from what is here.

mod readings;
mod reference;
mod store;

use std::{sync::Arc, time::Instant};

use anyhow::Result;
use mailcluster_directory::RemoteDirectory;
use mailcluster_net::{
    limits::{ConnectionLimits, LimitReached},
    mtls::Identity,
    tls::CertStore,
};
use mailcluster_queue::{QueueCounters, QueueHandle};
use mailcluster_screen::{Gate, GateCounts};
use prometheus::{Registry, core::Collector};

use self::readings::{Kind, Metric, Readings, Sample};
pub use self::{reference::reference, store::watch_store};

/// Registers what sessions count.
pub fn register(registry: &Registry) -> Result<()> {
    for collector in frontend_sessions()?.into_iter().chain(backend_sessions()?) {
        registry.register(collector)?;
    }
    Ok(())
}

fn frontend_sessions() -> Result<Vec<Box<dyn Collector>>> {
    let mut all = mailcluster_frontend::smtp::metrics::collectors()?;
    all.extend(mailcluster_frontend::mailbox_metrics::collectors()?);
    Ok(all)
}

fn backend_sessions() -> Result<Vec<Box<dyn Collector>>> {
    Ok(mailcluster_backend::metrics::collectors()?)
}

/// Tells of the connections of clients.
pub fn register_connections(registry: &Registry, limits: ConnectionLimits) -> Result<()> {
    let readings = Readings::new(CONNECTIONS, &[], move || limits.clone())?;
    Ok(registry.register(Box::new(readings))?)
}

const CONNECTIONS: &[Metric<ConnectionLimits>] = &[
    Metric {
        name: "mailcluster_connections",
        kind: Kind::Gauge,
        labels: &[],
        help: "Connections of clients.",
        read: |limits| vec![Sample::count(limits.total())],
    },
    Metric {
        name: "mailcluster_connections_refused_total",
        kind: Kind::Counter,
        labels: &["limit"],
        help: "Connections refused, as there were too many in `all` or from one `address`.",
        read: |limits| {
            [("all", LimitReached::Total), ("address", LimitReached::Client)]
                .map(|(label, limit)| Sample::number(limits.refused(limit)).of(label))
                .into()
        },
    },
];

/// Tells of who is refused.
pub fn register_screening(registry: &Registry, gate: Gate) -> Result<()> {
    let readings = Readings::new(SCREENING, &[], move || gate.counts(Instant::now()).unwrap_or_default())?;
    Ok(registry.register(Box::new(readings))?)
}

const SCREENING: &[Metric<GateCounts>] = &[
    Metric {
        name: "mailcluster_screening_bans",
        kind: Kind::Gauge,
        labels: &[],
        help: "Networks that are refused for a while now.",
        read: |gate| vec![Sample::count(gate.bans)],
    },
    Metric {
        name: "mailcluster_screening_accounts_slowed",
        kind: Kind::Gauge,
        labels: &[],
        help: "Accounts under attack now: logins to them wait, but for addresses from which they logged in well lately.",
        read: |gate| vec![Sample::count(gate.slowed)],
    },
    Metric {
        name: "mailcluster_screening_refused_total",
        kind: Kind::Counter,
        labels: &["list"],
        help: "Connections refused before anything was spent on them, as their address is `banned` or on the `block` list.",
        read: |gate| {
            [("banned", gate.banned), ("block", gate.blocked)]
                .map(|(label, count)| Sample::number(count).of(label))
                .into()
        },
    },
    Metric {
        name: "mailcluster_screening_logins_total",
        kind: Kind::Counter,
        labels: &["verdict"],
        help: "Logins `delayed` as their account is under attack, or `refused` as their address is banned or too many wait.",
        read: |gate| {
            [("delayed", gate.delayed), ("refused", gate.refused_logins)]
                .map(|(label, count)| Sample::number(count).of(label))
                .into()
        },
    },
    Metric {
        name: "mailcluster_screening_unreported_total",
        kind: Kind::Counter,
        labels: &[],
        help: "What was seen of clients and found no room in the report to the directory.",
        read: |gate| vec![Sample::number(gate.dropped)],
    },
];

/// Tells what this process remembers of the directory.
pub fn register_directory(registry: &Registry, directory: Arc<RemoteDirectory>) -> Result<()> {
    let readings = Readings::new(DIRECTORY, &[], move || Arc::clone(&directory))?;
    Ok(registry.register(Box::new(readings))?)
}

const DIRECTORY: &[Metric<Arc<RemoteDirectory>>] = &[Metric {
    name: "mailcluster_addresses_known",
    kind: Kind::Gauge,
    labels: &[],
    help: "Addresses whose answer this frontend remembers: it takes mail for their accounts when the directory is away.",
    read: |directory| vec![Sample::count(directory.addresses_known())],
}];

/// Tells what the queue of this process has done.
pub fn register_queue(registry: &Registry, queue: QueueHandle) -> Result<()> {
    let readings = Readings::new(QUEUE, &[], move || queue.counters())?;
    Ok(registry.register(Box::new(readings))?)
}

const QUEUE: &[Metric<QueueCounters>] = &[Metric {
    name: "mailcluster_queue_recipients_total",
    kind: Kind::Counter,
    labels: &["outcome"],
    help: "What became of recipients in the queue: `delivered`; `deferred` (an attempt was refused for now); for other \
           sites, `sent` (a server there has it), `put_off` (an attempt to be made again) and, of those, `perhaps_twice` \
           (the connection was lost after the end of the message); given up and `bounced` to the sender, `held` (the bounce waits, as there is no way to its sender) or `dropped` (the \
           sender was null).",
    read: |queue| {
        [
            ("delivered", queue.delivered),
            ("deferred", queue.deferred),
            ("bounced", queue.bounced),
            ("held", queue.held),
            ("dropped", queue.dropped),
            ("sent", queue.sent),
            ("put_off", queue.put_off),
            ("perhaps_twice", queue.perhaps_twice),
        ]
        .map(|(outcome, count)| Sample::number(count).of(outcome))
        .into()
    },
}];

/// The certificates of a process.
#[derive(Clone, Default)]
pub struct Certificates {
    /// Those shown to clients.
    pub clients: Option<CertStore>,
    /// The pod's own, for other pods.
    pub identity: Option<Identity>,
}

/// Tells of the certificates in use.
pub fn register_certificates(registry: &Registry, certificates: Certificates) -> Result<()> {
    let readings = Readings::new(CERTIFICATES, &[], move || certificates.clone())?;
    Ok(registry.register(Box::new(readings))?)
}

const CERTIFICATES: &[Metric<Certificates>] = &[
    Metric {
        name: "mailcluster_tls_not_after_timestamp_seconds",
        kind: Kind::Gauge,
        labels: &["entry"],
        help: "When a certificate expires, Unix time: those shown to clients by their names in the TLS directory, and \
               the pod's own, shown to other pods, as `identity`.",
        read: |certificates| {
            let clients = certificates.clients.iter().flat_map(CertStore::certificates);
            let mut samples: Vec<Sample> =
                clients.map(|entry| Sample::seconds(entry.not_after).of(&entry.name)).collect();
            let identity = certificates.identity.iter();
            samples.extend(identity.map(|identity| Sample::seconds(identity.not_after()).of("identity")));
            samples
        },
    },
    Metric {
        name: "mailcluster_tls_reloads_total",
        kind: Kind::Counter,
        labels: &[],
        help: "Times the certificates shown to clients were read anew.",
        read: |certificates| certificates.clients.iter().map(|c| Sample::number(c.reloads())).collect(),
    },
    Metric {
        name: "mailcluster_tls_failures_total",
        kind: Kind::Counter,
        labels: &[],
        help: "Certificates for clients that were broken, and times their directory could not be read; what was in \
               use before stays in use.",
        read: |certificates| certificates.clients.iter().map(|c| Sample::number(c.failures())).collect(),
    },
];
