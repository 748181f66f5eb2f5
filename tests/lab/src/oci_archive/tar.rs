//! Tar archives (ustar, POSIX.1-1988) as images need them, written and read.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;

use anyhow::{Context, Result, bail};

/// The size of everything in a tar.
const BLOCK: u64 = 512;

/// A tar in the ustar format (POSIX.1-1988), with every time 0 so that equal content gives equal bytes.
pub(super) struct Tar<W> {
    out: W,
}

impl<W: Write> Tar<W> {
    pub(super) fn new(out: W) -> Self {
        Self { out }
    }

    pub(super) fn directory(&mut self, path: &str, mode: u32) -> Result<()> {
        self.out.write_all(&header(&format!("{path}/"), mode, 0, b'5')?)?;
        Ok(())
    }

    pub(super) fn file(&mut self, path: &str, mode: u32, size: u64, from: &mut impl Read) -> Result<()> {
        self.out.write_all(&header(path, mode, size, b'0')?)?;
        let copied = std::io::copy(&mut from.take(size), &mut self.out)?;
        if copied != size {
            bail!("{path} got shorter while it was read");
        }
        let rest = (512 - size % 512) % 512;
        self.out.write_all(&[0; 512][..rest as usize])?;
        Ok(())
    }

    pub(super) fn finish(mut self) -> Result<W> {
        self.out.write_all(&[0; 1024])?;
        Ok(self.out)
    }
}

fn header(path: &str, mode: u32, size: u64, kind: u8) -> Result<[u8; 512]> {
    if path.len() > 100 || size >= 1 << 33 {
        bail!("{path} is too long a path, or the file too large, for a ustar archive");
    }
    let mut block = [0_u8; 512];
    let mut put = |at: usize, text: &[u8]| block[at..at + text.len()].copy_from_slice(text);
    put(0, path.as_bytes());
    put(100, format!("{mode:07o}\0").as_bytes());
    put(108, b"0000000\0");
    put(116, b"0000000\0");
    put(124, format!("{size:011o}\0").as_bytes());
    put(136, b"00000000000\0");
    put(148, b"        ");
    put(156, &[kind]);
    put(257, b"ustar\x0000");
    let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    Ok(block)
}

/// A regular file in a tar: its path, where its bytes begin, and how many there are.
#[derive(Debug)]
pub(super) struct Entry {
    pub path: String,
    pub offset: u64,
    pub size: u64,
}

/// What regular files are in a tar that [`Tar`] has written.
pub(super) fn entries(archive: &Path) -> Result<Vec<Entry>> {
    let mut file = File::open(archive).with_context(|| format!("failed to open {}", archive.display()))?;
    let mut found = Vec::new();
    let mut offset = 0;
    loop {
        let mut block = [0_u8; BLOCK as usize];
        file.seek(SeekFrom::Start(offset))?;
        file.read_exact(&mut block).with_context(|| format!("{} has no end", archive.display()))?;
        offset += BLOCK;
        if block.iter().all(|&byte| byte == 0) {
            return Ok(found);
        }
        let (path, size) = (text(&block[..100]), text(&block[124..136]));
        let size = u64::from_str_radix(&size, 8).with_context(|| format!("the size of {path:?}"))?;
        if &block[257..262] != b"ustar" {
            bail!("{} is not a tar archive that this program wrote", archive.display());
        }
        if block[156] == b'0' {
            found.push(Entry { path, offset, size });
        }
        offset += size.div_ceil(BLOCK) * BLOCK;
    }
}

fn text(field: &[u8]) -> String {
    let end = field.iter().position(|&byte| byte == 0).unwrap_or(field.len());
    String::from_utf8_lossy(&field[..end]).trim().to_owned()
}
