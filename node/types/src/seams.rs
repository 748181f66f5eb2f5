//! The seams between a frontend and the rest of the cluster. In a cluster they are gRPC and mutual TLS; in a
//! standalone node they are calls and in-memory streams. The frontend cannot tell.

use std::{net::SocketAddr, sync::Arc};

use async_trait::async_trait;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::{AccountId, Address, ClientInfo, Epoch, SigningKeys, StoreName};

/// A byte stream to a peer: TCP, TLS or an in-memory pipe.
pub trait IoStream: AsyncRead + AsyncWrite + Unpin + Send + Sync {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send + Sync> IoStream for T {}

/// A boxed [`IoStream`].
pub type BoxStream = Box<dyn IoStream>;

/// The protocols a frontend speaks to a backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// Mail delivery (RFC 2033).
    Lmtp,
    /// IMAP4rev1 (RFC 3501).
    Imap,
    /// POP3 (RFC 1939).
    Pop3,
    /// ManageSieve (RFC 5804).
    ManageSieve,
}

/// Where a store is served now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// The store.
    pub store: StoreName,
    /// The epoch of its holder; a backend refuses a connection that names another.
    pub epoch: Epoch,
    /// The holder's address; the port is the protocol's (see the table of ports in the API crate).
    pub endpoint: SocketAddr,
}

/// The directory could not say: never to be read as "unknown" (invariant I10).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the directory cannot answer now: {0}")]
pub struct Unavailable(pub String);

/// May this account receive mail and log in?
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AccountStatus {
    /// Both.
    Active,
    /// It is being created: mail and logins are asked to come again.
    Pending,
    /// It receives mail; nobody can log in.
    Suspended,
}

/// An account as the directory knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResolvedAccount {
    /// Its id, for ever.
    pub id: AccountId,
    /// Its primary address.
    pub address: Address,
    /// The store that holds it.
    pub store: StoreName,
    /// May it receive and log in?
    pub status: AccountStatus,
}

/// What an address stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resolution {
    /// One or more accounts (an alias may name several; each account stands here once).
    Accounts(Vec<ResolvedAccount>),
    /// The domain is ours and has no such mailbox: 550 5.1.1.
    NoSuchMailbox,
    /// The domain is not ours: relaying.
    NotLocal,
}

/// Where an account is, by its id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Located {
    /// On this store.
    On(StoreName),
    /// It was deleted, for ever: the directory holds the record that says so.
    Deleted,
    /// The directory holds no record of it, which says nothing (invariant I10): it may be older than the account.
    Unknown,
}

/// A login attempt.
#[derive(Clone)]
pub struct AuthRequest {
    /// The user name as sent: an address, or a local part when the node has a default domain.
    pub user: String,
    /// The password, in clear; dropped as soon as it is verified.
    pub password: Arc<str>,
    /// The client that tries.
    pub client: ClientInfo,
    /// What it logs in to.
    pub service: &'static str,
}

/// The answer to a login attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AuthOutcome {
    /// The password is right and the account is active.
    Accepted(ResolvedAccount),
    /// Wrong password, unknown user or suspended account: told apart in no answer to the client.
    Rejected,
    /// Too many failures from here; the client is told to wait this many seconds.
    Throttled(u32),
}

/// May an account send what it is about to send to other sites?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Allowance {
    /// Yes; it was counted.
    Granted,
    /// Not before so many seconds.
    Wait(u32),
    /// The message alone is more than it may send.
    Never,
}

/// Finds accounts and checks passwords.
#[async_trait]
pub trait Directory: Send + Sync + 'static {
    /// What does this address stand for?
    async fn resolve(&self, address: &Address) -> Result<Resolution, Unavailable>;

    /// Where is this account now? Addresses come and go; mail that was accepted follows its account.
    async fn locate(&self, account: AccountId) -> Result<Located, Unavailable>;

    /// Is this the password of an account that may log in?
    async fn authenticate(&self, request: &AuthRequest) -> Result<AuthOutcome, Unavailable>;

    /// May `account` put `sender` into MAIL FROM? True for its own address and its aliases.
    async fn may_send_as(&self, account: AccountId, sender: &Address) -> Result<bool, Unavailable>;

    /// What signs mail from `domain`, which is one of ours or below one. Where nothing is told of keys, there are none.
    async fn signing_keys(&self, _domain: &str) -> Result<Arc<SigningKeys>, Unavailable> {
        Ok(Arc::default())
    }

    /// May `account` send a message to so many recipients at other sites now? It is counted when it may. Where nothing is
    /// told of limits, there are none.
    async fn count_sent(&self, _account: AccountId, _recipients: u32) -> Result<Allowance, Unavailable> {
        Ok(Allowance::Granted)
    }
}

/// Why no connection to a store's backend could be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// No holder is known.
    #[error("store {0} has no route")]
    NoRoute(StoreName),
    /// The holder did not answer, or refused this epoch.
    #[error("store {store} cannot be reached: {reason}")]
    Unreachable {
        /// The store.
        store: StoreName,
        /// What happened.
        reason: String,
    },
}

/// Opens authenticated connections to stores.
#[async_trait]
pub trait Backends: Send + Sync + 'static {
    /// Opens a connection to the backend that serves `store` now, positioned just before the server's greeting.
    /// Inside, the peer has already been told the cluster, store, epoch, client and `account` (none for LMTP).
    async fn open(
        &self,
        store: &StoreName,
        protocol: Protocol,
        account: Option<AccountId>,
        client: &ClientInfo,
    ) -> Result<BoxStream, OpenError>;

    /// Stores that could take mail for a store that is away, best first, at most `limit`, never `except` itself.
    fn hand_off_candidates(&self, except: &StoreName, limit: usize) -> Vec<StoreName>;

    /// Is it known that this store has not answered for seconds, and does not? Then nobody need find out by waiting
    /// himself. Where nobody asks stores all the time it is not known.
    fn is_away(&self, _store: &StoreName) -> bool {
        false
    }

    /// Something arrived from this store that a route was wrong about (a refusal that told a higher epoch).
    fn route_hint(&self, store: &StoreName, epoch: Epoch, endpoint: Option<SocketAddr>);
}
