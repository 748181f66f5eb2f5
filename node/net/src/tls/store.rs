//! Certificates from a mounted directory, kept up to date.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use rustls::{
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};

use super::table::{Entry, Table};
use crate::pem::{self, PemError};

/// The server certificates of a frontend. Cheap to clone; all clones see a reload.
#[derive(Debug, Clone)]
pub struct CertStore(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    table: ArcSwap<Table>,
    dir: Option<PathBuf>,
    seen: Mutex<BTreeMap<String, Vec<u8>>>,
    reloads: AtomicU64,
    failures: AtomicU64,
}

/// What metrics say of one certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertInfo {
    /// The entry's name in the directory (`tls`, `example.org`).
    pub name: String,
    /// The names it answers.
    pub dns_names: Vec<String>,
    /// When it expires, seconds since 1970.
    pub not_after: i64,
}

impl CertStore {
    /// Reads every `<name>.crt` with its `<name>.key` from `dir`. A broken entry is left out with a warning.
    ///
    /// # Errors
    /// When the directory cannot be read or holds no usable entry.
    pub fn load(dir: &Path) -> Result<Self, PemError> {
        let files = pem::read_dir(dir)?;
        let (entries, failures) = entries(&files, &[]);
        let table = Table::new(entries).ok_or_else(|| {
            PemError::Missing(format!("no usable pair of .crt and .key files in {}", dir.display()))
        })?;
        Ok(Self::new(table, Some(dir.to_owned()), files, failures))
    }

    /// One certificate chain and its key, for every name.
    ///
    /// # Errors
    /// When they are not PEM or don't belong together.
    pub fn from_pem(cert: &[u8], key: &[u8]) -> Result<Self, PemError> {
        let table = Table::new(vec![Entry::from_pem("default", cert, key)?]);
        let table = table.ok_or_else(|| PemError::Missing("no certificate".to_owned()))?;
        Ok(Self::new(table, None, BTreeMap::new(), 0))
    }

    fn new(table: Table, dir: Option<PathBuf>, seen: BTreeMap<String, Vec<u8>>, failures: u64) -> Self {
        Self(Arc::new(Inner {
            table: ArcSwap::from_pointee(table),
            dir,
            seen: Mutex::new(seen),
            reloads: AtomicU64::new(0),
            failures: AtomicU64::new(failures),
        }))
    }

    /// Looks at the directory once and takes what changed. Blocking. Answers whether anything did; an entry that
    /// is now broken keeps its last good certificate.
    ///
    /// # Errors
    /// When the directory cannot be read or nothing usable is left in it; all that was stays.
    pub fn reload(&self) -> Result<bool, PemError> {
        let Some(dir) = &self.0.dir else { return Ok(false) };
        let result = self.reload_from(dir);
        if result.is_err() {
            self.0.failures.fetch_add(1, Ordering::Relaxed);
        }
        result
    }

    fn reload_from(&self, dir: &Path) -> Result<bool, PemError> {
        let files = pem::read_dir(dir)?;
        let mut seen = self.0.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if *seen == files {
            return Ok(false);
        }
        let (entries, failures) = entries(&files, &self.0.table.load().entries);
        seen.clone_from(&files);
        self.0.failures.fetch_add(failures, Ordering::Relaxed);
        let table = Table::new(entries)
            .ok_or_else(|| PemError::Missing(format!("no usable certificate left in {}", dir.display())))?;
        self.0.table.store(Arc::new(table));
        self.0.reloads.fetch_add(1, Ordering::Relaxed);
        Ok(true)
    }

    /// Looks every `every` for changes, for ever; spawn it.
    pub async fn watch(self, every: Duration) {
        let mut tick = tokio::time::interval(every);
        let mut last_error = String::new();
        loop {
            tick.tick().await;
            let store = self.clone();
            match tokio::task::spawn_blocking(move || store.reload()).await {
                Ok(Ok(true)) => {
                    tracing::info!(certificates = self.certificates().len(), "certificates reloaded")
                }
                Ok(Ok(false)) => last_error.clear(),
                Ok(Err(error)) => {
                    let text = error.to_string();
                    if text != last_error {
                        tracing::warn!(%error, "certificates not reloaded, the old ones stay in use");
                    }
                    last_error = text;
                }
                Err(_) => return,
            }
        }
    }

    /// The certificates in use.
    #[must_use]
    pub fn certificates(&self) -> Vec<CertInfo> {
        let table = self.0.table.load();
        let info =
            |e: &Entry| CertInfo { name: e.name.clone(), dns_names: e.dns.clone(), not_after: e.not_after };
        table.entries.iter().map(info).collect()
    }

    /// Which entry answers a client that asked for `server_name`.
    #[must_use]
    pub fn entry_for(&self, server_name: Option<&str>) -> Option<String> {
        self.0.table.load().choose(server_name).map(|e| e.name.clone())
    }

    /// Successful reloads so far.
    #[must_use]
    pub fn reloads(&self) -> u64 {
        self.0.reloads.load(Ordering::Relaxed)
    }

    /// Broken entries and unreadable directories met so far.
    #[must_use]
    pub fn failures(&self) -> u64 {
        self.0.failures.load(Ordering::Relaxed)
    }
}

impl ResolvesServerCert for CertStore {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.table.load().choose(hello.server_name()).map(|e| e.key.clone())
    }
}

/// The usable entries among `files`, and how many were broken; a broken one is taken from `old`.
fn entries(files: &BTreeMap<String, Vec<u8>>, old: &[Entry]) -> (Vec<Entry>, u64) {
    let (mut entries, mut failures) = (Vec::new(), 0);
    for (file, cert) in files {
        let Some(name) = file.strip_suffix(".crt") else { continue };
        // A CA bundle mounted beside the pairs is no server certificate.
        if name == "ca" {
            continue;
        }
        let entry = match files.get(&format!("{name}.key")) {
            Some(key) => Entry::from_pem(name, cert, key),
            None => Err(pem::broken(name, "there is no .key file for it")),
        };
        match entry {
            Ok(entry) => entries.push(entry),
            Err(error) => {
                failures += 1;
                let kept = old.iter().find(|e| e.name == name).cloned();
                tracing::warn!(%error, kept_old = kept.is_some(), "broken certificate");
                entries.extend(kept);
            }
        }
    }
    (entries, failures)
}
