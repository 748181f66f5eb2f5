//! From octets to commands: frames lines and literals (RFC 3501 section 4.3, RFC 7888) within bounds, whatever
//! the peer sends and however it is cut into pieces.
//!
//! A line ends with CRLF. One that ends with LF alone is refused, never run; a literal announced that way ends the
//! connection, since both sides may disagree on what follows.

mod framing;

use bytes::{Buf, Bytes, BytesMut};
use framing::{Literal, forbidden_octet, line_too_long, literal_at_end};

use crate::{
    command::{self, AppendHead, Command},
    cursor::Cursor,
    error::SyntaxError,
};

/// Largest input buffer that is kept between commands.
const KEPT: usize = 8 << 10;
/// Octets kept of a line that is being skipped: enough to see a literal announced at its end.
const TAIL: usize = 32;

/// Bounds of a decoder.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Octets of a command's lines, literals left out.
    pub line: usize,
    /// Octets of all a command's literals, an APPEND's message left out.
    pub literals: usize,
    /// Octets thrown away to find the end of a refused command, before the connection is given up.
    pub skip: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { line: 64 << 10, literals: 64 << 10, skip: 64 << 20 }
    }
}

/// An APPEND whose message has been announced and not yet sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppendStart {
    /// The command so far.
    pub head: AppendHead,
    /// Octets of the message.
    pub size: u64,
    /// The client waits for a continuation before it sends them.
    pub synchronizing: bool,
}

/// What the octets meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A whole command.
    Command(Command),
    /// A command that is wrong; answered with BAD (untagged when there is no tag). Any APPEND is off.
    Invalid {
        /// Its tag, if it had one.
        tag: Option<String>,
        /// What is wrong.
        error: SyntaxError,
    },
    /// The client waits for `+ ` before it sends a literal.
    Continue,
    /// An APPEND: call [`Decoder::accept_append`] or [`Decoder::refuse_append`], then go on.
    Append(AppendStart),
    /// Octets of an accepted APPEND's message.
    AppendData(Bytes),
    /// The message and its command are complete.
    AppendEnd,
    /// The line asked for by [`Decoder::expect_line`], without CRLF.
    Line(Bytes),
    /// Nothing that follows can be understood: say BYE with this text and close.
    Fatal(&'static str),
}

#[derive(Debug)]
enum State {
    /// Collecting lines of a command.
    Line,
    /// Collecting a literal into the command.
    Literal(usize),
    /// An APPEND waits for the session's word.
    AppendDecision { tag: String, size: u64, synchronizing: bool },
    /// Handing out a message.
    AppendData { tag: String, left: u64 },
    /// CRLF must follow the message.
    AppendTail { tag: String },
    /// Throwing away a literal of a refused command, then the rest of its line.
    SkipLiteral(u64),
    /// Throwing away a line of a refused command.
    SkipLine,
    /// A line that is no command.
    Raw,
    /// Given up.
    Dead,
}

/// An incremental decoder. Feed it what was read, then take events until there are none.
#[derive(Debug)]
pub struct Decoder {
    limits: Limits,
    input: BytesMut,
    /// Octets at the start of `input` known to hold no LF.
    scanned: usize,
    /// Lines (with CRLF) and literals of the command so far.
    command: Vec<u8>,
    literals: usize,
    state: State,
    /// The answer to a refused command, given once its end has been found.
    refusal: Option<(Option<String>, SyntaxError)>,
    skipped: u64,
    /// The last octets of the line being skipped.
    tail: Vec<u8>,
}

impl Decoder {
    /// A decoder at the start of a connection.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            input: BytesMut::new(),
            scanned: 0,
            command: Vec::new(),
            literals: 0,
            state: State::Line,
            refusal: None,
            skipped: 0,
            tail: Vec::new(),
        }
    }

    /// Takes octets that were read. Feed only when [`Self::next_event`] has nothing left, so that memory stays bounded.
    pub fn feed(&mut self, octets: &[u8]) {
        if !matches!(self.state, State::Dead) {
            self.input.extend_from_slice(octets);
        }
    }

    /// The next line is not a command but an answer to a continuation (AUTHENTICATE, IDLE's DONE).
    pub fn expect_line(&mut self) {
        if matches!(self.state, State::Line) && self.command.is_empty() {
            self.state = State::Raw;
        }
    }

    /// Takes the announced message: it comes as [`Event::AppendData`]. Send a continuation first if the client waits.
    pub fn accept_append(&mut self) {
        if let State::AppendDecision { tag, size, .. } = &mut self.state {
            self.state = State::AppendData { tag: std::mem::take(tag), left: *size };
        }
    }

    /// Refuses the announced message: the caller answers NO; what the client sends of it anyway is thrown away.
    pub fn refuse_append(&mut self) {
        if let State::AppendDecision { size, synchronizing, .. } = self.state {
            self.reset();
            if !synchronizing {
                self.state = State::SkipLiteral(size);
            }
        }
    }

    /// Are there octets that have not become an event? (Commands pipelined before STARTTLS; a line half sent.)
    #[must_use]
    pub fn has_buffered(&self) -> bool {
        !self.input.is_empty() || !self.command.is_empty()
    }

    /// Throws away everything buffered (STARTTLS: RFC 3501 section 6.2.1).
    pub fn discard(&mut self) {
        self.input.clear();
        self.reset();
    }

    /// Gives up what is buffered, unread: for a proxy that passes the rest of the session on.
    #[must_use]
    pub fn into_rest(self) -> Bytes {
        let mut rest = BytesMut::from(self.command.as_slice());
        rest.unsplit(self.input);
        rest.freeze()
    }

    /// The next event; `None`: feed more.
    pub fn next_event(&mut self) -> Option<Event> {
        loop {
            let step = match &mut self.state {
                State::Dead | State::AppendDecision { .. } => return None,
                State::Line => self.line(),
                State::Literal(_) => self.literal(),
                State::AppendData { .. } => self.append_data(),
                State::AppendTail { .. } => self.append_tail(),
                State::SkipLiteral(_) => self.skip_literal(),
                State::SkipLine => self.skip_line(),
                State::Raw => self.raw_line(),
            };
            match step {
                Step::More => return None,
                Step::Again => {}
                Step::Event(event) => return Some(event),
            }
        }
    }

    fn reset(&mut self) {
        self.command = Vec::new();
        self.literals = 0;
        self.scanned = 0;
        self.state = State::Line;
        if self.input.is_empty() && self.input.capacity() > KEPT {
            // What held a message that came in is not kept for a session that may sit idle now.
            self.input = BytesMut::new();
        }
    }

    fn fatal(&mut self, text: &'static str) -> Step {
        self.reset();
        self.input = BytesMut::new();
        self.state = State::Dead;
        Step::Event(Event::Fatal(text))
    }

    /// Takes a line with its end out of the input.
    fn take_line(&mut self) -> Option<Bytes> {
        match memchr::memchr(b'\n', &self.input[self.scanned..]) {
            Some(offset) => {
                let line = self.input.split_to(self.scanned + offset + 1).freeze();
                self.scanned = 0;
                Some(line)
            }
            None => {
                self.scanned = self.input.len();
                None
            }
        }
    }

    /// The command's tag as far as it can be told.
    fn tag_of(octets: &[u8]) -> Option<String> {
        command::tag(&mut Cursor::new(octets)).ok()
    }

    /// Answers a command at once and begins the next.
    fn invalid(&mut self, first: &[u8], error: SyntaxError) -> Step {
        let tag = Self::tag_of(first);
        self.reset();
        Step::Event(Event::Invalid { tag, error })
    }

    /// Skips to the end of a command, then answers it.
    fn skip(&mut self, tag: Option<String>, error: SyntaxError, state: State) -> Step {
        self.reset();
        self.refusal = Some((tag, error));
        self.skipped = 0;
        self.tail.clear();
        self.state = state;
        Step::Again
    }

    fn line(&mut self) -> Step {
        let room = self.limits.line.saturating_sub(self.command.len() - self.literals);
        let Some(line) = self.take_line() else {
            if self.input.len() > room {
                let start = [self.command.as_slice(), &self.input[..self.input.len().min(128)]].concat();
                self.scanned = 0;
                return self.skip(Self::tag_of(&start), line_too_long(), State::SkipLine);
            }
            return Step::More;
        };
        if line.len() > room {
            let start = [self.command.as_slice(), &line[..line.len().min(128)]].concat();
            self.unread(&line);
            return self.skip(Self::tag_of(&start), line_too_long(), State::SkipLine);
        }
        let Some(text) = line.strip_suffix(b"\r\n") else {
            if literal_at_end(line.strip_suffix(b"\n").unwrap_or(&line)).is_some() {
                return self.fatal("a literal was announced on a line without CRLF");
            }
            let start = [self.command.as_slice(), &line].concat();
            return self.invalid(&start, SyntaxError::whole("a line must end with CRLF"));
        };
        let offset = self.command.len();
        self.command.extend_from_slice(text);
        let announced = literal_at_end(text);
        if let Some(error) = forbidden_octet(text, offset) {
            let command = std::mem::take(&mut self.command);
            return match announced {
                Some(Literal { size, synchronizing: false, .. }) => {
                    self.skip(Self::tag_of(&command), error, State::SkipLiteral(size))
                }
                _ => self.invalid(&command, error),
            };
        }
        match announced {
            Some(literal) => self.announced(&literal),
            None => self.complete(),
        }
    }

    fn unread(&mut self, line: &Bytes) {
        let rest = std::mem::take(&mut self.input);
        self.input.extend_from_slice(line);
        self.input.unsplit(rest);
        self.scanned = 0;
    }

    fn complete(&mut self) -> Step {
        let command = std::mem::take(&mut self.command);
        self.reset();
        match command::parse(&mut Cursor::new(&command)) {
            Ok(command) => Step::Event(Event::Command(command)),
            Err(error) => self.invalid(&command, error),
        }
    }

    fn announced(&mut self, literal: &Literal) -> Step {
        let &Literal { size, synchronizing, length } = literal;
        let before = &self.command[..self.command.len() - length];
        if let Ok(head) = command::append_head(&mut Cursor::new(before)) {
            self.command = Vec::new();
            self.literals = 0;
            self.state = State::AppendDecision { tag: head.tag.clone(), size, synchronizing };
            return Step::Event(Event::Append(AppendStart { head, size, synchronizing }));
        }
        let room = self.limits.literals.saturating_sub(self.literals);
        match usize::try_from(size) {
            Ok(size) if size <= room => {
                self.command.extend_from_slice(b"\r\n");
                self.state = State::Literal(size);
                if synchronizing { Step::Event(Event::Continue) } else { Step::Again }
            }
            _ => {
                let error = SyntaxError::too_big("literal too large");
                let command = std::mem::take(&mut self.command);
                if synchronizing {
                    return self.invalid(&command, error);
                }
                self.skip(Self::tag_of(&command), error, State::SkipLiteral(size))
            }
        }
    }

    fn literal(&mut self) -> Step {
        let State::Literal(left) = &mut self.state else { return Step::Again };
        let take = self.input.len().min(*left);
        self.command.extend_from_slice(&self.input[..take]);
        self.input.advance(take);
        self.literals += take;
        *left -= take;
        if *left > 0 {
            return Step::More;
        }
        self.state = State::Line;
        Step::Again
    }

    fn append_data(&mut self) -> Step {
        let State::AppendData { tag, left } = &mut self.state else { return Step::Again };
        if *left == 0 {
            self.state = State::AppendTail { tag: std::mem::take(tag) };
            return Step::Again;
        }
        if self.input.is_empty() {
            return Step::More;
        }
        let take = usize::try_from(*left).unwrap_or(usize::MAX).min(self.input.len());
        let chunk = self.input.split_to(take).freeze();
        *left -= take as u64;
        Step::Event(Event::AppendData(chunk))
    }

    fn append_tail(&mut self) -> Step {
        let State::AppendTail { tag } = &mut self.state else { return Step::Again };
        match self.input.get(..2) {
            Some(b"\r\n") => {
                self.input.advance(2);
                self.reset();
                Step::Event(Event::AppendEnd)
            }
            None if self.input.is_empty() || self.input.as_ref() == b"\r" => Step::More,
            _ => {
                let tag = std::mem::take(tag);
                let error = SyntaxError::whole("expected the end of the command after the message");
                self.skip(Some(tag), error, State::SkipLine)
            }
        }
    }

    fn skip_literal(&mut self) -> Step {
        let State::SkipLiteral(left) = &mut self.state else { return Step::Again };
        if self.skipped.saturating_add(*left) > self.limits.skip {
            return self.fatal("too much data after a refused command");
        }
        let take = usize::try_from(*left).unwrap_or(usize::MAX).min(self.input.len());
        self.input.advance(take);
        self.skipped += take as u64;
        *left -= take as u64;
        if *left > 0 {
            return Step::More;
        }
        self.tail.clear();
        self.scanned = 0;
        self.state = State::SkipLine;
        Step::Again
    }

    fn skip_line(&mut self) -> Step {
        let line = self.take_line();
        let ended = line.is_some();
        let octets = line.unwrap_or_else(|| {
            self.scanned = 0;
            self.input.split().freeze()
        });
        self.skipped += octets.len() as u64;
        let keep = octets.len().saturating_sub(TAIL);
        self.tail.extend_from_slice(&octets[keep..]);
        let surplus = self.tail.len().saturating_sub(TAIL);
        self.tail.drain(..surplus);
        if self.skipped > self.limits.skip {
            return self.fatal("too much data after a refused command");
        }
        if !ended {
            return Step::More;
        }
        let text = self.tail.strip_suffix(b"\r\n").or(self.tail.strip_suffix(b"\n")).unwrap_or_default();
        if let Some(Literal { size, synchronizing: false, .. }) = literal_at_end(text) {
            self.state = State::SkipLiteral(size);
            return Step::Again;
        }
        self.reset();
        self.skipped = 0;
        match self.refusal.take() {
            Some((tag, error)) => Step::Event(Event::Invalid { tag, error }),
            None => Step::Again,
        }
    }

    fn raw_line(&mut self) -> Step {
        let line = self.take_line();
        if line.as_ref().map_or(self.input.len(), Bytes::len) > self.limits.line {
            return self.fatal("line too long");
        }
        let Some(line) = line else { return Step::More };
        self.state = State::Line;
        match line.strip_suffix(b"\r\n") {
            Some(text) => Step::Event(Event::Line(line.slice(..text.len()))),
            None => Step::Event(Event::Invalid {
                tag: None,
                error: SyntaxError::whole("a line must end with CRLF"),
            }),
        }
    }
}

enum Step {
    /// Feed more.
    More,
    /// The state changed; look again.
    Again,
    Event(Event),
}
