//! Wires between frontend and store that fail in a chosen way.

use std::time::Duration;

use mailcluster_types::BoxStream;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, DuplexStream};

/// Longer than it is looked whether a store is away.
const LATE: Duration = Duration::from_secs(2);

/// What happens on the way to a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// No connection.
    Away,
    /// The connection breaks while the message is sent.
    CutInBody,
    /// The store gets the whole message and takes it; its replies are lost.
    CutAfterDot,
    /// The store gets the whole message and takes it; nothing is heard of it again, nor is the connection closed.
    SilentAfterDot,
    /// The store gets the whole message and takes it; its replies come seconds later.
    LateAfterDot,
    /// What is for the queue is refused.
    NoQueue,
    /// What is for the queue is cut off at DATA.
    CutQueue,
}

fn is_lost_after_dot(fault: Fault) -> bool {
    matches!(fault, Fault::CutAfterDot | Fault::SilentAfterDot | Fault::LateAfterDot)
}

/// A connection with the fault on it.
pub fn faulty(server: DuplexStream, fault: Fault) -> BoxStream {
    let (near, far) = tokio::io::duplex(32 << 10);
    tokio::spawn(pump(far, server, fault));
    Box::new(near)
}

/// Passes lines on until the fault's moment; dropping both ends is the cut.
async fn pump(client: DuplexStream, server: DuplexStream, fault: Fault) {
    let (from_client, mut to_client) = tokio::io::split(client);
    let (mut from_server, mut to_server) = tokio::io::split(server);
    let (cut, mut swallowed) = tokio::sync::watch::channel(false);
    let up = async move {
        let mut lines = BufReader::new(from_client);
        let (mut line, mut in_data, mut queueing) = (Vec::new(), false, false);
        loop {
            line.clear();
            if lines.read_until(b'\n', &mut line).await.unwrap_or(0) == 0 {
                return;
            }
            if in_data && fault == Fault::CutInBody {
                return;
            }
            if in_data && is_lost_after_dot(fault) && line == b".\r\n" {
                let _ = cut.send(true);
            }
            in_data = if in_data { line != b".\r\n" } else { line == b"DATA\r\n" };
            let queued = [b"MCSTORE=".as_slice(), b"MCHOLD="];
            let for_queue = queued.iter().any(|word| line.windows(word.len()).any(|w| w == *word));
            queueing |= for_queue && !in_data;
            if fault == Fault::CutQueue && queueing && line == b"DATA\r\n" {
                return;
            }
            if fault == Fault::NoQueue && !in_data && for_queue {
                line = b"RCPT TO:<refused@example.org> MCACCT=none\r\n".to_vec();
            }
            if to_server.write_all(&line).await.is_err() {
                return;
            }
        }
    };
    let down = async move {
        let mut buffer = [0; 4096];
        loop {
            let read = from_server.read(&mut buffer).await.unwrap_or(0);
            let is_lost = *swallowed.borrow_and_update();
            if is_lost && fault == Fault::SilentAfterDot {
                return std::future::pending().await;
            }
            if is_lost && fault == Fault::LateAfterDot {
                tokio::time::sleep(LATE).await;
            } else if read == 0 || is_lost {
                return;
            }
            if to_client.write_all(&buffer[..read]).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = up => {}
        () = down => {}
    }
}
