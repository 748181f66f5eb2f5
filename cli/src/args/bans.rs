//! `bans …`

use clap::Subcommand;

use crate::units;

#[derive(Subcommand)]
pub enum Bans {
    /// Who is refused now and for how long, and which accounts are under attack.
    List,
    /// Refuse a network for a while.
    Add {
        /// An address, or a network in CIDR notation. An IPv6 address stands for its /64.
        network: String,
        /// How long: seconds, or like 30m, 12h, 7d.
        #[arg(long = "for", value_name = "TIME", default_value = "1d", value_parser = units::parse_duration)]
        duration: u64,
    },
    /// Lift a ban, and forget what led to it.
    Remove {
        /// As `list` shows it.
        network: String,
    },
}
