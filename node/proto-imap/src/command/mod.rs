//! Commands, one file each; the grammar of RFC 3501 section 9 (or of the extension) above each parser.

mod append;
mod authenticate;
mod copy;
mod create;
mod enable;
mod fetch;
mod id;
mod list;
mod login;
mod lsub;
mod rename;
mod search;
mod select;
mod status;
mod store;

pub use append::AppendHead;
pub use authenticate::Authenticate;
pub use copy::CopyOrMove;
pub use create::{Create, SpecialUseFlag};
pub use fetch::{BodySection, Fetch, FetchItem, Partial, SectionForm, SectionText};
pub use id::IdPair;
pub use list::{List, ListReturn, ListSelect};
pub use login::{Login, Secret};
pub use lsub::Lsub;
pub use rename::Rename;
pub use search::{Search, SearchKey, SearchReturn};
pub use select::Select;
pub use status::{Status, StatusItem};
pub use store::{Store, StoreOp};

pub(crate) use append::head as append_head;

use crate::{
    cursor::{Cursor, is_atom_char},
    error::SyntaxError,
    mailbox::{MailboxName, mailbox},
    sequence::SequenceSet,
};

/// Longest tag in octets.
const MAX_TAG: usize = 64;

/// A command as sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// What the completion begins with.
    pub tag: String,
    /// What is asked.
    pub body: CommandBody,
}

/// What is asked. APPEND is not here: its message is streamed, see [`crate::Event::Append`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommandBody {
    /// CAPABILITY
    Capability,
    /// NOOP
    Noop,
    /// LOGOUT
    Logout,
    /// ID (RFC 2971)
    Id(Vec<IdPair>),
    /// STARTTLS
    StartTls,
    /// AUTHENTICATE
    Authenticate(Authenticate),
    /// LOGIN
    Login(Login),
    /// ENABLE (RFC 5161), in capitals
    Enable(Vec<String>),
    /// NAMESPACE (RFC 2342)
    Namespace,
    /// SELECT
    Select(Select),
    /// EXAMINE
    Examine(Select),
    /// CREATE
    Create(Create),
    /// DELETE
    Delete(MailboxName),
    /// RENAME
    Rename(Rename),
    /// SUBSCRIBE
    Subscribe(MailboxName),
    /// UNSUBSCRIBE
    Unsubscribe(MailboxName),
    /// LIST
    List(List),
    /// LSUB
    Lsub(Lsub),
    /// STATUS
    Status(Status),
    /// IDLE (RFC 2177)
    Idle,
    /// CHECK
    Check,
    /// CLOSE
    Close,
    /// UNSELECT (RFC 3691)
    Unselect,
    /// EXPUNGE
    Expunge,
    /// UID EXPUNGE (RFC 4315)
    UidExpunge(SequenceSet),
    /// SEARCH and UID SEARCH
    Search(Search),
    /// FETCH and UID FETCH
    Fetch(Fetch),
    /// STORE and UID STORE
    Store(Store),
    /// COPY and UID COPY
    Copy(CopyOrMove),
    /// MOVE and UID MOVE (RFC 6851)
    Move(CopyOrMove),
}

/// The tag of a command that may be broken after it.
///
/// ```text
/// tag = 1*<any ASTRING-CHAR except "+">
/// ```
pub(crate) fn tag(cursor: &mut Cursor<'_>) -> Result<String, SyntaxError> {
    let octets = cursor.take_while("a tag", |b| (is_atom_char(b) || b == b']') && b != b'+')?;
    if octets.len() > MAX_TAG {
        return Err(SyntaxError::whole("the tag is too long"));
    }
    Ok(octets.into_iter().map(char::from).collect())
}

/// ```text
/// command = tag SP (command-any / command-auth / command-nonauth / command-select) CRLF
/// ```
pub(crate) fn parse(cursor: &mut Cursor<'_>) -> Result<Command, SyntaxError> {
    let tag = tag(cursor)?;
    cursor.space()?;
    let name = cursor.keyword("a command")?;
    let body = match name.as_str() {
        "UID" => {
            cursor.space()?;
            let name = cursor.keyword("a command after UID")?;
            uid_body(&name, cursor)?
        }
        name => body(name, cursor)?,
    };
    cursor.end()?;
    Ok(Command { tag, body })
}

fn body(name: &str, cursor: &mut Cursor<'_>) -> Result<CommandBody, SyntaxError> {
    Ok(match name {
        "CAPABILITY" => CommandBody::Capability,
        "NOOP" => CommandBody::Noop,
        "LOGOUT" => CommandBody::Logout,
        "ID" => CommandBody::Id(id::arguments(cursor)?),
        "STARTTLS" => CommandBody::StartTls,
        "AUTHENTICATE" => CommandBody::Authenticate(authenticate::arguments(cursor)?),
        "LOGIN" => CommandBody::Login(login::arguments(cursor)?),
        "ENABLE" => CommandBody::Enable(enable::arguments(cursor)?),
        "NAMESPACE" => CommandBody::Namespace,
        "SELECT" => CommandBody::Select(select::arguments(cursor)?),
        "EXAMINE" => CommandBody::Examine(select::arguments(cursor)?),
        "CREATE" => CommandBody::Create(create::arguments(cursor)?),
        "DELETE" => CommandBody::Delete(one_mailbox(cursor)?),
        "RENAME" => CommandBody::Rename(rename::arguments(cursor)?),
        "SUBSCRIBE" => CommandBody::Subscribe(one_mailbox(cursor)?),
        "UNSUBSCRIBE" => CommandBody::Unsubscribe(one_mailbox(cursor)?),
        "LIST" => CommandBody::List(list::arguments(cursor)?),
        "LSUB" => CommandBody::Lsub(lsub::arguments(cursor)?),
        "STATUS" => CommandBody::Status(status::arguments(cursor)?),
        "IDLE" => CommandBody::Idle,
        "CHECK" => CommandBody::Check,
        "CLOSE" => CommandBody::Close,
        "UNSELECT" => CommandBody::Unselect,
        "EXPUNGE" => CommandBody::Expunge,
        "SEARCH" => CommandBody::Search(search::arguments(cursor, false)?),
        "FETCH" => CommandBody::Fetch(fetch::arguments(cursor, false)?),
        "STORE" => CommandBody::Store(store::arguments(cursor, false)?),
        "COPY" => CommandBody::Copy(copy::arguments(cursor, false)?),
        "MOVE" => CommandBody::Move(copy::arguments(cursor, false)?),
        // Well-formed APPENDs never come here: the decoder streams them.
        "APPEND" => {
            cursor.space()?;
            append::arguments(cursor)?;
            return cursor.fail("a literal with the message");
        }
        _ => return Err(SyntaxError::whole("unknown command")),
    })
}

/// ```text
/// uid = "UID" SP (copy / move / fetch / search / store / uid-expunge)
/// uid-expunge = "EXPUNGE" SP sequence-set
/// ```
fn uid_body(name: &str, cursor: &mut Cursor<'_>) -> Result<CommandBody, SyntaxError> {
    Ok(match name {
        "SEARCH" => CommandBody::Search(search::arguments(cursor, true)?),
        "FETCH" => CommandBody::Fetch(fetch::arguments(cursor, true)?),
        "STORE" => CommandBody::Store(store::arguments(cursor, true)?),
        "COPY" => CommandBody::Copy(copy::arguments(cursor, true)?),
        "MOVE" => CommandBody::Move(copy::arguments(cursor, true)?),
        "EXPUNGE" => {
            cursor.space()?;
            CommandBody::UidExpunge(SequenceSet::parse(cursor)?)
        }
        _ => return Err(SyntaxError::whole("unknown command after UID")),
    })
}

/// ```text
/// delete      = "DELETE" SP mailbox
/// subscribe   = "SUBSCRIBE" SP mailbox
/// unsubscribe = "UNSUBSCRIBE" SP mailbox
/// ```
fn one_mailbox(cursor: &mut Cursor<'_>) -> Result<MailboxName, SyntaxError> {
    cursor.space()?;
    mailbox(cursor)
}
