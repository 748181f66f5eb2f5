//! LMTP into `standalone` beside dovecot-lmtpd with `mail_fsync=always`, and SMTP through its frontend.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use mailcluster_interop::{ClientRoot, NodeBinary, Standalone};
use mailcluster_test_clients::{SendOutcome, SmtpClient, Tls, message};
use serde_json::{Value, json};

use super::{ROUNDS, dovecot::Dovecot, median};
use crate::cargo;

/// How long one measurement lasts.
const MEASURE: Duration = Duration::from_secs(4);
/// Accounts that the deliveries go to in turn.
const ACCOUNTS: usize = 64;
/// Clients, octets and recipients of each case.
const CASES: &[(usize, usize, usize)] = &[
    (1, 8 << 10, 1),
    (8, 8 << 10, 1),
    (64, 2 << 10, 1),
    (64, 8 << 10, 1),
    (64, 100 << 10, 1),
    (1, 8 << 10, 3),
    (64, 8 << 10, 3),
];

/// How a message gets there.
#[derive(Clone, Copy)]
enum Door {
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
    rows.push(row("frontend", &(64, 8 << 10, 1), smtp, &dovecot)?);
    drop((node, dovecot));
    std::fs::remove_dir_all(data)?;
    Ok(rows)
}

/// One case; the median of the rounds counts.
fn row(path: &str, case: &(usize, usize, usize), door: Door, dovecot: &Dovecot) -> Result<Value> {
    let (clients, size, recipients) = *case;
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
        "peer_p99": middle(&peer, |m| m.p99), "limit": Value::Null}))
}

struct Measured {
    /// Messages per second.
    rate: f64,
    /// Milliseconds from MAIL to the last reply.
    p50: f64,
    p99: f64,
}

fn measure(door: Door, (clients, size, recipients): &(usize, usize, usize)) -> Result<Measured> {
    let start = Instant::now();
    let (size, recipients) = (*size, *recipients);
    let threads: Vec<_> = (0..*clients)
        .map(|client| std::thread::spawn(move || deliver(door, client, (size, recipients), start)))
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
fn deliver(
    door: Door,
    client: usize,
    (size, recipients): (usize, usize),
    start: Instant,
) -> Result<Vec<Duration>> {
    let mut session = door.open()?;
    let mut took = Vec::new();
    while start.elapsed() < MEASURE {
        let first = client + took.len() * recipients;
        let to: Vec<String> =
            (first..first + recipients).map(|n| format!("bench{}@example.test", n % ACCOUNTS)).collect();
        let to: Vec<&str> = to.iter().map(String::as_str).collect();
        let body = message(&format!("b{client}-{}", took.len()), size);
        let asked = Instant::now();
        match session.send("sender@elsewhere.test", &to, &body) {
            SendOutcome::Accepted(_) => took.push(asked.elapsed()),
            other => bail!("{other:?}"),
        }
    }
    Ok(took)
}
