//! Values of DSN parameters on the wire: xtext (RFC 3461 section 4) and addresses with UTF-8 (RFC 6533 section 3).
//!
//! ```text
//! xtext = *( xchar / hexchar )
//! xchar = any ASCII CHAR between "!" (33) and "~" (126) inclusive, except for "+" and "="
//! hexchar = ASCII "+" immediately followed by two upper case hexadecimal digits
//! QCHAR = %x21-2a / %x2c-3c / %x3e-5b / %x5d-7e
//! EmbeddedUnicodeChar = "\x" "{" HEXPOINT "}"
//! ```

use std::fmt::Write;

/// Writes `text` as xtext. Nothing that could end the parameter or the line is left in it.
pub(crate) fn xtext(text: &str, out: &mut String) {
    for octet in text.bytes() {
        match octet {
            b'+' | b'=' => escape(format_args!("+{octet:02X}"), out),
            b'!'..=b'~' => out.push(char::from(octet)),
            _ => escape(format_args!("+{octet:02X}"), out),
        }
    }
}

/// An address of the type `utf-8` in US-ASCII (utf-8-addr-xtext), for reports to those who cannot read UTF-8.
#[must_use]
pub fn utf8_address_in_ascii(address: &str) -> String {
    let mut out = String::with_capacity(address.len());
    utf8_address(address, false, &mut out);
    out
}

/// Reads xtext; nothing when it is none, or not UTF-8.
pub(crate) fn decode(text: &str) -> Option<String> {
    let mut octets = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(octet) = rest.next() {
        octets.push(match octet {
            b'+' => upper_hex(rest.next()?)? << 4 | upper_hex(rest.next()?)?,
            b'=' => return None,
            b'!'..=b'~' => octet,
            _ => return None,
        });
    }
    String::from_utf8(octets).ok()
}

fn upper_hex(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

/// Reads an address of the type `utf-8` in either form.
pub(crate) fn decode_utf8_address(text: &str) -> Option<String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        if let Some(point) = rest.strip_prefix("\\x{") {
            let (hex, after) = point.split_once('}')?;
            let good = (2..=6).contains(&hex.len()) && hex.bytes().all(|b| upper_hex(b).is_some());
            out.push(u32::from_str_radix(hex, 16).ok().filter(|_| good).and_then(char::from_u32)?);
            rest = after;
        } else if matches!(c, '+' | '=' | '\\' | '\0'..=' ' | '\x7f') {
            return None;
        } else {
            out.push(c);
            rest = &rest[c.len_utf8()..];
        }
    }
    Some(out)
}

/// Writes an address of the type `utf-8`: as it is where UTF-8 may be sent (utf-8-addr-unitext), else all of it in
/// US-ASCII (utf-8-addr-xtext).
pub(crate) fn utf8_address(address: &str, unitext: bool, out: &mut String) {
    for c in address.chars() {
        let plain = matches!(c, '!'..='~') && !matches!(c, '+' | '=' | '\\');
        if plain || (unitext && !c.is_ascii() && !c.is_control()) {
            out.push(c);
        } else {
            escape(format_args!("\\x{{{:02X}}}", u32::from(c)), out);
        }
    }
}

fn escape(text: std::fmt::Arguments<'_>, out: &mut String) {
    let written = out.write_fmt(text);
    debug_assert!(written.is_ok(), "writing to a string cannot fail");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_end_a_parameter_is_encoded() {
        for (text, wire) in [
            ("QQ314159", "QQ314159"),
            ("a+b=c", "a+2Bb+3Dc"),
            ("a b\r\nRCPT TO:<x>", "a+20b+0D+0ARCPT+20TO:<x>"),
            ("~!\x7f", "~!+7F"),
            ("\u{fc}", "+C3+BC"),
        ] {
            let mut out = String::new();
            xtext(text, &mut out);
            assert_eq!(out, wire, "{text:?}");
        }
    }

    #[test]
    fn utf8_addresses_have_two_forms() {
        assert_eq!(utf8_address_in_ascii("\u{fc}@b"), "\\x{FC}@b");
        for (address, unitext, wire) in [
            ("ann@b.c", false, "ann@b.c"),
            ("j\u{fc}rgen+x@b.c", false, "j\\x{FC}rgen\\x{2B}x@b.c"),
            ("j\u{fc}rgen+x@b.c", true, "j\u{fc}rgen\\x{2B}x@b.c"),
            ("a\\b c\r\n@\u{1f4e7}", false, "a\\x{5C}b\\x{20}c\\x{0D}\\x{0A}@\\x{1F4E7}"),
            ("a\u{85}b", true, "a\\x{85}b"),
        ] {
            let mut out = String::new();
            utf8_address(address, unitext, &mut out);
            assert_eq!(out, wire, "{address:?}");
        }
    }
}
