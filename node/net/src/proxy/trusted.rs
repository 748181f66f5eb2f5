//! Who may send PROXY headers.

use std::{net::IpAddr, str::FromStr};

/// A list of networks whose hosts send a PROXY header on every connection; from all others it is garbage.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TrustedProxies(Vec<Cidr>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Cidr {
    net: IpAddr,
    bits: u8,
}

/// Not an address or network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an address or a network such as 192.0.2.0/24 or 2001:db8::/32")]
pub struct CidrError(String);

impl TrustedProxies {
    /// Reads networks (`192.0.2.0/24`) and addresses (`2001:db8::1`).
    ///
    /// # Errors
    /// Names the first text that is neither.
    pub fn parse<T: AsRef<str>>(texts: &[T]) -> Result<Self, CidrError> {
        texts.iter().map(|t| t.as_ref().parse()).collect::<Result<_, _>>().map(Self)
    }

    /// Is this address one of them?
    #[must_use]
    pub fn contains(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        self.0.iter().any(|cidr| cidr.contains(ip))
    }

    /// Is nobody trusted?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Cidr {
    fn contains(self, ip: IpAddr) -> bool {
        let shift = |len: u8| u32::from(len - self.bits);
        match (self.net, ip) {
            (IpAddr::V4(net), IpAddr::V4(ip)) => {
                (net.to_bits() ^ ip.to_bits()).checked_shr(shift(32)).unwrap_or(0) == 0
            }
            (IpAddr::V6(net), IpAddr::V6(ip)) => {
                (net.to_bits() ^ ip.to_bits()).checked_shr(shift(128)).unwrap_or(0) == 0
            }
            _ => false,
        }
    }
}

impl FromStr for Cidr {
    type Err = CidrError;

    fn from_str(text: &str) -> Result<Self, CidrError> {
        let error = || CidrError(text.to_owned());
        let (net, bits) = text.split_once('/').map_or((text, None), |(net, bits)| (net, Some(bits)));
        let net: IpAddr = net.parse().map_err(|_| error())?;
        let most = if net.is_ipv4() { 32 } else { 128 };
        let bits = bits.map_or(Ok(most), |b| b.parse().map_err(|_| error()))?;
        if bits > most { Err(error()) } else { Ok(Self { net, bits }) }
    }
}
