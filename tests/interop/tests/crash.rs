//! Crashes at random moments under load: what got 250 or OK is there once, with its flags; UIDs are never reused.
//! `MAILCLUSTER_LONG=1` runs the stated numbers (100 kills, 20 cuts), else a fifth of the kills and a quarter of
//! the cuts.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use mailcluster_interop::{CrashDisk, Cut, Standalone};
use mailcluster_test_clients::{Found, ImapClient, Ledger, Load, LoadPlan, Tls, token_of};

const PASSWORD: &str = "correct horse";
const NAMES: [&str; 4] = ["a0", "a1", "a2", "a3"];

fn rounds(long: u32, short: u32) -> u32 {
    if std::env::var_os("MAILCLUSTER_LONG").is_some_and(|value| !value.is_empty()) { long } else { short }
}

fn accounts() -> Vec<String> {
    NAMES.iter().map(|name| format!("{name}@example.test")).collect()
}

/// What the crashes of one node may never change.
#[derive(Default)]
struct Memory {
    /// (account, UIDVALIDITY, UID) -> token, as a client has seen it.
    uids: BTreeMap<(String, String, u32), String>,
    /// (account, token) -> the keyword that a STORE with OK has set.
    flagged: BTreeMap<(String, String), String>,
    promised: Vec<Ledger>,
}

impl Memory {
    /// Reads everything and compares.
    fn check(&mut self, node: &Standalone) -> Result<()> {
        let mut found = Vec::new();
        for account in accounts() {
            let mut client = login(node, &account)?;
            let select = client.ok("EXAMINE INBOX")?;
            let validity =
                select.iter().find_map(|u| u.line.split_once("UIDVALIDITY ")).context("no UIDVALIDITY")?.1;
            let validity = validity.split(']').next().unwrap_or_default().to_owned();
            for message in client.fetch_all("INBOX")? {
                let copy = Found::read(&account, &message.body)
                    .with_context(|| format!("{account} UID {}", message.uid))?;
                let token = copy.token.clone();
                let key = (account.clone(), validity.clone(), message.uid);
                let before = self.uids.entry(key).or_insert_with(|| token.clone());
                ensure!(*before == token, "{account} UID {} was {before}, is {token}", message.uid);
                if let Some(flag) = self.flagged.get(&(account.clone(), token.clone())) {
                    ensure!(
                        message.flags.iter().any(|f| f == flag),
                        "{account} {token} lost its flag {flag}"
                    );
                }
                found.push(copy);
            }
        }
        let mut all = Ledger::default();
        for ledger in &self.promised {
            all.merge(ledger);
        }
        let verdict = all.compare(&found);
        ensure!(verdict.is_clean(), "{verdict:?}");
        Ok(())
    }
}

fn login(node: &Standalone, account: &str) -> Result<ImapClient> {
    ImapClient::login(node.addr("imaps")?, Tls::Implicit, Duration::from_secs(30), account, PASSWORD)
}

/// Sets a keyword on one message after the other until the node dies; answers what got OK.
fn flagger(
    node: &Standalone,
    round: u32,
    stop: Arc<AtomicBool>,
) -> Result<JoinHandle<Vec<(String, String)>>> {
    let mut client = login(node, "a0@example.test")?;
    let flag = format!("round{round}");
    Ok(std::thread::spawn(move || {
        let mut done = Vec::new();
        let Ok(messages) = client.fetch_all("INBOX") else { return done };
        for message in messages.iter().rev() {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            let Ok((_, tagged)) =
                client.command(&format!("UID STORE {} +FLAGS.SILENT ({flag})", message.uid))
            else {
                break;
            };
            if let (true, Some(token)) = (tagged.starts_with("OK"), token_of(&message.body)) {
                done.push((token, flag.clone()));
            }
        }
        done
    }))
}

/// One round of load; `end` ends the node in the middle of it.
fn round(
    node: &mut Standalone,
    number: u32,
    memory: &mut Memory,
    end: impl FnOnce(&mut Standalone) -> Result<()>,
) -> Result<()> {
    let load = Load::start(&LoadPlan {
        addr: node.addr("lmtp")?,
        lmtp: true,
        recipients: accounts(),
        threads: 8,
        size: 4096,
        pause: Duration::ZERO,
        timeout: Duration::from_secs(20),
        name: format!("r{number}"),
    });
    let stop = Arc::new(AtomicBool::new(false));
    let flags = flagger(node, number, stop.clone())?;
    // A random moment, told by the clock's own noise; some messages are wanted first.
    let noise =
        u64::from(std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.subsec_nanos() % 400);
    let deadline = Instant::now() + Duration::from_secs(20);
    let moment = Instant::now() + Duration::from_millis(100 + noise);
    while load.accepted() < 20 || Instant::now() < moment {
        ensure!(Instant::now() < deadline, "only {} messages were accepted in 20 s", load.accepted());
        std::thread::sleep(Duration::from_millis(1));
    }
    end(node)?;
    stop.store(true, Ordering::Relaxed);
    memory.promised.push(load.finish());
    for (token, flag) in flags.join().unwrap_or_default() {
        memory.flagged.insert(("a0@example.test".to_owned(), token), flag);
    }
    node.restart()?;
    memory.check(node)
}

#[test]
fn f05_kill_nine_at_random_moments_loses_nothing() -> Result<()> {
    let data = mailcluster_interop::scratch("kill")?;
    let mut node = Standalone::start_in(&data)?;
    node.accounts("example.test", &NAMES, PASSWORD)?;
    let mut memory = Memory::default();
    for number in 0..rounds(100, 20) {
        round(&mut node, number, &mut memory, Standalone::kill).with_context(|| format!("round {number}"))?;
    }
    std::fs::remove_dir_all(data)?;
    Ok(())
}

#[test]
fn f03_power_cuts_at_random_instants_lose_nothing() -> Result<()> {
    let mut disk = CrashDisk::new("power", 512)?;
    let mut node = Standalone::start_on(&disk)?;
    node.accounts("example.test", &NAMES, PASSWORD)?;
    let mut memory = Memory::default();
    for number in 0..rounds(20, 5) {
        let cut =
            power_round(&mut node, number, &mut memory, &disk).with_context(|| format!("cut {number}"))?;
        disk.restore(&cut)?;
        node.restart()?;
        memory.check(&node).with_context(|| format!("cut {number}"))?;
    }
    drop(node);
    Ok(())
}

/// As [`round`], but what counts is what was promised before the instant of the cut.
fn power_round(node: &mut Standalone, number: u32, memory: &mut Memory, disk: &CrashDisk) -> Result<Cut> {
    let load = Load::start(&LoadPlan {
        addr: node.addr("lmtp")?,
        lmtp: true,
        recipients: accounts(),
        threads: 8,
        size: 4096,
        pause: Duration::ZERO,
        timeout: Duration::from_secs(20),
        name: format!("c{number}"),
    });
    let deadline = Instant::now() + Duration::from_secs(20);
    while load.accepted() < 50 {
        ensure!(Instant::now() < deadline, "only {} messages were accepted in 20 s", load.accepted());
        std::thread::sleep(Duration::from_millis(1));
    }
    // Promised strictly before the cut: must be there. Everything later may or may not.
    let before = load.snapshot();
    let cut = disk.cut()?;
    node.kill()?;
    let after = load.finish();
    memory.promised.push(after.weakened_to(&before));
    Ok(cut)
}
