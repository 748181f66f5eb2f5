//! Addresses for ENVELOPE (RFC 3501 section 7.4.2): as sent, encoded words left encoded, so read by our own parser.

/// Most addresses that are read from one field.
const MAX_ADDRESSES: usize = 1000;

/// One address structure. A group begins with `mailbox: Some(name), host: None` and ends with all `None`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EnvelopeAddress {
    /// Display name, unquoted.
    pub name: Option<Vec<u8>>,
    /// Local part, or a group's name.
    pub mailbox: Option<Vec<u8>>,
    /// Domain.
    pub host: Option<Vec<u8>>,
}

#[derive(Debug, PartialEq, Eq)]
enum Token {
    /// An atom or a quoted string's content; was there white space before it?
    Word(Vec<u8>, bool),
    Comment(Vec<u8>),
    Special(u8),
}

/// Reads an address list, tolerantly: what is no address still shows its text.
#[must_use]
pub fn addresses(value: &[u8]) -> Vec<EnvelopeAddress> {
    let mut out = Vec::new();
    let mut entry: Vec<Token> = Vec::new();
    let mut in_group = false;
    let mut depth = 0_usize;
    for token in (Tokens { rest: value }) {
        if out.len() >= MAX_ADDRESSES {
            break;
        }
        match token {
            Token::Special(b'<') => {
                depth += 1;
                entry.push(token);
            }
            Token::Special(b'>') => {
                depth = depth.saturating_sub(1);
                entry.push(token);
            }
            Token::Special(b',') if depth == 0 => out.extend(address(&std::mem::take(&mut entry))),
            Token::Special(b':') if depth == 0 && !in_group => {
                in_group = true;
                let name = joined(&std::mem::take(&mut entry));
                out.push(EnvelopeAddress { mailbox: Some(name), ..Default::default() });
            }
            Token::Special(b';') if depth == 0 => {
                out.extend(address(&std::mem::take(&mut entry)));
                if in_group {
                    out.push(EnvelopeAddress::default());
                }
                in_group = false;
            }
            token => entry.push(token),
        }
    }
    out.extend(address(&entry));
    if in_group {
        out.push(EnvelopeAddress::default());
    }
    out
}

/// `[phrase] "<" [route ":"] addr-spec ">"` or `addr-spec`.
fn address(tokens: &[Token]) -> Option<EnvelopeAddress> {
    let open = tokens.iter().position(|t| *t == Token::Special(b'<'));
    let (phrase, spec) = match open {
        Some(open) => {
            let rest = &tokens[open + 1..];
            let close = rest.iter().position(|t| *t == Token::Special(b'>')).unwrap_or(rest.len());
            let spec = &rest[..close];
            // A source route (RFC 5322 section 4.4) ends with a colon and is dropped.
            let route = spec.iter().rposition(|t| *t == Token::Special(b':')).map_or(0, |colon| colon + 1);
            (&tokens[..open], &spec[route..])
        }
        None => (&[][..], tokens),
    };
    let at = spec.iter().rposition(|t| *t == Token::Special(b'@'));
    let (local, domain) = match at {
        Some(at) => (&spec[..at], Some(&spec[at + 1..])),
        None => (spec, None),
    };
    let mailbox = packed(local);
    let host = domain.map(packed).unwrap_or_default();
    let mut name = joined(phrase);
    if name.is_empty()
        && let Some(Token::Comment(comment)) = tokens.iter().find(|t| matches!(t, Token::Comment(_)))
    {
        name.clone_from(comment);
    }
    if name.is_empty() && mailbox.is_empty() && host.is_empty() {
        return None;
    }
    let name = if name.is_empty() { None } else { Some(name) };
    Some(EnvelopeAddress { name, mailbox: Some(mailbox), host: Some(host) })
}

/// Words of a phrase, with a space where there was white space.
fn joined(tokens: &[Token]) -> Vec<u8> {
    let mut out = Vec::new();
    for token in tokens {
        match token {
            Token::Word(word, spaced) => {
                if *spaced && !out.is_empty() {
                    out.push(b' ');
                }
                out.extend_from_slice(word);
            }
            Token::Special(special) => out.push(*special),
            Token::Comment(_) => {}
        }
    }
    out
}

/// A local part or domain: no white space inside.
fn packed(tokens: &[Token]) -> Vec<u8> {
    let mut out = Vec::new();
    for token in tokens {
        match token {
            Token::Word(word, _) => out.extend_from_slice(word),
            Token::Special(special) => out.push(*special),
            Token::Comment(_) => {}
        }
    }
    out
}

struct Tokens<'a> {
    rest: &'a [u8],
}

impl Tokens<'_> {
    fn next_octet(&mut self) -> Option<u8> {
        let (&first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(first)
    }

    fn quoted(&mut self) -> Vec<u8> {
        let mut out = Vec::new();
        while let Some(b) = self.next_octet() {
            match b {
                b'"' => break,
                b'\\' => out.extend(self.next_octet()),
                b => out.push(b),
            }
        }
        out
    }

    fn comment(&mut self) -> Vec<u8> {
        let mut depth = 1;
        let mut out = Vec::new();
        while let Some(b) = self.next_octet() {
            match b {
                b'(' => depth += 1,
                b')' => {
                    depth -= 1;
                    if depth == 0 {
                        break;
                    }
                }
                b'\\' => {
                    out.extend(self.next_octet());
                    continue;
                }
                _ => {}
            }
            out.push(b);
        }
        out.trim_ascii().to_vec()
    }
}

impl Iterator for Tokens<'_> {
    type Item = Token;

    fn next(&mut self) -> Option<Token> {
        let mut spaced = false;
        loop {
            let b = self.next_octet()?;
            return Some(match b {
                b' ' | b'\t' | b'\r' | b'\n' => {
                    spaced = true;
                    continue;
                }
                b'"' => Token::Word(self.quoted(), spaced),
                b'(' => Token::Comment(self.comment()),
                b'<' | b'>' | b',' | b':' | b';' | b'@' => Token::Special(b),
                b => {
                    let length = self.rest.iter().position(|b| b" \t\r\n\"(<>,:;@".contains(b));
                    let (word, rest) = self.rest.split_at(length.unwrap_or(self.rest.len()));
                    let word = [&[b], word].concat();
                    self.rest = rest;
                    Token::Word(word, spaced)
                }
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(value: &str) -> String {
        let text = |octets: Option<Vec<u8>>| octets.map_or("NIL".into(), |o| String::from_utf8(o).unwrap());
        let all = addresses(value.as_bytes());
        let all: Vec<String> = all
            .into_iter()
            .map(|a| format!("{}|{}|{}", text(a.name), text(a.mailbox), text(a.host)))
            .collect();
        all.join(" ; ")
    }

    #[test]
    fn as_the_rfc_has_them() {
        for (value, expected) in [
            ("Terry Gray <gray@cac.washington.edu>", "Terry Gray|gray|cac.washington.edu"),
            (
                "imap@cac.washington.edu, minutes@CNRI.Reston.VA.US",
                "NIL|imap|cac.washington.edu ; NIL|minutes|CNRI.Reston.VA.US",
            ),
            ("\"Doe, John\" <john@x.y>", "Doe, John|john|x.y"),
            ("=?utf-8?q?J=C3=B6rg?= <j@x>", "=?utf-8?q?J=C3=B6rg?=|j|x"),
            ("joe@x.y (Joe (the) Plumber)", "Joe (the) Plumber|joe|x.y"),
            ("A Group: a@b, C <c@d>; , e@f", "NIL|A Group|NIL ; NIL|a|b ; C|c|d ; NIL|NIL|NIL ; NIL|e|f"),
            ("undisclosed-recipients:;", "NIL|undisclosed-recipients|NIL ; NIL|NIL|NIL"),
            ("<@a,@b:c@d>", "NIL|c|d"),
            ("", ""),
            ("nobody", "NIL|nobody|"),
            ("<>", ""),
            ("\"unterminated <a@b>", "NIL|unterminated <a@b>|"),
        ] {
            assert_eq!(shown(value), expected, "{value}");
        }
    }
}
