//! `check` against a good zone and a bad one. `UPDATE_GOLDEN=1` writes its output anew.

mod common;

use std::{fs, path::Path};

use anyhow::{Context, Result, ensure};
use common::PASSWORD;
use mailcluster_interop::{NameServer, Standalone};
use serde_json::Value;

/// Of the host and of the domain, but for the keys.
const GOOD: &str = "mail.example.test A 192.0.2.1
    1.2.0.192.in-addr.arpa PTR mail.example.test.
    example.test MX 10 mail.example.test.
    example.test TXT \"v=spf1 mx -all\"
    _dmarc.example.test TXT \"v=DMARC1; p=quarantine\"
    _mta-sts.example.test TXT \"v=STSv1; id=1\"";
const BAD: &str = "mail.example.test A 192.0.2.1
    1.2.0.192.in-addr.arpa PTR localhost.
    example.test MX 10 mx.elsewhere.test.
    example.test TXT \"v=spf1 a:mx.elsewhere.test -all\"
    example.test TXT \"v=spf1 -all\"
    _dmarc.example.test TXT \"v=DMARC1; pct=10\"";

/// The exit code and what was printed, keys and their names replaced.
fn checked(node: &Standalone, zone: &str, keys: &[Value]) -> Result<(i32, String)> {
    let names = NameServer::start(zone)?;
    let server = names.addr().to_string();
    let ran = node.admin_output(&["check", "example.test", "--name-server", &server], "")?;
    let mut text = String::from_utf8_lossy(&ran.stdout).into_owned() + &String::from_utf8_lossy(&ran.stderr);
    for key in keys {
        let kind = if key["algorithm"] == "rsa-sha256" { "RSA" } else { "ED25519" };
        text = text.replace(key["selector"].as_str().context("a selector")?, kind);
    }
    let hidden = |line: &str| match line.split_once("; p=") {
        Some((before, _)) if before.contains("v=DKIM1") => format!("{before}; p=...\"\n"),
        _ => format!("{line}\n"),
    };
    let shown = text.lines().map(hidden).collect();
    Ok((ran.status.code().context("an exit code")?, shown))
}

fn golden(name: &str, shown: &str) -> Result<()> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&path, shown)?;
    }
    let expected = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    ensure!(shown == expected, "{name} is not what was printed:\n{shown}");
    Ok(())
}

#[test]
fn a_good_zone_passes_and_of_a_bad_one_each_fault_is_named() -> Result<()> {
    let node = Standalone::start("check")?;
    node.accounts("example.test", &["ann"], PASSWORD)?;
    node.admin(&["domain", "dkim", "rotate", "example.test"], "")?;
    let listed = node.admin(&["-o", "json", "domain", "dkim", "list", "example.test"], "")?;
    let keys: Vec<Value> = serde_json::from_str(&listed)?;
    ensure!(keys.len() == 2, "{listed}");
    let record = |key: &Value| -> Option<String> {
        let text = key["record"]["text"].as_str()?;
        let (front, back) = text.split_at(text.len() / 2);
        Some(format!("{} TXT \"{front}\" \"{back}\"\n", key["record"]["name"].as_str()?))
    };
    let records: String = keys.iter().filter_map(record).collect();

    let (code, shown) = checked(&node, &format!("{GOOD}\n{records}"), &keys)?;
    golden("check-good.txt", &shown)?;
    ensure!(code == 0, "{code}: {shown}");
    let other = records.lines().next().context("a record")?.replace("MII", "MIX");
    let (code, shown) = checked(&node, &format!("{BAD}\n{other}"), &keys)?;
    golden("check-bad.txt", &shown)?;
    ensure!(code == 1, "{code}: {shown}");
    // Nobody answers there.
    let ran = node.admin_output(&["check", "--name-server", "127.0.0.1:9"], "")?;
    ensure!(ran.status.code() == Some(4), "{ran:?}");
    Ok(())
}
