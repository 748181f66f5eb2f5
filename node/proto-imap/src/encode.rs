//! Writes the pieces of responses (RFC 3501 section 9): strings, mailbox names, sets.

use crate::mutf7;

/// Longest quoted string; longer ones go as literals.
const MAX_QUOTED: usize = 1000;

/// ```text
/// string = quoted / literal
/// ```
/// A NUL, which no string may hold, is written as `?`.
pub fn string(out: &mut Vec<u8>, octets: &[u8]) {
    let quotable = octets.len() <= MAX_QUOTED
        && octets.iter().all(|&b| matches!(b, 0x01..=0x7f) && b != b'\r' && b != b'\n');
    if !quotable {
        literal_header(out, octets.len());
        out.extend(octets.iter().map(|&b| if b == 0 { b'?' } else { b }));
        return;
    }
    out.push(b'"');
    for &b in octets {
        if matches!(b, b'"' | b'\\') {
            out.push(b'\\');
        }
        out.push(b);
    }
    out.push(b'"');
}

/// `nstring = string / "NIL"`
pub fn nstring(out: &mut Vec<u8>, octets: Option<&[u8]>) {
    match octets {
        Some(octets) => string(out, octets),
        None => out.extend_from_slice(b"NIL"),
    }
}

/// `astring = 1*ASTRING-CHAR / string`: an atom when it can be one.
pub fn astring(out: &mut Vec<u8>, octets: &[u8]) {
    let atom = !octets.is_empty()
        && octets.iter().all(|&b| crate::cursor::is_atom_char(b))
        && !octets.eq_ignore_ascii_case(b"NIL");
    if atom { out.extend_from_slice(octets) } else { string(out, octets) }
}

/// A mailbox name in modified UTF-7.
pub fn mailbox(out: &mut Vec<u8>, name: &str) {
    string_or_atom_safe(out, mutf7::encode(name).as_bytes());
}

/// Names other than INBOX are always quoted: some clients trip over atoms with `&`, `/` or `~`.
fn string_or_atom_safe(out: &mut Vec<u8>, wire: &[u8]) {
    if wire == b"INBOX" { out.extend_from_slice(wire) } else { string(out, wire) }
}

/// `{n}` CRLF; the octets follow.
pub fn literal_header(out: &mut Vec<u8>, length: usize) {
    out.extend_from_slice(format!("{{{length}}}\r\n").as_bytes());
}

/// A set of ascending numbers: `1:3,5`. Empty for none.
#[must_use]
pub fn set(numbers: &[u32]) -> String {
    let mut out = String::new();
    let mut index = 0;
    while let Some(&first) = numbers.get(index) {
        let mut last = first;
        while numbers.get(index + 1).is_some_and(|&next| next == last.wrapping_add(1)) {
            index += 1;
            last = numbers[index];
        }
        if !out.is_empty() {
            out.push(',');
        }
        out.push_str(&first.to_string());
        if last != first {
            out.push(':');
            out.push_str(&last.to_string());
        }
        index += 1;
    }
    out
}

/// Text for people in a response line: what is not printable US-ASCII becomes `?`.
#[must_use]
pub fn line_text(text: &str) -> String {
    text.chars().map(|c| if matches!(c, ' '..='~') { c } else { '?' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings() {
        let written = |octets: &[u8]| {
            let mut out = Vec::new();
            string(&mut out, octets);
            out
        };
        assert_eq!(written(b"a\"b\\c"), b"\"a\\\"b\\\\c\"");
        assert_eq!(written(b"a\r\nb"), b"{4}\r\na\r\nb");
        assert_eq!(written(b"\xc3\xbc\0"), b"{3}\r\n\xc3\xbc?");
        let mut out = Vec::new();
        astring(&mut out, b"nil");
        astring(&mut out, b"");
        astring(&mut out, b"X-Y");
        assert_eq!(out, b"\"nil\"\"\"X-Y");
    }

    #[test]
    fn sets() {
        assert_eq!(set(&[]), "");
        assert_eq!(set(&[4]), "4");
        assert_eq!(set(&[1, 2, 3, 5, 7, 8]), "1:3,5,7:8");
        assert_eq!(set(&[u32::MAX - 1, u32::MAX]), "4294967294:4294967295");
    }
}
