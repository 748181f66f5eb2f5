//! The gRPC services between the parts of a mail cluster, generated from `proto/*.proto`: one module for each
//! package, so `mailcluster.directory.v1` is [`directory::v1`]. A new proto file needs no change here.

#[allow(
    missing_docs,
    clippy::all,
    clippy::pedantic,
    clippy::unwrap_used,
    clippy::too_many_lines,
    reason = "generated; the proto files carry the documentation"
)]
mod generated {
    include!(concat!(env!("OUT_DIR"), "/generated.rs"));
}

pub mod audience;
mod secret;

pub use generated::mailcluster::*;
