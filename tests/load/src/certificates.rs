//! Certificates for one run, as the operator issues them.

use std::path::Path;

use anyhow::{Context, Result};
use mailcluster_net::mtls::{Expect, Identity, Peer, Role};
use mailcluster_types::{ClusterId, StoreName};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair, SanType,
};

/// The only store.
pub const STORE: &str = "load-0";
/// Its cluster.
pub const CLUSTER: ClusterId = ClusterId(1);

/// Writes what every copy needs into a folder.
pub fn make(dir: &Path) -> Result<()> {
    let mut params = CertificateParams::new(Vec::<String>::new())?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
    let store = Some(StoreName::from(STORE));
    let peer = Peer { cluster: CLUSTER, role: Role::Backend, store, replica: None };
    let mut params = CertificateParams::new(vec![Role::Backend.dns_name()])?;
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.subject_alt_names.push(SanType::URI(peer.to_string().as_str().try_into()?));
    let key = KeyPair::generate()?;
    let certificate = params.signed_by(&key, &authority)?;
    std::fs::create_dir_all(dir).with_context(|| dir.display().to_string())?;
    for (name, text) in
        [("ca.crt", authority.pem()), ("tls.crt", certificate.pem()), ("tls.key", key.serialize_pem())]
    {
        std::fs::write(dir.join(name), text)?;
    }
    Ok(())
}

/// What [`make`] has written.
pub fn load(dir: &Path) -> Result<Identity> {
    Identity::load(dir).with_context(|| dir.display().to_string())
}

/// Another copy of the store.
pub fn copy() -> Expect {
    Expect { role: Role::Backend, store: Some(StoreName::from(STORE)) }
}
