//! `cargo xtask test`: every test there is, on a machine with nothing but Debian or Ubuntu, root, gcc, cargo and Go.

mod parts;
mod prerequisites;

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use clap::ValueEnum;
use mailcluster_lab::Lab;

use prerequisites::Needs;

use crate::{Told, tally::Count};

/// What to run.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Options {
    /// The stated lengths instead of the short forms (hours instead of minutes)
    #[arg(long)]
    long: bool,
    /// Leave out what needs the Kubernetes lab
    #[arg(long)]
    no_lab: bool,
    /// Run these parts only
    #[arg(long, value_delimiter = ',')]
    only: Vec<Part>,
}

/// A part of the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Format, lints, structure, generated files, licences
    Lint,
    /// Unit, property and protocol tests, real clients, crashes
    Unit,
    /// The Kubernetes lab itself and its faults
    Lab,
    /// The operator against the lab's API
    Live,
    /// Mail end to end on the lab
    E2e,
}

/// In this order.
const PARTS: [Part; 5] = [Part::Lint, Part::Unit, Part::Lab, Part::Live, Part::E2e];

impl Part {
    fn name(self) -> &'static str {
        match self {
            Self::Lint => "format, lints, structure, generated files, licences",
            Self::Unit => "unit, property and protocol tests, real clients, crashes",
            Self::Lab => "the lab and its faults",
            Self::Live => "the operator against a real API",
            Self::E2e => "end to end on the lab",
        }
    }

    fn needs_lab(self) -> bool {
        matches!(self, Self::Lab | Self::Live | Self::E2e)
    }
}

impl Options {
    fn wants(&self, part: Part) -> bool {
        self.only.is_empty() || self.only.contains(&part)
    }

    /// Is it wanted, and is there to be a lab for it?
    fn on_the_lab(&self, part: Part) -> bool {
        part.needs_lab() && self.wants(part) && !self.no_lab
    }

    fn needs(&self) -> Needs {
        if PARTS.iter().any(|part| self.on_the_lab(*part)) {
            Needs::Lab
        } else if self.wants(Part::Unit) {
            Needs::Root
        } else {
            Needs::Cargo
        }
    }
}

/// What a part came to.
struct Outcome {
    part: Part,
    took: Duration,
    count: Count,
}

/// Runs everything; the last line counts.
pub fn run(options: &Options) -> Result<()> {
    prerequisites::check(options.needs())?;
    let start = Instant::now();
    let mut outcomes = Vec::new();
    // Brought up for the first part that wants it, taken down behind the last.
    let mut lab = None;
    let mut broken = None;
    for part in PARTS {
        if let Some(broken) = broken {
            outcomes.push(skipped(part, &format!("the part `{broken}` could not be run")));
        } else if options.wants(part) {
            println!("=== {}", part.name());
            let begun = Instant::now();
            let count = run_part(part, options, &mut lab).unwrap_or_else(|error| {
                println!("error: {error:#}");
                broken = Some(part.name());
                Count { failed: 1, ..Count::default() }
            });
            outcomes.push(Outcome { part, took: begun.elapsed(), count });
        } else {
            outcomes.push(skipped(part, "not among --only"));
        }
    }
    let down = lab.map_or(Ok(()), Lab::shutdown);
    let told = report(&outcomes, start.elapsed());
    down.and(told)
}

fn run_part(part: Part, options: &Options, lab: &mut Option<Lab>) -> Result<Count> {
    let long = if options.long { "1" } else { "" };
    match part {
        Part::Lint => parts::lint(),
        Part::Unit => parts::unit(long),
        _ if !options.on_the_lab(part) => parts::name_left_out(part),
        Part::Lab => parts::lab(),
        Part::Live => parts::live(bring_up(lab)?),
        Part::E2e => bring_up(lab).and_then(|_| parts::end_to_end(long)),
    }
}

fn bring_up(lab: &mut Option<Lab>) -> Result<&Lab> {
    let up = match lab.take() {
        Some(up) => up,
        None => parts::bring_up()?,
    };
    Ok(lab.insert(up))
}

/// A part that is not run at all.
fn skipped(part: Part, why: &str) -> Outcome {
    let left_out = vec![format!("the part `{}`: {why}", part.name())];
    Outcome { part, took: Duration::ZERO, count: Count { left_out, ..Count::default() } }
}

fn report(outcomes: &[Outcome], took: Duration) -> Result<()> {
    let mut total = Count::default();
    println!();
    for Outcome { part, took, count } in outcomes.iter().filter(|outcome| !outcome.took.is_zero()) {
        let (passed, failed) = (count.passed, count.failed);
        println!("{:>6.0} s  {passed:>5} passed  {failed:>3} failed  {}", took.as_secs_f64(), part.name());
    }
    for outcome in outcomes {
        total += outcome.count.clone();
    }
    for what in &total.left_out {
        println!("left out: {what}");
    }
    println!("{} min in all", took.as_secs() / 60);
    println!("\n{} passed, {} failed, {} left out", total.passed, total.failed, total.left_out.len());
    if total.failed > 0 {
        // The last line has said so.
        bail!(Told);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wanted_decides_what_is_needed() {
        let options = |no_lab, only: &[Part]| Options { no_lab, only: only.to_vec(), ..Options::default() };
        for (options, needs) in [
            (options(false, &[]), Needs::Lab),
            (options(true, &[]), Needs::Root),
            (options(false, &[Part::Lint, Part::Unit]), Needs::Root),
            (options(false, &[Part::Lint, Part::Live]), Needs::Lab),
            (options(true, &[Part::E2e]), Needs::Cargo),
            (options(false, &[Part::Lint]), Needs::Cargo),
        ] {
            assert_eq!(options.needs(), needs, "{options:?}");
        }
    }

    #[test]
    fn failed_and_left_out_parts_decide_the_end() {
        let outcome = |passed, failed| Outcome {
            part: Part::Unit,
            took: Duration::from_secs(1),
            count: Count { passed, failed, left_out: Vec::new() },
        };
        assert!(report(&[outcome(1, 0), skipped(Part::E2e, "why")], Duration::ZERO).is_ok());
        assert!(report(&[outcome(1, 1)], Duration::ZERO).unwrap_err().is::<Told>());
    }
}
