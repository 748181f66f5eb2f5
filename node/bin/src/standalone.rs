//! `standalone`: all roles in one process. The same sessions, store and directory as in a cluster; in-memory pipes
//! stand for the network between them, and a locked file for the Lease.

mod admin_socket;
mod identity;
mod services;

use std::{
    fs::{DirBuilder, Permissions},
    io::Write,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt},
    path::Path,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use mailcluster_arbiter::{FileArbiter, ReplicaState, StatusHandle, lifecycle::Replica};
use mailcluster_backend::{Peer, SessionLimits};
use mailcluster_frontend::{FrontendContext, FrontendLimits};
use mailcluster_net::{
    limits::ConnectionLimits,
    listen,
    proxy::TrustedProxies,
    tls::{CertStore, TlsAcceptor},
};
use mailcluster_queue::QueueConfig;
use mailcluster_store::Identity;
use mailcluster_types::{ClientInfo, SessionId};
use prometheus::Registry;
use tokio::net::TcpListener;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::{
    identity::NodeIdentity,
    services::{DirectoryRole, MailRole},
};
use crate::{
    args::StandaloneArgs,
    client_ports::ClientPorts,
    health,
    holder::{self, Holder, HolderPlan},
    listen_spec::{self, ListenSpec, Proto},
    local_backends::LocalBackends,
    local_directory::LocalDirectory,
    metrics::{self, Certificates},
    screening, self_signed, shutdown, way_in, way_out,
};

/// The name of the only mail store.
pub const STORE: &str = "standalone-0";
/// The name of the directory's store.
pub const DIRECTORY: &str = "standalone-directory";
/// Connections in all, and from one address.
const CONNECTIONS: (usize, usize) = (20_000, 1000);
/// How long sessions may take to end.
const GRACE: Duration = Duration::from_secs(20);

/// Runs until SIGTERM or SIGINT.
pub async fn run(options: StandaloneArgs) -> Result<()> {
    let shutdown = shutdown::on_signal()?;
    listen::raise_nofile().context("failed to raise the limit of open files")?;
    data_dir(&options.data)?;
    let identity = NodeIdentity::load_or_draw(&options.data)?;
    let registry = Registry::new();
    metrics::register(&registry)?;
    let (tls, certificates) = tls_acceptor(&options)?;
    metrics::register_certificates(&registry, certificates)?;

    let hostname: Arc<str> = options.hostname.as_str().into();
    let directory = Arc::new(LocalDirectory::default());
    // Stores outlive the frontends, so that what is in flight can still be stored.
    let stores_down = CancellationToken::new();
    let out = way_out::of_options(&options.way_out, &options.name_servers, &hostname)?;
    let checks = way_in::of_options(&options.way_in, &options.name_servers, &hostname)?;
    let sends_out = out.is_some();
    let backends = LocalBackends::new(STORE.into(), hostname.clone(), Arc::new(SessionLimits::default()));
    let backends = Arc::new(backends.sending_out(sends_out));
    backends.set_directory(directory.clone());
    let queue = QueueConfig { out, ..QueueConfig::new(hostname.clone()) };
    metrics::register_queue(&registry, queue.handle.clone())?;
    let mail_role = MailRole::new(backends.clone(), directory.clone(), queue);
    let directory_role = DirectoryRole::new(&options, directory.clone(), backends.clone())?;
    let holders = [
        hold(&options, "directory", identity.directory(), Arc::new(directory_role), &stores_down)?,
        hold(&options, "store", identity.store(), Arc::new(mail_role), &stores_down)?,
    ];
    for (holder, name) in holders.iter().zip([DIRECTORY, STORE]) {
        serving(holder, &shutdown).await?;
        let (status, gate) = (holder.status.clone(), holder.gate.clone());
        tokio::spawn(metrics::watch_store(registry.clone(), name.to_owned(), status, gate));
    }

    let proxies = &options.screening.trusted_proxy;
    let screen = screening::gate(&options.screening.asked(), proxies)?;
    screening::follow(&screen, directory.clone(), &registry, &shutdown)?;
    let context = FrontendContext {
        directory,
        backends: backends.clone(),
        hostname,
        tls: Some(Arc::new(tls.clone())),
        shutdown: shutdown.clone(),
        sends_out,
        checks,
        screen,
        limits: Arc::new(FrontendLimits::default()),
    };
    let ports = ClientPorts {
        context,
        tls,
        limits: ConnectionLimits::new(CONNECTIONS.0, CONNECTIONS.1),
        trusted: Arc::new(TrustedProxies::parse(proxies).context("--trusted-proxy")?),
        shutdown: shutdown.clone(),
        tasks: TaskTracker::new(),
    };
    metrics::register_connections(&registry, ports.limits.clone())?;
    let statuses = [holders[0].status.clone(), holders[1].status.clone()];
    open_ports(&options, &ports, &backends, registry, statuses)?;
    finish(ports.tasks, holders, &shutdown, &stores_down).await
}

/// Makes the data directory for this user alone. One with something in it that others could look into is refused.
fn data_dir(dir: &Path) -> Result<()> {
    let path = dir.display();
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .with_context(|| format!("failed to make {path}"))?;
    let mode = std::fs::metadata(dir).with_context(|| format!("failed to look at {path}"))?.mode();
    if mode & 0o077 == 0 {
        return Ok(());
    }
    let mut inside = std::fs::read_dir(dir).with_context(|| format!("failed to read {path}"))?;
    if inside.any(|entry| entry.is_ok_and(|entry| entry.file_name() != "lost+found")) {
        bail!("{path} holds mail and password hashes, and others can look into it: chmod 700 {path}");
    }
    let own = Permissions::from_mode(0o700);
    std::fs::set_permissions(dir, own).with_context(|| format!("failed to change the mode of {path}"))
}

fn hold(
    options: &StandaloneArgs,
    name: &str,
    identity: Identity,
    service: Arc<dyn holder::Service>,
    shutdown: &CancellationToken,
) -> Result<Holder> {
    let dir = options.data.join("arbiter").join(name);
    let arbiter = FileArbiter::open(&dir, &identity.replica.to_string())
        .with_context(|| format!("{} is in use by another process, or damaged", dir.display()))?;
    let undelete = holder::days(options.undelete_days);
    let config = holder::standalone_config(&options.data.join(name), identity, undelete)?;
    let replica = Replica { arbiter: Arc::new(arbiter), standby: Arc::default() };
    Ok(HolderPlan { config, replica, service, shutdown: shutdown.clone() }.start())
}

/// Waits until a store serves. In a cluster a store that refuses its volume stays, to be asked; here it ends the
/// process with the reason.
async fn serving(holder: &Holder, shutdown: &CancellationToken) -> Result<()> {
    loop {
        match holder.status.get().state {
            ReplicaState::Primary if *holder.started.borrow() => return Ok(()),
            ReplicaState::Refused(reason) | ReplicaState::Waiting(reason) => bail!("{reason}"),
            ReplicaState::Poisoned => bail!("a sync failed while the store was opened; look at the disk"),
            _ => {}
        }
        tokio::select! {
            () = tokio::time::sleep(Duration::from_millis(10)) => {}
            () = shutdown.cancelled() => bail!("stopped before it served"),
        }
    }
}

fn tls_acceptor(options: &StandaloneArgs) -> Result<(TlsAcceptor, Certificates)> {
    let (cert, key) = match (&options.tls_cert, &options.tls_key) {
        (Some(cert), Some(key)) => {
            let read = |file: &Path| {
                std::fs::read(file).with_context(|| format!("failed to read {}", file.display()))
            };
            (read(cert)?, read(key)?)
        }
        _ => self_signed::ensure(&options.data, &options.hostname)?,
    };
    let certs = CertStore::from_pem(&cert, &key).context("the TLS certificate is not usable")?;
    let told = Certificates { clients: Some(certs.clone()), identity: None };
    Ok((TlsAcceptor::new(certs).context("TLS")?, told))
}

/// Opens every listener and prints the one line that says so.
fn open_ports(
    options: &StandaloneArgs,
    ports: &ClientPorts,
    backends: &Arc<LocalBackends>,
    registry: Registry,
    statuses: [StatusHandle; 2],
) -> Result<()> {
    let specs = if options.listen.is_empty() { listen_spec::defaults() } else { options.listen.clone() };
    let mut line = "serving".to_owned();
    let bound: Result<Vec<(ListenSpec, TcpListener)>> = specs
        .iter()
        .map(|spec| {
            Ok((*spec, listen::bind(spec.addr).with_context(|| format!("cannot listen on {}", spec.addr))?))
        })
        .collect();
    for (spec, listener) in bound? {
        line.push_str(&format!(" {}={}", spec.proto, listener.local_addr()?));
        match spec.proto {
            Proto::Lmtp => drop(ports.tasks.spawn(lmtp(listener, backends.clone(), ports.clone()))),
            Proto::Http => {
                let statuses = statuses.clone();
                let ready: health::Ready = Arc::new(move || {
                    let all = statuses.iter().all(|status| status.get().state == ReplicaState::Primary);
                    if all { Ok(()) } else { Err("a store does not serve".to_owned()) }
                });
                drop(tokio::spawn(health::serve(listener, registry.clone(), ready, ports.shutdown.clone())));
            }
            proto => ports.serve(proto, listener),
        }
    }
    let mut out = std::io::stdout();
    writeln!(out, "{line}").and_then(|()| out.flush()).context("standard output")
}

/// Plain LMTP for peers on this machine.
async fn lmtp(listener: TcpListener, backends: Arc<LocalBackends>, ports: ClientPorts) {
    loop {
        let (stream, remote) = tokio::select! {
            accepted = listen::accept(&listener) => accepted,
            () = ports.shutdown.cancelled() => return,
        };
        let local = stream.local_addr().unwrap_or(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0));
        let Ok(session) = SessionId::random() else { continue };
        let client = ClientInfo { remote, local, tls: None, session };
        let (Ok(permit), Some(context)) =
            (ports.limits.acquire(remote.ip()), backends.context(Peer::Foreign, None, &client))
        else {
            continue;
        };
        ports.tasks.spawn(async move {
            mailcluster_backend::lmtp::serve(Box::new(stream), context).await;
            drop(permit);
        });
    }
}

/// Ends in order: sessions first, then the stores.
async fn finish(
    tasks: TaskTracker,
    holders: [Holder; 2],
    shutdown: &CancellationToken,
    stores_down: &CancellationToken,
) -> Result<()> {
    let [directory, mail] = holders;
    let (mut directory, mut mail) = (directory.task, mail.task);
    let early = tokio::select! {
        () = shutdown.cancelled() => None,
        outcome = &mut directory => Some(outcome),
        outcome = &mut mail => Some(outcome),
    };
    shutdown.cancel();
    tasks.close();
    if let Some(outcome) = early {
        stores_down.cancel();
        return holder::check(outcome?);
    }
    if tokio::time::timeout(GRACE, tasks.wait()).await.is_err() {
        tracing::warn!("some sessions did not end in time; their connections are closed");
    }
    stores_down.cancel();
    holder::check(mail.await?)?;
    holder::check(directory.await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_data_directory_is_for_one_user_alone() {
        let parent = tempfile::tempdir().unwrap();
        let dir = parent.path().join("a/b");
        data_dir(&dir).unwrap();
        data_dir(&dir).unwrap();
        let set = |mode| std::fs::set_permissions(&dir, Permissions::from_mode(mode)).unwrap();
        set(0o755);
        data_dir(&dir).unwrap();
        assert_eq!(std::fs::metadata(&dir).unwrap().mode() & 0o777, 0o700, "it was empty");
        std::fs::write(dir.join("log"), b"mail").unwrap();
        for mode in [0o755, 0o750, 0o701] {
            set(mode);
            let refused = data_dir(&dir).unwrap_err().to_string();
            assert!(refused.contains("chmod 700"), "{refused}");
        }
    }
}
