//! What people are told on standard error, which may be gone: `cargo xtask test 2>&1 | tee log` loses it at Ctrl-C, a
//! dropped SSH session loses it too. `eprintln!` would panic then, in the middle of a clean-up.

use std::io::Write;
use std::sync::OnceLock;
use std::time::Instant;

/// Says what is being done now: one line for each step, with the time since the first one.
pub(crate) fn step(text: &str) {
    static START: OnceLock<Instant> = OnceLock::new();
    let seconds = START.get_or_init(Instant::now).elapsed().as_secs();
    write_line(std::io::stderr(), &format!("lab {:>3}:{:02}  {text}", seconds / 60, seconds % 60));
}

/// Says something beside the steps.
pub(crate) fn say(text: &str) {
    write_line(std::io::stderr(), &format!("lab: {text}"));
}

fn write_line(mut to: impl Write, line: &str) {
    // Nobody is there to be told that nobody is there.
    let _closed = to.write_all(format!("{line}\n").as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closed_end_is_no_reason_to_panic() {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        write_line(writer, "nobody reads this");
    }
}
