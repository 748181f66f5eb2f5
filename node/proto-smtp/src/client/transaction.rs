//! One transaction of a session: what became of each recipient, and the message on its way out.

use bytes::{BufMut, BytesMut};

use super::{Stage, guard::Guard};
use crate::{Reply, Stuffer};

/// What was last heard of a recipient.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// What the answer is about.
    pub stage: Stage,
    /// The answer; `None` when the connection was lost while it was waited for. At [`Stage::Dot`] that leaves it open
    /// whether the message was taken.
    pub reply: Option<Reply>,
}

impl Outcome {
    /// Has the server taken over this recipient's copy?
    #[must_use]
    pub fn is_delivered(&self) -> bool {
        self.stage == Stage::Dot && self.reply.as_ref().is_some_and(Reply::is_positive)
    }
}

/// Why a message cannot go on, or end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BodyFault {
    /// The server has not asked for a message, or does not want it any more.
    #[error("no message is wanted now")]
    NotOpen,
    /// It has a bare CR or LF. It will not be ended; the connection is of no more use.
    #[error("bare CR or LF in message")]
    BareNewline,
}

#[derive(Debug, Clone)]
enum Slot {
    Asked,
    Accepted,
    Done(Outcome),
}

/// The recipients of the open transaction.
#[derive(Debug, Clone)]
pub(super) struct Transaction {
    slots: Vec<Slot>,
    pub(super) body: Option<Body>,
}

impl Transaction {
    pub(super) fn new(recipients: usize) -> Self {
        Self { slots: vec![Slot::Asked; recipients], body: None }
    }

    pub(super) fn accepted(&self) -> usize {
        self.slots.iter().filter(|slot| matches!(slot, Slot::Accepted)).count()
    }

    /// The answer to RCPT; of no interest when MAIL was refused.
    pub(super) fn recipient(&mut self, place: usize, reply: &Reply) {
        let Some(slot @ Slot::Asked) = self.slots.get_mut(place) else { return };
        *slot = match reply.is_positive() {
            true => Slot::Accepted,
            false => Slot::Done(Outcome { stage: Stage::Rcpt, reply: Some(reply.clone()) }),
        };
    }

    /// An answer for all whose fate is open; `None` when the connection was lost.
    pub(super) fn conclude(&mut self, stage: Stage, reply: Option<&Reply>) {
        for slot in self.slots.iter_mut().filter(|slot| !matches!(slot, Slot::Done(_))) {
            *slot = Slot::Done(Outcome { stage, reply: reply.cloned() });
        }
    }

    /// What became of each; whoever was never answered was lost at `stage`.
    pub(super) fn into_outcomes(mut self, stage: Stage) -> Vec<Outcome> {
        self.conclude(stage, None);
        self.slots
            .into_iter()
            .filter_map(|slot| if let Slot::Done(o) = slot { Some(o) } else { None })
            .collect()
    }
}

/// A message on its way out: dot-stuffed after DATA, or in chunks (RFC 3030).
#[derive(Debug, Clone)]
pub(super) struct Body {
    guard: Guard,
    broken: bool,
    tail: [u8; 2],
    form: Form,
}

#[derive(Debug, Clone)]
enum Form {
    Dotted(Stuffer),
    /// The last piece is held back, as only the last chunk may say LAST.
    Chunks(BytesMut),
}

impl Body {
    pub(super) fn new(chunks: bool) -> Self {
        let form = if chunks { Form::Chunks(BytesMut::new()) } else { Form::Dotted(Stuffer::new()) };
        Self { guard: Guard::default(), broken: false, tail: *b"\r\n", form }
    }

    /// Writes a piece; answers whether a chunk left, which will be answered.
    pub(super) fn push(&mut self, piece: &[u8], out: &mut BytesMut) -> Result<bool, BodyFault> {
        self.broken |= !self.guard.passes(piece);
        if self.broken {
            return Err(BodyFault::BareNewline);
        }
        self.tail = match piece {
            [.., a, b] => [*a, *b],
            [b] => [self.tail[1], *b],
            [] => return Ok(false),
        };
        match &mut self.form {
            Form::Dotted(stuffer) => {
                stuffer.push(piece, out);
                Ok(false)
            }
            Form::Chunks(held) => {
                let leaves = !held.is_empty();
                if leaves {
                    chunk(held, "", out);
                }
                held.extend_from_slice(piece);
                Ok(leaves)
            }
        }
    }

    /// Writes the end, after which the message may be taken.
    pub(super) fn finish(mut self, out: &mut BytesMut) -> Result<(), BodyFault> {
        if self.broken || !self.guard.ends() {
            return Err(BodyFault::BareNewline);
        }
        match &mut self.form {
            Form::Dotted(stuffer) => stuffer.end(out),
            Form::Chunks(held) => {
                if self.tail != *b"\r\n" {
                    held.extend_from_slice(b"\r\n");
                }
                chunk(held, " LAST", out);
            }
        }
        Ok(())
    }
}

/// `"BDAT" SP chunk-size [ SP "LAST" ] CRLF` and the chunk.
fn chunk(held: &mut BytesMut, last: &str, out: &mut BytesMut) {
    out.put_slice(format!("BDAT {}{last}\r\n", held.len()).as_bytes());
    out.put_slice(held);
    held.clear();
}
