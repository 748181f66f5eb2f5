//! ManageSieve (RFC 5804) for servers: octets in, commands out; replies as octets. No I/O, no clock.
//!
//! Whatever comes in, no more is held than the limits say: a literal that is too large is read over, and its command
//! answered.

mod command;
mod decoder;
mod reply;

pub use command::{Command, CommandError, Secret};
pub use decoder::{Decoder, Event, Limits, Token};
pub use reply::{Capabilities, Code, bye, no, ok, string};
