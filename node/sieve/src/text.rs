//! Strings of a script: encoded characters (RFC 5228 section 2.4.2.4) and places for variables (RFC 5229 section 3).

use std::collections::HashMap;

use crate::{Capability, CompileError, compile::Compiler, syntax::Literal};

/// A string, its encoded characters decoded, with the places of its variables.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Text(pub Vec<Piece>);

/// A part of a string.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    Octets(Vec<u8>),
    /// The variable of a slot.
    Variable(u16),
    /// `${N}`: what the Nth wildcard of the last `:matches` stood for.
    Capture(u8),
}

/// Highest N of `${N}` (RFC 5229 section 6 asks for 9).
pub const CAPTURES: u8 = 32;

impl Text {
    /// What it is, when no variable is in it.
    pub fn constant(&self) -> Option<&[u8]> {
        match self.0.as_slice() {
            [] => Some(b""),
            [Piece::Octets(octets)] => Some(octets),
            _ => None,
        }
    }
}

/// The variables of a script, numbered.
#[derive(Debug, Default)]
pub struct Names(HashMap<String, u16>);

impl Names {
    /// The slot of a name; `None` when there are too many of them.
    fn slot(&mut self, name: &[u8], most: usize) -> Option<u16> {
        let name = String::from_utf8_lossy(name).to_ascii_lowercase();
        let next = u16::try_from(self.0.len()).ok()?;
        if usize::from(next) >= most && !self.0.contains_key(&name) {
            return None;
        }
        Some(*self.0.entry(name).or_insert(next))
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }
}

impl Compiler<'_> {
    /// A string as its script means it.
    pub fn text(&mut self, literal: &Literal) -> Result<Text, CompileError> {
        let decoded;
        let octets = if self.required(Capability::EncodedCharacter) {
            decoded = decode(literal)?;
            &decoded
        } else {
            &literal.octets
        };
        if !self.required(Capability::Variables) {
            let whole = Piece::Octets(octets.clone());
            return Ok(Text(if octets.is_empty() { Vec::new() } else { vec![whole] }));
        }
        let mut pieces = Vec::new();
        let mut plain = Vec::new();
        let mut rest = octets.as_slice();
        while let Some((&first, after)) = rest.split_first() {
            if let Some((name, after)) = reference(rest) {
                if !plain.is_empty() {
                    pieces.push(Piece::Octets(std::mem::take(&mut plain)));
                }
                pieces.push(self.reference(name, literal)?);
                rest = after;
            } else {
                plain.push(first);
                rest = after;
            }
        }
        if !plain.is_empty() {
            pieces.push(Piece::Octets(plain));
        }
        Ok(Text(pieces))
    }

    fn reference(&mut self, name: &[u8], literal: &Literal) -> Result<Piece, CompileError> {
        if name.contains(&b'.') {
            let name = String::from_utf8_lossy(name);
            return Err(CompileError::new(
                literal.at,
                format!("no extension here has a variable ${{{name}}}"),
            ));
        }
        if name[0].is_ascii_digit() {
            let digits =
                name.iter().position(|digit| *digit != b'0').map_or(&b"0"[..], |start| &name[start..]);
            let number = std::str::from_utf8(digits).ok().and_then(|digits| digits.parse::<u8>().ok());
            return number.filter(|number| *number <= CAPTURES).map(Piece::Capture).ok_or_else(|| {
                CompileError::new(literal.at, format!("match variables go from ${{0}} to ${{{CAPTURES}}}"))
            });
        }
        self.slot(name, literal).map(Piece::Variable)
    }

    /// The slot of a variable that a command or test names.
    pub fn variable(&mut self, literal: &Literal) -> Result<u16, CompileError> {
        let text = self.text(literal)?;
        let name = text.constant().unwrap_or_default();
        if identifier(name) != name.len() || name.is_empty() {
            let message = if name.first().is_some_and(u8::is_ascii_digit) {
                "match variables such as ${1} cannot be set: give the variable a name"
            } else {
                "a variable's name consists of letters, digits and _, and begins with no digit"
            };
            return Err(CompileError::new(literal.at, message));
        }
        self.slot(name, literal)
    }

    fn slot(&mut self, name: &[u8], literal: &Literal) -> Result<u16, CompileError> {
        let most = self.limits.variables;
        self.names.slot(name, most).ok_or_else(|| {
            CompileError::new(literal.at, format!("a script may have {most} variables at most"))
        })
    }
}

/// How many octets at the start are an identifier.
fn identifier(text: &[u8]) -> usize {
    match text.first() {
        Some(first) if first.is_ascii_alphabetic() || *first == b'_' => {
            text.iter().take_while(|octet| octet.is_ascii_alphanumeric() || **octet == b'_').count()
        }
        _ => 0,
    }
}

/// `variable-ref = "${" *( identifier "." / num-variable "." ) ( identifier / num-variable ) "}"`: the name, and what
/// follows. Anything else that begins with `${` is no reference and stays as it is.
fn reference(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let inner = text.strip_prefix(b"${")?;
    let mut length = 0;
    loop {
        let part = match identifier(&inner[length..]) {
            // The first name of a namespace is no number.
            0 => inner[length..].iter().take_while(|octet| octet.is_ascii_digit()).count(),
            letters => letters,
        };
        if part == 0 {
            return None;
        }
        let numeric = inner[length].is_ascii_digit();
        length += part;
        match inner.get(length)? {
            b'}' => return Some((&inner[..length], &inner[length + 1..])),
            b'.' if !(numeric && length == part) => length += 1,
            _ => return None,
        }
    }
}

/// Puts `${hex:...}` and `${unicode:...}` in. What does not follow the grammar stays as it is.
fn decode(literal: &Literal) -> Result<Vec<u8>, CompileError> {
    let mut decoded = Vec::new();
    let mut rest = literal.octets.as_slice();
    while let Some((&first, after)) = rest.split_first() {
        if let Some((octets, after)) = hex(rest) {
            decoded.extend(octets);
            rest = after;
        } else if let Some((numbers, after)) = unicode(rest) {
            for number in numbers {
                let character = number.and_then(char::from_u32).ok_or_else(|| {
                    let message =
                        "${unicode:...} has a number that is no character: 0 to D7FF and E000 to 10FFFF are";
                    CompileError::new(literal.at, message)
                })?;
                decoded.extend(character.encode_utf8(&mut [0; 4]).as_bytes());
            }
            rest = after;
        } else {
            decoded.push(first);
            rest = after;
        }
    }
    Ok(decoded)
}

/// `"${hex:" *blank hex-pair *(1*blank hex-pair) *blank "}"`
fn hex(text: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let (words, rest) = encoded(text, b"${hex:")?;
    let pairs = words.iter().map(|word| {
        let pair = std::str::from_utf8(word).ok().filter(|pair| pair.len() <= 2)?;
        u8::from_str_radix(pair, 16).ok()
    });
    Some((pairs.collect::<Option<_>>()?, rest))
}

/// `"${unicode:" *blank 1*HEXDIG *(1*blank 1*HEXDIG) *blank "}"`; numbers that are too large are `None`.
fn unicode(text: &[u8]) -> Option<(Vec<Option<u32>>, &[u8])> {
    let (words, rest) = encoded(text, b"${unicode:")?;
    let numbers = words.iter().map(|word| {
        let digits = std::str::from_utf8(word).ok()?.trim_start_matches('0');
        if digits.is_empty() { Some(0) } else { u32::from_str_radix(digits, 16).ok() }
    });
    Some((numbers.collect(), rest))
}

/// The words of hexadecimal digits between a prefix (in any case) and `}`; at least one.
fn encoded<'a>(text: &'a [u8], prefix: &[u8]) -> Option<(Vec<&'a [u8]>, &'a [u8])> {
    let (start, inner) = text.split_at_checked(prefix.len())?;
    if !start.eq_ignore_ascii_case(prefix) {
        return None;
    }
    // Only what can stand in it is looked through for its end: a string of many openings costs no more than its length.
    let allowed = |octet: &u8| octet.is_ascii_hexdigit() || b" \t\r\n".contains(octet);
    let length = inner.iter().take_while(|octet| allowed(octet)).count();
    if inner.get(length) != Some(&b'}') {
        return None;
    }
    let words: Vec<&[u8]> =
        inner[..length].split(|octet| b" \t\r\n".contains(octet)).filter(|word| !word.is_empty()).collect();
    (!words.is_empty()).then_some((words, &inner[length + 1..]))
}
