//! What a person is told of a tool's work: how far it is, now and then and on standard error, and what it came to.

use std::time::{Duration, Instant};

use mailcluster_store::{
    left_behind::Gathered,
    tools::{Checked, Exported, Share},
};

/// A line of progress comes this often at most.
const TICK: Duration = Duration::from_secs(1);

/// Tells of a tool's work while it goes on.
pub struct Teller {
    due: Instant,
}

impl Teller {
    /// Of work that begins now. What is done within a second says nothing but what it came to.
    pub fn new() -> Self {
        Self { due: Instant::now() + TICK }
    }

    /// How far it is; told when there was no line of it for a while.
    pub fn reached(&mut self, line: impl FnOnce() -> String) {
        if self.is_due(Instant::now()) {
            eprintln!("{}", line());
        }
    }

    fn is_due(&mut self, now: Instant) -> bool {
        let is_due = now >= self.due;
        if is_due {
            self.due = now + TICK;
        }
        is_due
    }
}

/// Something that a person must not miss.
pub fn say(line: Option<&str>) {
    if let Some(line) = line {
        eprintln!("{line}");
    }
}

/// How far `fsck` is: of the log, then of the messages, then of the index that is made to compare.
pub fn checking(at: &Checked) -> String {
    let what = if at.made_anew.of > 0 {
        anew(at.made_anew)
    } else if at.expected > 0 {
        format!("{} of {} messages read", at.messages, at.expected)
    } else {
        format!("{} of the log checked", mebibytes(at.log))
    };
    format!("{what}, {} problems so far", at.problems)
}

/// What `fsck` came to.
pub fn checked(done: &Checked) -> String {
    let Checked { segments, packs, batches, messages, problems, log, .. } = done;
    format!(
        "{segments} segments and {packs} packs with {} octets, {batches} batches, {messages} messages: {problems} problems",
        log.done
    )
}

/// How far `export` is.
pub fn exporting(at: &Exported) -> String {
    if at.expected == 0 && at.made_anew.of > 0 {
        return anew(at.made_anew);
    }
    format!(
        "{} of {} messages exported, {} octets, {} damaged and left out",
        at.messages, at.expected, at.octets, at.damaged
    )
}

/// What `export` came to.
pub fn exported(done: &Exported) -> String {
    let Exported { accounts, messages, octets, damaged, .. } = done;
    format!(
        "{accounts} accounts, {messages} messages, {octets} octets exported; {damaged} messages are damaged and left out"
    )
}

/// How far `salvage` is. Nobody knows how much there is before it was read.
pub fn gathering(at: &Gathered) -> String {
    format!("{} items, {} octets of text", at.items, at.octets)
}

/// What `salvage` came to.
pub fn gathered(done: &Gathered) -> String {
    format!("{}; {} texts are damaged and left out", gathering(done), done.damaged)
}

fn anew(log: Share) -> String {
    format!("an index made of {} of the log", mebibytes(log))
}

fn mebibytes(share: Share) -> String {
    format!("{} of {} MiB", share.done >> 20, share.of.div_ceil(1 << 20))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_comes_at_most_once_a_second() {
        let start = Instant::now();
        let mut teller = Teller { due: start };
        for (millis, expected) in
            [(0, true), (1, false), (999, false), (1000, true), (1999, false), (9000, true)]
        {
            assert_eq!(teller.is_due(start + Duration::from_millis(millis)), expected, "after {millis} ms");
        }
        assert!(!Teller::new().is_due(Instant::now()), "short work says nothing of its progress");
    }

    #[test]
    fn what_is_told_of_a_check() {
        let log = Share { done: (3 << 20) + 7, of: (9 << 20) + 1 };
        let reading = Checked {
            log: Share { done: 20, of: 20 },
            messages: 2,
            expected: 7,
            problems: 1,
            ..Checked::default()
        };
        for (at, line) in [
            (Checked::default(), "0 of 0 MiB of the log checked, 0 problems so far"),
            (Checked { log, ..Checked::default() }, "3 of 10 MiB of the log checked, 0 problems so far"),
            (reading, "2 of 7 messages read, 1 problems so far"),
            (
                Checked { made_anew: log, ..reading },
                "an index made of 3 of 10 MiB of the log, 1 problems so far",
            ),
        ] {
            assert_eq!(checking(&at), line);
        }
        let done = Checked { segments: 3, packs: 1, batches: 40, ..reading };
        assert_eq!(
            checked(&done),
            "3 segments and 1 packs with 20 octets, 40 batches, 2 messages: 1 problems"
        );
    }

    #[test]
    fn what_is_told_of_an_export_and_of_a_salvage() {
        let made_anew = Share { done: 1 << 20, of: 2 << 20 };
        let anew = Exported { made_anew, ..Exported::default() };
        let done = Exported { accounts: 2, messages: 3, octets: 400, damaged: 1, expected: 5, ..anew };
        for (at, line) in [
            (anew, "an index made of 1 of 2 MiB of the log"),
            (done, "3 of 5 messages exported, 400 octets, 1 damaged and left out"),
            (Exported::default(), "0 of 0 messages exported, 0 octets, 0 damaged and left out"),
        ] {
            assert_eq!(exporting(&at), line);
        }
        let line = "2 accounts, 3 messages, 400 octets exported; 1 messages are damaged and left out";
        assert_eq!(exported(&done), line);
        let done = Gathered { items: 7, octets: 90, damaged: 2 };
        assert_eq!(gathered(&done), "7 items, 90 octets of text; 2 texts are damaged and left out");
    }
}
