//! Metrics of failover.

use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, Opts, Registry};

/// Counters of failovers and of what held them back.
pub(super) struct Measures {
    seconds: HistogramVec,
    deferrals: IntCounterVec,
}

impl Measures {
    /// Registers them.
    ///
    /// # Errors
    /// When a name is taken, which would be a defect.
    pub fn new(registry: &Registry) -> prometheus::Result<Self> {
        let seconds = HistogramVec::new(
            HistogramOpts::new(
                "mailcluster_failover_seconds",
                "From the first sign to serving again, by reason",
            )
            .buckets(vec![1.0, 2.0, 5.0, 10.0, 15.0, 20.0, 30.0, 60.0, 120.0, 300.0, 900.0]),
            &["reason"],
        )?;
        let deferrals = IntCounterVec::new(
            Opts::new("mailcluster_failover_deferrals_total", "Steps of failover held back, by reason"),
            &["reason"],
        )?;
        registry.register(Box::new(seconds.clone()))?;
        registry.register(Box::new(deferrals.clone()))?;
        Ok(Self { seconds, deferrals })
    }

    pub fn finished(&self, reason: &str, seconds: f64) {
        self.seconds.with_label_values(&[reason]).observe(seconds);
    }

    pub fn deferred(&self, reason: &str) {
        self.deferrals.with_label_values(&[reason]).inc();
    }
}
