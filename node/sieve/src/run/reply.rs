//! Answers of `vacation`: whether a message may have one, and what is in it (RFC 5230 sections 4.5, 4.6 and 5, RFC 3834).

use super::{Result, Run, fail};
use crate::{Action, Address, Position, Vacation, compile::header_is_ascii, program};

/// Seconds between two answers when nothing is said.
const DEFAULT_SECONDS: u64 = 7 * 86_400;

/// Fields of mailing lists (RFC 2919, RFC 2369).
const LIST_FIELDS: [&str; 7] =
    ["list-id", "list-help", "list-subscribe", "list-unsubscribe", "list-post", "list-owner", "list-archive"];

/// Fields that one of the user's addresses has to be in.
const RECIPIENT_FIELDS: [&str; 6] = ["to", "cc", "bcc", "resent-to", "resent-cc", "resent-bcc"];

/// Local parts of programs that nobody reads the mail of.
const PROGRAMS: [&str; 5] = ["mailer-daemon", "listserv", "majordomo", "noreply", "no-reply"];

impl Run<'_> {
    pub fn vacation(&mut self, at: Position, vacation: &program::Vacation) -> Result<()> {
        if self.plan.iter().any(|planned| matches!(planned.action, Action::Reject { .. })) {
            return fail("a message that is rejected cannot be answered by vacation, too");
        }
        if std::mem::replace(&mut self.answered, true) {
            return fail("vacation can answer a message once");
        }
        let mut own = Vec::new();
        for address in &vacation.addresses {
            own.push(self.string(address)?);
        }
        let from = vacation.from.as_ref().map(|from| self.sender(from)).transpose()?;
        let subject = match &vacation.subject {
            Some(subject) => self.string(subject)?,
            None => match self.subject()? {
                subject if subject.is_empty() => "Automated reply".to_owned(),
                subject => format!("Auto: {subject}"),
            },
        };
        let reason = self.string(&vacation.reason)?;
        if vacation.mime && !header_is_ascii(reason.as_bytes()) {
            return fail("the header fields of a :mime text must be US-ASCII");
        }
        if let Some(why) = self.unanswerable(&own)? {
            self.skip(at, format!("no answer: {why}"));
            return Ok(());
        }
        let limits = &self.script.limits;
        let answer = Vacation {
            to: self.context.sender.to_owned(),
            from,
            subject: line(&subject),
            reason: if vacation.mime { reason } else { lines(&reason) },
            mime: vacation.mime,
            track: vacation.track.clone(),
            seconds: vacation.seconds.unwrap_or(DEFAULT_SECONDS).min(limits.vacation_max_seconds),
        };
        self.plan(Some(at), Action::Vacation(answer))
    }

    /// The message's subject.
    pub fn subject(&mut self) -> Result<String> {
        let values = self.fields.decoded("subject", &mut self.budget)?;
        let subject = values.first().map(|value| value.trim_ascii()).unwrap_or_default();
        Ok(String::from_utf8_lossy(&subject[..subject.len().min(LONGEST_SUBJECT)]).into_owned())
    }

    /// Why a message came from a program, if it says so itself.
    pub fn automatic(&mut self) -> Result<Option<String>> {
        let values = self.fields.decoded("auto-submitted", &mut self.budget)?;
        let automatic = values.iter().any(|value| {
            let word = value.split(|octet| b"; \t(".contains(octet)).find(|word| !word.is_empty());
            !word.unwrap_or_default().eq_ignore_ascii_case(b"no")
        });
        Ok(automatic.then(|| "the message was sent by a program (Auto-Submitted)".to_owned()))
    }

    /// Why a message may not be answered.
    fn unanswerable(&mut self, given: &[String]) -> Result<Option<String>> {
        let context = self.context;
        let own = |address: &str| {
            let given = given.iter().map(String::as_str);
            let mut known = given.chain(context.addresses.iter().copied()).chain([context.recipient]);
            known.any(|known| known.eq_ignore_ascii_case(address))
        };
        if let Some(why) = nobody(context.sender) {
            return Ok(Some(why));
        }
        if own(context.sender) {
            return Ok(Some("the sender is the user".to_owned()));
        }
        for field in LIST_FIELDS {
            if !self.fields.raw(field, &mut self.budget)?.is_empty() {
                return Ok(Some(format!("the message is from a mailing list ({field})")));
            }
        }
        let precedence = self.fields.decoded("precedence", &mut self.budget)?;
        if precedence.iter().any(|value| is_bulk(value.trim_ascii())) {
            return Ok(Some("the message is one of many (Precedence)".to_owned()));
        }
        if let Some(why) = self.automatic()? {
            return Ok(Some(why));
        }
        for field in RECIPIENT_FIELDS {
            for address in self.fields.addresses(field, &mut self.budget)?.iter().flatten() {
                if let Address::Valid { local, domain } = address
                    && own(&format!("{local}@{domain}"))
                {
                    return Ok(None);
                }
            }
        }
        Ok(Some("none of the user's addresses is in To or Cc: add :addresses".to_owned()))
    }
}

/// Why nobody would read an answer to a sender.
fn nobody(sender: &str) -> Option<String> {
    if sender.is_empty() {
        return Some("the message has the null sender".to_owned());
    }
    let Address::Valid { local, domain } = Address::from_path(sender) else {
        return Some("the sender has no valid address".to_owned());
    };
    let local = local.to_ascii_lowercase();
    if domain.is_empty() || PROGRAMS.contains(&local.as_str()) || local.starts_with("owner-") {
        return Some(format!("{sender} is the address of a program"));
    }
    local.ends_with("-request").then(|| format!("{sender} is the address of a program"))
}

fn is_bulk(precedence: &[u8]) -> bool {
    ["bulk", "list", "junk"].iter().any(|word| word.as_bytes().eq_ignore_ascii_case(precedence))
}

/// A subject that is longer makes a header that is of no use.
const LONGEST_SUBJECT: usize = 1000;

/// Lines with CRLF between them and without other control characters than tabs, whatever the message had in it.
pub fn lines(text: &str) -> String {
    let plain = |character: char| if character.is_control() && character != '\t' { ' ' } else { character };
    let lines = text.split('\n').map(|line| line.strip_suffix('\r').unwrap_or(line));
    lines.map(|line| line.chars().map(plain).collect::<String>()).collect::<Vec<_>>().join("\r\n")
}

/// One line: decoded words and strings of a script may have line ends in them, which would begin a new header field.
pub fn line(text: &str) -> String {
    let mut line: String =
        text.chars().map(|character| if character.is_control() { ' ' } else { character }).collect();
    if line.len() > LONGEST_SUBJECT {
        let end = (0..=LONGEST_SUBJECT).rev().find(|end| line.is_char_boundary(*end)).unwrap_or(0);
        line.truncate(end);
    }
    line
}
