//! One round: what is most dead is given back.

use std::{collections::HashSet, fs, path::PathBuf, time::Instant};

use mailcluster_types::Seq;
use rusqlite::Connection;

use super::{
    Chore, Halt, Reclaimed,
    memory::Memory,
    pace::Pace,
    packing::{self, Packing},
    policy::{self, Bounds, Room},
    survey::{self, Use},
    whose::Whose,
};
use crate::{
    engine::Engine,
    mirrors::Claim,
    schema::{self, State},
    segment,
};

/// Gives back what a round takes; nothing when there is nothing that is worth it.
pub fn run(pace: &Pace<'_>, memory: &mut Memory) -> Result<Reclaimed, Halt> {
    pace.go_on()?;
    memory.check_index()?;
    let parts = pace.parts;
    let conn = schema::open_reader(&parts.dir)?;
    let log = Engine::log_dir(&parts.dir);
    let mut round = Round { pace, conn, log, memory, done: Reclaimed::default() };
    let state = State::load(&round.conn)?;
    let room = policy::room(parts.space.measure());
    let claim = round.claim()?;
    let now = (state.link.seq, room, claim);
    if claim == Claim::All || round.memory.nothing_at == Some(now) {
        return Ok(Reclaimed::default());
    }
    let victims = round.choose(&state, (room, claim))?;
    if victims.is_empty() {
        round.memory.nothing_at = Some(now);
        return Ok(Reclaimed::default());
    }
    let outcome = round.give_back(&state, victims);
    let done = round.done;
    parts.stats.packed(done.packed);
    // What was given back before something failed is given back all the same; a later round meets that again.
    if outcome.is_err() && done.files > 0 {
        tracing::info!(
            files = done.files,
            removed = done.removed,
            "some room of expunged mail was given back"
        );
    }
    outcome.map(|()| done)
}

/// Where the log has no more gaps when these are gone.
fn contiguous_from(segments: &[(Seq, u64)], victims: &[Use]) -> Seq {
    let newest = victims.iter().map(|file| file.number).filter(|number| !segment::is_pack(*number)).max();
    let next =
        segments.iter().map(|(first, _)| *first).find(|first| newest.is_some_and(|newest| *first > newest));
    next.unwrap_or(0)
}

/// Those that there is room for.
fn affordable(victims: Vec<Use>, measure: (u64, u64)) -> Result<Vec<Use>, Halt> {
    let mut needed = 0;
    let wanted = victims.len();
    let fits = |file: &Use| {
        let with = needed + file.live;
        let fits = policy::has_room(measure, with);
        if fits {
            needed = with;
        }
        fits
    };
    let fitting: Vec<Use> = victims.into_iter().filter(fits).collect();
    if fitting.is_empty() && wanted > 0 { Err(Halt::NoRoom) } else { Ok(fitting) }
}

struct Round<'a> {
    pace: &'a Pace<'a>,
    conn: Connection,
    log: PathBuf,
    memory: &'a mut Memory,
    done: Reclaimed,
}

impl Round<'_> {
    /// What other replicas may want. One may come, or fall behind, at any time: this is asked again before each step that
    /// cannot be taken back.
    fn claim(&self) -> Result<Claim, Halt> {
        let parts = self.pace.parts;
        let me = parts.identity.replica.to_bytes();
        let said = parts.hands.claim(policy::room(parts.space.measure()));
        Ok(policy::claim(&schema::in_sync(&self.conn)?, &me, said))
    }

    /// Does nobody want anything of these files?
    fn must_be_unclaimed(&self, mut numbers: impl Iterator<Item = u64>) -> Result<(), Halt> {
        let claim = self.claim()?;
        let before = policy::unclaimed(&segment::list(&self.log)?, claim);
        let may_go = |number: u64| segment::is_pack(number) || number < before;
        if claim != Claim::All && numbers.all(may_go) { Ok(()) } else { Err(Halt::Wanted) }
    }

    /// Looks at what there is, and makes a base where that is worth it.
    fn choose(&mut self, state: &State, (room, claim): (Room, Claim)) -> Result<Vec<Use>, Halt> {
        let (pace, parts) = (self.pace, self.pace.parts);
        let files = self.memory.known(survey::files(&self.conn, &self.log, &|| pace.go_on())?);
        let live = files.iter().map(|f| f.live.min(f.size)).sum();
        parts.stats.surveyed(live, files.iter().map(Use::dead).sum());
        let segments = survey::segments(&self.log)?;
        let total = if parts.is_eager { 0 } else { parts.space.measure().1 };
        let keep = policy::retained(parts.segment_size, total);
        let firsts: Vec<Seq> = segments.iter().map(|(first, _)| *first).collect();
        let retained = policy::first_retained(&segments, keep);
        let before = policy::before(&firsts, Bounds { index: state.segment, retained, claim });
        let base = self.memory.base(pace, (&files, before), room)?;
        Ok(policy::victims(&files, before.min(base), room))
    }

    fn give_back(&mut self, state: &State, victims: Vec<Use>) -> Result<(), Halt> {
        // What is wholly dead first: it needs no room, and what the rest meets does not keep it.
        let (dead, rest): (Vec<Use>, Vec<Use>) = victims.into_iter().partition(|file| file.rows == 0);
        self.note(&dead)?;
        if !self.remove(&dead)? || rest.is_empty() {
            return Ok(());
        }
        let rest = affordable(rest, self.pace.parts.space.measure_now())?;
        self.note(&rest)?;
        self.memory.last = self.memory.last.max(state.link.seq);
        self.keep(&rest)?;
        self.remove(&rest)?;
        Ok(())
    }

    /// Before anything is removed or points into a pack: a version that knows of none must not open this volume any more,
    /// and nobody follow its log from before.
    fn note(&self, victims: &[Use]) -> Result<(), Halt> {
        if victims.is_empty() {
            return Ok(());
        }
        self.must_be_unclaimed(victims.iter().map(|file| file.number))?;
        self.pace.ask(Chore::ContiguousFrom(contiguous_from(&survey::segments(&self.log)?, victims)))
    }

    /// Puts what is needed of these files into packs, and has the index point there.
    fn keep(&mut self, victims: &[Use]) -> Result<(), Halt> {
        self.must_be_unclaimed(victims.iter().map(|file| file.number))?;
        let pace = self.pace;
        let go_on = || pace.go_on();
        let rows = packing::rows(&self.conn, victims, &go_on)?;
        let wanted: HashSet<u64> = rows.values().flatten().map(|row| row.id).collect();
        let mut whose = Whose::read(&self.conn, &wanted, &go_on)?;
        let mut packing = Packing::new(pace, &self.log);
        let mut fill = || {
            for file in victims {
                let rows = rows.get(&file.number).map_or(&[][..], Vec::as_slice);
                packing.add_file(self.memory, file.number, (rows, &mut whose))?;
            }
            packing.end(self.memory)
        };
        let filled = fill();
        self.done.packed += packing.packed;
        if filled.is_err() {
            packing.give_up();
        }
        filled
    }

    /// Removes those of these files that nothing refers to any more. Answers whether it could: not while somebody reads who
    /// began before.
    fn remove(&mut self, files: &[Use]) -> Result<bool, Halt> {
        if files.is_empty() {
            return Ok(true);
        }
        let (pace, parts) = (self.pace, self.pace.parts);
        let numbers: HashSet<u64> = files.iter().map(|file| file.number).collect();
        let needed = survey::needed(&self.conn, &numbers, &|| pace.go_on())?;
        pace.sync_index()?;
        parts.pool.turn();
        pace.sleep_until(Instant::now() + parts.patience, || !parts.pool.has_views_of_before())?;
        if parts.pool.has_views_of_before() {
            tracing::warn!("a reader has held the store's state for long: what is dead is removed later");
            return Ok(false);
        }
        for number in files.iter().map(|file| file.number).filter(|number| !needed.contains(number)) {
            pace.go_on()?;
            self.must_be_unclaimed(std::iter::once(number))?;
            self.remove_file(number)?;
        }
        pace.sync_names(&self.log)?;
        Ok(true)
    }

    fn remove_file(&mut self, number: u64) -> Result<(), Halt> {
        let parts = self.pace.parts;
        let path = segment::path(&self.log, number);
        let octets = fs::metadata(&path)?.len();
        parts.disk.remove(&path)?;
        parts.pool.files().forget(number);
        parts.stats.gave_back(octets);
        self.done.files += 1;
        self.done.removed += octets;
        Ok(())
    }
}
