//! Which faults are made, in which order and for how long: decided by the seed alone.
//!
//! What a mode promises to survive bounds what may be broken at once. `preferred`: one copy of two, so never both nodes
//! of a store within one recovery - after the first the other alone has what was acknowledged. `required`: two of three
//! have everything; a second loss stops writes and loses nothing, but nobody promises that service goes on. `single`: a
//! lost node must be fenced and its stores moved before the next is lost, and their volumes are reached from two nodes
//! only. So there is one fault on nodes, disks and processes of stores at a time, in each mode, and a recovery behind it. What holds no
//! mail (the operator's leader, a frontend) may be lost beside it.

use std::time::Duration;

use super::{dice::Dice, mode::Mode};

/// A kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// SIGKILL of a copy's processes. Its kubelet starts them again, and lets one that is killed often wait, up to minutes;
    /// such a pod is made anew, counted and told (see `held_back`), so that a recovery shows the cluster's time and not the
    /// kubelet's.
    Kill,
    /// SIGSTOP of a copy, and SIGCONT.
    Pause,
    /// `kubectl delete pod`.
    DeletePod,
    /// A node is cut off.
    Partition,
    /// A node is not heard any more.
    Mute,
    /// A node hears nothing any more.
    Deaf,
    /// A node does not reach the API.
    CutApi,
    /// The copies of a store do not reach each other.
    CutMirrors,
    /// No frontend reaches the copy.
    CutFrontends,
    /// A node is cut off and connected again, every two seconds.
    Flap,
    /// A node has no power.
    PowerOff,
    /// A copy's disk is full.
    FillDisk,
    /// No API server.
    ApiDown,
    /// One of two API servers is dead.
    OneApiDown,
    /// `kubectl delete lease`.
    DeleteLease,
    /// The operator's leader is deleted.
    DeleteLeader,
    /// A copy is killed, and the leader when it notices.
    LeaderMidFailover,
    /// A frontend is frozen.
    PauseFrontend,
    /// `kubectl mailcluster failover`.
    HandOver,
}

/// Which copy of a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// The one that serves.
    Primary,
    /// Another.
    Mirror,
}

/// One fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Planned {
    /// Which.
    pub kind: Kind,
    /// The store that it is aimed at.
    pub store: String,
    /// The copy of it, or that copy's node.
    pub role: Role,
    /// For how long.
    pub hold: Duration,
    /// Quiet time before it.
    pub calm: Duration,
    /// The operator's leader is deleted with it.
    pub with_leader: bool,
}

/// Of how many faults in a hundred and so many each kind is, and how long each lasts at least and at most (s).
const WEIGHTS: [(Kind, usize, (u64, u64)); 19] = [
    (Kind::Kill, 10, (0, 0)),
    (Kind::Pause, 12, (4, 25)),
    (Kind::DeletePod, 8, (0, 0)),
    (Kind::Partition, 12, (8, 30)),
    (Kind::Mute, 5, (8, 25)),
    (Kind::Deaf, 5, (8, 25)),
    (Kind::CutApi, 6, (8, 30)),
    (Kind::CutMirrors, 6, (5, 25)),
    (Kind::CutFrontends, 6, (5, 25)),
    (Kind::Flap, 4, (12, 24)),
    (Kind::PowerOff, 12, (5, 25)),
    (Kind::FillDisk, 5, (8, 20)),
    (Kind::ApiDown, 5, (10, 30)),
    (Kind::OneApiDown, 3, (10, 20)),
    (Kind::DeleteLease, 5, (0, 0)),
    (Kind::DeleteLeader, 3, (0, 0)),
    (Kind::LeaderMidFailover, 5, (5, 10)),
    (Kind::PauseFrontend, 4, (5, 20)),
    (Kind::HandOver, 8, (0, 0)),
];

impl Kind {
    /// Its name in reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Pause => "pause",
            Self::DeletePod => "delete-pod",
            Self::Partition => "partition",
            Self::Mute => "mute",
            Self::Deaf => "deaf",
            Self::CutApi => "cut-api",
            Self::CutMirrors => "cut-mirrors",
            Self::CutFrontends => "cut-frontends",
            Self::Flap => "flap",
            Self::PowerOff => "power-off",
            Self::FillDisk => "fill-disk",
            Self::ApiDown => "api-down",
            Self::OneApiDown => "one-api-down",
            Self::DeleteLease => "delete-lease",
            Self::DeleteLeader => "delete-leader",
            Self::LeaderMidFailover => "leader-mid-failover",
            Self::PauseFrontend => "pause-frontend",
            Self::HandOver => "hand-over",
        }
    }

    /// The kind of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        WEIGHTS.iter().map(|(kind, ..)| *kind).find(|kind| kind.name() == name)
    }

    fn is_of(self, mode: Mode) -> bool {
        self != Self::CutMirrors || mode != Mode::Single
    }

    /// May the operator's leader go with it? Without an API nobody could delete it.
    fn bears_loss_of_leader(self) -> bool {
        !matches!(self, Self::ApiDown | Self::DeleteLeader | Self::LeaderMidFailover)
    }
}

/// The faults of a run; more than fit into its minutes. The same arguments give the same faults. `only`: of these kinds;
/// of all when it is empty.
#[must_use]
pub fn schedule(seed: u64, mode: Mode, minutes: u64, stores: &[String], only: &[Kind]) -> Vec<Planned> {
    let mut dice = Dice::new(seed, 0);
    let wanted = |kind: Kind| kind.is_of(mode) && (only.is_empty() || only.contains(&kind));
    let kinds: Vec<_> = WEIGHTS.into_iter().filter(|(kind, ..)| wanted(*kind)).collect();
    let total: usize = kinds.iter().map(|(_, weight, _)| weight).sum();
    let count = usize::try_from(minutes.saturating_mul(6)).unwrap_or(usize::MAX).clamp(6, 10_000);
    let mut planned = Vec::with_capacity(count);
    while planned.len() < count {
        let mut drawn = dice.below(total);
        let found = kinds.iter().find(|(_, weight, _)| {
            let here = drawn < *weight;
            drawn = drawn.saturating_sub(*weight);
            here
        });
        let (Some((kind, _, (shortest, longest))), Some(store)) = (found, dice.pick(stores)) else { break };
        let (hold, calm) = (dice.between(*shortest, *longest), dice.between(1, 6));
        let (mirror, with_leader) = (dice.chance(35), dice.chance(10));
        planned.push(Planned {
            kind: *kind,
            store: store.clone(),
            role: if mirror && mode != Mode::Single { Role::Mirror } else { Role::Primary },
            hold: Duration::from_secs(hold),
            calm: Duration::from_secs(calm),
            with_leader: with_leader && kind.bears_loss_of_leader(),
        });
    }
    planned
}

impl std::fmt::Display for Planned {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let role = if self.role == Role::Primary { "primary" } else { "mirror" };
        write!(out, "{} {} {role} for {} s", self.kind.name(), self.store, self.hold.as_secs())?;
        if self.with_leader { write!(out, ", with the operator's leader") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn stores() -> Vec<String> {
        ["a-0", "a-1", "a-directory"].map(str::to_owned).to_vec()
    }

    #[test]
    fn the_same_seed_gives_the_same_faults_and_another_others() {
        for mode in [Mode::Single, Mode::Preferred, Mode::Required] {
            let one = schedule(7, mode, 10, &stores(), &[]);
            assert_eq!(one, schedule(7, mode, 10, &stores(), &[]));
            assert_ne!(one, schedule(8, mode, 10, &stores(), &[]));
            assert_eq!(one.len(), 60);
        }
    }

    #[test]
    fn every_kind_and_store_comes_and_ends() {
        let all = schedule(1, Mode::Preferred, 200, &stores(), &[]);
        let kinds: BTreeSet<_> = all.iter().map(|planned| planned.kind).collect();
        assert_eq!(kinds.len(), WEIGHTS.len());
        assert_eq!(all.iter().map(|planned| &planned.store).collect::<BTreeSet<_>>().len(), 3);
        assert!(all.iter().any(|p| p.role == Role::Mirror) && all.iter().any(|p| p.with_leader));
        // What is healed later than this could be done after the model has given it up.
        let bound = super::super::model::LATE / 3;
        assert!(all.iter().all(|planned| planned.hold < bound), "every fault is healed soon");
    }

    #[test]
    fn a_single_copy_has_no_mirrors() {
        let all = schedule(1, Mode::Single, 200, &stores(), &[]);
        assert!(all.iter().all(|p| p.role == Role::Primary && p.kind != Kind::CutMirrors));
    }

    #[test]
    fn without_an_api_no_leader_is_deleted() {
        let all = schedule(3, Mode::Required, 400, &stores(), &[]);
        assert!(all.iter().filter(|p| p.kind == Kind::ApiDown).all(|p| !p.with_leader));
        assert!(schedule(3, Mode::Required, 400, &[], &[]).is_empty());
    }

    #[test]
    fn only_what_is_wanted_comes() {
        let only = [Kind::Kill, Kind::CutMirrors];
        let kinds = |mode| {
            let all = schedule(5, mode, 20, &stores(), &only);
            all.iter().map(|planned| planned.kind).collect::<BTreeSet<_>>()
        };
        assert_eq!(kinds(Mode::Preferred), only.into());
        assert_eq!(kinds(Mode::Single), [Kind::Kill].into());
    }

    #[test]
    fn kinds_are_named() {
        for (kind, ..) in WEIGHTS {
            assert_eq!(Kind::named(kind.name()), Some(kind));
        }
    }
}
