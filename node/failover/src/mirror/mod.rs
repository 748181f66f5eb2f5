//! What a store with several replicas rests on: where two logs part, what is committed, who counts, who may join.

mod claim;
mod commit;
mod lend;
mod log;
mod members;
mod probation;
mod session;

pub use claim::{ClaimView, Other, wanted_from};
pub use commit::{Confirmations, InSync};
pub use lend::{AskView, LendView, askable, may_lend};
pub use log::{EpochEntry, LogShape, fork};
pub use members::{Change, Member, MembersView, change, is_isolated};
pub use probation::Probation;
pub use session::{
    Accept, Hello, Join, JoinView, Link, Rejected, ReplaceView, accept, hello, join, may_replace,
};
