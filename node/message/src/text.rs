//! A text part in Unicode, piece by piece: a part may have 50 MiB, and many are read at once.

use std::borrow::Cow;

use mail_parser::decoders::{
    base64::base64_decode, charsets::map::charset_decoder, quoted_printable::quoted_printable_decode,
};

/// Octets of a part that are decoded at once.
const PIECE: usize = 256 << 10;

/// Shows the pieces of a part's text in order, at least one, until it is said that it is enough. Pieces end after
/// white space where there is any. What cannot be decoded is taken as it stands.
pub(crate) fn show(raw: &[u8], encoding: &str, charset: &[u8], mut is_enough: impl FnMut(&str) -> bool) {
    let (mut rest, mut pending) = (raw, Vec::new());
    loop {
        let (piece, after) = rest.split_at(cut(rest, encoding));
        rest = after;
        let decoded = transfer_decoded(piece, encoding);
        // All of a short text, without another copy.
        if rest.is_empty() && pending.is_empty() {
            is_enough(&in_unicode(&decoded, charset));
            return;
        }
        pending.extend_from_slice(&decoded);
        let end = if rest.is_empty() { pending.len() } else { whole_words(&pending, charset) };
        if is_enough(&in_unicode(pending.get(..end).unwrap_or_default(), charset)) || rest.is_empty() {
            return;
        }
        pending.drain(..end);
    }
}

/// Where the next piece ends, so that it can be decoded alone.
fn cut(rest: &[u8], encoding: &str) -> usize {
    let Some(window) = rest.get(..PIECE).filter(|_| rest.len() > PIECE) else { return rest.len() };
    let end = match encoding {
        // Four letters make three octets.
        "base64" => {
            let mut letters = 0_usize;
            let mut end = 0;
            for (place, octet) in window.iter().enumerate() {
                letters += usize::from(!octet.is_ascii_whitespace());
                if letters.is_multiple_of(4) {
                    end = place + 1;
                }
            }
            end
        }
        "quoted-printable" => memchr::memrchr(b'\n', window).map_or(0, |lf| lf + 1),
        _ => PIECE,
    };
    if end == 0 { PIECE } else { end }
}

pub(crate) fn transfer_decoded<'a>(piece: &'a [u8], encoding: &str) -> Cow<'a, [u8]> {
    let decoded = match encoding {
        "base64" => base64_decode(piece),
        "quoted-printable" => quoted_printable_decode(piece),
        _ => None,
    };
    decoded.map_or(Cow::Borrowed(piece), Cow::Owned)
}

/// Up to the last white space, which is one octet, and no part of another character, in all charsets of mail but
/// UTF-16; nothing while there is none in a little text.
fn whole_words(text: &[u8], charset: &[u8]) -> usize {
    if charset.get(..6).is_some_and(|start| start.eq_ignore_ascii_case(b"utf-16")) {
        return text.len() & !1;
    }
    match text.iter().rposition(u8::is_ascii_whitespace) {
        Some(space) => space + 1,
        None if text.len() < PIECE => 0,
        // Not within a character of UTF-8.
        None => text.iter().rposition(|octet| octet & 0xc0 != 0x80).unwrap_or(text.len()),
    }
}

fn in_unicode<'a>(octets: &'a [u8], charset: &[u8]) -> Cow<'a, str> {
    if let Ok(text) = std::str::from_utf8(octets)
        && (charset.eq_ignore_ascii_case(b"utf-8") || charset.eq_ignore_ascii_case(b"us-ascii"))
    {
        return Cow::Borrowed(text);
    }
    match charset_decoder(charset) {
        Some(decode) => Cow::Owned(decode(octets)),
        None => String::from_utf8_lossy(octets),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(raw: &[u8], encoding: &str, charset: &str) -> Vec<String> {
        let mut pieces = Vec::new();
        show(raw, encoding, charset.as_bytes(), |piece| {
            pieces.push(piece.to_owned());
            false
        });
        pieces
    }

    #[test]
    fn a_long_text_comes_in_pieces_that_lose_nothing() {
        let text: String = (0..60_000).map(|n| format!("größer {n}\r\n")).collect();
        let latin: Vec<u8> = text.chars().map(|c| u8::try_from(c).unwrap()).collect();
        // Lines of 75 letters: no line ends where a group of four does.
        let base64: Vec<u8> =
            base64(text.as_bytes()).chunks(75).flat_map(|l| [l, b"\r\n"].concat()).collect();
        let quoted = text.replace('ö', "=C3=B6").replace('ß', "=C3=9F").replace("er ", "er =\r\n");
        for (raw, encoding, charset) in [
            (text.as_bytes(), "8bit", "utf-8"),
            (&latin, "8bit", "iso-8859-1"),
            (&base64, "base64", "utf-8"),
            (quoted.as_bytes(), "quoted-printable", "utf-8"),
        ] {
            let pieces = shown(raw, encoding, charset);
            assert!(pieces.len() > 1, "{encoding} {charset}");
            assert!(pieces.iter().all(|piece| piece.len() <= 4 * PIECE), "{encoding} {charset}");
            assert!(pieces.concat() == text, "{encoding} {charset}");
        }
        let endless = "ö".repeat(PIECE);
        assert!(shown(endless.as_bytes(), "8bit", "utf-8").concat() == endless);
        assert_eq!(shown(b"", "7bit", "us-ascii"), [""]);
    }

    #[test]
    fn nothing_more_is_decoded_than_is_asked_for() {
        let mut pieces = 0;
        show(&b"x y\r\n".repeat(PIECE), "7bit", b"us-ascii", |_| {
            pieces += 1;
            pieces == 2
        });
        assert_eq!(pieces, 2);
    }

    fn base64(octets: &[u8]) -> Vec<u8> {
        const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let mut out = Vec::new();
        for group in octets.chunks(3) {
            let bits = (0..3).fold(0, |bits, n| bits << 8 | u32::from(*group.get(n).unwrap_or(&0)));
            for n in 0..4 {
                let letter = LETTERS[(bits >> (18 - 6 * n) & 63) as usize];
                out.push(if n > group.len() { b'=' } else { letter });
            }
        }
        out
    }
}
