//! The LMTP conversation.

use bytes::BytesMut;
use mailcluster_lmtp::{CHECKS, Checked, Wire, WireError};
use mailcluster_proto_smtp::{
    Command, DataDecoder, DataFault, MailParams, Path, Progress, RcptParams, Reply, rfc5322_date,
};
use mailcluster_types::{BoxStream, DeliveryId};
use tokio::{sync::SemaphorePermit, time::Instant};

use super::{
    budget,
    deliver::{self, Silence, unix_ms, unix_now},
    envelope::Envelope,
    recipient, refusal,
};
use crate::{Peer, SessionContext, metrics};

/// Room made for each read of message data.
const DATA_ROOM: usize = 64 << 10;
/// Faulty commands before a session is ended.
const MAX_ERRORS: u32 = 50;

const OUT_OF_ORDER: Reply = Reply::new(503, "5.5.1 bad sequence of commands");

/// Who may name ids could have mail taken for another one, or put into any queue.
const NOT_OFFERED: Reply = Reply::new(555, "5.5.4 parameter not offered");

/// Why a session was broken off.
#[derive(Debug, thiserror::Error)]
pub(super) enum End {
    #[error(transparent)]
    Wire(#[from] WireError),
    #[error(transparent)]
    Silence(#[from] Silence),
    #[error("message too large by far")]
    Flood,
}

/// A message, and the room it was given when it is a large one.
type Received = (BytesMut, Option<SemaphorePermit<'static>>);

/// What the session does after a command.
enum Next {
    Go(Reply),
    Answered,
    Quit(Reply),
}

pub(super) struct Session {
    wire: Wire,
    context: SessionContext,
    hello: Option<String>,
    envelope: Option<Envelope>,
    errors: u32,
}

impl Session {
    pub(super) fn new(stream: BoxStream, context: SessionContext) -> Self {
        let wire = Wire::new(stream, context.limits.max_line);
        Self { wire, context, hello: None, envelope: None, errors: 0 }
    }

    pub(super) async fn run(mut self) -> Result<(), End> {
        self.wire.answer(&Reply::with(220, format!("{} LMTP ready", self.context.hostname))).await?;
        let shutdown = self.context.shutdown.clone();
        loop {
            let deadline = self.idle();
            let line = tokio::select! {
                line = self.wire.line(deadline) => line?,
                () = shutdown.cancelled() => {
                    return self.bye(Reply::new(421, "4.3.2 shutting down")).await;
                }
            };
            let command = match line {
                Ok(line) => Command::parse(&line).map_err(mailcluster_proto_smtp::CommandFault::reply),
                Err(fault) => Err(Reply::with(500, format!("5.5.2 {fault}"))),
            };
            let next = match command {
                Ok(command) => self.command(command).await?,
                Err(reply) => Next::Go(reply),
            };
            match next {
                Next::Answered => {}
                Next::Quit(reply) => return self.bye(reply).await,
                Next::Go(reply) => {
                    self.wire.answer(&reply).await?;
                    self.errors += u32::from(matches!(reply.code, 500..=504));
                    if self.errors >= MAX_ERRORS {
                        return self.bye(Reply::new(421, "4.7.0 too many errors")).await;
                    }
                }
            }
        }
    }

    fn idle(&self) -> Instant {
        Instant::now() + self.context.limits.lmtp_idle
    }

    async fn bye(mut self, reply: Reply) -> Result<(), End> {
        self.wire.answer(&reply).await?;
        self.wire.close().await;
        Ok(())
    }

    async fn command(&mut self, command: Command) -> Result<Next, End> {
        Ok(Next::Go(match command {
            Command::Lhlo(name) => self.lhlo(name),
            Command::Helo(_) | Command::Ehlo(_) => Reply::new(500, "5.5.1 this is LMTP: say LHLO"),
            Command::Mail(path, params) => self.mail(path, params),
            Command::Rcpt(path, params) => self.rcpt(path, params).await,
            Command::Data => return self.data().await,
            Command::Rset => {
                self.envelope = None;
                Reply::new(250, "2.0.0 ok")
            }
            Command::Noop => Reply::new(250, "2.0.0 ok"),
            Command::Vrfy => Reply::new(252, "2.5.0 send some mail, I'll try"),
            Command::Help => Reply::new(214, "2.0.0 RFC 2033"),
            Command::StartTls | Command::Auth(..) => Reply::new(502, "5.5.1 not offered here"),
            Command::Quit => return Ok(Next::Quit(Reply::new(221, "2.0.0 bye"))),
        }))
    }

    fn lhlo(&mut self, name: String) -> Reply {
        self.hello = Some(name);
        self.envelope = None;
        let (hostname, size) = (&self.context.hostname, self.context.limits.max_message);
        let mut offers = "PIPELINING\nENHANCEDSTATUSCODES\n8BITMIME\nSMTPUTF8\nDSN".to_owned();
        if self.context.peer != Peer::Foreign {
            offers.extend(["\n", CHECKS]);
        }
        Reply::with(250, format!("{hostname}\n{offers}\nSIZE {size}"))
    }

    fn mail(&mut self, path: Path, params: MailParams) -> Reply {
        if self.hello.is_none() || self.envelope.is_some() {
            return OUT_OF_ORDER;
        }
        if params.size.is_some_and(|size| size > self.context.limits.max_message) {
            return refusal::fault(DataFault::TooLarge);
        }
        if params.any_internal() && self.context.peer == Peer::Foreign {
            return NOT_OFFERED;
        }
        let drawn_here = params.delivery.is_none();
        let delivery = match params.delivery {
            Some(text) => match text.parse::<DeliveryId>() {
                Ok(id) => id,
                Err(_) => return Reply::new(501, "5.5.4 MCID must be a ULID"),
            },
            None => match DeliveryId::new(unix_ms()) {
                Ok(id) => id,
                Err(_) => return Reply::new(451, "4.3.0 no delivery id to be had"),
            },
        };
        let sender = match path {
            Path::Mailbox(mailbox) => mailbox,
            Path::Null | Path::Postmaster => String::new(),
        };
        let (size, utf8) = (params.size.unwrap_or(0), params.utf8);
        let checked = Checked { junk: params.junk, met: params.met.unwrap_or_default() };
        let (dsn, recipients) = (params.dsn, Vec::new());
        self.envelope = Some(Envelope { delivery, drawn_here, sender, utf8, size, dsn, checked, recipients });
        Reply::with(250, format!("2.1.0 ok id={delivery}"))
    }

    async fn rcpt(&mut self, path: Path, params: RcptParams) -> Reply {
        let Some(envelope) = &mut self.envelope else { return OUT_OF_ORDER };
        if params.any() && self.context.peer == Peer::Foreign {
            return NOT_OFFERED;
        }
        if envelope.recipients.len() >= self.context.limits.max_recipients {
            return Reply::new(452, "4.5.3 too many recipients");
        }
        match recipient::check(&self.context, path, params, envelope.size).await {
            Ok(recipient) => {
                envelope.recipients.push(recipient);
                Reply::new(250, "2.1.5 ok")
            }
            Err(reply) => {
                metrics::refused(&reply);
                reply
            }
        }
    }

    /// RFC 2033 section 4.2: one reply per accepted recipient after the message.
    async fn data(&mut self) -> Result<Next, End> {
        match &self.envelope {
            None => return Ok(Next::Go(OUT_OF_ORDER)),
            Some(envelope) if envelope.recipients.is_empty() => {
                return Ok(Next::Go(Reply::new(503, "5.5.1 no valid recipients")));
            }
            Some(_) => {}
        }
        let Some(envelope) = self.envelope.take() else { return Ok(Next::Go(OUT_OF_ORDER)) };
        self.wire.answer(&Reply::new(354, "go on, end with a dot")).await?;
        let replies = match self.receive(&envelope).await? {
            Err(refused) => vec![refused; envelope.recipients.len()],
            Ok((body, _room)) => {
                let pending = deliver::commit(&self.context, &envelope, body.freeze()).await?;
                deliver::acknowledge(pending, &envelope)?
            }
        };
        for reply in &replies {
            reply.write(self.wire.output());
        }
        self.wire.flush().await?;
        Ok(Next::Answered)
    }

    /// Reads the message to its end; `Err` is the reply to a faulty one.
    async fn receive(&mut self, envelope: &Envelope) -> Result<Result<Received, Reply>, End> {
        let max = self.context.limits.max_message;
        let mut body =
            BytesMut::with_capacity(usize::try_from(envelope.size).unwrap_or(0).min(budget::SMALL) + 512);
        if envelope.drawn_here {
            body.extend_from_slice(self.trace(envelope).as_bytes());
        }
        let mut decoder = DataDecoder::new(max);
        let (mut large, mut no_room) = (None, false);
        while decoder.feed(self.wire.input(), &mut body) == Progress::More {
            if large.is_none() && !no_room && body.len() > budget::SMALL {
                let expected = if envelope.size == 0 { max } else { envelope.size.min(max) };
                large = budget::room_for(expected).await;
                no_room = large.is_none();
            }
            if no_room || decoder.fault().is_some() {
                body.clear();
            }
            if decoder.received() > max.saturating_mul(2) + (1 << 20) {
                return Err(End::Flood);
            }
            let deadline = self.idle();
            self.wire.fill(deadline, DATA_ROOM).await?;
        }
        Ok(match decoder.fault() {
            Some(fault) => Err(refusal::fault(fault)),
            None if no_room => Err(Reply::new(452, "4.3.1 too many large messages at once")),
            None => Ok((body, large)),
        })
    }

    /// RFC 5321 section 4.4, for mail that comes from no part of this cluster.
    fn trace(&self, envelope: &Envelope) -> String {
        let plain =
            |name: &&String| name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._[]:".contains(&b));
        let from = self.hello.as_ref().filter(plain).map_or("unknown", String::as_str);
        let (ip, hostname) = (self.context.client.remote.ip(), &self.context.hostname);
        let (id, date) = (envelope.delivery, rfc5322_date(unix_now()));
        format!("Received: from {from} ([{ip}])\r\n\tby {hostname} with LMTP id {id};\r\n\t{date}\r\n")
    }
}
