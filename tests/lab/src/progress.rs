//! One line on standard error for each step, with how long what takes long will take.

use std::sync::OnceLock;
use std::time::Instant;

/// Says what is being done now.
pub(crate) fn step(text: &str) {
    static START: OnceLock<Instant> = OnceLock::new();
    let seconds = START.get_or_init(Instant::now).elapsed().as_secs();
    eprintln!("lab {:>3}:{:02}  {text}", seconds / 60, seconds % 60);
}
