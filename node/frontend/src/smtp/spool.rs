//! Where a message waits between its coming in and its 250: memory, then an unlinked temporary file.

use std::{
    fs::File,
    io,
    os::unix::fs::FileExt,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use mailcluster_lmtp::{Body, PIECE};
use tokio::io::AsyncWriteExt;

/// Memory that all spools of the process may hold together, in octets; beyond it messages go to files at once.
const MEMORY_BUDGET: usize = 48 << 20;

static IN_MEMORY: AtomicUsize = AtomicUsize::new(0);

/// A share of [`MEMORY_BUDGET`]; given back when dropped.
#[derive(Debug, Default)]
struct Share(usize);

impl Share {
    fn grow(&mut self, octets: usize) -> bool {
        if IN_MEMORY.fetch_add(octets, Ordering::Relaxed) + octets > MEMORY_BUDGET {
            IN_MEMORY.fetch_sub(octets, Ordering::Relaxed);
            return false;
        }
        self.0 += octets;
        true
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        IN_MEMORY.fetch_sub(self.0, Ordering::Relaxed);
    }
}

/// A message's body while it comes in.
pub(super) struct Spool {
    memory: BytesMut,
    share: Share,
    file: Option<tokio::fs::File>,
    in_file: u64,
    limit: usize,
    dir: PathBuf,
}

impl Spool {
    /// Keeps up to `limit` octets in memory, the rest in a file in `dir`.
    pub(super) fn new(limit: usize, dir: PathBuf) -> Self {
        Self { memory: BytesMut::new(), share: Share::default(), file: None, in_file: 0, limit, dir }
    }

    /// Counts memory that is held beside the spool, for as long as the message; false when there is no more.
    pub(super) fn count(&mut self, octets: usize) -> bool {
        self.share.grow(octets)
    }

    /// Throws everything away: the message is refused, and what is left of it only read.
    pub(super) fn discard(&mut self) {
        (self.memory, self.share, self.file) = (BytesMut::new(), Share::default(), None);
    }

    /// Takes all of `octets`.
    ///
    /// # Errors
    /// When the file cannot be made or written.
    pub(super) async fn write(&mut self, octets: &mut BytesMut) -> io::Result<()> {
        if self.file.is_none() {
            let fits = self.memory.len() + octets.len() <= self.limit && self.share.grow(octets.len());
            if fits {
                self.memory.extend_from_slice(octets);
                octets.clear();
                return Ok(());
            }
            let dir = self.dir.clone();
            let made = tokio::task::spawn_blocking(move || tempfile::tempfile_in(dir)).await;
            self.file = Some(tokio::fs::File::from_std(made.map_err(io::Error::other)??));
        }
        if let Some(file) = &mut self.file {
            self.in_file += u64::try_from(octets.len()).unwrap_or(u64::MAX);
            file.write_all(octets).await?;
            octets.clear();
        }
        Ok(())
    }

    /// The message: `head`, then what was spooled.
    ///
    /// # Errors
    /// When the file could not take what was written.
    pub(super) async fn finish(self, head: Bytes) -> io::Result<Message> {
        let file = match self.file {
            None => None,
            Some(mut file) => {
                file.flush().await?;
                Some(Arc::new(file.into_std().await))
            }
        };
        Ok(Message { head, memory: self.memory.freeze(), file, in_file: self.in_file, _share: self.share })
    }
}

impl Message {
    /// The same with this in front.
    pub(super) fn with_head(self, head: Bytes) -> Self {
        Self { head, ..self }
    }
}

/// A whole message, readable by several deliveries at once.
pub(super) struct Message {
    head: Bytes,
    memory: Bytes,
    file: Option<Arc<File>>,
    in_file: u64,
    _share: Share,
}

#[async_trait]
impl Body for Message {
    fn size(&self) -> u64 {
        self.head.size() + self.memory.size() + self.in_file
    }

    async fn piece(&self, offset: u64) -> io::Result<Bytes> {
        if offset < self.head.size() {
            return self.head.piece(offset).await;
        }
        let offset = offset - self.head.size();
        if offset < self.memory.size() {
            return self.memory.piece(offset).await;
        }
        let offset = offset - self.memory.size();
        let left = usize::try_from(self.in_file.saturating_sub(offset)).unwrap_or(PIECE).min(PIECE);
        let Some(file) = self.file.clone().filter(|_| left > 0) else { return Ok(Bytes::new()) };
        let read = move || {
            let mut piece = vec![0; left];
            file.read_exact_at(&mut piece, offset).map(|()| Bytes::from(piece))
        };
        tokio::task::spawn_blocking(read).await.map_err(io::Error::other)?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_goes_in_comes_out_from_memory_and_file() {
        for limit in [0, 1000, 1 << 20] {
            let mut spool = Spool::new(limit, std::env::temp_dir());
            let mut expected = b"head\r\n".to_vec();
            for n in 0..300u32 {
                let line = format!("{n:0>700}\r\n");
                expected.extend_from_slice(line.as_bytes());
                spool.write(&mut BytesMut::from(line.as_bytes())).await.unwrap();
            }
            let message = spool.finish(Bytes::from_static(b"head\r\n")).await.unwrap();
            assert_eq!(message.size(), u64::try_from(expected.len()).unwrap());
            let mut got = Vec::new();
            loop {
                let piece = message.piece(got.len() as u64).await.unwrap();
                if piece.is_empty() {
                    break;
                }
                got.extend_from_slice(&piece);
            }
            assert!(got == expected, "limit {limit}");
        }
    }
}
