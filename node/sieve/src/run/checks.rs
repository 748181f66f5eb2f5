//! Tests.

use std::ops::ControlFlow;

use super::{Result, Run, fail, header::picked, values::Leaves};
use crate::{
    Capability, Seen,
    date::{self, DatePart, Stamp},
    flags, mailto,
    matcher::Matcher,
    program::{Check, Date, Duplicate, DuplicateId, Pick, Test, Transform, Zone},
    text::Text,
};

/// Days that `duplicate` remembers when nothing is said (RFC 7352 section 3.3).
const DUPLICATE_SECONDS: u64 = 7 * 86_400;

impl Run<'_> {
    pub fn check(&mut self, check: &Check) -> Result<bool> {
        self.enter(check.at, &check.guard)?;
        match &check.test {
            Test::Constant(value) => Ok(*value),
            Test::Not(inner) => Ok(!self.check(inner)?),
            Test::AllOf(checks) => self.first_that(checks, false).map(|found| !found),
            Test::AnyOf(checks) => self.first_that(checks, true),
            Test::Size { over: true, limit } => Ok(self.mail.size() > *limit),
            Test::Size { over: false, limit } => Ok(self.mail.size() < *limit),
            Test::Exists(names) => self.exists(names),
            Test::Header { matcher, pick, names, keys } => self.header(*matcher, *pick, names, keys),
            Test::Address { matcher, part, pick, names, keys } => {
                let fields = self.address_fields(names)?;
                self.address(*matcher, *part, &picked(&fields, *pick).flatten().collect::<Vec<_>>(), keys)
            }
            Test::Envelope { matcher, part, fields, keys } => self.envelope(*matcher, *part, fields, keys),
            Test::Body { matcher, transform, keys } => self.body(*matcher, transform, keys),
            Test::Date(date) => self.date(date),
            Test::Strings { matcher, sources, keys } => self.strings(*matcher, sources, keys),
            Test::HasFlag { matcher, variables, flags } => {
                self.hasflag(*matcher, variables.as_deref(), flags)
            }
            Test::MailboxExists(names) => {
                let host = self.context.host;
                self.all_utf8(names, |name| host.mailbox_exists(name))
            }
            Test::MailboxIdExists(ids) => {
                let host = self.context.host;
                self.all_utf8(ids, |id| host.mailbox_id_exists(id))
            }
            Test::Duplicate(duplicate) => self.duplicate(duplicate),
            Test::Environment { matcher, name, keys } => self.environment(*matcher, name, keys),
            Test::ValidNotifyMethod(methods) => self.valid_methods(methods),
            Test::NotifyMethodCapability { matcher, method, capability, keys } => {
                let valid = self.valid_methods(std::slice::from_ref(method))?;
                let online = self.bounded(capability)?.eq_ignore_ascii_case(b"online");
                // Nobody knows whether somebody reads mail right now (RFC 5436 section 2.2).
                if valid && online { self.one(*matcher, b"maybe", keys, Leaves::Other) } else { Ok(false) }
            }
            Test::Ihave(capabilities) => Ok(self.ihave(capabilities.as_deref())),
            Test::Missing(message) => fail(message),
        }
    }

    /// The same that `notify` asks of its method.
    fn valid_methods(&mut self, methods: &[Text]) -> Result<bool> {
        for method in methods {
            if self.of_mail(method) || mailto::parse(&self.bounded(method)?).is_err() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Switches all of them on, or none.
    fn ihave(&mut self, capabilities: Option<&[Capability]>) -> bool {
        for capability in capabilities.unwrap_or_default() {
            self.enabled = self.enabled.with(*capability);
            if *capability == Capability::VacationSeconds {
                self.enabled = self.enabled.with(Capability::Vacation);
            }
        }
        capabilities.is_some()
    }

    /// Whether one of the tests has this value; none after it is run (RFC 5229 section 3.2).
    fn first_that(&mut self, checks: &[Check], value: bool) -> Result<bool> {
        for check in checks {
            if self.check(check)? == value {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// A single value, whose `:count` is 0 if it is empty.
    fn one(&mut self, matcher: Matcher, value: &[u8], keys: &[Text], leaves: Leaves) -> Result<bool> {
        match matcher.count() {
            Some(relation) => self.counts(matcher, relation, usize::from(!value.is_empty()), keys),
            None => self.matches_any(matcher, value, keys, leaves),
        }
    }

    fn all_utf8(&mut self, texts: &[Text], holds: impl Fn(&str) -> bool) -> Result<bool> {
        for text in texts {
            let name = self.bounded(text)?;
            self.budget.spend(crate::Limits::STEP)?;
            if !std::str::from_utf8(&name).is_ok_and(&holds) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn body(&mut self, matcher: Matcher, transform: &Transform, keys: &[Text]) -> Result<bool> {
        let mail = self.mail;
        let Some(raw) = mail.raw_body() else { return Ok(false) };
        // The structure is walked through; what is compared is paid for where that happens.
        self.budget.spend(mail.size() / 8)?;
        if *transform == Transform::Raw {
            return match matcher.count() {
                Some(relation) => self.counts(matcher, relation, 1, keys),
                None => self.matches_any(matcher, &raw, keys, Leaves::Nothing),
            };
        }
        let mut wanted = Vec::new();
        if let Transform::Content(types) = transform {
            for kind in types {
                wanted.push(self.string(kind)?.to_ascii_lowercase());
            }
        }
        let mut result = Ok(false);
        let mut count = 0;
        let mut visit = |text: &[u8]| {
            result = self.body_string(matcher, text, keys, &mut count);
            if matches!(result, Ok(false)) { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        };
        match transform {
            Transform::Content(_) => {
                mail.parts(&|kind| wanted.iter().any(|wanted| is_content(kind, wanted)), &mut visit);
            }
            _ => mail.text(&mut visit),
        }
        match (matcher.count(), result) {
            (Some(relation), Ok(_)) => self.counts(matcher, relation, count, keys),
            (_, result) => result,
        }
    }

    /// One string of a body. RFC 5173 says nothing of `:count`: it counts the strings.
    fn body_string(
        &mut self,
        matcher: Matcher,
        text: &[u8],
        keys: &[Text],
        count: &mut usize,
    ) -> Result<bool> {
        *count += 1;
        self.budget.spend(crate::Limits::STEP)?;
        if matcher.count().is_some() {
            Ok(false)
        } else {
            self.matches_any(matcher, text, keys, Leaves::Nothing)
        }
    }

    fn date(&mut self, date: &Date) -> Result<bool> {
        let Some(part) = DatePart::from_name(&self.bounded(&date.part)?) else {
            return fail("date has no such part");
        };
        let stamp = match &date.header {
            None => Some(Stamp { unix: self.context.now, offset: 0, leap: false }),
            Some(name) => {
                let name = self.string(name)?;
                let values = self.fields.raw(&name, &mut self.budget)?;
                let pick = date.pick.unwrap_or(Pick { index: 1, last: false });
                let value = picked(&values, Some(pick)).next();
                self.budget.spend(value.map_or(0, |value| value.len() as u64))?;
                value.and_then(|value| Stamp::parse(value))
            }
        };
        let offset = match (&date.zone, stamp) {
            (Zone::Original, Some(stamp)) => stamp.offset,
            (Zone::Offset(zone), _) => match date::zone(&self.bounded(zone)?) {
                Some(offset) => offset,
                None => return fail("a zone is + or - with four digits"),
            },
            (Zone::Local, Some(stamp)) => self.context.host.utc_offset(stamp.unix),
            (_, None) => 0,
        };
        let value = stamp.and_then(|stamp| stamp.at_offset(offset).part(part));
        match (date.matcher.count(), value) {
            (Some(relation), value) => {
                self.counts(date.matcher, relation, usize::from(value.is_some()), &date.keys)
            }
            (None, None) => Ok(false),
            (None, Some(value)) => {
                let leaves = if date.header.is_some() { Leaves::Mail } else { Leaves::Other };
                self.matches_any(date.matcher, value.as_bytes(), &date.keys, leaves)
            }
        }
    }

    fn strings(&mut self, matcher: Matcher, sources: &[Text], keys: &[Text]) -> Result<bool> {
        let mut count = 0;
        for source in sources {
            let value = self.bounded(source)?;
            if matcher.count().is_some() {
                count += usize::from(!value.is_empty());
                continue;
            }
            let leaves = if self.of_mail(source) { Leaves::Mail } else { Leaves::Other };
            if self.matches_any(matcher, &value, keys, leaves)? {
                return Ok(true);
            }
        }
        matcher.count().map_or(Ok(false), |relation| self.counts(matcher, relation, count, keys))
    }

    /// Flags are words: every one of a variable is a value, every one of the list is a key.
    fn hasflag(&mut self, matcher: Matcher, variables: Option<&[u16]>, words: &[Text]) -> Result<bool> {
        let most = self.script.limits.flags;
        let mut values = Vec::new();
        for slot in variables.unwrap_or_default() {
            let mut set = Vec::new();
            flags::add(&mut set, self.value(*slot), most);
            values.extend(set);
        }
        if variables.is_none() {
            values.clone_from(&self.flags);
        }
        let mut keys = Vec::new();
        for text in words {
            let words = self.bounded(text)?;
            keys.extend(
                flags::split(&words).map(|word| Text(vec![crate::text::Piece::Octets(word.to_vec())])),
            );
        }
        if let Some(relation) = matcher.count() {
            return self.counts(matcher, relation, values.len(), &keys);
        }
        for value in values {
            if self.matches_any(matcher, value.as_bytes(), &keys, Leaves::Mail)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn duplicate(&mut self, duplicate: &Duplicate) -> Result<bool> {
        let handle =
            duplicate.handle.as_ref().map(|handle| self.string(handle)).transpose()?.unwrap_or_default();
        let id = match &duplicate.id {
            DuplicateId::Unique(id) => Some(self.bounded(id)?.into_owned()),
            DuplicateId::Header(name) => {
                let name = self.string(name)?;
                let values = self.fields.decoded(&name, &mut self.budget)?;
                values.first().map(|value| value.trim_ascii().to_vec())
            }
        };
        let limits = &self.script.limits;
        let seconds = duplicate.seconds.unwrap_or(DUPLICATE_SECONDS).min(limits.duplicate_seconds);
        let Some(id) = id.filter(|id| id.len() <= limits.variable && seconds > 0) else { return Ok(false) };
        let seen = self.context.host.seen(&handle, &id);
        if seen && !duplicate.last {
            return Ok(true);
        }
        let mark = Seen { handle, id, seconds };
        self.seen.retain(|other| (&other.handle, &other.id) != (&mark.handle, &mark.id));
        if self.seen.len() >= limits.duplicates {
            return fail(format!("a script may ask for {} duplicates at most", limits.duplicates));
        }
        self.seen.push(mark);
        Ok(seen)
    }

    fn environment(&mut self, matcher: Matcher, name: &Text, keys: &[Text]) -> Result<bool> {
        let name = self.bounded(name)?;
        let item =
            self.context.environment.iter().find(|(known, _)| known.as_bytes().eq_ignore_ascii_case(&name));
        match item {
            None => Ok(false),
            // Some items are what the sending host says.
            Some((_, value)) => self.one(matcher, value.as_bytes(), keys, Leaves::Mail),
        }
    }
}

/// Whether a content type is what a script asks for (RFC 5173 section 5.2).
fn is_content(kind: &str, wanted: &str) -> bool {
    match wanted.split_once('/') {
        _ if wanted.is_empty() => true,
        None => kind.split('/').next() == Some(wanted),
        Some(("", _) | (_, "")) => false,
        Some((_, subtype)) => !subtype.contains('/') && kind == wanted,
    }
}
