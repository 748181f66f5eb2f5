//! Reading below a folder without ever leaving it: everything is opened from the folder's descriptor, by one name, and
//! no symbolic link is followed.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read},
    os::fd::{AsFd, OwnedFd},
};

use rustix::{
    fs::{AtFlags, Dir, FileType, Mode, OFlags, fstat, openat, statat},
    io::Errno,
};

use crate::Unread;

/// Largest of Dovecot's own files that is read, and its longest line.
const MAX_TABLE: u64 = 1 << 30;
const MAX_LINE: u64 = 16 << 10;

/// A file that is open.
pub(crate) struct Opened {
    pub file: File,
    pub octets: u64,
    /// Seconds since 1970.
    pub modified: i64,
    /// The same for all names of one file.
    pub inode: (u64, u64),
}

/// A folder below this one.
pub(crate) fn dir(below: &impl AsFd, name: &[u8]) -> Result<OwnedFd, Unread> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match openat(below, name, flags, Mode::empty()) {
        Ok(fd) => Ok(fd),
        Err(Errno::NOTDIR) => {
            let is_link = statat(below, name, AtFlags::SYMLINK_NOFOLLOW)
                .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Symlink);
            Err(if is_link { Unread::Link } else { Unread::Kind("folder") })
        }
        Err(error) => Err(error.into()),
    }
}

/// Is there a folder of this name below? A symbolic link to one is none.
pub(crate) fn has_dir(below: &impl AsFd, name: &str) -> bool {
    statat(below, name, AtFlags::SYMLINK_NOFOLLOW)
        .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory)
}

/// A regular file of this folder.
pub(crate) fn file(below: &impl AsFd, name: &[u8]) -> Result<Opened, Unread> {
    // Looked at first: to open a device may do something.
    let kind = FileType::from_raw_mode(statat(below, name, AtFlags::SYMLINK_NOFOLLOW)?.st_mode);
    match kind {
        FileType::RegularFile => {}
        FileType::Symlink => return Err(Unread::Link),
        _ => return Err(Unread::Kind("file")),
    }
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let fd = openat(below, name, flags, Mode::empty())?;
    let stat = fstat(&fd)?;
    // Looked at again: it may be another one by now.
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(Unread::Kind("file"));
    }
    Ok(Opened {
        file: fd.into(),
        octets: u64::try_from(stat.st_size).unwrap_or(0),
        modified: stat.st_mtime,
        inode: (stat.st_dev, stat.st_ino),
    })
}

/// Its content, when it is no larger than `limit`.
pub(crate) fn content(opened: Opened, limit: u64) -> Result<Vec<u8>, Unread> {
    let too_large = |octets| Unread::TooLarge { octets, limit };
    if opened.octets > limit {
        return Err(too_large(opened.octets));
    }
    let mut content = Vec::with_capacity(usize::try_from(opened.octets).unwrap_or(0));
    opened.file.take(limit.saturating_add(1)).read_to_end(&mut content)?;
    if content.len() as u64 > limit { Err(too_large(content.len() as u64)) } else { Ok(content) }
}

/// Calls `each` with every name of a folder but `.` and `..`.
pub(crate) fn names(folder: &impl AsFd, each: &mut dyn FnMut(&[u8])) -> Result<(), Unread> {
    for entry in Dir::read_from(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            each(name);
        }
    }
    Ok(())
}

/// Calls `each` with every line of a small file of Dovecot's, without its end. One that is not there has none.
pub(crate) fn lines(below: &impl AsFd, name: &str, each: &mut dyn FnMut(&[u8])) -> Result<bool, Unread> {
    let opened = match file(below, name.as_bytes()) {
        Ok(opened) => opened,
        Err(Unread::Io(error)) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    let mut reader = BufReader::new(opened.file.take(MAX_TABLE));
    let mut line = Vec::new();
    loop {
        line.clear();
        if (&mut reader).take(MAX_LINE).read_until(b'\n', &mut line)? == 0 {
            return Ok(true);
        }
        let line = line.strip_suffix(b"\n").unwrap_or(&line);
        each(line.strip_suffix(b"\r").unwrap_or(line));
    }
}
