//! Bases: copies of the index as it was at a commit, for when it must be made anew and the log's beginning is not there any
//! more. `base/<sequence>-<segment>-<CRC-32C>.db`: the last record that it has, the segment that this lies in, and the
//! checksum of the file, in hexadecimal digits. One rename makes it valid, and nothing lies beside it.
//!
//! Segments before a base's own may be given back: what packs keep of them, the base's rows are pointed to when it becomes
//! the index again; what they do not keep, the log behind the base says is gone.

use std::{
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
    sync::Arc,
};

use mailcluster_types::Seq;
use rusqlite::{Connection, params};

use crate::{
    disk::Disk,
    engine::Engine,
    error::OpenError,
    log_walk, pack,
    replica::Identity,
    schema::{self, State},
    segment::{self, Found, Reader},
    volume::io_error,
};

/// Asked while a file is read that may be large.
pub type GoOn<'a> = &'a dyn Fn() -> io::Result<()>;

/// A base on the volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Base {
    /// The last record that it has.
    pub seq: Seq,
    /// The first sequence of the segment that this lies in.
    pub segment: Seq,
    crc: u32,
}

/// Where bases lie.
pub fn folder(dir: &Path) -> PathBuf {
    dir.join("base")
}

/// The name of a base that is being made.
pub fn unfinished(dir: &Path) -> PathBuf {
    folder(dir).join("base.new")
}

impl Base {
    /// Where it lies.
    pub fn path(&self, dir: &Path) -> PathBuf {
        folder(dir).join(format!("{:020}-{:020}-{:08x}.db", self.seq, self.segment, self.crc))
    }

    fn parse(name: &str) -> Option<Self> {
        let mut parts = name.strip_suffix(".db")?.split('-');
        let (seq, segment, crc) = (parts.next()?, parts.next()?, parts.next()?);
        let base = Self {
            seq: seq.parse().ok()?,
            segment: segment.parse().ok()?,
            crc: u32::from_str_radix(crc, 16).ok()?,
        };
        parts.next().is_none().then_some(base)
    }

    /// Why no index can be made from it, when that is so: it is not what it was when it was made, of another version or
    /// replica, or the log does not have what it ends with.
    pub fn fault(&self, dir: &Path, identity: &Identity, go_on: GoOn<'_>) -> io::Result<Option<String>> {
        let path = self.path(dir);
        let faulty = |why: &str| Ok(Some(format!("{}: {why}", path.display())));
        if checksum(&path, go_on)? != self.crc {
            return faulty("its checksum differs");
        }
        let read = read_only(&path).and_then(|conn| Ok((is_ours(&conn, identity)?, State::load(&conn)?)));
        match read {
            Ok((false, _)) => faulty("it is of another version or replica"),
            Ok((true, state)) if (state.link.seq, state.segment) != (self.seq, self.segment) => {
                faulty("its name is another's")
            }
            Ok((true, state)) if !ends_in(&Engine::log_dir(dir), identity, &state)? => {
                faulty("the log does not have what it ends with")
            }
            Ok(_) => Ok(None),
            Err(error) => faulty(&error.to_string()),
        }
    }

    /// Gives the copy of an index that lies under the temporary name its own; the folder is still to be synced.
    pub fn put_in_place(
        dir: &Path,
        disk: &Arc<dyn Disk>,
        (seq, segment): (Seq, Seq),
        go_on: GoOn<'_>,
    ) -> io::Result<Self> {
        let new = unfinished(dir);
        disk.open(&new)?.sync()?;
        let base = Self { seq, segment, crc: checksum(&new, go_on)? };
        disk.rename(&new, &base.path(dir))?;
        Ok(base)
    }
}

/// Does the log have the last batch of an index?
fn ends_in(log: &Path, identity: &Identity, state: &State) -> io::Result<bool> {
    let reader = match Reader::open(log, state.segment, identity) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
        opened => opened?,
    };
    let Some(reader) = reader else { return Ok(false) };
    let found = reader.batch(state.start)?;
    Ok(matches!(found, Found::Batch(header, _) if header.link() == state.link))
}

/// All bases, the newest first.
pub fn list(dir: &Path) -> io::Result<Vec<Base>> {
    let entries = match fs::read_dir(folder(dir)) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut found = Vec::new();
    for entry in entries {
        found.extend(entry?.file_name().to_str().and_then(Base::parse));
    }
    found.sort_unstable_by_key(|base| std::cmp::Reverse(base.seq));
    Ok(found)
}

/// The newest base that an index could be made from, for a log that goes on from a record; or what keeps it from that.
pub fn newest(
    dir: &Path,
    identity: &Identity,
    contiguous_from: Seq,
) -> Result<Result<Base, String>, OpenError> {
    let mut first = None;
    for base in list(dir).map_err(|e| io_error(&folder(dir), e))? {
        let fault = base.fault(dir, identity, &|| Ok(()));
        // One that cannot be read is as good as none.
        let fault = fault.unwrap_or_else(|error| Some(format!("{}: {error}", base.path(dir).display())));
        match fault {
            None if base.segment >= contiguous_from => return Ok(Ok(base)),
            None => {
                let end = base.seq;
                first.get_or_insert(format!(
                    "the log goes on from {contiguous_from}, and the base ends at {end}"
                ));
            }
            Some(why) => _ = first.get_or_insert(why),
        }
    }
    let none = || "a part of the log was given back, and there is no base of the index".to_owned();
    Ok(Err(first.unwrap_or_else(none)))
}

/// Removes all bases: an index is made from the log alone, and what it becomes they may not fit.
pub fn remove_all(dir: &Path, disk: &Arc<dyn Disk>) -> io::Result<()> {
    if !folder(dir).try_exists()? {
        return Ok(());
    }
    for base in list(dir)? {
        disk.remove(&base.path(dir))?;
    }
    // Also when they were removed by one that ended then.
    disk.sync_dir(&folder(dir))
}

fn checksum(path: &Path, go_on: GoOn<'_>) -> io::Result<u32> {
    let mut file = File::open(path)?;
    let (mut buffer, mut crc) = (vec![0; 1 << 20], 0);
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(crc),
            Ok(n) => {
                go_on()?;
                crc = crc32c::crc32c_append(crc, buffer.get(..n).unwrap_or_default());
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}

/// What of packs is not as it was written. An index made anew would lack the places of what lies there, and the next round
/// would take it for dead.
pub fn pack_damage(dir: &Path, identity: &Identity) -> Result<Option<String>, OpenError> {
    let log = Engine::log_dir(dir);
    let mut found = None;
    for number in segment::packs(&log).map_err(|e| io_error(&log, e))? {
        let walked = pack::walk(&log, number, identity, &mut |piece| {
            if let pack::Piece::Damage(what) = piece {
                found.get_or_insert(what);
            }
        });
        if let Err(error) = walked {
            found.get_or_insert(format!("{}: {error}", segment::name(number)));
        }
    }
    Ok(found)
}

/// Could the index be made anew from what is there, a part of the log having been given back? Answers the base that it begins
/// with, or what keeps it from that.
pub fn beginning(
    dir: &Path,
    identity: &Identity,
    contiguous_from: Seq,
) -> Result<Result<Base, String>, OpenError> {
    let base = match newest(dir, identity, contiguous_from)? {
        Ok(base) => base,
        Err(why) => return Ok(Err(why)),
    };
    let damage = match pack_damage(dir, identity)? {
        None => log_walk::damage(&Engine::log_dir(dir), identity, base.segment)
            .map_err(|e| io_error(&Engine::log_dir(dir), e))?,
        damage => damage,
    };
    Ok(damage.map_or(Ok(base), Err))
}

/// A base is looked into without a write-ahead log beside it.
pub fn read_only(path: &Path) -> rusqlite::Result<Connection> {
    use rusqlite::OpenFlags;
    let flags =
        OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_URI;
    let escaped = path.to_string_lossy().replace('%', "%25").replace('?', "%3f").replace('#', "%23");
    Connection::open_with_flags(format!("file:{escaped}?immutable=1"), flags)
}

fn is_ours(conn: &Connection, identity: &Identity) -> rusqlite::Result<bool> {
    // What becomes an index is brought up to this version as it is opened.
    if !schema::can_be_raised(schema::version(conn)?) {
        return Ok(false);
    }
    let (cluster, replica) = (identity.cluster.to_bytes(), identity.replica.to_bytes());
    conn.query_row("SELECT cluster=? AND replica=? FROM state", params![&cluster[..], &replica[..]], |r| {
        r.get(0)
    })
}

/// Makes a base of the store in `dir` the index in `to`, with all that packs say of places. What they say of damage is told
/// to `warn`. An index that is there is replaced.
pub fn restore(
    dir: &Path,
    base: &Base,
    identity: &Identity,
    to: &Path,
    warn: &mut dyn FnMut(&str),
) -> Result<(), OpenError> {
    let new = to.join("index.new");
    let io = |e| io_error(&new, e);
    fs::copy(base.path(dir), &new).map_err(io)?;
    point_to_packs(&Engine::log_dir(dir), identity, &new, warn)?;
    File::open(&new).and_then(|file| file.sync_all()).map_err(io)?;
    schema::remove(to).map_err(io)?;
    fs::rename(&new, schema::path(to)).map_err(io)?;
    File::open(to).and_then(|folder| folder.sync_all()).map_err(io)
}

/// Bodies may have moved more than once: the pack of the highest number has the last word.
fn point_to_packs(
    log: &Path,
    identity: &Identity,
    index: &Path,
    warn: &mut dyn FnMut(&str),
) -> Result<(), OpenError> {
    let sql = |e: rusqlite::Error| OpenError::Index(e.to_string());
    let conn = Connection::open(index).map_err(sql)?;
    conn.execute_batch("PRAGMA journal_mode=MEMORY; PRAGMA synchronous=OFF").map_err(sql)?;
    conn.execute_batch("BEGIN").map_err(sql)?;
    for number in segment::packs(log).map_err(|e| io_error(log, e))? {
        let mut outcome = Ok(());
        pack::walk(log, number, identity, &mut |piece| match piece {
            pack::Piece::Damage(what) => warn(&what),
            pack::Piece::Kept(place, kept) => {
                let moved = kept.bodies.iter().try_for_each(|body| {
                    conn.prepare_cached("UPDATE body SET segment=?, offset=? WHERE id=? AND len=? AND crc=?")?
                        .execute(params![place.segment, place.offset, body.id, place.len, place.crc])
                        .map(drop)
                });
                if let Err(error) = moved {
                    outcome = Err(error);
                }
            }
        })
        .map_err(|e| io_error(&segment::path(log, number), e))?;
        outcome.map_err(sql)?;
    }
    conn.execute_batch("COMMIT").map_err(sql)?;
    conn.close().map_err(|(_, e)| sql(e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_tells_what_is_in_it_and_other_names_are_none() {
        let base = Base { seq: 70, segment: 64, crc: 0xdead_beef };
        let path = base.path(Path::new("/x"));
        assert_eq!(Base::parse(path.file_name().unwrap().to_str().unwrap()), Some(base));
        for other in ["base.new", "1-2.db", "1-2-zz.db", "1-2-3-4.db", "1-2-3", "x-2-3.db"] {
            assert_eq!(Base::parse(other), None, "{other}");
        }
    }
}
