//! What is checked of mail from other sites.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

/// What is checked of mail from other sites, and what for. Without further ado everything is checked and written into the
/// message (Authentication-Results), and nothing is refused.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(
    validation = ("self.dmarc == 'Off' || (self.spf != 'Off' && self.dkim != 'Off')", "DMARC needs SPF and DKIM: turn inbound.spf and inbound.dkim on, or inbound.dmarc off"),
)]
pub struct Inbound {
    /// SPF (RFC 7208): may this server send the sender's mail? Enforce: mail that fails is refused, unless DMARC passes by
    /// DKIM. Default: Mark.
    #[serde(default)]
    pub spf: InboundCheck,
    /// DKIM signatures (RFC 6376, 8463) and ARC chains (RFC 8617). Default: Mark.
    #[serde(default)]
    pub dkim: InboundSignatures,
    /// DMARC (RFC 9989). Enforce: what fails is refused, or goes to Junk, as the author's domain asks; what has more than one
    /// From field is refused, and what has none that can be read goes to Junk. Default: Mark.
    #[serde(default)]
    pub dmarc: InboundCheck,
    /// DNS lists of clients (RFC 5782).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub dnsbls: Vec<Dnsbl>,
    /// Networks in CIDR notation whose mail is checked and marked, but never refused or put into Junk, and not looked up in
    /// lists: a mail gateway of your own, mailing lists that change what they pass on.
    #[serde(default, rename = "allowedCIDRs", skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 49)))]
    #[x_kube(validation = ("self.all(c, isCIDR(c))", "allowedCIDRs must be networks in CIDR notation, like 192.0.2.0/24 or 2001:db8::/32"))]
    pub allowed_cidrs: Vec<String>,
}

impl Inbound {
    /// As when nothing is said of it.
    #[must_use]
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// What is made of a check.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, schemars::JsonSchema)]
pub enum InboundCheck {
    /// The result is written into the message.
    #[default]
    Mark,
    /// And mail that fails is refused, or goes to Junk.
    Enforce,
    /// It is not made.
    Off,
}

/// What is made of signatures. None is ever refused mail for: a signature that does not hold is like none (RFC 6376 section
/// 6.3); DMARC tells which mail should have one.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, schemars::JsonSchema)]
pub enum InboundSignatures {
    /// The results are written into the message.
    #[default]
    Mark,
    /// They are not looked at.
    Off,
}

/// A DNS list of clients.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Dnsbl {
    /// Its zone.
    #[schemars(length(min = 3, max = 189))]
    #[x_kube(validation = ("self.matches('^[A-Za-z0-9_-]{1,63}([.][A-Za-z0-9_-]{1,63})+$')", "zone must be the name of a DNS list's zone, like bl.example.org"))]
    pub zone: String,
    /// What is done about mail from clients that it has.
    pub action: DnsblAction,
    /// Answers that count, as last numbers of 127.0.0.0/24. None: all that do not tell of an error.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub answers: Vec<u8>,
}

/// What is done about mail from clients that a list has.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, schemars::JsonSchema)]
pub enum DnsblAction {
    /// It is written into the message.
    Mark,
    /// The message goes to Junk.
    Junk,
    /// Recipients are refused, except postmaster.
    Reject,
}
