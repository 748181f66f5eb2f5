//! What a message of a source is known by, from one run to the next.

use std::fmt;

use ring::digest;

/// Half of a SHA-256: of a Maildir file's unique name, or of an mbox message's text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key(u128);

impl Key {
    /// The key of these parts; where one ends and the next begins counts.
    #[must_use]
    pub fn of(parts: &[&[u8]]) -> Self {
        let mut context = digest::Context::new(&digest::SHA256);
        for part in parts {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        }
        let digest = context.finish();
        let half = digest.as_ref().iter().take(16).fold(0, |key, octet| key << 8 | u128::from(*octet));
        Self(half)
    }

    /// From what [`fmt::Display`] wrote.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let is_hex = text.len() == 32 && text.bytes().all(|b| b.is_ascii_hexdigit());
        is_hex.then(|| u128::from_str_radix(text, 16).ok().map(Self)).flatten()
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_count() {
        assert_ne!(Key::of(&[b"ab", b"c"]), Key::of(&[b"a", b"bc"]));
        let key = Key::of(&[b"1700000000.M1P2.host"]);
        assert_eq!(Key::parse(&key.to_string()), Some(key));
        for bad in ["", "12", "+0000000000000000000000000000001", &"g".repeat(32)] {
            assert_eq!(Key::parse(bad), None, "{bad}");
        }
    }
}
