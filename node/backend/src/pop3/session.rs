//! One session: reads commands, answers them.

use std::{io, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use mailcluster_net::stream::{LineError, LineStream};
use mailcluster_proto_pop3::{self as proto, Code, Command, DotStuffer, Top};
use mailcluster_store::{Expunge, ReadError, StoredBody, WriteError};
use mailcluster_types::{AccountId, BoxStream};

use super::maildrop::{Item, Maildrop, NoSuchMessage};
use crate::SessionContext;

/// Octets collected before they are written.
const CHUNK: usize = 16 << 10;
/// Messages of a maildrop; of a larger INBOX the oldest are seen, and the next ones when those are gone.
const MAX_MESSAGES: usize = 100_000;
/// Wrong commands of one session before it is ended.
const MAX_ERRORS: u32 = 20;

/// Why a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The client said QUIT.
    Quit,
    /// The client closed the connection; nothing was removed.
    Closed,
    /// Nothing came for too long; nothing was removed (RFC 1939 section 3).
    Idle,
    /// The store stops.
    Shutdown,
    /// The replica may not answer any more.
    Fenced,
    /// The client broke the protocol.
    Garbage,
}

/// Serves a session.
///
/// # Errors
/// When the connection is lost.
pub async fn run(stream: BoxStream, context: SessionContext) -> io::Result<End> {
    let mut session =
        Session { io: LineStream::new(stream), out: Vec::new(), context, drop: None, errors: 0 };
    let end = session.serve().await;
    if end.is_ok() {
        let _ = tokio::time::timeout(Duration::from_secs(5), session.io.shutdown()).await;
    }
    end
}

struct Session {
    io: LineStream,
    out: Vec<u8>,
    context: SessionContext,
    /// `None` until AUTH.
    drop: Option<Maildrop>,
    errors: u32,
}

/// Ends the session now.
enum Stop {
    End(End),
    Io(io::Error),
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

type Flow<T = ()> = Result<T, Stop>;

impl Session {
    async fn serve(&mut self) -> io::Result<End> {
        proto::ok(&mut self.out, "mailcluster POP3 ready");
        loop {
            match self.step().await {
                Ok(()) => {}
                Err(Stop::End(end)) => {
                    // What was said before the end still goes out, unless the replica may say nothing.
                    if end != End::Fenced {
                        self.flush().await?;
                    }
                    return Ok(end);
                }
                Err(Stop::Io(error)) => return Err(error),
            }
        }
    }

    async fn step(&mut self) -> Flow {
        let line = self.line(proto::MAX_LINE).await?;
        let command = match proto::parse(&line) {
            Ok(command) => command,
            Err(error) => return self.wrong(&error.to_string()),
        };
        match (command, self.drop.is_some()) {
            (Command::Capa, _) => self.capabilities(),
            (Command::Quit, _) => return self.quit().await,
            (Command::Auth { mechanism, initial }, false) => {
                return self.auth(&mechanism, initial.map(|i| i.0)).await;
            }
            (Command::AuthList, false) => self.out.extend_from_slice(b"+OK\r\nEXTERNAL\r\n.\r\n"),
            (command, true) => return self.transaction(command).await,
            (_, false) => return self.wrong("log in first"),
        }
        Ok(())
    }

    /// Writes what is to be written before it waits for the next line.
    async fn line(&mut self, max: usize) -> Flow<bytes::BytesMut> {
        if !self.io.has_line() || self.out.len() >= CHUNK {
            self.flush().await?;
        }
        let shutdown = self.context.shutdown.clone();
        let read = tokio::time::timeout(self.context.limits.pop3_idle, self.io.read_line(max));
        tokio::select! {
            biased;
            () = shutdown.cancelled() => Err(Stop::End(End::Shutdown)),
            read = read => match read {
                Ok(Ok(line)) => Ok(line),
                Err(_) => Err(Stop::End(End::Idle)),
                Ok(Err(LineError::Closed)) => Err(Stop::End(End::Closed)),
                Ok(Err(LineError::Io(error))) => Err(error.into()),
                Ok(Err(error)) => {
                    proto::err(&mut self.out, None, &error.to_string());
                    Err(Stop::End(End::Garbage))
                }
            },
        }
    }

    async fn flush(&mut self) -> io::Result<()> {
        if self.out.is_empty() {
            return Ok(());
        }
        let out = std::mem::take(&mut self.out);
        // A client that does not read is as idle as one that does not write.
        tokio::time::timeout(self.context.limits.pop3_idle, self.io.send(&out))
            .await
            .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
    }

    async fn flush_chunk(&mut self) -> io::Result<()> {
        if self.out.len() >= CHUNK { self.flush().await } else { Ok(()) }
    }

    fn wrong(&mut self, text: &str) -> Flow {
        proto::err(&mut self.out, None, text);
        self.errors += 1;
        if self.errors >= MAX_ERRORS { Err(Stop::End(End::Garbage)) } else { Ok(()) }
    }

    fn capabilities(&mut self) {
        proto::ok(&mut self.out, "capabilities");
        for capability in proto::CAPABILITIES {
            self.out.extend_from_slice(capability.as_bytes());
            self.out.extend_from_slice(b"\r\n");
        }
        if self.drop.is_none() {
            self.out.extend_from_slice(b"SASL EXTERNAL\r\n");
        }
        self.out.extend_from_slice(b".\r\n");
    }

    async fn auth(&mut self, mechanism: &str, initial: Option<String>) -> Flow {
        if mechanism != "EXTERNAL" {
            return self.wrong("only EXTERNAL is offered here");
        }
        let response = match initial {
            Some(initial) => initial.into_bytes(),
            None => {
                self.out.extend_from_slice(b"+ \r\n");
                self.line(proto::MAX_SASL_LINE).await?.to_vec()
            }
        };
        // The account was named by the frontend's header; the authorization identity is for the log alone.
        if response != b"=" && STANDARD.decode(&response).is_err() {
            return self.wrong("not base 64");
        }
        let Some(account) = self.context.account else {
            proto::err(&mut self.out, Some(Code::Auth), "this connection names no account");
            return Ok(());
        };
        match self.open(account).await {
            Ok(None) => {
                proto::err(&mut self.out, Some(Code::Auth), "the account is suspended");
                Ok(())
            }
            Ok(Some(drop)) => {
                let (count, octets) = drop.stat();
                proto::ok(&mut self.out, &format!("{count} messages ({octets} octets)"));
                self.drop = Some(drop);
                Ok(())
            }
            Err(ReadError::NotServing) => Err(Stop::End(End::Fenced)),
            Err(error) => {
                tracing::warn!(%account, %error, "cannot open a maildrop");
                proto::err(&mut self.out, Some(Code::SysTemp), "the mailbox cannot be opened now");
                Ok(())
            }
        }
    }

    /// `None`: the account is suspended. Frontends remember logins for a while and may not know it yet.
    async fn open(&self, account: AccountId) -> Result<Option<Maildrop>, ReadError> {
        self.context
            .store
            .read(move |view| {
                if view.account(account)?.is_some_and(|account| account.suspended) {
                    return Ok(None);
                }
                let inbox = view.mailbox_by_name(account, "INBOX")?.ok_or(ReadError::NotFound)?;
                let messages = view.sizes(inbox.id, MAX_MESSAGES)?;
                let items =
                    messages.into_iter().map(|(uid, size, body)| Item::new(uid, size, body)).collect();
                Ok(Some(Maildrop::new(inbox.id, inbox.uid_validity, items)))
            })
            .await
    }

    /// The maildrop; `step` sees to it that there is one.
    fn maildrop(&mut self) -> Flow<&mut Maildrop> {
        self.drop.as_mut().ok_or(Stop::End(End::Garbage))
    }

    async fn transaction(&mut self, command: Command) -> Flow {
        // Whatever shows state may be said only by a replica that may serve reads.
        if !self.context.store.may_read() {
            return Err(Stop::End(End::Fenced));
        }
        match command {
            Command::Noop => proto::ok(&mut self.out, ""),
            Command::Stat => {
                let (count, octets) = self.maildrop()?.stat();
                proto::ok(&mut self.out, &format!("{count} {octets}"));
            }
            Command::List(which) => return self.list(which, |_, item| item.size.to_string()).await,
            Command::Uidl(which) => return self.list(which, |drop, item| drop.unique_id(item)).await,
            Command::Dele(number) => match self.maildrop()?.delete(number) {
                Ok(()) => proto::ok(&mut self.out, "marked"),
                Err(NoSuchMessage) => self.no_such_message(),
            },
            Command::Rset => {
                self.maildrop()?.reset();
                proto::ok(&mut self.out, "nothing is marked now");
            }
            Command::Retr(number) => return self.retrieve(number, None).await,
            Command::Top { message, lines } => return self.retrieve(message, Some(lines)).await,
            _ => return self.wrong("not now"),
        }
        Ok(())
    }

    fn no_such_message(&mut self) {
        proto::err(&mut self.out, None, "no such message");
    }

    async fn list(&mut self, which: Option<u32>, show: fn(&Maildrop, &Item) -> String) -> Flow {
        // Taken out while it is read, as writing needs the rest of the session.
        let Some(drop) = self.drop.take() else { return Err(Stop::End(End::Garbage)) };
        let result = self.list_of(&drop, which, show).await;
        self.drop = Some(drop);
        result
    }

    async fn list_of(
        &mut self,
        drop: &Maildrop,
        which: Option<u32>,
        show: fn(&Maildrop, &Item) -> String,
    ) -> Flow {
        if let Some(number) = which {
            match drop.get(number) {
                Ok(item) => proto::ok(&mut self.out, &format!("{number} {}", show(drop, &item))),
                Err(NoSuchMessage) => self.no_such_message(),
            }
            return Ok(());
        }
        proto::ok(&mut self.out, "");
        for (number, item) in drop.live() {
            self.out.extend_from_slice(format!("{number} {}\r\n", show(drop, item)).as_bytes());
            self.flush_chunk().await?;
        }
        self.out.extend_from_slice(b".\r\n");
        Ok(())
    }

    /// A piece at a time: a client may take hours for a large message.
    async fn retrieve(&mut self, number: u32, lines: Option<u32>) -> Flow {
        let Ok(item) = self.maildrop()?.get(number) else {
            self.no_such_message();
            return Ok(());
        };
        let body = match self.context.store.read(move |view| view.stored_body(item.body)).await {
            Ok(body) => body,
            Err(ReadError::NotServing) => return Err(Stop::End(End::Fenced)),
            Err(ReadError::NotFound) => {
                proto::err(&mut self.out, None, "the message was removed by another session");
                return Ok(());
            }
            Err(error) => {
                tracing::error!(uid = item.uid, %error, "a message cannot be read");
                proto::err(&mut self.out, Some(Code::SysPerm), "the message cannot be read");
                return Ok(());
            }
        };
        match lines {
            None => proto::ok(&mut self.out, &format!("{} octets", body.size())),
            Some(_) => proto::ok(&mut self.out, "top of message follows"),
        }
        let mut top = lines.map(Top::new);
        let (mut stuffer, mut offset) = (DotStuffer::new(), 0);
        while !top.as_ref().is_some_and(Top::is_done) {
            let piece = self.piece(&body, offset).await?;
            if piece.is_empty() {
                break;
            }
            offset += u64::try_from(piece.len()).unwrap_or(u64::MAX);
            let text = top.as_mut().map_or(&piece[..], |top| top.take(&piece));
            for part in text.chunks(CHUNK) {
                stuffer.push(part, &mut self.out);
                self.flush_chunk().await?;
            }
        }
        stuffer.finish(&mut self.out);
        Ok(())
    }

    /// What cannot be read to its end must not look as if it ended there: the connection closes.
    async fn piece(&self, body: &StoredBody, offset: u64) -> Flow<Bytes> {
        let body = body.clone();
        let read = self.context.store.read(move |view| view.piece(&body, offset)).await;
        read.map_err(|error| {
            tracing::error!(%error, "a message cannot be read to its end");
            Stop::End(End::Fenced)
        })
    }

    /// The update state: all deletions in one record, acknowledged before they are told.
    async fn quit(&mut self) -> Flow {
        let Some(drop) = self.drop.take() else { return self.goodbye() };
        let uids = drop.deleted();
        if uids.is_empty() {
            return self.goodbye();
        }
        // Everything said before goes out first: nothing may stand between the acknowledgement and its reply.
        self.flush().await?;
        match self.context.store.expunge(drop.mailbox, Expunge::These(uids)).await {
            Ok(receipt) => match receipt.acknowledge() {
                Ok(_) => self.goodbye(),
                Err(_) => Err(Stop::End(End::Fenced)),
            },
            Err(WriteError::Refused(refusal)) => {
                proto::err(&mut self.out, Some(Code::SysTemp), &format!("nothing was removed: {refusal}"));
                Err(Stop::End(End::Quit))
            }
            Err(WriteError::NotServing) => {
                proto::err(&mut self.out, Some(Code::SysTemp), "nothing was removed: the store stops");
                Err(Stop::End(End::Shutdown))
            }
            // On disk or not: only a closed connection says neither.
            Err(WriteError::Unknown) => Err(Stop::End(End::Fenced)),
        }
    }

    fn goodbye(&mut self) -> Flow {
        proto::ok(&mut self.out, "bye");
        Err(Stop::End(End::Quit))
    }
}
