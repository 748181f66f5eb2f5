//! Parameters of DSN (RFC 3461) as they come in, are kept and go on: `RET` and `ENVID` of MAIL, `NOTIFY` and `ORCPT` of
//! RCPT.
//!
//! What is decoded is encoded anew when it goes on, so nothing in a value can make a parameter or a line of its own. A
//! parameter that cannot be sent on is refused when it comes in.

use crate::{
    CommandFault, Notify, OriginalRecipient, Ret,
    client::{envelope_id_param, notify_param},
    params::once,
    xtext,
};

/// What a sender asks for a message's reports.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MailDsn {
    /// `RET=`
    pub ret: Option<Ret>,
    /// `ENVID=`, decoded.
    pub envelope_id: Option<String>,
}

/// What a sender asks for a recipient's reports.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RcptDsn {
    /// `NOTIFY=`
    pub notify: Option<Notify>,
    /// `ORCPT=`, decoded.
    pub original: Option<OriginalRecipient>,
}

impl MailDsn {
    /// Was anything asked for?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// As parameters, each behind a space.
    #[must_use]
    pub fn to_params(&self) -> String {
        let mut text = ret_param(self.ret).to_owned();
        text.push_str(&self.envelope_id.as_deref().and_then(envelope_id_param).unwrap_or_default());
        text
    }

    /// Takes a parameter in; nothing when it is none of these.
    pub(crate) fn take(&mut self, key: &str, value: Option<&str>) -> Option<Result<(), CommandFault>> {
        match (key, value) {
            ("RET", Some(value)) => Some(ret(value).and_then(|ret| once(&mut self.ret, ret))),
            ("ENVID", Some(value)) => Some(envelope_id(value).and_then(|id| once(&mut self.envelope_id, id))),
            ("RET" | "ENVID", None) => Some(Err(CommandFault::Syntax("bad MAIL parameter"))),
            _ => None,
        }
    }
}

impl RcptDsn {
    /// Was anything asked for?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Is the sender to hear that it was delivered?
    #[must_use]
    pub fn wants_success(&self) -> bool {
        matches!(self.notify, Some(Notify::On { success: true, .. }))
    }

    /// As parameters, each behind a space, in US-ASCII.
    #[must_use]
    pub fn to_params(&self) -> String {
        let mut text = self.notify.map(notify_param).unwrap_or_default();
        text.push_str(&self.original.as_ref().and_then(|o| o.param(false)).unwrap_or_default());
        text
    }

    /// Takes a parameter in; nothing when it is none of these.
    pub(crate) fn take(&mut self, key: &str, value: Option<&str>) -> Option<Result<(), CommandFault>> {
        match (key, value) {
            ("NOTIFY", Some(value)) => Some(notify(value).and_then(|notify| once(&mut self.notify, notify))),
            ("ORCPT", Some(value)) => {
                Some(original(value).and_then(|original| once(&mut self.original, original)))
            }
            ("NOTIFY" | "ORCPT", None) => Some(Err(CommandFault::Syntax("bad RCPT parameter"))),
            _ => None,
        }
    }
}

pub(crate) fn ret_param(ret: Option<Ret>) -> &'static str {
    match ret {
        None => "",
        Some(Ret::Full) => " RET=FULL",
        Some(Ret::Headers) => " RET=HDRS",
    }
}

fn ret(value: &str) -> Result<Ret, CommandFault> {
    match value.to_ascii_uppercase().as_str() {
        "FULL" => Ok(Ret::Full),
        "HDRS" => Ok(Ret::Headers),
        _ => Err(CommandFault::Syntax("RET must be FULL or HDRS")),
    }
}

fn envelope_id(value: &str) -> Result<String, CommandFault> {
    let id = xtext::decode(value).filter(|id| envelope_id_param(id).is_some());
    id.ok_or(CommandFault::Syntax("ENVID must be xtext, of 100 printable characters at most"))
}

/// `"NEVER" / 1#( "SUCCESS" / "FAILURE" / "DELAY" )`
fn notify(value: &str) -> Result<Notify, CommandFault> {
    const BAD: CommandFault =
        CommandFault::Syntax("NOTIFY must be NEVER, or of SUCCESS, FAILURE and DELAY some");
    if value.eq_ignore_ascii_case("NEVER") {
        return Ok(Notify::Never);
    }
    let (mut success, mut failure, mut delay) = (false, false, false);
    for word in value.split(',') {
        let asked = match word.to_ascii_uppercase().as_str() {
            "SUCCESS" => &mut success,
            "FAILURE" => &mut failure,
            "DELAY" => &mut delay,
            _ => return Err(BAD),
        };
        *asked = true;
    }
    Ok(Notify::On { success, failure, delay })
}

/// `addr-type ";" xtext`; of the type `utf-8` as RFC 6533 section 3 encodes it.
fn original(value: &str) -> Result<OriginalRecipient, CommandFault> {
    let read = || {
        let (kind, address) = value.split_once(';')?;
        let utf8 = kind.eq_ignore_ascii_case("utf-8");
        let address = if utf8 { xtext::decode_utf8_address(address)? } else { xtext::decode(address)? };
        let original = OriginalRecipient { kind: kind.to_ascii_lowercase(), address };
        let good = !original.address.chars().any(char::is_control) && original.param(false).is_some();
        good.then_some(original)
    };
    read().ok_or(CommandFault::Syntax("ORCPT must be a type of address, a semicolon and xtext"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn mail(params: &str) -> Option<MailDsn> {
        crate::MailParams::parse(params).ok().map(|params| params.dsn)
    }

    fn rcpt(params: &str) -> Option<RcptDsn> {
        crate::RcptParams::parse(params).ok().map(|params| params.dsn)
    }

    #[test]
    fn parameters_are_read_and_written_anew() {
        for (given, kept) in [
            ("", Some("")),
            ("RET=full", Some(" RET=FULL")),
            ("envid=QQ+20314 RET=HDRS", Some(" RET=HDRS ENVID=QQ+20314")),
            ("RET=ALL", None),
            ("RET", None),
            ("RET=FULL RET=FULL", None),
            ("ENVID=a+0D+0ARSET", None),
            ("ENVID=a+2", None),
            ("ENVID=a+2b", None),
            ("ENVID=", None),
            ("ENVID=\u{fc}", None),
        ] {
            assert_eq!(mail(given).map(|dsn| dsn.to_params()).as_deref(), kept, "{given:?}");
        }
        assert!(mail(&format!("ENVID={}", "x".repeat(101))).is_none());
        for (given, kept) in [
            ("", Some("")),
            ("NOTIFY=never", Some(" NOTIFY=NEVER")),
            ("NOTIFY=delay,SUCCESS", Some(" NOTIFY=SUCCESS,DELAY")),
            ("ORCPT=RFC822;a+2Bb@c NOTIFY=FAILURE", Some(" NOTIFY=FAILURE ORCPT=rfc822;a+2Bb@c")),
            ("ORCPT=utf-8;j\\x{FC}@c", Some(" ORCPT=utf-8;j\\x{FC}@c")),
            ("ORCPT=utf-8;j\u{fc}@c", Some(" ORCPT=utf-8;j\\x{FC}@c")),
            ("ORCPT=x400;a", Some(" ORCPT=x400;a")),
            ("NOTIFY=NEVER,SUCCESS", None),
            ("NOTIFY=", None),
            ("NOTIFY=SUCCESS,", None),
            ("NOTIFY", None),
            ("ORCPT=a@b", None),
            ("ORCPT=;a@b", None),
            ("ORCPT=rfc822;", None),
            ("ORCPT=rfc822;a+0Ab", None),
            ("ORCPT=rfc822;a+C3+BC", None),
            ("ORCPT=rfc822;\u{fc}", None),
            ("ORCPT=utf-8;a\\x{D800}", None),
            ("ORCPT=utf-8;a\\x{FC", None),
            ("ORCPT=utf-8;a\\y", None),
            ("ORCPT=utf-8;a\\x{0A}", None),
        ] {
            assert_eq!(rcpt(given).map(|dsn| dsn.to_params()).as_deref(), kept, "{given:?}");
        }
    }

    proptest! {
        #[test]
        fn what_was_taken_in_is_read_back_the_same(
            id in "[ -~]{1,100}", kind in "(rfc822|utf-8|x400)", address in "[ -~]{1,60}|\\PC{1,20}",
        ) {
            let dsn = MailDsn { ret: Some(Ret::Full), envelope_id: Some(id) };
            prop_assert_eq!(mail(&dsn.to_params()), Some(dsn));
            let original = OriginalRecipient { kind, address };
            if original.param(false).is_some() {
                let dsn = RcptDsn { notify: Some(Notify::Never), original: Some(original) };
                prop_assert_eq!(rcpt(&dsn.to_params()), Some(dsn));
            }
        }

        #[test]
        fn no_value_makes_it_panic_or_breaks_a_line(value in "\\PC{0,40}|[+\\\\x{}A-F0-9;]{0,30}") {
            for key in ["RET", "ENVID"] {
                let text = mail(&format!("{key}={value}")).unwrap_or_default().to_params();
                prop_assert!(text.is_ascii() && !text.contains(['\r', '\n']));
            }
            for key in ["NOTIFY", "ORCPT"] {
                let text = rcpt(&format!("{key}={value}")).unwrap_or_default().to_params();
                prop_assert!(text.is_ascii() && !text.contains(['\r', '\n']));
            }
        }
    }
}
