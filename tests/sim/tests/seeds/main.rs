//! Seeds of a mirrored store: see the crate's documentation.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod api;
mod clients;
mod copies;
mod end;
mod faults;
mod ledger;
mod net;
mod node;
mod operator;
mod world;

use std::{
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use copies::Copies;
use world::{Plan, Told, World};

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
    let sum = Mutex::new(Told::default());
    let sins = Mutex::new(Vec::new());
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
                        Ok(told) => sum.lock().unwrap().add(&told),
                        Err(why) => sins.lock().unwrap().push(why),
                    }
                }
            });
        }
    });
    let sum = sum.into_inner().unwrap();
    println!("{seeds} seeds from {first}, {:.1} s: {sum:?}", began.elapsed().as_secs_f64());
    let sins = sins.into_inner().unwrap();
    assert!(sins.is_empty(), "{}\n(play one again with MAILCLUSTER_SIM_SEED=n)", sins.join("\n"));
    assert!(sum.compared.1 >= seeds, "indexes are hardly compared");
    // A mirror that is kept out for a while keeps the log for as long.
    assert!(sum.given_back >= seeds / 2, "hardly any room is given back");
    if seeds >= 100 {
        let Copies { mended, replaced, snapshots, given_up, .. } = sum.copies;
        assert!(mended >= seeds / 4, "hardly anything is mended");
        assert!(replaced >= seeds / 4, "hardly any copy is replaced");
        assert!(snapshots >= seeds / 10, "hardly any copy needs a snapshot");
        assert!(given_up <= seeds / 10, "too much is beyond help");
    }
}

/// Acknowledged is what a sync has returned for: with syncs that do nothing, the first losses of power are noticed.
#[test]
fn syncs_that_do_nothing_are_noticed() {
    let noticed = (1..=20).find_map(|seed| World::play(Plan { syncs_lie: true, ..Plan::of(seed) }).err());
    let why = noticed.unwrap_or_else(|| panic!("not noticed"));
    println!("{}", why.lines().next().unwrap_or_default());
}
