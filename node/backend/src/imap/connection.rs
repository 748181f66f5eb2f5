//! The connection: octets in and out, with time limits and flow control.

use std::{future, time::Duration};

use bytes::Bytes;
use mailcluster_proto_imap::{Decoder, Event};
use mailcluster_store::Store;
use mailcluster_types::{BoxStream, ModSeq};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::watch,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::reply::End;

/// Octets read at once; small, since most sessions sit idle with this buffer.
const READ: usize = 4 << 10;
/// Octets read at once while a message comes in.
const READ_MESSAGE: usize = 64 << 10;
/// Octets collected before they are written.
const HIGH_WATER: usize = 32 << 10;
/// Largest output buffer that is kept: most sessions sit idle with it.
const KEPT: usize = 4 << 10;
/// A client that takes nothing for so long is gone.
const WRITE_LIMIT: Duration = Duration::from_secs(120);
/// Time to take the rest of an answer when this node stops.
const STOP_GRACE: Duration = Duration::from_secs(3);

/// What woke the session.
pub(super) enum Incoming {
    /// The client sent something.
    Event(Event),
    /// The watched mailbox changed.
    Changed,
}

/// The client's end of a session.
pub(super) struct Connection {
    stream: BoxStream,
    pub decoder: Decoder,
    out: Vec<u8>,
    input: Vec<u8>,
    shutdown: CancellationToken,
    store: Store,
}

impl Connection {
    pub fn new(stream: BoxStream, decoder: Decoder, shutdown: CancellationToken, store: Store) -> Self {
        Self { stream, decoder, out: Vec::new(), input: vec![0; READ], shutdown, store }
    }

    /// The output buffer.
    pub fn out(&mut self) -> &mut Vec<u8> {
        &mut self.out
    }

    /// Adds to the output.
    pub fn put(&mut self, octets: &[u8]) {
        self.out.extend_from_slice(octets);
    }

    /// Reads larger pieces while a message comes in.
    pub fn expect_message(&mut self, coming: bool) {
        self.input = vec![0; if coming { READ_MESSAGE } else { READ }];
    }

    /// The next event, or a change of the watched mailbox; everything written so far goes out first.
    pub async fn next(
        &mut self,
        idle: Duration,
        mut watched: Option<&mut watch::Receiver<ModSeq>>,
    ) -> Result<Incoming, End> {
        let deadline = Instant::now() + idle;
        loop {
            match self.decoder.next_event() {
                Some(Event::Fatal(text)) => {
                    self.put(format!("* BYE {text}\r\n").as_bytes());
                    return Err(End::Bye);
                }
                Some(event) => return Ok(Incoming::Event(event)),
                None => {}
            }
            self.flush().await?;
            if self.shutdown.is_cancelled() {
                return Err(End::Shutdown);
            }
            let read = tokio::select! {
                // A store that is stopped on purpose says so first: then there is a farewell.
                biased;
                () = self.shutdown.cancelled() => return Err(End::Shutdown),
                read = self.stream.read(&mut self.input) => read?,
                () = changed(&mut watched) => return Ok(Incoming::Changed),
                () = self.store.stopped() => return Err(End::Silent("the store stopped".to_owned())),
                () = tokio::time::sleep_until(deadline) => return Err(End::Idle),
            };
            match self.input.get(..read) {
                Some([]) | None => return Err(End::Closed),
                Some(octets) => self.decoder.feed(octets),
            }
        }
    }

    /// The next event.
    pub async fn event(&mut self, idle: Duration) -> Result<Event, End> {
        loop {
            if let Incoming::Event(event) = self.next(idle, None).await? {
                return Ok(event);
            }
        }
    }

    /// Writes what was collected if it is much.
    pub async fn relieve(&mut self) -> Result<(), End> {
        if self.out.len() >= HIGH_WATER { self.flush().await } else { Ok(()) }
    }

    /// Writes what was collected.
    pub async fn flush(&mut self) -> Result<(), End> {
        if self.out.is_empty() {
            return Ok(());
        }
        let out = std::mem::take(&mut self.out);
        self.write(&out).await?;
        self.stream.flush().await?;
        if out.capacity() <= KEPT {
            self.out = out;
            self.out.clear();
        }
        Ok(())
    }

    /// Writes what was collected, then these pieces, without copying the large ones.
    pub async fn write_pieces(&mut self, pieces: &[Bytes]) -> Result<(), End> {
        for piece in pieces {
            if piece.len() < HIGH_WATER / 2 {
                self.put(piece);
                self.relieve().await?;
            } else {
                let out = std::mem::take(&mut self.out);
                self.write(&out).await?;
                self.write(piece).await?;
            }
        }
        Ok(())
    }

    async fn write(&mut self, octets: &[u8]) -> Result<(), End> {
        for part in octets.chunks(2 * HIGH_WATER) {
            let (shutdown, store) = (&self.shutdown, &self.store);
            let stopped = async {
                tokio::select! {
                    () = shutdown.cancelled() => {}
                    () = store.stopped() => {}
                }
                sleep(STOP_GRACE).await;
            };
            tokio::select! {
                written = timeout(WRITE_LIMIT, self.stream.write_all(part)) => match written {
                    Ok(written) => written?,
                    Err(_) => return Err(End::Silent("the client takes nothing".to_owned())),
                },
                () = stopped => return Err(End::Silent("stopped while writing".to_owned())),
            }
        }
        Ok(())
    }

    /// Says goodbye if it still can, and closes.
    pub async fn close(mut self, end: &End) {
        if let End::Silent(_) | End::Lost(_) = end {
            return;
        }
        if let Some(text) = end.bye() {
            self.put(format!("* BYE {text}\r\n").as_bytes());
        }
        let _ = timeout(STOP_GRACE, async {
            let _ = self.flush().await;
            let _ = self.stream.shutdown().await;
        })
        .await;
    }
}

/// Resolves when the mailbox has changed; never when none is watched, or when its store is gone (which is noticed
/// elsewhere).
async fn changed(watched: &mut Option<&mut watch::Receiver<ModSeq>>) {
    match watched {
        Some(receiver) => {
            if receiver.changed().await.is_err() {
                future::pending().await
            }
        }
        None => future::pending().await,
    }
}
