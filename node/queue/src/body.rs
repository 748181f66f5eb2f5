//! A queued message on its way out, read from the store piece by piece: connections may be many and slow.

use std::io;

use async_trait::async_trait;
use bytes::Bytes;
use mailcluster_lmtp::Body;
use mailcluster_store::{Store, StoredBody};

/// A queued message's text.
pub(crate) struct StoredMessage {
    pub(crate) store: Store,
    pub(crate) body: StoredBody,
}

#[async_trait]
impl Body for StoredMessage {
    fn size(&self) -> u64 {
        self.body.size()
    }

    async fn piece(&self, offset: u64) -> io::Result<Bytes> {
        let body = self.body.clone();
        self.store.read(move |view| view.piece(&body, offset)).await.map_err(io::Error::other)
    }
}
