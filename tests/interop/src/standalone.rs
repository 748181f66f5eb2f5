//! A standalone node, started by a test and gone with it.

use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    fs,
    io::{BufRead, BufReader, Write},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::{CrashDisk, mortal, scratch};

/// How long a node may take to serve: recovery after a crash included, on a busy machine.
const START: Duration = Duration::from_secs(60);

/// The programs under test.
#[derive(Debug, Clone)]
pub struct NodeBinary {
    /// `mailcluster-node`.
    pub node: PathBuf,
    /// `kubectl-mailcluster`.
    pub cli: PathBuf,
}

impl NodeBinary {
    /// The binaries that `cargo xtask` has built (`MAILCLUSTER_BIN` names their folder), else those beside this
    /// test's own.
    ///
    /// # Errors
    /// When they are not there.
    pub fn find() -> Result<Self> {
        let beside = std::env::current_exe()?.parent().and_then(Path::parent).map(PathBuf::from);
        let named = std::env::var_os("MAILCLUSTER_BIN").map(PathBuf::from);
        Self::in_folder(&named.or(beside).context("no target folder")?)
    }

    /// The binaries in this folder.
    ///
    /// # Errors
    /// When they are not there.
    pub fn in_folder(folder: &Path) -> Result<Self> {
        let binary = Self { node: folder.join("mailcluster-node"), cli: folder.join("kubectl-mailcluster") };
        if !binary.node.is_file() || !binary.cli.is_file() {
            bail!(
                "{} has no mailcluster-node and kubectl-mailcluster: run `cargo xtask test`",
                folder.display()
            );
        }
        Ok(binary)
    }
}

/// A running standalone node. It lives no longer than the thread that started it.
#[derive(Debug)]
pub struct Standalone {
    binary: NodeBinary,
    /// The words that a program is started by where the data directory is mounted.
    entrance: Vec<String>,
    data: PathBuf,
    child: Child,
    ports: BTreeMap<String, SocketAddr>,
    /// Further options of the node.
    options: Vec<String>,
    remove: bool,
}

/// Waits until `condition` holds, trying every 20 ms.
///
/// # Errors
/// When it does not hold within `limit`.
pub fn wait_until(what: &str, limit: Duration, mut condition: impl FnMut() -> bool) -> Result<()> {
    let start = Instant::now();
    while !condition() {
        if start.elapsed() > limit {
            bail!("{what}: not within {limit:?}");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

impl Standalone {
    /// Starts a node on free ports, with a fresh data directory.
    ///
    /// # Errors
    /// When it does not serve within a minute.
    pub fn start(name: &str) -> Result<Self> {
        let mut node = Self::start_in(&scratch(name)?)?;
        node.remove = true;
        Ok(node)
    }

    /// The same with these further options.
    ///
    /// # Errors
    /// When it does not serve within a minute.
    pub fn start_so(name: &str, options: &[&str]) -> Result<Self> {
        Self::start_of(NodeBinary::find()?, name, options)
    }

    /// The same of these programs.
    ///
    /// # Errors
    /// When it does not serve within a minute.
    pub fn start_of(binary: NodeBinary, name: &str, options: &[&str]) -> Result<Self> {
        let options = options.iter().map(|option| (*option).to_owned()).collect();
        let mut node = Self::start_at(binary, Vec::new(), (&scratch(name)?, options))?;
        node.remove = true;
        Ok(node)
    }

    /// Starts a node in this data directory, which stays when the node goes.
    ///
    /// # Errors
    /// When it does not serve within a minute.
    pub fn start_in(data: &Path) -> Result<Self> {
        Self::start_with(NodeBinary::find()?, data)
    }

    /// The same with these programs.
    ///
    /// # Errors
    /// When it does not serve within a minute.
    pub fn start_with(binary: NodeBinary, data: &Path) -> Result<Self> {
        Self::start_at(binary, Vec::new(), (data, Vec::new()))
    }

    /// Starts a node with its data on this disk.
    ///
    /// # Errors
    /// When it does not serve within a minute.
    pub fn start_on(disk: &CrashDisk) -> Result<Self> {
        Self::start_at(NodeBinary::find()?, disk.entrance(), (&disk.mount_point().join("data"), Vec::new()))
    }

    fn start_at(
        binary: NodeBinary,
        entrance: Vec<String>,
        (data, options): (&Path, Vec<String>),
    ) -> Result<Self> {
        let (child, ports) = spawn(&binary.node, &entrance, (data, &options))?;
        Ok(Self { binary, entrance, data: data.to_owned(), child, ports, options, remove: false })
    }

    /// Where a protocol listens.
    ///
    /// # Errors
    /// When it does not.
    pub fn addr(&self, proto: &str) -> Result<SocketAddr> {
        self.ports.get(proto).copied().with_context(|| format!("the node does not listen for {proto}"))
    }

    /// The data directory.
    #[must_use]
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// The process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its resident memory in octets.
    ///
    /// # Errors
    /// When it is gone.
    pub fn resident(&self) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
        Ok(line.trim().trim_end_matches(" kB").trim().parse::<u64>()? * 1024)
    }

    /// Runs the admin command against this node, with this standard input.
    ///
    /// # Errors
    /// When it fails.
    pub fn admin(&self, args: &[&str], input: &str) -> Result<String> {
        let output = self.admin_output(args, input)?;
        if !output.status.success() {
            bail!(
                "kubectl-mailcluster {}: {}",
                args.join(" "),
                String::from_utf8_lossy(&output.stderr).trim()
            );
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// The same, with all that it says and how it ends.
    ///
    /// # Errors
    /// When it cannot be run.
    pub fn admin_output(&self, args: &[&str], input: &str) -> Result<Output> {
        let mut child = started_by(&self.entrance, &self.binary.cli)
            .arg("--standalone")
            .arg(&self.data)
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let stdin = child.stdin.take();
        std::thread::scope(|scope| {
            // Beside the reading: a command may answer before it has read all.
            scope.spawn(move || stdin.map(|mut stdin| stdin.write_all(input.as_bytes())));
            Ok(child.wait_with_output()?)
        })
    }

    /// Makes a domain and accounts in it, all with this password.
    ///
    /// # Errors
    /// When the admin command fails.
    pub fn accounts(&self, domain: &str, names: &[&str], password: &str) -> Result<()> {
        self.admin(&["domain", "add", domain], "")?;
        for name in names {
            self.admin(&["account", "add", &format!("{name}@{domain}"), "--password-file", "-"], password)?;
        }
        Ok(())
    }

    /// kill -9, and waits until it is gone.
    ///
    /// # Errors
    /// When it was gone already.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// SIGTERM, and waits for the graceful end.
    ///
    /// # Errors
    /// When it does not end within a minute, or badly.
    pub fn stop(&mut self) -> Result<()> {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).context("pid")?;
        kill_process(pid, Signal::TERM)?;
        let mut status = None;
        wait_until("graceful stop", START, || {
            status = self.child.try_wait().ok().flatten();
            status.is_some()
        })?;
        if !status.is_some_and(|status| status.success()) {
            bail!("the node ended with {status:?}");
        }
        Ok(())
    }

    /// Starts it again in the same data directory, on new ports.
    ///
    /// # Errors
    /// When it does not serve within a minute.
    pub fn restart(&mut self) -> Result<()> {
        (self.child, self.ports) = spawn(&self.binary.node, &self.entrance, (&self.data, &self.options))?;
        Ok(())
    }
}

impl Drop for Standalone {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
        if self.remove && !std::thread::panicking() {
            let _best_effort = fs::remove_dir_all(&self.data);
        }
    }
}

const PROTOS: [&str; 10] =
    ["smtp", "submission", "submissions", "imap", "imaps", "pop3", "pop3s", "sieve", "lmtp", "http"];

fn started_by(entrance: &[String], program: impl AsRef<OsStr>) -> Command {
    let mut words = entrance.iter().map(OsString::from).collect::<Vec<_>>();
    words.push(program.as_ref().to_owned());
    let mut command = mortal(&words[0]);
    command.args(&words[1..]);
    command
}

fn spawn(
    program: &Path,
    entrance: &[String],
    (data, options): (&Path, &[String]),
) -> Result<(Child, BTreeMap<String, SocketAddr>)> {
    let made = started_by(entrance, "mkdir").arg("-p").arg(data).status()?;
    if !made.success() {
        bail!("failed to make {}", data.display());
    }
    let log = fs::OpenOptions::new().create(true).append(true).open(data.with_extension("log"))?;
    let mut child = started_by(entrance, program)
        .arg("standalone")
        .arg("--data")
        .arg(data)
        .args(["--hostname", "mail.example.test", "--postmaster", "postmaster@example.test"])
        .args(PROTOS.iter().map(|proto| format!("--listen={proto}=127.0.0.1:0")))
        .args(options)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log)
        .spawn()
        .context("failed to start mailcluster-node")?;
    let stdout = child.stdout.take().context("no standard output")?;
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut reader = BufReader::new(stdout);
        let mut line = String::new();
        let _eof = reader.read_line(&mut line);
        let _gone = tell.send(line);
        let _drained = std::io::copy(&mut reader, &mut std::io::sink());
    });
    let line = told.recv_timeout(START).unwrap_or_default();
    let ports: BTreeMap<_, _> = line
        .split_whitespace()
        .filter_map(|word| word.split_once('='))
        .filter_map(|(proto, addr)| Some((proto.to_owned(), addr.parse().ok()?)))
        .collect();
    if ports.len() != PROTOS.len() {
        let _gone = child.kill();
        let _reaped = child.wait();
        bail!(
            "the node did not serve; it said {line:?}; its log is {}",
            data.with_extension("log").display()
        );
    }
    Ok((child, ports))
}
