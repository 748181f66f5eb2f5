//! What the checks found, in the words of RFC 8601 section 2.7.

use std::net::Ipv4Addr;

use crate::ListAction;

/// A check's result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing to check.
    None,
    /// It holds.
    Pass,
    /// It does not.
    Fail,
    /// SPF `~all`.
    SoftFail,
    /// Nothing can be said.
    Neutral,
    /// It may hold, but is not accepted here.
    Policy,
    /// The DNS did not answer (in time).
    TempError,
    /// What is published, or in the message, cannot be worked with.
    PermError,
}

impl Outcome {
    /// Its word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::SoftFail => "softfail",
            Self::Neutral => "neutral",
            Self::Policy => "policy",
            Self::TempError => "temperror",
            Self::PermError => "permerror",
        }
    }
}

/// A DKIM signature, as it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    /// What it is worth.
    pub outcome: Outcome,
    /// `d=`; empty when it could not be read.
    pub domain: String,
    /// `s=`.
    pub selector: String,
    /// Why it is worth nothing.
    pub why: &'static str,
}

/// What a domain asks for mail that fails DMARC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// Nothing.
    None,
    /// To be suspicious.
    Quarantine,
    /// To refuse it.
    Reject,
}

impl Policy {
    /// Its word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Quarantine => "quarantine",
            Self::Reject => "reject",
        }
    }
}

/// DMARC's result for the author's domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dmarc {
    /// What was found.
    pub outcome: Outcome,
    /// What the domain asks for; `None` where it publishes nothing.
    pub policy: Policy,
    /// The author's domain; empty when there is not one.
    pub domain: String,
    /// The header names no author that could be checked, or too many.
    pub authors: Authors,
}

/// How many authors a header names (RFC 5322 section 3.6.2: one From field).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Authors {
    /// A From field with an address of a domain.
    Named,
    /// No From field, or none with an address that can be read.
    Unreadable,
    /// It was not looked.
    Unknown,
    /// More From fields than one, or more domains in it than are looked at.
    Several,
}

/// A list that has the client's address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// The list's zone.
    pub zone: String,
    /// Its answer.
    pub answer: Ipv4Addr,
    /// What is done about it.
    pub action: ListAction,
}

/// All that was found; `None` where it was not looked.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Results {
    /// The client's name and address point to each other.
    pub iprev: Option<Outcome>,
    /// SPF of the name in HELO or EHLO.
    pub helo: Option<Outcome>,
    /// SPF of MAIL FROM; for the null sender of postmaster at the HELO name.
    pub spf: Option<Outcome>,
    /// DKIM signatures; `None` when they were not looked at, empty when there are none.
    pub dkim: Option<Vec<Signature>>,
    /// The chain of ARC.
    pub arc: Option<Outcome>,
    /// DMARC.
    pub dmarc: Option<Dmarc>,
    /// Lists that have the client's address.
    pub listed: Vec<Listed>,
}

impl Results {
    /// The best of the signatures.
    #[must_use]
    pub fn dkim_outcome(&self) -> Option<Outcome> {
        let rank = |outcome: &Outcome| match outcome {
            Outcome::Pass => 0,
            Outcome::TempError => 1,
            Outcome::Fail | Outcome::SoftFail => 2,
            Outcome::Policy | Outcome::Neutral => 3,
            Outcome::PermError => 4,
            Outcome::None => 5,
        };
        let signatures = self.dkim.as_ref()?;
        let best = signatures.iter().map(|signature| signature.outcome).min_by_key(rank);
        Some(best.unwrap_or(Outcome::None))
    }

    /// A check's name and result each, for the log, the trace and the metrics.
    #[must_use]
    pub fn by_check(&self) -> Vec<(&'static str, Outcome)> {
        let all = [
            ("iprev", self.iprev),
            ("helo", self.helo),
            ("spf", self.spf),
            ("dkim", self.dkim_outcome()),
            ("arc", self.arc.filter(|outcome| *outcome != Outcome::None)),
            ("dmarc", self.dmarc.as_ref().map(|dmarc| dmarc.outcome)),
            ("dnsbl", (!self.listed.is_empty()).then_some(Outcome::Fail)),
        ];
        all.into_iter().filter_map(|(check, outcome)| Some((check, outcome?))).collect()
    }

    /// The same in a line of `[a-z0-9:,]`, as it goes with the message to its stores.
    #[must_use]
    pub fn summary(&self) -> String {
        let parts: Vec<String> =
            self.by_check().iter().map(|(check, outcome)| format!("{check}:{}", outcome.word())).collect();
        parts.join(",")
    }
}
