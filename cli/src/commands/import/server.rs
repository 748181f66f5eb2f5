//! The server that mail is brought to, and whom it is believed to be.

use std::{fs, sync::Arc};

use mailcluster_import::imap::Server;
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};

use crate::{args::Import, failure::Failure};

/// As the options say.
///
/// # Errors
/// When they make no sense, or there are no certificates to trust.
pub fn find(asked: &Import) -> Result<Server, Failure> {
    let address = address(&asked.server)?;
    let name = asked.tls_name.as_deref().unwrap_or(&address.0).to_owned();
    let name = ServerName::try_from(name.clone())
        .map_err(|_| Failure::Usage(format!("{name:?} is no name that a certificate could have")))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| Failure::Failed(error.to_string()))?
        .with_root_certificates(trusted(asked)?)
        .with_no_client_auth();
    Ok(Server { address, name, tls: Arc::new(config) })
}

fn address(text: &str) -> Result<(String, u16), Failure> {
    let wrong = || Failure::Usage(format!("{text:?} is not HOST:PORT, like mail.example.org:993"));
    let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let host = bare.unwrap_or(host);
    if host.is_empty() || (bare.is_none() && host.contains(':')) {
        return Err(wrong());
    }
    Ok((host.to_owned(), port.parse().map_err(|_| wrong())?))
}

fn trusted(asked: &Import) -> Result<RootCertStore, Failure> {
    let mut roots = RootCertStore::empty();
    match &asked.ca {
        Some(file) => {
            let failed = |what: String| Failure::Failed(format!("{}: {what}", file.display()));
            let pem = fs::read(file).map_err(|error| failed(error.to_string()))?;
            for certificate in CertificateDer::pem_slice_iter(&pem) {
                let certificate = certificate.map_err(|error| failed(error.to_string()))?;
                roots.add(certificate).map_err(|error| failed(error.to_string()))?;
            }
            if roots.is_empty() {
                return Err(failed("no certificate in it".to_owned()));
            }
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            if roots.is_empty() {
                return Err(Failure::Failed(
                    "this system has no certificates to trust: name some with --ca".to_owned(),
                ));
            }
        }
    }
    Ok(roots)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_and_ports() {
        for (text, expected) in [
            ("mail.example.org:993", Some(("mail.example.org", 993))),
            ("127.0.0.1:2993", Some(("127.0.0.1", 2993))),
            ("[::1]:993", Some(("::1", 993))),
            ("::1", None),
            ("mail.example.org", None),
            (":993", None),
            ("mail.example.org:imaps", None),
            ("mail.example.org:70000", None),
        ] {
            let found = address(text).ok();
            assert_eq!(found, expected.map(|(host, port)| (host.to_owned(), port)), "{text}");
        }
    }
}
