//! A batch for another replica, whose own is damaged.

use std::{io, path::Path};

use super::{
    Wanted,
    spot::{At, Spot},
};
use crate::{
    engine::Engine,
    log_reader::LoggedBatch,
    replica::Identity,
    segment::{self, Found, Reader},
};

/// The batch that is named so, as the log of the replica in `dir` has it. `None`: it does not, or not as a whole.
///
/// # Errors
/// As the disk says.
pub fn lend(dir: &Path, identity: &Identity, wanted: &Wanted) -> io::Result<Option<LoggedBatch>> {
    let log = Engine::log_dir(dir);
    let Some(segment) = segment::list(&log)?.into_iter().rev().find(|first| *first <= wanted.first) else {
        return Ok(None);
    };
    let Some(spot) = Spot::find((&log, identity), segment, At::First(wanted.first))? else { return Ok(None) };
    let Some(reader) = Reader::open(&log, segment, identity)? else { return Ok(None) };
    Ok(match reader.batch(spot.offset)? {
        Found::Batch(header, payload) if header.link() == wanted.link => Some(LoggedBatch {
            epoch: header.epoch,
            seq: header.seq,
            count: header.count,
            prev: header.prev,
            payload,
        }),
        _ => None,
    })
}
