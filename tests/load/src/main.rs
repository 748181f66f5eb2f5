//! What `cargo xtask bench` asks of the store alone: N clients deliver messages of one size, each waiting for its receipt,
//! into a store of one, two or three copies; or a store that has mail gets a new copy, or gives room
//! back. The mirrors are processes of their
//! own with disks' folders of their own, fed over mutual TLS as in a cluster.

mod bare;
mod certificates;
mod copy;
mod deliver;
mod lag;
mod mirror;
mod primary;
mod reclaim;
mod wire;

use std::path::PathBuf;

use anyhow::Result;
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(about = "Delivers into a store of one or more copies, or adds a copy, and tells how fast that is")]
struct Cli {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Delivers, and prints one line of JSON
    Deliver(deliver::Plan),
    /// Adds a copy to a store that has mail, and prints one line of JSON
    Copy(copy::Plan),
    /// Fills a store, expunges most of it and gives the room back under load, and prints one line of JSON
    Reclaim(reclaim::Plan),
    /// Serves a mirror in a folder of one of these, until its input ends
    #[command(hide = true)]
    Mirror {
        dir: PathBuf,
        /// Its number; the primary is 1
        number: u128,
    },
}

fn main() -> Result<()> {
    let cli = Cli::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    match cli.what {
        What::Deliver(plan) => {
            let figures = runtime.block_on(deliver::run(&plan))?;
            println!("{}", bare::beside(&plan, &figures)?);
        }
        What::Copy(plan) => println!("{}", runtime.block_on(copy::run(&plan))?),
        What::Reclaim(plan) => println!("{}", runtime.block_on(reclaim::run(&plan))?),
        What::Mirror { dir, number } => runtime.block_on(mirror::serve(&dir, number))?,
    }
    Ok(())
}
