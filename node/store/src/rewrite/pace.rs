//! What a round may do now, and how fast; and what it asks of others.

use std::{
    io,
    path::Path,
    sync::{Arc, PoisonError},
    time::{Duration, Instant},
};

use super::{Chore, Halt, Parts, Signal, hands::Hands, policy};

/// What a round works with.
pub struct Pace<'a> {
    pub parts: &'a Parts,
    pub signal: &'a Arc<Signal>,
}

/// Knows whether a round is to stop.
pub struct Stopper {
    signal: Arc<Signal>,
    hands: Arc<dyn Hands>,
}

impl Stopper {
    pub fn is_asked(&self) -> bool {
        self.signal.asked.lock().unwrap_or_else(PoisonError::into_inner).stop || !self.hands.may_write()
    }
}

impl Pace<'_> {
    /// Is the store still to be served, and may its volume be written?
    pub fn go_on(&self) -> Result<(), Halt> {
        if self.stopper().is_asked() { Err(Halt::Stopped) } else { Ok(()) }
    }

    /// The same, for those who may not borrow it.
    pub fn stopper(&self) -> Stopper {
        Stopper { signal: self.signal.clone(), hands: self.parts.hands.clone() }
    }

    /// The same, for those who read files.
    pub fn still(&self) -> io::Result<()> {
        self.go_on().map_err(io::Error::other)
    }

    /// Is there still room for so many octets? Asked of the volume itself: others write to it, too.
    pub fn has_room(&self, octets: u64) -> Result<(), Halt> {
        let has_room = policy::has_room(self.parts.space.measure_now(), octets);
        if has_room { Ok(()) } else { Err(Halt::NoRoom) }
    }

    /// Sleeps as long as so many octets may take.
    pub fn wrote(&self, octets: u64, commits_before: u64) -> Result<(), Halt> {
        let room = policy::room(self.parts.space.measure());
        let is_busy = self.parts.stats.commits() != commits_before;
        let rate = policy::octets_per_second(room, is_busy);
        let until = Instant::now() + Duration::from_micros(octets.saturating_mul(1_000_000) / rate);
        self.sleep_until(until, || false)
    }

    /// Sleeps until then, or until `is_done`; at once no more when the store stops.
    pub fn sleep_until(&self, until: Instant, is_done: impl Fn() -> bool) -> Result<(), Halt> {
        const LOOK: Duration = Duration::from_millis(20);
        loop {
            self.go_on()?;
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() || is_done() {
                return Ok(());
            }
            let asked = self.signal.asked.lock().unwrap_or_else(PoisonError::into_inner);
            if !asked.stop {
                drop(self.signal.wake.wait_timeout(asked, left.min(LOOK)));
            }
        }
    }

    /// Has something done between two batches.
    pub fn ask(&self, chore: Chore) -> Result<(), Halt> {
        self.go_on()?;
        self.parts.hands.take(chore).ok_or(Halt::Stopped)?.map_err(Halt::Committer)
    }

    /// Makes all that was committed to the index durable: what is not in its write-ahead log any more, a checkpoint has
    /// synced. (The index's own file is left alone: closing it here would give up the locks that SQLite has on it.)
    pub fn sync_index(&self) -> Result<(), Halt> {
        self.go_on()?;
        let [_, log, _] = crate::schema::file_paths(&self.parts.dir);
        match self.parts.disk.open(&log) {
            Ok(mut file) => file.sync().map_err(Halt::NotSynced)?,
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            // Nothing was asked of the disk yet: another round may do better.
            Err(e) => return Err(e.into()),
        }
        self.sync_names(&self.parts.dir)
    }

    /// Makes names durable. Those of others are among them, who may never be told that they are lost.
    pub fn sync_names(&self, dir: &Path) -> Result<(), Halt> {
        self.go_on()?;
        self.parts.disk.sync_dir(dir).map_err(|e| if never_began(&e) { e.into() } else { Halt::NotSynced(e) })
    }
}

/// Was a directory not even opened, so that nothing was asked of the disk? No sync fails like this.
fn never_began(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let errno = error.raw_os_error();
    [Errno::MFILE, Errno::NFILE, Errno::NOENT, Errno::ACCESS].iter().any(|e| errno == Some(e.raw_os_error()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_never_began_is_no_failed_sync() {
        for (errno, never) in
            [(24, true), (23, true), (2, true), (13, true), (5, false), (28, false), (30, false)]
        {
            assert_eq!(never_began(&io::Error::from_raw_os_error(errno)), never, "{errno}");
        }
        assert!(!never_began(&io::Error::other("?")));
    }
}
