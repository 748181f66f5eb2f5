//! Makes and reads certificates.

use mailcluster_api::roles::Identity;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, SanType,
};
use x509_parser::{pem::Pem, time::ASN1Time};

use super::{
    PkiError, random_hex,
    schedule::{BACKDATED, Validity},
};

/// A certificate and its key, both PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct Pair {
    /// The certificate.
    pub certificate: String,
    /// The private key.
    pub key: String,
}

impl Pair {
    /// What the certificate says, provided that it can be read and that the key belongs to it.
    #[must_use]
    pub fn checked(&self) -> Option<Facts> {
        use rcgen::PublicKeyData;
        let facts = facts(&self.certificate).ok()?;
        let key = KeyPair::from_pem(&self.key).ok()?;
        (key.subject_public_key_info() == facts.public_key).then_some(facts)
    }
}

/// What a certificate says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// When it was made (its start is earlier by [`BACKDATED`]) and when it ends.
    pub validity: Validity,
    /// Its public key (SubjectPublicKeyInfo), raw.
    pub public_key: Vec<u8>,
    /// Its subject, raw.
    pub subject: Vec<u8>,
    /// Its issuer, raw.
    pub issuer: Vec<u8>,
    /// Its URIs.
    pub uris: Vec<String>,
    /// Its DNS names.
    pub dns_names: Vec<String>,
}

/// A new CA, good from `now` for `seconds`. Each has a name of its own, so that issuers can be told apart.
///
/// # Errors
/// When there is no randomness, or the times are out of range.
pub fn authority(cluster_id: &str, now: i64, seconds: i64) -> Result<Pair, PkiError> {
    let mut params = CertificateParams::default();
    let serial = random_hex()?;
    params.distinguished_name = name(&format!("mailcluster {cluster_id} {}", &serial[..8]));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    set_times(&mut params, now, now.saturating_add(seconds))?;
    let key = KeyPair::generate()?;
    let certificate = params.self_signed(&key)?;
    Ok(Pair { certificate: certificate.pem(), key: key.serialize_pem() })
}

/// A new certificate for `identity`, signed by `ca`, good from `now` for `seconds` but no longer than the CA.
///
/// # Errors
/// When the CA's pair cannot be read, or there is no randomness.
pub fn leaf(ca: &Pair, identity: &Identity, now: i64, seconds: i64) -> Result<Pair, PkiError> {
    let end = facts(&ca.certificate)?.validity.expires;
    let mut params = CertificateParams::default();
    params.distinguished_name = name(identity.role.as_str());
    params.subject_alt_names = vec![
        SanType::URI(identity.uri().try_into()?),
        SanType::DnsName(identity.role.dns_name().try_into()?),
    ];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.use_authority_key_identifier_extension = true;
    set_times(&mut params, now, now.saturating_add(seconds).min(end))?;
    let issuer = Issuer::from_ca_cert_pem(&ca.certificate, KeyPair::from_pem(&ca.key)?)?;
    let key = KeyPair::generate()?;
    let certificate = params.signed_by(&key, &issuer)?;
    Ok(Pair { certificate: certificate.pem(), key: key.serialize_pem() })
}

/// A certificate for clients that nobody but itself vouches for.
///
/// # Errors
/// When `hostname` is no DNS name or there is no randomness.
pub fn self_signed(hostname: &str, now: i64, seconds: i64) -> Result<Pair, PkiError> {
    let mut params = CertificateParams::new(vec![hostname.to_owned()])?;
    params.distinguished_name = name("mailcluster self-signed");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    set_times(&mut params, now, now.saturating_add(seconds))?;
    let key = KeyPair::generate()?;
    let certificate = params.self_signed(&key)?;
    Ok(Pair { certificate: certificate.pem(), key: key.serialize_pem() })
}

fn name(common: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common);
    name
}

fn set_times(params: &mut CertificateParams, from: i64, to: i64) -> Result<(), PkiError> {
    let time = |t: i64| {
        ASN1Time::from_timestamp(t).map(|t| t.to_datetime()).map_err(|e| PkiError::Parse(e.to_string()))
    };
    params.not_before = time(from.saturating_sub(BACKDATED))?;
    params.not_after = time(to)?;
    Ok(())
}

/// Reads the first certificate of a PEM text.
///
/// # Errors
/// When there is none, or it is malformed.
pub fn facts(pem: &str) -> Result<Facts, PkiError> {
    all_facts(pem)?.into_iter().next().ok_or_else(|| PkiError::Parse("no certificate in the PEM text".into()))
}

/// Reads all certificates of a PEM text.
///
/// # Errors
/// When one is malformed.
pub fn all_facts(pem: &str) -> Result<Vec<Facts>, PkiError> {
    certificates(pem)?.iter().map(|(_, der)| read(der)).collect()
}

/// The certificates of a PEM text, each as a PEM text of its own and as DER.
///
/// # Errors
/// When the PEM text is malformed.
pub fn certificates(pem: &str) -> Result<Vec<(String, Vec<u8>)>, PkiError> {
    Pem::iter_from_buffer(pem.as_bytes())
        .filter(|block| block.as_ref().map_or(true, |b| b.label == "CERTIFICATE"))
        .map(|block| {
            let block = block.map_err(|e| PkiError::Parse(e.to_string()))?;
            let text = rcgen_pem(&block.contents);
            Ok((text, block.contents))
        })
        .collect()
}

/// DER as PEM, in lines of 64 characters.
fn rcgen_pem(der: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::from("-----BEGIN CERTIFICATE-----\n");
    let mut column = 0;
    for chunk in der.chunks(3) {
        let word = chunk.iter().fold(0u32, |acc, b| acc << 8 | u32::from(*b)) << (8 * (3 - chunk.len()));
        for place in 0..4 {
            let digit = usize::try_from((word >> (18 - 6 * place)) & 63).unwrap_or(0);
            text.push(if place <= chunk.len() { char::from(DIGITS[digit]) } else { '=' });
        }
        column += 4;
        if column == 64 {
            text.push('\n');
            column = 0;
        }
    }
    if column > 0 {
        text.push('\n');
    }
    text.push_str("-----END CERTIFICATE-----\n");
    text
}

fn read(der: &[u8]) -> Result<Facts, PkiError> {
    use x509_parser::{extensions::GeneralName, prelude::FromDer};
    let (_, certificate) = x509_parser::certificate::X509Certificate::from_der(der)
        .map_err(|e| PkiError::Parse(e.to_string()))?;
    let (mut uris, mut dns_names) = (Vec::new(), Vec::new());
    if let Ok(Some(san)) = certificate.subject_alternative_name() {
        for name in &san.value.general_names {
            match name {
                GeneralName::URI(uri) => uris.push((*uri).to_owned()),
                GeneralName::DNSName(dns) => dns_names.push((*dns).to_owned()),
                _ => {}
            }
        }
    }
    let validity = certificate.validity();
    Ok(Facts {
        validity: Validity {
            issued: validity.not_before.timestamp().saturating_add(BACKDATED),
            expires: validity.not_after.timestamp(),
        },
        public_key: certificate.public_key().raw.to_vec(),
        subject: certificate.subject().as_raw().to_vec(),
        issuer: certificate.issuer().as_raw().to_vec(),
        uris,
        dns_names,
    })
}

#[cfg(test)]
mod tests {
    use mailcluster_api::roles::Role;

    use super::*;

    fn identity() -> Identity {
        Identity {
            cluster_id: "0123456789abcdef0123456789abcdef".into(),
            role: Role::Backend,
            store: Some("demo-0".into()),
            replica: None,
        }
    }

    #[test]
    fn a_leaf_names_its_bearer_and_ends_with_its_authority() {
        let now = 1_700_000_000;
        let ca = authority("0123456789abcdef0123456789abcdef", now, 100).unwrap();
        let pair = leaf(&ca, &identity(), now + 10, 1_000).unwrap();
        let read = facts(&pair.certificate).unwrap();
        assert_eq!(read.uris, [identity().uri()]);
        assert_eq!(read.dns_names, ["backend.mailcluster.internal"]);
        assert_eq!(read.validity, Validity { issued: now + 10, expires: now + 100 });
        assert_eq!(read.issuer, facts(&ca.certificate).unwrap().subject);
        assert_ne!(facts(&authority("x", now, 100).unwrap().certificate).unwrap().subject, read.issuer);
    }

    #[test]
    fn bundles_are_taken_apart_and_put_together() {
        let now = 1_700_000_000;
        let (a, b) = (authority("a", now, 100).unwrap(), authority("b", now, 200).unwrap());
        let parts = certificates(&(a.certificate.clone() + &b.certificate)).unwrap();
        assert_eq!(parts.len(), 2);
        assert_eq!(facts(&parts[1].0).unwrap(), facts(&b.certificate).unwrap());
        assert_eq!(parts[0].0.replace('\r', ""), a.certificate.replace('\r', ""));
        assert!(facts("nothing").is_err());
    }
}
