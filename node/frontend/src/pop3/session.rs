//! A session before the login: CAPA, STLS, USER, PASS, AUTH PLAIN, QUIT.

use std::io;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use mailcluster_net::stream::{LineError, LineStream};
use mailcluster_proto_pop3::{self as proto, CAPABILITIES, Code, Command, MAX_LINE, MAX_SASL_LINE};
use mailcluster_screen::Kind;
use mailcluster_types::{BoxStream, ClientInfo};
use tokio::time::Instant;

use super::{SERVICE, backend};
use crate::{
    FrontendContext,
    ending::{Flow, LAST_WORDS, Stop},
    login::{self, Credentials, MAX_STRIKES, PlainFault, Verdict},
    relay::Entered,
};

struct Session<'a> {
    io: LineStream,
    client: ClientInfo,
    context: &'a FrontendContext,
    user: Option<String>,
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
    let io = LineStream::new(stream);
    let mut session = Session { io, client, context, user: None, errors: 0, strikes: 0 };
    let stop = match tokio::time::timeout_at(deadline, session.until_login()).await {
        Ok(Ok(backend)) => {
            let (stream, ahead) = session.io.into_parts();
            return Some((stream, session.client, Entered { backend, ahead }));
        }
        Ok(Err(stop)) => stop,
        Err(_) => Stop::Bye("no login in time"),
    };
    let last = async {
        if let Stop::Bye(text) = stop {
            session.err(Some(Code::SysTemp), text).await?;
        }
        session.io.shutdown().await
    };
    let _ = tokio::time::timeout(LAST_WORDS, last).await;
    None
}

impl Session<'_> {
    async fn until_login(&mut self) -> Flow<BoxStream> {
        self.ok("mailcluster POP3 ready").await?;
        loop {
            let line = self.line(MAX_LINE).await?;
            let done = match proto::parse(&line) {
                Ok(command) => self.command(command).await?,
                Err(error) => self.wrong(&error.to_string()).await?,
            };
            if let Some(backend) = done {
                return Ok(backend);
            }
        }
    }

    async fn line(&mut self, max: usize) -> Flow<bytes::BytesMut> {
        let read = tokio::select! {
            biased;
            () = self.context.shutdown.cancelled() => return Err(Stop::Bye("this server is going down")),
            read = self.io.read_line(max) => read,
        };
        match read {
            Ok(line) => Ok(line),
            Err(LineError::TooLong) => Err(Stop::Bye("line too long")),
            Err(LineError::BareControl) => Err(Stop::Bye("bare CR, bare LF or NUL in a line")),
            Err(LineError::Closed | LineError::Io(_)) => Err(Stop::Quiet),
        }
    }

    async fn ok(&mut self, text: &str) -> io::Result<()> {
        let mut out = Vec::new();
        proto::ok(&mut out, text);
        self.io.send(&out).await
    }

    async fn err(&mut self, code: Option<Code>, text: &str) -> io::Result<()> {
        let mut out = Vec::new();
        proto::err(&mut out, code, text);
        self.io.send(&out).await
    }

    async fn wrong(&mut self, text: &str) -> Flow<Option<BoxStream>> {
        self.err(None, text).await?;
        self.errors += 1;
        if self.errors >= self.context.limits.max_errors {
            self.context.screen.saw(self.client.remote.ip(), Kind::Abuse);
            return Err(Stop::Quiet);
        }
        Ok(None)
    }

    fn is_private(&self) -> bool {
        self.client.tls.is_some()
    }

    async fn command(&mut self, command: Command) -> Flow<Option<BoxStream>> {
        match command {
            Command::Capa => self.capabilities().await?,
            Command::Stls => return self.start_tls().await,
            Command::Quit => {
                self.ok("bye").await?;
                return Err(Stop::Quiet);
            }
            Command::User(_) | Command::Pass(_) | Command::Auth { .. } if !self.is_private() => {
                return self.wrong("use STLS first: no password goes in clear").await;
            }
            Command::User(user) => {
                self.user = Some(user);
                self.ok("and the password?").await?;
            }
            Command::Pass(password) => match self.user.take() {
                Some(user) => {
                    return self.log_in(Credentials::new(user.as_bytes(), password.0.as_bytes())).await;
                }
                None => return self.wrong("USER comes first").await,
            },
            Command::Auth { mechanism, initial } => {
                return self.authenticate(&mechanism, initial.map(|i| i.0)).await;
            }
            Command::AuthList => {
                let list: &[u8] = if self.is_private() { b"+OK\r\nPLAIN\r\n.\r\n" } else { b"+OK\r\n.\r\n" };
                self.io.send(list).await?;
            }
            _ => return self.wrong("log in first").await,
        }
        Ok(None)
    }

    async fn capabilities(&mut self) -> io::Result<()> {
        let mut out = Vec::new();
        proto::ok(&mut out, "capabilities");
        let more: &[&str] = match (self.is_private(), self.context.tls.is_some()) {
            (true, _) => &["USER", "SASL PLAIN"],
            (false, true) => &["STLS"],
            (false, false) => &[],
        };
        for capability in CAPABILITIES.iter().chain(more) {
            out.extend_from_slice(capability.as_bytes());
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(b".\r\n");
        self.io.send(&out).await
    }

    async fn start_tls(&mut self) -> Flow<Option<BoxStream>> {
        let Some(tls) = self.context.tls.clone().filter(|_| !self.is_private()) else {
            return self.wrong("TLS is not offered here").await;
        };
        self.ok("begin TLS now").await?;
        // What was sent ahead of the handshake came in clear and counts for nothing (RFC 2595 section 4).
        if self.io.discard() > 0 {
            tracing::warn!(session = %self.client.session, "octets sent ahead of STLS thrown away");
        }
        self.user = None;
        let old = std::mem::replace(&mut self.io, LineStream::new(Box::new(tokio::io::empty())));
        match tls.upgrade(old.into_parts().0).await {
            Ok((stream, facts)) => {
                self.io = LineStream::new(stream);
                self.client.tls = Some(facts);
                Ok(None)
            }
            Err(error) => {
                tracing::debug!(session = %self.client.session, %error, "tls handshake failed");
                Err(Stop::Quiet)
            }
        }
    }

    async fn authenticate(&mut self, mechanism: &str, initial: Option<String>) -> Flow<Option<BoxStream>> {
        if mechanism != "PLAIN" {
            return self.wrong("only PLAIN is offered").await;
        }
        let response = match initial {
            Some(initial) => initial.into_bytes(),
            None => {
                self.io.send(b"+ \r\n").await?;
                self.line(MAX_SASL_LINE).await?.to_vec()
            }
        };
        let Ok(response) = STANDARD.decode(&response) else {
            return self.wrong("no base 64: AUTH is off").await;
        };
        match Credentials::from_plain(&response) {
            Ok(credentials) => self.log_in(credentials).await,
            Err(PlainFault::Malformed) => self.wrong("not a PLAIN response").await,
            Err(PlainFault::ForAnother) => {
                self.err(Some(Code::Auth), "acting for another user is not offered").await?;
                self.strike()
            }
        }
    }

    async fn log_in(&mut self, credentials: Credentials) -> Flow<Option<BoxStream>> {
        match login::verify(self.context, &self.client, SERVICE, credentials).await {
            Verdict::Accepted(account) => match backend::enter(self.context, &account, &self.client).await {
                Ok(entered) => {
                    self.ok(&entered.said).await?;
                    return Ok(Some(entered.stream));
                }
                Err(reason) => {
                    tracing::warn!(session = %self.client.session, store = %account.store, reason, "no backend for a login");
                    self.err(Some(Code::SysTemp), "your mailbox is not available now, try again later")
                        .await?;
                }
            },
            Verdict::Rejected => {
                tokio::time::sleep(login::penalty(self.strikes + 1)).await;
                self.err(Some(Code::Auth), "wrong user name or password").await?;
                return self.strike();
            }
            Verdict::Throttled(seconds) => {
                let text = format!("too many failed logins, try again in {seconds} seconds");
                self.err(Some(Code::SysTemp), &text).await?;
                return self.strike();
            }
            Verdict::Unavailable => {
                self.err(Some(Code::SysTemp), "logins are not possible now, try again later").await?;
            }
        }
        Ok(None)
    }

    fn strike(&mut self) -> Flow<Option<BoxStream>> {
        self.strikes += 1;
        if self.strikes >= MAX_STRIKES { Err(Stop::Quiet) } else { Ok(None) }
    }
}
