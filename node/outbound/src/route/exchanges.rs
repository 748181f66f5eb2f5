//! From MX records to hosts.

use super::{Answer, Failure, Limits, Looked, Ourselves, a_labels, shuffle};
use crate::Status;

/// An MX record's preference and host, or the domain itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exchange {
    /// Lower is better.
    pub preference: u16,
    /// The host: an A-label name in lower case. As read from the DNS it may be anything.
    pub host: String,
}

/// The hosts of a domain, the best first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exchanges {
    /// At least one.
    pub hosts: Vec<Exchange>,
    /// There is no MX record: the domain is its own host (RFC 5321 section 5.1).
    pub implicit: bool,
    /// DNSSEC vouches for the list (RFC 7672 section 2.2.1).
    pub secure: bool,
}

/// Makes a list of hosts of the MX answer for `domain`, which [`super::first`] has brought into form. Hosts of the same
/// preference stand in the order that `draw` gives: `draw(n)` answers a number below `n`.
///
/// # Errors
/// When the domain takes no mail, or it cannot be known now.
pub fn exchanges(
    domain: &str,
    looked: &Looked<Exchange>,
    ourselves: &Ourselves,
    limits: Limits,
    draw: &mut dyn FnMut(usize) -> usize,
) -> Result<Exchanges, Failure> {
    let records = match &looked.answer {
        Answer::Records(records) if !records.is_empty() => records,
        Answer::Records(_) | Answer::NoRecord => return implicit(domain, looked.secure, ourselves),
        Answer::NoName => return Err(Failure::new(Status::new(5, 1, 2), "the domain does not exist")),
        Answer::Failed => {
            return Err(Failure::new(
                Status::new(4, 4, 3),
                "the domain's MX records cannot be looked up now",
            ));
        }
        Answer::Bogus => {
            return Err(Failure::new(
                Status::new(4, 4, 3),
                "the signatures of the domain's MX records are wrong",
            ));
        }
    };
    let is_null = |record: &Exchange| record.host.is_empty() || record.host == ".";
    if let [only] = records.as_slice()
        && is_null(only)
    {
        return Err(Failure::new(Status::new(5, 1, 10), "the domain takes no mail (null MX)"));
    }
    let named: Vec<Exchange> = records.iter().filter(|record| !is_null(record)).filter_map(in_form).collect();
    if named.is_empty() {
        return Err(Failure::new(Status::new(5, 4, 4), "the domain's MX records name no host"));
    }
    let us = named.iter().filter(|exchange| ourselves.names.contains(&exchange.host));
    let nearest = us.map(|exchange| exchange.preference).min();
    let mut hosts: Vec<Exchange> =
        named.into_iter().filter(|exchange| nearest.is_none_or(|us| exchange.preference < us)).collect();
    if hosts.is_empty() {
        return Err(loops());
    }
    // A host that is named twice stands where it is best.
    hosts.sort_by(|a, b| (&a.host, a.preference).cmp(&(&b.host, b.preference)));
    hosts.dedup_by(|a, b| a.host == b.host);
    hosts.sort_by_key(|exchange| exchange.preference);
    for group in hosts.chunk_by_mut(|a, b| a.preference == b.preference) {
        shuffle(group, draw);
    }
    hosts.truncate(limits.hosts.max(1));
    Ok(Exchanges { hosts, implicit: false, secure: looked.secure })
}

pub(super) fn loops() -> Failure {
    Failure::new(Status::new(5, 4, 6), "mail for the domain would come back to this site")
}

fn implicit(domain: &str, secure: bool, ourselves: &Ourselves) -> Result<Exchanges, Failure> {
    if ourselves.names.contains(domain) {
        return Err(loops());
    }
    let host = Exchange { preference: 0, host: domain.to_owned() };
    Ok(Exchanges { hosts: vec![host], implicit: true, secure })
}

/// The record with its host in form; nothing when that is no name (an address, for example: RFC 5321 section 5.1 wants
/// a name).
fn in_form(record: &Exchange) -> Option<Exchange> {
    Some(Exchange { host: a_labels(&record.host).ok()?, ..*record })
}
