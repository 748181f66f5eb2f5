//! A message's flags, as they are sent.

use std::{collections::BTreeSet, fmt};

/// Most keywords of a message, and the longest in octets: what the store takes.
const MAX_KEYWORDS: usize = 64;
const MAX_KEYWORD: usize = 64;

/// System flags in the order they are sent, with their letters in Maildir names.
const SYSTEM: [(char, &str); 5] =
    [('R', "\\Answered"), ('F', "\\Flagged"), ('T', "\\Deleted"), ('S', "\\Seen"), ('D', "\\Draft")];

/// What Maildir has as a flag and IMAP as a keyword.
const PASSED: (char, &str) = ('P', "$Forwarded");

/// Flags and keywords; written as IMAP does, without parentheses.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Flags {
    /// Bit n: the n-th of `SYSTEM`.
    system: u8,
    keywords: BTreeSet<String>,
}

impl Flags {
    /// Sets what a letter of a Maildir name stands for; `keyword` answers for the small ones.
    pub(crate) fn set_letter<'a>(&mut self, letter: char, keyword: impl FnOnce(char) -> Option<&'a str>) {
        match SYSTEM.iter().position(|(l, _)| *l == letter) {
            Some(bit) => self.system |= 1 << bit,
            None if letter == PASSED.0 => self.set_keyword(PASSED.1),
            None if letter.is_ascii_lowercase() => {
                if let Some(keyword) = keyword(letter) {
                    self.set_keyword(keyword);
                }
            }
            None => {}
        }
    }

    /// Sets a keyword, unless IMAP has no way to write it or there are too many.
    pub(crate) fn set_keyword(&mut self, keyword: &str) {
        let special = |b: u8| !b.is_ascii_graphic() || br#"(){%*"\]"#.contains(&b);
        let fits = (1..=MAX_KEYWORD).contains(&keyword.len()) && self.keywords.len() < MAX_KEYWORDS;
        let is_there = self.keywords.iter().any(|k| k.eq_ignore_ascii_case(keyword));
        if fits && !is_there && !keyword.bytes().any(special) {
            self.keywords.insert(keyword.to_owned());
        }
    }

    /// Those that `other` does not have.
    pub(crate) fn without(&self, other: &Self) -> Self {
        let has = |keyword: &&String| other.keywords.iter().any(|k| k.eq_ignore_ascii_case(keyword));
        let keywords = self.keywords.iter().filter(|keyword| !has(keyword)).cloned().collect();
        Self { system: self.system & !other.system, keywords }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.system == 0 && self.keywords.is_empty()
    }

    /// From what [`fmt::Display`] wrote.
    pub(crate) fn parse(text: &str) -> Self {
        let mut flags = Self::default();
        for word in text.split_ascii_whitespace() {
            match SYSTEM.iter().position(|(_, name)| *name == word) {
                Some(bit) => flags.system |= 1 << bit,
                None => flags.set_keyword(word),
            }
        }
        flags
    }
}

impl fmt::Display for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let system = SYSTEM.iter().enumerate().filter(|(bit, _)| self.system & (1 << bit) != 0);
        let words = system.map(|(_, (_, name))| *name).chain(self.keywords.iter().map(String::as_str));
        f.write_str(&words.collect::<Vec<_>>().join(" "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_and_keywords_become_what_imap_writes() {
        let keyword = |letter: char| match letter {
            'a' => Some("Work"),
            'b' => Some("no good"),
            'c' => Some("work"),
            _ => None,
        };
        for (letters, expected) in [
            ("", ""),
            ("S", "\\Seen"),
            ("DFRST", "\\Answered \\Flagged \\Deleted \\Seen \\Draft"),
            ("PSa", "\\Seen $Forwarded Work"),
            ("abcz", "Work"),
            ("X9;é", ""),
        ] {
            let mut flags = Flags::default();
            letters.chars().for_each(|letter| flags.set_letter(letter, keyword));
            assert_eq!(flags.to_string(), expected, "{letters}");
            assert_eq!(Flags::parse(expected), flags, "{letters}");
        }
    }

    #[test]
    fn what_changed_is_told_apart_from_what_stayed() {
        let (old, new) = (Flags::parse("\\Seen \\Draft work a"), Flags::parse("\\Seen \\Flagged Work b"));
        assert_eq!(new.without(&old).to_string(), "\\Flagged b");
        assert_eq!(old.without(&new).to_string(), "\\Draft a");
        assert!(old.without(&old).is_empty() && !old.is_empty());
    }

    #[test]
    fn keywords_have_bounds() {
        let mut flags = Flags::default();
        let long = "x".repeat(65);
        for bad in ["", "a b", "a\r\nb", "(", "a)", "\\Seen", "]", "*", "%", "ä", "a\"", long.as_str()] {
            flags.set_keyword(bad);
        }
        assert_eq!(flags, Flags::default());
        (0..100).for_each(|n| flags.set_keyword(&format!("k{n}")));
        assert_eq!(flags.keywords.len(), MAX_KEYWORDS);
    }
}
