//! The machine under the lab: what it must have, where files are kept on it, its programs and cgroups.

pub mod cgroup;
pub mod command;
pub mod paths;
pub mod preflight;
