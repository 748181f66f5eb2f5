//! Keys of domains: listed, made, put to use, removed. What is secret of them is told to signers alone.

use mailcluster_dkim::{NewKey, generate};
use mailcluster_rpc::{admin::v1 as pb, directory::v1 as directory};
use mailcluster_store::Domain;
use mailcluster_types::KeyAlgorithm;

use super::PAGE;
use crate::{
    AdminError, DirectoryService,
    keyring::{self, KeyRing},
    names,
    service::{next_generation, unix_seconds},
};

/// What keys are made of: those who cannot verify the one verify the other (RFC 8463 section 5).
const ALGORITHMS: [KeyAlgorithm; 2] = [KeyAlgorithm::RsaSha256, KeyAlgorithm::Ed25519Sha256];

impl DirectoryService {
    /// The keys of a domain.
    ///
    /// # Errors
    /// [`AdminError::NotFound`] when it is not ours.
    pub async fn domain_keys(&self, name: &str) -> Result<Vec<pb::DomainKey>, AdminError> {
        let domain = self.held_domain(name).await?;
        Ok(told(&domain.name, &KeyRing::read(&domain.keys)))
    }

    /// Makes keys, which wait until they are activated.
    ///
    /// # Errors
    /// [`AdminError::Refused`] when others wait.
    pub async fn rotate_domain_keys(&self, who: &str, name: &str) -> Result<Vec<pb::DomainKey>, AdminError> {
        // Made before anything is locked: it takes long.
        let domain = self.held_domain(name).await?.name;
        let made = tokio::task::spawn_blocking(make).await;
        let made = made.ok().and_then(Result::ok);
        let made = made.ok_or_else(|| AdminError::Unavailable("no key could be made".into()))?;
        self.change_keys(who, &format!("domain dkim rotate {domain}"), &domain, |ring, now| {
            ring.add(made, now)
        })
        .await
    }

    /// Puts keys that wait to use.
    ///
    /// # Errors
    /// [`AdminError::Refused`] when none waits.
    pub async fn activate_domain_keys(
        &self,
        who: &str,
        name: &str,
    ) -> Result<Vec<pb::DomainKey>, AdminError> {
        let domain = names::domain(name)?;
        self.change_keys(who, &format!("domain dkim activate {domain}"), &domain, KeyRing::activate).await
    }

    /// Removes a key that does not sign.
    ///
    /// # Errors
    /// [`AdminError::Refused`] when it signs.
    pub async fn remove_domain_key(
        &self,
        who: &str,
        name: &str,
        selector: &str,
    ) -> Result<Vec<pb::DomainKey>, AdminError> {
        let domain = names::domain(name)?;
        let what = format!("domain dkim remove {domain} {selector:?}");
        self.change_keys(who, &what, &domain, |ring, _| ring.remove(selector)).await
    }

    /// Drops keys that have signed nothing for long, and answers what those that wait need: of each domain, names and
    /// texts of records.
    pub(crate) async fn look_after_keys(&self) -> Result<Vec<(String, Vec<(String, String)>)>, AdminError> {
        let (mut after, mut waiting) = (String::new(), Vec::new());
        loop {
            let from = after.clone();
            let page = self.look(move |view, _| view.domains_with_keys(&from, PAGE)).await?;
            let Some(last) = page.last() else { return Ok(waiting) };
            after.clone_from(&last.name);
            for domain in page {
                let mut ring = KeyRing::read(&domain.keys);
                if ring.forget_old(unix_seconds()) {
                    self.forget_old_keys(&domain.name).await?;
                }
                let records: Vec<_> = ring.pending().map(|key| keyring::record(&domain.name, key)).collect();
                if !records.is_empty() {
                    waiting.push((domain.name, records));
                }
            }
        }
    }

    async fn forget_old_keys(&self, name: &str) -> Result<(), AdminError> {
        let what = format!("domain dkim: keys of {name} that have signed nothing for 7 days go");
        let forget = |ring: &mut KeyRing, now| {
            ring.forget_old(now);
            Ok(())
        };
        self.change_keys("the directory", &what, name, forget).await.map(drop)
    }

    async fn held_domain(&self, name: &str) -> Result<Domain, AdminError> {
        let name = names::domain(name)?;
        let asked = name.clone();
        let found = self.look(move |view, _| view.domain(&asked)).await?;
        found.ok_or_else(|| AdminError::NotFound(format!("there is no domain {name}")))
    }

    /// What cannot be changed is refused before anything is noted.
    async fn change_keys(
        &self,
        who: &str,
        what: &str,
        name: &str,
        decide: impl FnOnce(&mut KeyRing, i64) -> Result<(), AdminError>,
    ) -> Result<Vec<pb::DomainKey>, AdminError> {
        let _writing = self.writing().await;
        let asked = name.to_owned();
        let found = self.look(move |view, _| view.domain(&asked)).await?;
        let domain = found.ok_or_else(|| AdminError::NotFound(format!("there is no domain {name}")))?;
        let mut ring = KeyRing::read(&domain.keys);
        decide(&mut ring, unix_seconds())?;
        let generation = next_generation(domain.generation);
        let next = Domain { generation, keys: ring.sealed(), ..domain };
        self.change(who, what.to_owned(), self.put_domain(next)).await?;
        Ok(told(name, &ring))
    }
}

fn make() -> Result<Vec<(KeyAlgorithm, NewKey)>, mailcluster_dkim::KeyError> {
    ALGORITHMS.into_iter().map(|algorithm| Ok((algorithm, generate(algorithm)?))).collect()
}

/// What administrators see.
fn told(domain: &str, ring: &KeyRing) -> Vec<pb::DomainKey> {
    let told = |key: &directory::DomainKey| {
        let (record_name, record_text) = keyring::record(domain, key);
        pb::DomainKey {
            selector: key.selector.clone(),
            algorithm: key.algorithm,
            state: key.state,
            since: key.since,
            record_name,
            record_text,
        }
    };
    ring.keys().iter().map(told).collect()
}
