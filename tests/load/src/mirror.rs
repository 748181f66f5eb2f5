//! A mirror in a process of its own.

use std::{
    io::{BufRead, BufReader, Write},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
    sync::Arc,
};

use anyhow::{Context, Result};
use mailcluster_net::{grpc, mtls::Role};
use mailcluster_replication::{Standby, service};
use mailcluster_store::{Follower, Replica};
use serde_json::Value;
use tokio::net::TcpListener;
use tonic::transport::Server;

use crate::{certificates, primary::identity, reclaim::said};

/// Where a run's certificates are.
pub fn certificates_in(dir: &Path) -> PathBuf {
    dir.join("tls")
}

/// Serves it, says where, and ends with its input.
pub async fn serve(dir: &Path, number: u128) -> Result<()> {
    let identity = identity(number);
    let replica = Replica::initialise(&dir.join(number.to_string()), &identity)?;
    let standby = Arc::new(Standby::default());
    standby.give(Follower::new(replica)?);
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let at = listener.local_addr()?;
    let own = certificates::load(&certificates_in(dir))?;
    let incoming = grpc::serve_incoming(listener, own, vec![Role::Backend]);
    let served =
        Server::builder().add_service(service(standby.clone(), identity)).serve_with_incoming(incoming);
    say(&at.to_string())?;
    tokio::select! {
        ended = served => Ok(ended?),
        ended = obey(&standby) => ended,
    }
}

/// Gives room back for each line of its input, until that ends.
async fn obey(standby: &Standby) -> Result<()> {
    loop {
        let line = tokio::task::spawn_blocking(|| {
            let mut line = String::new();
            std::io::stdin().read_line(&mut line).map(|_| line)
        });
        if line.await??.is_empty() {
            return Ok(());
        }
        let done = standby.reclaim().await.map_err(anyhow::Error::msg)?;
        say(&said(&done).to_string())?;
    }
}

fn say(line: &str) -> Result<()> {
    println!("{line}");
    Ok(std::io::stdout().flush()?)
}

/// The process; it ends with this.
pub struct Mirror {
    child: Child,
    output: BufReader<ChildStdout>,
    /// Where it is fed.
    pub at: SocketAddr,
}

impl Mirror {
    /// Starts it on a processor of its own, where one is named.
    pub fn start(dir: &Path, number: u128, cpu: Option<usize>) -> Result<Self> {
        let program = std::env::current_exe()?;
        let mut command = match cpu {
            Some(cpu) => {
                let mut pinned = Command::new("taskset");
                pinned.arg("--cpu-list").arg(cpu.to_string()).arg(program);
                pinned
            }
            None => Command::new(program),
        };
        command.arg("mirror").arg(dir).arg(number.to_string());
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let mut output = BufReader::new(child.stdout.take().context("no output")?);
        let mut line = String::new();
        output.read_line(&mut line)?;
        let at = line.trim().parse().context("the mirror did not start")?;
        Ok(Self { child, output, at })
    }

    /// Has it give room back, and waits until there is no more to be had.
    pub fn reclaim(&mut self) -> Result<Value> {
        self.child.stdin.as_mut().context("no input")?.write_all(b"reclaim\n")?;
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        serde_json::from_str(&line).context("the mirror gave nothing back")
    }
}

impl Drop for Mirror {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}
