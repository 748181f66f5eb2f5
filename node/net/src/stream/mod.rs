//! Byte streams with bounds: lines, replayed beginnings, and two streams joined.

mod line;
mod prefixed;
mod splice;

pub use line::{LineError, LineStream, read_into};
pub use prefixed::Prefixed;
pub use splice::{SpliceEnd, SpliceLimits, splice};
