//! Certificates and keys from PEM text, and directories that hold them.

use std::{collections::BTreeMap, io, path::Path, sync::Arc};

use rustls::{
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    sign::CertifiedKey,
};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// Most files read from one directory, and the largest file: a mounted Secret has at most 1 MiB in all.
const MAX_FILES: usize = 512;
const MAX_FILE: u64 = 1 << 20;

/// Why a certificate or key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PemError {
    /// The file or directory could not be read.
    #[error("cannot read {path}")]
    Read {
        /// Which.
        path: String,
        /// The cause.
        source: io::Error,
    },
    /// There is none.
    #[error("{0}")]
    Missing(String),
    /// The text is not PEM, the certificate not X.509, the key of an unknown kind, or they don't belong together.
    #[error("{what}: {why}")]
    Broken {
        /// Which entry or part.
        what: String,
        /// Why.
        why: String,
    },
}

pub(crate) fn broken(what: &str, why: impl ToString) -> PemError {
    PemError::Broken { what: what.to_owned(), why: why.to_string() }
}

/// The one provider of cryptography in this program.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: std::sync::OnceLock<Arc<CryptoProvider>> = std::sync::OnceLock::new();
    PROVIDER.get_or_init(|| Arc::new(rustls::crypto::ring::default_provider())).clone()
}

/// All certificates of a PEM text, at least one.
pub(crate) fn certificates(what: &str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, PemError> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match chain {
        Ok(chain) if chain.is_empty() => Err(broken(what, "no certificate in it")),
        Ok(chain) => Ok(chain),
        Err(e) => Err(broken(what, e)),
    }
}

/// A chain and its key, checked to belong together.
pub(crate) fn certified_key(what: &str, cert: &[u8], key: &[u8]) -> Result<CertifiedKey, PemError> {
    let chain = certificates(what, cert)?;
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|e| broken(what, format!("private key: {e}")))?;
    CertifiedKey::from_der(chain, key, &provider()).map_err(|e| broken(what, e))
}

/// What we read out of a certificate.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Names {
    pub dns: Vec<String>,
    pub uris: Vec<String>,
    /// Seconds since 1970.
    pub not_after: i64,
}

pub(crate) fn names(what: &str, cert: &CertificateDer<'_>) -> Result<Names, PemError> {
    let (_, parsed) = X509Certificate::from_der(cert).map_err(|e| broken(what, e))?;
    let mut names = Names { not_after: parsed.validity().not_after.timestamp(), ..Names::default() };
    let san = parsed.subject_alternative_name().map_err(|e| broken(what, e))?;
    for name in san.iter().flat_map(|s| &s.value.general_names) {
        match name {
            GeneralName::DNSName(dns) => names.dns.push(dns.to_ascii_lowercase()),
            GeneralName::URI(uri) => names.uris.push((*uri).to_owned()),
            _ => {}
        }
    }
    Ok(names)
}

/// The `.crt` and `.key` files of a directory by name. Blocking. Contents are compared rather than times, so that
/// the swap of a mounted Secret's `..data` link is seen like any other change.
pub(crate) fn read_dir(dir: &Path) -> Result<BTreeMap<String, Vec<u8>>, PemError> {
    let fail = |path: &Path, source| PemError::Read { path: path.display().to_string(), source };
    let mut files = BTreeMap::new();
    for entry in std::fs::read_dir(dir).map_err(|e| fail(dir, e))? {
        let entry = entry.map_err(|e| fail(dir, e))?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        if name.starts_with("..") || !(name.ends_with(".crt") || name.ends_with(".key")) {
            continue;
        }
        let path = entry.path();
        let size = std::fs::metadata(&path).map_err(|e| fail(&path, e))?;
        if !size.is_file() || size.len() > MAX_FILE || files.len() >= MAX_FILES {
            return Err(broken(&name, "not a file, too large, or one of too many"));
        }
        files.insert(name, std::fs::read(&path).map_err(|e| fail(&path, e))?);
    }
    Ok(files)
}
