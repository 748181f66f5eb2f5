//! A test that is killed leaves no process, mount or loop device behind.

use std::{
    fs,
    io::{BufRead, BufReader},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use mailcluster_interop::{CrashDisk, Standalone, wait_until};

const LIMIT: Duration = Duration::from_secs(30);

/// Not a test but the program that is killed: it says where its disk is, and waits.
#[test]
fn victim() -> Result<()> {
    if std::env::var_os("MAILCLUSTER_VICTIM").is_some() {
        let disk = CrashDisk::new("victim", 64)?;
        let _node = Standalone::start_on(&disk)?;
        println!("\ndisk {}", disk.mount_point().display());
        std::thread::park_timeout(LIMIT);
    }
    Ok(())
}

/// Processes and loop devices that have to do with a folder.
fn users(folder: &str) -> Vec<String> {
    let read = |parent: &str, file: &str| -> Vec<String> {
        let entries = fs::read_dir(parent).into_iter().flatten().flatten();
        entries.filter_map(|entry| fs::read(entry.path().join(file)).ok()).map(text).collect()
    };
    let all = [read("/proc", "cmdline"), read("/proc", "mountinfo"), read("/sys/block", "loop/backing_file")];
    all.into_iter().flatten().filter(|text| text.contains(folder)).collect()
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8_lossy(&bytes).into_owned()
}

#[test]
fn a_killed_test_leaves_nothing_that_runs_or_is_mounted() -> Result<()> {
    let mut victim = Command::new(std::env::current_exe()?)
        .args(["--exact", "victim", "--nocapture"])
        .env("MAILCLUSTER_VICTIM", "1")
        .stdout(Stdio::piped())
        .spawn()?;
    let lines = BufReader::new(victim.stdout.take().context("no standard output")?).lines();
    let said = lines.map_while(Result::ok).find_map(|line| Some(line.strip_prefix("disk ")?.to_owned()));
    let folder = said.context("the victim did not come up")?;
    let folder = folder.trim_end_matches("/disk");
    ensure!(users(folder).len() >= 3, "neither node nor mounts nor loop devices: {:?}", users(folder));
    victim.kill()?;
    victim.wait()?;
    let gone = wait_until("everything is gone", LIMIT, || users(folder).is_empty());
    gone.with_context(|| format!("{:?}", users(folder)))?;
    Ok(fs::remove_dir_all(folder)?)
}
