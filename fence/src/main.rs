//! `mailcluster-fence-redfish`: switches one node off by its management controller (Redfish, DMTF DSP0266) and reads
//! the power state back. It is what a fence Job runs.
//!
//! Environment: NODE, NODE_UID, BOOT_ID. Files in /run/mailcluster/fence (or the directory given as first argument):
//! `username`, `password`, `<node>.url` (the system's address, like `https://10.0.0.5/redfish/v1/Systems/1`) or `url`
//! (the same for all nodes, with `{node}` in it), and optionally `ca.crt` and `insecure` (`true`: any certificate).
//!
//! Exit codes: 0 only after the controller reported Off; 75 try again; anything else: a person is needed.

mod config;
mod http;
mod power;

use std::{
    path::Path,
    process::ExitCode,
    thread::sleep,
    time::{Duration, Instant},
};

use config::Config;
use http::HttpError;
use power::Step;

/// Try again later.
const TEMPORARY: u8 = 75;
/// A person is needed.
const BLOCKED: u8 = 1;
/// How long one attempt waits for Off.
const PATIENCE: Duration = Duration::from_secs(45);
/// Between two looks at the power state.
const LOOK: Duration = Duration::from_millis(500);

/// Why the node is not known to be off.
#[derive(Debug, thiserror::Error)]
enum Failure {
    /// What was mounted or set cannot be used.
    #[error(transparent)]
    Config(#[from] config::ConfigError),
    /// The controller did not answer, or not as hoped.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// The controller's answer is not one of a Redfish system.
    #[error("the controller's answer is not understood: {0}")]
    Answer(String),
    /// It was told, and is not off yet.
    #[error("the power is still {0} after {1} s")]
    StillOn(String, u64),
}

impl Failure {
    fn exit_code(&self) -> u8 {
        match self {
            Self::StillOn(..) => TEMPORARY,
            Self::Http(error) if error.is_temporary() => TEMPORARY,
            _ => BLOCKED,
        }
    }
}

fn main() -> ExitCode {
    let dir = std::env::args().nth(1).unwrap_or_else(|| "/run/mailcluster/fence".into());
    match fence(Path::new(&dir), |name| std::env::var(name).ok()) {
        Ok(node) => {
            println!("node {node} is off: read back from its management controller");
            ExitCode::SUCCESS
        }
        Err(failure) => {
            eprintln!("{failure}");
            ExitCode::from(failure.exit_code())
        }
    }
}

fn fence(dir: &Path, env: impl Fn(&str) -> Option<String>) -> Result<String, Failure> {
    let config = Config::read(dir, env)?;
    println!("switching off node {} (uid {}, boot {})", config.node, config.node_uid, config.boot_id);
    let client = http::Client::new(&config)?;
    let began = Instant::now();
    let mut told = false;
    loop {
        let system = client.get(&config.url)?;
        match power::next(&system, told).map_err(Failure::Answer)? {
            Step::Done => return Ok(config.node),
            Step::Tell(target) => {
                client.post(&config.url.sibling(&target), r#"{"ResetType":"ForceOff"}"#)?;
                told = true;
            }
            Step::Wait(state) if began.elapsed() >= PATIENCE => {
                return Err(Failure::StillOn(state, PATIENCE.as_secs()));
            }
            Step::Wait(_) => sleep(LOOK),
        }
    }
}

#[cfg(test)]
mod tests;
