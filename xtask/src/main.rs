//! The project's own commands: `cargo xtask COMMAND`. Each command is a module; this file only picks one.

mod bench;
mod cargo;
mod demo;
mod faults;
mod generate;
mod images;
mod lab;
mod own_cluster;
mod tally;
mod test;
mod tidy;
mod turn;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Builds, runs and tests mailcluster")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// The main job on a real local Kubernetes: mail, a node's death, every message back
    Demo {
        /// Remove what an earlier demo left up
        #[arg(long)]
        down: bool,
        #[command(flatten)]
        own: own_cluster::Choice,
    },
    /// Every test; the last line counts them
    Test(test::Options),
    /// Our figures beside a peer's, measured in the same run
    Bench(bench::Asked),
    /// Faults at random on the lab, under load; everything that clients were told is compared with a model of IMAP
    Faults(faults::Asked),
    /// Make the generated files: crds/, the chart's CRDs and their reference in docs/
    Generate {
        /// Only say whether they are fresh
        #[arg(long)]
        check: bool,
    },
    /// Check the structure: arrows between crates, sizes of files, generated files
    Tidy,
    /// Container images
    #[command(subcommand)]
    Images(images::Action),
    /// A real Kubernetes on this machine, with faults
    #[command(subcommand)]
    Lab(lab::Command),
}

/// The error of a command whose last line has told already what is wrong.
#[derive(Debug)]
struct Told;

impl std::fmt::Display for Told {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("failed")
    }
}

impl std::error::Error for Told {}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Demo { down: true, own } => demo::take_down(&own),
        Command::Demo { down: false, own } => demo::run(&own),
        Command::Test(options) => test::run(&options),
        Command::Bench(asked) => bench::run(asked),
        Command::Faults(asked) => faults::run(&asked),
        Command::Generate { check } => generate::run(check),
        Command::Tidy => tidy::run_all(),
        Command::Images(action) => images::run(&action),
        Command::Lab(command) => lab::run(command),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.is::<Told>() => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::Arguments;

    #[test]
    fn the_arguments_can_be_parsed() {
        // Names that two options share show only when a command is used.
        Arguments::command().debug_assert();
    }
}
