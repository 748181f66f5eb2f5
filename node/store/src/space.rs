//! Room on the volume: what is kept free for expunges, flags and epochs.

use std::{
    path::{Path, PathBuf},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use crate::{error::OpenError, segment::SEGMENT_SIZE, volume};

const GIB: u64 = 1 << 30;
const MIB: u64 = 1 << 20;
/// How long an answer of the file system is believed; what is written meanwhile is counted.
const FRESH: Duration = Duration::from_secs(1);

/// No more is kept free, however large the volume is: it is for expunges, flags and epochs, some hundred octets each.
const MOST: u64 = 4 * GIB;

/// Octets kept free: two segments or 5 %, whichever is more, and 4 GiB at most. Below 1 GiB two segments of 64 MiB would
/// be all there is; there it is 5 % and at least 2 MiB.
pub fn reserve(total: u64) -> u64 {
    let share = (total / 20).min(MOST);
    if total < GIB { share.max(2 * MIB) } else { share.max(2 * SEGMENT_SIZE) }
}

/// A segment's size on a volume: 64 MiB, less on volumes that hold fewer than 32 of those.
pub fn segment_size(total: u64) -> u64 {
    (total / 32 / 4096 * 4096).clamp(MIB, SEGMENT_SIZE)
}

/// Where the figures come from.
pub trait Volume: Send + Sync {
    /// Free and total octets.
    fn measure(&self, dir: &Path) -> (u64, u64);

    /// Does its file system keep promises?
    ///
    /// # Errors
    /// [`OpenError::FileSystem`].
    fn check(&self, dir: &Path) -> Result<(), OpenError> {
        volume::check(dir)
    }
}

/// The volume itself.
#[derive(Debug, Clone, Copy, Default)]
pub struct RealVolume;

impl Volume for RealVolume {
    fn measure(&self, dir: &Path) -> (u64, u64) {
        match rustix::fs::statvfs(dir) {
            Ok(s) => (s.f_bavail.saturating_mul(s.f_frsize), s.f_blocks.saturating_mul(s.f_frsize)),
            Err(e) => {
                tracing::warn!(error = %e, "failed to ask the volume for its room");
                (0, 0)
            }
        }
    }
}

/// Free room, asked at most once a second.
pub struct Space {
    dir: PathBuf,
    volume: std::sync::Arc<dyn Volume>,
    last: Mutex<Option<(Instant, u64, u64)>>,
    written: AtomicU64,
    /// Octets reserved in the segment that is written: free to us, taken in the eyes of the file system.
    reserved: AtomicU64,
}

impl Space {
    pub fn new(dir: &Path, volume: std::sync::Arc<dyn Volume>) -> Self {
        Self {
            dir: dir.to_owned(),
            volume,
            last: Mutex::new(None),
            written: AtomicU64::new(0),
            reserved: AtomicU64::new(0),
        }
    }

    /// Free octets, and all.
    pub fn measure(&self) -> (u64, u64) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let (free, total) = match *last {
            Some((at, free, total)) if now.duration_since(at) < FRESH => (free, total),
            _ => {
                let (free, total) = self.volume.measure(&self.dir);
                let free = free + self.reserved.load(Ordering::Relaxed);
                self.written.store(0, Ordering::Relaxed);
                *last = Some((now, free, total));
                (free, total)
            }
        };
        (free.saturating_sub(self.written.load(Ordering::Relaxed)), total)
    }

    /// The same, asked now.
    pub fn measure_now(&self) -> (u64, u64) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.measure()
    }

    /// Would `size` octets leave the reserve untouched?
    pub fn has_room(&self, size: u64) -> bool {
        let fits = |(free, total): (u64, u64)| free.saturating_sub(reserve(total)) > size;
        // What was written meanwhile is counted generously: nothing is refused by that count alone.
        fits(self.measure()) || { fits(self.measure_now()) }
    }

    /// Counts what was written to the log (and, roughly, to the index).
    pub fn wrote(&self, octets: u64, reserved: u64) {
        self.written.fetch_add(octets + octets / 8 + 4096, Ordering::Relaxed);
        self.reserved.store(reserved, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Free(AtomicU64);

    impl Volume for Free {
        fn measure(&self, _: &Path) -> (u64, u64) {
            (self.0.load(Ordering::Relaxed), GIB)
        }
    }

    #[test]
    fn nothing_is_refused_that_has_room_and_what_is_full_stays_full() {
        let volume = std::sync::Arc::new(Free(AtomicU64::new(GIB / 2)));
        let space = Space::new(Path::new("/nowhere"), volume.clone());
        assert!(space.has_room(MIB));
        space.wrote(GIB / 2, 0);
        assert!(space.has_room(MIB), "the file system knows better");
        volume.0.store(reserve(GIB) + MIB, Ordering::Relaxed);
        space.wrote(GIB / 2, 0);
        assert!(!space.has_room(MIB) && !space.has_room(MIB) && space.has_room(MIB - 1));
    }

    #[test]
    fn the_reserve_fits_the_volume() {
        for (total, reserved, segment) in [
            (10 * MIB, 2 * MIB, MIB),
            (96 * MIB, 96 * MIB / 20, 3 * MIB),
            (GIB, 128 * MIB, 32 * MIB),
            (40 * GIB, 2 * GIB, 64 * MIB),
            (100 * GIB, 4 * GIB, 64 * MIB),
            (10_000 * GIB, 4 * GIB, 64 * MIB),
        ] {
            assert_eq!(reserve(total), reserved, "{total}");
            assert_eq!(segment_size(total), segment, "{total}");
        }
    }
}
