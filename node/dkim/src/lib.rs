//! DKIM (RFC 6376, RFC 8463): keys, and signatures of messages that never are in memory whole.
//!
//! One hash of the body, made while the message comes in, serves all signatures, and no octet of the body is kept for
//! it. Debian's dkimpy gives the second opinion (tests/interop).

mod body;
mod header;
mod key;
mod sign;

pub use body::BodyHash;
pub use key::{KeyError, NewKey, generate, record};
pub use sign::{SignError, sign, sign_whole};
