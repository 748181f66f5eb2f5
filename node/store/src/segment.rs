//! Segments: the files of the log. `log/<first sequence>.seg`, a 4 KiB header, then batches; zeros end it.
//!
//! Header: magic `MCSEGM01`, format u32, zero u32, nonce u64, first sequence u64, cluster and replica id (16 octets
//! each), CRC-32C of the first 64 octets. Little-endian.
//!
//! A pack (`log/<number>.pack`, see `pack`) has the same header with the magic `MCPACK01` and its number, and batches of
//! the same form.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use mailcluster_types::Seq;

use crate::{
    batch::{ALIGN, HEADER, Header, MAGIC},
    disk::{Disk, LogFile},
    replica::Identity,
    space::Space,
    spare::{self, Making, Spare},
    superblock::FORMAT,
};

/// Octets before the first batch.
pub const SEGMENT_HEADER: u64 = 4096;
/// A segment's size on volumes that have room for many.
pub const SEGMENT_SIZE: u64 = 64 << 20;
const HEAD_MAGIC: &[u8; 8] = b"MCSEGM01";
const PACK_MAGIC: &[u8; 8] = b"MCPACK01";
/// Set in the number of a pack, so that the index tells packs from segments by their numbers. No sequence gets there.
pub const PACK: u64 = 1 << 62;

/// Is this the number of a pack?
pub fn is_pack(number: u64) -> bool {
    number & PACK != 0
}

/// Where a segment or a pack lies.
pub fn path(log: &Path, number: u64) -> PathBuf {
    let kind = if is_pack(number) { "pack" } else { "seg" };
    log.join(format!("{:020}.{kind}", number & !PACK))
}

/// A segment or a pack, for people.
pub fn name(number: u64) -> String {
    let kind = if is_pack(number) { "pack" } else { "segment" };
    format!("{kind} {}", number & !PACK)
}

/// The first sequences of all segments, ascending.
pub fn list(log: &Path) -> io::Result<Vec<Seq>> {
    numbers(log, ".seg")
}

/// The numbers of all packs, ascending.
pub fn packs(log: &Path) -> io::Result<Vec<u64>> {
    Ok(numbers(log, ".pack")?.into_iter().map(|number| number | PACK).collect())
}

fn numbers(log: &Path, suffix: &str) -> io::Result<Vec<u64>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(log)? {
        let name = entry?.file_name();
        let number: Option<u64> =
            name.to_str().and_then(|n| n.strip_suffix(suffix)).and_then(|n| n.parse().ok());
        found.extend(number.filter(|number| !is_pack(*number)));
    }
    found.sort_unstable();
    Ok(found)
}

fn magic(number: u64) -> &'static [u8; 8] {
    if is_pack(number) { PACK_MAGIC } else { HEAD_MAGIC }
}

/// A number that no other file's batches have.
pub fn draw_nonce() -> io::Result<u64> {
    let mut nonce = [0; 8];
    getrandom::fill(&mut nonce).map_err(io::Error::from)?;
    Ok(u64::from_le_bytes(nonce))
}

/// The header of a segment, or of a pack.
pub fn encode_head(identity: &Identity, nonce: u64, first: u64) -> Vec<u8> {
    let mut out = Vec::with_capacity(4096);
    out.extend_from_slice(magic(first));
    out.extend_from_slice(&FORMAT.to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&nonce.to_le_bytes());
    out.extend_from_slice(&first.to_le_bytes());
    out.extend_from_slice(&identity.cluster.to_bytes());
    out.extend_from_slice(&identity.replica.to_bytes());
    let crc = crc32c::crc32c(&out);
    out.extend_from_slice(&crc.to_le_bytes());
    out.resize(4096, 0);
    out
}

/// Appends to the newest segment.
pub struct Writer {
    disk: Arc<dyn Disk>,
    log: PathBuf,
    identity: Identity,
    file: Box<dyn LogFile>,
    /// First sequence of the segment, which names it.
    pub first: Seq,
    /// Its nonce.
    pub nonce: u64,
    /// Where the next batch goes.
    pub offset: u64,
    /// When to begin another.
    pub size: u64,
    /// Batches that this process wrote to it.
    batches: u64,
    /// Octets of them.
    written: u64,
    /// Whether to make the next one ahead was asked for this one.
    looked_ahead: bool,
    spare: Spare,
}

impl Writer {
    /// Makes a segment durably. What is there under its name is replaced when it is whole, not before.
    pub fn create(
        disk: &Arc<dyn Disk>,
        log: &Path,
        identity: &Identity,
        first: Seq,
        size: u64,
    ) -> io::Result<Self> {
        let mut writer = Self::create_unnamed(disk, log, identity, first, size)?;
        writer.put_in_place()?;
        Ok(writer)
    }

    /// Makes a segment under a temporary name: see [`Self::put_in_place`].
    pub fn create_unnamed(
        disk: &Arc<dyn Disk>,
        log: &Path,
        identity: &Identity,
        first: Seq,
        size: u64,
    ) -> io::Result<Self> {
        let nonce = draw_nonce()?;
        let mut file = disk.create(&log.join("next.new"))?;
        if let Err(e) = file.allocate(size) {
            // Without reserved room each sync also writes the length: slower, just as safe.
            tracing::debug!(error = %e, "no room reserved for a segment");
            file.set_len(0)?;
        }
        file.write_at(0, &encode_head(identity, nonce, first))?;
        Ok(Self::at((disk, log, identity), file, Head { first, nonce }, (SEGMENT_HEADER, size)))
    }

    fn at(
        (disk, log, identity): (&Arc<dyn Disk>, &Path, &Identity),
        file: Box<dyn LogFile>,
        head: Head,
        (offset, size): (u64, u64),
    ) -> Self {
        Self {
            disk: disk.clone(),
            log: log.to_owned(),
            identity: identity.clone(),
            file,
            first: head.first,
            nonce: head.nonce,
            offset,
            size,
            batches: 0,
            written: 0,
            looked_ahead: false,
            spare: Spare::default(),
        }
    }

    /// Syncs the segment and gives it its name, durably.
    pub fn put_in_place(&mut self) -> io::Result<()> {
        self.name(&self.log.join("next.new"))
    }

    fn name(&mut self, made_as: &Path) -> io::Result<()> {
        self.file.sync()?;
        self.disk.rename(made_as, &path(&self.log, self.first))?;
        self.disk.sync_dir(&self.log)
    }

    /// Makes of the spare the segment that begins with `first`.
    fn put_spare(&self, mut file: Box<dyn LogFile>, first: Seq) -> io::Result<Self> {
        let nonce = draw_nonce()?;
        file.write_at(0, &encode_head(&self.identity, nonce, first))?;
        let whose = (&self.disk, self.log.as_path(), &self.identity);
        let mut writer = Self::at(whose, file, Head { first, nonce }, (SEGMENT_HEADER, self.size));
        writer.name(&spare::path(&self.log))?;
        Ok(writer)
    }

    /// Goes on behind `offset` in a segment that is there: what lies behind it is cut off first.
    pub fn resume(
        disk: &Arc<dyn Disk>,
        log: &Path,
        identity: &Identity,
        head: &Head,
        at: (u64, u64),
    ) -> io::Result<Self> {
        let (offset, size) = at;
        let mut file = disk.open(&path(log, head.first))?;
        file.set_len(offset)?;
        if let Err(e) = file.allocate(size.max(offset)) {
            tracing::debug!(error = %e, "no room reserved for a segment");
            file.set_len(offset)?;
        }
        file.sync()?;
        Ok(Self::at((disk, log, identity), file, *head, (offset, size)))
    }

    /// Begins the next segment when `room` octets more would not fit. Answers whether it did.
    pub fn roll(&mut self, next: Seq, room: u64) -> io::Result<bool> {
        if self.offset == SEGMENT_HEADER || self.offset + room <= self.size {
            return Ok(false);
        }
        let new = match self.spare.take() {
            Some(file) => self.put_spare(file, next)?,
            None => Self::create(&self.disk, &self.log, &self.identity, next, self.size)?,
        };
        let mut old = std::mem::replace(self, new);
        // One that is being made is for the next time.
        self.spare = std::mem::take(&mut old.spare);
        // Only gives reserved room back; recovery copes with it being there.
        if let Err(e) = old.file.set_len(old.offset) {
            tracing::warn!(error = %e, segment = old.first, "failed to trim a full segment");
        }
        Ok(true)
    }

    /// Writes a batch (padded to the alignment) without syncing it.
    pub fn write(&mut self, batch: &[u8]) -> io::Result<()> {
        debug_assert_eq!(batch.len() % ALIGN, 0, "batches are padded");
        self.file.write_at(self.offset, batch)?;
        self.offset += batch.len() as u64;
        self.batches += 1;
        self.written += batch.len() as u64;
        Ok(())
    }

    /// When an eighth of the segment is written, asks whether the next one is made ahead.
    pub fn look_ahead(&mut self, making: Making, space: &Space) {
        if self.looked_ahead || self.offset < self.size / 8 {
            return;
        }
        self.looked_ahead = true;
        let always = making != Making::Beside;
        if always || spare::is_worth_it(self.size, self.batches, self.written) && space.has_room(self.size) {
            self.spare.begin(making, &self.disk, &self.log, self.size);
        }
    }

    /// What is written beside the log ends, soon.
    pub fn leave(&self) {
        self.spare.stop();
    }

    /// Takes back what a failed write may have left, after ENOSPC.
    pub fn retract(&mut self) -> io::Result<()> {
        self.file.set_len(self.offset)?;
        if self.offset < self.size
            && let Err(e) = self.file.allocate(self.size)
        {
            tracing::debug!(error = %e, "no room reserved for a segment");
            self.file.set_len(self.offset)?;
        }
        self.file.sync()
    }

    /// Cuts off what lies behind `offset`, durably: the next batch goes there.
    pub fn cut(&mut self, offset: u64) -> io::Result<()> {
        self.offset = offset;
        self.retract()
    }

    /// Makes all that was written durable.
    pub fn sync(&mut self) -> io::Result<()> {
        self.file.sync()
    }

    /// Octets still reserved in this segment, and in the one made ahead.
    pub fn reserved(&self) -> u64 {
        let spare = if self.spare.is_begun() { self.size } else { 0 };
        self.size.saturating_sub(self.offset) + spare
    }
}

/// A segment's header, as read.
#[derive(Debug, Clone, Copy)]
pub struct Head {
    /// First sequence.
    pub first: Seq,
    /// The nonce of its batches.
    pub nonce: u64,
}

/// Reads one segment.
pub struct Reader {
    file: File,
    /// Its header.
    pub head: Head,
    len: u64,
}

/// What stands where a batch should start.
pub enum Found {
    /// A whole batch with its payload.
    Batch(Header, Bytes),
    /// Nothing that is whole: the end, or a torn or damaged batch.
    Nothing,
}

impl Reader {
    /// Opens a segment; `None` when its header was never written (a crash while it was made).
    pub fn open(log: &Path, first: Seq, identity: &Identity) -> io::Result<Option<Self>> {
        let file = File::open(path(log, first))?;
        let len = file.metadata()?.len();
        let mut head = vec![0; 4096];
        let got = read_up_to(&file, &mut head, 0)?;
        let Some(found) = decode_head(&head[..got], identity, first) else {
            return Ok(None);
        };
        Ok(Some(Self { file, head: found, len }))
    }

    /// Reads the header at `offset`; `None` where there is none.
    pub fn header(&self, offset: u64) -> io::Result<Option<Header>> {
        let mut head = [0; HEADER];
        if read_up_to(&self.file, &mut head, offset)? < HEADER {
            return Ok(None);
        }
        Ok(Header::decode(&head).filter(|h| h.nonce == self.head.nonce))
    }

    /// Reads the batch at `offset`.
    pub fn batch(&self, offset: u64) -> io::Result<Found> {
        let Some(header) = self.header(offset)? else {
            return Ok(Found::Nothing);
        };
        let end = offset + HEADER as u64 + u64::from(header.length);
        // It may be written while it is read: what it was long when it was opened is not the last word.
        if end > self.len && end > self.file.metadata()?.len() {
            return Ok(Found::Nothing);
        }
        let mut payload = vec![0; usize::try_from(header.length).unwrap_or(0)];
        self.file.read_exact_at(&mut payload, offset + HEADER as u64)?;
        if crc32c::crc32c(&payload) != header.payload_crc {
            return Ok(Found::Nothing);
        }
        Ok(Found::Batch(header, payload.into()))
    }

    /// How long the file is.
    pub fn length(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    /// Is there, behind `offset`, a header that says that `seq` was synced? Then what is missing was not torn but
    /// damaged.
    pub fn proves_synced(&self, offset: u64, seq: Seq) -> io::Result<bool> {
        Ok(self.find(offset, |header| header.synced >= seq)?.is_some())
    }

    /// Where, from `offset` on, the first header stands that is wanted.
    pub fn find(&self, offset: u64, wanted: impl Fn(&Header) -> bool) -> io::Result<Option<u64>> {
        const STEP: usize = 1 << 20;
        let mut buffer = vec![0; STEP + HEADER];
        let mut at = offset;
        while at < self.len {
            let got = read_up_to(&self.file, &mut buffer, at)?;
            for place in (0..got.min(STEP)).step_by(ALIGN) {
                let candidate = &buffer[place..got];
                if candidate.len() >= HEADER
                    && candidate[..4] == MAGIC.to_le_bytes()
                    && let Some(header) = Header::decode(&candidate[..HEADER])
                    && header.nonce == self.head.nonce
                    && wanted(&header)
                {
                    return Ok(Some(at + place as u64));
                }
            }
            at += STEP as u64;
        }
        Ok(None)
    }

    /// Octets of the file, as it was opened.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Opens a segment whose own header may be damaged: its first batch tells the nonce then.
    pub fn salvage(log: &Path, first: Seq) -> io::Result<Option<Self>> {
        let file = File::open(path(log, first))?;
        let len = file.metadata()?.len();
        let mut head = [0; HEADER];
        if read_up_to(&file, &mut head, SEGMENT_HEADER)? < HEADER {
            return Ok(None);
        }
        Ok(Header::decode(&head).map(|batch| Self { file, head: Head { first, nonce: batch.nonce }, len }))
    }
}

fn decode_head(bytes: &[u8], identity: &Identity, number: u64) -> Option<Head> {
    let crc = u32::from_le_bytes(bytes.get(64..68)?.try_into().ok()?);
    let ours = bytes.get(..8)? == magic(number)
        && bytes.get(24..32)? == number.to_le_bytes()
        && crc32c::crc32c(&bytes[..64]) == crc
        && bytes.get(32..48)? == identity.cluster.to_bytes();
    ours.then_some(())?;
    Some(Head { nonce: u64::from_le_bytes(bytes.get(16..24)?.try_into().ok()?), first: number })
}

/// Reads until the buffer is full or the file ends.
fn read_up_to(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut got = 0;
    while got < buffer.len() {
        match file.read_at(&mut buffer[got..], offset + got as u64) {
            Ok(0) => break,
            Ok(n) => got += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(got)
}
