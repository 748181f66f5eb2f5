//! The certificate of a standalone node that was given none: made once, kept in its data directory.

use std::{
    fs::{self, OpenOptions},
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use anyhow::{Context, Result};
use rcgen::{CertificateParams, KeyPair};

/// Certificate and key in PEM: `tls.crt` and `tls.key` of `dir`, made if they are missing.
pub fn ensure(dir: &Path, hostname: &str) -> Result<(Vec<u8>, Vec<u8>)> {
    let (cert_file, key_file) = (dir.join("tls.crt"), dir.join("tls.key"));
    if !cert_file.exists() || !key_file.exists() {
        let names =
            vec![hostname.to_owned(), "localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
        let key = KeyPair::generate().context("failed to make a TLS key")?;
        let cert =
            CertificateParams::new(names)?.self_signed(&key).context("failed to make a TLS certificate")?;
        write(&key_file, key.serialize_pem().as_bytes(), 0o600)?;
        write(&cert_file, cert.pem().as_bytes(), 0o644)?;
    }
    let read = |file: &Path| fs::read(file).with_context(|| format!("failed to read {}", file.display()));
    Ok((read(&cert_file)?, read(&key_file)?))
}

fn write(file: &Path, text: &[u8], mode: u32) -> Result<()> {
    let open = OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(file);
    open.and_then(|mut f| f.write_all(text).and_then(|()| f.sync_all()))
        .with_context(|| format!("failed to write {}", file.display()))
}
