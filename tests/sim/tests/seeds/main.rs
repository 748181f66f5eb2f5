//! Seeds of a mirrored store: see the crate's documentation.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod api;
mod clients;
mod faults;
mod ledger;
mod net;
mod node;
mod operator;
mod world;

use std::{
    sync::atomic::{AtomicU64, AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use world::{Plan, World};

/// The store's name.
const STORE: &str = "demo-0";
/// The shortest lease there is.
const LEASE_SECONDS: u32 = 4;

fn is_long() -> bool {
    std::env::var("MAILCLUSTER_LONG").is_ok_and(|value| !value.is_empty())
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().unwrap_or_else(|_| panic!("{name} is no number")))
}

#[test]
fn whatever_the_seed_nothing_acknowledged_is_lost() {
    if let Ok(filter) = std::env::var("MAILCLUSTER_SIM_LOG") {
        tracing_subscriber::fmt().with_env_filter(filter).without_time().init();
    }
    if let Some(seed) = number("MAILCLUSTER_SIM_SEED") {
        println!("{:#?}", World::play(Plan::of(seed)).unwrap_or_else(|why| panic!("{why}")));
        return;
    }
    let seeds = number("MAILCLUSTER_SIM_SEEDS").unwrap_or(if is_long() { 6_000 } else { 250 });
    let first = number("MAILCLUSTER_SIM_FIRST").unwrap_or(1);
    let next = AtomicU64::new(first);
    let (acked, unknown, epochs, faults) =
        (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
    let slowest = AtomicU64::new(0);
    let (slices, passes, given_back) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    let sins = std::sync::Mutex::new(Vec::new());
    let began = Instant::now();
    std::thread::scope(|threads| {
        for _ in 0..2 {
            threads.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + seeds || sins.lock().unwrap().len() > 4 {
                        break;
                    }
                    match World::play(Plan::of(seed)) {
                        Ok(told) => {
                            let counts = told.counts;
                            acked.fetch_add(
                                counts.delivered + counts.flagged + counts.expunged,
                                Ordering::Relaxed,
                            );
                            unknown.fetch_add(counts.unknown, Ordering::Relaxed);
                            epochs.fetch_add(told.epochs, Ordering::Relaxed);
                            faults.fetch_add(told.faults, Ordering::Relaxed);
                            slices.fetch_add(told.compared.0, Ordering::Relaxed);
                            passes.fetch_add(told.compared.1, Ordering::Relaxed);
                            given_back.fetch_add(told.given_back, Ordering::Relaxed);
                            slowest.fetch_max(told.healed_after, Ordering::Relaxed);
                        }
                        Err(why) => sins.lock().unwrap().push(why),
                    }
                }
            });
        }
    });
    println!(
        "{seeds} seeds from {first}: {faults:?} faults, {acked:?} changes acknowledged at {epochs:?} epochs, {unknown:?} \
         without an answer; {slices:?} slices of indexes compared, {passes:?} times all of one; \
         {given_back:?} files of logs given back; healed after at most {:?}; {:.1} s",
        Duration::from_millis(slowest.into_inner()),
        began.elapsed().as_secs_f64()
    );
    assert!(passes.into_inner() >= seeds, "indexes are hardly compared");
    assert!(given_back.into_inner() >= seeds, "hardly any room is given back");
    let sins = sins.into_inner().unwrap();
    assert!(sins.is_empty(), "{}\n(play one again with MAILCLUSTER_SIM_SEED=n)", sins.join("\n"));
}

/// Acknowledged is what a sync has returned for: with syncs that do nothing, the first losses of power are noticed.
#[test]
fn syncs_that_do_nothing_are_noticed() {
    let noticed = (1..=20).find_map(|seed| World::play(Plan { syncs_lie: true, ..Plan::of(seed) }).err());
    let why = noticed.unwrap_or_else(|| panic!("not noticed"));
    println!("{}", why.lines().next().unwrap_or_default());
}
