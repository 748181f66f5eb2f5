//! The certificates and kubeconfigs of a cluster, all from one authority made for it.

use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;

use anyhow::Result;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose,
};

/// The cluster's certificate authority, with its certificate as PEM.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

/// A certificate and its key, as PEM.
pub(crate) struct Identity {
    pub certificate: String,
    pub key: String,
}

impl Authority {
    /// Makes a new authority and writes `ca.crt`, `sa.key` and `sa.pub` (service account tokens) into the folder.
    pub fn create(folder: &Path) -> Result<Self> {
        fs::create_dir_all(folder)?;
        let mut params = CertificateParams::new(Vec::<String>::new())?;
        params.distinguished_name = name("mailcluster-lab", "");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages =
            vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate()?;
        let pem = params.self_signed(&key)?.pem();
        fs::write(folder.join("ca.crt"), &pem)?;
        let tokens = KeyPair::generate()?;
        fs::write(folder.join("sa.key"), tokens.serialize_pem())?;
        fs::write(folder.join("sa.pub"), tokens.public_key_pem())?;
        Ok(Self { issuer: Issuer::new(params, key), pem })
    }

    /// A certificate for both ends of TLS; `group` is the Kubernetes group ("" for none).
    pub fn issue(&self, user: &str, group: &str, names: &[String]) -> Result<Identity> {
        let mut params = CertificateParams::new(names.to_vec())?;
        params.distinguished_name = name(user, group);
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?.pem();
        Ok(Identity { certificate, key: key.serialize_pem() })
    }

    /// A kubeconfig with everything inside.
    pub fn kubeconfig(&self, server: Ipv4Addr, identity: &Identity) -> String {
        let encode = |text: &str| STANDARD.encode(text);
        serde_json::json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "mailcluster-lab",
            "clusters": [{"name": "mailcluster-lab", "cluster": {
                "server": format!("https://{server}:6443"), "certificate-authority-data": encode(&self.pem)}}],
            "users": [{"name": "mailcluster-lab", "user": {
                "client-certificate-data": encode(&identity.certificate), "client-key-data": encode(&identity.key)}}],
            "contexts": [{"name": "mailcluster-lab", "context": {"cluster": "mailcluster-lab", "user": "mailcluster-lab"}}],
        })
        .to_string()
    }
}

impl Identity {
    /// Writes `NAME.crt` and `NAME.key`.
    pub fn write(&self, folder: &Path, name: &str) -> Result<()> {
        fs::write(folder.join(format!("{name}.crt")), &self.certificate)?;
        fs::write(folder.join(format!("{name}.key")), &self.key)?;
        Ok(())
    }
}

fn name(common: &str, organization: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common);
    if !organization.is_empty() {
        name.push(DnType::OrganizationName, organization);
    }
    name
}
