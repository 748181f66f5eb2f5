//! Logs on standard error, as text or JSON, in UTC.

use anyhow::{Context, Result};
use tracing_subscriber::EnvFilter;

use crate::args::LogArgs;

/// Installs the process's logger.
pub fn init(args: &LogArgs) -> Result<()> {
    let filter = EnvFilter::try_new(&args.log_level).context("--log-level")?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let installed = match args.log_format.as_str() {
        "json" => builder.json().flatten_event(true).try_init(),
        _ => builder.with_ansi(false).try_init(),
    };
    installed.map_err(|error| anyhow::anyhow!("failed to install the logger: {error}"))
}
