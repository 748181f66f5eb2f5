//! What an administrator wants to be done.

use crate::Network;

/// What is made of a check's result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Check {
    /// It is not made.
    Off,
    /// It is written into the message.
    #[default]
    Mark,
    /// And what fails is refused, or goes to Junk.
    Enforce,
}

/// What is done about mail from a client that a DNS list has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListAction {
    /// It is written into the message.
    Mark,
    /// The message goes to Junk.
    Junk,
    /// Recipients are refused.
    Reject,
}

/// A DNS list (RFC 5782).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct List {
    /// The zone, without a last dot.
    pub zone: String,
    /// Answers that count, as last octets of 127.0.0.0/24; none: all in 127.0.0.0/8 but those that tell of an error.
    pub answers: Vec<u8>,
    /// What is done.
    pub action: ListAction,
}

/// What is checked, and what for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Settings {
    /// RFC 7208.
    pub spf: Check,
    /// RFC 6376; a signature that does not hold is like none (section 6.3): nothing is refused for it alone.
    pub dkim: bool,
    /// RFC 9989.
    pub dmarc: Check,
    /// RFC 5782.
    pub lists: Vec<List>,
    /// Networks whose mail is judged and marked, never refused or put into Junk, and not looked up in lists.
    pub allowed: Vec<Network>,
}

/// Settings that contradict each other.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// DMARC is made of the other two; without one of them honest mail would fail.
    #[error("DMARC needs SPF and DKIM: turn them on, or DMARC off")]
    DmarcAlone,
    /// A zone that cannot be one.
    #[error("{0:?} is no name of a DNS list's zone")]
    Zone(String),
}

impl Settings {
    /// Everything is judged and marked, nothing is refused.
    #[must_use]
    pub fn mark() -> Self {
        Self { dkim: true, ..Self::default() }
    }

    /// Is there nothing to do?
    #[must_use]
    pub fn is_idle(&self) -> bool {
        !self.judges() && self.lists.is_empty()
    }

    /// Is anything of a message looked at?
    #[must_use]
    pub fn judges(&self) -> bool {
        self.spf != Check::Off || self.dkim || self.dmarc != Check::Off
    }

    /// Is mail refused for what is looked at?
    #[must_use]
    pub fn enforces(&self) -> bool {
        self.spf == Check::Enforce || self.dmarc == Check::Enforce
    }

    /// Do they make sense together?
    ///
    /// # Errors
    /// As [`SettingsError`] says.
    pub fn check(&self) -> Result<(), SettingsError> {
        if self.dmarc != Check::Off && !(self.dkim && self.spf != Check::Off) {
            return Err(SettingsError::DmarcAlone);
        }
        let is_label = |label: &str| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b))
        };
        // An IPv6 address in front takes 64 octets of a name's 253.
        let is_zone = |zone: &str| zone.len() <= 189 && zone.contains('.') && zone.split('.').all(is_label);
        match self.lists.iter().find(|list| !is_zone(&list.zone)) {
            Some(list) => Err(SettingsError::Zone(list.zone.clone())),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_contradicts_itself_is_refused() {
        let list = |zone: &str| List { zone: zone.into(), answers: vec![], action: ListAction::Mark };
        for (settings, expected) in [
            (Settings::mark(), Ok(())),
            (Settings { spf: Check::Off, ..Settings::mark() }, Err(SettingsError::DmarcAlone)),
            (Settings { dkim: false, ..Settings::mark() }, Err(SettingsError::DmarcAlone)),
            (Settings { spf: Check::Off, dmarc: Check::Off, ..Settings::mark() }, Ok(())),
            (Settings { lists: vec![list("zen.example.org")], ..Settings::mark() }, Ok(())),
            (Settings { lists: vec![list("")], ..Settings::mark() }, Err(SettingsError::Zone(String::new()))),
            (
                Settings { lists: vec![list("a..b")], ..Settings::mark() },
                Err(SettingsError::Zone("a..b".into())),
            ),
            (
                Settings { lists: vec![list("a b.c")], ..Settings::mark() },
                Err(SettingsError::Zone("a b.c".into())),
            ),
        ] {
            assert_eq!(settings.check(), expected, "{settings:?}");
        }
        assert!(!Settings::mark().is_idle());
        let off = Settings { spf: Check::Off, dkim: false, dmarc: Check::Off, ..Settings::default() };
        assert!(off.is_idle());
        assert!(!Settings { lists: vec![list("a.b")], ..off }.is_idle());
    }
}
