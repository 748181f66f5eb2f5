//! Screening: who is refused, for how long, and which logins are slowed down.
//!
//! [`Judge`] stands in the directory: it adds up what all frontends saw and decides. [`Gate`] stands in each frontend: it
//! knows what was decided, answers for each connection and login, and gathers what is to be reported. Both are told the
//! time and do no I/O; whatever is sent to them, they hold no more than so many entries.

mod bounded;
mod cidr;
mod few;
mod gate;
mod judge;
mod lists;
mod news;
mod observation;
mod policy;
mod score;

pub use bounded::Bounded;
pub use cidr::{Cidr, CidrError};
pub use gate::{Gate, GateCounts, Refusal, Verdict};
pub use judge::{BanError, Judge};
pub use lists::{Lists, NetworkMap};
pub use news::{Ban, News, Reason, Slowed};
pub use observation::{Kind, LONGEST_ACCOUNT, Observation, account_key};
pub use policy::{Policy, ban_duration, delay};
