//! Batch headers: the links of the log's chain.
//!
//! A batch is what one sync made durable. Its header is 80 octets, little-endian: magic u32, payload length u32,
//! the segment's nonce u64, epoch u64, first sequence u64, number of records u32, then the predecessor's link
//! (CRC u32, epoch u64, last sequence u64), synced-up-to u64, payload CRC-32C u32, zero u32, header CRC-32C u32,
//! zero u32. Batches start at multiples of eight. A batch without records is a *mark*: it only says what was synced.
//!
//! The nonce is drawn per segment: octets of a mail that look like a header never pass for one.

use mailcluster_types::{Epoch, Seq};

/// Octets of a header.
pub const HEADER: usize = 80;
/// Batches start at multiples of this.
pub const ALIGN: usize = 8;
/// "MCB1".
pub const MAGIC: u32 = u32::from_le_bytes(*b"MCB1");
/// No batch is longer: a header that says so is damaged.
pub const MAX_PAYLOAD: usize = 512 << 20;

/// What names a batch for its successor: the same on every replica.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Link {
    /// Its epoch.
    pub epoch: Epoch,
    /// Its last record's sequence.
    pub seq: Seq,
    /// CRC-32C over all that came before and its content.
    pub crc: u32,
}

/// A batch's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Octets of the payload.
    pub length: u32,
    /// The segment's nonce.
    pub nonce: u64,
    /// The epoch at which it was appended.
    pub epoch: Epoch,
    /// The first record's sequence.
    pub seq: Seq,
    /// Number of records; 0 for a mark.
    pub count: u32,
    /// The batch before it.
    pub prev: Link,
    /// Everything up to here was synced when this was written.
    pub synced: Seq,
    /// CRC-32C of the payload.
    pub payload_crc: u32,
}

impl Header {
    /// The last record's sequence.
    pub fn last_seq(&self) -> Seq {
        (self.seq + u64::from(self.count)).saturating_sub(1)
    }

    /// How the next batch names this one.
    pub fn link(&self) -> Link {
        let bytes = self.encode();
        let chained = crc32c::crc32c_append(self.payload_crc, &bytes[16..56]);
        Link { epoch: self.epoch, seq: self.last_seq(), crc: chained }
    }

    /// Octets from this batch's start to the next one's.
    pub fn span(&self) -> u64 {
        (HEADER as u64 + u64::from(self.length)).next_multiple_of(ALIGN as u64)
    }

    /// As on disk.
    pub fn encode(&self) -> [u8; HEADER] {
        let mut out = [0; HEADER];
        let mut at = 0;
        let mut put = |bytes: &[u8]| {
            out[at..at + bytes.len()].copy_from_slice(bytes);
            at += bytes.len();
        };
        put(&MAGIC.to_le_bytes());
        put(&self.length.to_le_bytes());
        put(&self.nonce.to_le_bytes());
        put(&self.epoch.to_le_bytes());
        put(&self.seq.to_le_bytes());
        put(&self.count.to_le_bytes());
        put(&self.prev.crc.to_le_bytes());
        put(&self.prev.epoch.to_le_bytes());
        put(&self.prev.seq.to_le_bytes());
        put(&self.synced.to_le_bytes());
        put(&self.payload_crc.to_le_bytes());
        let crc = crc32c::crc32c(&out[..72]);
        out[72..76].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// A whole batch as on disk: header, records, padding.
    pub fn framed(&self, payload: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity((HEADER + payload.len()).next_multiple_of(ALIGN));
        out.extend_from_slice(&self.encode());
        out.extend_from_slice(payload);
        out.resize(out.len().next_multiple_of(ALIGN), 0);
        out
    }

    /// Reads a header; `None` when it is none (zeros, torn, damaged).
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let u32_at = |at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
        let u64_at = |at: usize| Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
        if u32_at(0)? != MAGIC || u32_at(72)? != crc32c::crc32c(bytes.get(..72)?) {
            return None;
        }
        let header = Self {
            length: u32_at(4)?,
            nonce: u64_at(8)?,
            epoch: u64_at(16)?,
            seq: u64_at(24)?,
            count: u32_at(32)?,
            prev: Link { crc: u32_at(36)?, epoch: u64_at(40)?, seq: u64_at(48)? },
            synced: u64_at(56)?,
            payload_crc: u32_at(64)?,
        };
        (usize::try_from(header.length).ok()? <= MAX_PAYLOAD).then_some(header)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> Header {
        Header {
            length: 77,
            nonce: 0x1122_3344_5566_7788,
            epoch: 5,
            seq: 100,
            count: 3,
            prev: Link { epoch: 4, seq: 99, crc: 0xdead_beef },
            synced: 99,
            payload_crc: 0x0102_0304,
        }
    }

    #[test]
    fn a_header_survives_the_disk_and_no_flipped_bit_does() {
        let bytes = header().encode();
        assert_eq!(Header::decode(&bytes), Some(header()));
        for bit in 0..76 * 8 {
            let mut damaged = bytes;
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Header::decode(&damaged), None, "bit {bit}");
        }
        assert_eq!(Header::decode(&bytes[..79]).map(|h| h.seq), Some(100));
        assert_eq!(Header::decode(&bytes[..40]), None);
    }

    #[test]
    fn the_link_does_not_depend_on_what_is_local_to_a_replica() {
        let mut other = header();
        other.nonce = 1;
        other.synced = 0;
        assert_eq!(other.link(), header().link());
        other.payload_crc ^= 1;
        assert_ne!(other.link(), header().link());
        assert_eq!(header().last_seq(), 102);
        assert_eq!(header().span() % 8, 0);
    }
}
