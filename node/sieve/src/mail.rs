//! What a script sees of a message, and of the world around it. Both are the caller's to implement.

use std::{borrow::Cow, ops::ControlFlow};

use crate::Address;

/// A message as scripts look at it.
///
/// An implementation bounds what it does: how deep it follows MIME structure, how many parts it knows, and how much it
/// decodes. What is beyond its bounds is left out; no method fails, and none may panic, whatever the message is.
pub trait Mail {
    /// Octets of the whole message.
    fn size(&self) -> u64;

    /// Octets of the header: what looking up a name may cost.
    fn header_size(&self) -> u64;

    /// The values of all fields of a name (in any case), in their order: unfolded (RFC 5322 section 2.2.3) and otherwise
    /// as they are. Spaces between a name and its colon are no part of the name. A name that is no valid field name
    /// has no values.
    fn raw_header(&self, name: &str) -> Vec<Cow<'_, [u8]>>;

    /// The same values with their encoded words (RFC 2047) decoded to UTF-8. What cannot be decoded stays as it is.
    /// White space at both ends may stay: tests take it off.
    fn header(&self, name: &str) -> Vec<Cow<'_, [u8]>>;

    /// The addresses of all fields of a name, field by field in their order: those of groups are among them, group names,
    /// display names, comments and source routes are not. A field that has none, or that is broken altogether, is an empty
    /// list or one [`Address::Invalid`] with its text.
    fn addresses(&self, name: &str) -> Vec<Vec<Address>>;

    /// All octets after the empty line that ends the header, undecoded; `None` when there is no such line.
    fn raw_body(&self) -> Option<Cow<'_, [u8]>>;

    /// Calls `visit` with each string of the MIME parts whose content type is `wanted` (it is asked with
    /// `type/subtype` in lower case, and no part is decoded unless it is), until `visit` breaks. The message's own body
    /// is a part, too, and so are those within multipart and message/rfc822.
    ///
    /// The strings of a part are, as RFC 5173 section 5.2 says: of a multipart its prologue and its epilogue, of a
    /// message/rfc822 its header, of others all of it; transfer encodings are decoded, and text is converted to UTF-8.
    /// A message without a body has no parts.
    fn parts(&self, wanted: &dyn Fn(&str) -> bool, visit: &mut dyn FnMut(&[u8]) -> ControlFlow<()>);

    /// Calls `visit` with what a person would read as the text of the message, part by part, until `visit` breaks. Mark-up
    /// may be stripped. [`Mail::parts`] with all of `text/` does.
    fn text(&self, visit: &mut dyn FnMut(&[u8]) -> ControlFlow<()>) {
        self.parts(&|kind| kind.starts_with("text/"), visit);
    }
}

/// What a script may ask about the account that it runs for.
pub trait Host {
    /// Whether a mailbox exists and messages can be delivered into it (RFC 5490 section 3.1).
    fn mailbox_exists(&self, name: &str) -> bool;

    /// The same, by the mailbox's OBJECTID (RFC 9042 section 4).
    fn mailbox_id_exists(&self, id: &str) -> bool;

    /// Whether an earlier run that ended well has left this id under this handle (RFC 7352 section 3), and it has not
    /// expired. The ids of [`crate::Outcome::seen`] of *this* delivery do not count, also when it is tried again.
    fn seen(&self, handle: &str, id: &[u8]) -> bool;

    /// Minutes east of UTC that the account's clocks are set to at a time (seconds since 1970).
    fn utc_offset(&self, at: i64) -> i32 {
        let _ = at;
        0
    }
}

/// What one run is about, apart from the message.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// The address of MAIL FROM, without `<>`; empty for the null sender.
    pub sender: &'a str,
    /// The address of the RCPT TO that this delivery is for, without `<>`.
    pub recipient: &'a str,
    /// Addresses that are known to be the account's; the recipient need not be among them.
    pub addresses: &'a [&'a str],
    /// What stands between user and detail in local parts; empty if there is no such thing.
    pub separator: &'a str,
    /// The time of the delivery, in seconds since 1970. A delivery that is tried again should have the same one.
    pub now: i64,
    /// Items for `environment` (RFC 5183 section 4.1), such as `("location", "MDA")`. Those that are not here do not
    /// exist for the script.
    pub environment: &'a [(&'a str, &'a str)],
    /// The account.
    pub host: &'a dyn Host,
}
