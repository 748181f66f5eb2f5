//! A session before the login: CAPABILITY, NOOP, LOGOUT, STARTTLS, AUTHENTICATE "PLAIN".

use std::io;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use mailcluster_net::stream::read_into;
use mailcluster_proto_managesieve::{
    Capabilities, Code, Command, CommandError, Decoder, Event, Limits, bye, no, ok, string,
};
use mailcluster_screen::Kind;
use mailcluster_types::{BoxStream, ClientInfo};
use tokio::{io::AsyncWriteExt, time::Instant};

use super::{SERVICE, backend};
use crate::{
    FrontendContext,
    ending::{Flow, LAST_WORDS, Stop},
    login::{self, Credentials, MAX_STRIKES, PlainFault, Verdict},
    relay::Entered,
};

/// Before the login a connection holds no more than this of what it was sent.
const LIMITS: Limits = Limits { line: 8 << 10, literals: 8 << 10, skip: 64 << 10 };

struct Session<'a> {
    stream: BoxStream,
    decoder: Decoder,
    client: ClientInfo,
    context: &'a FrontendContext,
    errors: u32,
    strikes: u32,
}

/// Speaks with the client until it has logged in. `None`: it didn't, and the connection is done with.
pub(super) async fn log_in(
    stream: BoxStream,
    client: ClientInfo,
    context: &FrontendContext,
) -> Option<(BoxStream, ClientInfo, Entered)> {
    let deadline = Instant::now() + context.limits.login_timeout;
    let decoder = Decoder::new(LIMITS);
    let mut session = Session { stream, decoder, client, context, errors: 0, strikes: 0 };
    let stop = match tokio::time::timeout_at(deadline, session.until_login()).await {
        Ok(Ok(backend)) => {
            let entered = Entered { backend, ahead: session.decoder.into_rest() };
            return Some((session.stream, session.client, entered));
        }
        Ok(Err(stop)) => stop,
        Err(_) => Stop::Bye("no login in time"),
    };
    if let Stop::Bye(text) = stop {
        let last = async {
            let mut out = Vec::new();
            bye(&mut out, Some(Code::TryLater), text);
            session.say(&out).await?;
            session.stream.shutdown().await
        };
        let _ = tokio::time::timeout(LAST_WORDS, last).await;
    }
    None
}

impl Session<'_> {
    async fn until_login(&mut self) -> Flow<BoxStream> {
        self.capabilities().await?;
        loop {
            let done = match self.event().await? {
                Event::Command(command) => self.command(command).await?,
                Event::Invalid(error) => {
                    self.wrong(&error.to_string()).await?;
                    None
                }
                Event::Fatal(text) => return Err(Stop::Bye(text)),
                // Only asked for during AUTHENTICATE.
                Event::Response(_) => None,
            };
            if let Some(backend) = done {
                return Ok(backend);
            }
        }
    }

    async fn event(&mut self) -> Flow<Event> {
        loop {
            if let Some(event) = self.decoder.next_event() {
                return Ok(event);
            }
            let decoder = &mut self.decoder;
            let read = tokio::select! {
                biased;
                () = self.context.shutdown.cancelled() => {
                    return Err(Stop::Bye("this server is going down, connect again"));
                }
                read = read_into(&mut self.stream, |octets| decoder.feed(octets)) => read?,
            };
            if read == 0 {
                return Err(Stop::Quiet);
            }
        }
    }

    async fn say(&mut self, octets: &[u8]) -> io::Result<()> {
        self.stream.write_all(octets).await?;
        self.stream.flush().await
    }

    async fn refuse(&mut self, code: Option<Code>, text: &str) -> Flow {
        let mut out = Vec::new();
        no(&mut out, code, text);
        Ok(self.say(&out).await?)
    }

    async fn fine(&mut self, text: &str) -> Flow {
        let mut out = Vec::new();
        ok(&mut out, None, text);
        Ok(self.say(&out).await?)
    }

    async fn wrong(&mut self, text: &str) -> Flow {
        self.refuse(None, text).await?;
        self.errors += 1;
        if self.errors >= self.context.limits.max_errors {
            self.context.screen.saw(self.client.remote.ip(), Kind::Abuse);
            return Err(Stop::Bye("too many errors"));
        }
        Ok(())
    }

    fn is_private(&self) -> bool {
        self.client.tls.is_some()
    }

    /// The greeting, and what CAPABILITY and a handshake are answered with (RFC 5804 sections 1.7, 2.2).
    async fn capabilities(&mut self) -> Flow {
        let names: Vec<_> = mailcluster_sieve::Capabilities::at_delivery().names().collect();
        let told = Capabilities {
            sieve: names.join(" "),
            sasl: if self.is_private() { "PLAIN" } else { "" },
            starttls: !self.is_private() && self.context.tls.is_some(),
            redirects: mailcluster_sieve::Limits::default().redirects,
            owner: None,
        };
        let mut out = Vec::new();
        told.write(&mut out);
        ok(&mut out, None, "mailcluster ready");
        Ok(self.say(&out).await?)
    }

    async fn command(&mut self, command: Command) -> Flow<Option<BoxStream>> {
        match command {
            Command::Capability => self.capabilities().await?,
            Command::Noop(None) => self.fine("done").await?,
            Command::Noop(Some(text)) => {
                let mut out = b"OK (TAG ".to_vec();
                string(&mut out, &text);
                out.extend_from_slice(b") \"done\"\r\n");
                self.say(&out).await?;
            }
            Command::Logout => {
                self.fine("bye").await?;
                let _ = self.stream.shutdown().await;
                return Err(Stop::Quiet);
            }
            Command::StartTls => self.start_tls().await?,
            Command::Authenticate { mechanism, initial } => {
                return self.authenticate(&mechanism, initial.map(|initial| initial.0)).await;
            }
            _ => self.wrong("log in first").await?,
        }
        Ok(None)
    }

    async fn start_tls(&mut self) -> Flow {
        let Some(tls) = self.context.tls.clone().filter(|_| !self.is_private()) else {
            return self.wrong("TLS is not offered here").await;
        };
        self.fine("begin TLS now").await?;
        // What was sent ahead of the handshake came in clear and counts for nothing.
        if self.decoder.has_buffered() {
            tracing::warn!(session = %self.client.session, "octets sent ahead of STARTTLS thrown away");
        }
        self.decoder = Decoder::new(LIMITS);
        let plain = std::mem::replace(&mut self.stream, Box::new(tokio::io::empty()));
        match tls.upgrade(plain).await {
            Ok((stream, facts)) => {
                self.stream = stream;
                self.client.tls = Some(facts);
                self.capabilities().await
            }
            Err(error) => {
                tracing::debug!(session = %self.client.session, %error, "tls handshake failed");
                Err(Stop::Quiet)
            }
        }
    }

    async fn authenticate(&mut self, mechanism: &str, initial: Option<Bytes>) -> Flow<Option<BoxStream>> {
        if !self.is_private() {
            self.refuse(Some(Code::EncryptNeeded), "use STARTTLS first").await?;
            return Ok(None);
        }
        if mechanism != "PLAIN" {
            self.refuse(None, "only PLAIN is offered").await?;
            return Ok(None);
        }
        let response = match initial {
            Some(initial) => Some(initial),
            None => self.sasl_response().await?,
        };
        let Some(response) = response else { return Ok(None) };
        let Ok(response) = STANDARD.decode(&response) else {
            self.wrong("no base 64: AUTHENTICATE is off").await?;
            return Ok(None);
        };
        match Credentials::from_plain(&response) {
            Ok(credentials) => self.log_in(credentials).await,
            Err(PlainFault::ForAnother) => {
                self.refuse(None, "acting for another user is not offered").await?;
                self.strike()
            }
            Err(PlainFault::Malformed) => {
                self.wrong("not a PLAIN response").await?;
                Ok(None)
            }
        }
    }

    /// Asks for the response; `None`: the client gave up or sent something else, and has its answer.
    async fn sasl_response(&mut self) -> Flow<Option<Bytes>> {
        self.decoder.expect_response();
        self.say(b"\"\"\r\n").await?;
        match self.event().await? {
            Event::Response(response) => Ok(Some(response)),
            Event::Fatal(text) => Err(Stop::Bye(text)),
            Event::Command(_) | Event::Invalid(CommandError::Syntax(_) | CommandError::Unknown) => {
                self.wrong("expected a response").await?;
                Ok(None)
            }
            Event::Invalid(error) => {
                self.wrong(&error.to_string()).await?;
                Ok(None)
            }
        }
    }

    async fn log_in(&mut self, credentials: Credentials) -> Flow<Option<BoxStream>> {
        match login::verify(self.context, &self.client, SERVICE, credentials).await {
            Verdict::Accepted(account) => match backend::enter(self.context, &account, &self.client).await {
                Ok(entered) => {
                    self.fine("logged in").await?;
                    Ok(Some(entered))
                }
                Err(reason) => {
                    tracing::warn!(session = %self.client.session, store = %account.store, reason, "no backend for a login");
                    let text = "your scripts are not available now, try again later";
                    self.refuse(Some(Code::TryLater), text).await?;
                    Ok(None)
                }
            },
            Verdict::Rejected => {
                tokio::time::sleep(login::penalty(self.strikes + 1)).await;
                self.refuse(None, "wrong user name or password").await?;
                self.strike()
            }
            Verdict::Throttled(seconds) => {
                let text = format!("too many failed logins, try again in {seconds} seconds");
                self.refuse(Some(Code::TryLater), &text).await?;
                self.strike()
            }
            Verdict::Unavailable => {
                self.refuse(Some(Code::TryLater), "logins are not possible now, try again later").await?;
                Ok(None)
            }
        }
    }

    fn strike(&mut self) -> Flow<Option<BoxStream>> {
        self.strikes += 1;
        if self.strikes >= MAX_STRIKES { Err(Stop::Bye("too many failed logins")) } else { Ok(None) }
    }
}
