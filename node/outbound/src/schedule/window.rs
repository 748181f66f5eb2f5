//! How many connections a destination gets at once: feedback as in Postfix's scheduler (its SCHEDULER_README).
//!
//! - A window of `n` grows by one for each `n` attempts that reached the destination: by its own size about once in a
//!   round, so that it doubles no faster than the destination answers. It grows only while it is used.
//! - It shrinks by one for each attempt that did not reach it.
//! - A failure counts 1/n of a cohort. When a whole cohort has failed with nothing between, the destination is taken
//!   for dead: nothing is tried for a pause, that doubles each time. So one lost connection of twenty kills nothing,
//!   and a destination that is down costs a handful of attempts and not one for each message.
//! - It comes back with a window of one: the first message is the probe, and one failure is a whole cohort.
//!
//! Only what is about the destination counts: that no host could be connected to, or none would talk. A refused or
//! lost message is not, or one message that breaks a server would stop all others.

use super::Backoff;

/// A whole cohort.
const COHORT: u32 = 1000;

/// A window's limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WindowLimits {
    /// At first.
    pub first: u32,
    /// At most.
    pub most: u32,
    /// How long a dead destination is left alone.
    pub rest: Backoff,
}

impl Default for WindowLimits {
    fn default() -> Self {
        Self { first: 5, most: 20, rest: Backoff { first: 60, limit: 4000 } }
    }
}

/// A destination's connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    size: u32,
    busy: u32,
    /// Attempts that reached it since the window grew.
    reached: u32,
    /// How much of a cohort has failed since something reached it.
    failed: u32,
    /// How often it was taken for dead since something reached it.
    deaths: u32,
    rests_until: Option<i64>,
}

impl Window {
    /// Of a destination that nothing is known of.
    #[must_use]
    pub fn new(limits: WindowLimits) -> Self {
        let size = limits.first.clamp(1, limits.most.max(1));
        Self { size, busy: 0, reached: 0, failed: 0, deaths: 0, rests_until: None }
    }

    /// How many attempts there may be at once.
    #[must_use]
    pub fn size(&self) -> u32 {
        self.size
    }

    /// How many there are.
    #[must_use]
    pub fn busy(&self) -> u32 {
        self.busy
    }

    /// Taken for dead at `now`: until when.
    #[must_use]
    pub fn rests_until(&self, now: i64) -> Option<i64> {
        self.rests_until.filter(|until| *until > now)
    }

    /// May another attempt begin at `now`?
    #[must_use]
    pub fn has_room(&self, now: i64) -> bool {
        self.busy < self.size && self.rests_until(now).is_none()
    }

    /// An attempt begins.
    pub fn begin(&mut self) {
        self.busy = self.busy.saturating_add(1);
    }

    /// An attempt ended that says nothing of the destination.
    pub fn end(&mut self) {
        self.busy = self.busy.saturating_sub(1);
    }

    /// An attempt ended that reached the destination, whatever it said.
    pub fn reached(&mut self, limits: WindowLimits) {
        let used = self.busy >= self.size;
        self.end();
        (self.failed, self.deaths, self.rests_until) = (0, 0, None);
        self.reached = if used { self.reached + 1 } else { 0 };
        if self.reached >= self.size {
            self.reached = 0;
            self.size = (self.size + 1).min(limits.most.max(1));
        }
    }

    /// An attempt ended that did not reach it. `draw` is any number, drawn evenly.
    pub fn failed(&mut self, limits: WindowLimits, now: i64, draw: u32) {
        self.end();
        self.reached = 0;
        if self.rests_until(now).is_some() {
            // It was begun before the others had failed, and says nothing new.
            return;
        }
        self.failed += COHORT.div_ceil(self.size);
        self.size = (self.size - 1).max(1);
        if self.failed >= COHORT {
            self.deaths = self.deaths.saturating_add(1);
            self.rests_until = Some(now.saturating_add(limits.rest.pause(self.deaths, draw)));
            (self.failed, self.size) = (0, 1);
        }
    }

    /// Somebody says that it is back: it is tried at once.
    pub fn wake(&mut self) {
        self.rests_until = None;
    }
}
