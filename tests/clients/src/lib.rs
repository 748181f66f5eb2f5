//! Small blocking mail clients for tests and the demo. They say exactly what a server answered, and tell a refusal
//! from an answer that never came: the checker of "no mail lost, none duplicated" stands on that difference.

mod body;
mod imap;
mod ledger;
mod load;
mod pop3;
mod sieve;
mod smtp;
mod wire;

pub use body::{damage, message, token_of};
pub use imap::{Fetched, ImapClient, Untagged};
pub use ledger::{Counts, Found, Ledger, Outcome, Verdict};
pub use load::{Load, LoadPlan, collect_imap, collect_pop3};
pub use pop3::Pop3Client;
pub use sieve::{SieveAnswer, SieveClient};
pub use smtp::{Reply, SendOutcome, SmtpClient};
pub use wire::{Tls, Wire};
