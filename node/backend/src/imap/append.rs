//! APPEND (RFC 3501 section 6.3.11, APPENDUID of RFC 4315): the message is taken as it comes, up to a limit that is
//! checked before the client sends it.

use std::time::{SystemTime, UNIX_EPOCH};

use bytes::{Bytes, BytesMut};
use mailcluster_proto_imap::{AppendStart, Event, command::AppendHead};
use mailcluster_store::{Append, Flags};

use super::{
    budget::{self, Room},
    flags,
    reply::{Done, End, Fail, News, Outcome, into_target},
    session::Session,
};

impl Session {
    pub(super) async fn append(&mut self, start: AppendStart) -> Result<(), End> {
        let AppendStart { head, size, synchronizing } = start;
        let (mailbox, flags, _room) = match self.append_target(&head, size).await {
            Ok(target) => target,
            Err(fail) => {
                self.connection.decoder.refuse_append();
                return self.finish(&head.tag, Err(fail)).await;
            }
        };
        self.connection.decoder.accept_append();
        if synchronizing {
            self.connection.put(b"+ Ready for the message\r\n");
        }
        self.connection.expect_message(true);
        let body = self.append_body().await;
        self.connection.expect_message(false);
        let outcome = match body? {
            Ok(body) => self.append_message(mailbox, flags, head.date, body).await,
            Err(fail) => Err(fail),
        };
        self.finish(&head.tag, outcome).await
    }

    /// All that can be refused before the message is sent.
    async fn append_target(&mut self, head: &AppendHead, size: u64) -> Result<(u64, Flags, Room), Fail> {
        self.account()?;
        let limit = self.context.limits.max_message;
        if size > limit {
            return Err(Fail::no("TOOBIG", format!("a message has at most {limit} octets")));
        }
        let flags = flags::for_store(&head.flags)?;
        let Some(mailbox) = self.find(&head.mailbox).await? else {
            return Err(Fail::no("TRYCREATE", "no such mailbox; create it first"));
        };
        Ok((mailbox.id, flags, budget::coming(size).await?))
    }

    /// The message, or why the command is wrong. An end of the connection is the outer error.
    async fn append_body(&mut self) -> Result<Result<Bytes, Fail>, End> {
        let mut body = BytesMut::new();
        loop {
            match self.connection.event(self.idle_limit()).await? {
                Event::AppendData(chunk) => body.extend_from_slice(&chunk),
                Event::AppendEnd => break,
                Event::Invalid { error, .. } => return Ok(Err(Fail::bad(error))),
                Event::Command(_) | Event::Continue | Event::Append(_) | Event::Line(_) | Event::Fatal(_) => {
                }
            }
        }
        if body.contains(&0) {
            return Ok(Err(Fail::bad("a message may not contain NUL (RFC 3501 section 4.3)")));
        }
        Ok(Ok(body.freeze()))
    }

    async fn append_message(
        &mut self,
        mailbox: u64,
        flags: Flags,
        date: Option<(i64, i16)>,
        body: Bytes,
    ) -> Outcome {
        let (internal_date, zone_minutes) = date.unwrap_or_else(|| (now(), 0));
        let append = Append { mailbox, flags, internal_date, zone_minutes, body };
        let receipt = self.context.store.append(append).await.map_err(into_target)?;
        let pending = self.poll_after_change().await?;
        let appended = receipt.acknowledge()?;
        self.tell(pending, News::All);
        let code = format!("APPENDUID {} {}", appended.uid_validity, appended.uid);
        Ok(Done::new("appended").code(code).news(News::None))
    }
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}
