//! The LMTP client: one connection, one transaction after another.

use std::{net::SocketAddr, time::Duration};

use bytes::BytesMut;
use mailcluster_proto_smtp::{Reply, Stuffer};
use mailcluster_types::{BoxStream, Epoch};
use tokio::time::Instant;

use crate::{Body, Envelope, Recipient, Wire, WireError, Wishes, envelope::Offers};

/// Commands sent ahead of their replies: few enough that the replies fit any peer's buffers.
const PIPELINED: usize = 50;

/// How long to wait for the peer.
#[derive(Debug, Clone, Copy)]
pub struct Timeouts {
    /// For the greeting and for each reply before the message.
    pub command: Duration,
    /// For the replies after the final dot.
    pub finish: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self { command: Duration::from_secs(10), finish: Duration::from_secs(60) }
    }
}

/// What a backend that refuses a connection knows of its store (design section 10a).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hint {
    /// The epoch it serves at or has heard of.
    pub epoch: Epoch,
    /// Where the store is served.
    pub endpoint: Option<SocketAddr>,
}

impl Hint {
    /// Reads `epoch=` and `endpoint=` from a refusal's text.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let value = |key: &str| text.split_whitespace().find_map(|w| w.strip_prefix(key));
        let epoch = value("epoch=")?.parse().ok()?;
        Some(Self { epoch, endpoint: value("endpoint=").and_then(|e| e.parse().ok()) })
    }
}

/// Why a transaction did not come to its replies.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The peer said no to the connection, the sender or the message as a whole. Nothing was taken.
    #[error("refused: {0}")]
    Refused(Reply),
    /// The connection failed before the final dot had been sent. Nothing was taken.
    #[error("connection lost before the end of the message")]
    Before(#[source] WireError),
    /// The connection failed after the final dot: whether the message was taken is unknown.
    #[error("connection lost after the end of the message")]
    After(#[source] WireError),
    /// The message could not be read from its spool, or the caller took back its leave to finish. Nothing was taken.
    #[error("message not finished")]
    Unfinished,
}

impl From<WireError> for ClientError {
    fn from(error: WireError) -> Self {
        Self::Before(error)
    }
}

/// A connection to an LMTP server that has greeted.
pub struct Client {
    wire: Wire,
    timeouts: Timeouts,
    accepted: usize,
    offers: Offers,
    /// Those of the open transaction; none where they are not taken.
    wishes: Wishes,
}

impl Client {
    /// Reads the greeting and says LHLO.
    ///
    /// # Errors
    /// [`ClientError::Refused`] with the greeting, which may carry a [`Hint`]; [`ClientError::Before`].
    pub async fn greet(stream: BoxStream, hostname: &str, timeouts: Timeouts) -> Result<Self, ClientError> {
        let (wire, wishes) = (Wire::new(stream, 4096), Wishes::default());
        let mut client = Self { wire, timeouts, accepted: 0, offers: Offers::default(), wishes };
        client.expect().await?;
        client.wire.output().extend_from_slice(format!("LHLO {hostname}\r\n").as_bytes());
        client.offers = Offers::read(&client.expect().await?);
        Ok(client)
    }

    /// Starts a transaction: MAIL and the first RCPTs in one flight. Answers a reply per recipient.
    ///
    /// # Errors
    /// [`ClientError::Refused`] when MAIL was refused; the transaction is then not open.
    pub async fn begin(
        &mut self,
        envelope: &Envelope,
        recipients: &[Recipient],
    ) -> Result<Vec<Reply>, ClientError> {
        self.accepted = 0;
        self.wishes = if self.offers.dsn { envelope.wishes.clone() } else { Wishes::default() };
        self.wire.output().extend_from_slice(envelope.mail_line(self.offers).as_bytes());
        let (first, others) = recipients.split_at(recipients.len().min(PIPELINED));
        self.send_recipients(first);
        let mail = self.read().await?;
        if mail.code == 421 {
            return Err(ClientError::Refused(mail));
        }
        let mut replies = self.read_recipients(first.len()).await?;
        if !mail.is_positive() {
            return Err(ClientError::Refused(mail));
        }
        replies.extend(self.recipients(others).await?);
        Ok(replies)
    }

    /// Adds recipients to the open transaction.
    ///
    /// # Errors
    /// When the connection is lost.
    pub async fn recipients(&mut self, recipients: &[Recipient]) -> Result<Vec<Reply>, ClientError> {
        let mut replies = Vec::with_capacity(recipients.len());
        for group in recipients.chunks(PIPELINED) {
            self.send_recipients(group);
            replies.extend(self.read_recipients(group.len()).await?);
        }
        Ok(replies)
    }

    /// How many recipients the open transaction has.
    #[must_use]
    pub fn accepted(&self) -> usize {
        self.accepted
    }

    /// Sends the message and answers one reply per accepted recipient, in their order. `leave` is asked right before
    /// the final dot; when it says no, nothing is taken and the connection is of no more use.
    ///
    /// # Errors
    /// Only [`ClientError::After`] leaves it open whether the message was taken.
    pub async fn data(
        &mut self,
        body: &dyn Body,
        leave: impl FnOnce() -> bool + Send,
    ) -> Result<Vec<Reply>, ClientError> {
        self.wire.output().extend_from_slice(b"DATA\r\n");
        let go = self.read().await?;
        if go.code != 354 {
            return Err(ClientError::Refused(go));
        }
        let stuffer = self.send_body(body).await?;
        if !leave() {
            return Err(ClientError::Unfinished);
        }
        stuffer.end(self.wire.output());
        self.wire.flush().await.map_err(ClientError::After)?;
        let deadline = Instant::now() + self.timeouts.finish;
        let mut replies = Vec::with_capacity(self.accepted);
        for _ in 0..std::mem::take(&mut self.accepted) {
            replies.push(self.wire.reply(deadline).await.map_err(ClientError::After)?);
        }
        Ok(replies)
    }

    /// Gives up the open transaction, keeps the connection.
    ///
    /// # Errors
    /// When the connection is lost.
    pub async fn reset(&mut self) -> Result<(), ClientError> {
        self.accepted = 0;
        self.wire.output().extend_from_slice(b"RSET\r\n");
        self.expect().await.map(|_| ())
    }

    /// Says QUIT and closes, without waiting for the answer.
    pub async fn quit(mut self) {
        self.wire.output().extend_from_slice(b"QUIT\r\n");
        self.wire.close().await;
    }

    async fn send_body(&mut self, body: &dyn Body) -> Result<Stuffer, ClientError> {
        let mut stuffer = Stuffer::new();
        let mut offset = 0;
        loop {
            let piece = body.piece(offset).await.map_err(|_| ClientError::Unfinished)?;
            if piece.is_empty() {
                return Ok(stuffer);
            }
            offset += u64::try_from(piece.len()).unwrap_or(u64::MAX);
            let output: &mut BytesMut = self.wire.output();
            output.reserve(piece.len() + 64);
            stuffer.push(&piece, output);
            // A body of one piece leaves together with its final dot.
            if output.len() > crate::PIECE || offset < body.size() {
                self.wire.flush().await?;
            }
        }
    }

    fn send_recipients(&mut self, recipients: &[Recipient]) {
        for recipient in recipients {
            self.wire.output().extend_from_slice(recipient.rcpt_line(&self.wishes).as_bytes());
        }
    }

    async fn read_recipients(&mut self, count: usize) -> Result<Vec<Reply>, ClientError> {
        let mut replies = Vec::with_capacity(count);
        for _ in 0..count {
            let reply = self.read().await?;
            self.accepted += usize::from(reply.is_positive());
            replies.push(reply);
        }
        Ok(replies)
    }

    async fn read(&mut self) -> Result<Reply, WireError> {
        self.wire.reply(Instant::now() + self.timeouts.command).await
    }

    async fn expect(&mut self) -> Result<Reply, ClientError> {
        let reply = self.read().await?;
        if reply.is_positive() { Ok(reply) } else { Err(ClientError::Refused(reply)) }
    }
}

#[cfg(test)]
mod tests {
    use mailcluster_types::DeliveryId;
    use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};

    use super::*;
    use crate::Checked;

    /// The MAIL line that a server gets which offers this.
    async fn mail_to(offers: &'static str) -> String {
        let (near, far) = tokio::io::duplex(64 << 10);
        let server = tokio::spawn(async move {
            let mut wire = BufReader::new(far);
            let mut line = String::new();
            wire.write_all(b"220 ready\r\n").await.unwrap();
            wire.read_line(&mut line).await.unwrap();
            wire.write_all(format!("250-host\r\n{offers}250 SIZE 9\r\n").as_bytes()).await.unwrap();
            line.clear();
            wire.read_line(&mut line).await.unwrap();
            wire.write_all(b"250 ok\r\n").await.unwrap();
            line
        });
        let mut client = Client::greet(Box::new(near), "peer", Timeouts::default()).await.unwrap();
        let envelope = Envelope {
            delivery: DeliveryId(7),
            sender: "ann@example.org".into(),
            size: 3,
            utf8: false,
            wishes: Wishes::default(),
            checked: Checked { junk: true, met: "spf:fail".into() },
        };
        client.begin(&envelope, &[]).await.unwrap();
        server.await.unwrap()
    }

    #[tokio::test]
    async fn a_store_of_an_older_version_is_told_nothing_of_checks() {
        let old = mail_to("250-DSN\r\n").await;
        assert!(old.starts_with("MAIL FROM:<ann@example.org> ") && !old.contains(" MCMET"), "{old}");
        assert!(!old.contains(" MCJUNK"), "{old}");
        let new = mail_to("250-DSN\r\n250-MCMET\r\n").await;
        assert!(new.ends_with(" MCJUNK=1 MCMET=spf:fail\r\n"), "{new}");
    }

    #[test]
    fn refusals_tell_where_the_store_is() {
        let hint = Hint::parse("4.3.2 not served here epoch=7 endpoint=10.0.0.3:11024").unwrap();
        assert_eq!((hint.epoch, hint.endpoint), (7, "10.0.0.3:11024".parse().ok()));
        assert_eq!(Hint::parse("x epoch=9").unwrap().endpoint, None);
        assert_eq!(Hint::parse("4.3.2 shutting down"), None);
    }
}
