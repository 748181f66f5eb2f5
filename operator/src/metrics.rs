//! The operator's own metrics.

use prometheus::{Encoder, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder};

/// All counters and gauges, registered.
pub struct Metrics {
    registry: Registry,
    /// 1 once the resource definitions are there and the tasks run.
    pub started: IntGauge,
    /// 1 while this replica leads.
    pub leading: IntGauge,
    /// Reconciliations of MailClusters, by result (ok, error).
    pub reconciliations: IntCounterVec,
    /// Writes to the Kubernetes API by the controller, by kind.
    pub writes: IntCounterVec,
    /// Frontends taken out and put back by the probe, by direction (out, in).
    pub frontend_gates: IntCounterVec,
    /// MailClusters and MailStores that this version cannot read.
    pub unreadable: IntGauge,
    /// Days until the client certificate that expires first, by cluster.
    pub certificate_days: IntGaugeVec,
}

impl Metrics {
    /// A new set in a registry of its own.
    ///
    /// # Errors
    /// When two metrics have one name, which would be a defect.
    pub fn new() -> prometheus::Result<Self> {
        let registry = Registry::new();
        let gauge = |name: &str, help: &str| -> prometheus::Result<IntGauge> {
            let gauge = IntGauge::new(name, help)?;
            registry.register(Box::new(gauge.clone()))?;
            Ok(gauge)
        };
        let counters = |name: &str, help: &str, labels: &[&str]| -> prometheus::Result<IntCounterVec> {
            let counters = IntCounterVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(counters.clone()))?;
            Ok(counters)
        };
        let certificate_days = IntGaugeVec::new(
            Opts::new(
                "mailcluster_client_certificate_days",
                "Days until the first client certificate expires",
            ),
            &["namespace", "cluster"],
        )?;
        registry.register(Box::new(certificate_days.clone()))?;
        Ok(Self {
            started: gauge("mailcluster_operator_started", "1 once the tasks run")?,
            leading: gauge("mailcluster_operator_leading", "1 while this replica leads")?,
            unreadable: gauge(
                "mailcluster_unreadable_objects",
                "MailClusters and MailStores that this version cannot read; nothing is done for them",
            )?,
            reconciliations: counters(
                "mailcluster_reconciliations_total",
                "Reconciliations by result",
                &["result"],
            )?,
            writes: counters(
                "mailcluster_operator_writes_total",
                "Writes by the controller, by kind",
                &["kind"],
            )?,
            frontend_gates: counters(
                "mailcluster_frontend_gates_total",
                "Frontends taken out or put back",
                &["to"],
            )?,
            certificate_days,
            registry,
        })
    }

    /// The registry, for parts that have metrics of their own.
    #[must_use]
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// All metrics in Prometheus' text format.
    ///
    /// # Errors
    /// When a metric cannot be encoded.
    pub fn render(&self) -> prometheus::Result<Vec<u8>> {
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(text)
    }
}
