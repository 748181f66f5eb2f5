//! Parameters of MAIL and RCPT.

use crate::{CommandFault, MailDsn, RcptDsn};

/// What kind of body is announced (RFC 6152).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Body {
    /// `BODY=7BIT`
    SevenBit,
    /// `BODY=8BITMIME`
    EightBitMime,
}

/// Parameters of MAIL.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MailParams {
    /// `SIZE=` (RFC 1870); absent is not zero.
    pub size: Option<u64>,
    /// `BODY=` (RFC 6152).
    pub body: Option<Body>,
    /// `SMTPUTF8` (RFC 6531).
    pub utf8: bool,
    /// `AUTH=` (RFC 4954 section 5), as written.
    pub auth: Option<String>,
    /// `MCID=`: the delivery id; only between parts of one cluster.
    pub delivery: Option<String>,
    /// `RET=` and `ENVID=` (RFC 3461).
    pub dsn: MailDsn,
    /// `MCJUNK=1`: into the recipients' Junk mailboxes; only between parts of one cluster.
    pub junk: bool,
    /// `MCMET=`: what checks said of the message on its way in; only between parts of one cluster.
    pub met: Option<String>,
}

/// Longest `MCMET=`.
const MAX_MET: usize = 200;

/// Parameters of RCPT; all but those of DSN only between parts of one cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RcptParams {
    /// `MCACCT=`: the account.
    pub account: Option<String>,
    /// `MCSTORE=`: the store that should get it (hand-off).
    pub store: Option<String>,
    /// `MCHOLD=1`: into the queue, held.
    pub hold: bool,
    /// `MCOUT=1`: into the queue, to go out to another site.
    pub out: bool,
    /// `NOTIFY=` and `ORCPT=` (RFC 3461).
    pub dsn: RcptDsn,
}

impl MailParams {
    /// Were any of the parameters given that only our own parts may use?
    #[must_use]
    pub fn any_internal(&self) -> bool {
        self.delivery.is_some() || self.junk || self.met.is_some()
    }

    /// Reads parameters, parted by spaces.
    ///
    /// # Errors
    /// [`CommandFault`], when one is not known or wrong.
    pub fn parse(text: &str) -> Result<Self, CommandFault> {
        let mut params = Self::default();
        for (key, value) in words(text)? {
            if let Some(taken) = params.dsn.take(&key, value) {
                taken?;
                continue;
            }
            match (key.as_str(), value) {
                ("SIZE", Some(value)) => once(&mut params.size, number(value)?)?,
                ("BODY", Some(value)) => once(&mut params.body, body(value)?)?,
                ("SMTPUTF8", None) if !params.utf8 => params.utf8 = true,
                ("AUTH", Some(value)) => once(&mut params.auth, value.to_owned())?,
                ("MCID", Some(value)) => once(&mut params.delivery, value.to_owned())?,
                ("MCJUNK", Some("1")) if !params.junk => params.junk = true,
                ("MCMET", Some(value)) if is_met(value) => once(&mut params.met, value.to_owned())?,
                ("SIZE" | "BODY" | "SMTPUTF8" | "AUTH" | "MCID" | "MCJUNK" | "MCMET", _) => {
                    return Err(CommandFault::Syntax("bad MAIL parameter"));
                }
                _ => return Err(CommandFault::Parameter),
            }
        }
        Ok(params)
    }
}

impl RcptParams {
    /// Were any of the parameters given that only our own parts may use?
    #[must_use]
    pub fn any(&self) -> bool {
        self.account.is_some() || self.store.is_some() || self.hold || self.out
    }

    /// Reads parameters, parted by spaces.
    ///
    /// # Errors
    /// [`CommandFault`], when one is not known or wrong.
    pub fn parse(text: &str) -> Result<Self, CommandFault> {
        let mut params = Self::default();
        for (key, value) in words(text)? {
            if let Some(taken) = params.dsn.take(&key, value) {
                taken?;
                continue;
            }
            match (key.as_str(), value) {
                ("MCACCT", Some(value)) => once(&mut params.account, value.to_owned())?,
                ("MCSTORE", Some(value)) => once(&mut params.store, value.to_owned())?,
                ("MCHOLD", Some("1")) if !params.hold => params.hold = true,
                ("MCOUT", Some("1")) if !params.out => params.out = true,
                ("MCACCT" | "MCSTORE" | "MCHOLD" | "MCOUT", _) => {
                    return Err(CommandFault::Syntax("bad RCPT parameter"));
                }
                _ => return Err(CommandFault::Parameter),
            }
        }
        Ok(params)
    }
}

/// What may stand in a trace.
fn is_met(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b":,.-".contains(&b);
    text.len() <= MAX_MET && text.bytes().all(plain)
}

pub(crate) fn once<T>(slot: &mut Option<T>, value: T) -> Result<(), CommandFault> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(CommandFault::Syntax("parameter given twice")),
    }
}

fn number(text: &str) -> Result<u64, CommandFault> {
    let plain = (1..=20).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    let parsed = if plain { text.parse().ok() } else { None };
    parsed.ok_or(CommandFault::Syntax("SIZE must be a number"))
}

fn body(text: &str) -> Result<Body, CommandFault> {
    match text.to_ascii_uppercase().as_str() {
        "7BIT" => Ok(Body::SevenBit),
        "8BITMIME" => Ok(Body::EightBitMime),
        _ => Err(CommandFault::Syntax("BODY must be 7BIT or 8BITMIME")),
    }
}

/// `esmtp-keyword ["=" esmtp-value]`, parted by spaces (RFC 5321 section 4.1.2).
fn words(text: &str) -> Result<Vec<(String, Option<&str>)>, CommandFault> {
    let word = |word| -> Result<(String, Option<&str>), CommandFault> {
        let (key, value) = match str::split_once(word, '=') {
            Some((key, value)) => (key, Some(value)),
            None => (word, None),
        };
        let good_key = key.starts_with(|c: char| c.is_ascii_alphanumeric())
            && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        let good_value = value.is_none_or(|v| !v.is_empty() && !v.contains('='));
        match good_key && good_value {
            true => Ok((key.to_ascii_uppercase(), value)),
            false => Err(CommandFault::Syntax("bad parameter")),
        }
    };
    text.split(' ').filter(|w| !w.is_empty()).map(word).collect()
}
