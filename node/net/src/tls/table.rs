//! Which certificate answers which server name.

use std::{collections::HashMap, sync::Arc};

use rustls::sign::CertifiedKey;

use crate::pem::{self, PemError};

/// One entry of a certificate directory.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    /// File name without `.crt`.
    pub name: String,
    pub key: Arc<CertifiedKey>,
    /// Lower case.
    pub dns: Vec<String>,
    /// Seconds since 1970.
    pub not_after: i64,
}

impl Entry {
    pub fn from_pem(name: &str, cert: &[u8], key: &[u8]) -> Result<Self, PemError> {
        let key = pem::certified_key(name, cert, key)?;
        let leaf = key.cert.first().ok_or_else(|| pem::broken(name, "no certificate in it"))?;
        let names = pem::names(name, leaf)?;
        Ok(Self { name: name.to_owned(), key: Arc::new(key), dns: names.dns, not_after: names.not_after })
    }
}

/// An immutable choice table, swapped as a whole.
#[derive(Debug)]
pub(super) struct Table {
    pub entries: Vec<Entry>,
    exact: HashMap<String, usize>,
    /// By what follows `*.`.
    wildcard: HashMap<String, usize>,
    default: usize,
}

impl Table {
    /// `None` when there is no entry. The first entry that has a name answers it; without a match the entry
    /// `default` answers, else `tls`, else the first.
    pub fn new(entries: Vec<Entry>) -> Option<Self> {
        let (mut exact, mut wildcard) = (HashMap::new(), HashMap::new());
        for (place, entry) in entries.iter().enumerate() {
            for dns in &entry.dns {
                let (map, name) = match dns.strip_prefix("*.") {
                    Some(suffix) => (&mut wildcard, suffix),
                    None => (&mut exact, dns.as_str()),
                };
                map.entry(name.to_owned()).or_insert(place);
            }
        }
        let named = |name: &str| entries.iter().position(|e| e.name == name);
        let default = named("default").or_else(|| named("tls")).unwrap_or(0);
        (!entries.is_empty()).then_some(Self { entries, exact, wildcard, default })
    }

    /// The entry that answers a client which asked for `name`.
    pub fn choose(&self, name: Option<&str>) -> Option<&Entry> {
        let place = name.and_then(|name| {
            let name = name.trim_end_matches('.').to_ascii_lowercase();
            self.exact.get(&name).copied().or_else(|| {
                let (_, suffix) = name.split_once('.')?;
                self.wildcard.get(suffix).copied()
            })
        });
        self.entries.get(place.unwrap_or(self.default))
    }
}
