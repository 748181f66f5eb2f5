//! Reads tokens from a framed command: its lines without the last CRLF, literals in place.

use crate::error::SyntaxError;

/// Most elements of a parenthesised list.
const MAX_LIST: usize = 1000;

/// A place in a command.
#[derive(Clone)]
pub(crate) struct Cursor<'a> {
    buffer: &'a [u8],
    position: usize,
}

/// ATOM-CHAR of RFC 3501: any CHAR but atom-specials.
pub(crate) fn is_atom_char(b: u8) -> bool {
    matches!(b, 0x21..=0x7e) && !matches!(b, b'(' | b')' | b'{' | b'%' | b'*' | b'"' | b'\\' | b']')
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(buffer: &'a [u8]) -> Self {
        Self { buffer, position: 0 }
    }

    pub(crate) fn position(&self) -> usize {
        self.position
    }

    fn rest(&self) -> &'a [u8] {
        self.buffer.get(self.position..).unwrap_or_default()
    }

    pub(crate) fn fail<T>(&self, expected: &'static str) -> Result<T, SyntaxError> {
        Err(SyntaxError::at(self.position, expected))
    }

    pub(crate) fn peek(&self) -> Option<u8> {
        self.buffer.get(self.position).copied()
    }

    pub(crate) fn at_end(&self) -> bool {
        self.peek().is_none()
    }

    /// Takes this octet if it is next.
    pub(crate) fn eat(&mut self, octet: u8) -> bool {
        let found = self.peek() == Some(octet);
        self.position += usize::from(found);
        found
    }

    /// Takes this word if it is next, in any case.
    pub(crate) fn eat_word(&mut self, word: &str) -> bool {
        let found = self.rest().get(..word.len()).is_some_and(|t| t.eq_ignore_ascii_case(word.as_bytes()));
        self.position += if found { word.len() } else { 0 };
        found
    }

    pub(crate) fn expect(&mut self, octet: u8, expected: &'static str) -> Result<(), SyntaxError> {
        if self.eat(octet) { Ok(()) } else { self.fail(expected) }
    }

    /// `SP`: exactly one space.
    pub(crate) fn space(&mut self) -> Result<(), SyntaxError> {
        self.expect(b' ', "a space")
    }

    /// The end of the command.
    pub(crate) fn end(&self) -> Result<(), SyntaxError> {
        if self.at_end() { Ok(()) } else { self.fail("the end of the command") }
    }

    /// One or more octets that `accept` takes.
    pub(crate) fn take_while(
        &mut self,
        expected: &'static str,
        accept: impl Fn(u8) -> bool,
    ) -> Result<Vec<u8>, SyntaxError> {
        let rest = self.rest();
        let length = rest.iter().position(|&b| !accept(b)).unwrap_or(rest.len());
        if length == 0 {
            return self.fail(expected);
        }
        self.position += length;
        Ok(rest[..length].to_vec())
    }

    /// `atom = 1*ATOM-CHAR`
    pub(crate) fn atom(&mut self, expected: &'static str) -> Result<String, SyntaxError> {
        let octets = self.take_while(expected, is_atom_char)?;
        Ok(octets.into_iter().map(char::from).collect())
    }

    /// An atom in capitals.
    pub(crate) fn keyword(&mut self, expected: &'static str) -> Result<String, SyntaxError> {
        self.atom(expected).map(|atom| atom.to_ascii_uppercase())
    }

    /// `number64`, within u64.
    pub(crate) fn number64(&mut self, expected: &'static str) -> Result<u64, SyntaxError> {
        let start = self.position;
        let digits = self.take_while(expected, |b| b.is_ascii_digit())?;
        digits
            .iter()
            .try_fold(0u64, |sum, b| sum.checked_mul(10)?.checked_add(u64::from(b - b'0')))
            .ok_or_else(|| SyntaxError::at(start, expected))
    }

    /// `number`, within u32.
    pub(crate) fn number(&mut self, expected: &'static str) -> Result<u32, SyntaxError> {
        let start = self.position;
        u32::try_from(self.number64(expected)?).map_err(|_| SyntaxError::at(start, expected))
    }

    /// `nz-number`
    pub(crate) fn nz_number(&mut self, expected: &'static str) -> Result<u32, SyntaxError> {
        let start = self.position;
        match self.number(expected)? {
            0 => Err(SyntaxError::at(start, expected)),
            number => Ok(number),
        }
    }

    /// ```text
    /// astring = 1*ASTRING-CHAR / string
    /// ASTRING-CHAR = ATOM-CHAR / "]"
    /// ```
    pub(crate) fn astring(&mut self, expected: &'static str) -> Result<Vec<u8>, SyntaxError> {
        match self.peek() {
            Some(b'"' | b'{') => self.string(expected),
            _ => self.take_while(expected, |b| is_atom_char(b) || b == b']'),
        }
    }

    /// An astring that must be UTF-8.
    pub(crate) fn text(&mut self, expected: &'static str) -> Result<String, SyntaxError> {
        let start = self.position;
        String::from_utf8(self.astring(expected)?).map_err(|_| SyntaxError::at(start, "UTF-8"))
    }

    /// `nstring = string / nil`
    pub(crate) fn nstring(&mut self, expected: &'static str) -> Result<Option<Vec<u8>>, SyntaxError> {
        if self.eat_word("NIL") { Ok(None) } else { self.string(expected).map(Some) }
    }

    /// `string = quoted / literal`
    pub(crate) fn string(&mut self, expected: &'static str) -> Result<Vec<u8>, SyntaxError> {
        match self.peek() {
            Some(b'"') => self.quoted(),
            Some(b'{') => self.literal(),
            _ => self.fail(expected),
        }
    }

    /// `quoted = DQUOTE *QUOTED-CHAR DQUOTE`
    fn quoted(&mut self) -> Result<Vec<u8>, SyntaxError> {
        self.position += 1;
        let mut out = Vec::new();
        loop {
            match self.peek() {
                Some(b'"') => {
                    self.position += 1;
                    return Ok(out);
                }
                Some(b'\\') => {
                    self.position += 1;
                    match self.peek() {
                        Some(b @ (b'"' | b'\\')) => out.push(b),
                        _ => return self.fail("\" or \\ after \\"),
                    }
                }
                Some(b'\r' | b'\n') | None => return self.fail("a closing quote"),
                Some(b) => out.push(b),
            }
            self.position += 1;
        }
    }

    /// `literal = "{" number ["+"] "}" CRLF *CHAR8`
    fn literal(&mut self) -> Result<Vec<u8>, SyntaxError> {
        self.position += 1;
        let length = self.number("a literal's length")?;
        self.eat(b'+');
        if !(self.eat(b'}') && self.eat(b'\r') && self.eat(b'\n')) {
            return self.fail("a literal");
        }
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        match self.rest().get(..length) {
            Some(octets) => {
                if let Some(nul) = memchr::memchr(0, octets) {
                    return Err(SyntaxError::at(self.position + nul, "no NUL in a literal"));
                }
                self.position += length;
                Ok(octets.to_vec())
            }
            None => self.fail("a whole literal"),
        }
    }

    /// `"(" [element *(SP element)] ")"`
    pub(crate) fn list(
        &mut self,
        mut element: impl FnMut(&mut Self) -> Result<(), SyntaxError>,
    ) -> Result<(), SyntaxError> {
        self.expect(b'(', "(")?;
        if self.eat(b')') {
            return Ok(());
        }
        for _ in 0..MAX_LIST {
            element(self)?;
            if self.eat(b')') {
                return Ok(());
            }
            self.expect(b' ', "a space or )")?;
        }
        Err(SyntaxError::too_big(format!("a list has at most {MAX_LIST} elements")))
    }
}
