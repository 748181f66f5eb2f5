//! Notification by mail: `mailto` URIs (RFC 2368, RFC 5436).

use crate::address;

/// What a `mailto` URI asks for. Header fields of it other than these are ignored, which RFC 5436 section 2.7 asks for
/// some of and allows for the others; RFC 2368 section 4 calls no others safe.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mailto {
    /// Addresses of the URI and of its `to`.
    pub to: Vec<String>,
    /// Addresses of its `cc`.
    pub cc: Vec<String>,
    /// Its `subject`.
    pub subject: Option<String>,
    /// Its `body`.
    pub body: Option<String>,
}

/// Reads a URI; the error says what is wrong with it.
pub fn parse(uri: &[u8]) -> Result<Mailto, String> {
    let uri = std::str::from_utf8(uri).map_err(|_| "the method of a notification is a URI in US-ASCII")?;
    let rest = match uri.split_once(':') {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("mailto") => rest,
        Some((scheme, _)) => return Err(format!("notifications go by mailto: here, not by {scheme:?}")),
        None => {
            return Err("the method of a notification is a URI such as \"mailto:me@example.com\"".to_owned());
        }
    };
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    let mut mailto = Mailto { to: addresses(path)?, ..Mailto::default() };
    for field in query.split('&').filter(|_| !query.is_empty()) {
        let (name, value) = field.split_once('=').ok_or("a header field in a mailto URI is NAME=VALUE")?;
        match decode(name)?.to_ascii_lowercase().as_str() {
            "to" => mailto.to.extend(addresses(value)?),
            "cc" => mailto.cc.extend(addresses(value)?),
            "subject" => mailto.subject = Some(decode(value)?),
            "body" => mailto.body = Some(decode(value)?),
            _ => {
                decode(value)?;
            }
        }
    }
    Ok(mailto)
}

/// Addresses that commas separate, which may be encoded, too.
fn addresses(text: &str) -> Result<Vec<String>, String> {
    let text = decode(text)?;
    if text.trim().is_empty() {
        return Ok(Vec::new());
    }
    let list = address::address_list(&text).ok_or_else(|| format!("{text:?} is no list of addresses"))?;
    Ok(list.into_iter().map(str::to_owned).collect())
}

fn decode(text: &str) -> Result<String, String> {
    let bad = || format!("{text:?} is not encoded as a URI is");
    let mut octets = Vec::new();
    let mut rest = text.bytes();
    while let Some(octet) = rest.next() {
        match octet {
            b'%' => {
                let mut digit = || rest.next().and_then(|octet| char::from(octet).to_digit(16));
                let value = digit().zip(digit()).map(|(high, low)| high * 16 + low);
                octets.push(value.and_then(|value| u8::try_from(value).ok()).ok_or_else(bad)?);
            }
            // RFC 3986: unreserved, reserved, and `:` and `@`.
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' => octets.push(octet),
            octet if b"-._~!$'()*+,;:@/?=".contains(&octet) => octets.push(octet),
            _ => return Err(bad()),
        }
    }
    String::from_utf8(octets).ok().filter(|text| !text.contains('\0')).ok_or_else(bad)
}

/// Percent-encoding of all but the unreserved characters: `:encodeurl` (RFC 5435 section 6).
pub fn encode(text: &[u8]) -> Vec<u8> {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let mut encoded = Vec::new();
    for &octet in text {
        if octet.is_ascii_alphanumeric() || b"-._~".contains(&octet) {
            encoded.push(octet);
        } else {
            encoded.extend([b'%', DIGITS[usize::from(octet >> 4)], DIGITS[usize::from(octet & 15)]]);
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uris() {
        let to = |uri: &str| parse(uri.as_bytes()).map(|mailto| (mailto.to.join(" "), mailto.cc.join(" ")));
        for uri in [
            "mailto:a@example.com,b@example.com",
            "mailto:a@example.com%2C%20b@example.com",
            "mailto:?to=a@example.com%2C%20b@example.com",
            "MAILTO:a@example.com?TO=b@example.com",
        ] {
            assert_eq!(to(uri), Ok(("a@example.com b@example.com".to_owned(), String::new())), "{uri}");
        }
        assert_eq!(to("mailto:?cc=b@example.com"), Ok((String::new(), "b@example.com".to_owned())));
        assert_eq!(to("mailto:"), Ok((String::new(), String::new())));
        let full = parse(b"mailto:x@y.org?subject=a%20b&body=c%0D%0Ad&from=evil@y.org&x=1").unwrap();
        assert_eq!((full.subject.as_deref(), full.body.as_deref()), (Some("a b"), Some("c\r\nd")));
        for bad in [
            "tel:+14085551212",
            "x@y.org",
            "mailto:x y@y.org",
            "mailto:x",
            "mailto:x@y.org?subject",
            "mailto:x@y.org?subject=%4",
            "mailto:x@y.org?body=%FF",
            "mailto:x@y.org?body=%00",
        ] {
            assert!(parse(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn encoding() {
        assert_eq!(encode(b"Safe body&evil=evilbody"), b"Safe%20body%26evil%3Devilbody");
        assert_eq!(encode("ü-._~".as_bytes()), b"%C3%BC-._~");
    }
}
