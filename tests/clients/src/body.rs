//! Test messages that can be checked to the last octet: what was sent follows from two headers, the token and the
//! size.

use std::ops::Range;

/// The header that names a message in the ledger.
const TOKEN: &str = "X-Test-Token: ";
/// The header that says how long it was made.
const SIZE: &str = "X-Test-Size: ";
/// What every test message begins with; servers put their trace fields before it.
const FIRST: &str = "From: sender@elsewhere.test\r\n";

/// A message that carries its token, of at least `size` octets.
#[must_use]
pub fn message(token: &str, size: usize) -> Vec<u8> {
    let mut text = format!(
        "{FIRST}To: someone@example.test\r\nSubject: test {token}\r\n{TOKEN}{token}\r\n{SIZE}{size}\r\n\
         Message-ID: <{token}@elsewhere.test>\r\nDate: Mon, 23 Nov 2026 00:00:00 +0000\r\n\r\n\
         .{token}: a line that SMTP and POP3 must stuff\r\n"
    );
    // The token is in every line, so that no part of another message passes for this one's.
    let line = format!("{token}: all work and no play; this line is only here to be long enough.\r\n");
    while text.len() < size {
        text.push_str(&line);
    }
    text.into_bytes()
}

/// The token in a message, if it has one.
#[must_use]
pub fn token_of(message: &[u8]) -> Option<String> {
    header(message, TOKEN)
}

/// What is wrong with a stored message that was made by [`message`]; nothing, when it is the one that was sent, with
/// nothing but trace fields before it.
#[must_use]
pub fn damage(stored: &[u8]) -> Option<String> {
    let Some(start) = find(stored, FIRST.as_bytes()) else {
        return Some("its beginning is missing".to_owned());
    };
    let (trace, rest) = stored.split_at(start);
    if !(trace.is_empty() || trace.ends_with(b"\r\n")) || find(trace, b"\r\n\r\n").is_some() {
        return Some("something else stands before it".to_owned());
    }
    let Some((token, size)) = token_of(rest).zip(header(rest, SIZE).and_then(|size| size.parse().ok()))
    else {
        return Some("its token or size is missing".to_owned());
    };
    let sent = message(&token, size);
    if rest == sent {
        return None;
    }
    let same = rest.iter().zip(&sent).take_while(|(one, two)| one == two).count();
    Some(format!("{} octets of {}, differing from octet {same} on", rest.len(), sent.len()))
}

fn find(text: &[u8], part: &[u8]) -> Option<usize> {
    text.windows(part.len()).position(|window| window == part)
}

fn header(message: &[u8], name: &str) -> Option<String> {
    let head: Range<usize> = 0..find(message, b"\r\n\r\n").unwrap_or(message.len());
    let text = String::from_utf8_lossy(&message[head]);
    text.lines().find_map(|line| line.strip_prefix(name)).map(|value| value.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_recognised_and_its_damage_found() {
        let sent = message("a-1", 3000);
        let stored = |change: &dyn Fn(&mut Vec<u8>)| {
            let mut stored = b"Return-Path: <a@b>\r\nReceived: from x\r\n\tby y\r\n".to_vec();
            stored.extend(&sent);
            change(&mut stored);
            stored
        };
        let other = message("a-2", 3000);
        for (what, text, whole) in [
            ("as sent", sent.clone(), true),
            ("with trace fields", stored(&|_| {}), true),
            ("a line short", stored(&|text| text.truncate(text.len() - 75)), false),
            ("an octet short", stored(&|text| text.truncate(text.len() - 1)), false),
            ("an octet too much", stored(&|text| text.push(b'\n')), false),
            (
                "another's end",
                stored(&|text| {
                    let at = text.len() - 500;
                    text.splice(at.., other[other.len() - 500..].iter().copied());
                }),
                false,
            ),
            (
                "a flipped bit",
                stored(&|text| {
                    if let Some(last) = text.last_mut() {
                        *last ^= 1;
                    }
                }),
                false,
            ),
            ("a body before it", [b"X: y\r\n\r\n".to_vec(), sent.clone()].concat(), false),
            ("no line end before it", [b"X: y".to_vec(), sent.clone()].concat(), false),
            ("empty", Vec::new(), false),
            ("no size", b"From: sender@elsewhere.test\r\nX-Test-Token: a-1\r\n\r\nhi\r\n".to_vec(), false),
        ] {
            assert_eq!(damage(&text).is_none(), whole, "{what}: {:?}", damage(&text));
        }
        assert_eq!(token_of(&stored(&|_| {})).as_deref(), Some("a-1"));
        assert_eq!(token_of(b"Subject: x\r\n\r\nX-Test-Token: quoted\r\n"), None);
    }
}
