//! Joins two streams and moves octets both ways.
//!
//! An idle pair holds no buffer: octets are read into scratch space on the stack, and only what the other side does
//! not take at once is kept. Twenty thousand idle IMAP sessions cost their TLS state and little more.

use std::{
    future::{Future, poll_fn},
    io,
    mem::MaybeUninit,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Buf, BytesMut};
use mailcluster_types::BoxStream;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep},
};
use tokio_util::sync::CancellationToken;

/// Octets moved at a time: a TLS record's worth.
const SCRATCH: usize = 16 * 1024;
/// How many rounds one direction may run before others get their turn.
const ROUNDS: usize = 16;
/// Asked to stop, a pair ends after this much silence, or this much time.
const STOP_QUIET: Duration = Duration::from_millis(500);
const STOP_LIMIT: Duration = Duration::from_secs(10);

/// Bounds of a joined pair.
#[derive(Debug, Clone, Copy)]
pub struct SpliceLimits {
    /// Without an octet in either direction for this long, the pair is ended.
    pub idle: Duration,
    /// The same once one side has said that it sends no more.
    pub half_closed: Duration,
}

/// Why a joined pair ended.
#[derive(Debug)]
pub enum SpliceEnd {
    /// Both sides said that they send no more.
    Closed,
    /// Nothing came for too long.
    Idle {
        /// The second stream's last octet for the first was LF (or there was none) and nothing was waiting to be
        /// written, so that a line of our own can follow.
        at_line_end: bool,
    },
    /// Asked to stop.
    Stopped {
        /// As above.
        at_line_end: bool,
    },
    /// One side failed.
    Failed(io::Error),
}

/// One direction.
#[derive(Default)]
struct Half {
    pending: BytesMut,
    read_closed: bool,
    shut: bool,
    unflushed: bool,
    octets: u64,
    last: Option<u8>,
}

impl Half {
    /// Moves what can be moved; ready when this direction is over. Adds to `moved`.
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut BoxStream,
        to: &mut BoxStream,
        moved: &mut bool,
    ) -> Poll<io::Result<()>> {
        for _ in 0..ROUNDS {
            while !self.pending.is_empty() {
                match Pin::new(&mut *to).poll_write(cx, &self.pending) {
                    Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                    Poll::Ready(Ok(n)) => {
                        self.pending.advance(n);
                        self.unflushed = true;
                        *moved = true;
                    }
                    Poll::Ready(Err(e)) => return Poll::Ready(Err(e)),
                    Poll::Pending => return Poll::Pending,
                }
            }
            self.pending = BytesMut::new();
            if self.read_closed {
                return self.poll_shut(cx, to);
            }
            let mut scratch = [const { MaybeUninit::uninit() }; SCRATCH];
            let mut buf = ReadBuf::uninit(&mut scratch);
            match Pin::new(&mut *from).poll_read(cx, &mut buf) {
                Poll::Ready(Err(e)) => return Poll::Ready(Err(e)),
                Poll::Ready(Ok(())) if buf.filled().is_empty() => self.read_closed = true,
                Poll::Ready(Ok(())) => {
                    *moved = true;
                    let octets = buf.filled();
                    self.octets += octets.len() as u64;
                    self.last = octets.last().copied();
                    self.write_or_keep(cx, to, octets)?;
                }
                Poll::Pending => {
                    if self.unflushed {
                        match Pin::new(&mut *to).poll_flush(cx) {
                            Poll::Ready(result) => result?,
                            Poll::Pending => return Poll::Pending,
                        }
                        self.unflushed = false;
                    }
                    return Poll::Pending;
                }
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn write_or_keep(
        &mut self,
        cx: &mut Context<'_>,
        to: &mut BoxStream,
        mut octets: &[u8],
    ) -> io::Result<()> {
        while !octets.is_empty() {
            match Pin::new(&mut *to).poll_write(cx, octets) {
                Poll::Ready(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(Ok(n)) => {
                    octets = &octets[n..];
                    self.unflushed = true;
                }
                Poll::Ready(Err(e)) => return Err(e),
                Poll::Pending => {
                    self.pending.extend_from_slice(octets);
                    break;
                }
            }
        }
        Ok(())
    }

    fn poll_shut(&mut self, cx: &mut Context<'_>, to: &mut BoxStream) -> Poll<io::Result<()>> {
        if !self.shut {
            match Pin::new(to).poll_shutdown(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(e)) if e.kind() != io::ErrorKind::NotConnected => return Poll::Ready(Err(e)),
                Poll::Ready(_) => self.shut = true,
            }
        }
        Poll::Ready(Ok(()))
    }
}

/// Moves octets between `a` and `b` until both have ended, a limit is reached or `stop` is cancelled. Then it waits
/// for half a second of silence, as commands under way should end, at most 10 s. Answers why it ended, and how many
/// octets went from `a` to `b` and from `b` to `a`.
pub async fn splice(
    a: &mut BoxStream,
    b: &mut BoxStream,
    limits: SpliceLimits,
    stop: &CancellationToken,
) -> (SpliceEnd, u64, u64) {
    let (mut up, mut down) = (Half::default(), Half::default());
    let end = {
        let (mut last_move, mut stopped_at) = (Instant::now(), None);
        let mut timer = std::pin::pin!(tokio::time::sleep(limits.idle));
        let mut stopped = std::pin::pin!(stop.cancelled());
        let both = poll_fn(|cx| {
            let mut moved = false;
            let up_done = up.poll(cx, a, b, &mut moved)?.is_ready();
            let down_done = down.poll(cx, b, a, &mut moved)?.is_ready();
            if moved {
                last_move = Instant::now();
            }
            if up_done && down_done {
                return Poll::Ready(Ok(SpliceEnd::Closed));
            }
            if stopped_at.is_none() && stopped.as_mut().poll(cx).is_ready() {
                stopped_at = Some(Instant::now());
            }
            let limit = if up.read_closed || down.read_closed { limits.half_closed } else { limits.idle };
            let until = match stopped_at {
                Some(at) => (last_move.max(at) + STOP_QUIET).min(at + STOP_LIMIT),
                None => last_move + limit,
            };
            std::task::ready!(poll_idle(cx, timer.as_mut(), until));
            let at_line_end = down.pending.is_empty() && matches!(down.last, None | Some(b'\n'));
            Poll::Ready(Ok(match stopped_at {
                Some(_) => SpliceEnd::Stopped { at_line_end },
                None => SpliceEnd::Idle { at_line_end },
            }))
        });
        both.await.unwrap_or_else(SpliceEnd::Failed)
    };
    (end, up.octets, down.octets)
}

/// Ready once `until` has passed. The timer is only moved when it fires early, not on every octet.
fn poll_idle(cx: &mut Context<'_>, mut timer: Pin<&mut Sleep>, until: Instant) -> Poll<()> {
    loop {
        if until < timer.deadline() {
            timer.as_mut().reset(until);
        }
        std::task::ready!(timer.as_mut().poll(cx));
        if Instant::now() >= until {
            return Poll::Ready(());
        }
        timer.as_mut().reset(until);
    }
}

#[cfg(test)]
mod tests;
