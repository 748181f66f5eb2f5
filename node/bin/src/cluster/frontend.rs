//! `frontend`: what faces the internet.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, Result};
use mailcluster_api::{config::FrontendConfig, ports};
use mailcluster_arbiter::control;
use mailcluster_directory::{RemoteConfig, RemoteDirectory};
use mailcluster_frontend::{FrontendContext, FrontendLimits};
use mailcluster_net::{
    limits::ConnectionLimits,
    proxy::TrustedProxies,
    remote::RemoteBackends,
    tls::{CertStore, TlsAcceptor},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    channel::DirectoryChannel,
    grpc::{self, Changing},
    pod::{CERTIFICATES, Pod},
    providers::Providers,
    routes::Routes,
};
use crate::{args::FrontendArgs, client_ports::ClientPorts, listen_spec::Proto, metrics, way_in};

/// How often stores that no session has used are tried, for the operator's second path of detection.
const PROBE: Duration = Duration::from_secs(2);
/// How long clients are still let in after SIGTERM: the Service may go on sending some until it has heard.
const STILL_SENT: Duration = Duration::from_secs(5);
/// How long sessions may take to end after that.
const GRACE: Duration = Duration::from_secs(25);

/// The ports of client protocols.
const PORTS: [(Proto, u16); 8] = [
    (Proto::Smtp, ports::FRONTEND_SMTP),
    (Proto::Submission, ports::FRONTEND_SUBMISSION),
    (Proto::Submissions, ports::FRONTEND_SUBMISSIONS),
    (Proto::Imap, ports::FRONTEND_IMAP),
    (Proto::Imaps, ports::FRONTEND_IMAPS),
    (Proto::Pop3, ports::FRONTEND_POP3),
    (Proto::Pop3s, ports::FRONTEND_POP3S),
    (Proto::Sieve, ports::FRONTEND_SIEVE),
];

/// Bounds of sessions.
fn limits(section: &FrontendConfig) -> FrontendLimits {
    FrontendLimits {
        max_message: section.limits.message_bytes,
        max_recipients: section.limits.recipients as usize,
        spool_dir: std::env::temp_dir(),
        ..FrontendLimits::default()
    }
}

/// Runs until SIGTERM.
pub async fn run(options: FrontendArgs) -> Result<()> {
    let pod = Pod::start(&options.config).await?;
    let section = pod.config.frontend.as_ref().context("the configuration has no section `frontend`")?;
    let certs = CertStore::load(&section.tls_dir).context("no certificate for clients")?;
    tokio::spawn(certs.clone().watch(CERTIFICATES));
    pod.tell_certificates(Some(certs.clone()))?;
    let tls = TlsAcceptor::new(certs)?;
    let ending = CancellationToken::new();
    let routes = Routes::follow(&pod, None);
    let source = Arc::new(DirectoryChannel::new(routes.clone(), pod.identity.clone()));
    let send_limits = super::directory::limits(&pod.config);
    let remembers = RemoteConfig { ahead: true, send_limits, ..RemoteConfig::default() };
    let directory = RemoteDirectory::start(source, remembers, ending.clone())?;
    let backends = RemoteBackends::new(routes.mail.clone(), pod.identity.clone());
    tokio::spawn(backends.clone().run_probes(PROBE, ending.clone()));
    let clients = ClientPorts {
        context: FrontendContext {
            directory: directory.clone(),
            backends: Arc::new(backends.clone()),
            hostname: pod.hostname.clone(),
            tls: Some(Arc::new(tls.clone())),
            shutdown: ending.clone(),
            sends_out: pod.config.outbound.is_some(),
            checks: way_in::of_config(&section.inbound, &pod.hostname)?,
            limits: Arc::new(limits(section)),
        },
        tls,
        limits: ConnectionLimits::new(
            section.limits.connections as usize,
            section.limits.connections_per_address as usize,
        ),
        trusted: Arc::new(TrustedProxies::parse(&section.trusted_proxies)?),
        shutdown: ending.clone(),
        tasks: TaskTracker::new(),
    };
    metrics::register_connections(&pod.registry, clients.limits.clone())?;
    metrics::register_directory(&pod.registry, directory)?;
    for (proto, port) in PORTS {
        clients.serve(proto, pod.listen(port)?);
    }
    let providers = Providers::Frontend { backends, routes, identity: pod.identity.clone() };
    let me = control::Me { pod_uid: pod.uid.clone(), start_id: pod.start_id.clone() };
    let control = control::service(Arc::new(providers), None, me);
    grpc::serve(pod.listen(ports::BACKEND_GRPC)?, pod.identity.clone(), control, None, &Changing::new());
    let stopping = pod.shutdown.clone();
    pod.serve_health(Arc::new(
        move || if stopping.is_cancelled() { Err("stopping".to_owned()) } else { Ok(()) },
    ))?;
    pod.shutdown.cancelled().await;
    tokio::time::sleep(STILL_SENT).await;
    ending.cancel();
    clients.tasks.close();
    if tokio::time::timeout(GRACE, clients.tasks.wait()).await.is_err() {
        tracing::warn!("some sessions did not end in time; their connections are closed");
    }
    Ok(())
}
