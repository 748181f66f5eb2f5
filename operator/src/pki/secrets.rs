//! The contents of the PKI's Secrets: what is there, and what shall be there instead. Pure but for randomness.

use std::collections::BTreeMap;

use mailcluster_api::roles::Identity;

use super::{
    PkiError,
    issue::{self, Facts, Pair},
    schedule::{CaStep, Lifetimes, Validity, ca_step},
};

/// A Secret's data.
pub type Data = BTreeMap<String, Vec<u8>>;

const CERTIFICATE: &str = "tls.crt";
const KEY: &str = "tls.key";
const NEXT_CERTIFICATE: &str = "next.crt";
const NEXT_KEY: &str = "next.key";
/// The trusted CAs, in every identity Secret and in the CA's ConfigMap.
pub const BUNDLE: &str = "ca.crt";

/// The CA as it stands in its Secret.
#[derive(Clone, PartialEq, Eq)]
pub struct Authority {
    /// What signs.
    pub current: Pair,
    /// What will sign next.
    pub staged: Option<Pair>,
    /// All certificates that are trusted, PEM.
    pub bundle: String,
    /// When the next step is due, seconds since 1970.
    pub due: i64,
}

fn text(data: &Data, key: &str) -> Option<String> {
    String::from_utf8(data.get(key)?.clone()).ok().filter(|text| !text.is_empty())
}

fn pair(data: &Data, certificate: &str, key: &str) -> Option<Pair> {
    Some(Pair { certificate: text(data, certificate)?, key: text(data, key)? })
}

/// A pair whose certificate can be read and whose key belongs to it; a damaged one counts as none.
fn readable(pair: Option<Pair>) -> Option<(Pair, Validity)> {
    let pair = pair?;
    let validity = pair.checked()?.validity;
    Some((pair, validity))
}

impl Authority {
    /// The CA that follows from what its Secret holds now (nothing at first). `handed_out`: bundles that were given to
    /// pods; when the CA itself is lost they tell whom the pods' certificates are from.
    ///
    /// # Errors
    /// When a certificate cannot be made.
    pub fn next(
        data: &Data,
        handed_out: &[&Data],
        cluster_id: &str,
        now: i64,
        lifetimes: &Lifetimes,
    ) -> Result<Self, PkiError> {
        let seconds = i64::try_from(lifetimes.ca.as_secs()).unwrap_or(i64::MAX);
        let mut current = readable(pair(data, CERTIFICATE, KEY));
        let mut staged = readable(pair(data, NEXT_CERTIFICATE, NEXT_KEY));
        let mut trusted = trusted(text(data, BUNDLE).unwrap_or_default().as_str(), now);
        if current.is_none() {
            let bundles = handed_out.iter().filter_map(|data| text(data, BUNDLE));
            trusted.extend(bundles.flat_map(|bundle| self::trusted(&bundle, now)));
            trusted.sort_by(|a, b| a.1.subject.cmp(&b.1.subject));
            trusted.dedup_by(|a, b| a.1.subject == b.1.subject);
        }
        // Each step changes what the next one sees; four suffice for any way the operator may have been away.
        for _ in 0..4 {
            let ends: Vec<i64> = trusted.iter().map(|(_, facts)| facts.validity.expires).collect();
            match ca_step(now, current.as_ref().map(|c| c.1), staged.as_ref().map(|s| s.1), &ends, lifetimes)
            {
                CaStep::Keep { until } => {
                    let (Some((current, _)), staged) = (current, staged.map(|s| s.0)) else {
                        return Err(PkiError::Parse("the CA has no certificate to keep".into()));
                    };
                    let bundle = bundle(&trusted, [Some(&current), staged.as_ref()])?;
                    return Ok(Self { current, staged, bundle, due: until });
                }
                CaStep::Create => current = readable(Some(issue::authority(cluster_id, now, seconds)?)),
                CaStep::Stage => staged = readable(Some(issue::authority(cluster_id, now, seconds)?)),
                CaStep::Promote => current = staged.take(),
                CaStep::Prune => trusted.retain(|(_, facts)| facts.validity.expires > now),
            }
            for (pair, _) in [&current, &staged].into_iter().flatten() {
                trusted.extend(self::trusted(&pair.certificate, now));
            }
            trusted.dedup_by(|a, b| a.1.subject == b.1.subject);
        }
        Err(PkiError::Parse("the CA's schedule does not come to rest".into()))
    }

    /// As it stands in the Secret.
    #[must_use]
    pub fn to_data(&self) -> Data {
        let mut data = Data::from([
            (CERTIFICATE.to_owned(), self.current.certificate.clone().into_bytes()),
            (KEY.to_owned(), self.current.key.clone().into_bytes()),
            (BUNDLE.to_owned(), self.bundle.clone().into_bytes()),
        ]);
        if let Some(staged) = &self.staged {
            data.insert(NEXT_CERTIFICATE.to_owned(), staged.certificate.clone().into_bytes());
            data.insert(NEXT_KEY.to_owned(), staged.key.clone().into_bytes());
        }
        data
    }
}

/// The readable, unexpired certificates of a bundle.
fn trusted(bundle: &str, now: i64) -> Vec<(String, Facts)> {
    let parts = issue::certificates(bundle).unwrap_or_default();
    parts
        .into_iter()
        .filter_map(|(pem, _)| issue::facts(&pem).ok().map(|facts| (pem, facts)))
        .filter(|(_, facts)| facts.validity.expires > now)
        .collect()
}

/// All trusted certificates once, the oldest first.
fn bundle(trusted: &[(String, Facts)], own: [Option<&Pair>; 2]) -> Result<String, PkiError> {
    let mut all: Vec<(i64, Vec<u8>, String)> = trusted
        .iter()
        .map(|(pem, facts)| (facts.validity.issued, facts.subject.clone(), pem.clone()))
        .collect();
    for pair in own.into_iter().flatten() {
        let facts = issue::facts(&pair.certificate)?;
        all.push((facts.validity.issued, facts.subject, pair.certificate.clone()));
    }
    all.sort();
    all.dedup_by(|a, b| a.1 == b.1);
    Ok(all.into_iter().map(|(_, _, pem)| pem.replace('\r', "")).collect())
}

/// An identity Secret's data, and when it is to be looked at again.
///
/// # Errors
/// When a certificate cannot be made.
pub fn identity(
    data: &Data,
    authority: &Authority,
    identity: &Identity,
    now: i64,
    lifetimes: &Lifetimes,
) -> Result<(Data, i64), PkiError> {
    let issuer = issue::facts(&authority.current.certificate)?;
    let seconds = i64::try_from(lifetimes.leaf.as_secs()).unwrap_or(i64::MAX);
    let overlap = i64::try_from(lifetimes.overlap.as_secs()).unwrap_or(i64::MAX);
    // An authority that had to be made at once is first known to all, and then signs, like one that was announced.
    let known_to_all = issuer.validity.issued.saturating_add(overlap);
    let others = issue::all_facts(&authority.bundle)?;
    let good = pair(data, CERTIFICATE, KEY).and_then(|pair| {
        let facts = pair.checked()?;
        let validity = facts.validity;
        // One that was made to last longer than is wanted now is made anew as well.
        let fits =
            facts.uris == [identity.uri()] && validity.expires.saturating_sub(validity.issued) <= seconds;
        let due = if facts.issuer == issuer.subject {
            validity.renew_at()
        } else if others.iter().any(|ca| ca.subject == facts.issuer) {
            known_to_all.min(validity.expires - (validity.expires - validity.issued) / 10)
        } else {
            return None;
        };
        (fits && now < due).then_some((pair, due))
    });
    let (pair, due) = match good {
        Some(good) => good,
        None => {
            let pair = issue::leaf(&authority.current, identity, now, seconds)?;
            let due = issue::facts(&pair.certificate)?.validity.renew_at();
            (pair, due)
        }
    };
    let data = Data::from([
        (CERTIFICATE.to_owned(), pair.certificate.into_bytes()),
        (KEY.to_owned(), pair.key.into_bytes()),
        (BUNDLE.to_owned(), authority.bundle.clone().into_bytes()),
    ]);
    Ok((data, due))
}

#[cfg(test)]
#[path = "secrets/tests.rs"]
mod tests;
