//! The SMTP conversation: order of commands, greetings, STARTTLS.

use mailcluster_lmtp::{Wire, WireError};
use mailcluster_proto_smtp::{Command, CommandFault, Reply};
use mailcluster_screen::Kind;
use mailcluster_types::{BoxStream, ClientInfo, ResolvedAccount};
use mailcluster_verdict::Listed;
use tokio::time::Instant;

use super::{Service, envelope::Envelope, metrics, stores::Stores};
use crate::FrontendContext;

/// Longest line of an AUTH exchange in octets (RFC 4954 section 4.6).
pub(super) const AUTH_LINE: usize = 12_288;

/// Commands out of order.
pub(super) const OUT_OF_ORDER: Reply = Reply::new(503, "5.5.1 bad sequence of commands");

/// Why a session was broken off.
#[derive(Debug, thiserror::Error)]
pub(super) enum End {
    #[error(transparent)]
    Wire(#[from] WireError),
    /// No reply may be given: some copies are durable, or may be, and another is not.
    #[error("closed without a reply: the outcome is unknown")]
    Silence,
    /// The client was told 421.
    #[error("{0}")]
    Told(&'static str),
    #[error("TLS handshake failed")]
    Tls(#[source] std::io::Error),
}

/// What the session does after a command.
pub(super) enum Next {
    Go(Reply),
    Quit(Reply),
    /// Throw away what was read, then shake hands.
    StartTls,
}

/// The argument of HELO or EHLO.
pub(super) struct Hello {
    pub(super) name: String,
    pub(super) extended: bool,
}

pub(super) struct Session {
    pub(super) wire: Wire,
    pub(super) client: ClientInfo,
    pub(super) service: Service,
    pub(super) context: FrontendContext,
    pub(super) hello: Option<Hello>,
    pub(super) account: Option<ResolvedAccount>,
    pub(super) envelope: Option<Envelope>,
    pub(super) stores: Stores,
    pub(super) failed_logins: u32,
    /// DNS lists that have the client, once they were asked.
    pub(super) listed: Option<Vec<Listed>>,
    errors: u32,
    started: Instant,
}

impl Session {
    pub(super) fn new(
        stream: BoxStream,
        client: ClientInfo,
        service: Service,
        context: FrontendContext,
    ) -> Self {
        let stores = Stores::new(context.backends.clone(), client.clone(), context.hostname.clone());
        Self {
            wire: Wire::new(stream, line_limit(service, &context)),
            client,
            service,
            context,
            hello: None,
            account: None,
            envelope: None,
            stores,
            failed_logins: 0,
            listed: None,
            errors: 0,
            started: Instant::now(),
        }
    }

    pub(super) async fn run(mut self) -> Result<(), End> {
        let result = self.converse().await;
        if matches!(result, Err(End::Wire(WireError::Timeout))) {
            let _ = self.wire.answer(&Reply::new(421, "4.4.2 timeout")).await;
        }
        match result {
            Err(End::Silence) => {
                metrics::silent(self.service.label());
                drop(self.wire);
            }
            _ => self.wire.close().await,
        }
        self.stores.quit().await;
        result
    }

    async fn converse(&mut self) -> Result<(), End> {
        let greeting = format!("{} ESMTP mailcluster", self.context.hostname);
        self.wire.answer(&Reply::with(220, greeting)).await?;
        let shutdown = self.context.shutdown.clone();
        loop {
            let deadline = self.deadline();
            let line = tokio::select! {
                line = self.wire.line(deadline) => line?,
                () = shutdown.cancelled() => {
                    self.wire.answer(&Reply::new(421, "4.3.2 shutting down, try again")).await?;
                    return Ok(());
                }
            };
            let command = match line {
                Ok(line) => Command::parse(&line).map_err(CommandFault::reply),
                Err(fault) => Err(Reply::with(500, format!("5.5.2 {fault}"))),
            };
            let next = match command {
                Ok(command) => self.command(command).await?,
                Err(reply) => {
                    metrics::rejected(self.service.label(), "syntax");
                    Next::Go(reply)
                }
            };
            match next {
                Next::Go(reply) => self.tell(&reply).await?,
                Next::StartTls => self.start_tls().await?,
                Next::Quit(reply) => {
                    self.wire.answer(&reply).await?;
                    return Ok(());
                }
            }
        }
    }

    /// A line must be whole by then: idle time, and for those who must log in the time to do so.
    pub(super) fn deadline(&self) -> Instant {
        let idle = Instant::now() + self.context.limits.smtp_idle;
        match (self.service, &self.account) {
            (Service::Submission, None) => idle.min(self.started + self.context.limits.login_timeout),
            _ => idle,
        }
    }

    async fn tell(&mut self, reply: &Reply) -> Result<(), End> {
        self.wire.answer(reply).await?;
        if reply.is_permanent() {
            self.errors += 1;
            if self.errors >= self.context.limits.max_errors {
                self.context.screen.saw(self.client.remote.ip(), Kind::Abuse);
                self.wire.answer(&Reply::new(421, "4.7.0 too many errors")).await?;
                return Err(End::Told("too many errors"));
            }
        }
        Ok(())
    }

    async fn command(&mut self, command: Command) -> Result<Next, End> {
        Ok(Next::Go(match command {
            Command::Ehlo(name) => self.hello(name, true),
            Command::Helo(name) => self.hello(name, false),
            Command::Lhlo(_) => Reply::new(500, "5.5.1 this is SMTP: say EHLO"),
            Command::Mail(path, params) => self.mail(path, params).await,
            Command::Rcpt(path, params) => self.rcpt(path, params).await,
            Command::Data => self.data().await?,
            Command::Auth(mechanism, initial) => self.auth(&mechanism, initial).await?,
            Command::StartTls => match self.may_start_tls() {
                Ok(()) => return Ok(Next::StartTls),
                Err(reply) => reply,
            },
            Command::Rset => {
                self.envelope = None;
                Reply::new(250, "2.0.0 ok")
            }
            Command::Noop => Reply::new(250, "2.0.0 ok"),
            Command::Vrfy => Reply::new(252, "2.5.0 send some mail, I'll try"),
            Command::Help => Reply::new(214, "2.0.0 RFC 5321"),
            Command::Quit => return Ok(Next::Quit(Reply::new(221, "2.0.0 bye"))),
        }))
    }

    fn hello(&mut self, name: String, extended: bool) -> Reply {
        self.hello = Some(Hello { name, extended });
        self.envelope = None;
        let hostname = &self.context.hostname;
        if !extended {
            return Reply::with(250, hostname.to_string());
        }
        let mut text = format!("{hostname}\nPIPELINING\nSIZE {}\n8BITMIME", self.context.limits.max_message);
        if self.may_start_tls().is_ok() {
            text.push_str("\nSTARTTLS");
        }
        if self.may_log_in() {
            text.push_str("\nAUTH PLAIN LOGIN");
        }
        // Without a way out there is none for reports to others.
        text.push_str(if self.context.sends_out { "\nDSN" } else { "" });
        text.push_str("\nSMTPUTF8\nENHANCEDSTATUSCODES");
        Reply::with(250, text)
    }

    /// Submission, over TLS, not yet logged in.
    pub(super) fn may_log_in(&self) -> bool {
        self.service == Service::Submission && self.client.tls.is_some() && self.account.is_none()
    }

    fn may_start_tls(&self) -> Result<(), Reply> {
        match (&self.client.tls, &self.context.tls) {
            (Some(_), _) => Err(Reply::new(503, "5.5.1 TLS is on already")),
            (None, None) => Err(Reply::new(502, "5.5.1 STARTTLS not offered")),
            (None, Some(_)) if self.envelope.is_some() => Err(OUT_OF_ORDER),
            (None, Some(_)) => Ok(()),
        }
    }

    /// RFC 3207 section 4: everything said before is forgotten, also what was sent ahead of the handshake.
    async fn start_tls(&mut self) -> Result<(), End> {
        let Some(tls) = self.context.tls.clone() else { return Ok(()) };
        self.wire.answer(&Reply::new(220, "2.0.0 go ahead")).await?;
        let limit = line_limit(self.service, &self.context);
        let plain = std::mem::replace(&mut self.wire, Wire::new(Box::new(tokio::io::empty()), limit));
        let (stream, facts) = tls.upgrade(plain.into_stream().await?).await.map_err(End::Tls)?;
        self.wire = Wire::new(stream, limit);
        self.client.tls = Some(facts);
        self.hello = None;
        self.envelope = None;
        self.stores =
            Stores::new(self.context.backends.clone(), self.client.clone(), self.context.hostname.clone());
        Ok(())
    }
}

fn line_limit(service: Service, context: &FrontendContext) -> usize {
    match service {
        Service::Mx => context.limits.max_line,
        Service::Submission => context.limits.max_line.max(AUTH_LINE),
    }
}
