//! What goes wrong, drawn from the seed.

use std::{fmt, sync::atomic::Ordering, time::Duration};

use mailcluster_store::testing::{
    Rng,
    volume::{Crash, Syncs},
};

use crate::{net::Place, world::World};

/// One thing that goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// A process, or its machine's power, ends; it starts again after so long.
    Ends(Place, Crash, u64),
    /// The same of the process that holds the Lease.
    HolderEnds(Crash, u64),
    /// The holder is cut off until another has its place, and is not told: see [`World::depose`].
    Deposed,
    /// A process is asked to end, and starts again.
    Stops(Place),
    /// A process stands still.
    Freezes(Place),
    /// Cut off from everything.
    CutOff(Place),
    /// Nothing arrives on the way from the first to the second.
    OneWay(Place, Place),
    /// Two replicas do not reach each other.
    Between(Place, Place),
    /// One does not reach the API.
    NoApi(Place),
    /// Frontends do not reach one.
    NoFrontends(Place),
    /// Connections between two break.
    Breaks(Place, Place),
    /// Octets are on their way for up to so many milliseconds.
    SlowNet(u64),
    /// Requests to the API and its answers get lost, or come late.
    BadApi,
    /// The API is away.
    ApiAway,
    /// One sync fails.
    SyncFails(Place),
    /// All syncs fail.
    SyncsFail(Place),
    /// A disk is full.
    Full(Place),
    /// There is little room on a disk.
    Short(Place),
    /// Bits of records that are synced flip.
    Flips(Place, usize),
    /// A disk is lost: its copy has to be replaced.
    DiskDies(Place),
    /// F12: each sync takes so many milliseconds.
    SlowDisk(Place, u64),
    /// F34: a clock jumps ahead.
    ClockJumps(Place, u64),
    /// Somebody deletes the Lease.
    LeaseDeleted,
    /// A person wants the store there.
    Wanted(Place),
    /// The operator is away.
    NoOperator,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl Fault {
    /// The next one, and for how long it lasts.
    pub fn draw(rng: &mut Rng, replicas: usize, clocks_jump: bool) -> (Self, u64) {
        let (a, step) = (rng.below(replicas), 1 + rng.below(replicas - 1));
        let b = (a + step) % replicas;
        let mut span = |most: usize| 100 + u64::try_from(rng.below(most)).unwrap();
        let long = span(9_000);
        let short = span(3_000);
        let fault = match rng.below(53) {
            0..6 => Self::Ends(a, Crash::Process, short),
            6..11 => Self::Ends(a, Crash::Power, long),
            11..13 => Self::Stops(a),
            13..17 => Self::Freezes(a),
            17..20 => Self::CutOff(a),
            20..22 => Self::OneWay(a, b),
            22..24 => Self::Between(a, b),
            24..26 => Self::NoApi(a),
            26 => Self::NoFrontends(a),
            27 => Self::Breaks(a, b),
            28 => Self::SlowNet(20 + u64::try_from(rng.below(600)).unwrap()),
            29 => Self::BadApi,
            30 => Self::ApiAway,
            31 => Self::SyncFails(a),
            32 => Self::SyncsFail(a),
            33 => Self::Full(a),
            34..36 => Self::SlowDisk(a, 5 + u64::try_from(rng.below(900)).unwrap()),
            36 if clocks_jump => Self::ClockJumps(a, short * 8),
            37 if rng.one_in(3) => Self::LeaseDeleted,
            38 => Self::Wanted(a),
            39 => Self::NoOperator,
            40..42 => Self::HolderEnds(Crash::Power, short),
            42 => Self::HolderEnds(Crash::Process, short),
            43..46 => Self::Deposed,
            46..48 => Self::Short(a),
            48..51 => Self::Flips(a, 1 + rng.below(4)),
            51..53 => Self::DiskDies(a),
            _ => Self::Breaks(a, b),
        };
        (fault, long)
    }

    /// It happens once.
    pub fn strike(self, world: &mut World) {
        match self {
            Self::Ends(place, how, after) => world.crash(place, how, after),
            Self::HolderEnds(how, after) => {
                if let Some(place) = world.holder() {
                    world.crash(place, how, after);
                }
            }
            Self::Deposed => world.depose(),
            Self::Stops(place) => {
                if let Some(process) = &world.nodes[place].process {
                    process.ask_to_end();
                }
            }
            Self::Breaks(a, b) => world.around.net.break_between(a, b),
            Self::SyncFails(place) => world.fail(place, |faults| faults.syncs = Syncs::FailOnce),
            Self::SyncsFail(place) => world.fail(place, |faults| faults.syncs = Syncs::Fail),
            Self::ClockJumps(place, ahead) => world.nodes[place].jump(ahead),
            Self::Flips(place, bits) => world.flip(place, bits),
            Self::DiskDies(place) => world.lose(place),
            Self::LeaseDeleted => {
                // A store that was never known has none to lose; one that lacks a copy gets none before a person has helped.
                if !world.lacks_a_copy() && world.around.api.objects().serving.is_some() {
                    world.around.api.delete_lease();
                }
            }
            Self::Wanted(place) => world.operator.wanted = Some(place),
            Self::Freezes(_)
            | Self::CutOff(_)
            | Self::OneWay(..)
            | Self::Between(..)
            | Self::NoApi(_)
            | Self::NoFrontends(_)
            | Self::SlowNet(_)
            | Self::BadApi
            | Self::ApiAway
            | Self::Full(_)
            | Self::Short(_)
            | Self::SlowDisk(..)
            | Self::NoOperator => {}
        }
    }

    /// It lasts until then.
    pub fn last(self, world: &mut World, until: u64) {
        let (net, api) = (world.around.net.clone(), world.around.api.clone());
        let replicas = world.nodes.len();
        match self {
            Self::Freezes(place) => world.nodes[place].frozen = Some(until),
            Self::CutOff(place) => {
                for other in (0..replicas).filter(|other| *other != place) {
                    net.cut(place, other);
                    net.cut(other, place);
                }
                api.cut(place);
                world.nodes[place].is_cut.store(true, Ordering::Relaxed);
            }
            Self::OneWay(a, b) => net.cut(a, b),
            Self::Between(a, b) => {
                net.cut(a, b);
                net.cut(b, a);
            }
            Self::NoApi(place) => api.cut(place),
            Self::NoFrontends(place) => world.nodes[place].is_cut.store(true, Ordering::Relaxed),
            Self::SlowNet(most) => net.set_latency(most),
            Self::BadApi => api.set_weather(4, 1_500),
            Self::ApiAway => api.set_down(true),
            Self::Full(place) => world.fail(place, |faults| faults.is_full = true),
            Self::Short(place) => world.fail(place, |faults| faults.is_short = true),
            Self::SlowDisk(place, each) => {
                world.fail(place, |faults| faults.slow = Duration::from_millis(each));
            }
            Self::NoOperator => world.operator.is_away = true,
            _ => {}
        }
    }
}
