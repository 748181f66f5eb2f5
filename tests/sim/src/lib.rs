//! A mirrored store in a simulated world: two or three replicas, each the real lifecycle, store and streams in a runtime of
//! its own, on one thread, over a simulated network, disk, clock and API. All that it is made of is in `tests/seeds`.
//!
//! `cargo test -p mailcluster-sim` plays some seeds; `MAILCLUSTER_LONG=1` plays thousands. A failure says its seed and what
//! happened; `MAILCLUSTER_SIM_SEED=n` plays that one again, `MAILCLUSTER_SIM_LOG=info` with what the replicas log,
//! `MAILCLUSTER_SIM_SEEDS=n` so many, `MAILCLUSTER_SIM_FIRST=n` others.
//!
//! What it notices, taken out by hand, one at a time:
//! - the wait for the mirrors' confirmations (a record is committed as soon as the primary has synced it): every seed, within
//!   its first second, by I2;
//! - the sync before a mirror confirms: every seed, within its first second, by I2;
//! - syncs that are said to be done and are not, on all disks: `syncs_that_do_nothing_are_noticed` plays that each time.
//!
//! What it found: a replica that settles said less of its volume than it had promised, and a Lease that was deleted just then
//! was made anew below its epoch (seeds 116 and 151 at that time, with a Lease deleted between takeover and service).
//!
//! Not looked at: I4 in indexes before the end (only that the commit never falls), I10, forced promotions, snapshots, disks that
//! are replaced, bits that flip. An epoch that is not promised is not noticed reliably: the volume that a candidate has taken
//! out of its mirrors' reach, and the commit that a mirror knows, cover for it in nearly all schedules. The model's rule
//! for it is in `tests/model`.
