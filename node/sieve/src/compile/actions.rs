//! Commands with what they take.

use super::{Args, Compiler, Result, unknown_tag};
use crate::{
    Capability, CompileError, address, mailto,
    program::{FlagChange, Modifier, Notify, Step, Vacation},
    syntax::Literal,
    text::Text,
};

/// All commands but `require`, `if`, `elsif` and `else`.
pub const NAMES: [&str; 14] = [
    "stop",
    "keep",
    "fileinto",
    "redirect",
    "discard",
    "reject",
    "ereject",
    "vacation",
    "notify",
    "set",
    "setflag",
    "addflag",
    "removeflag",
    "error",
];

const DAY: u64 = 86_400;

impl Compiler<'_> {
    pub fn named_action(&mut self, args: &mut Args<'_>) -> Result<Step> {
        match args.name {
            "stop" => Ok(Step::Stop),
            "keep" => self.keep(args),
            "fileinto" => self.fileinto(args),
            "redirect" => self.redirect(args),
            "discard" => Ok(Step::Discard),
            "reject" => self.reject(args, Capability::Reject),
            "ereject" => self.reject(args, Capability::Ereject),
            "vacation" => self.vacation(args),
            "notify" => self.notify(args),
            "set" => self.set(args),
            "setflag" => self.flags(args, FlagChange::Set),
            "addflag" => self.flags(args, FlagChange::Add),
            "removeflag" => self.flags(args, FlagChange::Remove),
            _ => {
                self.need(Capability::Ihave, args.at, "error")?;
                let message = args.string("a message")?;
                Ok(Step::Error(self.text(message)?))
            }
        }
    }

    fn flag_list(&mut self, args: &mut Args<'_>, tag: super::Tag<'_>) -> Result<Option<Vec<Text>>> {
        self.need(Capability::Imap4flags, tag.at, ":flags")?;
        let list = args.strings("a list of flags")?;
        self.texts(list).map(Some)
    }

    fn keep(&mut self, args: &mut Args<'_>) -> Result<Step> {
        let mut flags = None;
        while let Some(tag) = args.tag()? {
            match tag.name {
                "flags" => flags = self.flag_list(args, tag)?,
                _ => return Err(unknown_tag(args.name, tag)),
            }
        }
        Ok(Step::Keep { flags })
    }

    fn fileinto(&mut self, args: &mut Args<'_>) -> Result<Step> {
        self.need(Capability::Fileinto, args.at, "fileinto")?;
        let (mut id, mut flags, mut copy, mut create) = (None, None, false, false);
        while let Some(tag) = args.tag()? {
            match tag.name {
                "flags" => flags = self.flag_list(args, tag)?,
                "copy" => {
                    self.need(Capability::Copy, tag.at, ":copy")?;
                    copy = true;
                }
                "create" => {
                    self.need(Capability::Mailbox, tag.at, ":create")?;
                    create = true;
                }
                "mailboxid" => {
                    self.need(Capability::MailboxId, tag.at, ":mailboxid")?;
                    id = Some(self.utf8(args.string("a mailbox id")?)?);
                }
                _ => return Err(unknown_tag(args.name, tag)),
            }
        }
        let literal = args.string("the name of a mailbox")?;
        let mailbox = self.utf8(literal)?;
        if mailbox.constant().is_some_and(<[u8]>::is_empty) {
            return Err(CompileError::new(literal.at, "the name of a mailbox cannot be empty"));
        }
        Ok(Step::FileInto { mailbox, id, flags, copy, create })
    }

    fn redirect(&mut self, args: &mut Args<'_>) -> Result<Step> {
        let mut copy = false;
        while let Some(tag) = args.tag()? {
            match tag.name {
                "copy" => {
                    self.need(Capability::Copy, tag.at, ":copy")?;
                    copy = true;
                }
                _ => return Err(unknown_tag(args.name, tag)),
            }
        }
        let literal = args.string("an address")?;
        let address = self.utf8(literal)?;
        if let Some(text) = address.constant().map(String::from_utf8_lossy)
            && address::sieve_address(&text).is_none()
        {
            let message = format!("redirect needs one address such as \"me@example.com\", not {text:?}");
            return Err(CompileError::new(literal.at, message));
        }
        Ok(Step::Redirect { address, copy })
    }

    fn reject(&mut self, args: &mut Args<'_>, capability: Capability) -> Result<Step> {
        self.need(capability, args.at, capability.name())?;
        let reason = args.string("a reason")?;
        Ok(Step::Reject { reason: self.utf8(reason)?, in_protocol: capability == Capability::Ereject })
    }

    /// A string that leaves this script for mail or a mailbox's name.
    fn utf8(&mut self, literal: &Literal) -> Result<Text> {
        let text = self.text(literal)?;
        if text.constant().is_some_and(|text| std::str::from_utf8(text).is_err()) {
            return Err(CompileError::new(literal.at, "this string must be UTF-8: save the script as UTF-8"));
        }
        Ok(text)
    }

    fn vacation(&mut self, args: &mut Args<'_>) -> Result<Step> {
        self.need(Capability::Vacation, args.at, "vacation")?;
        let (mut seconds, mut subject, mut from, mut handle) = (None, None, None, None);
        let (mut addresses, mut mime) = (Vec::new(), false);
        while let Some(tag) = args.tag()? {
            match tag.name {
                "days" | "seconds" if seconds.is_some() => {
                    return Err(CompileError::new(
                        tag.at,
                        "vacation takes one of :days and :seconds, not both",
                    ));
                }
                "days" => {
                    let days = args.number("a number of days")?.max(1).saturating_mul(DAY);
                    seconds = Some(days.min(self.limits.vacation_max_seconds));
                }
                "seconds" => {
                    self.need(Capability::VacationSeconds, tag.at, ":seconds")?;
                    let given = args.number("a number of seconds")?;
                    let least = given.max(self.limits.vacation_min_seconds);
                    seconds = Some(least.min(self.limits.vacation_max_seconds));
                }
                "subject" => subject = Some(args.string("a subject")?),
                "from" => from = Some(args.string("an address")?),
                "handle" => handle = Some(args.string("a handle")?),
                "mime" => mime = true,
                "addresses" => addresses = self.texts(args.strings("a list of addresses")?)?,
                _ => return Err(unknown_tag(args.name, tag)),
            }
        }
        let reason = args.string("a reason")?;
        let vacation = Vacation {
            seconds,
            addresses,
            mime,
            track: track(handle, [subject, from, Some(reason)], mime),
            subject: subject.map(|literal| self.utf8(literal)).transpose()?,
            from: from.map(|literal| self.sender(literal)).transpose()?,
            reason: self.utf8(reason)?,
        };
        if mime && vacation.reason.constant().is_some_and(|reason| !header_is_ascii(reason)) {
            let message = "the header fields of a :mime text must be US-ASCII: encode them (RFC 2047)";
            return Err(CompileError::new(reason.at, message));
        }
        Ok(Step::Vacation(Box::new(vacation)))
    }

    fn sender(&mut self, literal: &Literal) -> Result<Text> {
        let from = self.utf8(literal)?;
        if let Some(text) = from.constant().map(String::from_utf8_lossy)
            && address::address_list(&text).is_none()
        {
            return Err(CompileError::new(literal.at, format!(":from needs an address, not {text:?}")));
        }
        Ok(from)
    }

    fn notify(&mut self, args: &mut Args<'_>) -> Result<Step> {
        self.need(Capability::Enotify, args.at, "notify")?;
        let (mut from, mut importance, mut options, mut message) = (None, None, Vec::new(), None);
        while let Some(tag) = args.tag()? {
            match tag.name {
                "from" => from = Some(self.sender(args.string("an address")?)?),
                "importance" => {
                    let literal = args.string("\"1\", \"2\" or \"3\"")?;
                    let text = self.text(literal)?;
                    if text.constant().is_some_and(|text| !matches!(text, b"1" | b"2" | b"3")) {
                        let message = ":importance is \"1\" (high), \"2\" or \"3\" (low)";
                        return Err(CompileError::new(literal.at, message));
                    }
                    importance = Some(text);
                }
                "options" => options = self.texts(args.strings("a list of \"NAME=VALUE\"")?)?,
                "message" => message = Some(self.utf8(args.string("a message")?)?),
                _ => return Err(unknown_tag(args.name, tag)),
            }
        }
        let literal = args.string("a URI such as \"mailto:me@example.com\"")?;
        let method = self.text(literal)?;
        // An error only when it is reached (RFC 5435 section 3.2).
        if let Some(Err(why)) = method.constant().map(mailto::parse) {
            self.warn(literal.at, format!("this notification will fail: {why}"));
        }
        Ok(Step::Notify(Box::new(Notify { from, importance, options, message, method })))
    }

    fn set(&mut self, args: &mut Args<'_>) -> Result<Step> {
        self.need(Capability::Variables, args.at, "set")?;
        let mut modifiers: Vec<Modifier> = Vec::new();
        while let Some(tag) = args.tag()? {
            let modifier = Modifier::from_name(tag.name).ok_or_else(|| unknown_tag(args.name, tag))?;
            if modifier == Modifier::EncodeUrl {
                self.need(Capability::Enotify, tag.at, ":encodeurl")?;
            }
            if modifiers.iter().any(|other| other.precedence() == modifier.precedence()) {
                let message =
                    format!(":{} contradicts another modifier of this set: leave one out", tag.name);
                return Err(CompileError::new(tag.at, message));
            }
            modifiers.push(modifier);
        }
        modifiers.sort_unstable();
        let variable = self.variable(args.string("the name of a variable")?)?;
        let literal = args.string("a value")?;
        let value = self.text(literal)?;
        let most = self.limits.variable;
        if value.constant().is_some_and(|value| value.len() > most) {
            return Err(CompileError::new(literal.at, format!("a variable has {most} octets at most")));
        }
        Ok(Step::Set { variable, modifiers, value })
    }

    fn flags(&mut self, args: &mut Args<'_>, change: FlagChange) -> Result<Step> {
        self.need(Capability::Imap4flags, args.at, args.name)?;
        let variable = if args.left() > 1 {
            let literal = args.string("the name of a variable")?;
            self.need(Capability::Variables, literal.at, "a variable of flags")?;
            Some(self.variable(literal)?)
        } else {
            None
        };
        let flags = args.strings("a list of flags")?;
        Ok(Step::Flags { change, variable, flags: self.texts(flags)? })
    }
}

/// Names an answer by its handle, or by all that makes it up, each with its length so that none is taken for another
/// (RFC 5230 section 4.2). Variables are not put in.
fn track(handle: Option<&Literal>, parts: [Option<&Literal>; 3], mime: bool) -> Vec<u8> {
    if let Some(handle) = handle {
        return [b"handle:", handle.octets.as_slice()].concat();
    }
    let mut track = if mime { b"mime:".to_vec() } else { b"text:".to_vec() };
    for part in parts {
        match part {
            None => track.push(b'-'),
            Some(part) => {
                track.extend(format!("{}:", part.octets.len()).into_bytes());
                track.extend(&part.octets);
            }
        }
    }
    track
}

/// Whether what stands before the first empty line is US-ASCII (RFC 5230 section 5).
pub fn header_is_ascii(entity: &[u8]) -> bool {
    let end = memchr::memmem::find(entity, b"\r\n\r\n").unwrap_or(entity.len());
    entity.starts_with(b"\r\n") || entity[..end].is_ascii()
}
