//! What a person or a program is told of an import.

use std::{
    sync::{
        atomic::{AtomicUsize, Ordering::Relaxed},
        mpsc::{Receiver, RecvTimeoutError},
    },
    time::{Duration, Instant},
};

use mailcluster_import::{Event, Progress};
use serde_json::json;

use crate::{
    output::{self, Format},
    units,
};

/// A line of progress comes this often.
const TICK: Duration = Duration::from_secs(5);

/// An account that was not brought whole.
#[derive(Debug, PartialEq, Eq)]
pub struct Failed {
    pub address: String,
    pub why: String,
}

/// What there is at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    accounts: usize,
    messages: u64,
    octets: u64,
    earlier: u64,
    recognised: u64,
    flagged: u64,
    skipped: u64,
    left: u64,
}

impl Counts {
    pub fn of(progress: &Progress, accounts: usize) -> Self {
        Self {
            accounts,
            messages: progress.messages.load(Relaxed),
            octets: progress.octets.load(Relaxed),
            earlier: progress.earlier.load(Relaxed),
            recognised: progress.recognised.load(Relaxed),
            flagged: progress.flagged.load(Relaxed),
            skipped: progress.skipped.load(Relaxed),
            left: progress.left.load(Relaxed),
        }
    }
}

/// Something that happened to an account. Beside a JSON answer it goes to standard error.
pub fn event(address: &str, event: &Event, out: Format) {
    match (event, out) {
        (Event::Skipped { what, why }, Format::Text) => {
            output::line(&format!("{address}: skipped {what}: {why}"));
        }
        (Event::Skipped { what, why }, Format::Json) => {
            output::note(&format!("{address}: skipped {what}: {why}"));
        }
        (Event::Waiting { why }, _) => output::note(&format!("{address}: trying again: {why}")),
    }
}

/// An account ended before its end.
pub fn failed(address: &str, why: &str, out: Format) {
    if out == Format::Text {
        output::line(&format!("{address}: failed: {why}"));
    }
}

/// Tells how far it is, again and again, until the other end of `ended` is gone.
pub fn tick(
    progress: &Progress,
    (next, done, of): (&AtomicUsize, &AtomicUsize, usize),
    ended: &Receiver<()>,
) {
    let mut last = (Instant::now(), Counts::default());
    while ended.recv_timeout(TICK) == Err(RecvTimeoutError::Timeout) {
        let now = (Instant::now(), Counts::of(progress, of));
        let accounts = (done.load(Relaxed), next.load(Relaxed).min(of), of);
        let text = line(accounts, now.1, &last.1, now.0.saturating_duration_since(last.0));
        output::note(&text);
        last = now;
    }
}

/// `12 of 5000 accounts (4 under way), 123456 messages, 1.2 GiB, 850 messages/s, 12.0 MiB/s, 4711 messages left in these`
fn line((done, begun, of): (usize, usize, usize), now: Counts, before: &Counts, took: Duration) -> String {
    let millis = u64::try_from(took.as_millis()).unwrap_or(u64::MAX).max(1);
    let rate = |now: u64, before: u64| now.saturating_sub(before).saturating_mul(1000) / millis;
    let messages = rate(now.messages, before.messages);
    let octets = units::size(rate(now.octets, before.octets));
    let Counts { left, skipped, .. } = now;
    format!(
        "{done} of {of} accounts ({} under way), {} messages, {}, {messages} messages/s, {octets}/s, {skipped} skipped, {left} messages left in these accounts' folders at hand",
        begun.saturating_sub(done),
        now.messages,
        units::size(now.octets),
    )
}

/// The end of it all.
pub fn end(counts: &Counts, failed: &[Failed], started: Instant, out: Format) {
    let seconds = started.elapsed().as_secs_f64();
    match out {
        Format::Json => output::json(&json!({
            "accounts": counts.accounts,
            "messages": counts.messages,
            "octets": counts.octets,
            "earlier": counts.earlier,
            "recognised": counts.recognised,
            "flagsChanged": counts.flagged,
            "skipped": counts.skipped,
            "seconds": seconds,
            "failed": failed.iter().map(|f| json!({"address": f.address, "reason": f.why})).collect::<Vec<_>>(),
        })),
        Format::Text => output::line(&format!(
            "{} messages ({}) brought in {seconds:.1} s for {} accounts, {} from earlier runs, {} found there, flags of {} changed, {} skipped, {} accounts failed",
            counts.messages,
            units::size(counts.octets),
            counts.accounts,
            counts.earlier,
            counts.recognised,
            counts.flagged,
            counts.skipped,
            failed.len()
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_told_with_rates() {
        let before = Counts { messages: 100, octets: 1 << 20, ..Counts::default() };
        let now = Counts { messages: 1100, octets: 11 << 20, skipped: 2, left: 7, ..before };
        let text = line((12, 16, 5000), now, &before, Duration::from_secs(5));
        let expected = "12 of 5000 accounts (4 under way), 1100 messages, 11.0 MiB, 200 messages/s, 2.0 MiB/s, \
                        2 skipped, 7 messages left in these accounts' folders at hand";
        assert_eq!(text, expected);
        assert!(!line((0, 0, 1), now, &before, Duration::ZERO).is_empty());
    }
}
