//! Tests with what they take.

use super::{
    Args, Compiler, Result,
    args::no_tests,
    matching::{Shared, Takes},
    unknown_tag,
};
use crate::{
    Capability, CompileError,
    date::{self, DatePart},
    program::{Check, Date, Duplicate, DuplicateId, Test, Transform, Zone},
    syntax::{Call, Literal, Tests},
    text::Text,
};

/// All tests.
pub const NAMES: [&str; 22] = [
    "true",
    "false",
    "not",
    "allof",
    "anyof",
    "size",
    "exists",
    "header",
    "address",
    "envelope",
    "body",
    "date",
    "currentdate",
    "string",
    "hasflag",
    "mailboxexists",
    "mailboxidexists",
    "duplicate",
    "environment",
    "valid_notify_method",
    "notify_method_capability",
    "ihave",
];

/// Fields that hold addresses. Those that begin with `X-` may.
const ADDRESS_FIELDS: [&str; 17] = [
    "from",
    "to",
    "cc",
    "bcc",
    "sender",
    "reply-to",
    "resent-from",
    "resent-to",
    "resent-cc",
    "resent-bcc",
    "resent-sender",
    "resent-reply-to",
    "return-path",
    "delivered-to",
    "envelope-to",
    "errors-to",
    "disposition-notification-to",
];

/// Whether the `address` test may look at a field; a name that no field can have matches none, which is no error.
pub fn has_addresses(field: &[u8]) -> bool {
    let token = |octet: &u8| octet.is_ascii_graphic() && *octet != b':';
    !field.iter().all(token)
        || field.is_empty()
        || field.get(..2).is_some_and(|start| start.eq_ignore_ascii_case(b"x-"))
        || ADDRESS_FIELDS.iter().any(|known| known.as_bytes().eq_ignore_ascii_case(field))
}

impl Compiler<'_> {
    pub fn check(&mut self, call: &Call) -> Result<Check> {
        let outer = std::mem::take(&mut self.guard);
        let test = self.test(call).or_else(|error| self.deferred(error).map(Test::Missing));
        let guard = std::mem::replace(&mut self.guard, outer);
        Ok(Check { at: call.at, guard, test: test? })
    }

    fn test(&mut self, call: &Call) -> Result<Test> {
        let mut args = Args::new(call);
        let test = match call.name.as_str() {
            "not" | "allof" | "anyof" => self.combination(call)?,
            name if NAMES.contains(&name) => {
                no_tests(call)?;
                self.named_test(&mut args)?
            }
            name => {
                let message = if super::actions::NAMES.contains(&name) {
                    format!("{name} is a command: it stands before a ;, not in a test")
                } else {
                    format!("there is no test \"{name}\"")
                };
                return Err(CompileError::missing(call.at, message));
            }
        };
        args.end()?;
        Ok(test)
    }

    fn combination(&mut self, call: &Call) -> Result<Test> {
        match (&call.tests, call.name.as_str()) {
            (Tests::One(test), "not") => Ok(Test::Not(Box::new(self.check(test)?))),
            (Tests::List(tests), "allof" | "anyof") => {
                let checks = tests.iter().map(|test| self.check(test)).collect::<Result<_>>()?;
                Ok(if call.name == "allof" { Test::AllOf(checks) } else { Test::AnyOf(checks) })
            }
            (_, "not") => Err(CompileError::new(call.at, "not takes one test")),
            (_, name) => Err(CompileError::new(call.at, format!("{name} takes a list of tests in ( )"))),
        }
    }

    fn named_test(&mut self, args: &mut Args<'_>) -> Result<Test> {
        match args.name {
            "true" => Ok(Test::Constant(true)),
            "false" => Ok(Test::Constant(false)),
            "size" => size(args),
            "exists" => Ok(Test::Exists(self.names(args)?)),
            "header" => self.header(args),
            "address" => self.address(args),
            "envelope" => self.envelope(args),
            "body" => self.body(args),
            "date" | "currentdate" => self.date(args),
            "string" => self.string(args),
            "hasflag" => self.hasflag(args),
            "mailboxexists" => {
                self.need(Capability::Mailbox, args.at, args.name)?;
                Ok(Test::MailboxExists(self.texts(args.strings("names of mailboxes")?)?))
            }
            "mailboxidexists" => {
                self.need(Capability::MailboxId, args.at, args.name)?;
                Ok(Test::MailboxIdExists(self.texts(args.strings("ids of mailboxes")?)?))
            }
            "duplicate" => self.duplicate(args),
            "environment" => self.environment(args),
            "valid_notify_method" => {
                self.need(Capability::Enotify, args.at, args.name)?;
                Ok(Test::ValidNotifyMethod(self.texts(args.strings("a list of URIs")?)?))
            }
            "notify_method_capability" => self.notify_capability(args),
            _ => self.ihave(args),
        }
    }

    fn names(&mut self, args: &mut Args<'_>) -> Result<Vec<Text>> {
        let names = args.strings("names of header fields")?;
        for name in names {
            if name.octets.ends_with(b":") {
                self.warn(name.at, "the name of a field has no colon: this one matches none");
            }
        }
        self.texts(names)
    }

    fn keys(&mut self, args: &mut Args<'_>) -> Result<Vec<Text>> {
        self.texts(args.strings("strings to compare with")?)
    }

    fn header(&mut self, args: &mut Args<'_>) -> Result<Test> {
        let shared = self.shared(args, Takes::Index)?;
        let (matcher, pick) = (self.matcher(args, &shared)?, shared.pick()?);
        Ok(Test::Header { matcher, pick, names: self.names(args)?, keys: self.keys(args)? })
    }

    fn address(&mut self, args: &mut Args<'_>) -> Result<Test> {
        let shared = self.shared(args, Takes::AddressPartAndIndex)?;
        let (matcher, pick) = (self.matcher(args, &shared)?, shared.pick()?);
        let literals = args.strings("names of header fields")?;
        let names = self.texts(literals)?;
        for (literal, name) in literals.iter().zip(&names) {
            if let Some(name) = name.constant().filter(|name| !has_addresses(name)) {
                let name = String::from_utf8_lossy(name);
                let message =
                    format!("address looks at fields with addresses, and {name:?} has none: use header");
                return Err(CompileError::new(literal.at, message));
            }
        }
        Ok(Test::Address { matcher, part: shared.part(), pick, names, keys: self.keys(args)? })
    }

    fn envelope(&mut self, args: &mut Args<'_>) -> Result<Test> {
        self.need(Capability::Envelope, args.at, args.name)?;
        let shared = self.shared(args, Takes::AddressPart)?;
        let matcher = self.matcher(args, &shared)?;
        let literals = args.strings("\"from\" or \"to\"")?;
        let fields = self.texts(literals)?;
        for (literal, field) in literals.iter().zip(&fields) {
            let known = |name: &[u8]| name.eq_ignore_ascii_case(b"from") || name.eq_ignore_ascii_case(b"to");
            if field.constant().is_some_and(|name| !known(name)) {
                return Err(CompileError::new(literal.at, "an envelope has \"from\" and \"to\""));
            }
        }
        Ok(Test::Envelope { matcher, part: shared.part(), fields, keys: self.keys(args)? })
    }

    fn body(&mut self, args: &mut Args<'_>) -> Result<Test> {
        self.need(Capability::Body, args.at, args.name)?;
        let mut shared = Shared::default();
        let mut transform = None;
        while let Some(tag) = args.tag()? {
            let this = match tag.name {
                "raw" => Transform::Raw,
                "text" => Transform::Text,
                "content" => Transform::Content(self.texts(args.strings("content types")?)?),
                _ if self.shared_tag(&mut shared, args, tag, Takes::Matching)? => continue,
                _ => return Err(unknown_tag(args.name, tag)),
            };
            if transform.replace(this).is_some() {
                let message = "body takes one of :raw, :text and :content";
                return Err(CompileError::new(tag.at, message));
            }
        }
        let matcher = self.matcher(args, &shared)?;
        Ok(Test::Body { matcher, transform: transform.unwrap_or(Transform::Text), keys: self.keys(args)? })
    }

    fn date(&mut self, args: &mut Args<'_>) -> Result<Test> {
        self.need(Capability::Date, args.at, args.name)?;
        let of_header = args.name == "date";
        let mut shared = Shared::default();
        let mut zone = None;
        let takes = if of_header { Takes::Index } else { Takes::Matching };
        while let Some(tag) = args.tag()? {
            let this = match tag.name {
                "zone" => Zone::Offset(self.zone(args.string("a zone such as \"+0100\"")?)?),
                "originalzone" if of_header => Zone::Original,
                _ if self.shared_tag(&mut shared, args, tag, takes)? => continue,
                _ => return Err(unknown_tag(args.name, tag)),
            };
            if zone.replace(this).is_some() {
                return Err(CompileError::new(tag.at, "date takes one of :zone and :originalzone"));
            }
        }
        let (matcher, pick) = (self.matcher(args, &shared)?, shared.pick()?);
        let header = match of_header {
            true => Some(self.text(args.string("the name of a header field")?)?),
            false => None,
        };
        let literal = args.string("a part of a date, such as \"year\"")?;
        let part = self.text(literal)?;
        if part.constant().is_some_and(|name| DatePart::from_name(name).is_none()) {
            let message = "parts of dates are year, month, day, date, julian, hour, minute, second, time, iso8601, \
                           std11, zone and weekday";
            return Err(CompileError::new(literal.at, message));
        }
        let zone = zone.unwrap_or(Zone::Local);
        Ok(Test::Date(Box::new(Date { matcher, pick, zone, header, part, keys: self.keys(args)? })))
    }

    fn zone(&mut self, literal: &Literal) -> Result<Text> {
        let zone = self.text(literal)?;
        if zone.constant().is_some_and(|text| date::zone(text).is_none()) {
            return Err(CompileError::new(
                literal.at,
                "a zone is + or - with four digits, such as \"-0500\"",
            ));
        }
        Ok(zone)
    }

    fn string(&mut self, args: &mut Args<'_>) -> Result<Test> {
        self.need(Capability::Variables, args.at, args.name)?;
        let shared = self.shared(args, Takes::Matching)?;
        let matcher = self.matcher(args, &shared)?;
        let sources = self.texts(args.strings("strings to look at")?)?;
        Ok(Test::Strings { matcher, sources, keys: self.keys(args)? })
    }

    fn hasflag(&mut self, args: &mut Args<'_>) -> Result<Test> {
        self.need(Capability::Imap4flags, args.at, args.name)?;
        let shared = self.shared(args, Takes::Matching)?;
        let matcher = self.matcher(args, &shared)?;
        let variables = if args.left() > 1 {
            let literals = args.strings("names of variables")?;
            self.need(Capability::Variables, args.at, "a variable of flags")?;
            Some(literals.iter().map(|literal| self.variable(literal)).collect::<Result<_>>()?)
        } else {
            None
        };
        Ok(Test::HasFlag { matcher, variables, flags: self.texts(args.strings("a list of flags")?)? })
    }

    fn duplicate(&mut self, args: &mut Args<'_>) -> Result<Test> {
        self.need(Capability::Duplicate, args.at, args.name)?;
        let (mut handle, mut id, mut seconds, mut last) = (None, None, None, false);
        while let Some(tag) = args.tag()? {
            match tag.name {
                "handle" => handle = Some(self.text(args.string("a handle")?)?),
                "header" | "uniqueid" if id.is_some() => {
                    return Err(CompileError::new(tag.at, "duplicate takes one of :header and :uniqueid"));
                }
                "header" => {
                    id = Some(DuplicateId::Header(self.text(args.string("the name of a header field")?)?))
                }
                "uniqueid" => id = Some(DuplicateId::Unique(self.text(args.string("an id")?)?)),
                "seconds" => {
                    seconds = Some(args.number("a number of seconds")?.min(self.limits.duplicate_seconds));
                }
                "last" => last = true,
                _ => return Err(unknown_tag(args.name, tag)),
            }
        }
        let id = id.unwrap_or_else(|| {
            DuplicateId::Header(Text(vec![crate::text::Piece::Octets(b"message-id".to_vec())]))
        });
        Ok(Test::Duplicate(Box::new(Duplicate { handle, id, seconds, last })))
    }

    fn environment(&mut self, args: &mut Args<'_>) -> Result<Test> {
        self.need(Capability::Environment, args.at, args.name)?;
        let shared = self.shared(args, Takes::Matching)?;
        let matcher = self.matcher(args, &shared)?;
        let name = self.text(args.string("the name of an item")?)?;
        Ok(Test::Environment { matcher, name, keys: self.keys(args)? })
    }

    fn notify_capability(&mut self, args: &mut Args<'_>) -> Result<Test> {
        self.need(Capability::Enotify, args.at, args.name)?;
        let shared = self.shared(args, Takes::Matching)?;
        let matcher = self.matcher(args, &shared)?;
        let method = self.text(args.string("a URI")?)?;
        let capability = self.text(args.string("a capability, such as \"online\"")?)?;
        Ok(Test::NotifyMethodCapability { matcher, method, capability, keys: self.keys(args)? })
    }

    /// The capabilities are looked up now; the test switches them on when it is reached.
    fn ihave(&mut self, args: &mut Args<'_>) -> Result<Test> {
        self.need(Capability::Ihave, args.at, args.name)?;
        let mut capabilities = Some(Vec::new());
        for literal in args.strings("names of extensions")? {
            if self.text(literal)?.constant().is_none() {
                return Err(CompileError::new(literal.at, "ihave takes no variables: write the name out"));
            }
            let known = self.known(literal).ok();
            let usable = known.filter(|found| !found.changes_strings() || self.required(*found));
            match (usable, &mut capabilities) {
                (Some(capability), Some(list)) => list.push(capability),
                _ => capabilities = None,
            }
        }
        Ok(Test::Ihave(capabilities))
    }
}

fn size(args: &mut Args<'_>) -> Result<Test> {
    let mut over = None;
    while let Some(tag) = args.tag()? {
        let this = match tag.name {
            "over" => true,
            "under" => false,
            _ => return Err(unknown_tag(args.name, tag)),
        };
        if over.replace(this).is_some() {
            return Err(CompileError::new(tag.at, "size takes one of :over and :under"));
        }
    }
    let Some(over) = over else {
        return Err(CompileError::new(args.at, "size needs :over or :under"));
    };
    Ok(Test::Size { over, limit: args.number("a size such as 100K")? })
}
