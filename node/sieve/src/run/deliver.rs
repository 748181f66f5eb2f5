//! Actions: what goes together, what is there twice, and how many there may be.

use super::{
    Result, Run, fail,
    reply::{line, lines},
};
use crate::{
    Action, FileInto, Notify, Planned, Position,
    address::{self, same},
    flags, mailto,
    program::{self, Step},
    text::Text,
};

impl Run<'_> {
    pub fn action(&mut self, at: Position, step: &Step) -> Result<()> {
        match step {
            Step::Keep { flags } => {
                self.implicit_keep = false;
                let flags = self.flag_list(flags.as_deref())?;
                self.keep(Some(at), flags)
            }
            Step::FileInto { mailbox, id, flags, copy, create } => {
                let mailbox_id = id.as_ref().map(|id| self.string(id)).transpose()?;
                let flags = self.flag_list(flags.as_deref())?;
                let mailbox = self.string(mailbox)?;
                for name in mailbox_id.iter().chain([&mailbox]) {
                    if name.is_empty() || name.contains(char::is_control) {
                        return fail(format!("{name:?} is no name of a mailbox"));
                    }
                }
                let into = FileInto { mailbox, mailbox_id, flags, copy: *copy, create: *create };
                self.implicit_keep &= *copy;
                self.file(at, into)
            }
            Step::Redirect { address, copy } => self.redirect(at, address, *copy),
            Step::Discard => {
                self.implicit_keep = false;
                if self.plan.iter().any(|planned| planned.action == Action::Discard) {
                    return Ok(());
                }
                self.plan(Some(at), Action::Discard)
            }
            Step::Reject { reason, in_protocol } => self.reject(at, reason, *in_protocol),
            Step::Vacation(vacation) => self.vacation(at, vacation),
            Step::Notify(notify) => self.notify(at, notify),
            // All others were done where they were found.
            _ => Ok(()),
        }
    }

    pub fn plan(&mut self, at: Option<Position>, action: Action) -> Result<()> {
        let most = self.script.limits.actions;
        // The implicit keep is no action of the script, and always possible.
        if at.is_some() && self.plan.len() >= most {
            return fail(format!("a script may do {most} actions at most"));
        }
        self.plan.push(Planned { at, action });
        Ok(())
    }

    fn flag_list(&mut self, words: Option<&[Text]>) -> Result<Vec<String>> {
        let Some(words) = words else { return Ok(self.flags.clone()) };
        let mut set = Vec::new();
        for text in words {
            let words = self.bounded(text)?;
            flags::add(&mut set, &words, self.script.limits.flags);
        }
        Ok(set)
    }

    /// A delivery and a refusal of the same message contradict each other.
    fn delivers(&self) -> Result<()> {
        if self.plan.iter().any(|planned| matches!(planned.action, Action::Reject { .. })) {
            return fail("a message that is rejected cannot be delivered or sent on, too");
        }
        Ok(())
    }

    /// Into the inbox, once: the last flags count (RFC 5232 section 3).
    pub fn keep(&mut self, at: Option<Position>, flags: Vec<String>) -> Result<()> {
        self.delivers()?;
        for planned in &mut self.plan {
            match &mut planned.action {
                Action::Keep { flags: known } => {
                    *known = flags;
                    return Ok(());
                }
                Action::FileInto(into) if is_inbox(into) => {
                    into.flags = flags;
                    return Ok(());
                }
                _ => {}
            }
        }
        self.plan(at, Action::Keep { flags })
    }

    fn file(&mut self, at: Position, new: FileInto) -> Result<()> {
        self.delivers()?;
        for planned in &mut self.plan {
            match &mut planned.action {
                Action::Keep { flags } if is_inbox(&new) => {
                    *flags = new.flags;
                    return Ok(());
                }
                Action::FileInto(into) if is_same(into, &new) => {
                    into.flags = new.flags;
                    into.create |= new.create;
                    into.copy &= new.copy;
                    return Ok(());
                }
                _ => {}
            }
        }
        self.plan(Some(at), Action::FileInto(new))
    }

    fn redirect(&mut self, at: Position, text: &Text, copy: bool) -> Result<()> {
        let text = self.string(text)?;
        let Some(address) = address::sieve_address(&text).map(str::to_owned) else {
            return fail(format!("redirect needs one address, not {text:?}"));
        };
        self.delivers()?;
        self.implicit_keep &= copy;
        let mut redirects = 0;
        for planned in &mut self.plan {
            if let Action::Redirect { address: known, copy: known_copy } = &mut planned.action {
                if same(known, &address) {
                    *known_copy &= copy;
                    return Ok(());
                }
                redirects += 1;
            }
        }
        let most = self.script.limits.redirects;
        if redirects >= most {
            return fail(format!("a script may redirect to {most} addresses at most"));
        }
        self.plan(Some(at), Action::Redirect { address, copy })
    }

    fn reject(&mut self, at: Position, reason: &Text, in_protocol: bool) -> Result<()> {
        let contradicts = self.plan.iter().find_map(|planned| match planned.action {
            Action::Reject { .. } => Some("a message can be rejected once"),
            Action::Vacation(_) => Some("a message that is rejected cannot be answered by vacation, too"),
            Action::Keep { .. } | Action::FileInto(_) | Action::Redirect { .. } => {
                Some("a message that is delivered or sent on cannot be rejected, too")
            }
            Action::Discard | Action::Notify(_) => None,
        });
        if let Some(why) = contradicts {
            return fail(why);
        }
        self.implicit_keep = false;
        let reason = lines(&self.string(reason)?);
        self.plan(Some(at), Action::Reject { reason, in_protocol })
    }

    fn notify(&mut self, at: Position, notify: &program::Notify) -> Result<()> {
        if self.of_mail(&notify.method) {
            return fail("the URI of a notification may have nothing from the message in it");
        }
        let method = self.bounded(&notify.method)?;
        let method = match mailto::parse(&method) {
            Ok(method) => method,
            Err(why) => return fail(why),
        };
        let importance = match &notify.importance {
            None => 2,
            Some(text) => match &*self.bounded(text)? {
                b"1" => 1,
                b"2" => 2,
                b"3" => 3,
                _ => return fail(":importance is \"1\", \"2\" or \"3\""),
            },
        };
        for option in &notify.options {
            if !is_option(&self.bounded(option)?) {
                return fail("an option of notify is NAME=VALUE");
            }
        }
        let from = notify.from.as_ref().map(|from| self.sender(from)).transpose()?;
        let subject = match (&notify.message, method.subject) {
            (Some(message), _) => self.string(message)?,
            (None, Some(subject)) => subject,
            (None, None) => self.subject()?,
        };
        if let Some(why) = self.automatic()? {
            self.skip(at, format!("no notification: {why}"));
            return Ok(());
        }
        let new = Notify {
            to: method.to,
            cc: method.cc,
            from,
            subject: line(&subject),
            body: lines(&method.body.unwrap_or_default()),
            importance,
        };
        self.plan_notification(at, new)
    }

    /// Tells each address once (RFC 5436 section 2.7).
    fn plan_notification(&mut self, at: Position, mut new: Notify) -> Result<()> {
        let mut told: Vec<&str> = Vec::new();
        for planned in &self.plan {
            if let Action::Notify(notify) = &planned.action {
                told.extend(notify.to.iter().chain(&notify.cc).map(String::as_str));
            }
        }
        new.to.retain(|address| !told.iter().any(|known| same(known, address)));
        new.cc.retain(|address| !told.iter().any(|known| same(known, address)));
        let count = new.to.len() + new.cc.len();
        let most = self.script.limits.notifications;
        if count == 0 {
            self.skip(at, "no notification: its URI has no address that was not told before");
            return Ok(());
        }
        if told.len() + count > most {
            return fail(format!("a script may notify {most} addresses at most"));
        }
        self.plan(Some(at), Action::Notify(new))
    }

    /// The value of a `:from`.
    pub fn sender(&mut self, text: &Text) -> Result<String> {
        let from = self.string(text)?;
        match address::address_list(&from) {
            Some(_) => Ok(from),
            None => fail(format!(":from needs an address, not {from:?}")),
        }
    }
}

fn is_inbox(into: &FileInto) -> bool {
    into.mailbox_id.is_none() && into.mailbox.eq_ignore_ascii_case("INBOX")
}

fn is_same(a: &FileInto, b: &FileInto) -> bool {
    a.mailbox_id == b.mailbox_id && (a.mailbox == b.mailbox || is_inbox(a) && is_inbox(b))
}

/// `optionname "=" value` (RFC 5435 section 3.5)
fn is_option(option: &[u8]) -> bool {
    let Some(end) = option.iter().position(|octet| *octet == b'=') else { return false };
    let (name, value) = option.split_at(end);
    name.first().is_some_and(u8::is_ascii_alphanumeric)
        && name.iter().all(|octet| octet.is_ascii_alphanumeric() || b".-_".contains(octet))
        && !value.iter().any(|octet| b"\0\r\n".contains(octet))
}
