//! An API server with an operator and everything that it looks after, on nodes that are not there.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::mpsc::{self, Receiver, RecvTimeoutError},
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use mailcluster_e2e::wait_for;
use mailcluster_lab::Lab;
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, setrlimit};
use serde_json::{Value, json};

use crate::cargo;

/// The only real node: in its network are the operator and all pods that are not there.
const HERE: &str = "node1";
/// Their addresses; see `tests/fleet`.
const ADDRESSES: &str = "198.18.0.0/15";
/// What drops all that goes to or comes from the dead.
const DEAD: &str = "add table inet fleet; \
    add set inet fleet dead { type ipv4_addr; flags interval; }; \
    add chain inet fleet arrive { type filter hook input priority -200; }; \
    add rule inet fleet arrive ip daddr @dead drop; add rule inet fleet arrive ip saddr @dead drop";
/// Where the operator is said to be, and as whom it asks.
const SYSTEM: &str = "mailcluster-system";
pub const USER: &str = "system:serviceaccount:mailcluster-system:operator";
/// The MailCluster's namespace.
const NAMESPACE: &str = "fleet";
/// Between two looks at something else while an answer is waited for.
const LOOK: Duration = Duration::from_millis(500);
/// Ticks of /proc in a second; the same on every Linux.
const TICKS: f64 = 100.0;
/// A deadline, not an expectation.
const LIMIT: Duration = Duration::from_secs(60);

/// How large.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    /// Stores with mail.
    pub stores: u16,
    /// Frontends.
    pub frontends: u16,
}

impl Size {
    /// Nodes for them: 10 copies on each, in three zones.
    pub fn nodes(self) -> u16 {
        (self.stores * 3).div_ceil(10).next_multiple_of(3)
    }

    /// All nodes of one zone.
    pub fn dying(self) -> u16 {
        self.nodes() / 3
    }

    fn options(self) -> [String; 4] {
        let Self { stores, frontends } = self;
        let (nodes, dying) = (self.nodes(), self.dying());
        [
            format!("--stores={stores}"),
            format!("--frontends={frontends}"),
            format!("--nodes={nodes}"),
            format!("--dying={dying}"),
        ]
    }
}

/// All of it; it ends with this.
pub struct Fleet<'a> {
    lab: &'a Lab,
    size: Size,
    operator: Process,
    fleet: Process,
    ask: ChildStdin,
    answers: Receiver<String>,
}

/// A process that ends with this.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _reaped = self.0.wait();
    }
}

impl<'a> Fleet<'a> {
    /// Starts it on a lab that has one node and no other use.
    pub fn start(lab: &'a Lab, size: Size) -> Result<Self> {
        many_files()?;
        stop_scheduler(lab)?;
        let route =
            within(lab, Path::new("ip")).args(["route", "add", "local", ADDRESSES, "dev", "lo"]).status()?;
        ensure!(route.success(), "ip route add local {ADDRESSES}");
        nft(lab, DEAD)?;
        for name in ["mailclusters", "mailstores"] {
            let path = cargo::workspace().join("crds").join(format!("{name}.yaml"));
            lab.apply(&fs::read_to_string(&path).with_context(|| path.display().to_string())?)?;
        }
        let kinds = ["crd/mailclusters.mailcluster.io", "crd/mailstores.mailcluster.io"];
        let established = ["wait", "--for=condition=Established", "--timeout=60s"];
        lab.kubectl(&[&established[..], &kinds].concat())?;
        let operator = Process(start_operator(lab, &kubeconfig(lab)?)?);
        let mut fleet = program(lab, size)?;
        let mut fleet =
            fleet.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().context("mailcluster-fleet")?;
        let (ask, answers) = (fleet.stdin.take(), fleet.stdout.take());
        Ok(Self {
            lab,
            size,
            operator,
            fleet: Process(fleet),
            ask: ask.context("no input")?,
            answers: lines(answers.context("no output")?),
        })
    }

    /// The next line that the fleet says; `meanwhile` is called now and then until it is there.
    pub fn answer(&mut self, mut meanwhile: impl FnMut() -> Result<()>) -> Result<Value> {
        loop {
            match self.answers.recv_timeout(LOOK) {
                Ok(line) => return serde_json::from_str(&line).with_context(|| line.clone()),
                Err(RecvTimeoutError::Timeout) => meanwhile()?,
                Err(RecvTimeoutError::Disconnected) => {
                    bail!("the fleet has ended: {}", self.fleet.0.wait()?);
                }
            }
        }
    }

    /// Lets a zone's nodes die.
    pub fn die(&mut self) -> Result<()> {
        let shown = program(self.lab, self.size)?.arg("--show-dying").output()?;
        let subnets: Vec<&str> = std::str::from_utf8(&shown.stdout)?.split_whitespace().collect();
        ensure!(!subnets.is_empty(), "no node dies");
        nft(self.lab, &format!("add element inet fleet dead {{ {} }}", subnets.join(", ")))?;
        Ok(writeln!(self.ask, "die")?)
    }

    /// What the operator's process has used.
    pub fn usage(&self) -> Result<Usage> {
        let folder = PathBuf::from(format!("/proc/{}", self.operator.0.id()));
        let stat = fs::read_to_string(folder.join("stat")).context("the operator has ended")?;
        let status = fs::read_to_string(folder.join("status"))?;
        Usage::read(&stat, &status).context("/proc")
    }
}

/// What a process has used.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Usage {
    /// Seconds of a processor.
    pub cpu: f64,
    /// MiB in memory now, and at most so far.
    pub resident: u64,
    pub peak: u64,
}

impl Usage {
    fn read(stat: &str, status: &str) -> Option<Self> {
        // The name, in parentheses, may hold anything; user and system time are fields 14 and 15.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        let ticks = fields.get(11)?.parse::<u32>().ok()?.checked_add(fields.get(12)?.parse().ok()?)?;
        let mebibytes = |name: &str| -> Option<u64> {
            let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
            Some(line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()? >> 10)
        };
        Some(Self { cpu: f64::from(ticks) / TICKS, resident: mebibytes("VmRSS")?, peak: mebibytes("VmHWM")? })
    }
}

/// What a process writes, line by line, until it ends.
fn lines(output: ChildStdout) -> Receiver<String> {
    let (sender, lines) = mpsc::channel();
    std::thread::spawn(move || {
        let all = BufReader::new(output).lines().map_while(Result::ok);
        // An error means that nobody listens any more.
        let _ = all.map(|line| sender.send(line)).find(Result::is_err);
    });
    lines
}

/// Each pod that is not there has a socket, and the operator a connection to it.
fn many_files() -> Result<()> {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).context("RLIMIT_NOFILE")
}

/// The fleet places its pods itself.
fn stop_scheduler(lab: &Lab) -> Result<()> {
    let scheduler = lab.state()?.processes.get("scheduler").copied().context("the lab has no scheduler")?;
    let pid = Pid::from_raw(scheduler.pid).context("pid")?;
    kill_process(pid, Signal::KILL).context("the scheduler")?;
    wait_for("the scheduler has ended", LIMIT, || Ok((!scheduler.alive()).then_some(())))
}

fn within(lab: &Lab, program: &Path) -> Command {
    let mut command = mailcluster_interop::mortal("nsenter");
    command.arg(format!("--net={}", lab.network(HERE).display())).arg(program);
    command
}

fn nft(lab: &Lab, rules: &str) -> Result<()> {
    let output = lab.tool(Some(HERE), "nft").arg(rules).output().context("nft")?;
    ensure!(output.status.success(), "nft: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}

fn program(lab: &Lab, size: Size) -> Result<Command> {
    let mut command = within(lab, &cargo::binary("mailcluster-fleet")?);
    command.arg("--kubeconfig").arg(lab.kubeconfig()).args(["--namespace", NAMESPACE]).args(size.options());
    Ok(command)
}

/// For a service account of its own, so that the audit log tells what the operator asks.
fn kubeconfig(lab: &Lab) -> Result<PathBuf> {
    let account = json!({"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SYSTEM}},
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "operator", "namespace": SYSTEM}},
        {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": "fleet-operator"},
         "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
         "subjects": [{"kind": "ServiceAccount", "name": "operator", "namespace": SYSTEM}]}]});
    lab.apply(&account.to_string())?;
    let token = lab.kubectl(&["-n", SYSTEM, "create", "token", "operator", "--duration=4h"])?;
    let mut config: Value =
        serde_json::from_str(&lab.kubectl(&["config", "view", "--raw", "--flatten", "-o", "json"])?)?;
    for user in config["users"].as_array_mut().context("a kubeconfig without users")? {
        user["user"] = json!({"token": token.trim()});
    }
    let path = lab.paths().lab.join("operator.kubeconfig");
    fs::write(&path, config.to_string()).with_context(|| path.display().to_string())?;
    Ok(path)
}

fn start_operator(lab: &Lab, kubeconfig: &Path) -> Result<Child> {
    let log = File::create(lab.paths().log("operator"))?;
    within(lab, &cargo::binary("mailcluster-operator")?)
        .env("KUBECONFIG", kubeconfig)
        .env("POD_NAMESPACE", SYSTEM)
        .args([
            "--node-image=localhost/none:1",
            "--token-review-cluster-role=",
            "--metrics-addr=127.0.0.1:19090",
        ])
        .arg(format!("--watch-namespaces={NAMESPACE}"))
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .context("mailcluster-operator")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zone_is_a_third_of_the_nodes() {
        for (stores, nodes) in [(200, 60), (5, 3), (1, 3), (100, 30)] {
            let size = Size { stores, frontends: 1 };
            assert_eq!((size.nodes(), size.dying()), (nodes, nodes / 3), "{stores}");
        }
    }

    #[test]
    fn what_a_process_has_used_is_read_from_proc() {
        let stat = "7 (a (b) c) S 1 7 7 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 5 0 100 1000 100";
        let status = "Name:\tx\nVmHWM:\t  20480 kB\nVmRSS:\t  10240 kB\n";
        let usage = Usage { cpu: 3.0, resident: 10, peak: 20 };
        assert_eq!(Usage::read(stat, status), Some(usage));
        assert_eq!(Usage::read("7 (x) S", status), None);
    }
}
