//! What a client sends after DATA.

use async_trait::async_trait;
use bytes::Bytes;

/// Pieces of a body are at most about this long, in octets.
pub const PIECE: usize = 64 << 10;

/// A message that can be read several times, by several connections at once.
#[async_trait]
pub trait Body: Send + Sync {
    /// Octets in all.
    fn size(&self) -> u64;

    /// A piece that starts at `offset`; empty at the end.
    ///
    /// # Errors
    /// When the spool cannot be read.
    async fn piece(&self, offset: u64) -> std::io::Result<Bytes>;
}

#[async_trait]
impl Body for Bytes {
    fn size(&self) -> u64 {
        u64::try_from(self.len()).unwrap_or(u64::MAX)
    }

    async fn piece(&self, offset: u64) -> std::io::Result<Bytes> {
        let from = usize::try_from(offset).unwrap_or(usize::MAX).min(self.len());
        Ok(self.slice(from..(from + PIECE).min(self.len())))
    }
}
