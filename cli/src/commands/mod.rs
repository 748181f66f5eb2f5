//! One file for each group of commands.

mod account;
mod alias;
mod bans;
mod check;
mod directory;
mod dkim;
mod domain;
mod failover;
mod import;
mod input;
mod key_line;
mod mail;
mod queue;
mod rebalance;
mod status;
mod transfer;
mod undelete;

pub use check::Check;
pub use dkim::Dkim;

use crate::{
    args::{Cli, Command, Global},
    connect,
    failure::Failure,
};

/// Does what the command line says.
///
/// # Errors
/// As [`Failure`] says.
pub async fn run(cli: Cli) -> Result<(), Failure> {
    let Cli { global, command } = cli;
    global.check()?;
    let out = global.output;
    match command {
        Command::Domain(command) => domain::run(command, &mut admin(&global).await?, out).await,
        Command::Account(command) => account::run(command, &global).await,
        Command::Alias(command) => alias::run(command, &mut admin(&global).await?, out).await,
        Command::Check(asked) => check::run(asked, &mut admin(&global).await?, out).await,
        Command::Import(asked) => import::run(asked, &global).await,
        Command::Status => status::run(&global).await,
        Command::Trace(trace) => mail::trace(trace, &mut admin(&global).await?, out).await,
        Command::Undelete(asked) => undelete::run(asked, &mut admin(&global).await?, out).await,
        Command::Queue(command) => queue::run(command, &mut admin(&global).await?, out).await,
        Command::Bans(command) => bans::run(command, &mut admin(&global).await?, out).await,
        Command::Directory(command) => directory::run(command, &global).await,
        Command::Failover(asked) => failover::failover(asked, &global).await,
        Command::Rebalance { dry_run } => rebalance::run(dry_run, &global).await,
        Command::Fence(command) => failover::fence(command, &global).await,
        Command::Store(command) => failover::store_command(command, &global).await,
        Command::Audit { limit } => directory::audit(limit, &mut admin(&global).await?, out).await,
    }
}

async fn admin(global: &Global) -> Result<connect::Admin, Failure> {
    connect::admin(global).await
}

/// Every item of an answer that streams.
async fn collect<T>(mut stream: tonic::Streaming<T>) -> Result<Vec<T>, Failure> {
    let mut items = Vec::new();
    while let Some(item) = stream.message().await? {
        items.push(item);
    }
    Ok(items)
}
