//! Asking mail pods, over mutual TLS with the operator's identity of their cluster.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock},
    task,
    time::{Duration, Instant},
};

use futures::future::join_all;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::ResourceExt;
use mailcluster_api::{
    labels,
    names::ClusterNames,
    ports,
    roles::{Identity, Role},
};
use mailcluster_rpc::control::v1::{
    DescribeRequest, DescribeResponse, DrainRequest, ReachabilityRequest, StatusRequest, StatusResponse,
    StoreReach, control_client::ControlClient,
};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};
use tokio::{net::TcpStream, task::JoinHandle};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tonic::{
    codegen::Service,
    transport::{Channel, Endpoint, Uri},
};
use x509_parser::{extensions::GeneralName, prelude::FromDer};

use super::cache;
use crate::context::Context;

/// An answer later than this is none.
const ANSWER_LIMIT: Duration = Duration::from_millis(1_500);
/// A frontend first tries the stores that it has not heard of lately.
const REACH_LIMIT: Duration = Duration::from_secs(4);
/// The operator's identity of a cluster is read anew after this, or after a sixth of its certificate's life.
const IDENTITY_AGE: Duration = Duration::from_secs(60);
/// A missing or broken one is looked for again after this.
const RETRY_AGE: Duration = Duration::from_secs(2);

/// Who must be at the other end.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Expected {
    role: Role,
    store: Option<String>,
}

/// What pods say, by their UIDs.
#[derive(Debug, Clone, Default)]
pub struct Told {
    /// Of themselves.
    pub described: BTreeMap<String, DescribeResponse>,
    /// Frontends, of each store that they have tried.
    pub reports: BTreeMap<String, Vec<StoreReach>>,
}

/// Pods that are being asked.
pub struct Round {
    told: Arc<Mutex<Told>>,
    task: JoinHandle<()>,
}

impl Round {
    /// What was said so far.
    pub fn told(&self) -> Told {
        lock(&self.told).clone()
    }

    /// Has everybody answered, or been waited for?
    pub fn is_over(&self) -> bool {
        self.task.is_finished()
    }
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The operator's identity of a cluster, and when it was read. Connections share it, so that one that is made anew
/// presents the certificate of today, not that of its first time.
struct Known {
    due: Option<Instant>,
    config: Shared,
}

type Shared = Arc<RwLock<Option<Arc<ClientConfig>>>>;

fn current(config: &Shared) -> Option<Arc<ClientConfig>> {
    config.read().unwrap_or_else(PoisonError::into_inner).clone()
}

/// Connections to mail pods, kept while the pods are there.
#[derive(Default)]
pub struct Peers {
    identities: HashMap<(String, String), Known>,
    lines: Lines,
}

/// The connections to pods, by their UIDs, for whoever carries out a step. Cheap to clone.
#[derive(Clone, Default)]
pub struct Lines(Arc<Mutex<HashMap<String, (SocketAddr, Channel)>>>);

impl Lines {
    /// Asks the holder in this pod, which was asked other things before, to hand its store over to a mirror.
    ///
    /// # Errors
    /// When it does not answer, or does not serve at this epoch.
    pub async fn drain(&self, pod: &Pod, epoch: u64, to: &str) -> anyhow::Result<()> {
        let channel = pod.uid().and_then(|uid| lock(&self.0).get(&uid).map(|(_, channel)| channel.clone()));
        let channel = channel.ok_or_else(|| anyhow::anyhow!("the holder has not answered yet"))?;
        let mut client = ControlClient::new(channel);
        let request = DrainRequest { epoch, to: to.to_owned() };
        tokio::time::timeout(ANSWER_LIMIT, client.drain(request)).await??;
        Ok(())
    }
}

impl Peers {
    /// Asks each store's pod to describe itself, and each frontend which stores it reaches, all at once and beside whatever
    /// else is done. Those that do not answer keep nobody waiting for the others.
    pub async fn ask(&mut self, ctx: &Context, stores: &[Arc<Pod>], frontends: &[Arc<Pod>]) -> Round {
        let told = Arc::new(Mutex::new(Told::default()));
        let describe = self.clients(ctx, stores).await.into_iter().map(|(uid, mut client)| {
            let told = told.clone();
            async move {
                let answer = limited(client.describe(DescribeRequest {})).await;
                // The address may be another pod's by now: it must be this very pod that answers.
                if let Some(answer) = answer.filter(|answer| answer.pod_uid == uid) {
                    lock(&told).described.insert(uid, answer);
                }
            }
        });
        let reach = self.clients(ctx, frontends).await.into_iter().map(|(pod, mut client)| {
            let told = told.clone();
            async move {
                if let Some(answer) = within(REACH_LIMIT, client.reachability(ReachabilityRequest {})).await {
                    lock(&told).reports.insert(pod, answer.stores);
                }
            }
        });
        let (describe, reach) = (join_all(describe), join_all(reach));
        Round { told, task: tokio::spawn(async move { drop(tokio::join!(describe, reach)) }) }
    }

    /// Asks each store's pod for counts. Those that do not answer are left out.
    pub async fn status(&mut self, ctx: &Context, pods: &[Arc<Pod>]) -> BTreeMap<String, StatusResponse> {
        let calls = self.clients(ctx, pods).await.into_iter().map(|(uid, mut client)| async move {
            Some((uid, limited(client.status(StatusRequest {})).await?))
        });
        join_all(calls).await.into_iter().flatten().collect()
    }

    /// The connections, for whoever carries out a step.
    pub fn lines(&self) -> Lines {
        self.lines.clone()
    }

    /// Closes connections to pods that are no more.
    pub fn keep_only(&mut self, pods: &[Arc<Pod>]) {
        let there: BTreeSet<String> = pods.iter().filter_map(|p| p.uid()).collect();
        lock(&self.lines.0).retain(|uid, _| there.contains(uid));
    }

    async fn clients(&mut self, ctx: &Context, pods: &[Arc<Pod>]) -> Vec<(String, ControlClient<Channel>)> {
        let mut clients = Vec::new();
        for pod in pods {
            let Some(uid) = pod.uid() else { continue };
            if let Some(channel) = self.channel(ctx, pod, &uid).await {
                clients.push((uid, ControlClient::new(channel).max_decoding_message_size(1 << 20)));
            }
        }
        clients
    }

    async fn channel(&mut self, ctx: &Context, pod: &Pod, uid: &str) -> Option<Channel> {
        let ip = pod.status.as_ref()?.pod_ip.as_deref()?.parse().ok()?;
        let addr = SocketAddr::new(ip, ports::BACKEND_GRPC);
        let config = self.identity(ctx, pod).await?;
        let known = lock(&self.lines.0).get(uid).filter(|(known, _)| *known == addr).cloned();
        if let Some((_, channel)) = known {
            return Some(channel);
        }
        let expected = expected(pod)?;
        let channel = Endpoint::from(Uri::from_static("http://mailcluster.internal"))
            .connect_timeout(ANSWER_LIMIT)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(Duration::from_secs(5))
            .keep_alive_timeout(Duration::from_secs(5))
            .connect_with_connector_lazy(Connector { addr, config, expected: Arc::new(expected) });
        lock(&self.lines.0).insert(uid.to_owned(), (addr, channel.clone()));
        Some(channel)
    }

    /// The identity of the pod's cluster, read anew when it is old; `None` when there is none.
    async fn identity(&mut self, ctx: &Context, pod: &Pod) -> Option<Shared> {
        let key = (pod.namespace()?, pod.labels().get(labels::CLUSTER)?.clone());
        let empty = || Known { due: None, config: Shared::default() };
        let known = self.identities.entry(key.clone()).or_insert_with(empty);
        if known.due.is_none_or(|due| Instant::now() >= due) {
            let name = ClusterNames::new(key.1.clone()).operator_identity();
            let mut age = RETRY_AGE;
            match cache::get::<Secret>(ctx, &key.0, &name).await {
                Ok(secret) => {
                    let read = secret.as_ref().map(client_config).and_then(|read| {
                        let warn = |error: &anyhow::Error| tracing::warn!(%error, name, "the operator's identity cannot be used");
                        read.inspect_err(warn).ok()
                    });
                    age = read.as_ref().map_or(age, |(_, life)| IDENTITY_AGE.min(*life / 6));
                    let next = read.map(|(config, _)| config);
                    *known.config.write().unwrap_or_else(PoisonError::into_inner) = next;
                }
                // What was read before goes on.
                Err(error) => tracing::warn!(%error, name, "the operator's identity cannot be read"),
            }
            known.due = Some(Instant::now() + age);
        }
        current(&known.config).is_some().then(|| known.config.clone())
    }
}

async fn limited<T>(call: impl Future<Output = Result<tonic::Response<T>, tonic::Status>>) -> Option<T> {
    within(ANSWER_LIMIT, call).await
}

async fn within<T>(
    limit: Duration,
    call: impl Future<Output = Result<tonic::Response<T>, tonic::Status>>,
) -> Option<T> {
    match tokio::time::timeout(limit, call).await {
        Ok(Ok(response)) => Some(response.into_inner()),
        Ok(Err(error)) => {
            tracing::debug!(%error, "a mail pod does not answer");
            None
        }
        Err(_) => None,
    }
}

fn expected(pod: &Pod) -> Option<Expected> {
    let role = match pod.labels().get(labels::COMPONENT)?.as_str() {
        "frontend" => Role::Frontend,
        "backend" => Role::Backend,
        "directory" => Role::Directory,
        _ => return None,
    };
    Some(Expected { role, store: pod.labels().get(labels::STORE).cloned() })
}

/// The configuration of a client with this identity, and how long its certificate is good for in all.
fn client_config(secret: &Secret) -> anyhow::Result<(Arc<ClientConfig>, Duration)> {
    let data = |key: &str| {
        let found = secret.data.as_ref().and_then(|d| d.get(key));
        found.map(|b| b.0.as_slice()).ok_or_else(|| anyhow::anyhow!("{key} is missing"))
    };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(data("ca.crt")?) {
        roots.add(certificate?)?;
    }
    let chain = CertificateDer::pem_slice_iter(data("tls.crt")?).collect::<Result<Vec<_>, _>>()?;
    let key = PrivateKeyDer::from_pem_slice(data("tls.key")?)?;
    let life = chain.first().and_then(life).unwrap_or(IDENTITY_AGE);
    let mut config =
        ClientConfig::builder().with_root_certificates(roots).with_client_auth_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok((Arc::new(config), life))
}

fn life(leaf: &CertificateDer<'_>) -> Option<Duration> {
    let (_, certificate) = x509_parser::certificate::X509Certificate::from_der(leaf).ok()?;
    let validity = certificate.validity();
    let seconds = validity.not_after.timestamp().checked_sub(validity.not_before.timestamp())?;
    u64::try_from(seconds).ok().map(Duration::from_secs)
}

struct Connector {
    addr: SocketAddr,
    config: Shared,
    expected: Arc<Expected>,
}

impl Service<Uri> for Connector {
    type Response = TokioIo<TlsStream<TcpStream>>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut task::Context<'_>) -> task::Poll<io::Result<()>> {
        task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let (addr, config, expected) = (self.addr, current(&self.config), self.expected.clone());
        Box::pin(async move {
            let config = config.ok_or_else(|| io::Error::other("the operator has no identity here"))?;
            let connect = async {
                let tcp = TcpStream::connect(addr).await?;
                tcp.set_nodelay(true)?;
                let name = ServerName::try_from(expected.role.dns_name()).map_err(io::Error::other)?;
                TlsConnector::from(config).connect(name, tcp).await
            };
            let stream = tokio::time::timeout(ANSWER_LIMIT, connect).await??;
            let chain = stream.get_ref().1.peer_certificates();
            if chain.and_then(|c| c.first()).is_some_and(|leaf| names(leaf, &expected)) {
                Ok(TokioIo::new(stream))
            } else {
                Err(io::Error::other("the peer's certificate names another role or store"))
            }
        })
    }
}

/// Does this certificate name the expected role and store?
fn names(leaf: &CertificateDer<'_>, expected: &Expected) -> bool {
    let Ok((_, certificate)) = x509_parser::certificate::X509Certificate::from_der(leaf) else {
        return false;
    };
    let Ok(Some(names)) = certificate.subject_alternative_name() else { return false };
    names.value.general_names.iter().any(|name| match name {
        GeneralName::URI(uri) => Identity::parse(uri)
            .is_some_and(|identity| identity.role == expected.role && identity.store == expected.store),
        _ => false,
    })
}
