//! `frontend`: what faces the internet.

use std::{net::IpAddr, sync::Arc, time::Duration};

use anyhow::{Context, Result};
use mailcluster_api::{config::FrontendConfig, ports};
use mailcluster_arbiter::control;
use mailcluster_directory::{RemoteConfig, RemoteDirectory, RemoteScreening};
use mailcluster_frontend::{FrontendContext, FrontendLimits};
use mailcluster_net::{
    limits::ConnectionLimits,
    proxy::TrustedProxies,
    remote::RemoteBackends,
    tls::{CertStore, TlsAcceptor},
};
use mailcluster_screen::Gate;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    channel::DirectoryChannel,
    grpc::{self, Changing},
    pod::{CERTIFICATES, Pod},
    providers::Providers,
    routes::Routes,
};
use crate::{args::FrontendArgs, client_ports::ClientPorts, listen_spec::Proto, metrics, screening, way_in};

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

/// Tells a gate of the cluster's own addresses, as they change.
async fn keep_own(screen: Gate, me: IpAddr, routes: Routes) {
    let (mut mail, mut directory) = (routes.mail.watch(), routes.directory.watch());
    loop {
        let stores = routes.mail.all().into_iter().chain(routes.directory.all());
        screen.set_own(stores.map(|route| route.endpoint.ip()).chain([me]));
        let changed = tokio::select! {
            changed = mail.changed() => changed,
            changed = directory.changed() => changed,
        };
        if changed.is_err() {
            return;
        }
    }
}

/// The gate, with the cluster's own addresses as they are told.
fn gate(pod: &Pod, section: &FrontendConfig, routes: &Routes) -> Result<Gate> {
    let screen =
        screening::gate(&pod.config.screening.clone().unwrap_or_default(), &section.trusted_proxies)?;
    screen.set_own([pod.ip]);
    tokio::spawn(keep_own(screen.clone(), pod.ip, routes.clone()));
    Ok(screen)
}

/// What is remembered of the directory.
fn remembers(pod: &Pod) -> RemoteConfig {
    let throttle = screening::patient(&pod.config.screening.clone().unwrap_or_default());
    let send_limits = super::directory::limits(&pod.config);
    RemoteConfig { ahead: true, send_limits, throttle, ..RemoteConfig::default() }
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
    let screen = gate(&pod, section, &routes)?;
    screening::follow(&screen, Arc::new(RemoteScreening::new(source.clone())), &pod.registry, &ending)?;
    let directory = RemoteDirectory::start(source, remembers(&pod), ending.clone())?;
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
            screen,
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
