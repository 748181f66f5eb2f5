//! Sets of IMAP flags (RFC 5232): strings of words.

/// Flags that a client may set (RFC 3501 section 2.3.2); all others with a backslash are left out, `\Recent` too.
const SYSTEM: [&str; 5] = ["\\Answered", "\\Deleted", "\\Draft", "\\Flagged", "\\Seen"];

/// A flag of more octets is left out.
const LONGEST: usize = 128;

/// Adds the flags of a string to a set; those that are no flags, are there already, or are too many, are left out.
pub fn add(set: &mut Vec<String>, words: &[u8], most: usize) {
    for word in split(words) {
        let Some(flag) = flag(word) else { continue };
        if set.len() < most && !set.iter().any(|known| known.eq_ignore_ascii_case(&flag)) {
            set.push(flag);
        }
    }
}

/// Takes the flags of a string out of a set.
pub fn remove(set: &mut Vec<String>, words: &[u8]) {
    for word in split(words) {
        set.retain(|flag| !flag.as_bytes().eq_ignore_ascii_case(word));
    }
}

/// The words of a string.
pub fn split(words: &[u8]) -> impl Iterator<Item = &[u8]> {
    words.split(|octet| *octet == b' ').filter(|word| !word.is_empty())
}

/// `flag = "\Answered" / ... / flag-keyword`, the latter an atom.
fn flag(word: &[u8]) -> Option<String> {
    let word = std::str::from_utf8(word).ok().filter(|word| word.len() <= LONGEST)?;
    if word.starts_with('\\') {
        let known = SYSTEM.iter().find(|system| system.eq_ignore_ascii_case(word));
        return known.map(|system| (*system).to_owned());
    }
    word.bytes()
        .all(|octet| octet.is_ascii_graphic() && !b"(){%*\"\\]".contains(&octet))
        .then(|| word.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets() {
        let mut set = Vec::new();
        add(&mut set, b"  \\seen   $Work  \\Recent \\Other a(b caf\xC3\xA9 $WORK", 8);
        assert_eq!(set, ["\\Seen", "$Work"]);
        add(&mut set, b"one two three", 4);
        assert_eq!(set, ["\\Seen", "$Work", "one", "two"]);
        remove(&mut set, b"$work \\SEEN never-set");
        assert_eq!(set, ["one", "two"]);
        add(&mut set, &[b'x'; 200], 8);
        assert_eq!(set.len(), 2);
    }
}
