//! Version 1, the line: `PROXY TCP4 192.0.2.1 192.0.2.2 56324 443` CRLF, 107 octets at most.

use std::net::{IpAddr, SocketAddr};

use super::{Header, ParseError};

const START: &[u8] = b"PROXY ";
/// Longest line with its CRLF.
pub(super) const MAX_LINE: usize = 107;

pub(super) fn parse(input: &[u8]) -> Result<Option<(Header, usize)>, ParseError> {
    let start = input.len().min(START.len());
    if input[..start] != START[..start] {
        return Err(ParseError::NotProxy);
    }
    let window = &input[..input.len().min(MAX_LINE)];
    let Some(end) = memchr::memmem::find(window, b"\r\n") else {
        return if window.len() == MAX_LINE { Err(ParseError::TooLong) } else { Ok(None) };
    };
    let line = std::str::from_utf8(&window[START.len()..end])
        .map_err(|_| ParseError::Malformed("not ASCII text"))?;
    Ok(Some((Header { addresses: line_addresses(line)?, ..Header::default() }, end + 2)))
}

fn line_addresses(line: &str) -> Result<Option<(SocketAddr, SocketAddr)>, ParseError> {
    let mut words = line.split(' ');
    let v6 = match words.next() {
        Some("TCP4") => false,
        Some("TCP6") => true,
        // The rest of an UNKNOWN line is to be ignored.
        Some("UNKNOWN") => return Ok(None),
        _ => return Err(ParseError::Malformed("family is not TCP4, TCP6 or UNKNOWN")),
    };
    let mut ip = || {
        let ip: Option<IpAddr> = words.next().and_then(|w| w.parse().ok());
        ip.filter(|ip| ip.is_ipv6() == v6).ok_or(ParseError::Malformed("address"))
    };
    let (source, destination) = (ip()?, ip()?);
    let mut port = || words.next().and_then(port).ok_or(ParseError::Malformed("port"));
    let (source_port, destination_port) = (port()?, port()?);
    if words.next().is_some() {
        return Err(ParseError::Malformed("something follows the ports"));
    }
    Ok(Some((
        SocketAddr::new(source.to_canonical(), source_port),
        SocketAddr::new(destination.to_canonical(), destination_port),
    )))
}

/// Decimal without sign or leading zeros.
fn port(text: &str) -> Option<u16> {
    let plain = text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    if plain { text.parse().ok() } else { None }
}
