//! `cargo xtask test`: every test there is, on a machine with nothing but Debian or Ubuntu, root, gcc, cargo and Go.

mod beside;
mod parts;
mod prerequisites;
mod second;

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use clap::ValueEnum;
use mailcluster_e2e::OwnCluster;
use mailcluster_lab::Lab;

use prerequisites::Needs;

use crate::{
    Told, images,
    own_cluster::{self, Intent},
    tally::Count,
};

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
    #[command(flatten)]
    own: own_cluster::Choice,
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
    /// Mail end to end on the lab: what must not disturb it
    Service,
    /// Mail end to end on the lab: stores that move
    Failover,
}

/// In this order.
const PARTS: [Part; 6] = [Part::Lint, Part::Unit, Part::Lab, Part::Live, Part::Failover, Part::Service];
/// Mostly waiting, so that another process runs them beside the others that need a lab, on one of their own.
const BESIDE: [Part; 2] = [Part::Lab, Part::Failover];

impl Part {
    fn name(self) -> &'static str {
        match self {
            Self::Lint => "format, lints, structure, generated files, licences",
            Self::Unit => "unit, property and protocol tests, real clients, crashes",
            Self::Lab => "the lab and its faults",
            Self::Live => "the operator against a real API",
            Self::Service => "end to end on the lab: service goes on",
            Self::Failover => "end to end on the lab: stores move",
        }
    }

    fn needs_lab(self) -> bool {
        !matches!(self, Self::Lint | Self::Unit)
    }
}

impl Options {
    fn wants(&self, part: Part) -> bool {
        self.only.is_empty() || self.only.contains(&part)
    }

    /// What tells a test program to take the stated lengths.
    fn stated(&self) -> &'static str {
        if self.long { "1" } else { "" }
    }

    /// Is it wanted, and is there to be a lab for it?
    fn on_the_lab(&self, part: Part) -> bool {
        part.needs_lab() && self.wants(part) && !self.no_lab
    }

    /// Parts for another process, beside `Service`, where there is room for two labs.
    fn beside(&self) -> Result<Vec<Part>> {
        if !self.on_the_lab(Part::Service) || !Lab::room_for_another()? {
            return Ok(Vec::new());
        }
        Ok(BESIDE.into_iter().filter(|part| self.on_the_lab(*part)).collect())
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
    what: String,
    took: Duration,
    count: Count,
}

/// Why a part was not run, where others were asked for.
const NOT_ASKED_FOR: &str = "not among --only";

/// On a cluster of the user's own: what breaks nothing there. The other parts have no use for it.
fn run_on(own: &OwnCluster, options: &Options) -> Result<()> {
    prerequisites::check(Needs::Cargo)?;
    let start = Instant::now();
    let mut outcomes: Vec<Outcome> = PARTS
        .into_iter()
        .filter(|part| !matches!(part, Part::Service | Part::Failover))
        .map(|part| skipped(part, "not a test of a cluster of your own"))
        .collect();
    let what = format!("end to end on the cluster of context {}", own.context);
    println!("=== {what}");
    let count = parts::on_own_cluster(own, options.stated())?;
    outcomes.push(Outcome { what, took: start.elapsed(), count });
    report(&outcomes, start.elapsed())
}

/// Runs everything; the last line counts.
pub fn run(options: &Options) -> Result<()> {
    if let Some(own) = options.own.agreed(Intent::Make)? {
        return run_on(&own, options);
    }
    prerequisites::check(options.needs())?;
    let start = Instant::now();
    let mut run = Run { options, outcomes: Vec::new(), lab: None, broken: None };
    let beside = run.options.beside()?;
    let here = PARTS.into_iter().filter(|part| !beside.contains(part));
    let (first, together): (Vec<Part>, Vec<Part>) =
        here.partition(|part| beside.is_empty() || !part.needs_lab());
    for part in first {
        run.part(part);
    }
    run.together(&together, &beside);
    let down = run.lab.map_or(Ok(()), Lab::shutdown);
    let told = report(&run.outcomes, start.elapsed());
    down.and(told)
}

/// A run that goes on.
struct Run<'a> {
    options: &'a Options,
    outcomes: Vec<Outcome>,
    /// Brought up for the first part that wants it, taken down behind the last.
    lab: Option<Lab>,
    /// The part that could not be run: none is after it.
    broken: Option<Part>,
}

impl Run<'_> {
    fn part(&mut self, part: Part) {
        if let Some(broken) = self.broken {
            let why = format!("the part `{}` could not be run", broken.name());
            self.outcomes.push(skipped(part, &why));
        } else if self.options.wants(part) {
            println!("=== {}", part.name());
            let begun = Instant::now();
            let count = self.counted(part).unwrap_or_else(|error| {
                println!("error: {error:#}");
                self.broken = Some(part);
                broken_off(part.name(), &error)
            });
            self.outcomes.push(Outcome { what: part.name().to_owned(), took: begun.elapsed(), count });
        } else {
            self.outcomes.push(skipped(part, NOT_ASKED_FOR));
        }
    }

    /// These parts, and others beside them in another process.
    fn together(&mut self, here: &[Part], beside: &[Part]) {
        if self.broken.is_some() || beside.is_empty() {
            here.iter().chain(beside).for_each(|part| self.part(*part));
            return;
        }
        // What both need has been downloaded and built when the first lab is up.
        let other = self.bring_up().map(drop).and_then(|()| beside::Beside::start(beside, self.options.long));
        for part in here {
            self.part(*part);
        }
        let what = beside.iter().map(|part| part.name()).collect::<Vec<_>>().join("; ");
        let (count, took) = other.and_then(beside::Beside::finish).unwrap_or_else(|error| {
            println!("error: {error:#}");
            (broken_off(&what, &error), Duration::from_secs(1))
        });
        self.outcomes.push(Outcome { what, took, count });
    }

    fn counted(&mut self, part: Part) -> Result<Count> {
        let long = self.options.stated();
        match part {
            Part::Lint => parts::lint(),
            Part::Unit => parts::unit(long),
            _ if !self.options.on_the_lab(part) => parts::name_left_out(part),
            Part::Lab => parts::lab(),
            Part::Live => parts::live(self.bring_up()?),
            Part::Service | Part::Failover => self.scenarios(part, long),
        }
    }

    /// A table of scenarios; on a new lab once more what failed and what comes after it, where that may be.
    fn scenarios(&mut self, part: Part, long: &str) -> Result<Count> {
        let first = parts::end_to_end(self.bring_up()?, part, long, "")?;
        let Some(name) = second::may_be_tried(&first) else { return Ok(first) };
        println!("=== once more, on a new lab: {name} and what comes after it");
        self.lab.take().map_or(Ok(()), Lab::shutdown)?;
        let again = parts::end_to_end(self.bring_up()?, part, long, &name)?;
        Ok(second::joined(first, again))
    }

    fn bring_up(&mut self) -> Result<&Lab> {
        let up = match self.lab.take() {
            Some(up) => up,
            None => {
                // For a while its programs lie where today's do: before anybody starts one of those.
                if self.options.on_the_lab(Part::Service) {
                    images::released::build()?;
                }
                parts::bring_up()?
            }
        };
        Ok(self.lab.insert(up))
    }
}

/// A part that ended before it could count.
fn broken_off(what: &str, error: &anyhow::Error) -> Count {
    Count { failed: 1, failures: vec![format!("{what}: {error:#}").replace('\n', " ")], ..Count::default() }
}

/// A part that is not run at all.
fn skipped(part: Part, why: &str) -> Outcome {
    let left_out = vec![format!("the part `{}`: {why}", part.name())];
    let what = part.name().to_owned();
    Outcome { what, took: Duration::ZERO, count: Count { left_out, ..Count::default() } }
}

fn report(outcomes: &[Outcome], took: Duration) -> Result<()> {
    let mut total = Count::default();
    println!();
    for Outcome { what, took, count } in outcomes.iter().filter(|outcome| !outcome.took.is_zero()) {
        let (passed, failed) = (count.passed, count.failed);
        println!("{:>6.0} s  {passed:>5} passed  {failed:>3} failed  {what}", took.as_secs_f64());
    }
    for outcome in outcomes {
        total += outcome.count.clone();
    }
    for what in &total.left_out {
        println!("left out: {what}");
    }
    for what in &total.second_tries {
        println!("at the second try: {what}");
    }
    for what in &total.failures {
        println!("failed: {what}");
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
            (options(true, &[Part::Service]), Needs::Cargo),
            (options(false, &[Part::Lint]), Needs::Cargo),
        ] {
            assert_eq!(options.needs(), needs, "{options:?}");
        }
    }

    #[test]
    fn failed_and_left_out_parts_decide_the_end() {
        let outcome = |passed, failed| Outcome {
            what: String::new(),
            took: Duration::from_secs(1),
            count: Count { passed, failed, ..Count::default() },
        };
        assert!(report(&[outcome(1, 0), skipped(Part::Service, "why")], Duration::ZERO).is_ok());
        assert!(report(&[outcome(1, 1)], Duration::ZERO).unwrap_err().is::<Told>());
    }
}
