//! A lease that is good until a test says otherwise.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use mailcluster_types::{Epoch, Seq};

#[derive(Default)]
pub struct Latch {
    shut: AtomicBool,
    refused: AtomicUsize,
}

impl Latch {
    pub fn shut(&self, shut: bool) {
        self.shut.store(shut, Ordering::SeqCst);
    }

    /// How often somebody was refused.
    pub fn refused(&self) -> usize {
        self.refused.load(Ordering::SeqCst)
    }

    fn is_good(&self) -> bool {
        let is_good = !self.shut.load(Ordering::SeqCst);
        self.refused.fetch_add(usize::from(!is_good), Ordering::SeqCst);
        is_good
    }
}

impl mailcluster_store::Gate for Latch {
    fn may_acknowledge(&self, _: Epoch, _: Seq) -> bool {
        self.is_good()
    }
    fn may_read(&self) -> bool {
        self.is_good()
    }
    fn may_write(&self) -> bool {
        self.is_good()
    }
    fn poisoned(&self) {}
}
