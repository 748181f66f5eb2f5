//! The roles of a node in Kubernetes: what they share.

mod admin_port;
pub mod backend;
mod channel;
pub mod directory;
pub mod frontend;
mod grpc;
mod heard;
mod mirrors;
mod pod;
mod providers;
mod routes;
mod store_pod;
mod token_review;
