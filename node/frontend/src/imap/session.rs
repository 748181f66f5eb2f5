//! A session before the login: CAPABILITY, NOOP, LOGOUT, ID, STARTTLS, LOGIN, AUTHENTICATE PLAIN.

use std::io;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use mailcluster_net::stream::read_into;
use mailcluster_proto_imap::{
    BEFORE_LOGIN, Command, CommandBody, Decoder, Event, Limits,
    command::{Authenticate, Secret},
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
            session.say(&format!("* BYE {text}\r\n")).await?;
            session.stream.shutdown().await
        };
        let _ = tokio::time::timeout(LAST_WORDS, last).await;
    }
    None
}

impl Session<'_> {
    async fn until_login(&mut self) -> Flow<BoxStream> {
        let greeting = format!("* OK [CAPABILITY {}] mailcluster ready\r\n", self.capabilities());
        self.say(&greeting).await?;
        loop {
            let done = match self.event().await? {
                Event::Command(command) => self.command(command).await?,
                Event::Append(start) => {
                    self.decoder.refuse_append();
                    self.wrong(&start.head.tag, "log in first").await?;
                    None
                }
                Event::Invalid { tag, error } => {
                    self.wrong(tag.as_deref().unwrap_or("*"), &error.to_string()).await?;
                    None
                }
                Event::Continue => {
                    self.say("+ go on\r\n").await?;
                    None
                }
                Event::Fatal(text) => return Err(Stop::Bye(text)),
                // Only asked for during AUTHENTICATE and APPEND.
                Event::Line(_) | Event::AppendData(_) | Event::AppendEnd => None,
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
                    return Err(Stop::Bye("[UNAVAILABLE] this server is going down, connect again"));
                }
                read = read_into(&mut self.stream, |octets| decoder.feed(octets)) => read?,
            };
            if read == 0 {
                return Err(Stop::Quiet);
            }
        }
    }

    async fn say(&mut self, text: &str) -> io::Result<()> {
        self.stream.write_all(text.as_bytes()).await?;
        self.stream.flush().await
    }

    async fn answer(&mut self, tag: &str, text: &str) -> Flow {
        Ok(self.say(&format!("{tag} {text}\r\n")).await?)
    }

    async fn wrong(&mut self, tag: &str, text: &str) -> Flow {
        self.answer(tag, &format!("BAD {text}")).await?;
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

    fn capabilities(&self) -> String {
        let mut words = vec!["IMAP4rev1"];
        words.extend(BEFORE_LOGIN);
        if self.is_private() {
            words.push("AUTH=PLAIN");
        } else {
            words.push("LOGINDISABLED");
            if self.context.tls.is_some() {
                words.push("STARTTLS");
            }
        }
        words.join(" ")
    }

    async fn command(&mut self, command: Command) -> Flow<Option<BoxStream>> {
        let tag = command.tag;
        match command.body {
            CommandBody::Capability => {
                let text = format!("* CAPABILITY {}\r\n{tag} OK done\r\n", self.capabilities());
                self.say(&text).await?;
            }
            CommandBody::Noop => self.answer(&tag, "OK done").await?,
            CommandBody::Id(_) => {
                self.say(&format!("* ID (\"name\" \"mailcluster\")\r\n{tag} OK done\r\n")).await?;
            }
            CommandBody::Logout => {
                self.say(&format!("* BYE bye\r\n{tag} OK done\r\n")).await?;
                let _ = self.stream.shutdown().await;
                return Err(Stop::Quiet);
            }
            CommandBody::StartTls => self.start_tls(&tag).await?,
            CommandBody::Login(login) => {
                return self.log_in(&tag, Credentials::new(&login.user, &login.password.0)).await;
            }
            CommandBody::Authenticate(authenticate) => return self.authenticate(&tag, authenticate).await,
            _ => self.wrong(&tag, "log in first").await?,
        }
        Ok(None)
    }

    async fn start_tls(&mut self, tag: &str) -> Flow {
        let Some(tls) = self.context.tls.clone().filter(|_| !self.is_private()) else {
            return self.wrong(tag, "TLS is not offered here").await;
        };
        self.answer(tag, "OK begin TLS now").await?;
        // What was sent ahead of the handshake came in clear and counts for nothing (RFC 3501 section 6.2.1).
        if self.decoder.has_buffered() {
            tracing::warn!(session = %self.client.session, "octets sent ahead of STARTTLS thrown away");
        }
        self.decoder = Decoder::new(LIMITS);
        let plain = std::mem::replace(&mut self.stream, Box::new(tokio::io::empty()));
        match tls.upgrade(plain).await {
            Ok((stream, facts)) => {
                self.stream = stream;
                self.client.tls = Some(facts);
                Ok(())
            }
            Err(error) => {
                tracing::debug!(session = %self.client.session, %error, "tls handshake failed");
                Err(Stop::Quiet)
            }
        }
    }

    async fn authenticate(&mut self, tag: &str, command: Authenticate) -> Flow<Option<BoxStream>> {
        if !self.is_private() {
            return self.refuse_in_clear(tag).await;
        }
        if command.mechanism != "PLAIN" {
            self.answer(tag, "NO [CANNOT] only PLAIN is offered").await?;
            return Ok(None);
        }
        let response = match command.initial {
            Some(initial) => initial,
            None => match self.sasl_response(tag).await? {
                Some(response) => response,
                None => return Ok(None),
            },
        };
        match Credentials::from_plain(&response.0) {
            Ok(credentials) => self.log_in(tag, credentials).await,
            Err(PlainFault::ForAnother) => {
                self.answer(tag, "NO [AUTHORIZATIONFAILED] acting for another user is not offered").await?;
                self.strike().await
            }
            Err(PlainFault::Malformed) => {
                self.wrong(tag, "not a PLAIN response").await?;
                Ok(None)
            }
        }
    }

    /// Asks for the response; `None`: the client gave up or sent something else, and has its answer.
    async fn sasl_response(&mut self, tag: &str) -> Flow<Option<Secret>> {
        self.decoder.expect_line();
        self.say("+ \r\n").await?;
        let line = match self.event().await? {
            Event::Line(line) => line,
            Event::Fatal(text) => return Err(Stop::Bye(text)),
            _ => {
                self.wrong(tag, "expected a response").await?;
                return Ok(None);
            }
        };
        match STANDARD.decode(&line) {
            Ok(response) => Ok(Some(Secret(response))),
            Err(_) => {
                self.wrong(tag, "no base 64: AUTHENTICATE is off").await?;
                Ok(None)
            }
        }
    }

    async fn refuse_in_clear(&mut self, tag: &str) -> Flow<Option<BoxStream>> {
        self.answer(tag, "NO [PRIVACYREQUIRED] use STARTTLS first").await?;
        Ok(None)
    }

    async fn log_in(&mut self, tag: &str, credentials: Credentials) -> Flow<Option<BoxStream>> {
        if !self.is_private() {
            return self.refuse_in_clear(tag).await;
        }
        match login::verify(self.context, &self.client, SERVICE, credentials).await {
            Verdict::Accepted(account) => match backend::enter(self.context, &account, &self.client).await {
                Ok(entered) => {
                    self.answer(tag, &format!("OK {}logged in", entered.capability)).await?;
                    Ok(Some(entered.stream))
                }
                Err(reason) => {
                    tracing::warn!(session = %self.client.session, store = %account.store, reason, "no backend for a login");
                    self.answer(tag, "NO [UNAVAILABLE] your mailbox is not available now, try again later")
                        .await?;
                    Ok(None)
                }
            },
            Verdict::Rejected => {
                tokio::time::sleep(login::penalty(self.strikes + 1)).await;
                self.answer(tag, "NO [AUTHENTICATIONFAILED] wrong user name or password").await?;
                self.strike().await
            }
            Verdict::Throttled(seconds) => {
                let text = format!("NO [UNAVAILABLE] too many failed logins, try again in {seconds} seconds");
                self.answer(tag, &text).await?;
                self.strike().await
            }
            Verdict::Unavailable => {
                self.answer(tag, "NO [UNAVAILABLE] logins are not possible now, try again later").await?;
                Ok(None)
            }
        }
    }

    async fn strike(&mut self) -> Flow<Option<BoxStream>> {
        self.strikes += 1;
        if self.strikes >= MAX_STRIKES { Err(Stop::Bye("too many failed logins")) } else { Ok(None) }
    }
}
