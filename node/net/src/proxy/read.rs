//! Reads a header off a stream without taking one octet more.

use std::{io, time::Duration};

use tokio::io::{AsyncRead, AsyncReadExt};

use super::{Header, ParseError, V2_SIGNATURE, parse, v1::MAX_LINE};

/// Why no header could be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The connection ended or failed.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// What came is no header.
    #[error(transparent)]
    Parse(#[from] ParseError),
    /// It did not come in time.
    #[error("no PROXY header in time")]
    Timeout,
}

/// Reads one header within `limit`. What follows it stays in the stream.
///
/// # Errors
/// As [`ReadError`] says; the stream is then of no further use.
pub async fn read_header<S: AsyncRead + Unpin>(stream: &mut S, limit: Duration) -> Result<Header, ReadError> {
    tokio::time::timeout(limit, read(stream)).await.map_err(|_| ReadError::Timeout)?
}

async fn read<S: AsyncRead + Unpin>(stream: &mut S) -> Result<Header, ReadError> {
    // The shortest header of either version is longer than the signature.
    let mut buffer = vec![0; V2_SIGNATURE.len()];
    stream.read_exact(&mut buffer).await?;
    loop {
        if let Some((header, _)) = parse(&buffer)? {
            return Ok(header);
        }
        // Version 2 says how long it is; a version 1 line is read by single octets, 107 at most.
        let more = if buffer.starts_with(&V2_SIGNATURE) { v2_missing(&buffer) } else { 1 };
        let have = buffer.len();
        if more == 1 && have >= MAX_LINE && !buffer.starts_with(&V2_SIGNATURE) {
            return Err(ParseError::TooLong.into());
        }
        buffer.resize(have + more, 0);
        stream.read_exact(&mut buffer[have..]).await?;
    }
}

/// How many octets of a version 2 header are surely missing; `parse` has bounded its length.
fn v2_missing(buffer: &[u8]) -> usize {
    match buffer.get(14..16) {
        Some(len) => {
            (16 + usize::from(u16::from_be_bytes([len[0], len[1]]))).saturating_sub(buffer.len()).max(1)
        }
        None => 16 - buffer.len(),
    }
}
