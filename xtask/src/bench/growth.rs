//! One standalone store that grows: what the number of its accounts costs.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use mailcluster_interop::{NodeBinary, Standalone, wait_until};
use mailcluster_test_clients::{ImapClient, SendOutcome, SmtpClient, Tls, message};
use serde_json::{Value, json};

use super::{
    crowd,
    delivery::{Door, Work, measure},
    median,
};
use crate::cargo;

/// Accounts of each step; the same store goes from one to the next.
const STEPS: &[usize] = &[1_000, 100_000, 1_000_000];
const DOMAIN: &str = "example.test";
const PASSWORD: &str = "correct horse";
/// Messages whose headers are fetched.
const HEADERS: usize = 50;
/// Sessions that are timed.
const SESSIONS: usize = 20;
/// Whose mailbox is read.
const READER: &str = "reader";
/// A deadline, not an expectation.
const LIMIT: Duration = Duration::from_secs(900);

/// A row for each step.
pub fn run() -> Result<Vec<Value>> {
    let program = cargo::binary("mailcluster-node")?;
    let binary = NodeBinary::in_folder(program.parent().context("no target folder")?)?;
    let data = mailcluster_interop::scratch("growth")?;
    let mut node = Standalone::start_with(binary, &data)?;
    node.accounts(DOMAIN, &[READER], PASSWORD)?;
    fill(&node)?;
    let (mut rows, mut have) = (Vec::new(), 0);
    for &count in STEPS {
        println!("{count} accounts");
        let imported = import(&node, have..count)?;
        have = count;
        let row = step(&mut node, count, imported)?;
        rows.push(compared(row, rows.first()));
    }
    drop(node);
    std::fs::remove_dir_all(data)?;
    Ok(rows)
}

/// With the worst that has become of delivery, login and reading since the first step (times slower), and how much is allowed.
fn compared(mut row: Value, first: Option<&Value>) -> Value {
    let of = |row: &Value, field: &str| row[field].as_f64().unwrap_or(f64::NAN);
    if let Some(first) = first {
        let slower = ["login_ms", "read_ms"].map(|field| of(&row, field) / of(first, field));
        let worst = slower.into_iter().fold(of(first, "ours") / of(&row, "ours"), f64::max);
        (row["ratio"], row["limit"]) = (json!(worst), json!(2.0));
    }
    row
}

/// The mailbox that is read.
fn fill(node: &Standalone) -> Result<()> {
    let mut session = SmtpClient::lmtp(node.addr("lmtp")?, Duration::from_secs(30))?;
    for n in 0..HEADERS {
        let to = format!("{READER}@{DOMAIN}");
        let outcome = session.send("sender@elsewhere.test", &[&to], &message(&format!("h{n}"), 8 << 10));
        ensure!(matches!(outcome, SendOutcome::Accepted(_)), "{outcome:?}");
    }
    Ok(())
}

/// Adds these accounts and waits until they are active; seconds.
fn import(node: &Standalone, numbers: std::ops::Range<usize>) -> Result<f64> {
    let path = node.data().with_extension("csv");
    std::fs::write(&path, crowd::csv(numbers.clone(), DOMAIN)?)?;
    let begun = Instant::now();
    node.admin(&["account", "import", path.to_str().context("path")?], "")?;
    let last = crowd::address(numbers.end - 1, DOMAIN);
    wait_until("the last account is active", LIMIT, || {
        node.admin(&["account", "show", &last], "").is_ok_and(|shown| shown.contains("active"))
    })?;
    std::fs::remove_file(path)?;
    Ok(begun.elapsed().as_secs_f64())
}

fn step(node: &mut Standalone, count: usize, imported: f64) -> Result<Value> {
    let work = Work { clients: 64, size: 8 << 10, recipients: 1, to: address, among: count };
    let delivered = measure(Door::Lmtp(node.addr("lmtp")?), &work)?;
    let sessions: Vec<(f64, f64)> = (0..SESSIONS).map(|_| session(node)).collect::<Result<_>>()?;
    let login = median(sessions.iter().map(|(login, _)| *login).collect());
    let read = median(sessions.iter().map(|(_, read)| *read).collect());
    let resident = node.resident()? >> 20;
    node.kill()?;
    let begun = Instant::now();
    node.restart()?;
    let opened = begun.elapsed().as_secs_f64();
    Ok(json!({"name": "growth", "accounts": count, "import_s": imported, "ours": delivered.rate,
        "p99_ms": delivered.p99, "login_ms": login, "read_ms": read, "rss_mib": resident, "open_s": opened,
        "disk_mib": size(node.data())? >> 20}))
}

/// The address of a delivery: all over the store.
fn address(n: usize, among: usize) -> String {
    crowd::address(n * 7919 % among, DOMAIN)
}

/// Milliseconds of a connection with its login, most of which is the password's hash; then of SELECT and FETCH.
fn session(node: &Standalone) -> Result<(f64, f64)> {
    let user = format!("{READER}@{DOMAIN}");
    let (imaps, limit) = (node.addr("imaps")?, Duration::from_secs(30));
    let begun = Instant::now();
    let mut client = ImapClient::login(imaps, Tls::Implicit, limit, &user, PASSWORD)?;
    let login = begun.elapsed().as_secs_f64() * 1e3;
    let begun = Instant::now();
    client.ok("SELECT INBOX")?;
    let found = client.ok(&format!("FETCH 1:{HEADERS} (UID FLAGS BODY.PEEK[HEADER])"))?;
    let read = begun.elapsed().as_secs_f64() * 1e3;
    let fetched = found.iter().filter(|untagged| untagged.line.contains(" FETCH ")).count();
    ensure!(fetched == HEADERS, "{fetched} messages");
    Ok((login, read))
}

/// Octets of all files below.
fn size(folder: &Path) -> Result<u64> {
    let mut octets = 0;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        octets += if metadata.is_dir() { size(&entry.path())? } else { metadata.len() };
    }
    Ok(octets)
}
