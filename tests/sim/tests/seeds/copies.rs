//! Copies that are lost or damaged: disks that die, bits that flip, and the person who orders others in their places.

use mailcluster_arbiter::ReplicaState;
use mailcluster_store::testing::volume::Crash;

use crate::{net::Place, world::World};

/// The new copy's pod is there after so long.
const CLAIMED: u64 = 1_000;

/// What became of copies.
#[derive(Debug, Clone, Copy, Default)]
pub struct Copies {
    /// Bits that flipped, and batches of those that are whole again.
    pub flips: u64,
    pub mended: u64,
    /// Copies whose place another has.
    pub replaced: u64,
    /// Snapshots that were put in place.
    pub snapshots: u64,
    /// Damage that nobody can mend any more: one copy refuses to serve, or a record is damaged wherever it is.
    pub given_up: u64,
}

impl Copies {
    pub fn add(&mut self, other: &Self) {
        self.flips += other.flips;
        self.mended += other.mended;
        self.replaced += other.replaced;
        self.snapshots += other.snapshots;
        self.given_up += other.given_up;
    }
}

impl World {
    /// Is there another copy that has all that was acknowledged, by the Lease?
    fn is_spare(&self, place: Place, fits: impl Fn(Place) -> bool) -> bool {
        let Some((record, _)) = self.around.api.objects().lease else { return false };
        (0..self.nodes.len()).any(|other| {
            other != place
                && !self.lost.contains(&other)
                && record.in_sync.contains(&self.nodes[other].id())
                && fits(other)
        })
    }

    /// Bits flip in a copy that is not the last: also in records that are damaged in another, too.
    pub fn flip(&mut self, place: Place, bits: usize) {
        if self.lost.contains(&place) || !self.is_spare(place, |_| true) {
            return;
        }
        for _ in 0..bits {
            if let Some(batch) = self.nodes[place].volume.flip(&mut self.rng) {
                self.copies.flips += 1;
                self.ledger.hurt((batch.epoch, batch.first));
                self.tell(format!("a bit flips at {place}: {batch:?}"));
            }
        }
    }

    /// A disk dies, while another copy is whole. What its process has asked the API for just then dies with it: a set that it
    /// has left alone would be nobody's.
    pub fn lose(&mut self, place: Place) {
        let is_whole = |other: Place| !self.nodes[other].volume.is_hurt();
        if self.lost.contains(&place) || !self.is_spare(place, is_whole) {
            return;
        }
        self.tell(format!("the disk at {place} is lost"));
        self.crash(place, Crash::Power, 0);
        self.starts.remove(&place);
        self.around.api.gone(place);
        self.lost.insert(place);
    }

    /// Does this copy not come back: its disk is lost, or it refuses its damaged log?
    pub fn is_to_go(&self, place: Place) -> bool {
        let state = self.nodes[place].process.as_ref().map(|process| process.status.get().state);
        let is_refused = matches!(state, Some(ReplicaState::Refused(_)));
        let volume = &self.nodes[place].volume;
        // One that began with a snapshot cannot make its index anew, once that is not to be believed (decision 13).
        self.lost.contains(&place) || is_refused && (volume.is_hurt() || volume.snapshots() > 0)
    }

    /// Is there a copy that does not come back, or one that was never open? Without a Lease the one is not replaced and the
    /// other does not begin, and the operator's stand-in makes no Lease before both answer.
    pub fn lacks_a_copy(&self) -> bool {
        let opened = self.around.api.objects().opened;
        let is_new = |place: usize| !opened.contains(&self.nodes[place].id());
        (0..self.nodes.len()).any(|place| self.is_to_go(place) || is_new(place))
    }

    /// A person orders another copy, sooner or later, where one that answers has everything.
    pub fn mind_copies(&mut self) {
        let wanted = (0..self.nodes.len()).find(|place| {
            let answers = |other: Place| self.nodes[other].answers() && !self.is_to_go(other);
            self.is_to_go(*place) && self.is_spare(*place, answers)
        });
        if self.is_healed || self.rng.one_in(4) {
            self.operator.ordered = wanted;
        }
    }

    /// Another copy has the place, on an empty disk.
    pub fn replace(&mut self, place: Place) {
        self.tell(format!("another copy has the place {place}"));
        self.copies.snapshots += self.nodes[place].volume.snapshots();
        self.copies.replaced += 1;
        self.lost.remove(&place);
        self.nodes[place].replace();
        self.starts.insert(place, self.now + CLAIMED);
    }

    /// Is something damaged that no other copy has whole, or does nobody have everything who would serve? It is told then,
    /// by a copy that refuses to serve or is not fed.
    pub fn is_beyond_help(&self) -> bool {
        let Some((record, _)) = self.around.api.objects().lease else { return self.lacks_a_copy() };
        let serves =
            |place: &Place| record.in_sync.contains(&self.nodes[*place].id()) && !self.is_to_go(*place);
        let all = 0..self.nodes.len();
        !all.clone().any(|place| serves(&place)) || all.into_iter().any(|place| self.has_lost_for_good(place))
    }

    /// Is something damaged here that no other copy has whole in its segments?
    pub fn has_lost_for_good(&self, place: Place) -> bool {
        let (damaged, _) = self.nodes[place].volume.damaged();
        damaged.iter().any(|batch| {
            let has = |other: Place| self.nodes[other].volume.has_whole((batch.epoch, batch.first));
            !(0..self.nodes.len()).any(|other| other != place && !self.lost.contains(&other) && has(other))
        })
    }

    /// The figures, in the end.
    pub fn count_copies(&self) -> Copies {
        let mended = self.nodes.iter().map(|node| node.volume.damaged().1 as u64).sum();
        let snapshots: u64 = self.nodes.iter().map(|node| node.volume.snapshots()).sum();
        Copies { mended, snapshots: self.copies.snapshots + snapshots, ..self.copies }
    }
}
