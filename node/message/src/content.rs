//! Content-Type and Content-Disposition (RFC 2045 section 5.1, RFC 2183): a type and its parameters, as sent.

/// Most parameters that are read.
const MAX_PARAMETERS: usize = 50;

/// A Content-Type. Names are in lower case, values as sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContentType {
    /// `text`
    pub kind: String,
    /// `plain`
    pub subtype: String,
    /// `charset` and others, in order.
    pub parameters: Vec<(String, Vec<u8>)>,
}

/// A Content-Disposition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disposition {
    /// `attachment`
    pub kind: String,
    /// `filename` and others, in order.
    pub parameters: Vec<(String, Vec<u8>)>,
}

impl ContentType {
    pub(crate) fn new(kind: &str, subtype: &str) -> Self {
        Self { kind: kind.to_owned(), subtype: subtype.to_owned(), parameters: Vec::new() }
    }

    /// Reads a field's unfolded value; `None` when it has no type and subtype (RFC 2045 section 5.2: then the default).
    #[must_use]
    pub fn parse(value: &[u8]) -> Option<Self> {
        let mut scanner = Scanner { rest: value };
        let kind = scanner.token()?;
        scanner.symbol(b'/')?;
        let subtype = scanner.token()?;
        Some(Self { kind, subtype, parameters: scanner.parameters() })
    }

    /// A parameter's value.
    #[must_use]
    pub fn parameter(&self, name: &str) -> Option<&[u8]> {
        self.parameters.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_slice())
    }
}

impl Disposition {
    /// Reads a field's unfolded value.
    #[must_use]
    pub fn parse(value: &[u8]) -> Option<Self> {
        let mut scanner = Scanner { rest: value };
        let kind = scanner.token()?;
        Some(Self { kind, parameters: scanner.parameters() })
    }
}

/// The first token of a field such as Content-Transfer-Encoding, in lower case.
pub(crate) fn token(value: &[u8]) -> Option<String> {
    Scanner { rest: value }.token()
}

struct Scanner<'a> {
    rest: &'a [u8],
}

fn is_token(b: u8) -> bool {
    matches!(b, 0x21..=0x7e) && !b"()<>@,;:\\\"/[]?=".contains(&b)
}

impl Scanner<'_> {
    fn advance(&mut self, count: usize) {
        self.rest = self.rest.get(count..).unwrap_or_default();
    }

    /// White space and comments (RFC 5322 section 3.2.2).
    fn skip_blanks(&mut self) {
        let mut depth = 0_usize;
        while let Some(&b) = self.rest.first() {
            match b {
                b'(' => depth += 1,
                b')' if depth > 0 => depth -= 1,
                b'\\' if depth > 0 => self.advance(1),
                b' ' | b'\t' | b'\r' | b'\n' => {}
                _ if depth > 0 => {}
                _ => return,
            }
            self.advance(1);
        }
    }

    fn token(&mut self) -> Option<String> {
        self.skip_blanks();
        let length = self.rest.iter().position(|&b| !is_token(b)).unwrap_or(self.rest.len());
        let token = self.rest[..length].iter().map(|&b| char::from(b.to_ascii_lowercase())).collect();
        self.advance(length);
        if length == 0 { None } else { Some(token) }
    }

    fn symbol(&mut self, symbol: u8) -> Option<()> {
        self.skip_blanks();
        if self.rest.first() == Some(&symbol) {
            self.advance(1);
            return Some(());
        }
        None
    }

    fn parameters(&mut self) -> Vec<(String, Vec<u8>)> {
        let mut parameters = Vec::new();
        while parameters.len() < MAX_PARAMETERS {
            let Some(semicolon) = memchr::memchr(b';', self.rest) else { break };
            self.advance(semicolon + 1);
            let Some(name) = self.token() else { continue };
            if self.symbol(b'=').is_none() {
                continue;
            }
            self.skip_blanks();
            let value = self.value();
            parameters.push((name, value));
        }
        parameters
    }

    /// A token or quoted string; being lenient, anything up to white space or a semicolon.
    fn value(&mut self) -> Vec<u8> {
        if self.rest.first() != Some(&b'"') {
            let length = self.rest.iter().position(|b| b" \t\r\n;".contains(b)).unwrap_or(self.rest.len());
            let value = self.rest[..length].to_vec();
            self.advance(length);
            return value;
        }
        self.advance(1);
        let mut value = Vec::new();
        while let Some(&b) = self.rest.first() {
            self.advance(1);
            match b {
                b'"' => break,
                b'\\' => {
                    value.extend(self.rest.first());
                    self.advance(1);
                }
                b'\r' | b'\n' => {}
                b => value.push(b),
            }
        }
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types() {
        let parsed =
            ContentType::parse(b"Multipart/Mixed (x;y); boundary=\"a;\\\"b\" ; charset = us-ascii; bad")
                .unwrap();
        assert_eq!((parsed.kind.as_str(), parsed.subtype.as_str()), ("multipart", "mixed"));
        assert_eq!(parsed.parameter("boundary"), Some(&b"a;\"b"[..]));
        assert_eq!(parsed.parameter("charset"), Some(&b"us-ascii"[..]));
        assert_eq!(ContentType::parse(b"text"), None);
        assert_eq!(ContentType::parse(b""), None);
        let disposition = Disposition::parse(b"attachment; filename=x y.pdf").unwrap();
        assert_eq!(disposition.parameters, [("filename".to_owned(), b"x".to_vec())]);
    }
}
