//! `queue`: which mail, and what is done about it.

use clap::{ArgGroup, Args, Subcommand};

#[derive(Subcommand)]
pub enum Queue {
    /// Messages that wait, with their recipients.
    List {
        /// Only this store's queue.
        #[arg(long)]
        store: Option<String>,
        /// Messages of each store at most.
        #[arg(long, default_value_t = 100)]
        limit: u32,
    },
    /// All that is known of one message.
    Show {
        /// Its delivery id, as `queue list` and the answer to the sender have it.
        id: String,
    },
    /// Stop trying, until it is released. An attempt that is under way is not called back; a message's age counts on.
    Hold(Waiting),
    /// Let what is held go on: it is tried at once. What has grown older than five days goes back with a report.
    Release(Waiting),
    /// Try it now, rather than when its pause is over. What is held stays so.
    Flush(Waiting),
    /// As if it had just come: released, tried at once, its pauses from the beginning. Its age stays.
    Requeue(Waiting),
    /// Take it out of the queue. Nobody gets it, and its sender is not told, but with --bounce.
    Delete {
        #[command(flatten)]
        which: Waiting,
        /// The sender gets a report; a message without a sender (itself a report) goes without one.
        #[arg(long)]
        bounce: bool,
        /// Do not ask.
        #[arg(long)]
        yes: bool,
    },
}

/// Which recipients of waiting messages; all that is given must fit.
#[derive(Args)]
#[command(group(ArgGroup::new("which").required(true).multiple(true).args(["id", "destination", "address", "all"])))]
pub struct Waiting {
    /// The message's delivery id.
    pub id: Option<String>,
    /// For this domain of another site, or for the store of this name.
    #[arg(long, value_name = "DOMAIN|STORE")]
    pub destination: Option<String>,
    /// From or to this address.
    #[arg(long)]
    pub address: Option<String>,
    /// All that waits.
    #[arg(long, conflicts_with_all = ["id", "destination", "address"])]
    pub all: bool,
    /// Only in this store's queue.
    #[arg(long)]
    pub store: Option<String>,
    /// Only say how much that would be.
    #[arg(long)]
    pub dry_run: bool,
}
