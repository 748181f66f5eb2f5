//! A hundred thousand accounts with hashes come in through the command in under a minute, and all are active then.
//! `MAILCLUSTER_LONG=1` runs that number, else a tenth.

use std::{
    fmt::Write,
    fs,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use mailcluster_interop::{Standalone, wait_until};

const HASH: &str = "{SSHA}5pcxo13YdJml98eQSIlT3FMEBMMBAgME";
/// What is promised for a hundred thousand.
const PROMISED: Duration = Duration::from_secs(60);
/// Room for a machine that does other things meanwhile: a bound against what grows with the square, not a benchmark.
const GENEROUS: u32 = 5;

fn count() -> u32 {
    let is_long = std::env::var_os("MAILCLUSTER_LONG").is_some_and(|value| !value.is_empty());
    if is_long { 100_000 } else { 10_000 }
}

fn file(count: u32) -> String {
    let mut text = String::from("address,password,quota_octets\n");
    for n in 0..count {
        let _never = writeln!(text, "user{n:06}@example.test,{HASH},1000000000");
    }
    text
}

#[test]
fn many_accounts_come_in_and_become_active_in_time() -> Result<()> {
    let node = Standalone::start("bulk-import")?;
    node.admin(&["domain", "add", "example.test"], "")?;
    let count = count();
    let path = node.data().with_extension("csv");
    fs::write(&path, file(count))?;
    let path_text = path.to_str().context("path")?;
    let limit = PROMISED * GENEROUS;
    let started = Instant::now();
    let told: serde_json::Value =
        serde_json::from_str(&node.admin(&["account", "import", path_text, "-o", "json"], "")?)?;
    let imported = started.elapsed();
    ensure!(told["added"] == count && told["failed"] == 0, "{told}");
    // Stores confirm in the order of the file, about; listing all of them again and again would be the longer part.
    let last = format!("user{:06}@example.test", count - 1);
    let is_last_active =
        || node.admin(&["account", "show", &last], "").is_ok_and(|shown| shown.contains("active"));
    wait_until("the last account active", limit.saturating_sub(imported), is_last_active)?;
    let is_all_active = || {
        let listed = node.admin(&["account", "list"], "").unwrap_or_default();
        listed.matches(" active ").count() == count as usize
    };
    wait_until("all accounts active", limit.saturating_sub(imported), is_all_active)?;
    let active = started.elapsed();
    println!("{count} accounts imported in {imported:?}, active in {active:?}");
    let again = node.admin(&["account", "import", path_text], "")?;
    ensure!(again.contains(&format!("{count} were there already")), "{again}");
    fs::remove_file(&path)?;
    ensure!(active < limit, "imported in {imported:?}, active in {active:?}");
    Ok(())
}
