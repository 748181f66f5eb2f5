//! Version 2, binary: signature, version and command, family, length, addresses, and type-length-value fields.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use mailcluster_types::{AccountId, ClusterId, SessionId, TlsFacts};

use super::{Header, MAX_HEADER, ParseError, Private, V2_SIGNATURE};
use crate::mtls;

const AUTHORITY: u8 = 0x02;
const SSL: u8 = 0x20;
const SSL_VERSION: u8 = 0x21;
const SSL_CIPHER: u8 = 0x23;
/// In the client field of SSL: the client came over TLS.
const CLIENT_SSL: u8 = 0x01;
const CLUSTER: u8 = 0xe0;
const STORE: u8 = 0xe1;
const EPOCH: u8 = 0xe2;
const ACCOUNT: u8 = 0xe3;
const SESSION: u8 = 0xe4;
/// Signature, version and command, family, length.
const FIXED: usize = 16;

/// `input` starts with the whole signature.
pub(super) fn parse(input: &[u8]) -> Result<Option<(Header, usize)>, ParseError> {
    let Some(fixed) = input.get(..FIXED) else { return Ok(None) };
    let local = match fixed[12] {
        0x20 => true,
        0x21 => false,
        _ => return Err(ParseError::Malformed("version or command")),
    };
    let family = fixed[13];
    let total = FIXED + usize::from(u16::from_be_bytes([fixed[14], fixed[15]]));
    if total > MAX_HEADER {
        return Err(ParseError::TooLong);
    }
    let Some(body) = input.get(FIXED..total) else { return Ok(None) };
    let (addresses, rest) = addresses(family, body)?;
    let mut header = Header { local, addresses: addresses.filter(|_| !local), ..Header::default() };
    fields(rest, &mut header)?;
    Ok(Some((header, total)))
}

type Pair = (SocketAddr, SocketAddr);

fn addresses(family: u8, body: &[u8]) -> Result<(Option<Pair>, &[u8]), ParseError> {
    let len = match family >> 4 {
        0 => 0,
        1 => 12,
        2 => 36,
        3 => 216,
        _ => return Err(ParseError::Malformed("address family")),
    };
    if family & 0x0f > 2 {
        return Err(ParseError::Malformed("transport"));
    }
    let (block, rest) = body.split_at_checked(len).ok_or(ParseError::Malformed("addresses cut short"))?;
    let pair = match family {
        0x11 => block.first_chunk::<12>().map(|b| {
            let ip = |at: usize| IpAddr::from(Ipv4Addr::new(b[at], b[at + 1], b[at + 2], b[at + 3]));
            ((ip(0), u16::from_be_bytes([b[8], b[9]])), (ip(4), u16::from_be_bytes([b[10], b[11]])))
        }),
        0x21 => block.first_chunk::<36>().map(|b| {
            let ip = |at: usize| {
                let mut octets = [0; 16];
                octets.copy_from_slice(&b[at..at + 16]);
                IpAddr::from(Ipv6Addr::from(octets)).to_canonical()
            };
            ((ip(0), u16::from_be_bytes([b[32], b[33]])), (ip(16), u16::from_be_bytes([b[34], b[35]])))
        }),
        // UNSPEC, datagrams and UNIX sockets: legal, and they tell us nothing.
        _ => None,
    };
    Ok((pair.map(|(s, d)| (s.into(), d.into())), rest))
}

/// Takes one field off the front.
fn field(input: &[u8]) -> Result<(u8, &[u8], &[u8]), ParseError> {
    let cut = ParseError::Malformed("field cut short");
    let (head, rest) = input.split_at_checked(3).ok_or(cut)?;
    let len = usize::from(u16::from_be_bytes([head[1], head[2]]));
    let (value, rest) = rest.split_at_checked(len).ok_or(cut)?;
    Ok((head[0], value, rest))
}

fn fields(mut input: &[u8], header: &mut Header) -> Result<(), ParseError> {
    let mut sni = None;
    while !input.is_empty() {
        let (kind, value, rest) = field(input)?;
        input = rest;
        let private = &mut header.private;
        match kind {
            AUTHORITY => sni = Some(text(value)?),
            SSL => header.tls = ssl(value)?,
            CLUSTER => once(&mut private.cluster, ClusterId::from_slice(value))?,
            STORE => {
                let name = std::str::from_utf8(value).ok().filter(|n| mtls::is_store_name(n));
                once(&mut private.store, name.map(Into::into))?;
            }
            EPOCH => once(&mut private.epoch, value.try_into().ok().map(u64::from_be_bytes))?,
            ACCOUNT => once(&mut private.account, AccountId::from_slice(value))?,
            SESSION => once(&mut private.session, SessionId::from_slice(value))?,
            _ => {}
        }
    }
    if let Some(tls) = &mut header.tls {
        tls.sni = sni;
    }
    Ok(())
}

fn once<T>(slot: &mut Option<T>, value: Option<T>) -> Result<(), ParseError> {
    if slot.is_some() {
        return Err(ParseError::Malformed("a private field stands twice"));
    }
    *slot = Some(value.ok_or(ParseError::Malformed("a private field's value"))?);
    Ok(())
}

/// Printable ASCII only: these texts end up in headers and logs.
fn text(value: &[u8]) -> Result<String, ParseError> {
    match std::str::from_utf8(value) {
        Ok(text) if text.len() <= 255 && text.bytes().all(|b| b.is_ascii_graphic()) => Ok(text.to_owned()),
        _ => Err(ParseError::Malformed("a field is not printable ASCII")),
    }
}

fn ssl(value: &[u8]) -> Result<Option<TlsFacts>, ParseError> {
    let (head, mut rest) = value.split_at_checked(5).ok_or(ParseError::Malformed("field cut short"))?;
    let mut facts = TlsFacts { version: String::new(), cipher: String::new(), sni: None };
    while !rest.is_empty() {
        let (kind, value, after) = field(rest)?;
        rest = after;
        match kind {
            SSL_VERSION => facts.version = text(value)?,
            SSL_CIPHER => facts.cipher = text(value)?,
            _ => {}
        }
    }
    Ok((head[0] & CLIENT_SSL != 0).then_some(facts))
}

pub(super) fn encode(header: &Header) -> Vec<u8> {
    let mut body = Vec::with_capacity(256);
    let family = put_addresses(header.addresses.filter(|_| !header.local), &mut body);
    if let Some(tls) = &header.tls {
        put_tls(tls, &mut body);
    }
    let Private { cluster, store, epoch, account, session } = &header.private;
    if let Some(cluster) = cluster {
        put(&mut body, CLUSTER, &cluster.to_bytes());
    }
    if let Some(store) = store {
        put(&mut body, STORE, store.as_str().as_bytes());
    }
    if let Some(epoch) = epoch {
        put(&mut body, EPOCH, &epoch.to_be_bytes());
    }
    if let Some(account) = account {
        put(&mut body, ACCOUNT, &account.to_bytes());
    }
    if let Some(session) = session {
        put(&mut body, SESSION, &session.to_bytes());
    }
    let mut out = Vec::with_capacity(FIXED + body.len());
    out.extend_from_slice(&V2_SIGNATURE);
    out.extend_from_slice(&[if header.local { 0x20 } else { 0x21 }, family]);
    out.extend_from_slice(&len16(body.len()));
    out.extend_from_slice(&body);
    out
}

/// Every field put here is at most 255 octets, so that neither a field nor the whole comes near 64 KiB.
fn len16(len: usize) -> [u8; 2] {
    u16::try_from(len).unwrap_or(u16::MAX).to_be_bytes()
}

fn put(out: &mut Vec<u8>, kind: u8, value: &[u8]) {
    let value = &value[..value.len().min(1024)];
    out.push(kind);
    out.extend_from_slice(&len16(value.len()));
    out.extend_from_slice(value);
}

fn put_tls(tls: &TlsFacts, out: &mut Vec<u8>) {
    let printable = |text: &str| -> Vec<u8> { text.bytes().filter(u8::is_ascii_graphic).take(255).collect() };
    // Client over TLS, no certificate; the four octets of `verify` say "not verified".
    let mut ssl = vec![CLIENT_SSL, 0, 0, 0, 1];
    put(&mut ssl, SSL_VERSION, &printable(&tls.version));
    put(&mut ssl, SSL_CIPHER, &printable(&tls.cipher));
    put(out, SSL, &ssl);
    if let Some(sni) = &tls.sni {
        put(out, AUTHORITY, &printable(sni));
    }
}

fn put_addresses(pair: Option<Pair>, out: &mut Vec<u8>) -> u8 {
    let Some((source, destination)) = pair else { return 0x00 };
    let family = match (source.ip().to_canonical(), destination.ip().to_canonical()) {
        (IpAddr::V4(s), IpAddr::V4(d)) => {
            out.extend_from_slice(&s.octets());
            out.extend_from_slice(&d.octets());
            0x11
        }
        (s, d) => {
            let v6 = |ip| match ip {
                IpAddr::V4(v4) => Ipv4Addr::to_ipv6_mapped(&v4),
                IpAddr::V6(v6) => v6,
            };
            out.extend_from_slice(&v6(s).octets());
            out.extend_from_slice(&v6(d).octets());
            0x21
        }
    };
    out.extend_from_slice(&source.port().to_be_bytes());
    out.extend_from_slice(&destination.port().to_be_bytes());
    family
}
