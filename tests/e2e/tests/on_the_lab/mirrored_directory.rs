//! The directory of a mirrored cluster loses its primary: whoever frontends have seen logs in all the time, and after
//! seconds a mirror has the directory, for everybody else and for administrators.

use std::{
    net::{IpAddr, SocketAddr},
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use mailcluster_e2e::{DOMAIN, PASSWORD, StoreView, read, wait_for};
use mailcluster_lab::{Block, Way};
use mailcluster_test_clients::Ledger;

use crate::{
    beside::judged,
    mirrors::{all_in_sync, mirrored},
    stage::{LIMIT, Stage, say},
};

/// IMAP over TLS at a frontend's own address.
const IMAPS: u16 = 10993;
/// A lease and three seconds are promised, and a login or a command more; this is for a machine that is busy with all of
/// it.
const WITHIN: Duration = Duration::from_secs(5 * (8 + 3));
/// A login may wait for an answer of the directory first; it is not to fail.
const PATIENCE: Duration = Duration::from_secs(15);
/// Between two rounds of logins.
const PAUSE: Duration = Duration::from_millis(250);

/// The primary's process is frozen, and its pod reaches nobody and is reached by nobody; its node goes on.
pub fn primary_lost(stage: &Stage) -> Result<Ledger> {
    let twin = mirrored(stage)?;
    let before = twin.site.store(&format!("{}-directory", twin.site.cluster))?;
    let [unseen, made] = ["unseen", "made"].map(|who| format!("{who}-{}@{DOMAIN}", std::process::id()));
    add(&twin, &unseen)?;
    wait_for("the account is active", LIMIT, || {
        Ok(twin.site.admin(&["account", "show", &unseen], "")?.contains("active").then_some(()))
    })?;
    // From here on each frontend has seen them, and nobody has seen the other one.
    let doors = wait_for("everybody has logged in at each frontend", LIMIT, || {
        let doors = doors(&twin)?;
        all_log_in(&doors, &twin.addresses)?;
        Ok(Some(doors))
    })?;
    let promised = twin.sending("no-directory-primary", || {
        let pod = twin.site.copy_on(&before.name, |node| node == before.host)?;
        let lost = lose(&twin, &before, &pod)
            .and_then(|()| meanwhile(&doors, &twin.addresses, || taken_over(&twin, &before, &unseen, &made)));
        lost.and(mend(&twin, &before, &pod))
    })?;
    all_in_sync(&twin)?;
    let known = twin.site.known_accounts()?;
    for address in twin.addresses.iter().chain([&unseen, &made]) {
        ensure!(known.iter().any(|account| account.address == *address), "{address} is lost: {known:?}");
    }
    for address in [&unseen, &made] {
        twin.site.admin(&["account", "delete", address], "")?;
    }
    judged(&twin, &promised)
}

/// An account on the cluster's store.
fn add(twin: &Stage, address: &str) -> Result<()> {
    let store = &twin.accounts.first().context("no accounts")?.store;
    let words = ["account", "add", address, "--store", store, "--password-file", "-"];
    twin.site.admin(&words, PASSWORD).map(drop)
}

/// Each frontend's own address: the Service sends a client to any of them.
fn doors(twin: &Stage) -> Result<Vec<SocketAddr>> {
    let mut doors = Vec::new();
    for frontend in twin.site.frontends()? {
        let address = twin.site.running_at(&frontend)?.with_context(|| format!("{frontend} does not run"))?;
        doors.push(SocketAddr::new(address, IMAPS));
    }
    ensure!(doors.len() > 1, "one frontend: {doors:?}");
    Ok(doors)
}

/// Everybody logs in at every frontend.
fn all_log_in(doors: &[SocketAddr], users: &[String]) -> Result<()> {
    for (door, user) in doors.iter().flat_map(|door| users.iter().map(move |user| (door, user))) {
        read(*door, user, PATIENCE).with_context(|| format!("{user} at the frontend {door}"))?;
    }
    Ok(())
}

/// Does that while these users log in at these frontends, again and again; none of them may fail.
fn meanwhile(doors: &[SocketAddr], users: &[String], during: impl FnOnce() -> Result<()>) -> Result<()> {
    let done = AtomicBool::new(false);
    let (outcome, rounds) = std::thread::scope(|threads| {
        let logins = threads.spawn(|| -> Result<u32> {
            let mut rounds = 0;
            while !done.load(Ordering::Relaxed) {
                all_log_in(doors, users)?;
                rounds += 1;
                std::thread::sleep(PAUSE);
            }
            Ok(rounds)
        });
        let outcome = during();
        done.store(true, Ordering::Relaxed);
        (outcome, logins.join())
    });
    let Ok(rounds) = rounds else { bail!("the logins' thread panicked") };
    let rounds = rounds.context("somebody whom frontends had seen")?;
    outcome?;
    ensure!(rounds > 0, "nobody logged in meanwhile");
    say(&format!("{} users logged in {rounds} times at each frontend meanwhile", users.len()));
    Ok(())
}

fn lose(twin: &Stage, before: &StoreView, pod: &str) -> Result<()> {
    let lab = twin.site.lab()?;
    let own = match twin.site.running_at(pod)? {
        Some(IpAddr::V4(own)) => own,
        other => bail!("{pod} runs at {other:?}"),
    };
    lab.pause_pod(&twin.site.namespace, pod)?;
    lab.block(&before.host, Block { way: Way::Both, own: Some(own), peers: Vec::new() })
}

fn mend(twin: &Stage, before: &StoreView, pod: &str) -> Result<()> {
    twin.site.lab()?.heal(&before.host)?;
    twin.thaw(pod)
}

/// Somebody whom no frontend has seen logs in, an account is made, and its owner logs in: by a mirror, elsewhere.
fn taken_over(twin: &Stage, before: &StoreView, unseen: &str, made: &str) -> Result<()> {
    let begun = Instant::now();
    let took = wait_for("somebody unseen logs in", WITHIN, || {
        Ok(twin.reads(unseen).then(|| begun.elapsed().as_secs_f64()))
    })?;
    say(&format!("somebody whom no frontend had seen logged in after {took:.1} s"));
    wait_for("an account is made", WITHIN, || {
        // One whose answer was lost is there.
        let is_there = || twin.site.admin(&["account", "show", made], "").map(drop);
        add(twin, made).or_else(|_| is_there()).map(Some)
    })?;
    wait_for("its owner logs in", WITHIN, || Ok(twin.reads(made).then_some(())))?;
    let took = begun.elapsed().as_secs_f64();
    let after = wait_for(&format!("the directory has left {}", before.host), LIMIT, || {
        let now = twin.site.store(&before.name)?;
        let moved = now.epoch > before.epoch && now.host != before.host && now.phase == "Serving";
        Ok(moved.then_some(now))
    })?;
    say(&format!(
        "epoch {} on {} -> {} on {}; a new account's owner logged in after {took:.1} s",
        before.epoch, before.host, after.epoch, after.host
    ));
    Ok(())
}
