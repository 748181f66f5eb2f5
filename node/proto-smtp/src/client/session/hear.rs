//! What the server says, matched with what it was asked.

use bytes::BytesMut;

use super::{Asked, ClientSession};
use crate::{
    Reply,
    client::{Event, Extensions, SessionFault, Stage, transaction::Body},
};

/// Octets of a reply's text that are kept.
const KEPT: usize = 1000;

impl ClientSession {
    /// The next event of what was read; `None` when more is needed.
    ///
    /// # Errors
    /// [`SessionFault`]; the connection is then to be closed, and [`Self::lost`] to be asked.
    pub fn receive(&mut self, input: &mut BytesMut) -> Result<Option<Event>, SessionFault> {
        self.ahead = false;
        while let Some(reply) = self.replies.next(input)? {
            let asked = self.asked.pop_front();
            // What the session says next cannot have been answered yet. (A refusal counts, also when the server says
            // in one breath that it closes.)
            if let Some(asked) = asked.filter(|asked| asked.is_followed() && self.asked.is_empty())
                && reply.is_positive()
                && !input.is_empty()
            {
                self.asked.push_front(asked);
                return Err(SessionFault::Ahead);
            }
            let event = match asked {
                None => Some(self.unasked(reply)?),
                Some(Asked::StartTls) if is_done(&reply) => {
                    self.said_hello = false;
                    if !input.is_empty() {
                        return Err(SessionFault::Injected);
                    }
                    Some(Event::StartTls)
                }
                Some(Asked::Ehlo) if is_done(&reply) => {
                    self.offers = Extensions::parse(&reply);
                    self.said_hello = true;
                    Some(Event::Hello)
                }
                Some(asked) => self.answered(asked, shortened(reply))?,
            };
            if event == Some(Event::Body) && !input.is_empty() {
                return Err(SessionFault::Ahead);
            }
            if event.is_some() {
                self.ahead = !input.is_empty();
                return Ok(event);
            }
        }
        self.ahead = self.asked.is_empty() && !input.is_empty();
        Ok(None)
    }

    fn answered(&mut self, asked: Asked, reply: Reply) -> Result<Option<Event>, SessionFault> {
        if reply.code == 421 {
            return Ok(self.shut(asked, reply));
        }
        let intermediate = matches!(asked, Asked::Auth | Asked::Data | Asked::LoneDot);
        if (300..400).contains(&reply.code) && !intermediate {
            // What the server will take for the end of which message is anybody's guess now.
            self.asked.push_front(asked);
            return Err(SessionFault::Unexpected(reply.code));
        }
        match asked {
            Asked::Greeting if reply.is_positive() => Ok(Some(Event::Greeted(reply))),
            Asked::Ehlo if matches!(reply.code, 500 | 502) => {
                let line = format!("HELO {}\r\n", self.name);
                self.ask(Asked::Helo, line);
                Ok(None)
            }
            Asked::Helo if reply.is_positive() => {
                self.said_hello = true;
                Ok(Some(Event::Hello))
            }
            Asked::Auth if is_done(&reply) => Ok(Some(Event::LoggedIn)),
            Asked::Auth if reply.code == 334 => {
                self.challenged = true;
                Ok(Some(Event::Challenge(reply.text.into_owned())))
            }
            Asked::Greeting | Asked::Ehlo | Asked::Helo | Asked::StartTls | Asked::Auth => {
                Ok(Some(Event::Refused(asked.stage(), reply)))
            }
            Asked::Quit => Ok(None),
            _ => self.within(asked, &reply),
        }
    }

    /// An answer within a transaction.
    fn within(&mut self, asked: Asked, reply: &Reply) -> Result<Option<Event>, SessionFault> {
        let Some(open) = self.open.as_mut() else { return Ok(None) };
        match asked {
            Asked::Reset if !reply.is_positive() => {
                // That says nothing of the message: it was not offered yet.
                self.close();
                return Ok(self.open.take().map(|open| Event::Ended(open.into_outcomes(Stage::Mail))));
            }
            Asked::Mail if !reply.is_positive() => {
                open.conclude(Stage::Mail, Some(reply));
                self.to_ask.clear();
            }
            Asked::Mail => self.dirty = true,
            Asked::Rcpt(place) => open.recipient(place, reply),
            Asked::Data if is_done(reply) => {
                self.asked.push_front(asked);
                return Err(SessionFault::Unexpected(reply.code));
            }
            Asked::Data if !reply.is_positive() => open.conclude(Stage::Data, Some(reply)),
            Asked::Data if open.accepted() == 0 => {
                self.output.extend_from_slice(b".\r\n");
                self.asked.push_back(Asked::LoneDot);
            }
            Asked::Data => {
                open.body = Some(Body::new(false));
                return Ok(Some(Event::Body));
            }
            Asked::Chunk if !reply.is_positive() => {
                open.conclude(Stage::Body, Some(reply));
                open.body = None;
            }
            Asked::End => {
                open.conclude(Stage::Dot, Some(reply));
                // A failed BDAT is followed by RSET (RFC 3030 section 2); the end of DATA ends the transaction.
                self.dirty = self.offers.chunking && !reply.is_positive();
            }
            Asked::LoneDot => self.dirty = false,
            _ => {}
        }
        Ok(self.proceed())
    }

    /// After an answer within a transaction: goes on with its commands, with its message, or ends it.
    fn proceed(&mut self) -> Option<Event> {
        let open = self.open.as_mut()?;
        if !self.asked.is_empty() || open.body.is_some() {
            return None;
        }
        let accepted = open.accepted();
        let recipients_left = self.to_ask.iter().any(|(asked, _)| *asked != Asked::Data);
        if accepted > 0 && self.to_ask.is_empty() && self.offers.chunking {
            open.body = Some(Body::new(true));
            return Some(Event::Body);
        }
        if recipients_left || (accepted > 0 && !self.to_ask.is_empty()) {
            self.send();
            return None;
        }
        self.to_ask.clear();
        self.open.take().map(|open| Event::Ended(open.into_outcomes(Stage::Data)))
    }

    /// The server says that it closes the connection.
    fn shut(&mut self, asked: Asked, reply: Reply) -> Option<Event> {
        self.close();
        match self.open.take() {
            Some(mut open) => {
                open.conclude(asked.stage(), Some(&reply));
                Some(Event::Ended(open.into_outcomes(asked.stage())))
            }
            None if asked == Asked::Quit => None,
            None => Some(Event::Refused(asked.stage(), reply)),
        }
    }

    /// A reply to nothing: a server may say that it closes, or that it wants no more of the message; no more.
    fn unasked(&mut self, reply: Reply) -> Result<Event, SessionFault> {
        let reply = shortened(reply);
        match self.open.take() {
            Some(mut open) if reply.code >= 400 => {
                self.close();
                open.conclude(Stage::Body, Some(&reply));
                Ok(Event::Ended(open.into_outcomes(Stage::Body)))
            }
            None if reply.code == 421 => {
                self.close();
                Ok(Event::Closing(reply))
            }
            open => {
                self.open = open;
                Err(SessionFault::Unsolicited(reply.code))
            }
        }
    }
}

/// 2xx.
fn is_done(reply: &Reply) -> bool {
    (200..300).contains(&reply.code)
}

/// Of what a server says so much is kept, for each of a transaction's recipients.
fn shortened(reply: Reply) -> Reply {
    if reply.text.len() <= KEPT {
        return reply;
    }
    let end = (0..=KEPT).rev().find(|end| reply.text.is_char_boundary(*end)).unwrap_or(0);
    Reply::with(reply.code, reply.text[..end].to_owned())
}
