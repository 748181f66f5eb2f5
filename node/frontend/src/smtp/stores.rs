//! Connections to stores, kept for the next message of the same session.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use mailcluster_lmtp::{Client, ClientError, Envelope, Hint, Recipient, Timeouts, WireError};
use mailcluster_proto_smtp::Reply;
use mailcluster_types::{Backends, ClientInfo, Protocol, StoreName};
use tokio::time::timeout;

use super::deliver::is_final;

/// Time for a connection with its TLS handshake and greeting.
const CONNECT: Duration = Duration::from_secs(5);
/// Time for asking a store about a recipient at RCPT.
const PROBE: Duration = Duration::from_secs(2);
/// How often it is looked whether a store that owes an answer is away.
const LOOK: Duration = Duration::from_millis(250);
/// Most connections that wait for the next message.
const MAX_IDLE: usize = 16;

/// A session's way to the stores.
pub(super) struct Stores {
    reach: Reach,
    idle: HashMap<StoreName, Client>,
    /// Stores that did not answer a probe of this transaction: not asked again.
    mute: HashSet<StoreName>,
}

/// What it takes to open a connection; cheap to clone.
#[derive(Clone)]
pub(super) struct Reach {
    backends: Arc<dyn Backends>,
    client: ClientInfo,
    hostname: Arc<str>,
}

impl Reach {
    /// A new connection, greeted. A refusal that tells where the store is now is followed, once.
    pub(super) async fn connect(&self, store: &StoreName) -> Result<Client, ClientError> {
        let refusal = match self.try_connect(store).await {
            Err(ClientError::Refused(reply)) => reply,
            result => return result,
        };
        let Some(hint) = Hint::parse(&refusal.text) else { return Err(ClientError::Refused(refusal)) };
        self.backends.route_hint(store, hint.epoch, hint.endpoint);
        self.try_connect(store).await
    }

    async fn try_connect(&self, store: &StoreName) -> Result<Client, ClientError> {
        let opening = async {
            let stream = self.backends.open(store, Protocol::Lmtp, None, &self.client).await;
            let stream = stream.map_err(|e| WireError::Io(std::io::Error::other(e)))?;
            Client::greet(stream, &self.hostname, Timeouts::default()).await
        };
        timeout(CONNECT, opening).await.map_err(|_| WireError::Timeout)?
    }

    /// Opens a transaction, on the connection that was kept when it still works. Of a store that is known to be away
    /// nothing is asked.
    pub(super) async fn begin(
        &self,
        kept: Option<Client>,
        store: &StoreName,
        envelope: &Envelope,
        recipients: &[Recipient],
    ) -> Result<(Client, Vec<Reply>), ClientError> {
        if self.backends.is_away(store) {
            return Err(ClientError::Before(WireError::Timeout));
        }
        if let Some(mut client) = kept {
            let begun = tokio::select! {
                begun = client.begin(envelope, recipients) => begun,
                () = self.lost(store) => return Err(ClientError::Before(WireError::Timeout)),
            };
            match begun {
                Ok(replies) => return Ok((client, replies)),
                Err(ClientError::Refused(reply)) if reply.code != 421 => {
                    return Err(ClientError::Refused(reply));
                }
                Err(_) => {}
            }
        }
        let mut client = self.connect(store).await?;
        let replies = client.begin(envelope, recipients).await?;
        Ok((client, replies))
    }

    /// Resolves when the store is known to be away: what it still owes will not come soon.
    pub(super) async fn lost(&self, store: &StoreName) {
        while !self.backends.is_away(store) {
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Where mail for `away` could wait, best first.
    pub(super) fn hand_off_candidates(&self, away: &StoreName, limit: usize) -> Vec<StoreName> {
        self.backends.hand_off_candidates(away, limit)
    }
}

impl Stores {
    pub(super) fn new(backends: Arc<dyn Backends>, client: ClientInfo, hostname: Arc<str>) -> Self {
        let reach = Reach { backends, client, hostname };
        Self { reach, idle: HashMap::new(), mute: HashSet::new() }
    }

    pub(super) fn reach(&self) -> Reach {
        self.reach.clone()
    }

    /// A connection that was kept.
    pub(super) fn take(&mut self, store: &StoreName) -> Option<Client> {
        self.idle.remove(store)
    }

    /// Keeps a connection on which no transaction is open.
    pub(super) fn keep(&mut self, store: StoreName, client: Client) {
        if self.idle.len() < MAX_IDLE {
            self.idle.insert(store, client);
        }
    }

    /// A new transaction: every store may be asked again.
    pub(super) fn forget_mute(&mut self) {
        self.mute.clear();
    }

    /// Asks the store at RCPT whether the recipient is refused for good (quota). A store that does not answer at once
    /// is no reason to refuse: its mail can wait elsewhere.
    pub(super) async fn refuses(
        &mut self,
        store: &StoreName,
        envelope: &Envelope,
        recipient: Recipient,
    ) -> Option<Reply> {
        if self.mute.contains(store) {
            return None;
        }
        let (kept, reach) = (self.take(store), self.reach());
        let recipients = [recipient];
        let asking = async {
            let (mut client, replies) = reach.begin(kept, store, envelope, &recipients).await?;
            client.reset().await?;
            Ok::<_, ClientError>((client, replies))
        };
        match timeout(PROBE, asking).await {
            Ok(Ok((client, replies))) => {
                self.keep(store.clone(), client);
                replies.into_iter().find(is_final)
            }
            Ok(Err(ClientError::Refused(reply))) if is_final(&reply) => Some(reply),
            _ => {
                self.mute.insert(store.clone());
                None
            }
        }
    }

    /// Says goodbye.
    pub(super) async fn quit(self) {
        for (_, client) in self.idle {
            client.quit().await;
        }
    }
}
