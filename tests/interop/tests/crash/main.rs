//! Crashes at random moments under load: what got 250 or OK is there once, as it was sent, with its flags; what was
//! expunged stays away; UIDs are never reused. `MAILCLUSTER_LONG=1` runs the stated numbers (100 kills, 20 cuts), else
//! a fifth of the kills and a quarter of the cuts.

mod actor;
mod memory;

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use actor::{Clients, LIMIT, append_one};
use anyhow::{Context, Result, bail};
use mailcluster_interop::{CrashDisk, Cut, Standalone, Strace, wait_until};
use mailcluster_test_clients::{ImapClient, Load, LoadPlan, Tls};
use memory::{Memory, Report};

const PASSWORD: &str = "correct horse";
/// These get mail.
const NAMES: [&str; 4] = ["a0", "a1", "a2", "a3"];
/// This one's mail is moved about by a client.
const ACTOR: &str = "actor@example.test";

fn rounds(long: u32, short: u32) -> u32 {
    if std::env::var_os("MAILCLUSTER_LONG").is_some_and(|value| !value.is_empty()) { long } else { short }
}

fn recipients() -> Vec<String> {
    NAMES.iter().map(|name| format!("{name}@example.test")).collect()
}

fn accounts() -> Vec<String> {
    let mut all = recipients();
    all.push(ACTOR.to_owned());
    all
}

fn make_accounts(node: &Standalone) -> Result<()> {
    let mut names = NAMES.to_vec();
    names.push("actor");
    node.accounts("example.test", &names, PASSWORD)
}

fn login(node: &Standalone, account: &str) -> Result<ImapClient> {
    ImapClient::login(node.addr("imaps")?, Tls::Implicit, LIMIT, account, PASSWORD)
}

/// Senders by LMTP and by SMTP, and clients that change things.
struct Traffic {
    loads: [Load; 2],
    clients: Clients,
}

impl Traffic {
    fn start(node: &Standalone, name: &str) -> Result<Self> {
        let plan = |proto: &str| -> Result<LoadPlan> {
            Ok(LoadPlan {
                addr: node.addr(proto)?,
                lmtp: proto == "lmtp",
                recipients: recipients(),
                threads: 4,
                size: 4096,
                pause: Duration::ZERO,
                timeout: Duration::from_secs(20),
                name: format!("{proto}-{name}"),
            })
        };
        let loads = [Load::start(&plan("lmtp")?), Load::start(&plan("smtp")?)];
        // The clients shall see some of this round's messages.
        let some = || loads.iter().all(|load| load.accepted() >= 10);
        wait_until("some messages by LMTP and SMTP", Duration::from_secs(60), some)?;
        Ok(Self { loads, clients: Clients::start(node, name)? })
    }

    /// Waits for a random moment, told by the clock's own noise; the clients shall have done something first.
    fn random_moment(&self) -> Result<()> {
        let noise = u64::from(SystemTime::now().duration_since(UNIX_EPOCH)?.subsec_nanos() % 400);
        wait_until("changes by IMAP", Duration::from_secs(60), || self.clients.log.is_busy())?;
        let moment = Instant::now() + Duration::from_millis(noise);
        while Instant::now() < moment {
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// Everything that was promised until the node died.
    fn finish(self, memory: &mut Memory) {
        for load in self.loads {
            memory.promise(load.finish());
        }
        memory.learn(&self.clients.finish(), usize::MAX);
    }
}

/// Starts the node again and compares; a new message comes first, so that its UID could be one that was given before.
fn after_crash(node: &mut Standalone, name: &str, memory: &mut Memory) -> Result<Report> {
    node.restart()?;
    let events = append_one(node, &format!("first-after-{name}"))?;
    memory.learn(&events, usize::MAX);
    memory.compare(node)
}

#[test]
fn f05_kill_nine_at_random_moments_loses_nothing() -> Result<()> {
    let data = mailcluster_interop::scratch("kill")?;
    let mut node = Standalone::start_in(&data)?;
    make_accounts(&node)?;
    let mut memory = Memory::default();
    for number in 0..rounds(100, 20) {
        let name = format!("k{number}");
        let traffic = Traffic::start(&node, &name)?;
        traffic.random_moment()?;
        node.kill()?;
        traffic.finish(&mut memory);
        let report = after_crash(&mut node, &name, &mut memory);
        report.and_then(|report| report.check()).with_context(|| format!("kill {number}"))?;
    }
    std::fs::remove_dir_all(data)?;
    Ok(())
}

#[test]
fn f03_power_cuts_at_random_instants_lose_nothing() -> Result<()> {
    let mut disk = CrashDisk::new("power", 512)?;
    let mut node = Standalone::start_on(&disk)?;
    make_accounts(&node)?;
    let mut memory = Memory::default();
    for number in 0..rounds(20, 5) {
        let name = format!("c{number}");
        let cut = power_cut(&mut node, &name, &mut memory, &disk)?;
        disk.restore(&cut)?;
        let report = after_crash(&mut node, &name, &mut memory);
        report.and_then(|report| report.check()).with_context(|| format!("cut {number}"))?;
    }
    drop(node);
    Ok(())
}

/// Cuts the power under traffic. What counts is what was promised before the instant of the cut.
fn power_cut(node: &mut Standalone, name: &str, memory: &mut Memory, disk: &CrashDisk) -> Result<Cut> {
    let traffic = Traffic::start(node, name)?;
    traffic.random_moment()?;
    // Promised strictly before the cut: must be there. Everything later may or may not.
    let before = traffic.loads.each_ref().map(Load::snapshot);
    let certain = traffic.clients.log.events().len();
    let cut = disk.cut()?;
    node.kill()?;
    for (load, before) in traffic.loads.into_iter().zip(&before) {
        memory.promise(load.finish().weakened_to(before));
    }
    memory.learn(&traffic.clients.finish(), certain);
    Ok(cut)
}

/// The proof that the power cuts above mean something: with syncs that do nothing, they lose mail.
#[test]
fn f03_without_syncs_a_power_cut_is_noticed() -> Result<()> {
    let mut disk = CrashDisk::new("no-sync", 512)?;
    let mut node = Standalone::start_on(&disk)?;
    make_accounts(&node)?;
    let mut memory = Memory::default();
    for number in 0..3 {
        // Every sync answers that all is well, and does nothing.
        let strace = Strace::syncs(&node, "retval=0")?;
        let name = format!("n{number}");
        let cut = power_cut(&mut node, &name, &mut memory, &disk)?;
        drop(strace);
        disk.restore(&cut)?;
        let report = after_crash(&mut node, &name, &mut memory)?;
        let (lost, accepted) = (report.verdict.lost.len(), report.verdict.accepted);
        let wrong = report.wrong.len();
        println!(
            "without syncs a power cut lost {lost} of {accepted} accepted messages; {wrong} other faults"
        );
        if lost > 0 {
            return Ok(());
        }
    }
    bail!("three power cuts without syncs lost nothing: the test of power cuts proves nothing");
}
