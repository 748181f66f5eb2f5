//! Another site: a name server's answers, and one port on loopback whose connections are played by scripts.

#![allow(dead_code, reason = "each test file uses a part of this")]

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use mailcluster_outbound::{
    route::{Answer, Exchange, HostAnswer, Looked},
    tls::dane::Tlsa,
};
use mailcluster_proto_smtp::{MailDsn, Recipient};
use mailcluster_relay::{Attempt, Dns, Job, Relay, Settings, Tls};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::TlsAcceptor;

/// A connection's part. A script's lines are (the command it answers, the reply); "" for the greeting, and a reply of
/// "" closes the connection.
#[derive(Debug, Clone)]
pub enum Play {
    Script(Vec<(&'static str, &'static str)>),
    /// Closes at once.
    Refuse,
    /// STARTTLS, and then a server that takes everything; this is its answer to EHLO.
    Tls(&'static str),
}

/// The site, until it is dropped.
pub struct Site {
    addr: SocketAddr,
    pub identity: Arc<Identity>,
    /// What was said to it in clear.
    heard: Arc<Mutex<String>>,
}

impl Site {
    /// The first connection plays the first part, and so on; those behind the last are closed.
    pub async fn open(plays: Vec<Play>) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let addr = listener.local_addr().unwrap();
        let heard = Arc::<Mutex<String>>::default();
        let hears = heard.clone();
        let identity = Arc::new(Identity::new());
        let shows = identity.clone();
        tokio::spawn(async move {
            let mut plays = plays.into_iter();
            while let Ok((stream, _)) = listener.accept().await {
                let play = plays.next().unwrap_or(Play::Refuse);
                tokio::spawn(connection(stream, play, (hears.clone(), shows.clone())));
            }
        });
        Self { addr, identity, heard }
    }

    pub fn port(&self) -> u16 {
        self.addr.port()
    }

    pub async fn heard(&self) -> String {
        self.heard.lock().unwrap().clone()
    }

    /// Says that these hosts, in this order, take the domain's mail.
    pub fn names(&self, hosts: &[&str]) -> Names {
        let exchange = |(preference, host): (u16, &&str)| Exchange { preference, host: (*host).to_owned() };
        Names { mx: Answer::Records((0..).zip(hosts).map(exchange).collect()), ..Names::default() }
    }
}

/// Every host is on loopback.
pub struct Names {
    pub mx: Answer<Exchange>,
    /// All of it is signed.
    pub secure: bool,
    pub tlsa: Answer<Tlsa>,
    pub texts: Answer<String>,
}

impl Default for Names {
    fn default() -> Self {
        Self { mx: Answer::NoRecord, secure: false, tlsa: Answer::NoRecord, texts: Answer::NoRecord }
    }
}

/// What servers show: a certificate of the name `mx.a.test`, by an authority of its own that it shows as well.
pub struct Identity {
    pub own: CertificateDer<'static>,
    pub authority: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
}

impl Identity {
    fn new() -> Self {
        let names = |names: &[&str]| {
            rcgen::CertificateParams::new(names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>()).unwrap()
        };
        let mut params = names(&[]);
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let authority_key = rcgen::KeyPair::generate().unwrap();
        let authority = params.self_signed(&authority_key).unwrap().der().clone();
        let issuer = rcgen::Issuer::new(params, authority_key);
        let key = rcgen::KeyPair::generate().unwrap();
        let own = names(&["mx.a.test", "mta-sts.a.test"]).signed_by(&key, &issuer).unwrap().der().clone();
        let key = PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap();
        Self { own, authority, key }
    }

    pub fn acceptor(&self) -> TlsAcceptor {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let chain = vec![self.own.clone(), self.authority.clone()];
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, self.key.clone_key())
            .unwrap();
        TlsAcceptor::from(Arc::new(config))
    }
}

#[async_trait]
impl Dns for Names {
    async fn exchanges(&self, _: &str) -> Looked<Exchange> {
        let answer = match &self.mx {
            Answer::Records(records) if records.is_empty() => Answer::NoRecord,
            answer => answer.clone(),
        };
        Looked { answer, secure: self.secure }
    }

    async fn host(&self, host: &str) -> HostAnswer {
        let v4 = match host {
            "a.test" => Answer::Failed,
            _ => Answer::Records(vec![Ipv4Addr::LOCALHOST]),
        };
        let v4 = Looked { answer: v4, secure: self.secure };
        HostAnswer { v4, v6: Looked::plain(Answer::NoRecord), canonical: None }
    }

    async fn tlsa(&self, name: &str) -> Looked<Tlsa> {
        assert!(self.secure && name.ends_with("._tcp.mx.a.test"), "{name} is not to be looked up");
        Looked { answer: self.tlsa.clone(), secure: true }
    }

    async fn texts(&self, name: &str) -> Answer<String> {
        assert_eq!(name, "_mta-sts.a.test");
        self.texts.clone()
    }
}

pub fn settings(site: &Site) -> Settings {
    Settings {
        port: site.port(),
        loopback_is_another: true,
        idle: Duration::ZERO,
        connect: Duration::from_secs(5),
        ..Settings::new("mail.example.test".into())
    }
}

pub fn relay_with(settings: Settings, names: Names) -> Relay {
    Relay::new(settings, Arc::new(names), Tls::new(&[]).unwrap())
}

pub fn relay(site: &Site, hosts: &[&str]) -> Relay {
    relay_with(settings(site), site.names(hosts))
}

/// Sends from ann to these, who are all at a.test.
pub async fn send(relay: &Relay, to: &[&str], body: &[u8]) -> Attempt {
    send_while(relay, to, body, &|| true).await
}

pub async fn send_while(
    relay: &Relay,
    to: &[&str],
    body: &[u8],
    leave: &(dyn Fn() -> bool + Sync),
) -> Attempt {
    let named = |address: &&str| Recipient { address: (*address).to_owned(), ..Recipient::default() };
    let recipients: Vec<Recipient> = to.iter().map(named).collect();
    send_job(relay, &MailDsn::default(), &recipients, (body, leave)).await
}

/// Sends what asks for reports.
pub async fn send_job(
    relay: &Relay,
    dsn: &MailDsn,
    recipients: &[Recipient],
    (body, leave): (&[u8], &(dyn Fn() -> bool + Sync)),
) -> Attempt {
    let body = Bytes::copy_from_slice(body);
    let job = Job { domain: "a.test", sender: "ann@example.test", utf8: false, dsn, recipients, body: &body };
    tokio::time::timeout(Duration::from_secs(30), relay.attempt(&job, leave)).await.expect("it ends")
}

async fn connection(stream: TcpStream, play: Play, (heard, identity): (Arc<Mutex<String>>, Arc<Identity>)) {
    match play {
        Play::Refuse => {}
        Play::Script(script) => {
            script_of(stream, &script, &heard).await;
        }
        Play::Tls(offers) => {
            let hello = [("", "220 mx"), ("EHLO", offers), ("STARTTLS", "220 go")];
            let Some(stream) = script_of(stream, &hello, &heard).await else { return };
            // A client that does not like what it is shown goes.
            let Ok(stream) = identity.acceptor().accept(stream).await else { return };
            let script = [
                ("EHLO", offers),
                ("AUTH PLAIN", "235 welcome"),
                ("AUTH LOGIN", "334 VXNlcm5hbWU6"),
                ("YW5u", "334 UGFzc3dvcmQ6"),
                ("c2VjcmV0", "235 welcome"),
                ("MAIL", "250 ok"),
                ("RCPT", "250 ok"),
                ("DATA", "354 go on"),
                (".", "250 taken"),
                ("QUIT", "221 bye"),
            ];
            script_of(stream, &script, &Arc::default()).await;
        }
    }
}

/// Plays it; answers the stream when the last line was said, and the session did not end.
async fn script_of<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    script: &[(&'static str, &'static str)],
    heard: &Arc<Mutex<String>>,
) -> Option<S> {
    let mut stream = BufReader::new(stream);
    let mut rest = script.iter().peekable();
    if let Some((_, greeting)) = rest.next_if(|(command, _)| command.is_empty()) {
        stream.write_all(format!("{greeting}\r\n").as_bytes()).await.ok()?;
    }
    while rest.peek().is_some() {
        let mut line = Vec::new();
        if stream.read_until(b'\n', &mut line).await.ok()? == 0 {
            return None;
        }
        let line = String::from_utf8_lossy(&line).into_owned();
        heard.lock().unwrap().push_str(&line);
        let is_for = |command: &str| if command == "." { line == ".\r\n" } else { line.starts_with(command) };
        // What the client leaves out after a refusal is passed over; lines of the message are for nobody.
        let Some(ahead) = rest.clone().position(|(command, _)| is_for(command)) else { continue };
        let (_, reply) = rest.nth(ahead)?;
        if reply.is_empty() {
            return None;
        }
        stream.write_all(format!("{reply}\r\n").as_bytes()).await.ok()?;
    }
    Some(stream.into_inner())
}
