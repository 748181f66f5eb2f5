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
//! - the checksum of a text that is read (`Place::verify`): in 5 of some 40 seeds, as another text;
//! - reading a log from behind damage (`LogReader::pass_over`): seeds 51 and 54, by I11;
//! - syncs that are said to be done and are not, on all disks: `syncs_that_do_nothing_are_noticed` plays that each time.
//!
//! What it found:
//! - a replica that settles said less of its volume than it had promised, and a Lease that was deleted just then was made anew
//!   below its epoch (seeds 116 and 151 at that time, with a Lease deleted between takeover and service);
//! - a primary with a damaged header in a segment could feed no mirror that needed what comes behind it there, and, when it had
//!   just taken the store, not begin to serve (seeds 54 and 51 at that time, by I11).
//! - a Lease that was deleted while a new copy had the place of a lost one, and was not open yet, was never made anew: the
//!   operator waited for that copy's account of its volume, and the copy for a Lease (seeds 220 and 278 at that time). The
//!   operator's stand-in here still asks every copy, so seeds delete no Lease then.
//!
//! Copies are hurt and lost, too: bits of synced records flip, disks die, and a person has others take their places
//! (`copies.rs`). Nothing is struck that is the last of the in-sync set, but the same record may be damaged in several copies. What
//! is damaged has to be mended wherever another copy has it in a segment, or to be told; another text is never right. Seeds in
//! which nobody can help any more are counted as given up, and must be few. Copies that were away where a volume is short of room,
//! and new ones, take snapshots.
//!
//! Not looked at: I4 in indexes before the end (only that the commit never falls), I10, forced promotions, bits that flip in
//! packs, indexes, superblocks and headers of segments, snapshots from or to disks whose syncs fail. An epoch that is not
//! promised is not noticed reliably: the volume that a candidate has taken
//! out of its mirrors' reach, and the commit that a mirror knows, cover for it in nearly all schedules. The model's rule
//! for it is in `tests/model`.
