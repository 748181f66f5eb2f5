//! Merges the certificates that a MailCluster names into one Secret. A broken one keeps its last good entry. Pure but
//! for the randomness of a self-signed certificate.

use std::collections::BTreeMap;

use rustls::{
    crypto::ring::default_provider,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    sign::CertifiedKey,
};

use crate::pki::{PkiError, issue, secrets::Data};

/// Seconds that a self-signed certificate is good for.
const SELF_SIGNED_SECONDS: i64 = 365 * 86_400;

/// What clients will be shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Merged {
    /// The merged Secret's data: `<nn>-<name>.crt` and `.key`, the default first.
    pub data: Data,
    /// Secrets that are missing or broken, with the reason.
    pub broken: Vec<(String, String)>,
    /// Is it the self-signed fallback?
    pub self_signed: bool,
    /// When the first of them ends, seconds since 1970.
    pub expires: i64,
}

/// The data of each Secret that the spec names, in its order; none: it does not exist.
pub type Sources<'a> = [(&'a str, Option<Data>)];

/// Merges.
///
/// # Errors
/// When the self-signed fallback cannot be made.
pub fn merge(sources: &Sources<'_>, before: &Data, hostname: &str, now: i64) -> Result<Merged, PkiError> {
    let (mut data, mut broken, mut expires) = (Data::new(), Vec::new(), i64::MAX);
    for (place, (name, secret)) in sources.iter().enumerate() {
        let checked = match secret {
            None => Err("it does not exist".to_owned()),
            Some(secret) => check(secret.get("tls.crt"), secret.get("tls.key")),
        };
        let pair = match (checked, secret) {
            (Ok(end), Some(secret)) => Some((secret["tls.crt"].clone(), secret["tls.key"].clone(), end)),
            (Ok(_), None) => None,
            (Err(reason), _) => {
                broken.push(((*name).to_owned(), reason));
                last_good(before, name)
            }
        };
        if let Some((certificate, key, end)) = pair {
            expires = expires.min(end);
            data.insert(format!("{place:02}-{name}.crt"), certificate);
            data.insert(format!("{place:02}-{name}.key"), key);
        }
    }
    let self_signed = data.is_empty();
    if self_signed {
        (data, expires) = fallback(before, hostname, now)?;
    }
    Ok(Merged { data, broken, self_signed, expires })
}

/// What was merged from a Secret of this name before, whatever place it had.
fn last_good(before: &Data, name: &str) -> Option<(Vec<u8>, Vec<u8>, i64)> {
    let entry = |suffix: &str| {
        before
            .iter()
            .find(|(key, _)| key.get(2..).is_some_and(|k| k == format!("-{name}.{suffix}")))
            .map(|(_, v)| v)
    };
    let (certificate, key) = (entry("crt")?, entry("key")?);
    let end = check(Some(certificate), Some(key)).ok()?;
    Some((certificate.clone(), key.clone(), end))
}

/// Is this a certificate chain with its key? Returns the end of its validity.
fn check(certificate: Option<&Vec<u8>>, key: Option<&Vec<u8>>) -> Result<i64, String> {
    let certificate = certificate.ok_or("it has no tls.crt")?;
    let key = key.ok_or("it has no tls.key")?;
    let chain = CertificateDer::pem_slice_iter(certificate)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|_| "tls.crt is no PEM certificate chain")?;
    if chain.is_empty() {
        return Err("tls.crt holds no certificate".into());
    }
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| "tls.key is no PEM private key")?;
    CertifiedKey::from_der(chain, key, &default_provider())
        .map_err(|_| "tls.key does not belong to tls.crt, or is of a kind that is not supported")?;
    let text = std::str::from_utf8(certificate).map_err(|_| "tls.crt is no text")?;
    issue::facts(text).map(|facts| facts.validity.expires).map_err(|error| error.to_string())
}

/// The self-signed certificate of before as long as it fits, else a new one.
fn fallback(before: &Data, hostname: &str, now: i64) -> Result<(Data, i64), PkiError> {
    let (crt, key) = ("00-self-signed.crt", "00-self-signed.key");
    if let (Some(c), Some(k)) = (before.get(crt), before.get(key)) {
        let facts = std::str::from_utf8(c).ok().and_then(|text| issue::facts(text).ok());
        if let Some(facts) = facts.filter(|f| f.dns_names == [hostname] && now < f.validity.replace_at()) {
            return Ok((
                BTreeMap::from([(crt.into(), c.clone()), (key.into(), k.clone())]),
                facts.validity.expires,
            ));
        }
    }
    let pair = issue::self_signed(hostname, now, SELF_SIGNED_SECONDS)?;
    let data =
        BTreeMap::from([(crt.into(), pair.certificate.into_bytes()), (key.into(), pair.key.into_bytes())]);
    Ok((data, now.saturating_add(SELF_SIGNED_SECONDS)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_700_000_000;

    fn secret(hostname: &str) -> Data {
        let pair = issue::self_signed(hostname, NOW, 1_000).unwrap();
        Data::from([
            ("tls.crt".into(), pair.certificate.into_bytes()),
            ("tls.key".into(), pair.key.into_bytes()),
        ])
    }

    #[test]
    fn without_any_a_self_signed_one_is_made_and_kept() {
        let first = merge(&[], &Data::new(), "mail.example.org", NOW).unwrap();
        assert!(first.self_signed && first.broken.is_empty());
        let again = merge(&[], &first.data, "mail.example.org", NOW + 1_000).unwrap();
        assert_eq!(again.data, first.data);
        let renamed = merge(&[], &first.data, "mx.example.org", NOW + 1_000).unwrap();
        assert_ne!(renamed.data, first.data);
        let old = merge(&[], &first.data, "mail.example.org", NOW + 300 * 86_400).unwrap();
        assert_ne!(old.data, first.data);
    }

    #[test]
    fn a_broken_one_keeps_its_last_good_entry() {
        let (a, b) = (secret("a.example"), secret("b.example"));
        let good =
            merge(&[("a", Some(a.clone())), ("b", Some(b.clone()))], &Data::new(), "h.example", NOW).unwrap();
        assert_eq!(good.data.keys().collect::<Vec<_>>(), ["00-a.crt", "00-a.key", "01-b.crt", "01-b.key"]);
        assert!(!good.self_signed && good.broken.is_empty() && good.expires == NOW + 1_000);
        // The key of another certificate; and the order has changed.
        let mut mixed = b.clone();
        mixed.insert("tls.key".into(), a["tls.key"].clone());
        let kept =
            merge(&[("b", Some(mixed)), ("a", Some(a.clone()))], &good.data, "h.example", NOW).unwrap();
        assert_eq!(kept.data["00-b.key"], b["tls.key"]);
        assert_eq!(kept.broken.len(), 1);
        let gone = merge(&[("a", None)], &good.data, "h.example", NOW).unwrap();
        assert_eq!(gone.data["00-a.crt"], a["tls.crt"]);
        assert_eq!(gone.broken, [("a".to_owned(), "it does not exist".to_owned())]);
    }

    #[test]
    fn what_was_never_good_leaves_the_fallback() {
        let garbage = Data::from([("tls.crt".into(), b"x".to_vec()), ("tls.key".into(), b"y".to_vec())]);
        let merged = merge(&[("a", Some(garbage))], &Data::new(), "h.example", NOW).unwrap();
        assert!(merged.self_signed && merged.broken.len() == 1);
    }
}
