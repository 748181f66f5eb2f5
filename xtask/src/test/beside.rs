//! Parts that run in a process of their own, on a lab of their own, while this one waits for other scenarios.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Stdio},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use clap::ValueEnum;

use super::Part;
use crate::{cargo, tally::Count};

/// The name of that lab.
const LAB_NAME: &str = "beside";
/// What its lines begin with, here.
const MARK: &str = "  | ";

/// The other process.
pub struct Beside {
    child: Child,
    reader: JoinHandle<Count>,
    begun: Instant,
}

impl Beside {
    /// Starts it.
    pub fn start(parts: &[Part], long: bool) -> Result<Self> {
        let names: Vec<String> = parts
            .iter()
            .filter_map(|part| part.to_possible_value())
            .map(|v| v.get_name().to_owned())
            .collect();
        println!("beside it, marked with `{}`: --only {}", MARK.trim(), names.join(","));
        let mut command = mailcluster_interop::mortal(std::env::current_exe()?);
        command.args(["test", "--only", &names.join(",")]).args(long.then_some("--long"));
        command.env("MAILCLUSTER_LAB", LAB_NAME).current_dir(cargo::workspace());
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().context("failed to start")?;
        let stdout = child.stdout.take().context("no output")?;
        let reader = std::thread::spawn(move || {
            let mut count = Count::default();
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                println!("{MARK}{line}");
                read(&line, &mut count);
            }
            count
        });
        Ok(Self { child, reader, begun: Instant::now() })
    }

    /// Waits for its end; answers what it counted and how long it took.
    pub fn finish(mut self) -> Result<(Count, Duration)> {
        let status = self.child.wait()?;
        let mut count = self.reader.join().unwrap_or_default();
        if !status.success() {
            count.failed = count.failed.max(1);
        }
        Ok((count, self.begun.elapsed()))
    }
}

/// What the last line counts, and the lines above it name.
fn read(line: &str, count: &mut Count) {
    if let Some(what) = line.strip_prefix("left out: ") {
        // Those run here.
        if !what.ends_with(super::NOT_ASKED_FOR) {
            count.left_out.push(what.to_owned());
        }
    } else if let Some(what) = line.strip_prefix("failed: ") {
        count.failures.push(what.to_owned());
    } else if let Some(what) = line.strip_prefix("at the second try: ") {
        count.second_tries.push(what.to_owned());
    } else if let [passed, failed, _] = line.split(", ").collect::<Vec<_>>()[..] {
        let number = |text: &str, what: &str| text.strip_suffix(what)?.parse().ok();
        if let (Some(passed), Some(failed)) = (number(passed, " passed"), number(failed, " failed")) {
            (count.passed, count.failed) = (passed, failed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_other_process_is_counted_by_its_last_line() {
        let mut count = Count::default();
        for line in [
            "   12 s      3 passed    0 failed  the lab and its faults",
            "left out: a_lab: why",
            "left out: the part `x`: not among --only",
            "at the second try: c: too slow",
            "failed: b: too late",
            "16 passed, 2 failed, 2 left out",
        ] {
            read(line, &mut count);
        }
        let (left_out, failures) = (vec!["a_lab: why".to_owned()], vec!["b: too late".to_owned()]);
        let second_tries = vec!["c: too slow".to_owned()];
        assert_eq!(count, Count { passed: 16, failed: 2, left_out, failures, second_tries });
    }
}
