//! LMTP into `standalone` beside dovecot-lmtpd with `mail_fsync=always`, and SMTP through its frontend.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use mailcluster_interop::{ClientRoot, NodeBinary, Standalone};
use mailcluster_test_clients::{SendOutcome, SmtpClient, Tls, message};
use serde_json::{Value, json};

use super::{ROUNDS, dovecot::Dovecot, goals::goal, median};
use crate::cargo;

/// How long one measurement lasts.
const MEASURE: Duration = Duration::from_secs(4);
/// Accounts that the deliveries go to in turn.
const ACCOUNTS: usize = 64;
/// Each case.
const CASES: &[Work] = &[
    Work::of(1, 8 << 10, 1),
    Work::of(8, 8 << 10, 1),
    Work::of(64, 2 << 10, 1),
    Work::of(64, 8 << 10, 1),
    Work::of(64, 100 << 10, 1),
    Work::of(1, 8 << 10, 3),
    Work::of(64, 8 << 10, 3),
];

/// What is delivered.
#[derive(Clone, Copy)]
pub struct Work {
    /// Clients at the same time.
    pub clients: usize,
    /// Octets of a message.
    pub size: usize,
    /// Recipients of each.
    pub recipients: usize,
    /// The recipient of this number, among so many accounts.
    pub to: fn(usize, usize) -> String,
    /// How many accounts there are.
    pub among: usize,
}

impl Work {
    const fn of(clients: usize, size: usize, recipients: usize) -> Self {
        Self { clients, size, recipients, to: address, among: ACCOUNTS }
    }
}

fn address(n: usize, among: usize) -> String {
    format!("bench{}@example.test", n % among)
}

/// How a message gets there.
#[derive(Clone, Copy)]
pub enum Door {
    Lmtp(SocketAddr),
    /// Through a frontend.
    Smtp(SocketAddr),
}

impl Door {
    fn open(self) -> Result<SmtpClient> {
        let wait = Duration::from_secs(30);
        match self {
            Self::Lmtp(addr) => SmtpClient::lmtp(addr, wait),
            Self::Smtp(addr) => SmtpClient::connect(addr, Tls::None, wait),
        }
    }
}

/// Every case, in turn with the peer.
pub fn run() -> Result<Vec<Value>> {
    let program = cargo::binary("mailcluster-node")?;
    let binary = NodeBinary::in_folder(program.parent().context("no target folder")?)?;
    let root = ClientRoot::ensure()?;
    let data = mailcluster_interop::scratch("bench")?;
    let node = Standalone::start_with(binary, &data)?;
    let names: Vec<String> = (0..ACCOUNTS).map(|n| format!("bench{n}")).collect();
    let borrowed: Vec<&str> = names.iter().map(String::as_str).collect();
    node.accounts("example.test", &borrowed, "correct horse")?;
    let dovecot = Dovecot::start(&root)?;
    let (lmtp, smtp) = (Door::Lmtp(node.addr("lmtp")?), Door::Smtp(node.addr("smtp")?));
    let mut rows = Vec::new();
    for case in CASES {
        rows.push(row("single", case, lmtp, &dovecot)?);
    }
    rows.push(row("frontend", &Work::of(64, 8 << 10, 1), smtp, &dovecot)?);
    drop((node, dovecot));
    std::fs::remove_dir_all(data)?;
    Ok(rows)
}

/// One case; the median of the rounds counts.
fn row(path: &str, case: &Work, door: Door, dovecot: &Dovecot) -> Result<Value> {
    let Work { clients, size, recipients, .. } = *case;
    println!("{path}: {clients} clients, {size} octets, {recipients} recipients");
    let (mut ours, mut peer) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        ours.push(measure(door, case)?);
        peer.push(measure(Door::Lmtp(dovecot.addr()), case)?);
    }
    let middle = |figures: &[Measured], of: fn(&Measured) -> f64| median(figures.iter().map(of).collect());
    let (rate, theirs) = (middle(&ours, |m| m.rate), middle(&peer, |m| m.rate));
    Ok(json!({"name": "delivery", "clients": clients, "size": size, "rcpts": recipients, "path": path,
        "ours": rate, "peer": theirs, "ratio": rate / theirs,
        "p50_ms": middle(&ours, |m| m.p50), "p99_ms": middle(&ours, |m| m.p99),
        "peer_p99": middle(&peer, |m| m.p99), "limit": goal(path, clients, size, recipients)}))
}

/// What came of it.
pub struct Measured {
    /// Messages per second.
    pub rate: f64,
    /// Milliseconds from MAIL to the last reply.
    pub p50: f64,
    /// 99 of 100 took no longer.
    pub p99: f64,
}

/// All clients at once, for a while.
pub fn measure(door: Door, work: &Work) -> Result<Measured> {
    let (start, work) = (Instant::now(), *work);
    let threads: Vec<_> = (0..work.clients)
        .map(|client| std::thread::spawn(move || deliver(door, client, &work, start)))
        .collect();
    let mut took = Vec::new();
    for thread in threads {
        took.extend(thread.join().map_err(|_| anyhow::anyhow!("a client panicked"))??);
    }
    let rate = took.len() as f64 / start.elapsed().as_secs_f64();
    took.sort_unstable();
    let at = |percent: usize| -> Result<f64> {
        let place = took.len().saturating_sub(1) * percent / 100;
        Ok(took.get(place).context("nothing was delivered")?.as_secs_f64() * 1e3)
    };
    Ok(Measured { rate, p50: at(50)?, p99: at(99)? })
}

/// One client's deliveries: how long each took.
fn deliver(door: Door, client: usize, work: &Work, start: Instant) -> Result<Vec<Duration>> {
    let mut session = door.open()?;
    let mut took = Vec::new();
    while start.elapsed() < MEASURE {
        let first = client + took.len() * work.clients * work.recipients;
        let to: Vec<String> = (first..first + work.recipients).map(|n| (work.to)(n, work.among)).collect();
        let to: Vec<&str> = to.iter().map(String::as_str).collect();
        let body = message(&format!("b{client}-{}", took.len()), work.size);
        let asked = Instant::now();
        match session.send("sender@elsewhere.test", &to, &body) {
            SendOutcome::Accepted(_) => took.push(asked.elapsed()),
            other => bail!("{other:?}"),
        }
    }
    Ok(took)
}
