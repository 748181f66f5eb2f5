//! Networks that are looked up by address, and what administrators listed.

use std::{collections::BTreeMap, collections::HashMap, net::IpAddr};

use crate::{Cidr, CidrError};

/// Values by network; all networks of an address are found with one look for each length of prefix.
#[derive(Debug, Clone)]
pub struct NetworkMap<V> {
    entries: HashMap<Cidr, V>,
    /// How many networks have this many leading bits.
    prefixes: BTreeMap<u8, usize>,
}

impl<V> Default for NetworkMap<V> {
    fn default() -> Self {
        Self { entries: HashMap::new(), prefixes: BTreeMap::new() }
    }
}

impl<V> NetworkMap<V> {
    /// Puts a network.
    pub fn insert(&mut self, network: Cidr, value: V) {
        if self.entries.insert(network, value).is_none() {
            *self.prefixes.entry(network.prefix()).or_default() += 1;
        }
    }

    /// Takes a network out.
    pub fn remove(&mut self, network: Cidr) -> Option<V> {
        let value = self.entries.remove(&network)?;
        if let Some(count) = self.prefixes.get_mut(&network.prefix()) {
            *count -= 1;
            if *count == 0 {
                self.prefixes.remove(&network.prefix());
            }
        }
        Some(value)
    }

    /// The values of all networks that hold this address.
    pub fn of(&self, ip: IpAddr) -> impl Iterator<Item = &V> {
        let most = if ip.to_canonical().is_ipv4() { 32 } else { 128 };
        self.prefixes
            .keys()
            .filter(move |prefix| **prefix <= most)
            .filter_map(move |prefix| self.entries.get(&Cidr::of(ip, *prefix)))
    }

    /// All networks.
    pub fn iter(&self) -> impl Iterator<Item = (&Cidr, &V)> {
        self.entries.iter()
    }

    /// How many networks it holds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Does it hold none?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

/// Networks that may be allowed beside those that were listed at first.
const MOST: usize = 1000;

/// What administrators listed.
#[derive(Debug, Clone, Default)]
pub struct Lists {
    allow: NetworkMap<()>,
    block: NetworkMap<()>,
}

impl Lists {
    /// Reads networks: `allow` holds those that are never refused, trusted proxies among them, `block` those that always
    /// are; what is in both is allowed.
    ///
    /// # Errors
    /// Names the first text that is no network.
    pub fn parse<T: AsRef<str>>(allow: &[T], block: &[T]) -> Result<Self, CidrError> {
        Ok(Self { allow: parsed(allow)?, block: parsed(block)? })
    }

    /// One more network that is never refused; no more than [`MOST`] are taken.
    pub fn allow(&mut self, network: Cidr) {
        if self.allow.len() < MOST {
            self.allow.insert(network, ());
        }
    }

    /// Never refused?
    #[must_use]
    pub fn allows(&self, ip: IpAddr) -> bool {
        self.allow.of(ip).next().is_some()
    }

    /// Always refused?
    #[must_use]
    pub fn blocks(&self, ip: IpAddr) -> bool {
        self.block.of(ip).next().is_some()
    }

    /// Has this network an address that is never refused?
    #[must_use]
    pub fn allows_any_of(&self, network: Cidr) -> bool {
        self.allow.iter().any(|(allowed, ())| allowed.overlaps(network))
    }

    /// The networks that are never refused.
    pub fn allowed(&self) -> impl Iterator<Item = Cidr> {
        self.allow.iter().map(|(network, ())| *network)
    }
}

fn parsed<T: AsRef<str>>(texts: &[T]) -> Result<NetworkMap<()>, CidrError> {
    let mut map = NetworkMap::default();
    for text in texts {
        map.insert(text.as_ref().parse()?, ());
    }
    Ok(map)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_found_in_networks_of_any_length() {
        let mut map = NetworkMap::default();
        for (at, text) in ["10.0.0.0/8", "10.1.2.3/32", "2001:db8::/32", "0.0.0.0/0"].into_iter().enumerate()
        {
            map.insert(text.parse().unwrap(), at);
        }
        for (ip, expected) in [
            ("10.1.2.3", vec![0, 1, 3]),
            ("::ffff:10.1.2.4", vec![0, 3]),
            ("192.0.2.1", vec![3]),
            ("2001:db8::1", vec![2]),
            ("::1", vec![]),
        ] {
            let mut found: Vec<_> = map.of(ip.parse().unwrap()).copied().collect();
            found.sort_unstable();
            assert_eq!(found, expected, "{ip}");
        }
        assert_eq!(map.remove("10.0.0.0/8".parse().unwrap()), Some(0));
        assert_eq!(map.remove("10.0.0.0/8".parse().unwrap()), None);
        assert_eq!(map.of("10.1.2.3".parse().unwrap()).count(), 2);
        assert_eq!((map.len(), map.prefixes.len()), (3, 2));
    }

    #[test]
    fn lists_name_what_is_wrong() {
        let lists = Lists::parse(&["10.0.0.0/8"], &["10.1.0.0/16", "192.0.2.0/24"]).unwrap();
        for (ip, allows, blocks) in
            [("10.1.0.1", true, true), ("192.0.2.1", false, true), ("::1", false, false)]
        {
            let ip = ip.parse().unwrap();
            assert_eq!((lists.allows(ip), lists.blocks(ip)), (allows, blocks), "{ip}");
        }
        assert!(lists.allows_any_of("0.0.0.0/0".parse().unwrap()));
        assert!(!lists.allows_any_of("11.0.0.0/8".parse().unwrap()));
        assert!(Lists::parse(&["all"], &[]).unwrap_err().to_string().contains("\"all\""));
    }
}
