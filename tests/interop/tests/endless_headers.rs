//! Two thousand messages whose headers never end: memory stays bounded, and usual mail still comes in. A file of its own
//! for the same reason as `slow.rs`.

mod common;

use std::net::Ipv4Addr;

use anyhow::{Context, Result, ensure};
use common::{ANN, LIMIT, accepted, connect_from, node, send};
use mailcluster_test_clients::{Ledger, Wire};

const CONNECTIONS: u32 = 2000;
const HEADER: usize = 250 << 10;
const MEMORY: u64 = 256 << 20;

#[test]
fn two_thousand_headers_that_never_end_stay_within_bounds() -> Result<()> {
    let node = node("headers")?;
    let mut ledger = Ledger::default();
    let line = format!("X-Filler: {}\r\n", "x".repeat(900));
    let header = line.repeat(HEADER / line.len());
    let (mut open, mut resident) = (Vec::new(), 0);
    for n in 0..CONNECTIONS {
        let source = Ipv4Addr::new(127, 0, 1, u8::try_from(n % 200 + 1)?);
        let mut wire = Wire::over(connect_from(source, node.addr("smtp")?)?)?;
        wire.send(
            format!("HELO x\r\nMAIL FROM:<joe@elsewhere.test>\r\nRCPT TO:<{ANN}>\r\nDATA\r\n").as_bytes(),
        )?;
        for start in ["220", "250", "250", "250", "354"] {
            let said = wire.line()?;
            ensure!(said.starts_with(start), "{n}: {said}");
        }
        wire.send(header.as_bytes())?;
        open.push(wire);
        if n.is_multiple_of(100) {
            resident = resident.max(node.resident()?);
        }
    }
    let outcome = send(&node, &mut ledger, "honest", ANN, 2000);
    ensure!(accepted(&outcome), "{outcome:?}");
    resident = resident.max(node.resident()?);
    println!(
        "{CONNECTIONS} headers of {} KiB under way: at most {} MiB resident",
        HEADER >> 10,
        resident >> 20
    );
    ensure!(resident < MEMORY, "{} MiB", resident >> 20);
    // One that came when there was no more room is told so, and may come again.
    let mut last = open.pop().context("none is open")?;
    last.send(b"\r\n.\r\n")?;
    let said = last.line()?;
    ensure!(said.starts_with("452 4.3.1"), "{said}");
    drop((open, last));
    mailcluster_interop::wait_until("room again", LIMIT, || {
        let again = || -> Result<bool> {
            let mut client = common::mx(&node)?;
            let body = format!("{header}\r\ntext\r\n");
            Ok(accepted(&client.send("joe@elsewhere.test", &[ANN], body.as_bytes())))
        };
        again().unwrap_or(false)
    })
}
