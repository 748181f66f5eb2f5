//! The directory: domains, accounts and aliases, and which store holds each account.
//!
//! It is a store of kind `Directory`: the same log and index, failing over like any other. Around it stand
//! [`DirectoryService`] (look-up, logins, administration), the gRPC services that bring it to the cluster
//! ([`serve`]), [`sync`] (a store's own task: it carries its accounts' records too), and [`RemoteDirectory`], which
//! frontends and backends use: it caches, and goes on from what it last knew when the directory is away.
//!
//! One rule stands above the others: not knowing is never "no such mailbox". An empty directory, one that does not
//! serve and one that cannot be reached all answer `Unavailable`.

mod admin;
mod changes;
mod config;
mod convert;
mod error;
mod feed;
pub mod key_care;
mod keyring;
mod lookup;
mod merge;
mod names;
mod place;
mod queue_change;
mod remote;
mod salvage;
mod screening;
mod sending;
pub mod serve;
mod service;
mod store_admin;
pub mod sync;
mod undelete;

pub use admin::{AccountPage, Credential, DomainCounts, ImportOutcome, ImportRow, NewAccount};
pub use config::{DirectoryConfig, StoreLoad};
pub use error::AdminError;
pub use feed::{DirectoryFeed, FeedBatch, FeedStream, RemoteFeed};
pub use merge::{Merged, merge};
pub use place::place;
pub use remote::{ChannelSource, RemoteConfig, RemoteDirectory};
pub use screening::{RemoteScreening, ScreeningSource, ScreeningStream, Told, run as run_screening};
pub use sending::SendLimits;
pub use service::DirectoryService;
pub use store_admin::{LocalStore, Octets, RecordStream, RemoteStore, StoreDialer, StoreQuery};
