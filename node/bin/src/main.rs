//! `mailcluster-node`: one binary, the roles `frontend`, `backend`, `directory` and `standalone`, and tools for a
//! stopped store.

mod args;
mod client_ports;
mod cluster;
mod health;
mod holder;
mod key_records;
mod listen_spec;
mod local_backends;
mod local_directory;
mod logging;
mod metrics;
mod screening;
mod self_signed;
mod shutdown;
mod standalone;
mod tools;
mod way_in;
mod way_out;

use std::{io::Write, process::ExitCode};

use anyhow::Result;
use args::{Args, Command};
use clap::Parser;

fn main() -> ExitCode {
    // Mail and password hashes are for this user alone, whatever role or tool writes them.
    rustix::process::umask(rustix::fs::Mode::RWXG | rustix::fs::Mode::RWXO);
    let args = Args::parse();
    if let Err(error) = logging::init(&args.log) {
        eprintln!("mailcluster-node: {error:#}");
        return ExitCode::from(2);
    }
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        eprintln!("mailcluster-node: a TLS provider is installed already");
        return ExitCode::FAILURE;
    }
    match run(args.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = format!("{error:#}"), "stopping");
            eprintln!("mailcluster-node: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<()> {
    match command {
        Command::Standalone(options) => runtime()?.block_on(standalone::run(*options)),
        Command::Frontend(options) => runtime()?.block_on(cluster::frontend::run(options)),
        Command::Backend(options) => runtime()?.block_on(cluster::backend::run(options)),
        Command::Directory(options) => runtime()?.block_on(cluster::directory::run(options)),
        Command::Store(tool) => tools::run(tool),
        Command::MetricsReference => Ok(write!(std::io::stdout(), "{}", metrics::reference()?)?),
    }
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().enable_all().build()?)
}
