//! Lines and replies over a byte stream, with bounds and deadlines.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use mailcluster_proto_smtp::{LineDecoder, LineFault, Reply, ReplyParser};
use mailcluster_types::BoxStream;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::{Instant, timeout_at},
};

/// Replies are held back, to leave in one piece, until there are this many octets of them.
const OUTPUT_SOFT_LIMIT: usize = 8 << 10;
/// A peer that takes no reply for so long is given up.
const WRITE_TIMEOUT: Duration = Duration::from_secs(60);
/// Least room made before a read for commands.
const READ_ROOM: usize = 4 << 10;

/// Why nothing more comes from the peer.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// It closed the connection.
    #[error("the peer closed the connection")]
    Closed,
    /// The deadline passed.
    #[error("timed out")]
    Timeout,
    /// The stream failed.
    #[error("failed to read or write")]
    Io(#[from] std::io::Error),
    /// It sent something that is not a reply.
    #[error(transparent)]
    Reply(#[from] mailcluster_proto_smtp::ReplyFault),
}

/// A stream with what was read ahead and what is still to be written.
pub struct Wire {
    stream: BoxStream,
    input: BytesMut,
    output: BytesMut,
    lines: LineDecoder,
    replies: ReplyParser,
}

impl Wire {
    /// Wraps a stream; command lines may have `max_line` octets.
    #[must_use]
    pub fn new(stream: BoxStream, max_line: usize) -> Self {
        Self {
            stream,
            input: BytesMut::new(),
            output: BytesMut::new(),
            lines: LineDecoder::new(max_line),
            replies: ReplyParser::new(),
        }
    }

    /// Changes the limit of the lines that follow.
    pub fn set_max_line(&mut self, max: usize) {
        self.lines.set_max(max);
    }

    /// The next line, or what is wrong with it. What waits to be written goes out before it waits for input. May be
    /// cancelled and called again.
    ///
    /// # Errors
    /// When no whole line came by the deadline, or the peer is gone.
    pub async fn line(&mut self, deadline: Instant) -> Result<Result<Bytes, LineFault>, WireError> {
        loop {
            if let Some(line) = self.lines.next(&mut self.input) {
                return Ok(line);
            }
            self.fill(deadline, READ_ROOM).await?;
        }
    }

    /// The next reply.
    ///
    /// # Errors
    /// As [`Self::line`]; also when it is not a reply.
    pub async fn reply(&mut self, deadline: Instant) -> Result<Reply, WireError> {
        loop {
            if let Some(reply) = self.replies.next(&mut self.input)? {
                return Ok(reply);
            }
            self.fill(deadline, READ_ROOM).await?;
        }
    }

    /// Reads what there is, at least one octet, into the input, with room for at least `room` more.
    ///
    /// # Errors
    /// At the end of the stream, at the deadline and on failures.
    pub async fn fill(&mut self, deadline: Instant, room: usize) -> Result<usize, WireError> {
        self.flush().await?;
        self.input.reserve(room);
        let read = timeout_at(deadline, self.stream.read_buf(&mut self.input));
        match read.await.map_err(|_| WireError::Timeout)?? {
            0 => Err(WireError::Closed),
            octets => Ok(octets),
        }
    }

    /// What was read and not yet used.
    pub fn input(&mut self) -> &mut BytesMut {
        &mut self.input
    }

    /// What is to be written next.
    pub fn output(&mut self) -> &mut BytesMut {
        &mut self.output
    }

    /// Queues a reply; it leaves before the next read, or at once when there is much of it.
    ///
    /// # Errors
    /// When it had to be written and could not.
    pub async fn answer(&mut self, reply: &Reply) -> Result<(), WireError> {
        reply.write(&mut self.output);
        if self.output.len() > OUTPUT_SOFT_LIMIT { self.flush().await } else { Ok(()) }
    }

    /// Writes what waits.
    ///
    /// # Errors
    /// When the peer does not take it.
    pub async fn flush(&mut self) -> Result<(), WireError> {
        if self.output.is_empty() {
            return Ok(());
        }
        let stream = &mut self.stream;
        let output = &mut self.output;
        let write = async {
            stream.write_all_buf(output).await?;
            stream.flush().await
        };
        tokio::time::timeout(WRITE_TIMEOUT, write).await.map_err(|_| WireError::Timeout)??;
        Ok(())
    }

    /// Ends the stream after what waits was written, as far as the peer takes it.
    pub async fn close(mut self) {
        if self.flush().await.is_ok() {
            let _ = tokio::time::timeout(Duration::from_secs(5), self.stream.shutdown()).await;
        }
    }

    /// The bare stream, for a TLS handshake. Everything that was read ahead is thrown away: it came in clear, and
    /// must not be taken for something said under TLS.
    ///
    /// # Errors
    /// When the reply that leads to the handshake could not be written.
    pub async fn into_stream(mut self) -> Result<BoxStream, WireError> {
        self.flush().await?;
        Ok(self.stream)
    }
}
