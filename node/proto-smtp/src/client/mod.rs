//! The client's side of SMTP: what a server offers, what a message needs of it, commands, and a session that is given
//! octets and answers events.

mod envelope;
mod event;
mod extensions;
mod fit;
mod guard;
mod session;
mod stage;
mod transaction;

pub use envelope::{Envelope, EnvelopeFault, Notify, OriginalRecipient, Recipient, Ret};
pub(crate) use envelope::{envelope_id_param, notify_param};
pub use event::{BeginFault, Event, SessionFault};
pub use extensions::Extensions;
pub use fit::{Misfit, Needs, Terms, Utf8, fit};
pub use session::ClientSession;
pub use stage::Stage;
pub use transaction::{BodyFault, Outcome};
