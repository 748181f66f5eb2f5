//! The primary's side of a snapshot.

use std::{
    collections::BTreeMap,
    fs::File as Disk,
    os::unix::fs::FileExt,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use mailcluster_rpc::mirror::v1::{
    File, FileEnd, FromMirror, FromPrimary, Has, Link, Piece, Snapshot, SnapshotEnd, from_mirror,
    from_primary,
};
use mailcluster_store::{Cancel, Outgoing, PinnedFile, machine};
use mailcluster_types::Seq;
use tokio::{sync::mpsc, time::Instant};
use tonic::{Status, Streaming};

use crate::{
    feed::{Source, next, say, unexpected},
    wire::PART,
};

/// A mirror that has nothing is sent files when the log has so many octets in full segments: the records of one segment are
/// applied in a second or two.
const FROM: u64 = 64 << 20;
/// Octets sent in a second: less than half of what a gigabit link carries, so that what is committed meanwhile finds the
/// link free, and the disk, too.
const RATE: u64 = 48 << 20;
/// What a mirror has already is read so many times as fast: only the disk is asked.
const READING: u64 = 4;
/// How long a mirror may take to put a snapshot in place.
const INSTALL: Duration = Duration::from_secs(60);
/// How often it is seen whether the volume still has room for what a stream keeps.
const LOOK: Duration = Duration::from_secs(1);
/// Until the index has what the snapshot must have.
const SOON: Duration = Duration::from_millis(100);
/// Octets read at a time.
const READ: u64 = 1 << 20;
/// How long a snapshot that nobody takes is kept: it keeps files on the disk that the log may no longer need.
const KEEP: Duration = Duration::from_secs(600);

/// What a primary offers to its mirrors, and how.
pub struct Snapshots {
    /// From how many octets in full segments on a mirror that has nothing gets a snapshot.
    pub from: u64,
    /// Octets in a second, to each mirror.
    pub rate: u64,
    /// Does the store in this folder want back the room that snapshots take?
    pub must_go: Arc<dyn Fn(&Path) -> bool + Send + Sync>,
    /// By mirror: kept for the next stream when one breaks.
    offered: Mutex<BTreeMap<String, Offered>>,
}

/// A snapshot, and when it was last seen in use.
struct Offered {
    outgoing: Arc<Outgoing>,
    used: Instant,
}

impl Default for Snapshots {
    fn default() -> Self {
        Self { from: FROM, rate: RATE, must_go: Arc::new(Outgoing::must_go), offered: Mutex::default() }
    }
}

impl Snapshots {
    fn offered(&self) -> MutexGuard<'_, BTreeMap<String, Offered>> {
        self.offered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn of(&self, mirror: &str) -> Option<Arc<Outgoing>> {
        self.offered().get(mirror).map(|offered| offered.outgoing.clone())
    }

    fn offer(&self, mirror: &str, outgoing: Arc<Outgoing>) {
        self.offered().insert(mirror.to_owned(), Offered { outgoing, used: Instant::now() });
    }

    /// The mirror needs none any more.
    pub(crate) fn forget(&self, mirror: &str) {
        // Its files are removed without the lock.
        let _gone = self.offered().remove(mirror);
    }

    /// Lets go of what is for none of these mirrors of the store in `dir`, was not used for long, or is in the way. To be
    /// called from time to time.
    pub fn tidy(&self, dir: &Path, mirrors: &[String]) {
        if self.offered().is_empty() {
            return;
        }
        let mirrors = if (self.must_go)(dir) { &[] } else { mirrors };
        self.let_go(mirrors, KEEP);
    }

    fn let_go(&self, mirrors: &[String], keep: Duration) {
        let now = Instant::now();
        let is_over = |mirror: &String, offered: &mut Offered| {
            if Arc::strong_count(&offered.outgoing) > 1 {
                offered.used = now;
            }
            !mirrors.contains(mirror) || now.duration_since(offered.used) > keep
        };
        let _gone: Vec<_> = self.offered().extract_if(.., is_over).collect();
    }
}

/// Whoever waits for work in another thread goes away: so does the work.
struct CancelOnDrop(Cancel);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

/// A stream on which files go to a mirror.
pub(crate) struct Copying<'a> {
    pub source: &'a Source,
    pub mirror: &'a str,
    pub out: &'a mpsc::Sender<FromPrimary>,
    pub inbound: &'a mut Streaming<FromMirror>,
}

impl Copying<'_> {
    /// Sends a snapshot that has at least record `at_least`; the mirror has put it in place when this returns. A store that
    /// runs out of room wants it more than a mirror.
    pub(crate) async fn run(self, at_least: Seq) -> Result<(), Status> {
        let (source, mirror) = (self.source, self.mirror);
        tokio::select! {
            copied = self.copy(at_least) => copied,
            short = source.runs_short() => {
                source.snapshots.forget(mirror);
                Err(short)
            }
        }
    }

    async fn copy(mut self, at_least: Seq) -> Result<(), Status> {
        let outgoing = self.outgoing(at_least).await?;
        let offer = outgoing.offer();
        let at = Link { epoch: offer.at.epoch, seq: offer.at.seq, crc: offer.at.crc };
        let snapshot = Snapshot {
            id: offer.id.clone(),
            at: Some(at),
            files: offer.files,
            octets: offer.octets,
            contiguous_from: offer.contiguous_from,
        };
        let (mirror, id, octets) = (self.mirror, &offer.id, offer.octets);
        tracing::info!(mirror, id, octets, seq = offer.at.seq, "sending a snapshot");
        self.say(from_primary::Message::Snapshot(snapshot)).await?;
        let mut pace = Pace::new(self.source.snapshots.rate);
        for file in outgoing.files() {
            // What follows it is wanted then.
            self.source.progress.copies(self.mirror, offer.at.seq);
            self.send(&outgoing, file, &mut pace).await?;
        }
        self.say(from_primary::Message::SnapshotEnd(SnapshotEnd {})).await?;
        let installed = tokio::time::timeout(INSTALL, next(self.inbound)).await;
        match installed.map_err(|_| Status::deadline_exceeded("the snapshot is not put in place"))?? {
            from_mirror::Message::Installed(_) => {}
            _ => return Err(unexpected()),
        }
        tracing::info!(mirror, id, "the mirror has the snapshot");
        self.source.snapshots.forget(mirror);
        Ok(())
    }

    /// The snapshot that was offered before, if it has enough; else a new one.
    async fn outgoing(&self, at_least: Seq) -> Result<Arc<Outgoing>, Status> {
        let before = self.source.snapshots.of(self.mirror);
        if let Some(before) = before.filter(|before| before.offer().at.seq >= at_least) {
            return Ok(before);
        }
        self.source.snapshots.forget(self.mirror);
        self.source.progress.reached(at_least).await;
        let guard = CancelOnDrop(Cancel::default());
        loop {
            let (dir, rate, cancel) = (self.source.dir.clone(), self.source.snapshots.rate, guard.0.clone());
            if let Some(made) = blocking(move || Outgoing::make(&dir, at_least, rate, &cancel)).await? {
                let made = Arc::new(made);
                self.source.snapshots.offer(self.mirror, made.clone());
                return Ok(made);
            }
            tokio::time::sleep(SOON).await;
        }
    }

    async fn send(
        &mut self,
        outgoing: &Arc<Outgoing>,
        file: &PinnedFile,
        pace: &mut Pace,
    ) -> Result<(), Status> {
        let head = File { name: file.name.clone(), octets: file.octets };
        self.say(from_primary::Message::File(head)).await?;
        let (mut at, mut crc) = self.agreed(outgoing, file).await?;
        if at == 0 {
            self.check(file).await;
        }
        let mut opened = {
            let (outgoing, file) = (outgoing.clone(), file.clone());
            blocking(move || outgoing.open(&file)).await?
        };
        while at < file.octets {
            let length = (file.octets - at).min(READ);
            let (back, mut data) = blocking(move || read(opened, at, length)).await?;
            opened = back;
            crc = crc32c::crc32c_append(crc, &data);
            while !data.is_empty() {
                let data = data.split_to(data.len().min(PART));
                let octets = data.len() as u64;
                pace.pause(octets).await;
                let piece = Piece { offset: at, crc: crc32c::crc32c(&data), data };
                self.say(from_primary::Message::Piece(piece)).await?;
                at += octets;
            }
        }
        self.say(from_primary::Message::FileEnd(FileEnd { crc })).await?;
        outgoing.note(file, crc);
        match self.source.in_time(next(self.inbound)).await? {
            from_mirror::Message::Received(_) => Ok(()),
            _ => Err(unexpected()),
        }
    }

    /// What is damaged here is not to be damaged there, too, where a third replica has it.
    async fn check(&self, file: &PinnedFile) {
        let Some(segment) = file.segment() else { return };
        let repairs = self.source.repairs.clone();
        if !matches!(blocking(move || repairs.check(segment)).await, Ok(true)) {
            tracing::error!(mirror = self.mirror, segment, "what is damaged in a segment is copied as it is");
        }
    }

    /// How much of the file the mirror has already, and its checksum: nothing, where it is not the same.
    async fn agreed(&mut self, outgoing: &Arc<Outgoing>, file: &PinnedFile) -> Result<(u64, u32), Status> {
        let Has { octets, crc } = loop {
            match self.source.in_time(next(self.inbound)).await? {
                from_mirror::Message::Has(has) => break has,
                // It reads what it has.
                from_mirror::Message::Received(_) => {}
                _ => return Err(unexpected()),
            }
        };
        if octets == 0 {
            return Ok((0, 0));
        }
        let guard = CancelOnDrop(Cancel::default());
        let (outgoing, file, cancel) = (outgoing.clone(), file.clone(), guard.0.clone());
        let rate = self.source.snapshots.rate.saturating_mul(READING);
        let same = blocking(move || outgoing.begins_with(&file, (octets, crc), (rate, &cancel))).await?;
        Ok(if same { (octets, crc) } else { (0, 0) })
    }

    /// A mirror that takes nothing is given up.
    async fn say(&self, message: from_primary::Message) -> Result<(), Status> {
        self.source.in_time(say(self.out, message)).await
    }
}

impl Source {
    /// Waits until the volume wants its room back.
    async fn runs_short(&self) -> Status {
        loop {
            tokio::time::sleep(LOOK).await;
            let (must_go, dir) = (self.snapshots.must_go.clone(), self.dir.clone());
            if machine::blocking(move || must_go(&dir)).await.unwrap_or(false) {
                return Status::resource_exhausted("the primary has no room for a snapshot beside its log");
            }
        }
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> Result<T, Status> {
    let done = machine::blocking(work).await;
    let failed = |error| Status::internal(format!("the snapshot cannot be made or read: {error}"));
    done.map_err(|_| Status::internal("making or reading the snapshot broke off"))?.map_err(failed)
}

fn read(file: Disk, at: u64, length: u64) -> std::io::Result<(Disk, Bytes)> {
    let mut data = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
    file.read_exact_at(&mut data, at)?;
    Ok((file, data.into()))
}

/// So many octets in a second, and no more at once when some time was lost.
struct Pace {
    rate: u64,
    free_at: Instant,
}

impl Pace {
    fn new(rate: u64) -> Self {
        Self { rate: rate.max(1), free_at: Instant::now() }
    }

    /// Waits until so many octets may go.
    async fn pause(&mut self, octets: u64) {
        tokio::time::sleep_until(self.free_at).await;
        let nanos = u128::from(octets) * 1_000_000_000 / u128::from(self.rate);
        let span = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        self.free_at = self.free_at.max(Instant::now()) + span;
    }
}

impl Copying<'_> {
    /// What is wrong is wrong on the next stream, too.
    pub(crate) fn stays(status: &Status) -> bool {
        use tonic::Code::{DataLoss, FailedPrecondition, Internal, ResourceExhausted};
        matches!(status.code(), DataLoss | FailedPrecondition | Internal | ResourceExhausted)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests;
