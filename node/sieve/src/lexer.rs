//! Tokens (RFC 5228 section 8.1).
//!
//! Lines may end with LF alone, too, since many editors of scripts send them so; within strings it becomes CRLF, which
//! is what messages have. A CR alone and NUL are refused.

use crate::{CompileError, Position};

/// A token and where it begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    pub at: Position,
    pub kind: Kind,
}

/// What a token is. Names are in lower case: they are the same in any case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    Identifier(String),
    Tag(String),
    Number(u64),
    Text(Vec<u8>),
    Punctuation(u8),
    End,
}

/// Reads tokens one after the other.
pub struct Lexer<'a> {
    rest: &'a [u8],
    at: Position,
}

impl<'a> Lexer<'a> {
    pub fn new(script: &'a [u8]) -> Self {
        // A byte order mark is what some editors put in front of UTF-8.
        let rest = script.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(script);
        Self { rest, at: Position { line: 1, column: 1 } }
    }

    pub fn next(&mut self) -> Result<Token, CompileError> {
        self.skip_space()?;
        let at = self.at;
        let Some(&first) = self.rest.first() else { return Ok(Token { at, kind: Kind::End }) };
        let kind = match first {
            b'"' => Kind::Text(self.quoted()?),
            b'0'..=b'9' => Kind::Number(self.number()?),
            b':' => {
                self.bump();
                match self.word() {
                    Some(name) => Kind::Tag(name),
                    None => {
                        return Err(CompileError::new(at, "a tag has a name after its \":\", such as :is"));
                    }
                }
            }
            b';' | b',' | b'(' | b')' | b'[' | b']' | b'{' | b'}' => {
                self.bump();
                Kind::Punctuation(first)
            }
            _ => match self.word() {
                Some(word) if word == "text" && self.rest.first() == Some(&b':') => {
                    Kind::Text(self.multi_line()?)
                }
                Some(word) => Kind::Identifier(word),
                None => return Err(stray(at, first)),
            },
        };
        Ok(Token { at, kind })
    }

    /// Takes one octet and counts it.
    fn bump(&mut self) -> Option<u8> {
        let (&octet, rest) = self.rest.split_first()?;
        self.rest = rest;
        if octet == b'\n' {
            self.at = Position { line: self.at.line.saturating_add(1), column: 1 };
        } else if octet & 0xC0 != 0x80 {
            self.at.column = self.at.column.saturating_add(1);
        }
        Some(octet)
    }

    /// Takes an octet of a comment or string, `None` at the script's end. A line's end is `\n` here, however it is
    /// written.
    fn octet(&mut self) -> Result<Option<u8>, CompileError> {
        let at = self.at;
        match self.bump() {
            Some(0) => Err(CompileError::new(at, "NUL cannot stand in a script: use \"${hex:00}\"")),
            Some(b'\r') if self.rest.first() == Some(&b'\n') => {
                self.bump();
                Ok(Some(b'\n'))
            }
            Some(b'\r') => Err(CompileError::new(at, "a line ends with CR LF, not with CR alone")),
            octet => Ok(octet),
        }
    }

    fn skip_space(&mut self) -> Result<(), CompileError> {
        loop {
            match self.rest {
                [b' ' | b'\t' | b'\n', ..] | [b'\r', b'\n', ..] => {
                    self.bump();
                }
                [b'#', ..] => self.hash_comment()?,
                [b'/', b'*', ..] => self.bracket_comment()?,
                _ => return Ok(()),
            }
        }
    }

    fn hash_comment(&mut self) -> Result<(), CompileError> {
        // The last line of a script need not end.
        while self.octet()?.is_some_and(|octet| octet != b'\n') {}
        Ok(())
    }

    fn bracket_comment(&mut self) -> Result<(), CompileError> {
        let at = self.at;
        self.bump();
        self.bump();
        while !self.rest.starts_with(b"*/") {
            if self.octet()?.is_none() {
                return Err(CompileError::new(at, "this comment does not end: close it with */"));
            }
        }
        self.bump();
        self.bump();
        Ok(())
    }

    /// `identifier = (ALPHA / "_") *(ALPHA / DIGIT / "_")`
    fn word(&mut self) -> Option<String> {
        let first = *self.rest.first()?;
        if !(first.is_ascii_alphabetic() || first == b'_') {
            return None;
        }
        let mut word = String::new();
        while let Some(&octet) = self.rest.first().filter(|o| o.is_ascii_alphanumeric() || **o == b'_') {
            word.push(char::from(octet.to_ascii_lowercase()));
            self.bump();
        }
        Some(word)
    }

    /// `number = 1*DIGIT [ "K" / "M" / "G" ]`
    fn number(&mut self) -> Result<u64, CompileError> {
        let at = self.at;
        let too_large = || CompileError::new(at, "this number is too large");
        let mut number = 0_u64;
        while let Some(&digit) = self.rest.first().filter(|octet| octet.is_ascii_digit()) {
            number = number
                .checked_mul(10)
                .and_then(|n| n.checked_add(u64::from(digit - b'0')))
                .ok_or_else(too_large)?;
            self.bump();
        }
        match self.word().as_deref() {
            None => Ok(number),
            Some("k") => number.checked_mul(1 << 10).ok_or_else(too_large),
            Some("m") => number.checked_mul(1 << 20).ok_or_else(too_large),
            Some("g") => number.checked_mul(1 << 30).ok_or_else(too_large),
            Some(_) => Err(CompileError::new(at, "a number may end with K, M or G and with nothing else")),
        }
    }

    fn quoted(&mut self) -> Result<Vec<u8>, CompileError> {
        let end = CompileError::new(self.at, "this string does not end: close it with \"");
        self.bump();
        let mut text = Vec::new();
        loop {
            let mut octet = self.octet()?;
            match octet {
                Some(b'"') => return Ok(text),
                Some(b'\\') => octet = self.octet()?,
                _ => {}
            }
            match octet {
                None => return Err(end),
                Some(b'\n') => text.extend_from_slice(b"\r\n"),
                Some(octet) => text.push(octet),
            }
        }
    }

    /// What follows `text`: a colon, the rest of the line, and lines up to one with a dot alone.
    fn multi_line(&mut self) -> Result<Vec<u8>, CompileError> {
        let at = self.at;
        self.bump();
        while let [b' ' | b'\t', ..] = self.rest {
            self.bump();
        }
        let end = self.at;
        if self.rest.first() == Some(&b'#') {
            self.hash_comment()?;
        } else if self.octet()? != Some(b'\n') {
            return Err(CompileError::new(end, "the text begins in the line after \"text:\""));
        }
        let mut text = Vec::new();
        loop {
            let mut line = Vec::new();
            loop {
                match self.octet()? {
                    Some(b'\n') => break,
                    Some(octet) => line.push(octet),
                    None if line == b"." => break,
                    None => {
                        let message = "this text does not end: close it with a line that has only a dot";
                        return Err(CompileError::new(at, message));
                    }
                }
            }
            match line.as_slice() {
                b"." => return Ok(text),
                [b'.', b'.', ..] => text.extend_from_slice(&line[1..]),
                _ => text.extend_from_slice(&line),
            }
            text.extend_from_slice(b"\r\n");
        }
    }
}

fn stray(at: Position, octet: u8) -> CompileError {
    let what = match octet {
        b'\'' | b'`' => "strings stand in double quotes".to_owned(),
        b'\r' => "a line ends with CR LF, not with CR alone".to_owned(),
        0x21..=0x7E => format!("\"{}\" means nothing here", char::from(octet)),
        _ => "only strings and comments may have characters outside of US-ASCII".to_owned(),
    };
    CompileError::new(at, what)
}
