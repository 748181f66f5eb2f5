//! Lines with their literals, out of a stream of octets.

use bytes::{Buf, Bytes, BytesMut};

use crate::command::{self, Command, CommandError};

/// Most words of a command, its name among them.
const MAX_TOKENS: usize = 8;

/// What is held, and what is read over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Octets of a command without its literals.
    pub line: usize,
    /// Octets of its literals.
    pub literals: usize,
    /// Octets of a literal that is too large and is read over; a larger one ends the session.
    pub skip: u64,
}

/// A word of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Token {
    /// A name or a number.
    Atom(String),
    /// A quoted string or a literal.
    Text(Bytes),
    /// A literal that was too large, and was read over.
    TooLarge,
}

/// What came in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A command.
    Command(Command),
    /// One string alone, as it was asked for.
    Response(Bytes),
    /// What is no command, or no response.
    Invalid(CommandError),
    /// Nothing more can be made of the stream: say goodbye with this.
    Fatal(&'static str),
}

/// Reads a client's stream.
#[derive(Debug)]
pub struct Decoder {
    limits: Limits,
    buffer: BytesMut,
    tokens: Vec<Token>,
    /// Octets of the line so far, and of its literals.
    line: usize,
    literals: usize,
    state: State,
    wants_response: bool,
    fault: Option<&'static str>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// In a line.
    Line,
    /// In a literal of which so many octets are to come.
    Literal(usize),
    /// In one that is read over.
    Skip(u64),
    /// The rest of a faulty line.
    ToLineEnd,
    Dead,
}

/// What a piece of a line is.
enum Piece {
    Token(Token),
    Literal(u64),
    End,
    Fault(&'static str),
}

impl Decoder {
    /// At the start of a stream.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            buffer: BytesMut::new(),
            tokens: Vec::new(),
            line: 0,
            literals: 0,
            state: State::Line,
            wants_response: false,
            fault: None,
        }
    }

    /// Takes octets.
    pub fn feed(&mut self, octets: &[u8]) {
        self.buffer.extend_from_slice(octets);
    }

    /// The next line is no command but one string (SASL).
    pub fn expect_response(&mut self) {
        self.wants_response = true;
    }

    /// Is there something that was not read?
    #[must_use]
    pub fn has_buffered(&self) -> bool {
        !self.buffer.is_empty()
    }

    /// What was not read.
    #[must_use]
    pub fn into_rest(self) -> Bytes {
        self.buffer.freeze()
    }

    /// What came in; `None`: more octets are needed.
    pub fn next_event(&mut self) -> Option<Event> {
        loop {
            match self.state {
                State::Dead => return None,
                State::Literal(missing) => {
                    if self.buffer.len() < missing {
                        return None;
                    }
                    let text = self.buffer.split_to(missing).freeze();
                    self.state = State::Line;
                    self.push(Token::Text(text));
                }
                State::Skip(missing) => {
                    let here = missing.min(self.buffer.len() as u64);
                    self.buffer.advance(usize::try_from(here).unwrap_or(self.buffer.len()));
                    if here < missing {
                        self.state = State::Skip(missing - here);
                        return None;
                    }
                    self.state = State::Line;
                    self.push(Token::TooLarge);
                }
                State::ToLineEnd => {
                    let Some(end) = memchr::memchr(b'\n', &self.buffer) else {
                        self.line += self.buffer.len();
                        self.buffer.clear();
                        return if self.line > self.limits.line {
                            Some(self.die("line too long"))
                        } else {
                            None
                        };
                    };
                    self.buffer.advance(end + 1);
                    return Some(self.whole_line());
                }
                State::Line => match self.piece()? {
                    Piece::Token(token) => self.push(token),
                    Piece::End => return Some(self.whole_line()),
                    Piece::Fault(fault) => self.go_wrong(fault),
                    Piece::Literal(size) => {
                        if let Some(end) = self.begin_literal(size) {
                            return Some(end);
                        }
                    }
                },
            }
            if self.line > self.limits.line {
                return Some(self.die("line too long"));
            }
        }
    }

    fn push(&mut self, token: Token) {
        if self.tokens.len() < MAX_TOKENS {
            self.tokens.push(token);
        } else {
            self.go_wrong("too many words");
        }
    }

    fn go_wrong(&mut self, fault: &'static str) {
        self.fault.get_or_insert(fault);
        self.state = State::ToLineEnd;
    }

    fn die(&mut self, why: &'static str) -> Event {
        self.state = State::Dead;
        self.buffer = BytesMut::new();
        Event::Fatal(why)
    }

    fn begin_literal(&mut self, size: u64) -> Option<Event> {
        let fits = usize::try_from(size).ok().filter(|size| self.literals + size <= self.limits.literals);
        match fits {
            Some(size) => {
                self.literals += size;
                self.state = State::Literal(size);
                None
            }
            None if size <= self.limits.skip => {
                self.state = State::Skip(size);
                None
            }
            None => Some(self.die("literal too large")),
        }
    }

    fn whole_line(&mut self) -> Event {
        let tokens = std::mem::take(&mut self.tokens);
        (self.line, self.literals, self.state) = (0, 0, State::Line);
        let wants_response = std::mem::take(&mut self.wants_response);
        if let Some(fault) = self.fault.take() {
            return Event::Invalid(CommandError::Syntax(fault));
        }
        if !wants_response {
            return command::parse(tokens).map_or_else(Event::Invalid, Event::Command);
        }
        match <[Token; 1]>::try_from(tokens) {
            Ok([Token::Text(text)]) => Event::Response(text),
            _ => Event::Invalid(CommandError::Syntax("expected one string")),
        }
    }

    /// Takes the next piece of a line off the buffer; `None`: it is not whole yet.
    fn piece(&mut self) -> Option<Piece> {
        let blanks = self.buffer.iter().take_while(|octet| matches!(octet, b' ' | b'\t')).count();
        self.take(blanks);
        let Some(first) = self.buffer.first().copied() else { return self.bounded() };
        match first {
            b'\n' => {
                self.take(1);
                Some(Piece::End)
            }
            b'\r' => match self.buffer.get(1) {
                None => None,
                Some(b'\n') => {
                    self.take(2);
                    Some(Piece::End)
                }
                Some(_) => Some(Piece::Fault("a CR without LF")),
            },
            b'"' => self.quoted(),
            b'{' => self.literal(),
            _ => self.atom(),
        }
    }

    fn take(&mut self, count: usize) -> BytesMut {
        self.line += count;
        self.buffer.split_to(count)
    }

    /// More is needed, unless there is too much already.
    fn bounded(&mut self) -> Option<Piece> {
        if self.line + self.buffer.len() > self.limits.line {
            self.line += self.buffer.len();
            return Some(Piece::Fault("line too long"));
        }
        None
    }

    fn quoted(&mut self) -> Option<Piece> {
        let (mut text, mut escaped) = (BytesMut::new(), false);
        let mut end = None;
        for (at, octet) in self.buffer.iter().enumerate().skip(1) {
            match octet {
                b'\r' | b'\n' | 0 => return Some(Piece::Fault("a quoted string ends in its line")),
                b'\\' if !escaped => escaped = true,
                b'"' if !escaped => {
                    end = Some(at + 1);
                    break;
                }
                _ => {
                    escaped = false;
                    text.extend_from_slice(&[*octet]);
                }
            }
            if at > self.limits.line {
                break;
            }
        }
        let Some(end) = end else { return self.bounded() };
        self.take(end);
        Some(Piece::Token(Token::Text(text.freeze())))
    }

    /// `"{" number ["+"] "}" CRLF`
    fn literal(&mut self) -> Option<Piece> {
        let Some(end) = memchr::memchr(b'\n', &self.buffer) else { return self.bounded() };
        let head = self.buffer.get(1..end).unwrap_or_default();
        let head = head.strip_suffix(b"\r").unwrap_or(head);
        let size = head
            .strip_suffix(b"}")
            .map(|number| number.strip_suffix(b"+").unwrap_or(number))
            .filter(|number| (1..=18).contains(&number.len()) && number.iter().all(u8::is_ascii_digit))
            .and_then(|number| std::str::from_utf8(number).ok()?.parse().ok());
        let Some(size) = size else { return Some(Piece::Fault("not a literal")) };
        self.take(end + 1);
        Some(Piece::Literal(size))
    }

    fn atom(&mut self) -> Option<Piece> {
        let Some(end) = self.buffer.iter().position(|octet| b" \t\r\n\"{".contains(octet)) else {
            return self.bounded();
        };
        let word = self.take(end);
        if !word.iter().all(u8::is_ascii_graphic) {
            return Some(Piece::Fault("a character that stands in no word"));
        }
        Some(Piece::Token(Token::Atom(String::from_utf8_lossy(&word).into_owned())))
    }
}
