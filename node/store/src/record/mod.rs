//! Records: what the log says happened. Each carries its results (UIDs, MODSEQs, ids), so that applying it needs
//! nothing but itself and the index.
//!
//! On disk: length u32 (of all that follows it), kind u16, version u8, one zero octet, length of the protobuf u32,
//! the protobuf, then the body's octets when the kind has one. Little-endian. Kinds and tags are for ever.

mod directory;
mod kept;
mod mail;
mod newer;
mod queue;
mod system;
mod undelete;

use bytes::Bytes;
use newer::Newer;
use prost::Message as _;

pub use directory::{Audit, PutAccount, PutAlias, PutDomain, PutGaps};
pub use kept::{Kept, KeptBody, KeptMessage, KeptQueued};
pub use mail::{
    Append, Copy, CreateMailbox, DeleteMailbox, Deliver, Expunge, FlagGroup, MoveAll, NewMailbox, Placed,
    PutSieve, Rename, RenameMailbox, Seen, SetFlags, Stored, Subscribe,
};
pub use queue::{QueuePut, QueueUpdate, Recipient};
pub use system::{EpochStart, InSync, Mark, Salvaged};
pub use undelete::{Purge, Recover, Retire, RetireMailbox, Retired};

/// Octets before the protobuf.
pub const FRAME: usize = 12;

/// A record that this version cannot read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Written by a newer version: the log must not be opened.
    #[error("record kind {kind} version {version} is not known here")]
    Unknown {
        /// Its kind.
        kind: u16,
        /// Its version.
        version: u8,
    },
    /// Checksums hold but the content does not parse.
    #[error("record kind {kind} does not parse: {why}")]
    Malformed {
        /// Its kind.
        kind: u16,
        /// What is wrong.
        why: String,
    },
}

macro_rules! records {
    (@version $record:ident, $version:literal) => { $version };
    (@version $record:ident, $version:literal, $newest:literal) => { Newer::version($record) };
    ($($name:ident = $kind:literal, $version:literal $(to $newest:literal)?;)*) => {
        /// One change, of any kind.
        #[derive(Debug, Clone, PartialEq)]
        pub enum Record {
            $(
                /// The change of this name.
                $name($name),
            )*
        }

        impl Record {
            /// Every kind with its versions.
            #[cfg(test)]
            pub const KINDS: &[(&str, u16, u8)] =
                &[$((stringify!($name), $kind, $version) $(, (stringify!($name), $kind, $newest))?),*];

            /// Its number and version on disk.
            #[allow(unused_variables, reason = "most kinds have one version")]
            pub fn kind(&self) -> (u16, u8) {
                match self { $(Self::$name(r) => ($kind, records!(@version r, $version $(, $newest)?)),)* }
            }

            fn proto_len(&self) -> usize {
                match self { $(Self::$name(r) => r.encoded_len(),)* }
            }

            fn encode_proto(&self, buffer: &mut Vec<u8>) {
                match self { $(Self::$name(r) => r.encode_raw(buffer),)* }
            }

            /// Reads a record's protobuf.
            pub fn decode(kind: u16, version: u8, proto: &[u8]) -> Result<Self, DecodeError> {
                match (kind, version) {
                    $(($kind, $version $(..= $newest)?) => $name::decode(proto).map(Self::$name)
                        .map_err(|e| DecodeError::Malformed { kind, why: e.to_string() }),)*
                    _ => Err(DecodeError::Unknown { kind, version }),
                }
            }
        }

        $(impl From<$name> for Record {
            fn from(record: $name) -> Self {
                Self::$name(record)
            }
        })*
    };
}

records! {
    EpochStart = 1, 1;
    InSync = 2, 1;
    Deliver = 10, 1 to 2;
    Append = 11, 1;
    SetFlags = 12, 1;
    Expunge = 13, 1;
    Copy = 14, 1;
    Retire = 15, 1;
    Recover = 16, 1;
    Purge = 17, 1;
    CreateMailbox = 20, 1;
    DeleteMailbox = 21, 1;
    RenameMailbox = 22, 1;
    Subscribe = 23, 1;
    PutSieve = 24, 1;
    RetireMailbox = 25, 1;
    PutAccount = 30, 1;
    PutDomain = 31, 1 to 2;
    PutAlias = 32, 1;
    Audit = 33, 1;
    PutGaps = 34, 1;
    QueuePut = 40, 1 to 2;
    QueueUpdate = 41, 1 to 2;
    Kept = 50, 1;
    Salvaged = 60, 1;
}

/// Appends a framed record and its body to `buffer`; answers where in the buffer the body starts.
pub fn encode(record: &Record, body: &[u8], buffer: &mut Vec<u8>) -> usize {
    let proto = record.proto_len();
    let (kind, version) = record.kind();
    let length = FRAME - 4 + proto + body.len();
    buffer.reserve(length + 4);
    buffer.extend_from_slice(&u32_of(length).to_le_bytes());
    buffer.extend_from_slice(&kind.to_le_bytes());
    buffer.extend_from_slice(&[version, 0]);
    buffer.extend_from_slice(&u32_of(proto).to_le_bytes());
    record.encode_proto(buffer);
    let at = buffer.len();
    buffer.extend_from_slice(body);
    at
}

/// A length that the limits keep far below 2^32.
fn u32_of(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

/// A record taken out of a batch's payload.
#[derive(Debug)]
pub struct Framed {
    /// The record.
    pub record: Record,
    /// Where its body starts in the payload.
    pub body_at: usize,
    /// Its body; empty when it has none.
    pub body: Bytes,
}

/// Splits a batch's payload into its records.
pub fn decode_all(payload: &Bytes) -> Result<Vec<Framed>, DecodeError> {
    let mut at = 0;
    let mut records = Vec::new();
    while at < payload.len() {
        let framed = decode_one(payload, at)?;
        at = framed.body_at + framed.body.len();
        records.push(framed);
    }
    Ok(records)
}

/// The first record of a batch's payload.
pub fn decode_first(payload: &Bytes) -> Result<Framed, DecodeError> {
    decode_one(payload, 0)
}

fn decode_one(payload: &Bytes, at: usize) -> Result<Framed, DecodeError> {
    let short = |kind| DecodeError::Malformed { kind, why: "cut short".into() };
    let frame: [u8; FRAME] =
        payload.get(at..at + FRAME).and_then(|f| f.try_into().ok()).ok_or_else(|| short(0))?;
    let [l0, l1, l2, l3, k0, k1, version, _, p0, p1, p2, p3] = frame;
    let kind = u16::from_le_bytes([k0, k1]);
    let length = usize::try_from(u32::from_le_bytes([l0, l1, l2, l3])).map_err(|_| short(kind))?;
    let proto = usize::try_from(u32::from_le_bytes([p0, p1, p2, p3])).map_err(|_| short(kind))?;
    let end = at + 4 + length;
    let body_at = at + FRAME + proto;
    if body_at > end || end > payload.len() {
        return Err(short(kind));
    }
    let record = Record::decode(kind, version, &payload[at + FRAME..body_at])?;
    Ok(Framed { record, body_at, body: payload.slice(body_at..end) })
}

#[cfg(test)]
mod tests;
