//! A mirrored store in a simulated world: two or three replicas, each the real lifecycle, store and streams in a runtime of
//! its own, on one thread, over a simulated network, disk, clock and API. All that it is made of is in `tests/seeds`.
//!
//! `cargo test -p mailcluster-sim` plays some seeds; `MAILCLUSTER_LONG=1` plays thousands. A failure says its seed and what
//! happened; `MAILCLUSTER_SIM_SEED=n` plays that one again, `MAILCLUSTER_SIM_LOG=info` with what the replicas log,
//! `MAILCLUSTER_SIM_SEEDS=n` so many, `MAILCLUSTER_SIM_FIRST=n` others.
