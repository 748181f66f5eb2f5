//! Passwords and login attempts: verifying and making hashes, a bounded pool to do that work in, a keyed cache of
//! logins that were verified, tickets of administrators, and the throttle that slows guessing down.
//!
//! The cache, the tickets and the throttle are state machines that are told the time; they do no I/O and read no clock.

mod argon2_memory;
mod hash;
mod login_cache;
mod lru;
mod pool;
mod scheme;
mod throttle;
mod ticket;

pub use hash::{HashCost, Hasher, HasherError};
pub use login_cache::{CacheAnswer, LoginCache, LoginCacheConfig};
pub use lru::Lru;
pub use pool::{Overloaded, VerifyPool};
pub use scheme::{BadHash, StoredHash};
pub use throttle::{Network, Throttle, ThrottlePolicy, Verdict};
pub use ticket::{Tickets, is_ticket};

/// Longest password in octets; longer ones are never right. SHA-crypt's work grows with the square of it.
pub const MAX_PASSWORD: usize = 1024;
