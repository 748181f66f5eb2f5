//! Limits of connections. (Failed logins are the matter of `mailcluster-auth`.)

mod connections;

use std::net::{IpAddr, Ipv6Addr};

pub use connections::{ConnectionLimits, LimitReached, Permit};

/// What counts as one client: an IPv4 address, or an IPv6 /64, which is what one customer gets.
#[must_use]
pub fn client_key(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX))),
        v4 => v4,
    }
}
