//! Our own certificate, the CAs we believe, and handshakes that check the other side's name.

use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use arc_swap::ArcSwap;
use mailcluster_types::{BoxStream, StoreName};
use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    client::Resumption,
    pki_types::{CertificateDer, ServerName},
    server::{NoServerSessionStorage, WebPkiClientVerifier},
    sign::SingleCertAndKey,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

use super::peer::{Peer, Role};
use crate::pem::{self, PemError};

/// Longest handshake between our own pods.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(5);

/// Why a connection between our pods did not come about.
#[derive(Debug, thiserror::Error)]
pub enum MtlsError {
    /// The network or the handshake failed (a wrong CA, an expired certificate, no certificate).
    #[error("{0}")]
    Io(#[from] io::Error),
    /// It took too long.
    #[error("no answer in time")]
    Timeout,
    /// The certificate names nobody of ours.
    #[error("the peer's certificate has no usable name")]
    Nameless,
    /// A peer of another cluster, role or store.
    #[error("the peer is {found}, which is not admitted here")]
    NotAdmitted {
        /// Who it is.
        found: String,
    },
}

/// Who must be at the other end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expect {
    /// The role in its certificate.
    pub role: Role,
    /// The store in its certificate; `None`: any or none.
    pub store: Option<StoreName>,
}

/// This pod's identity. Cheap to clone; all clones see a reload.
#[derive(Clone)]
pub struct Identity(Arc<Inner>);

struct Inner {
    state: ArcSwap<State>,
    dir: Option<PathBuf>,
    seen: Mutex<BTreeMap<String, Vec<u8>>>,
}

struct State {
    me: Peer,
    not_after: i64,
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
}

impl Identity {
    /// Reads `ca.crt` (one CA or, while they are changed, several), `tls.crt` and `tls.key` from `dir`.
    ///
    /// # Errors
    /// When a file is missing or broken, or our certificate names nobody.
    pub fn load(dir: &Path) -> Result<Self, PemError> {
        let files = pem::read_dir(dir)?;
        let state = State::from_files(&files)?;
        Ok(Self::new(state, Some(dir.to_owned()), files))
    }

    /// The same from PEM texts.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn from_pem(ca: &[u8], cert: &[u8], key: &[u8]) -> Result<Self, PemError> {
        Ok(Self::new(State::from_pem(ca, cert, key)?, None, BTreeMap::new()))
    }

    fn new(state: State, dir: Option<PathBuf>, seen: BTreeMap<String, Vec<u8>>) -> Self {
        Self(Arc::new(Inner { state: ArcSwap::from_pointee(state), dir, seen: Mutex::new(seen) }))
    }

    /// Who we are.
    #[must_use]
    pub fn me(&self) -> Peer {
        self.0.state.load().me.clone()
    }

    /// When our certificate expires, seconds since 1970.
    #[must_use]
    pub fn not_after(&self) -> i64 {
        self.0.state.load().not_after
    }

    /// Looks at the directory once and takes what changed. Blocking. Answers whether anything did.
    ///
    /// # Errors
    /// When what is there is not usable; the old identity stays.
    pub fn reload(&self) -> Result<bool, PemError> {
        let Some(dir) = &self.0.dir else { return Ok(false) };
        let files = pem::read_dir(dir)?;
        let mut seen = self.0.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if *seen == files {
            return Ok(false);
        }
        let state = State::from_files(&files)?;
        self.0.state.store(Arc::new(state));
        *seen = files;
        Ok(true)
    }

    /// Looks every `every` for changes, for ever; spawn it.
    pub async fn watch(self, every: Duration) {
        let mut tick = tokio::time::interval(every);
        let mut last_error = String::new();
        loop {
            tick.tick().await;
            let identity = self.clone();
            match tokio::task::spawn_blocking(move || identity.reload()).await {
                Ok(Ok(true)) => tracing::info!(not_after = self.not_after(), "own certificate reloaded"),
                Ok(Ok(false)) => last_error.clear(),
                Ok(Err(error)) => {
                    let text = error.to_string();
                    if text != last_error {
                        tracing::warn!(%error, "own certificate not reloaded, the old one stays in use");
                    }
                    last_error = text;
                }
                Err(_) => return,
            }
        }
    }

    /// A server configuration of this moment, for those who run handshakes themselves: it asks for a client
    /// certificate of our CA; the role must then be checked with [`Self::admit`].
    #[must_use]
    pub fn server_config(&self, alpn: &[&[u8]]) -> Arc<ServerConfig> {
        let base = self.0.state.load().server.clone();
        if alpn.is_empty() {
            return base;
        }
        let mut config = (*base).clone();
        config.alpn_protocols = alpn.iter().map(|p| p.to_vec()).collect();
        Arc::new(config)
    }

    /// A client configuration of this moment; the server's name must be [`Role::dns_name`], and its store must be
    /// checked with [`Self::expect`].
    #[must_use]
    pub fn client_config(&self, alpn: &[&[u8]]) -> Arc<ClientConfig> {
        let base = self.0.state.load().client.clone();
        if alpn.is_empty() {
            return base;
        }
        let mut config = (*base).clone();
        config.alpn_protocols = alpn.iter().map(|p| p.to_vec()).collect();
        Arc::new(config)
    }

    /// Does this certificate chain, already verified by TLS, name a peer of our cluster in one of these roles?
    ///
    /// # Errors
    /// [`MtlsError::Nameless`], [`MtlsError::NotAdmitted`].
    pub fn admit(&self, chain: Option<&[CertificateDer<'_>]>, allowed: &[Role]) -> Result<Peer, MtlsError> {
        let leaf = chain.and_then(|c| c.first()).ok_or(MtlsError::Nameless)?;
        let peer = peer_of(leaf).map_err(|_| MtlsError::Nameless)?;
        if peer.cluster != self.0.state.load().me.cluster || !allowed.contains(&peer.role) {
            return Err(MtlsError::NotAdmitted { found: peer.to_string() });
        }
        Ok(peer)
    }

    /// Does this certificate chain, already verified by TLS, name who we expect?
    ///
    /// # Errors
    /// [`MtlsError::Nameless`], [`MtlsError::NotAdmitted`].
    pub fn expect(&self, chain: Option<&[CertificateDer<'_>]>, expect: &Expect) -> Result<Peer, MtlsError> {
        let peer = self.admit(chain, &[expect.role])?;
        if expect.store.is_some() && peer.store != expect.store {
            return Err(MtlsError::NotAdmitted { found: peer.to_string() });
        }
        Ok(peer)
    }

    /// Runs the server's side of the handshake, at most 5 s, and admits only these roles.
    ///
    /// # Errors
    /// As [`MtlsError`] says.
    pub async fn accept(&self, stream: BoxStream, allowed: &[Role]) -> Result<(BoxStream, Peer), MtlsError> {
        let (stream, peer) = self.accept_with(stream, allowed, &[]).await?;
        Ok((Box::new(stream), peer))
    }

    pub(crate) async fn accept_with<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: S,
        allowed: &[Role],
        alpn: &[&[u8]],
    ) -> Result<(server::TlsStream<S>, Peer), MtlsError> {
        let acceptor = TlsAcceptor::from(self.server_config(alpn));
        let stream = tokio::time::timeout(HANDSHAKE_LIMIT, acceptor.accept(stream))
            .await
            .map_err(|_| MtlsError::Timeout)??;
        let peer = self.admit(stream.get_ref().1.peer_certificates(), allowed)?;
        Ok((stream, peer))
    }

    /// Connects to `addr` and checks chain, cluster, role and store, all within `limit`.
    ///
    /// # Errors
    /// As [`MtlsError`] says.
    pub async fn connect(
        &self,
        addr: SocketAddr,
        expect: &Expect,
        limit: Duration,
    ) -> Result<(BoxStream, Peer), MtlsError> {
        let (stream, peer) = self.connect_with(addr, expect, limit, &[]).await?;
        Ok((Box::new(stream), peer))
    }

    pub(crate) async fn connect_with(
        &self,
        addr: SocketAddr,
        expect: &Expect,
        limit: Duration,
        alpn: &[&[u8]],
    ) -> Result<(client::TlsStream<TcpStream>, Peer), MtlsError> {
        let name = ServerName::try_from(expect.role.dns_name()).map_err(io::Error::other)?;
        let connector = TlsConnector::from(self.client_config(alpn));
        let connect = async {
            let tcp = TcpStream::connect(addr).await?;
            tcp.set_nodelay(true)?;
            connector.connect(name, tcp).await
        };
        let stream = tokio::time::timeout(limit, connect).await.map_err(|_| MtlsError::Timeout)??;
        let peer = self.expect(stream.get_ref().1.peer_certificates(), expect)?;
        Ok((stream, peer))
    }
}

fn peer_of(cert: &CertificateDer<'_>) -> Result<Peer, PemError> {
    let names = pem::names("certificate", cert)?;
    // One and only one name of ours: a certificate that names two peers names none.
    let mut ours = names.uris.iter().filter(|u| u.starts_with("spiffe://"));
    match (ours.next(), ours.next()) {
        (Some(uri), None) => uri.parse().map_err(|e| pem::broken(uri, e)),
        _ => Err(pem::broken("certificate", "needs exactly one spiffe:// name")),
    }
}

impl State {
    fn from_files(files: &BTreeMap<String, Vec<u8>>) -> Result<Self, PemError> {
        let file = |name: &str| {
            files
                .get(name)
                .ok_or_else(|| PemError::Missing(format!("there is no {name} in the identity's directory")))
        };
        Self::from_pem(file("ca.crt")?, file("tls.crt")?, file("tls.key")?)
    }

    fn from_pem(ca: &[u8], cert: &[u8], key: &[u8]) -> Result<Self, PemError> {
        let mut roots = RootCertStore::empty();
        for ca in pem::certificates("ca.crt", ca)? {
            roots.add(ca).map_err(|e| pem::broken("ca.crt", e))?;
        }
        let roots = Arc::new(roots);
        let own = pem::certified_key("tls.crt", cert, key)?;
        let leaf = own.cert.first().ok_or_else(|| pem::broken("tls.crt", "no certificate in it"))?;
        let (me, not_after) = (peer_of(leaf)?, pem::names("tls.crt", leaf)?.not_after);
        let own = Arc::new(SingleCertAndKey::from(own));
        Ok(Self { me, not_after, server: server(&roots, own.clone())?, client: client(roots, own)? })
    }
}

// No session resumption on either side: a resumed session would go on with a certificate that was verified under
// CAs which may have been taken out since.
fn server(roots: &Arc<RootCertStore>, own: Arc<SingleCertAndKey>) -> Result<Arc<ServerConfig>, PemError> {
    let verifier = WebPkiClientVerifier::builder_with_provider(roots.clone(), pem::provider())
        .build()
        .map_err(|e| pem::broken("ca.crt", e))?;
    let mut config = ServerConfig::builder_with_provider(pem::provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|e| pem::broken("TLS", e))?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(own);
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

fn client(roots: Arc<RootCertStore>, own: Arc<SingleCertAndKey>) -> Result<Arc<ClientConfig>, PemError> {
    let mut config = ClientConfig::builder_with_provider(pem::provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|e| pem::broken("TLS", e))?
        .with_root_certificates(roots)
        .with_client_cert_resolver(own);
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}
