//! How many may ask other replicas at a time, and who is not asked again so soon.

use std::{
    collections::VecDeque,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use crate::{batch::Link, machine};

/// Repairs at a time: each may hold a batch in memory.
const AT_A_TIME: usize = 2;
/// How long one waits for its turn. What it wanted to read is damaged then, as it was.
const PATIENCE: Duration = Duration::from_secs(5);
/// After nobody has answered, nobody is asked for so long: readers must not wait for the dead one after the other.
const PAUSE: Duration = Duration::from_secs(5);
/// What nobody had is not asked for again for so long.
const IN_VAIN: Duration = Duration::from_secs(60);
/// So many of those are remembered.
const REMEMBERED: usize = 256;

#[derive(Default)]
struct State {
    busy: usize,
    in_vain: VecDeque<(Link, Moment)>,
    silent: Option<Moment>,
}

/// By the machine's clock.
#[derive(Clone, Copy)]
struct Moment(u64);

impl Moment {
    fn now() -> Self {
        Self(machine::boottime())
    }

    /// Has so much passed since?
    fn is_past(self, span: Duration) -> bool {
        let passed = machine::boottime().checked_sub(self.0);
        passed.is_none_or(|passed| u128::from(passed) >= span.as_millis())
    }
}

/// See above.
#[derive(Default)]
pub struct Turns {
    state: Mutex<State>,
    free: Condvar,
}

/// Somebody's turn, until it is dropped.
pub struct Turn<'a>(&'a Turns);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.lock().busy -= 1;
        self.0.free.notify_one();
    }
}

impl Turns {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a turn, not for long. `None` also while nobody is to be asked.
    pub fn enter(&self) -> Option<Turn<'_>> {
        let is_full = |state: &mut State| state.busy >= AT_A_TIME && !state.is_silent();
        let waited = self.free.wait_timeout_while(self.lock(), PATIENCE, is_full);
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        if state.busy >= AT_A_TIME || state.is_silent() {
            return None;
        }
        state.busy += 1;
        Some(Turn(self))
    }

    /// Was this asked for lately, and nobody had it?
    pub fn is_in_vain(&self, link: Link) -> bool {
        let mut state = self.lock();
        state.in_vain.retain(|(_, at)| !at.is_past(IN_VAIN));
        state.in_vain.iter().any(|(asked, _)| *asked == link)
    }

    /// Nobody had it.
    pub fn nowhere(&self, link: Link) {
        let mut state = self.lock();
        if state.in_vain.len() >= REMEMBERED {
            state.in_vain.pop_front();
        }
        state.in_vain.push_back((link, Moment::now()));
    }

    /// Nobody has answered.
    pub fn no_answer(&self) {
        self.lock().silent = Some(Moment::now());
        self.free.notify_all();
    }
}

impl State {
    fn is_silent(&self) -> bool {
        self.silent.is_some_and(|at| !at.is_past(PAUSE))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_at_a_time_and_nobody_waits_for_who_does_not_answer() {
        let turns = Turns::default();
        let (first, _second) = (turns.enter().unwrap(), turns.enter().unwrap());
        std::thread::scope(|scope| {
            let third = scope.spawn(|| turns.enter().is_some());
            drop(first);
            assert!(third.join().unwrap());
        });
        turns.no_answer();
        assert!(turns.enter().is_none());
    }

    #[test]
    fn what_nobody_had_is_remembered_and_not_without_end() {
        let turns = Turns::default();
        let link = |seq| Link { seq, ..Link::default() };
        turns.nowhere(link(0));
        assert!(turns.is_in_vain(link(0)) && !turns.is_in_vain(link(1)));
        (1..=REMEMBERED as u64).for_each(|seq| turns.nowhere(link(seq)));
        assert!(!turns.is_in_vain(link(0)) && turns.is_in_vain(link(1)));
        assert_eq!(turns.lock().in_vain.len(), REMEMBERED);
    }
}
