//! When and in what order mail is tried.
//!
//! - [`Wait`] is one recipient's (or message's) waiting: attempts with growing pauses, hold, release, flush, requeue;
//!   and its [`Fate`]: tried, told of a delay, or given up (RFC 5321 section 4.5.4.1).
//! - [`Window`] is how many connections a destination gets: more while it works, fewer while it fails, none for a
//!   while when it seems dead.
//! - [`Line`] says which message is next, among many destinations.

mod line;
mod wait;
mod window;

#[cfg(test)]
mod tests;

pub use line::{Job, Line, LineLimits, Outcome, Priority};
pub use wait::{Backoff, Fate, Lifetime, Wait};
pub use window::{Window, WindowLimits};
