//! Connections from frontends (and backends that hand mail off) to the backends that serve the stores: routes,
//! the opening header, refusals that tell a newer epoch, and what can be reached.

mod accept;
mod backends;
mod reach;
mod refusal;
mod routes;

pub use accept::{Admission, Admitted, BackendPort, Serving};
pub use backends::{BackendPorts, RemoteBackends};
pub use reach::Reach;
pub use refusal::Refusal;
pub use routes::RouteTable;
