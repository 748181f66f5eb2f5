//! `mailcluster-operator`: turns MailClusters into running mail clusters.

use clap::Parser;
use mailcluster_operator::args::Args;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    mailcluster_operator::logging::init(args.log_format);
    mailcluster_operator::run(args).await
}
