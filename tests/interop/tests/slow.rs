//! Two thousand slow connections: memory stays bounded and an honest sender does not notice. A file of its own: cargo
//! runs the files of tests one after the other, so that nothing else of these tests takes the processor meanwhile.

mod common;

use std::{
    io::{ErrorKind, Read, Write},
    net::{Ipv4Addr, TcpStream},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use common::{ANN, LIMIT, accepted, connect_from, descriptors, node, send};
use mailcluster_interop::{Standalone, wait_until};
use mailcluster_test_clients::{Ledger, Wire};

const CONNECTIONS: u32 = 2000;
/// Each sends an octet so often.
const PAUSE: Duration = Duration::from_secs(10);
/// Sessions end by themselves after 60 s without a login: a round is shorter.
const ROUND: Duration = Duration::from_secs(40);
const MEMORY: u64 = 256 << 20;

/// A slow client.
enum Slow {
    /// Sends a line that never ends.
    Plain(TcpStream),
    /// The same inside of TLS.
    Secure(Wire),
    /// Sends a TLS handshake that never ends.
    Handshake(TcpStream),
}

impl Slow {
    /// The `n`th: three quarters of them on the ports without TLS. It has been greeted.
    fn open(node: &Standalone, n: u32) -> Result<Self> {
        let source = Ipv4Addr::new(127, 0, 1, u8::try_from(n % 200 + 1)?);
        // 200 addresses and 4 kinds: every address has each kind.
        let turn = (n / 200 + n) as usize;
        if turn % 4 != 3 {
            let (proto, hello) =
                [("smtp", "220 "), ("submission", "220 "), ("imap", "* OK"), ("pop3", "+OK")]
                    [(turn / 4 + turn) % 4];
            let mut stream = connect_from(source, node.addr(proto)?)?;
            let mut greeting = [0; 4];
            stream.read_exact(&mut greeting).with_context(|| format!("{n}: no greeting by {proto}"))?;
            ensure!(greeting.starts_with(&hello.as_bytes()[..3]), "{n}: {proto} said {greeting:?}");
            return Ok(Self::Plain(stream));
        }
        let proto = ["submissions", "imaps", "pop3s"][n as usize % 3];
        let mut stream = connect_from(source, node.addr(proto)?)?;
        if n.is_multiple_of(2) {
            // A record of 512 octets, of which one comes at a time.
            stream.write_all(b"\x16\x03\x01\x02\x00\x01")?;
            return Ok(Self::Handshake(stream));
        }
        let mut wire = Wire::over(stream)?;
        wire.start_tls("localhost")?;
        let greeting = wire.line()?;
        ensure!(["220", "* O", "+OK"].iter().any(|start| greeting.starts_with(start)), "{n}: {greeting}");
        Ok(Self::Secure(wire))
    }

    /// Sends one octet; is the connection still there?
    fn drip(&mut self) -> bool {
        match self {
            Self::Plain(stream) | Self::Handshake(stream) => {
                stream.write_all(b"x").is_ok() && is_open(stream)
            }
            Self::Secure(wire) => wire.send(b"x").is_ok(),
        }
    }
}

/// Nothing has come that says otherwise: no end, no reset.
fn is_open(stream: &TcpStream) -> bool {
    let asked = stream.set_nonblocking(true).and_then(|()| stream.peek(&mut [0]));
    let open = match asked {
        Ok(octets) => octets > 0,
        Err(error) => error.kind() == ErrorKind::WouldBlock,
    };
    open && stream.set_nonblocking(false).is_ok()
}

/// How long an honest sender waits for 250, from connecting on.
fn honest(node: &Standalone, ledger: &mut Ledger, token: &str) -> Result<Duration> {
    let start = Instant::now();
    let outcome = send(node, ledger, token, ANN, 2000);
    ensure!(accepted(&outcome), "{outcome:?}");
    Ok(start.elapsed())
}

/// One round: all connect and drip, while an honest sender comes every second.
fn round(node: &Standalone, ledger: &mut Ledger, number: u32) -> Result<(Vec<Duration>, u64)> {
    let mut slow = (0..CONNECTIONS).map(|n| Slow::open(node, n)).collect::<Result<Vec<_>>>()?;
    let start = Instant::now();
    let (mut next, mut times, mut resident) = (start, Vec::new(), node.resident()?);
    while start.elapsed() < ROUND {
        if next <= Instant::now() {
            next += PAUSE;
            for (n, one) in (0..).zip(&mut slow) {
                if one.drip() {
                    continue;
                }
                // A handshake has less time than a login: another one comes.
                ensure!(matches!(one, Slow::Handshake(_)), "connection {n} was closed before its time");
                *one = Slow::open(node, n)?;
            }
        }
        times.push(honest(node, ledger, &format!("honest-{number}-{}", times.len()))?);
        resident = resident.max(node.resident()?);
        std::thread::sleep(Duration::from_secs(1));
    }
    Ok((times, resident))
}

#[test]
fn two_thousand_slow_connections_leave_room_for_an_honest_one() -> Result<()> {
    let node = node("slow")?;
    let mut ledger = Ledger::default();
    // What a delivery takes here and now without them: a machine that is busy with other things is no fault of ours.
    let alone =
        (0..10).map(|n| honest(&node, &mut ledger, &format!("alone-{n}"))).collect::<Result<Vec<_>>>()?;
    let alone = alone.into_iter().max().unwrap_or_default();
    let before = descriptors(&node);
    let long = std::env::var_os("MAILCLUSTER_LONG").is_some_and(|value| !value.is_empty());
    for number in 0..if long { 3 } else { 1 } {
        let (mut times, resident) = round(&node, &mut ledger, number)?;
        times.sort();
        let (middle, longest) = (times[times.len() / 2], times[times.len() - 1]);
        println!(
            "{CONNECTIONS} slow connections: at most {} MiB resident; {} honest deliveries took {middle:?}, at \
             most {longest:?} (without them at most {alone:?})",
            resident >> 20,
            times.len(),
        );
        ensure!(resident < MEMORY, "{} MiB", resident >> 20);
        ensure!(longest < Duration::from_secs(1) + alone, "{longest:?}; without them {alone:?}");
        wait_until("all connections forgotten", LIMIT, || descriptors(&node) <= before + 10)?;
    }
    Ok(())
}
