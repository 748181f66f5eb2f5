//! The pod this process is: its configuration, identity, client and ports for people.

use std::{net::IpAddr, path::Path, sync::Arc, time::Duration};

use anyhow::{Context, Result, bail};
use mailcluster_api::{config::NodeConfig, ports};
use mailcluster_net::{listen, mtls::Identity, tls::CertStore};
use mailcluster_types::{ClusterId, SessionId};
use prometheus::Registry;
use tokio_util::sync::CancellationToken;

use crate::{
    health,
    metrics::{self, Certificates},
    shutdown,
};

/// How often mounted certificates are looked at.
pub const CERTIFICATES: Duration = Duration::from_secs(5);

/// What every role starts with.
pub struct Pod {
    /// The file the operator rendered.
    pub config: NodeConfig,
    /// The cluster's id.
    pub cluster: ClusterId,
    /// The FQDN.
    pub hostname: Arc<str>,
    /// Who we are to other pods; reloaded when its Secret changes.
    pub identity: Identity,
    /// The Kubernetes API.
    pub client: kube::Client,
    /// The pod's UID.
    pub uid: String,
    /// The pod's address.
    pub ip: IpAddr,
    /// The node's name.
    pub node: String,
    /// Drawn at this start.
    pub start_id: String,
    /// Metrics.
    pub registry: Registry,
    /// Cancelled by SIGTERM.
    pub shutdown: CancellationToken,
}

impl Pod {
    /// Reads the configuration, the identity and the downward API.
    pub async fn start(config: &Path) -> Result<Self> {
        let shutdown = shutdown::on_signal()?;
        listen::raise_nofile().context("failed to raise the limit of open files")?;
        let text = std::fs::read_to_string(config)
            .with_context(|| format!("failed to read {}", config.display()))?;
        let config = NodeConfig::from_yaml(&text)?;
        let identity = Identity::load(&config.identity_dir)
            .with_context(|| format!("no usable identity in {}", config.identity_dir.display()))?;
        tokio::spawn(identity.clone().watch(CERTIFICATES));
        let client = kube::Client::try_default().await.context("no way to the Kubernetes API")?;
        let registry = Registry::new();
        metrics::register(&registry)?;
        Ok(Self {
            cluster: config.cluster_id.parse().context("clusterID")?,
            hostname: config.hostname.as_str().into(),
            config,
            identity,
            client,
            uid: env("POD_UID")?,
            ip: env("POD_IP")?.parse().context("POD_IP")?,
            node: env("NODE_NAME")?,
            start_id: SessionId::random()?.to_string(),
            registry,
            shutdown,
        })
    }

    /// Serves health and metrics.
    pub fn serve_health(&self, ready: health::Ready) -> Result<()> {
        let listener = self.listen(ports::HEALTH)?;
        // Health outlives the shutdown's first part, so that a draining pod is not killed for being silent.
        tokio::spawn(health::serve(listener, self.registry.clone(), ready, CancellationToken::new()));
        Ok(())
    }

    /// Tells metrics of the pod's own certificate and of those shown to clients.
    pub fn tell_certificates(&self, clients: Option<CertStore>) -> Result<()> {
        let certificates = Certificates { clients, identity: Some(self.identity.clone()) };
        metrics::register_certificates(&self.registry, certificates)
    }

    /// A listener on a port of this pod.
    pub fn listen(&self, port: u16) -> Result<tokio::net::TcpListener> {
        let addr = (std::net::Ipv6Addr::UNSPECIFIED, port).into();
        // A pod without IPv6 has no `::`.
        let any =
            listen::bind(addr).or_else(|_| listen::bind((std::net::Ipv4Addr::UNSPECIFIED, port).into()));
        any.with_context(|| format!("cannot listen on port {port}"))
    }
}

fn env(name: &str) -> Result<String> {
    match std::env::var(name) {
        Ok(value) if !value.is_empty() => Ok(value),
        _ => bail!("{name} is not set: this role runs in a pod that the operator made; try `standalone`"),
    }
}
