//! A client's session without I/O: what it answers goes out, what the server says goes in, and events come of it.
//!
//! The caller writes [`ClientSession::output`], reads into a buffer with a deadline ([`Stage::patience`]), and gives
//! that to [`ClientSession::receive`] until it answers nothing more. When the connection is lost, or the session at
//! fault, [`ClientSession::lost`] tells what became of the recipients.
//!
//! - Every reply is matched with the command it must belong to; one that belongs to none, or could not be an answer
//!   (354 to RCPT, 250 to DATA), is a fault: no server can make a message count as taken before its end was sent.
//! - What is said in clear after the answer to STARTTLS is a fault too, and offers are forgotten with TLS (RFC 3207).
//! - With PIPELINING (RFC 2920) MAIL, RCPTs and DATA leave together, at most [`PIPELINED`] ahead of their replies.
//!   When DATA is accepted with no recipient, the message that the server waits for is a lone dot.
//! - With CHUNKING (RFC 3030) the message goes in chunks once a recipient was accepted.

mod asked;
mod hear;

use std::collections::VecDeque;

use bytes::BytesMut;

use self::asked::Asked;
use super::{
    BeginFault, BodyFault, Envelope, EnvelopeFault, Extensions, Needs, Outcome, Stage, Terms, fit,
    transaction::Transaction,
};
use crate::ReplyParser;

/// Commands sent ahead of their replies: few enough that the replies fit any peer's buffers.
const PIPELINED: usize = 50;
/// Longest response of an AUTH exchange (RFC 4954 section 4).
const MAX_AUTH: usize = 12 << 10;

/// One connection's session.
#[derive(Debug, Clone)]
pub struct ClientSession {
    output: BytesMut,
    replies: ReplyParser,
    offers: Extensions,
    name: String,
    asked: VecDeque<Asked>,
    to_ask: VecDeque<(Asked, String)>,
    open: Option<Transaction>,
    said_hello: bool,
    encrypted: bool,
    /// AUTH waits for a response.
    challenged: bool,
    /// Something was read behind the last reply: it is to be received before anything new is said.
    ahead: bool,
    /// A transaction was left open at the server: RSET comes before the next MAIL.
    dirty: bool,
    closed: bool,
    mails: u32,
}

impl Default for ClientSession {
    fn default() -> Self {
        Self {
            output: BytesMut::new(),
            replies: ReplyParser::new(),
            offers: Extensions::default(),
            name: String::new(),
            asked: VecDeque::from([Asked::Greeting]),
            to_ask: VecDeque::new(),
            open: None,
            said_hello: false,
            encrypted: false,
            challenged: false,
            ahead: false,
            dirty: false,
            closed: false,
            mails: 0,
        }
    }
}

impl ClientSession {
    /// A session on a new connection, which waits for the greeting. `encrypted`: TLS from the first octet.
    #[must_use]
    pub fn new(encrypted: bool) -> Self {
        Self { encrypted, ..Self::default() }
    }

    /// What is to be written to the server.
    pub fn output(&mut self) -> &mut BytesMut {
        &mut self.output
    }

    /// What the server offers; nothing before its answer to EHLO.
    #[must_use]
    pub fn offers(&self) -> &Extensions {
        &self.offers
    }

    /// What is waited for, for the deadline and the log.
    #[must_use]
    pub fn stage(&self) -> Stage {
        match self.asked.front() {
            // A message's chunks are answered one by one; its fate is open once the last one was sent.
            Some(Asked::Chunk) if self.asked.contains(&Asked::End) => Stage::Dot,
            Some(asked) => asked.stage(),
            None if self.open.is_some() => Stage::Body,
            None => Stage::Mail,
        }
    }

    /// May [`Self::begin`] be called?
    #[must_use]
    pub fn is_ready(&self) -> bool {
        let more_mails = self.offers.max_mails.is_none_or(|max| self.mails < max);
        self.said_hello && self.is_quiet() && more_mails
    }

    fn is_quiet(&self) -> bool {
        let nothing_waits = self.asked.is_empty() && self.to_ask.is_empty() && self.open.is_none();
        nothing_waits && !self.closed && !self.challenged && !self.ahead
    }

    /// Says EHLO, or HELO to a server that does not know EHLO.
    ///
    /// # Errors
    /// When it is not the time for it, or the name is not one.
    pub fn hello(&mut self, name: &str) -> Result<(), BeginFault> {
        self.ask_one(Asked::Ehlo, "EHLO ", name)?;
        name.clone_into(&mut self.name);
        Ok(())
    }

    /// Asks for TLS. It is for the caller to see that it is offered, or that it asks all the same.
    ///
    /// # Errors
    /// When it is not the time for it, or TLS is there.
    pub fn start_tls(&mut self) -> Result<(), BeginFault> {
        if !self.said_hello || self.encrypted {
            return Err(BeginFault::NotReady);
        }
        self.ask_one(Asked::StartTls, "STARTTLS", "")
    }

    /// The handshake is done: the server is known anew, from [`Self::hello`] on.
    pub fn tls_started(&mut self) {
        *self = Self { asked: VecDeque::new(), ..Self::new(true) };
    }

    /// Begins AUTH, with an initial response in base64 (`=` for an empty one). Credentials in clear are refused here.
    ///
    /// # Errors
    /// When it is not the time for it, there is no TLS, or the arguments are no words.
    pub fn auth(&mut self, mechanism: &str, initial: Option<&str>) -> Result<(), BeginFault> {
        if !self.said_hello || !self.encrypted {
            return Err(BeginFault::NotReady);
        }
        let good = is_word(mechanism) && initial.is_none_or(is_word);
        let argument = match initial {
            Some(initial) => format!("{mechanism} {initial}"),
            None => mechanism.to_owned(),
        };
        if good { self.ask_one(Asked::Auth, "AUTH ", &argument) } else { Err(BeginFault::Argument) }
    }

    /// Answers a challenge, in base64 (`*` gives up).
    ///
    /// # Errors
    /// When it is not the time for it, or the response is not a word.
    pub fn respond(&mut self, response: &str) -> Result<(), BeginFault> {
        if !self.challenged || self.ahead {
            return Err(BeginFault::NotReady);
        }
        if !response.is_empty() && !is_word(response) {
            return Err(BeginFault::Argument);
        }
        self.challenged = false;
        self.ask(Asked::Auth, format!("{response}\r\n"));
        Ok(())
    }

    /// Begins a transaction: MAIL, RCPT for each recipient, DATA. What of the envelope's DSN parameters the server
    /// does not take is left out; the terms tell.
    ///
    /// # Errors
    /// When the message does not fit the server (nothing was sent), or it is not the time for it.
    pub fn begin(&mut self, envelope: &Envelope, needs: &Needs) -> Result<Terms, BeginFault> {
        if !self.is_ready() {
            return Err(BeginFault::NotReady);
        }
        let terms = fit(needs, &self.offers, self.encrypted)?;
        if envelope.recipients.is_empty() {
            return Err(EnvelopeFault::Empty.into());
        }
        let mut lines = VecDeque::with_capacity(envelope.recipients.len() + 3);
        if self.dirty {
            lines.push_back((Asked::Reset, "RSET\r\n".to_owned()));
        }
        lines.push_back((Asked::Mail, envelope.mail_line(&terms)?));
        for place in 0..envelope.recipients.len() {
            lines.push_back((Asked::Rcpt(place), envelope.rcpt_line(place, &terms)?));
        }
        if !self.offers.chunking {
            lines.push_back((Asked::Data, "DATA\r\n".to_owned()));
        }
        self.to_ask = lines;
        self.open = Some(Transaction::new(envelope.recipients.len()));
        self.mails += 1;
        self.send();
        Ok(terms)
    }

    /// Sends a piece of the message.
    ///
    /// # Errors
    /// When the server does not wait for one, or the message cannot be sent.
    pub fn push(&mut self, piece: &[u8]) -> Result<(), BodyFault> {
        let body = self.open.as_mut().and_then(|open| open.body.as_mut()).ok_or(BodyFault::NotOpen)?;
        if body.push(piece, &mut self.output)? {
            self.asked.push_back(Asked::Chunk);
        }
        Ok(())
    }

    /// Sends the end of the message. From here on the server may have taken it.
    ///
    /// # Errors
    /// As [`Self::push`].
    pub fn finish(&mut self) -> Result<(), BodyFault> {
        let body = self.open.as_mut().and_then(|open| open.body.take()).ok_or(BodyFault::NotOpen)?;
        body.finish(&mut self.output)?;
        self.asked.push_back(Asked::End);
        Ok(())
    }

    /// Says QUIT, between transactions. The caller need not wait for the answer.
    ///
    /// # Errors
    /// When it is not the time for it.
    pub fn quit(&mut self) -> Result<(), BeginFault> {
        self.ask_one(Asked::Quit, "QUIT", "")?;
        self.closed = true;
        Ok(())
    }

    /// The connection is lost or given up: what became of the open transaction's recipients, if there is one.
    pub fn lost(&mut self) -> Option<Vec<Outcome>> {
        let stage = self.stage();
        self.close();
        self.open.take().map(|open| open.into_outcomes(stage))
    }

    fn close(&mut self) {
        self.closed = true;
        self.asked.clear();
        self.to_ask.clear();
    }

    fn ask_one(&mut self, asked: Asked, verb: &str, argument: &str) -> Result<(), BeginFault> {
        if !self.is_quiet() {
            return Err(BeginFault::NotReady);
        }
        let clean = argument.bytes().all(|b| matches!(b, b' '..=b'~')) && argument.len() <= MAX_AUTH;
        if !clean || (asked == Asked::Ehlo && !is_word(argument)) {
            return Err(BeginFault::Argument);
        }
        self.ask(asked, format!("{verb}{argument}\r\n"));
        Ok(())
    }

    fn ask(&mut self, asked: Asked, line: String) {
        self.to_ask.push_back((asked, line));
        self.send();
    }

    /// Writes what may be written before the next reply.
    fn send(&mut self) {
        let ahead = if self.offers.pipelining { PIPELINED } else { 1 };
        while self.asked.len() < ahead {
            let Some((asked, line)) = self.to_ask.pop_front() else { break };
            self.output.extend_from_slice(line.as_bytes());
            self.asked.push_back(asked);
        }
    }
}

/// Printable US-ASCII without spaces, and not too long.
fn is_word(text: &str) -> bool {
    (1..=MAX_AUTH).contains(&text.len()) && text.bytes().all(|b| matches!(b, b'!'..=b'~'))
}
