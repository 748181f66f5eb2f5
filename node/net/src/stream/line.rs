//! Lines of bounded length off a byte stream.

use std::{future::poll_fn, io, mem::MaybeUninit, pin::Pin, task::Poll};

use bytes::{Bytes, BytesMut};
use mailcluster_types::BoxStream;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, ReadBuf};

/// How much is read at a time, in octets: idle connections before login are many, so this is small.
const STEP: usize = 1024;

/// Why there is no line.
#[derive(Debug, thiserror::Error)]
pub enum LineError {
    /// The peer closed the connection (in the middle of a line or not).
    #[error("connection closed")]
    Closed,
    /// The line is longer than it may be. What comes next is unknown: end the connection.
    #[error("line too long")]
    TooLong,
    /// A CR or LF that is not part of CRLF, or a NUL. Where the next line starts is a matter of opinion: end the
    /// connection.
    #[error("bare CR, bare LF or NUL in a line")]
    BareControl,
    /// Reading failed.
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// Reads once and hands what came to `sink`. Answers how much it was; 0: the peer has ended. The octets pass through
/// scratch space on the stack, so that waiting costs no buffer.
///
/// # Errors
/// When reading fails.
pub async fn read_into(stream: &mut BoxStream, mut sink: impl FnMut(&[u8])) -> io::Result<usize> {
    poll_fn(|cx| {
        let mut scratch = [const { MaybeUninit::uninit() }; 4 * STEP];
        let mut buf = ReadBuf::uninit(&mut scratch);
        std::task::ready!(Pin::new(&mut *stream).poll_read(cx, &mut buf))?;
        sink(buf.filled());
        Poll::Ready(Ok(buf.filled().len()))
    })
    .await
}

/// A stream read by lines and counted octets. What was read ahead can be seen, thrown away or passed on. Reads can
/// be cancelled (a timeout) and begun again without loss.
pub struct LineStream {
    inner: BoxStream,
    buffer: BytesMut,
    /// Up to here the buffer was searched for LF.
    searched: usize,
}

impl LineStream {
    /// Wraps a stream.
    #[must_use]
    pub fn new(inner: BoxStream) -> Self {
        Self { inner, buffer: BytesMut::new(), searched: 0 }
    }

    /// The next line without its CRLF, which counts against `max` (octets).
    ///
    /// # Errors
    /// As [`LineError`] says.
    pub async fn read_line(&mut self, max: usize) -> Result<BytesMut, LineError> {
        loop {
            if let Some(at) = memchr::memchr(b'\n', &self.buffer[self.searched..]) {
                let end = self.searched + at + 1;
                self.searched = 0;
                if end > max {
                    return Err(LineError::TooLong);
                }
                let mut line = self.buffer.split_to(end);
                if !line.ends_with(b"\r\n") {
                    return Err(LineError::BareControl);
                }
                line.truncate(end - 2);
                if memchr::memchr2(b'\r', 0, &line).is_some() {
                    return Err(LineError::BareControl);
                }
                return Ok(line);
            }
            self.searched = self.buffer.len();
            if self.buffer.len() >= max {
                return Err(LineError::TooLong);
            }
            self.fill().await?;
        }
    }

    /// Exactly `len` octets. The caller has bounded `len`.
    ///
    /// # Errors
    /// As [`LineError`] says.
    pub async fn read_exact(&mut self, len: usize) -> Result<BytesMut, LineError> {
        while self.buffer.len() < len {
            self.fill().await?;
        }
        self.searched = 0;
        Ok(self.buffer.split_to(len))
    }

    async fn fill(&mut self) -> Result<(), LineError> {
        if self.buffer.capacity() - self.buffer.len() < STEP / 4 {
            self.buffer.reserve(STEP);
        }
        match self.inner.read_buf(&mut self.buffer).await? {
            0 => Err(LineError::Closed),
            _ => Ok(()),
        }
    }

    /// Is a whole line read ahead already?
    #[must_use]
    pub fn has_line(&self) -> bool {
        memchr::memchr(b'\n', &self.buffer).is_some()
    }

    /// Is nothing read ahead?
    #[must_use]
    pub fn is_drained(&self) -> bool {
        self.buffer.is_empty()
    }

    /// Throws away what was read ahead (before a TLS handshake) and says how much it was.
    pub fn discard(&mut self) -> usize {
        let thrown = self.buffer.len();
        self.buffer = BytesMut::new();
        self.searched = 0;
        thrown
    }

    /// Writes and flushes.
    ///
    /// # Errors
    /// When the connection is gone.
    pub async fn send(&mut self, octets: &[u8]) -> io::Result<()> {
        self.inner.write_all(octets).await?;
        self.inner.flush().await
    }

    /// Writes without flushing.
    ///
    /// # Errors
    /// When the connection is gone.
    pub async fn write(&mut self, octets: &[u8]) -> io::Result<()> {
        self.inner.write_all(octets).await
    }

    /// Flushes.
    ///
    /// # Errors
    /// When the connection is gone.
    pub async fn flush(&mut self) -> io::Result<()> {
        self.inner.flush().await
    }

    /// Ends the writing side; for TLS this tells the peer that nothing was cut off.
    ///
    /// # Errors
    /// When the connection is gone.
    pub async fn shutdown(&mut self) -> io::Result<()> {
        self.inner.shutdown().await
    }

    /// The stream and what was read ahead of it.
    #[must_use]
    pub fn into_parts(self) -> (BoxStream, Bytes) {
        (self.inner, self.buffer.freeze())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(input: &[u8]) -> LineStream {
        LineStream::new(Box::new(tokio_test_input(input)))
    }

    fn tokio_test_input(input: &[u8]) -> impl mailcluster_types::IoStream + 'static {
        tokio::io::join(io::Cursor::new(input.to_vec()), tokio::io::sink())
    }

    #[tokio::test]
    async fn lines_and_octets() {
        let mut stream = pair(b"a b\r\n{3}\r\nx\ny\r\nrest");
        assert_eq!(&stream.read_line(64).await.unwrap()[..], b"a b");
        assert_eq!(&stream.read_line(64).await.unwrap()[..], b"{3}");
        assert_eq!(&stream.read_exact(3).await.unwrap()[..], b"x\ny");
        assert_eq!(&stream.read_line(64).await.unwrap()[..], b"");
        assert!(!stream.is_drained());
        assert!(matches!(stream.read_line(64).await, Err(LineError::Closed)));
        assert_eq!(stream.discard(), 4);
    }

    #[tokio::test]
    async fn what_is_no_line() {
        for bad in [&b"a\nb\r\n"[..], b"a\rb\r\n", b"\r\r\n", b"a\0\r\n", b"\n"] {
            assert!(matches!(pair(bad).read_line(64).await, Err(LineError::BareControl)), "{bad:?}");
        }
        assert!(matches!(pair(&[b'x'; 100]).read_line(64).await, Err(LineError::TooLong)));
        assert!(matches!(pair(b"12345678\r\n").read_line(9).await, Err(LineError::TooLong)));
        assert!(pair(b"12345678\r\n").read_line(10).await.is_ok());
    }
}
