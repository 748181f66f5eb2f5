//! Where mail for a domain goes: to a smarthost, or to the hosts that its MX records name, in order (RFC 5321 section
//! 5.1, RFC 7505, RFC 5890).
//!
//! Three steps, with a look-up between each two: [`first`] says what is looked up for a domain, [`exchanges`] makes an
//! ordered list of hosts of the answer, and [`targets`] a list of addresses of the hosts' answers.
//!
//! Where the RFCs leave room:
//! - An answer that cannot be had (SERVFAIL, a time-out), or whose signatures are wrong, never sends mail back: it waits.
//! - MX records that name us, or an address of ours, are dropped together with all that are no better (RFC 5321
//!   section 5.1): what is left is nearer to the mailbox than we are. When nothing is left, mail would go in circles.
//! - A name behind a CNAME is followed by the resolver; the name that it led to is what TLSA records are looked up for.
//! - Hosts and addresses beyond the limits are not tried: a domain cannot make us knock at a thousand doors.

mod exchanges;
mod targets;

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv6Addr},
};

use crate::Status;

pub use exchanges::{Exchange, Exchanges, exchanges};
pub use targets::{HostAnswer, Target, targets};

/// Longest domain name in octets, without its last dot (RFC 1035 section 2.3.4).
const MAX_NAME: usize = 253;

/// What the DNS said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer<T> {
    /// At least one record.
    Records(Vec<T>),
    /// The name exists and has no such record.
    NoRecord,
    /// The name does not exist.
    NoName,
    /// No answer could be had.
    Failed,
    /// There was an answer, and its signatures are wrong.
    Bogus,
}

/// An answer, and whether DNSSEC vouches for it (for all of it, from the name that was asked for).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Looked<T> {
    /// What was said.
    pub answer: Answer<T>,
    /// It is signed, and the signatures are right.
    pub secure: bool,
}

impl<T> Looked<T> {
    /// An answer that nobody vouches for.
    #[must_use]
    pub fn plain(answer: Answer<T>) -> Self {
        Self { answer, secure: false }
    }
}

/// Why mail for a domain goes nowhere, now or for good.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct Failure {
    /// 4 to try again, 5 to send it back.
    pub status: Status,
    /// For people.
    pub text: String,
}

impl Failure {
    fn new(status: Status, text: impl Into<String>) -> Self {
        Self { status, text: text.into() }
    }

    /// Is it sent back?
    #[must_use]
    pub fn is_permanent(&self) -> bool {
        self.status.class == 5
    }

    /// The same for a host that the administrator named: a slip in our configuration costs nobody any mail.
    #[must_use]
    pub fn of_our_own_making(self) -> Self {
        Self { status: self.status.with_class(4), ..self }
    }
}

/// A host that takes mail for others.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Smarthost {
    /// Its name, or an address literal without brackets.
    pub host: String,
    /// Its port.
    pub port: u16,
}

/// How mail leaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Way {
    /// To the hosts of the domain's MX records.
    Direct,
    /// To this host.
    Via(Smarthost),
}

/// What the administrator says of ways out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ways {
    /// By domain, in A-labels and lower case; `.example.org` stands for all that is below example.org.
    pub by_domain: BTreeMap<String, Way>,
    /// For all others.
    pub default: Way,
}

impl Default for Ways {
    fn default() -> Self {
        Self { by_domain: BTreeMap::new(), default: Way::Direct }
    }
}

impl Ways {
    /// The domain's own way, else that of the nearest domain above it, else the default.
    fn of(&self, domain: &str) -> &Way {
        let above = domain.match_indices('.').map(|(dot, _)| &domain[dot..]);
        let found = std::iter::once(domain).chain(above).find_map(|name| self.by_domain.get(name));
        found.unwrap_or(&self.default)
    }
}

/// Who we are, for loops.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ourselves {
    /// Names that we go by, in A-labels and lower case.
    pub names: BTreeSet<String>,
    /// Addresses that lead to us.
    pub addresses: BTreeSet<IpAddr>,
    /// Loopback addresses lead to somebody else (a smarthost or a test server on this machine).
    pub loopback_is_another: bool,
}

impl Ourselves {
    fn has_address(&self, address: IpAddr) -> bool {
        (address.is_loopback() && !self.loopback_is_another) || self.addresses.contains(&address)
    }
}

/// How much is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Hosts of a domain.
    pub hosts: usize,
    /// Addresses of a host.
    pub addresses_of_a_host: usize,
    /// Addresses in all.
    pub addresses: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { hosts: 10, addresses_of_a_host: 4, addresses: 20 }
    }
}

/// What is to be done first for a domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum First {
    /// Look up the addresses of this host, and connect to its port.
    Smarthost(Smarthost),
    /// Connect to this address (RFC 5321 section 4.1.3).
    Address(IpAddr),
    /// Look up MX records of this domain.
    LookUpMx(String),
}

/// What is to be done first for a recipient's domain.
///
/// # Errors
/// When no mail can go there.
pub fn first(domain: &str, ways: &Ways, ourselves: &Ourselves) -> Result<First, Failure> {
    if let Some(literal) = domain.strip_prefix('[').and_then(|d| d.strip_suffix(']')) {
        return match &ways.default {
            Way::Via(smarthost) => Ok(First::Smarthost(smarthost.clone())),
            Way::Direct => literal_address(literal, ourselves).map(First::Address),
        };
    }
    let domain = a_labels(domain)?;
    match ways.of(&domain) {
        Way::Via(smarthost) => Ok(First::Smarthost(smarthost.clone())),
        Way::Direct => Ok(First::LookUpMx(domain)),
    }
}

/// A domain as the DNS has it: A-labels in lower case, without a last dot.
///
/// # Errors
/// When it is no domain name.
pub fn a_labels(domain: &str) -> Result<String, Failure> {
    let bad = || Failure::new(Status::new(5, 1, 2), "the domain is not a domain name");
    let domain = domain.strip_suffix('.').unwrap_or(domain);
    let ascii = match domain.is_ascii() {
        true => domain.to_ascii_lowercase(),
        // Longer texts cannot become a name, and are not looked at.
        false if domain.len() <= 4 * MAX_NAME => idna::domain_to_ascii(domain).map_err(|_| bad())?,
        false => return Err(bad()),
    };
    if is_name(&ascii) && ascii.parse::<IpAddr>().is_err() { Ok(ascii) } else { Err(bad()) }
}

fn is_name(name: &str) -> bool {
    name.len() <= MAX_NAME
        && name.split('.').all(|label| {
            (1..=63).contains(&label.len())
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
        })
}

/// `[192.0.2.1]`, `[IPv6:2001:db8::1]`
fn literal_address(literal: &str, ourselves: &Ourselves) -> Result<IpAddr, Failure> {
    let bad = |text: &str| Failure::new(Status::new(5, 1, 2), text);
    let v6 = literal.get(..5).filter(|tag| tag.eq_ignore_ascii_case("ipv6:")).map(|_| &literal[5..]);
    let address = match v6 {
        Some(v6) => v6.parse::<Ipv6Addr>().ok().map(IpAddr::from),
        None => literal.parse().ok().map(IpAddr::V4),
    };
    let address = address.ok_or_else(|| bad("the address literal is not an address"))?;
    match usable(address) {
        Some(address) if ourselves.has_address(address) => {
            Err(Failure::new(Status::new(5, 4, 6), "the address literal is an address of this site"))
        }
        Some(address) => Ok(address),
        None => Err(bad("no mail goes to this address")),
    }
}

/// An address that something may be sent to, in its plain form.
fn usable(address: IpAddr) -> Option<IpAddr> {
    let address = address.to_canonical();
    let nobody = address.is_unspecified() || address.is_multicast();
    let all = matches!(address, IpAddr::V4(v4) if v4.is_broadcast() || v4.octets()[0] == 0);
    (!nobody && !all).then_some(address)
}

/// Puts `items` in the order that `draw` gives: `draw(n)` answers a number below `n`.
fn shuffle<T>(items: &mut [T], draw: &mut dyn FnMut(usize) -> usize) {
    for last in (1..items.len()).rev() {
        let place = draw(last + 1).min(last);
        items.swap(last, place);
    }
}
