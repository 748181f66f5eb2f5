//! Networks.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

/// Where IPv4 lies among IPv6 addresses (`::ffff:0:0/96`).
const MAPPED: u128 = 0xffff << 32;
/// Bits in front of an IPv4 address there.
const MAPPED_BITS: u8 = 96;

/// A network: `192.0.2.0/24`, `2001:db8::/32`. IPv4-mapped IPv6 addresses are IPv4.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Cidr {
    bits: u128,
    prefix: u8,
}

/// Not a network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an address or a network such as 192.0.2.0/24 or 2001:db8::/32")]
pub struct CidrError(String);

impl Cidr {
    /// The network of `prefix` leading bits that `ip` is in; more bits than it has count as all.
    #[must_use]
    pub fn of(ip: IpAddr, prefix: u8) -> Self {
        match ip.to_canonical() {
            IpAddr::V4(v4) => {
                Self::masked(v4.to_ipv6_mapped().to_bits(), MAPPED_BITS.saturating_add(prefix.min(32)))
            }
            IpAddr::V6(v6) => Self::masked(v6.to_bits(), prefix.min(128)),
        }
    }

    /// What counts as one client: an IPv4 address, or the IPv6 /64 that one customer gets.
    #[must_use]
    pub fn address(ip: IpAddr) -> Self {
        Self::of(ip, if is_v4(ip) { 32 } else { 64 })
    }

    /// Its neighbourhood: an IPv4 /24, an IPv6 /48.
    #[must_use]
    pub fn network(ip: IpAddr) -> Self {
        Self::of(ip, if is_v4(ip) { 24 } else { 48 })
    }

    /// Its first address.
    #[must_use]
    pub fn first(self) -> IpAddr {
        if self.is_v4() {
            IpAddr::V4(Ipv4Addr::from_bits((self.bits & u128::from(u32::MAX)).try_into().unwrap_or(0)))
        } else {
            IpAddr::V6(Ipv6Addr::from_bits(self.bits))
        }
    }

    /// How many leading bits count.
    #[must_use]
    pub fn prefix(self) -> u8 {
        if self.is_v4() { self.prefix - MAPPED_BITS } else { self.prefix }
    }

    /// Is this address in it?
    #[must_use]
    pub fn contains(self, ip: IpAddr) -> bool {
        self == Self::of(ip, self.prefix())
    }

    /// Have they an address in common?
    #[must_use]
    pub fn overlaps(self, other: Self) -> bool {
        self.contains(other.first()) || other.contains(self.first())
    }

    fn is_v4(self) -> bool {
        self.prefix >= MAPPED_BITS && self.bits & !u128::from(u32::MAX) == MAPPED
    }

    fn masked(bits: u128, prefix: u8) -> Self {
        let mask = u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0);
        Self { bits: bits & mask, prefix }
    }
}

fn is_v4(ip: IpAddr) -> bool {
    ip.to_canonical().is_ipv4()
}

impl FromStr for Cidr {
    type Err = CidrError;

    fn from_str(text: &str) -> Result<Self, CidrError> {
        let error = || CidrError(text.to_owned());
        let (ip, prefix) = text.split_once('/').map_or((text, None), |(ip, prefix)| (ip, Some(prefix)));
        let ip: IpAddr = ip.parse().map_err(|_| error())?;
        let most: u8 = if ip.is_ipv4() { 32 } else { 128 };
        let prefix = prefix.map_or(Ok(most), |bits| bits.parse::<u8>().map_err(|_| error()))?;
        if prefix > most {
            return Err(error());
        }
        // `::ffff:192.0.2.0/120` is 192.0.2.0/24; a mapped network that is wider than all of IPv4 is nothing sensible.
        match (ip, ip.to_canonical()) {
            (IpAddr::V6(_), v4 @ IpAddr::V4(_)) => {
                prefix.checked_sub(MAPPED_BITS).map(|bits| Self::of(v4, bits)).ok_or_else(error)
            }
            (ip, _) => Ok(Self::of(ip, prefix)),
        }
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.first(), self.prefix())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn networks_are_read_and_written() {
        for (text, written) in [
            ("192.0.2.77/24", "192.0.2.0/24"),
            ("192.0.2.77", "192.0.2.77/32"),
            ("::ffff:192.0.2.77", "192.0.2.77/32"),
            ("::ffff:192.0.2.0/120", "192.0.2.0/24"),
            ("0.0.0.0/0", "0.0.0.0/0"),
            ("2001:db8:1::9/32", "2001:db8::/32"),
            ("2001:db8::1", "2001:db8::1/128"),
            ("::/0", "::/0"),
        ] {
            assert_eq!(text.parse::<Cidr>().unwrap().to_string(), written, "{text}");
        }
        for bad in ["", "x", "192.0.2.0/33", "::/129", "192.0.2.0/", "192.0.2.0/-1", "::ffff:1.2.3.4/90"] {
            assert_eq!(bad.parse::<Cidr>(), Err(CidrError(bad.to_owned())));
        }
    }

    #[test]
    fn what_is_in_a_network() {
        for (network, address, is_in) in [
            ("192.0.2.0/24", "192.0.2.255", true),
            ("192.0.2.0/24", "::ffff:192.0.2.1", true),
            ("192.0.2.0/24", "192.0.3.0", false),
            ("192.0.2.0/24", "2001:db8::1", false),
            ("0.0.0.0/0", "203.0.113.9", true),
            ("0.0.0.0/0", "::1", false),
            ("::/0", "2001:db8::1", true),
            ("::/0", "192.0.2.1", false),
            ("2001:db8::/32", "2001:db8:ffff::1", true),
            ("2001:db8::/32", "2001:db9::", false),
        ] {
            let network: Cidr = network.parse().unwrap();
            assert_eq!(network.contains(ip(address)), is_in, "{network} {address}");
        }
    }

    #[test]
    fn clients_and_their_neighbourhood() {
        for (address, client, network) in [
            ("192.0.2.77", "192.0.2.77/32", "192.0.2.0/24"),
            ("::ffff:192.0.2.77", "192.0.2.77/32", "192.0.2.0/24"),
            ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64", "2001:db8:1::/48"),
        ] {
            assert_eq!(Cidr::address(ip(address)).to_string(), client);
            assert_eq!(Cidr::network(ip(address)).to_string(), network);
        }
    }

    #[test]
    fn overlaps() {
        for (one, other, expected) in [
            ("10.0.0.0/8", "10.1.0.0/16", true),
            ("10.1.0.0/16", "10.0.0.0/8", true),
            ("10.1.0.0/16", "10.2.0.0/16", false),
            ("::/0", "10.0.0.0/8", false),
        ] {
            assert_eq!(one.parse::<Cidr>().unwrap().overlaps(other.parse().unwrap()), expected);
        }
    }
}
