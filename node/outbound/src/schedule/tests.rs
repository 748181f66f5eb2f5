use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const HOUR: i64 = 3600;

#[test]
fn pauses_double_up_to_the_limit_and_a_draw_shortens_them() {
    let backoff = Backoff { first: 300, limit: 4000 };
    for (attempts, whole) in [
        (0, 300),
        (1, 300),
        (2, 600),
        (3, 1200),
        (4, 2400),
        (5, 4000),
        (6, 4000),
        (64, 4000),
        (u32::MAX, 4000),
    ] {
        assert_eq!(backoff.pause(attempts, 0), whole);
        let shortest = backoff.pause(attempts, u32::MAX);
        assert!(shortest >= whole - whole / 4 && shortest < whole, "{attempts}: {shortest}");
    }
    let odd = Backoff { first: 0, limit: 0 };
    assert_eq!(odd.pause(3, u32::MAX), 1, "there is always a pause");
}

#[test]
fn mail_is_tried_told_of_and_given_up() {
    let life = Lifetime::default();
    let tried = Wait { attempts: 3, next_attempt: 10 * HOUR, ..Wait::default() };
    let noticed = Wait { noticed: true, ..tried };
    for (wait, null_sender, now, fate) in [
        (Wait::default(), false, 0, Fate::Due),
        (tried, false, HOUR, Fate::Later(4 * HOUR)),
        (tried, false, 4 * HOUR, Fate::Notice),
        (noticed, false, 4 * HOUR, Fate::Later(10 * HOUR)),
        (noticed, false, 10 * HOUR, Fate::Due),
        // Nobody is told of a report's delay, nor of one that no destination has caused.
        (tried, true, 4 * HOUR, Fate::Later(10 * HOUR)),
        (Wait { attempts: 0, ..tried }, false, 4 * HOUR, Fate::Later(10 * HOUR)),
        (noticed, false, 5 * 24 * HOUR - 1, Fate::Due),
        (noticed, false, 5 * 24 * HOUR, Fate::Expired),
        (tried, false, 5 * 24 * HOUR, Fate::Expired),
        (tried, true, 24 * HOUR - 1, Fate::Due),
        (tried, true, 24 * HOUR, Fate::Expired),
        // The end is not slept through.
        (Wait { next_attempt: 30 * HOUR, ..tried }, true, HOUR, Fate::Later(24 * HOUR)),
        (tried.hold(), false, 99 * 24 * HOUR, Fate::Held),
    ] {
        assert_eq!(wait.fate(life, 0, null_sender, now), fate, "{wait:?} at {now}");
    }
    assert_eq!(tried.fate(life, i64::MAX, false, 0), Fate::Later(10 * HOUR), "a clock that jumped");
}

#[test]
fn what_administrators_do_to_waiting_mail() {
    let wait = Wait { attempts: 7, next_attempt: 1000, held: false, noticed: true };
    let held = Wait { held: true, ..wait };
    for (name, found, expected) in [
        ("hold", wait.hold(), held),
        ("release what is not held", wait.release(50), wait),
        ("release", held.release(50), Wait { held: false, next_attempt: 50, ..wait }),
        ("flush", wait.flush(50), Wait { next_attempt: 50, ..wait }),
        ("flush what is due", wait.flush(2000), wait),
        ("flush what is held", held.flush(50), held),
        ("requeue", held.requeue(50), Wait { attempts: 0, next_attempt: 50, held: false, noticed: true }),
        (
            "attempt",
            wait.attempted(Backoff::default(), 50, 0),
            Wait { attempts: 8, next_attempt: 4050, ..wait },
        ),
    ] {
        assert_eq!(found, expected, "{name}");
    }
}

fn limits() -> WindowLimits {
    WindowLimits { first: 5, most: 8, rest: Backoff { first: 60, limit: 4000 } }
}

/// Ends `count` attempts that are all begun first.
fn attempts(window: &mut Window, count: u32, reached: bool, now: i64) {
    (0..count).for_each(|_| window.begin());
    for _ in 0..count {
        if reached { window.reached(limits()) } else { window.failed(limits(), now, 0) }
    }
}

#[test]
fn a_window_grows_while_it_is_used_and_shrinks_with_failures() {
    let mut window = Window::new(limits());
    assert_eq!(window.size(), 5);
    for _ in 0..100 {
        attempts(&mut window, 1, true, 0);
    }
    assert_eq!(window.size(), 5, "one at a time needs no more");
    let mut grew = Vec::new();
    for _ in 0..40 {
        let size = window.size();
        (0..size).for_each(|_| window.begin());
        assert!(!window.has_room(0));
        for _ in 0..size {
            window.reached(limits());
            window.begin();
        }
        (0..size).for_each(|_| window.end());
        grew.push(window.size() - size);
    }
    assert!(grew.iter().all(|by| *by <= 1), "by one in a round: {grew:?}");
    assert_eq!(window.size(), 8);
    attempts(&mut window, 1, false, 0);
    assert_eq!((window.size(), window.rests_until(0)), (7, None), "one failure kills nothing");
    attempts(&mut window, 1, true, 0);
    for _ in 0..50 {
        attempts(&mut window, 1, false, 0);
        attempts(&mut window, 1, true, 0);
    }
    assert_eq!((window.size(), window.rests_until(0)), (2, None), "failures between successes");
}

#[test]
fn a_dead_destination_costs_a_handful_of_attempts_and_comes_back_with_one() {
    let mut window = Window::new(limits());
    let mut tried = 0;
    while window.has_room(0) && tried < 100 {
        attempts(&mut window, 1, false, 0);
        tried += 1;
    }
    assert!((2..=5).contains(&tried), "{tried}");
    assert_eq!(window.rests_until(0), Some(60));
    assert!(!window.has_room(59) && window.has_room(60));
    // One probe, one failure: a longer rest.
    attempts(&mut window, 1, false, 60);
    assert_eq!(window.rests_until(60), Some(60 + 120));
    // What was begun before says nothing new.
    attempts(&mut window, 1, false, 70);
    assert_eq!(window.rests_until(70), Some(180));
    window.wake();
    assert!(window.has_room(70));
    window.begin();
    assert!(!window.has_room(70), "one probe at a time");
    window.reached(limits());
    assert!(window.has_room(70) && window.size() >= 1);
    attempts(&mut window, 1, true, 70);
    for _ in 0..10 {
        if window.has_room(80) {
            attempts(&mut window, 1, false, 80);
        }
    }
    assert_eq!(window.rests_until(80), Some(140), "rests begin anew after a success");
}

fn line(attempts: usize) -> Line<u32> {
    Line::new(LineLimits { attempts, window: limits() })
}

/// What is tried, one at a time, each of which ends with success at once.
fn served(line: &mut Line<u32>, now: i64, most: usize) -> Vec<u32> {
    let mut keys = Vec::new();
    while keys.len() < most
        && let Some(job) = line.next(now)
    {
        line.ended(&job.key, Outcome::Done, now);
        keys.push(job.key);
    }
    keys
}

#[test]
fn fifty_thousand_messages_hold_up_nobody_else() {
    let mut line = line(100);
    for key in 0..50_000 {
        assert!(line.add(key, "big.example", Priority::Normal, 0));
    }
    line.add(50_000, "small.example", Priority::Normal, 0);
    line.add(50_001, "other.example", Priority::Normal, 0);
    let first = served(&mut line, 0, 6);
    assert_eq!(first, [0, 50_000, 50_001, 1, 2, 3], "one turn each");
    // Even when all attempts at it hang, they are no more than its window.
    let hanging: Vec<_> = std::iter::from_fn(|| line.next(0)).collect();
    assert_eq!(hanging.len(), 5);
    line.add(60_000, "late.example", Priority::Low, 0);
    assert_eq!(line.next(0).map(|job| job.key), Some(60_000));
}

#[test]
fn what_keeps_coming_for_a_destination_does_not_cost_it_its_turn() {
    let mut line = line(100);
    for key in 0..10 {
        line.add(key, ["busy.example", "other.example"][key as usize % 2], Priority::Normal, 0);
    }
    let mut keys = Vec::new();
    for fresh in 100..110 {
        line.add(fresh, "busy.example", Priority::Normal, 0);
        keys.extend(served(&mut line, 0, 1));
    }
    assert_eq!(keys, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
}

#[test]
fn a_step_costs_the_same_with_ten_messages_and_with_fifty_thousand() {
    let cost = |waiting: u32| {
        let mut line = line(100);
        for key in 0..waiting {
            line.add(key, "big.example", Priority::Normal, 0);
        }
        line.looked = 0;
        let mut costs = Vec::new();
        let mut count = |line: &mut Line<u32>| costs.push(std::mem::take(&mut line.looked));
        line.add(90_000, "big.example", Priority::High, 5);
        count(&mut line);
        let job = line.next(6).unwrap();
        count(&mut line);
        line.ended(&job.key, Outcome::Later(99), 6);
        count(&mut line);
        line.hold(&5);
        count(&mut line);
        line.release(&5, 7);
        count(&mut line);
        line.remove(&5);
        count(&mut line);
        while let Some(job) = line.next(7).filter(|job| job.key < 8) {
            line.ended(&job.key, Outcome::NotReached { draw: 0 }, 7);
        }
        count(&mut line);
        assert_eq!(line.next(8), None);
        count(&mut line);
        assert!(line.next(67).is_some());
        count(&mut line);
        costs
    };
    assert_eq!(cost(10), cost(50_000));
}

#[test]
fn priorities_take_turns_by_weight_and_the_least_is_not_starved() {
    let mut line = line(100);
    for key in 0..300 {
        let priority = [Priority::Low, Priority::Normal, Priority::High][key as usize % 3];
        line.add(key, "a.example", priority, 0);
    }
    let keys = served(&mut line, 0, 39);
    let count = |rest: u32| keys.iter().filter(|key| *key % 3 == rest).count();
    assert_eq!((count(2), count(1), count(0)), (24, 12, 3));
    assert_eq!(served(&mut line, 0, 1000).len(), 300 - 39);
    assert!(line.is_empty() && line.destinations() == 0);
}

#[test]
fn nothing_is_tried_before_it_is_due_and_what_was_due_first_goes_first() {
    let mut line = line(100);
    line.add(1, "a.example", Priority::Normal, 20);
    line.add(2, "a.example", Priority::Normal, 10);
    line.add(3, "b.example", Priority::Normal, 30);
    assert!(!line.add(3, "c.example", Priority::High, 0), "it is here already");
    assert_eq!((line.next(9), line.wakes_at()), (None, Some(10)));
    assert_eq!(served(&mut line, 20, 9), [2, 1]);
    assert_eq!((line.next(29), line.wakes_at()), (None, Some(30)));
    assert_eq!(served(&mut line, 30, 9), [3]);
    assert_eq!(line.wakes_at(), None);
    // A message that is put off gives way to those that are due.
    line.add(4, "a.example", Priority::Normal, 40);
    line.add(5, "a.example", Priority::Normal, 41);
    let job = line.next(50).unwrap();
    line.ended(&job.key, Outcome::Later(60), 50);
    assert_eq!(served(&mut line, 50, 9), [5]);
    assert_eq!(served(&mut line, 60, 9), [4]);
}

#[test]
fn mail_for_a_destination_that_is_not_reached_keeps_its_place_and_waits() {
    let mut line = line(100);
    for key in 0..100 {
        line.add(key, "dead.example", Priority::Normal, 0);
    }
    line.add(100, "alive.example", Priority::Normal, 0);
    let mut tried = Vec::new();
    while tried.len() < 1000
        && let Some(job) = line.next(0)
    {
        let outcome = if job.key == 100 { Outcome::Done } else { Outcome::NotReached { draw: 0 } };
        line.ended(&job.key, outcome, 0);
        tried.push(job.key);
    }
    assert!(
        tried.len() <= 6 && tried.contains(&100),
        "a hundred messages are not a hundred attempts: {tried:?}"
    );
    assert_eq!(line.wakes_at(), Some(60));
    let job = line.next(60).unwrap();
    assert_eq!((job.key, line.next(60)), (0, None), "one probe, the first of the line");
    line.ended(&0, Outcome::Done, 60);
    for _ in 0..10 {
        let Some(job) = line.next(60) else { break };
        assert_eq!(job.key, 1);
        line.ended(&job.key, Outcome::NotReached { draw: 0 }, 60);
    }
    assert_eq!(line.next(61), None);
    assert_eq!(line.flush("dead.example", 61), 99);
    assert!(line.next(61).is_some(), "an administrator who says that it is back is believed");
    assert_eq!(line.flush("nobody.example", 61), 0);
}

#[test]
fn all_that_rest_can_be_woken() {
    let mut line = line(100);
    for (key, destination) in (0..).zip(["a.example", "a.example", "b.example", "b.example"]) {
        line.add(key, destination, Priority::Normal, 0);
    }
    while let Some(job) = line.next(0) {
        line.ended(&job.key, Outcome::NotReached { draw: 0 }, 0);
    }
    assert_eq!(line.next(1), None, "both rest");
    line.wake(1);
    let mut woken: Vec<String> = (0..2).filter_map(|_| line.next(1)).map(|job| job.destination).collect();
    woken.sort();
    assert_eq!(woken, ["a.example", "b.example"]);
}

#[test]
fn held_and_removed_mail_is_not_tried_also_when_it_was_being_tried() {
    let mut line = line(100);
    for key in 0..6 {
        line.add(key, "a.example", Priority::Normal, 0);
    }
    assert!(line.hold(&0) && line.remove(&1) && !line.hold(&99) && !line.release(&99, 0));
    let trying: Vec<u32> = (0..3).filter_map(|_| line.next(0)).map(|job| job.key).collect();
    assert_eq!(trying, [2, 3, 4]);
    assert!(line.hold(&2) && line.remove(&3) && line.hold(&4) && line.release(&4, 0));
    for key in trying {
        line.ended(&key, Outcome::Later(1), 0);
        line.ended(&key, Outcome::Later(1), 0);
    }
    assert_eq!(served(&mut line, 10, 9), [5, 4]);
    assert_eq!(line.len(), 2, "two are held");
    assert!(line.release(&2, 10) && line.release(&0, 10));
    assert_eq!(served(&mut line, 10, 9), [2, 0]);
    assert!(line.is_empty());
    line.add(7, "a.example", Priority::Normal, 100);
    line.add(8, "a.example", Priority::Normal, 200);
    assert!(line.release(&8, 11), "to try one now");
    assert_eq!(served(&mut line, 11, 9), [8]);
    assert_eq!(line.flush("a.example", 12), 1);
    assert_eq!(served(&mut line, 12, 9), [7]);
}

#[test]
fn no_more_is_tried_at_once_than_may_be() {
    let mut line = line(3);
    for key in 0..10 {
        line.add(key, &format!("d{key}.example"), Priority::Normal, 0);
    }
    let trying: Vec<_> = std::iter::from_fn(|| line.next(0)).collect();
    assert_eq!(trying.len(), 3);
    line.ended(&trying[0].key, Outcome::Done, 0);
    assert!(line.next(0).is_some() && line.next(0).is_none());
}

#[derive(Debug, Clone)]
enum Step {
    Add(u32, u8, u8, i64),
    Next,
    End(usize, u8),
    Hold(u32),
    Release(u32),
    Remove(u32),
    Flush(u8),
    Pass(i64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0u32..60, 0u8..4, 0u8..3, 0i64..200).prop_map(|(k, d, p, t)| Step::Add(k, d, p, t)),
        8 => Just(Step::Next),
        6 => (any::<usize>(), 0u8..4).prop_map(|(n, o)| Step::End(n, o)),
        1 => (0u32..60).prop_map(Step::Hold),
        1 => (0u32..60).prop_map(Step::Release),
        1 => (0u32..60).prop_map(Step::Remove),
        1 => (0u8..4).prop_map(Step::Flush),
        2 => (0i64..100).prop_map(Step::Pass),
    ]
}

/// What the line should know: destination, priority and state of each message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Known {
    Waiting(i64),
    Trying,
    Held,
    TryingHeld,
    TryingGone,
}

#[derive(Default)]
struct Model {
    now: i64,
    known: BTreeMap<u32, (u8, u8, Known)>,
    dues: BTreeMap<u32, i64>,
}

fn name(destination: u8) -> String {
    format!("d{destination}.example")
}

fn priority(class: u8) -> Priority {
    [Priority::High, Priority::Normal, Priority::Low][usize::from(class) % 3]
}

impl Model {
    /// The messages that may be tried now, found by looking at all of them.
    fn eligible(&self, line: &Line<u32>) -> Vec<u32> {
        let due = |known: &Known| matches!(known, Known::Waiting(due) if *due <= self.now);
        let room = |d: u8| line.window(&name(d)).is_some_and(|window| window.has_room(self.now));
        self.known.iter().filter(|(_, (d, _, known))| due(known) && room(*d)).map(|(key, _)| *key).collect()
    }

    fn trying(&self) -> Vec<u32> {
        let tried = |known: &Known| matches!(known, Known::Trying | Known::TryingHeld | Known::TryingGone);
        self.known.iter().filter(|(_, (_, _, known))| tried(known)).map(|(key, _)| *key).collect()
    }

    fn next(&mut self, line: &mut Line<u32>, capacity: usize) {
        let full = self.trying().len() >= capacity;
        // Rooms are asked for at the line's time.
        let eligible = if full { Vec::new() } else { self.eligible(line) };
        let job = line.next(self.now);
        assert_eq!(job.is_some(), !eligible.is_empty(), "{:?}", self.known);
        let Some(job) = job else { return };
        assert!(eligible.contains(&job.key), "{job:?}");
        let (d, class, _) = self.known[&job.key];
        assert_eq!(job.destination, name(d));
        let first = self.known.iter().filter(|(_, (d2, c2, _))| (*d2, *c2) == (d, class));
        let earlier = first
            .filter_map(|(_, (_, _, known))| if let Known::Waiting(due) = known { Some(*due) } else { None });
        assert_eq!(earlier.min(), Some(self.dues[&job.key]), "nothing is overtaken in its line");
        self.known.insert(job.key, (d, class, Known::Trying));
    }

    fn end(&mut self, line: &mut Line<u32>, (which, how): (usize, u8)) {
        let trying = self.trying();
        if trying.is_empty() {
            return;
        }
        let key = trying[which % trying.len()];
        let (d, class, known) = self.known[&key];
        let (outcome, due) = match how {
            0 => (Outcome::NotReached { draw: 7 }, Some(self.dues[&key])),
            1 => (Outcome::Later(self.now + 30), Some(self.now + 30)),
            _ => (Outcome::Done, None),
        };
        line.ended(&key, outcome, self.now);
        match (due, known) {
            (None, _) | (_, Known::TryingGone) => {
                self.known.remove(&key);
            }
            (Some(due), Known::TryingHeld) => {
                self.dues.insert(key, due);
                self.known.insert(key, (d, class, Known::Held));
            }
            (Some(due), _) => {
                self.dues.insert(key, due);
                self.known.insert(key, (d, class, Known::Waiting(due)));
            }
        }
    }

    fn administer(&mut self, line: &mut Line<u32>, step: &Step) {
        let (Step::Hold(key) | Step::Release(key) | Step::Remove(key)) = step else { return };
        let found = match step {
            Step::Hold(_) => line.hold(key),
            Step::Release(_) => line.release(key, self.now),
            _ => line.remove(key),
        };
        assert_eq!(found, self.known.contains_key(key));
        let Some((d, class, known)) = self.known.get(key).copied() else { return };
        let new = match (step, known) {
            (_, Known::TryingGone) => Known::TryingGone,
            (Step::Hold(_), Known::Waiting(_) | Known::Held) => Known::Held,
            (Step::Hold(_), _) => Known::TryingHeld,
            (Step::Release(_), Known::Waiting(due)) => Known::Waiting(due.min(self.now)),
            (Step::Release(_), Known::Held) => Known::Waiting(self.now),
            (Step::Release(_), _) => Known::Trying,
            (_, Known::Waiting(_) | Known::Held) => {
                self.known.remove(key);
                return;
            }
            _ => Known::TryingGone,
        };
        if let Known::Waiting(due) = new {
            self.dues.insert(*key, due);
        }
        self.known.insert(*key, (d, class, new));
    }

    fn flush(&mut self, line: &mut Line<u32>, destination: u8) {
        line.flush(&name(destination), self.now);
        for (key, (_, _, known)) in self.known.iter_mut().filter(|(_, (d, _, _))| *d == destination) {
            if let Known::Waiting(due) = known {
                *due = (*due).min(self.now);
                self.dues.insert(*key, *due);
            }
        }
    }
}

proptest! {
    /// After any steps: a message is tried exactly when looking at all of them finds one that may be, it is the first
    /// of its line, and once all is let go, all of it is served, each once.
    #[test]
    fn the_line_does_what_looking_at_everything_would(steps in prop::collection::vec(step(), 0..200)) {
        let capacity = 6;
        let mut line = line(capacity);
        let mut model = Model::default();
        for step in &steps {
            match step {
                Step::Add(key, d, class, due) => {
                    let fresh = line.add(*key, &name(*d), priority(*class), *due);
                    prop_assert_eq!(fresh, !model.known.contains_key(key));
                    if fresh {
                        model.known.insert(*key, (*d, *class, Known::Waiting(*due)));
                        model.dues.insert(*key, *due);
                    }
                }
                Step::Next => model.next(&mut line, capacity),
                Step::End(which, how) => model.end(&mut line, (*which, *how)),
                Step::Flush(d) => model.flush(&mut line, *d),
                Step::Pass(seconds) => model.now += seconds,
                other => model.administer(&mut line, other),
            }
            prop_assert_eq!(line.len(), model.known.len());
        }
        let held: Vec<u32> = model.known.keys().copied().collect();
        for key in held {
            model.administer(&mut line, &Step::Release(key));
        }
        for _ in 0..2000 {
            model.next(&mut line, capacity);
            model.end(&mut line, (0, 2));
            if model.eligible(&line).is_empty() && model.trying().is_empty() {
                model.now = line.wakes_at().map_or(model.now, |at| at.max(model.now));
            }
        }
        prop_assert!(line.is_empty() && line.destinations() == 0, "{} left", line.len());
    }

    /// Between two turns of one destination each other destination that waits all the time has exactly one.
    #[test]
    fn destinations_take_turns(waiting in prop::collection::vec(1u32..40, 2..8)) {
        let mut line = line(100);
        let mut left = waiting.clone();
        let mut key = 0;
        for (destination, count) in waiting.iter().enumerate() {
            for _ in 0..*count {
                line.add(key, &format!("{destination}"), Priority::Normal, 0);
                key += 1;
            }
        }
        let mut round = Vec::new();
        while let Some(job) = line.next(0) {
            let destination: usize = job.destination.parse().unwrap();
            line.ended(&job.key, Outcome::Done, 0);
            left[destination] -= 1;
            prop_assert!(!round.contains(&destination), "{destination} goes before others had their turn");
            round.push(destination);
            if (0..left.len()).all(|other| round.contains(&other) || left[other] == 0) {
                round.clear();
            }
        }
        prop_assert!(left.iter().all(|count| *count == 0));
    }
}
