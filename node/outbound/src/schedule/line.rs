//! Which message is next.
//!
//! Each destination has a line for each priority, ordered by when its messages are due. Destinations of a priority
//! take turns, one message a turn; priorities take turns by their weights. So a destination that 50,000 messages wait
//! for holds up no other for longer than one message, the least priority gets one turn of thirteen, and within a line
//! nothing is overtaken by what became due later.
//!
//! A destination whose window is full, or that rests, or whose first message is not due, is in no turn: it is not even
//! looked at until that changes. No step looks at more than one waiting message; what it costs grows with the
//! logarithm of numbers of messages and destinations, which is that of a map's look-up.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    hash::Hash,
};

use super::{Window, WindowLimits};

/// How many priorities there are.
const CLASSES: usize = 3;
/// Turns of each priority in a round.
const WEIGHTS: [u32; CLASSES] = [8, 4, 1];

/// How soon a message goes, among others that are due.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Priority {
    /// Eight turns of thirteen.
    High,
    /// Four.
    Normal,
    /// One.
    Low,
}

/// Limits of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LineLimits {
    /// Attempts at once, to all destinations.
    pub attempts: usize,
    /// Those to one destination.
    pub window: WindowLimits,
}

impl Default for LineLimits {
    fn default() -> Self {
        Self { attempts: 100, window: WindowLimits::default() }
    }
}

/// A message to be tried now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job<K> {
    /// The message.
    pub key: K,
    /// Where it goes.
    pub destination: String,
}

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The message needs no further attempt (delivered, or given up) and the destination was reached.
    Done,
    /// The destination was reached, and the message is to be tried again then.
    Later(i64),
    /// The destination was not reached: the message keeps its place. `draw` is any number, drawn evenly.
    NotReached {
        /// Shortens the destination's rest.
        draw: u32,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Waiting,
    Trying,
    /// To be held, or gone, when the attempt ends.
    TryingLast {
        gone: bool,
    },
    Held,
}

#[derive(Debug, Clone)]
struct Entry {
    destination: u64,
    class: usize,
    /// Its place: when it is due, then in order of arrival.
    place: (i64, u64),
    state: State,
}

/// Where a destination's line of one priority is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seat {
    /// Nowhere: it is empty, or the window is full.
    None,
    /// In turn.
    Turn(u64),
    /// Asleep until then.
    Alarm(i64),
}

#[derive(Debug, Clone)]
struct Destination<K> {
    name: String,
    window: Window,
    lines: [BTreeMap<(i64, u64), K>; CLASSES],
    seats: [Seat; CLASSES],
    /// Messages that are here in any state.
    messages: usize,
}

/// All that waits. `K` names a message's way to one destination.
#[derive(Debug, Clone)]
pub struct Line<K> {
    limits: LineLimits,
    entries: HashMap<K, Entry>,
    names: HashMap<String, u64>,
    destinations: HashMap<u64, Destination<K>>,
    turns: [BTreeMap<u64, u64>; CLASSES],
    alarms: BTreeSet<(i64, u64, usize)>,
    credits: [u32; CLASSES],
    trying: usize,
    now: i64,
    count: u64,
    /// Lines and alarms looked at.
    #[cfg(test)]
    pub(super) looked: u64,
}

impl<K: Clone + Eq + Hash> Line<K> {
    /// An empty one.
    #[must_use]
    pub fn new(limits: LineLimits) -> Self {
        Self {
            limits,
            entries: HashMap::new(),
            names: HashMap::new(),
            destinations: HashMap::new(),
            turns: std::array::from_fn(|_| BTreeMap::new()),
            alarms: BTreeSet::new(),
            credits: WEIGHTS,
            trying: 0,
            now: i64::MIN,
            count: 0,
            #[cfg(test)]
            looked: 0,
        }
    }

    /// Messages that are here, in any state.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Is nothing here?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Destinations of what is here.
    #[must_use]
    pub fn destinations(&self) -> usize {
        self.destinations.len()
    }

    /// A destination's window, while there is mail for it.
    #[must_use]
    pub fn window(&self, destination: &str) -> Option<&Window> {
        self.names.get(destination).and_then(|id| self.destinations.get(id)).map(|found| &found.window)
    }

    /// Takes a message in; false when it is here already.
    pub fn add(&mut self, key: K, destination: &str, priority: Priority, due: i64) -> bool {
        if self.entries.contains_key(&key) {
            return false;
        }
        let id = self.destination_id(destination);
        let place = (due, self.next_count());
        let class = priority as usize;
        self.entries.insert(key.clone(), Entry { destination: id, class, place, state: State::Waiting });
        if let Some(found) = self.destinations.get_mut(&id) {
            found.messages += 1;
            found.lines[class].insert(place, key);
        }
        self.settle(id);
        true
    }

    /// The message to be tried next at `now`; it is then being tried until [`Self::ended`]. Nothing when none is due
    /// for a destination with room, or as many are being tried as may be.
    pub fn next(&mut self, now: i64) -> Option<Job<K>> {
        self.now = self.now.max(now);
        self.ring();
        if self.trying >= self.limits.attempts {
            return None;
        }
        let class = self.choose()?;
        let (turn, id) = self.turns[class].first_key_value().map(|(turn, id)| (*turn, *id))?;
        self.turns[class].remove(&turn);
        let found = self.destinations.get_mut(&id)?;
        found.seats[class] = Seat::None;
        let (_, key) = found.lines[class].pop_first()?;
        found.window.begin();
        let job = Job { key: key.clone(), destination: found.name.clone() };
        self.trying += 1;
        if let Some(entry) = self.entries.get_mut(&key) {
            entry.state = State::Trying;
        }
        self.settle(id);
        Some(job)
    }

    /// When [`Self::next`] might have something that it has not now, if nothing else happens.
    #[must_use]
    pub fn wakes_at(&self) -> Option<i64> {
        self.alarms.first().map(|(at, _, _)| *at)
    }

    /// An attempt ended. Nothing happens when the message is not being tried.
    pub fn ended(&mut self, key: &K, outcome: Outcome, now: i64) {
        self.now = self.now.max(now);
        let limits = self.limits.window;
        let Some(entry) = self.entries.get_mut(key) else { return };
        let id = entry.destination;
        let (stays, state) = match entry.state {
            State::Trying => (outcome != Outcome::Done, State::Waiting),
            State::TryingLast { gone } => (!gone && outcome != Outcome::Done, State::Held),
            State::Waiting | State::Held => return,
        };
        self.trying = self.trying.saturating_sub(1);
        if let Outcome::Later(due) = outcome {
            entry.place.0 = due;
        }
        entry.state = state;
        let (class, place) = (entry.class, entry.place);
        if let Some(found) = self.destinations.get_mut(&id) {
            match outcome {
                Outcome::Done | Outcome::Later(_) => found.window.reached(limits),
                Outcome::NotReached { draw } => found.window.failed(limits, self.now, draw),
            }
            if stays && state == State::Waiting {
                found.lines[class].insert(place, key.clone());
            }
            found.messages -= usize::from(!stays);
        }
        if !stays {
            self.entries.remove(key);
        }
        self.settle(id);
    }

    /// Stops a message, at once or when its attempt ends; false when it is not here.
    pub fn hold(&mut self, key: &K) -> bool {
        self.stop(key, false)
    }

    /// Takes a message out, at once or when its attempt ends; false when it is not here.
    pub fn remove(&mut self, key: &K) -> bool {
        self.stop(key, true)
    }

    /// Lets a held message go on: it is due at `now`. One that waits is due by then, too (flush, requeue). False when
    /// it is not here.
    pub fn release(&mut self, key: &K, now: i64) -> bool {
        let count = self.next_count();
        let Some(entry) = self.entries.get_mut(key) else { return false };
        let (id, class, old) = (entry.destination, entry.class, entry.place);
        match entry.state {
            State::Held => entry.place = (now, count),
            State::Waiting => entry.place.0 = old.0.min(now),
            State::TryingLast { gone: false } => entry.state = State::Trying,
            State::Trying | State::TryingLast { gone: true } => {}
        }
        if matches!(entry.state, State::Held | State::Waiting) {
            entry.state = State::Waiting;
            let place = entry.place;
            if let Some(found) = self.destinations.get_mut(&id) {
                found.lines[class].remove(&old);
                found.lines[class].insert(place, key.clone());
            }
        }
        self.settle(id);
        true
    }

    /// Ends the rest of all destinations. Costs as much as there are of them.
    pub fn wake(&mut self, now: i64) {
        self.now = self.now.max(now);
        let resting: Vec<u64> = self.destinations.keys().copied().collect();
        for id in resting {
            if let Some(found) = self.destinations.get_mut(&id) {
                found.window.wake();
            }
            self.settle(id);
        }
    }

    /// Ends a destination's rest, and makes all that waits for it due; what is held stays so. Costs as much as there is
    /// of it. Answers how many there are.
    pub fn flush(&mut self, destination: &str, now: i64) -> usize {
        let Some(id) = self.names.get(destination).copied() else { return 0 };
        let Some(found) = self.destinations.get_mut(&id) else { return 0 };
        found.window.wake();
        let mut flushed = 0;
        for line in &mut found.lines {
            flushed += line.len();
            let late = line.split_off(&(now, u64::MAX));
            for ((_, count), key) in late {
                if let Some(entry) = self.entries.get_mut(&key) {
                    entry.place = (now, count);
                }
                line.insert((now, count), key);
            }
        }
        self.settle(id);
        flushed
    }

    fn stop(&mut self, key: &K, gone: bool) -> bool {
        let Some(entry) = self.entries.get_mut(key) else { return false };
        let (id, class, place) = (entry.destination, entry.class, entry.place);
        let here = matches!(entry.state, State::Waiting | State::Held);
        entry.state = match entry.state {
            State::TryingLast { gone: true } => State::TryingLast { gone: true },
            State::Trying | State::TryingLast { .. } => State::TryingLast { gone },
            State::Waiting | State::Held => State::Held,
        };
        if here && let Some(found) = self.destinations.get_mut(&id) {
            found.lines[class].remove(&place);
            found.messages -= usize::from(gone);
        }
        if here && gone {
            self.entries.remove(key);
        }
        self.settle(id);
        true
    }

    fn destination_id(&mut self, name: &str) -> u64 {
        if let Some(id) = self.names.get(name) {
            return *id;
        }
        let id = self.next_count();
        self.names.insert(name.to_owned(), id);
        let fresh = Destination {
            name: name.to_owned(),
            window: Window::new(self.limits.window),
            lines: std::array::from_fn(|_| BTreeMap::new()),
            seats: [Seat::None; CLASSES],
            messages: 0,
        };
        self.destinations.insert(id, fresh);
        id
    }

    fn next_count(&mut self) -> u64 {
        self.count += 1;
        self.count
    }

    /// Wakes what the alarms were set for.
    fn ring(&mut self) {
        while let Some((_, id, _)) = self.alarms.first().copied().filter(|(at, _, _)| *at <= self.now) {
            self.settle(id);
        }
    }

    /// The priority whose turn it is, of those that have something.
    fn choose(&mut self) -> Option<usize> {
        let mut has = (0..CLASSES).filter(|class| !self.turns[*class].is_empty());
        let any = has.clone().next()?;
        let class = match has.find(|class| self.credits[*class] > 0) {
            Some(class) => class,
            None => {
                self.credits = WEIGHTS;
                any
            }
        };
        self.credits[class] = self.credits[class].saturating_sub(1);
        Some(class)
    }

    /// Puts a destination's lines where they belong after a change; forgets a destination that nothing is for. A line
    /// that stays in turn keeps its place in the round; one that was just served goes to the end.
    fn settle(&mut self, id: u64) {
        #[cfg(test)]
        {
            self.looked += 1;
        }
        let Some(found) = self.destinations.get(&id) else { return };
        let (now, window) = (self.now, found.window);
        let wanted: [Seat; CLASSES] = std::array::from_fn(|class| {
            let Some((due, _)) = found.lines[class].first_key_value().map(|(place, _)| *place) else {
                return Seat::None;
            };
            match window.rests_until(now) {
                _ if window.busy() >= window.size() => Seat::None,
                Some(until) => Seat::Alarm(until.max(due)),
                None if due > now => Seat::Alarm(due),
                None => Seat::Turn(0),
            }
        });
        for (class, seat) in wanted.into_iter().enumerate() {
            self.reseat(id, class, seat);
        }
        if self.destinations.get(&id).is_some_and(|found| found.messages == 0)
            && let Some(gone) = self.destinations.remove(&id)
        {
            self.names.remove(&gone.name);
        }
    }

    fn reseat(&mut self, id: u64, class: usize, wanted: Seat) {
        let count = self.next_count();
        let Some(found) = self.destinations.get_mut(&id) else { return };
        let old = found.seats[class];
        let new = match (old, wanted) {
            (Seat::Turn(turn), Seat::Turn(_)) => Seat::Turn(turn),
            (_, Seat::Turn(_)) => Seat::Turn(count),
            (_, other) => other,
        };
        found.seats[class] = new;
        if old == new {
            return;
        }
        match old {
            Seat::None => {}
            Seat::Turn(turn) => {
                self.turns[class].remove(&turn);
            }
            Seat::Alarm(at) => {
                self.alarms.remove(&(at, id, class));
            }
        }
        match new {
            Seat::None => {}
            Seat::Turn(turn) => {
                self.turns[class].insert(turn, id);
            }
            Seat::Alarm(at) => {
                self.alarms.insert((at, id, class));
            }
        }
    }
}
