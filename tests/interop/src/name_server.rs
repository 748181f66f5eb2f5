//! A name server on loopback that knows what it is told and nothing else.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result, anyhow};
use hickory_server::{
    Server,
    dnssec::NxProofKind,
    net::runtime::TokioRuntimeProvider,
    proto::{
        dnssec::{DnssecSigner, SigningKey, crypto::Ed25519SigningKey, rdata::DNSKEY},
        rr::{Name, RData, Record, RecordType, rdata::SOA},
    },
    store::in_memory::InMemoryZoneHandler,
    zone_handler::{AxfrPolicy, Catalog, ZoneType},
};
use tokio::{
    net::{TcpListener, UdpSocket},
    runtime::Runtime,
};

/// Seconds for which answers may be kept: as good as none.
const TTL: u32 = 1;
/// How long signatures hold.
const SIGNED_FOR: Duration = Duration::from_secs(3600);

/// Serves until it is dropped.
pub struct NameServer {
    addr: SocketAddr,
    // Its threads end with it.
    _runtime: Runtime,
}

impl NameServer {
    /// Serves these records: a name without its last dot, a type, and the data as zone files have it, in each line.
    ///
    /// # Errors
    /// When a line is no record, or no port is free.
    pub fn start(zone: &str) -> Result<Self> {
        Self::serving(root(zone, None)?)
    }

    /// The same, with each record signed (DNSSEC) by the key of the root, which is answered as a zone file has it.
    ///
    /// # Errors
    /// The same.
    pub fn start_signed(zone: &str) -> Result<(Self, String)> {
        let key = Ed25519SigningKey::from_pkcs8(&Ed25519SigningKey::generate_pkcs8()?)?;
        let public = DNSKEY::from_key(&key.to_public_key()?);
        let anchor = format!(". IN DNSKEY {public}\n");
        let signer = DnssecSigner::new(public, Box::new(key), Name::root(), SIGNED_FOR);
        Ok((Self::serving(root(zone, Some(signer))?)?, anchor))
    }

    fn serving(root: InMemoryZoneHandler<TokioRuntimeProvider>) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let mut catalog = Catalog::new();
        catalog.upsert(Name::root().into(), vec![Arc::new(root)]);
        let addr = runtime.block_on(async {
            let (udp, tcp) = one_port().await?;
            let addr = udp.local_addr()?;
            let mut server = Server::new(catalog);
            server.register_socket(udp);
            server.register_listener(tcp, Duration::from_secs(5), 1 << 16);
            tokio::spawn(async move { server.block_until_done().await });
            anyhow::Ok(addr)
        })?;
        Ok(Self { addr, _runtime: runtime })
    }

    /// Where it listens, for UDP and TCP.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }
}

/// A port that is free for both.
async fn one_port() -> Result<(UdpSocket, TcpListener)> {
    let mut why = None;
    for _ in 0..20 {
        let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        match TcpListener::bind(udp.local_addr()?).await {
            Ok(tcp) => return Ok((udp, tcp)),
            Err(error) => why = Some(error),
        }
    }
    Err(why.map_or_else(|| anyhow!("no port"), Into::into))
}

/// All names are in one zone, which ends where names do.
fn root(zone: &str, signer: Option<DnssecSigner>) -> Result<InMemoryZoneHandler<TokioRuntimeProvider>> {
    let absence = signer.is_some().then_some(NxProofKind::Nsec);
    let mut root = InMemoryZoneHandler::empty(Name::root(), ZoneType::Primary, AxfrPolicy::Deny, absence);
    let soa = SOA::new(Name::root(), Name::root(), 1, 600, 600, 600, TTL);
    root.upsert_mut(Record::from_rdata(Name::root(), TTL, RData::SOA(soa)), 1);
    for line in zone.lines().map(str::trim).filter(|line| !line.is_empty()) {
        root.upsert_mut(record(line).with_context(|| format!("{line:?}"))?, 1);
    }
    if let Some(signer) = signer {
        root.add_zone_signing_key_mut(signer)?;
        root.secure_zone_mut()?;
    }
    Ok(root)
}

fn record(line: &str) -> Result<Record> {
    let mut words = line.splitn(3, ' ');
    let mut word = || words.next().context("a record has a name, a type and data");
    let (name, kind, data) = (word()?, word()?, word()?);
    let kind: RecordType = kind.parse().map_err(|error| anyhow!("{error}"))?;
    let data = RData::try_from_str(kind, data).map_err(|error| anyhow!("{error}"))?;
    Ok(Record::from_rdata(Name::from_ascii(format!("{name}."))?, TTL, data))
}
