//! The vocabulary every part of a mail node shares: identifiers, addresses, routes, and the two seams
//! (`Directory`, `Backends`) behind which a frontend finds accounts and the stores that hold them.
//!
//! Nothing here does I/O, reads a clock or knows a protocol.

mod address;
mod client;
mod id;
mod seams;
mod signing;

pub use address::{Address, AddressError};
pub use client::{ClientInfo, TlsFacts};
pub use id::{
    AccountId, ClusterId, DeliveryId, Epoch, IdError, ModSeq, ReplicaId, Seq, SessionId, StoreName, Uid,
};
pub use seams::{
    AccountStatus, Allowance, AuthOutcome, AuthRequest, Backends, BoxStream, Directory, IoStream, Located,
    OpenError, Protocol, Resolution, ResolvedAccount, Route, Unavailable,
};
pub use signing::{KeyAlgorithm, SecretKey, SigningKey, SigningKeys};
