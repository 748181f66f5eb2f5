//! One connection to a server, led up to its transactions.

use std::{io, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::BytesMut;
use mailcluster_lmtp::Body;
use mailcluster_outbound::tls::dane::Tlsa;
use mailcluster_proto_smtp::{
    BeginFault, ClientSession, Envelope, Event, Misfit, Needs, Outcome, Reply, Stage, Terms,
};
use mailcluster_types::BoxStream;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};

use crate::{
    job::Credentials,
    tls::{Tls, Wanted},
};

/// A server that takes nothing of what is written for so long is given up.
const WRITE_TIMEOUT: Duration = Duration::from_secs(180);
/// Time for a TLS handshake.
const HANDSHAKE: Duration = Duration::from_secs(60);
/// Room made for each read.
const READ_ROOM: usize = 4 << 10;

/// Why a session is of no more use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Broken {
    /// The server said no to the session itself.
    Refused(Stage, Reply),
    /// The connection failed, or the server broke the protocol.
    Lost(Stage, String),
    /// There is no TLS as it was asked for.
    NoTls(String),
    /// The handshake failed.
    Handshake(String),
    /// There is no way to log in.
    NoLogin(String),
}

/// What a session must be.
pub(crate) struct Demands<'a> {
    /// Who we say that we are.
    pub(crate) name: &'a str,
    /// The server's name.
    pub(crate) host: &'a str,
    /// TLS as it is offered, or not at all.
    pub(crate) tls: Encryption<'a>,
    /// For a login.
    pub(crate) credentials: Option<&'a Credentials>,
}

/// When TLS is begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encryption<'a> {
    /// Never.
    Never,
    /// When it is offered.
    Offered,
    /// Always, with any certificate.
    Always,
    /// Always, with the host's own certificate.
    Verified,
    /// Always, with a certificate that one of these records is about. The first of the names is the one by which they were
    /// found, and which the server is told.
    Anchored(&'a [Tlsa], &'a [String]),
}

/// What became of a transaction.
pub(crate) enum Sent {
    /// What was said of each recipient; nothing of whom the session was lost for.
    Outcomes(Vec<Outcome>),
    /// This server cannot be given the message.
    Misfit(Misfit),
    /// It cannot be sent to anybody.
    Unsendable(String),
    /// Leave to end the message was not given; nothing was taken.
    Left,
    /// The server has closed a connection that has carried others; nothing was taken.
    Stale,
}

/// A session that is up.
pub(crate) struct Connection {
    stream: BoxStream,
    input: BytesMut,
    session: Box<ClientSession>,
    /// That were taken over it.
    messages: u32,
}

impl Connection {
    /// From the greeting up to where a message can be sent.
    pub(crate) async fn open(stream: BoxStream, tls: &Tls, demands: &Demands<'_>) -> Result<Self, Broken> {
        let mut this = Self { stream, input: BytesMut::new(), session: Box::default(), messages: 0 };
        let mut encrypted = false;
        let mut logged_in = false;
        loop {
            match this.event().await? {
                Event::Greeted(_) => this.hello(demands.name)?,
                Event::Hello if !encrypted && this.wants_tls(demands)? => this.say(|s| s.start_tls())?,
                Event::Hello => match demands.credentials {
                    Some(credentials) if !logged_in => this.log_in(credentials)?,
                    _ => return Ok(this),
                },
                Event::StartTls => {
                    this = this.encrypt(tls, demands).await?;
                    encrypted = true;
                    this.hello(demands.name)?;
                }
                Event::Challenge(challenge) => this.respond(demands.credentials, &challenge)?,
                Event::LoggedIn => {
                    logged_in = true;
                    if this.session.is_ready() {
                        return Ok(this);
                    }
                }
                Event::Refused(stage, reply) => return Err(Broken::Refused(stage, reply)),
                Event::Closing(reply) => return Err(Broken::Refused(Stage::Connect, reply)),
                Event::Body | Event::Ended(_) => return Err(this.lost("it answered to no message")),
            }
        }
    }

    /// How many of so many recipients go into one transaction.
    pub(crate) fn recipients_at_once(&self, wanted: usize) -> usize {
        self.session.offers().recipients_at_once(wanted)
    }

    /// Does it take what a sender asks for its reports (RFC 3461)?
    pub(crate) fn takes_dsn(&self) -> bool {
        self.session.offers().dsn
    }

    /// May another transaction be begun?
    pub(crate) fn is_ready(&self) -> bool {
        self.session.is_ready()
    }

    /// Messages that it has carried.
    pub(crate) fn messages(&self) -> u32 {
        self.messages
    }

    /// One transaction. `leave` is asked right before the end of the message.
    pub(crate) async fn send(
        &mut self,
        envelope: &Envelope,
        needs: &Needs,
        body: &dyn Body,
        leave: &(dyn Fn() -> bool + Sync),
    ) -> Sent {
        match self.session.begin(envelope, needs) {
            Ok(Terms { .. }) => {}
            Err(BeginFault::Misfit(misfit)) => return Sent::Misfit(misfit),
            Err(BeginFault::Envelope(fault)) => return Sent::Unsendable(fault.to_string()),
            Err(fault) => return self.given_up(envelope, &fault.to_string()),
        }
        loop {
            match self.event().await {
                Ok(Event::Body) => match self.body(body, leave).await {
                    Ok(true) => {}
                    Ok(false) => return Sent::Left,
                    Err(BodyError::Message(why)) => return Sent::Unsendable(why),
                    Err(BodyError::Connection(why)) => return self.given_up(envelope, &why),
                },
                Ok(Event::Ended(outcomes)) if self.is_stale(&outcomes) => return Sent::Stale,
                Ok(Event::Ended(outcomes)) => {
                    self.messages += 1;
                    return Sent::Outcomes(outcomes);
                }
                Ok(event) => return self.given_up(envelope, &format!("{event:?} in a transaction")),
                Err(broken) => return self.given_up(envelope, &format!("{broken:?}")),
            }
        }
    }

    /// Says QUIT, and does not wait for the answer.
    pub(crate) async fn quit(mut self) {
        if self.session.quit().is_ok() {
            let _ = self.write().await;
        }
    }

    fn given_up(&mut self, envelope: &Envelope, why: &str) -> Sent {
        tracing::debug!(why, "session lost");
        let stage = self.session.stage();
        let nothing = || vec![Outcome { stage, reply: None }; envelope.recipients.len()];
        let outcomes = self.session.lost().unwrap_or_else(nothing);
        if self.is_stale(&outcomes) { Sent::Stale } else { Sent::Outcomes(outcomes) }
    }

    /// Has the server closed it while it waited for this message? Then it has answered nothing, or 421, to its first command;
    /// nothing of the message is written before that is answered.
    fn is_stale(&self, outcomes: &[Outcome]) -> bool {
        let closed = |outcome: &Outcome| {
            outcome.stage == Stage::Mail && outcome.reply.as_ref().is_none_or(|reply| reply.code == 421)
        };
        self.messages > 0 && outcomes.iter().all(closed)
    }

    async fn body(&mut self, body: &dyn Body, leave: &(dyn Fn() -> bool + Sync)) -> Result<bool, BodyError> {
        let mut offset = 0;
        loop {
            let piece = body.piece(offset).await.map_err(|error| {
                // It may be read again: the connection goes, and nothing was taken.
                BodyError::Connection(format!("the message cannot be read: {error}"))
            })?;
            if piece.is_empty() {
                break;
            }
            offset += u64::try_from(piece.len()).unwrap_or(u64::MAX);
            self.session.push(&piece).map_err(|fault| BodyError::Message(fault.to_string()))?;
            // A message of one piece leaves together with its end.
            if offset < body.size() {
                self.write().await.map_err(|error| BodyError::Connection(error.to_string()))?;
            }
        }
        if !leave() {
            return Ok(false);
        }
        self.session.finish().map_err(|fault| BodyError::Message(fault.to_string()))?;
        self.write().await.map_err(|error| BodyError::Connection(error.to_string()))?;
        Ok(true)
    }

    fn wants_tls(&self, demands: &Demands<'_>) -> Result<bool, Broken> {
        let offered = self.session.offers().start_tls;
        match demands.tls {
            Encryption::Never => Ok(false),
            Encryption::Offered => Ok(offered),
            _ if offered => Ok(true),
            _ => Err(Broken::NoTls("it does not offer TLS".into())),
        }
    }

    async fn encrypt(self, tls: &Tls, demands: &Demands<'_>) -> Result<Self, Broken> {
        let (host, wanted) = match demands.tls {
            Encryption::Anchored(records, names) => {
                (names.first().map_or(demands.host, String::as_str), Wanted::Records(records, names))
            }
            Encryption::Verified => (demands.host, Wanted::OfHost),
            Encryption::Never | Encryption::Offered | Encryption::Always => (demands.host, Wanted::Any),
        };
        let handshake = timeout(HANDSHAKE, tls.start(self.stream, host, wanted)).await;
        let stream = handshake
            .map_err(|_| Broken::Handshake("the handshake took too long".into()))?
            .map_err(|error| Broken::Handshake(error.to_string()))?;
        let mut session = self.session;
        session.tls_started();
        Ok(Self { stream, input: BytesMut::new(), session, messages: 0 })
    }

    fn hello(&mut self, name: &str) -> Result<(), Broken> {
        self.say(|session| session.hello(name))
    }

    /// PLAIN (RFC 4616) where it is offered, else LOGIN, which old servers know alone.
    fn log_in(&mut self, credentials: &Credentials) -> Result<(), Broken> {
        let offers = |mechanism: &str| self.session.offers().auth.iter().any(|offered| offered == mechanism);
        let plain = STANDARD.encode(format!("\0{}\0{}", credentials.user, credentials.password));
        match (offers("PLAIN"), offers("LOGIN")) {
            (true, _) => self.say(|session| session.auth("PLAIN", Some(&plain))),
            (false, true) => self.say(|session| session.auth("LOGIN", None)),
            (false, false) => Err(Broken::NoLogin("it offers none that is known here (PLAIN, LOGIN)".into())),
        }
    }

    /// LOGIN asks for the name and the password, each in base64.
    fn respond(&mut self, credentials: Option<&Credentials>, challenge: &str) -> Result<(), Broken> {
        let asked = STANDARD.decode(challenge).unwrap_or_default().to_ascii_lowercase();
        let answer = match credentials {
            Some(credentials) if asked.starts_with(b"user") => STANDARD.encode(&credentials.user),
            Some(credentials) if asked.starts_with(b"pass") => STANDARD.encode(&credentials.password),
            _ => "*".to_owned(),
        };
        self.say(|session| session.respond(&answer))
    }

    fn say(&mut self, what: impl FnOnce(&mut ClientSession) -> Result<(), BeginFault>) -> Result<(), Broken> {
        what(&mut self.session).map_err(|fault| self.lost(&fault.to_string()))
    }

    fn lost(&self, why: &str) -> Broken {
        Broken::Lost(self.session.stage(), why.to_owned())
    }

    /// Writes what waits, and reads until something comes of it.
    async fn event(&mut self) -> Result<Event, Broken> {
        loop {
            self.write().await.map_err(|error| self.lost(&error.to_string()))?;
            match self.session.receive(&mut self.input) {
                Ok(Some(event)) => return Ok(event),
                // A reply may let the next command out.
                Ok(None) if !self.session.output().is_empty() => continue,
                Ok(None) => {}
                Err(fault) => return Err(self.lost(&fault.to_string())),
            }
            self.input.reserve(READ_ROOM);
            let patience = self.session.stage().patience();
            match timeout(patience, self.stream.read_buf(&mut self.input)).await {
                Ok(Ok(0)) => return Err(self.lost("it closed the connection")),
                Ok(Ok(_)) => {}
                Ok(Err(error)) => return Err(self.lost(&error.to_string())),
                Err(_) => return Err(self.lost("it did not answer in time")),
            }
        }
    }

    async fn write(&mut self) -> io::Result<()> {
        if self.session.output().is_empty() {
            return Ok(());
        }
        let output = self.session.output().split();
        let write = async {
            self.stream.write_all(&output).await?;
            self.stream.flush().await
        };
        timeout(WRITE_TIMEOUT, write).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
    }
}

enum BodyError {
    /// It cannot be sent to any server.
    Message(String),
    /// The connection is of no more use.
    Connection(String),
}
