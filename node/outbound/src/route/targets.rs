//! From hosts to addresses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{Answer, Exchanges, Failure, Limits, Looked, Ourselves, exchanges::loops, shuffle, usable};
use crate::Status;

/// What was looked up for a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostAnswer {
    /// A records.
    pub v4: Looked<Ipv4Addr>,
    /// AAAA records.
    pub v6: Looked<Ipv6Addr>,
    /// The name behind CNAMEs, when it is another.
    pub canonical: Option<String>,
}

/// An address to connect to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The host, as the MX record names it.
    pub host: String,
    /// The name behind CNAMEs, when it is another.
    pub canonical: Option<String>,
    /// The host's preference.
    pub preference: u16,
    /// Its address.
    pub address: IpAddr,
    /// DNSSEC vouches for the address (RFC 7672 section 2.2.2).
    pub secure: bool,
}

/// Makes a list of addresses, in the order in which they are tried, of the answers for each of the hosts (those that
/// lack one are as if it had failed). A host's addresses of both kinds take turns, IPv6 first (RFC 5321 section 5.2),
/// each kind in the order that `draw` gives.
///
/// # Errors
/// When no host has an address, or only we are left.
pub fn targets(
    exchanges: &Exchanges,
    answers: &[HostAnswer],
    ourselves: &Ourselves,
    limits: Limits,
    draw: &mut dyn FnMut(usize) -> usize,
) -> Result<Vec<Target>, Failure> {
    let hosts = || exchanges.hosts.iter().zip(answers);
    let own = hosts().filter(|(_, answer)| addresses(answer).any(|a| ourselves.has_address(a)));
    let nearest = own.map(|(exchange, _)| exchange.preference).min();
    let mut targets = Vec::new();
    for (exchange, answer) in hosts() {
        if nearest.is_some_and(|us| exchange.preference >= us) {
            continue;
        }
        let in_turns = in_turns(answer, limits.addresses_of_a_host.max(1), draw);
        targets.extend(in_turns.into_iter().map(|(address, secure)| Target {
            host: exchange.host.clone(),
            canonical: answer.canonical.clone(),
            preference: exchange.preference,
            address,
            secure,
        }));
    }
    if targets.is_empty() {
        return Err(nowhere(exchanges, answers, nearest.is_some()));
    }
    targets.truncate(limits.addresses.max(1));
    Ok(targets)
}

/// No address is left: for good, when every answer was had and says so.
fn nowhere(exchanges: &Exchanges, answers: &[HostAnswer], ours: bool) -> Failure {
    let all_had = answers.len() >= exchanges.hosts.len()
        && answers.iter().all(|answer| is_had(&answer.v4) && is_had(&answer.v6));
    match (all_had, ours) {
        (false, _) => Failure::new(Status::new(4, 4, 3), "the hosts' addresses cannot be looked up now"),
        (true, true) => loops(),
        (true, false) if exchanges.implicit => {
            Failure::new(Status::new(5, 1, 2), "the domain has neither a mail host nor an address")
        }
        (true, false) => Failure::new(Status::new(5, 4, 4), "no mail host of the domain has an address"),
    }
}

fn is_had<T>(looked: &Looked<T>) -> bool {
    !matches!(looked.answer, Answer::Failed | Answer::Bogus)
}

fn records<T: Copy>(looked: &Looked<T>) -> &[T] {
    if let Answer::Records(records) = &looked.answer { records } else { &[] }
}

fn addresses(answer: &HostAnswer) -> impl Iterator<Item = IpAddr> + '_ {
    let v4 = records(&answer.v4).iter().map(|v4| IpAddr::V4(*v4));
    let v6 = records(&answer.v6).iter().map(|v6| IpAddr::V6(*v6));
    v4.chain(v6).filter_map(usable)
}

fn in_turns(answer: &HostAnswer, limit: usize, draw: &mut dyn FnMut(usize) -> usize) -> Vec<(IpAddr, bool)> {
    let mut v6: Vec<IpAddr> =
        records(&answer.v6).iter().map(|v6| IpAddr::V6(*v6)).filter_map(usable).collect();
    let mut v4: Vec<IpAddr> =
        records(&answer.v4).iter().map(|v4| IpAddr::V4(*v4)).filter_map(usable).collect();
    shuffle(&mut v6, draw);
    shuffle(&mut v4, draw);
    let mut all: Vec<(IpAddr, bool)> = Vec::new();
    for turn in 0..v6.len().max(v4.len()) {
        for (kind, secure) in [(&v6, answer.v6.secure), (&v4, answer.v4.secure)] {
            // An address that comes twice (IPv4 within IPv6, too) is tried once.
            if let Some(address) = kind.get(turn).filter(|a| all.iter().all(|(seen, _)| seen != *a)) {
                all.push((*address, secure));
            }
            if all.len() >= limit {
                return all;
            }
        }
    }
    all
}
