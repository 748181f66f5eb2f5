//! Users' mail to other sites beside Debian's Postfix: both take it from the same clients, keep it durably on the same disk, and
//! bring it to the same servers, which know nothing but to take it.

use std::{
    io::{BufRead, BufReader, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use mailcluster_interop::{ClientRoot, NameServer, NodeBinary, Postfix, SiteCertificate, Standalone};
use mailcluster_test_clients::{SendOutcome, SmtpClient, Tls, message};
use serde_json::{Value, json};

use super::{ROUNDS, median};
use crate::cargo;

/// Messages of a measurement, the octets of each, and who sends them.
const MESSAGES: usize = 3000;
const SIZE: usize = 8 << 10;
const CLIENTS: usize = 16;
/// Messages of one connection.
const AT_ONCE: usize = 25;
/// Neither takes longer.
const LIMIT: Duration = Duration::from_secs(180);
const PASSWORD: &str = "correct horse";
const SENDER: &str = "bench@example.test";

/// For one destination, and for a hundred.
pub fn run() -> Result<Vec<Value>> {
    [1, 100].into_iter().map(row).collect()
}

/// The median of the rounds counts.
fn row(destinations: u8) -> Result<Value> {
    println!("{MESSAGES} messages of {SIZE} octets to {destinations} destinations");
    let sink = Sink::open(destinations)?;
    let (ours, theirs) = (Ours::start(&sink)?, Theirs::start(&sink)?);
    let (mut our_rates, mut peer_rates) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        our_rates.push(measure(&sink, &|| ours.client())?);
        peer_rates.push(measure(&sink, &|| theirs.client())?);
    }
    let (rate, peer) = (median(our_rates), median(peer_rates));
    Ok(json!({"name": "outbound", "clients": CLIENTS, "size": SIZE, "path": format!("{destinations} sites"),
        "ours": rate, "peer": peer, "ratio": rate / peer, "limit": 1.0}))
}

/// From the first message's first command until the last one has arrived; messages per second.
fn measure(sink: &Sink, client: &(dyn Fn() -> Result<SmtpClient> + Sync)) -> Result<f64> {
    let (before, began) = (sink.taken(), Instant::now());
    std::thread::scope(|scope| {
        let send = |number: usize| move || submit(number, sink.destinations, client);
        let clients: Vec<_> = (0..CLIENTS).map(|number| scope.spawn(send(number))).collect();
        clients
            .into_iter()
            .try_for_each(|client| client.join().map_err(|_| anyhow::anyhow!("a client panicked"))?)
    })?;
    let wanted = before + MESSAGES / CLIENTS * CLIENTS;
    while sink.taken() < wanted {
        ensure!(began.elapsed() < LIMIT, "{} of {MESSAGES} messages came", sink.taken() - before);
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok((wanted - before) as f64 / began.elapsed().as_secs_f64())
}

/// One client's messages, each to one of the destinations in turn.
fn submit(number: usize, destinations: u8, client: &dyn Fn() -> Result<SmtpClient>) -> Result<()> {
    let body = message("outbound", SIZE);
    let mut session = None;
    for n in 0..MESSAGES / CLIENTS {
        if n % AT_ONCE == 0 {
            session = Some(client()?);
        }
        let to = format!("joe@d{}.test", (number + n * CLIENTS) % usize::from(destinations) + 1);
        let session = session.as_mut().context("no session")?;
        let outcome = session.send(SENDER, &[&to], &body);
        ensure!(matches!(outcome, SendOutcome::Accepted(_)), "{outcome:?}");
    }
    Ok(())
}

struct Ours {
    node: Standalone,
    _names: NameServer,
}

impl Ours {
    fn start(sink: &Sink) -> Result<Self> {
        let zone = (1..=sink.destinations)
            .map(|n| format!("d{n}.test MX 10 mx.d{n}.test.\nmx.d{n}.test A 127.0.0.{n}\n"));
        let names = NameServer::start(&zone.collect::<String>())?;
        let (server, port) = (names.addr().to_string(), sink.port.to_string());
        let options = ["--outbound", "direct", "--name-server", &server, "--outbound-port", &port];
        let program = cargo::binary("mailcluster-node")?;
        let binary = NodeBinary::in_folder(program.parent().context("no target folder")?)?;
        let node = Standalone::start_of(binary, "bench-outbound", &options)?;
        node.accounts("example.test", &["bench"], PASSWORD)?;
        Ok(Self { node, _names: names })
    }

    /// Users log in, and so over TLS.
    fn client(&self) -> Result<SmtpClient> {
        let mut client = SmtpClient::connect(self.node.addr("submissions")?, Tls::Implicit, LIMIT)?;
        client.auth_plain(SENDER, PASSWORD)?;
        Ok(client)
    }
}

struct Theirs(Postfix);

impl Theirs {
    /// It knows its clients by their address, and needs no login and no TLS.
    fn start(sink: &Sink) -> Result<Self> {
        let ways: Vec<String> = (1..=sink.destinations)
            .map(|n| format!("{{d{n}.test=smtp:[127.0.0.{n}]:{}}}", sink.port))
            .collect();
        let more = format!(
            "transport_maps = inline:{{{}}}\nsmtp_tls_security_level = none\nsmtpd_tls_security_level = none\n",
            ways.join(", ")
        );
        let addr = Postfix::free_addr()?;
        let certificate = SiteCertificate::make()?;
        let relay = SocketAddr::from((Ipv4Addr::LOCALHOST, sink.port));
        Postfix::start_so(&ClientRoot::ensure()?, "bench-outbound", (addr, relay), (&certificate, &more))
            .map(Self)
    }

    fn client(&self) -> Result<SmtpClient> {
        SmtpClient::connect(self.0.addr(), Tls::None, LIMIT)
    }
}

/// Servers that take everything, at 127.0.0.1 and so many addresses in all, and count it.
struct Sink {
    port: u16,
    destinations: u8,
    taken: Arc<AtomicUsize>,
}

impl Sink {
    fn open(destinations: u8) -> Result<Self> {
        let taken = Arc::new(AtomicUsize::new(0));
        let first = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let port = first.local_addr()?.port();
        let others = (2..=destinations).map(|n| TcpListener::bind((Ipv4Addr::new(127, 0, 0, n), port)));
        for listener in std::iter::once(Ok(first)).chain(others) {
            let (listener, taken) = (listener?, taken.clone());
            std::thread::spawn(move || {
                for stream in listener.incoming().map_while(Result::ok) {
                    let taken = taken.clone();
                    std::thread::spawn(move || serve(&stream, &taken));
                }
            });
        }
        Ok(Self { port, destinations, taken })
    }

    fn taken(&self) -> usize {
        self.taken.load(Ordering::Acquire)
    }
}

fn serve(stream: &TcpStream, taken: &AtomicUsize) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut lines = BufReader::new(stream);
    let mut out = stream;
    out.write_all(b"220 sink\r\n")?;
    let (mut line, mut in_message) = (Vec::new(), false);
    loop {
        line.clear();
        if lines.read_until(b'\n', &mut line)? == 0 {
            return Ok(());
        }
        let reply: &[u8] = match (in_message, &*line) {
            (true, b".\r\n") => {
                in_message = false;
                taken.fetch_add(1, Ordering::AcqRel);
                b"250 taken\r\n"
            }
            (true, _) => continue,
            (false, [b'E' | b'e', ..]) => b"250-sink\r\n250-PIPELINING\r\n250 8BITMIME\r\n",
            (false, [b'D' | b'd', ..]) => {
                in_message = true;
                b"354 go on\r\n"
            }
            (false, [b'Q' | b'q', ..]) => {
                out.write_all(b"221 bye\r\n")?;
                return Ok(());
            }
            (false, _) => b"250 ok\r\n",
        };
        // What was sent together is answered together.
        out.write_all(reply)?;
    }
}
