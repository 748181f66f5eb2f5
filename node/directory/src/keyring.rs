//! A domain's keys and what becomes of them: pure decisions. A record's text must be in the DNS before its key signs, and
//! stay there as long as what it signed may be looked at.

use base64::{Engine, engine::general_purpose::STANDARD};
use mailcluster_dkim::NewKey;
use mailcluster_rpc::directory::v1 as pb;
use mailcluster_store::Sealed;
use mailcluster_types::{KeyAlgorithm, SecretKey, SigningKey, SigningKeys};
use prost::Message;

use crate::AdminError;

/// A key that signs no more goes after this: receivers look at mail within days.
const RETIRING: i64 = 7 * 24 * 3600;
/// Most keys of a domain.
const MOST: usize = 16;
/// Longest part of a key, in octets.
const LONGEST: usize = 8192;

/// What is kept or came over the network are no keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Malformed;

/// As it goes over the network; `None` when there are none, or what is kept cannot be read.
pub(crate) fn to_pb(sealed: &Sealed) -> Option<pb::DomainKeys> {
    if sealed.0.is_empty() { None } else { pb::DomainKeys::decode(&*sealed.0).ok() }
}

/// As it is kept.
pub(crate) fn from_pb(keys: Option<pb::DomainKeys>) -> Result<Sealed, Malformed> {
    let Some(keys) = keys else { return Ok(Sealed::default()) };
    let short = |key: &pb::DomainKey| {
        let secret = key.secret.as_ref().map_or(0, |secret| secret.value.len());
        key.selector.len() <= 63 && key.public.len() <= LONGEST && secret <= LONGEST
    };
    if keys.keys.len() > MOST || !keys.keys.iter().all(short) {
        return Err(Malformed);
    }
    Ok(Sealed(keys.encode_to_vec()))
}

/// The keys of a domain.
#[derive(Clone, Default, PartialEq)]
pub(crate) struct KeyRing {
    keys: Vec<pb::DomainKey>,
}

impl KeyRing {
    pub(crate) fn read(sealed: &Sealed) -> Self {
        Self { keys: to_pb(sealed).unwrap_or_default().keys }
    }

    pub(crate) fn sealed(&self) -> Sealed {
        if self.keys.is_empty() {
            return Sealed::default();
        }
        Sealed(pb::DomainKeys { keys: self.keys.clone() }.encode_to_vec())
    }

    pub(crate) fn keys(&self) -> &[pb::DomainKey] {
        &self.keys
    }

    fn in_state(&self, state: pb::KeyState) -> impl Iterator<Item = &pb::DomainKey> {
        self.keys.iter().filter(move |key| key.state() == state)
    }

    /// Those that wait to be published.
    pub(crate) fn pending(&self) -> impl Iterator<Item = &pb::DomainKey> {
        self.in_state(pb::KeyState::Pending)
    }

    /// Adds keys, which wait. Their selectors are new to the domain.
    ///
    /// # Errors
    /// [`AdminError::Refused`] when others wait, or there are too many.
    pub(crate) fn add(&mut self, made: Vec<(KeyAlgorithm, NewKey)>, now: i64) -> Result<(), AdminError> {
        self.forget_old(now);
        if self.pending().next().is_some() {
            let text =
                "new keys wait already: activate them when their records are published, or remove them";
            return Err(AdminError::Refused(text.into()));
        }
        if self.keys.len() + made.len() > MOST {
            return Err(AdminError::Refused("the domain has too many keys: remove old ones".into()));
        }
        for (algorithm, key) in made {
            let selector = self.selector(algorithm, now);
            self.keys.push(pb::DomainKey {
                selector,
                algorithm: algorithm_to_pb(algorithm).into(),
                state: pb::KeyState::Pending.into(),
                since: now,
                public: key.public,
                secret: Some(STANDARD.encode(key.secret.octets()).into()),
            });
        }
        Ok(())
    }

    /// The day and the kind tell people what it is; a number, when there is one of that day.
    fn selector(&self, algorithm: KeyAlgorithm, now: i64) -> String {
        let kind = match algorithm {
            KeyAlgorithm::RsaSha256 => "rsa",
            KeyAlgorithm::Ed25519Sha256 => "ed",
        };
        let base = format!("mc{}{kind}", now.max(0) / (24 * 3600));
        let taken = |name: &str| self.keys.iter().any(|key| key.selector == name);
        let numbered = (2..).map(|n: u32| format!("{base}{n}"));
        std::iter::once(base.clone()).chain(numbered).find(|name| !taken(name)).unwrap_or(base)
    }

    /// Those that wait sign from now on, those that did sign no more.
    ///
    /// # Errors
    /// [`AdminError::Refused`] when none waits.
    pub(crate) fn activate(&mut self, now: i64) -> Result<(), AdminError> {
        if self.pending().next().is_none() {
            return Err(AdminError::Refused("no key waits: `rotate` makes new ones".into()));
        }
        self.forget_old(now);
        for key in &mut self.keys {
            let next = match key.state() {
                pb::KeyState::Pending => pb::KeyState::Active,
                pb::KeyState::Active => pb::KeyState::Retiring,
                other => other,
            };
            if next != key.state() {
                key.set_state(next);
                key.since = now;
            }
        }
        Ok(())
    }

    /// Removes a key that does not sign.
    ///
    /// # Errors
    /// [`AdminError::NotFound`] and [`AdminError::Refused`], the latter for one that signs.
    pub(crate) fn remove(&mut self, selector: &str) -> Result<(), AdminError> {
        let found = self.keys.iter().position(|key| key.selector == selector);
        let at = found.ok_or_else(|| AdminError::NotFound(format!("there is no key {selector:?}")))?;
        if self.keys[at].state() == pb::KeyState::Active {
            return Err(AdminError::Refused(format!("{selector} signs: rotate and activate others first")));
        }
        self.keys.remove(at);
        Ok(())
    }

    /// Drops what has not signed for long; did anything go?
    pub(crate) fn forget_old(&mut self, now: i64) -> bool {
        let before = self.keys.len();
        self.keys.retain(|key| key.state() != pb::KeyState::Retiring || now < key.since + RETIRING);
        self.keys.len() < before
    }

    /// Those that sign, with what is secret; none when nothing does.
    pub(crate) fn active(&self) -> Vec<pb::DomainKey> {
        self.in_state(pb::KeyState::Active).cloned().collect()
    }
}

fn algorithm_to_pb(algorithm: KeyAlgorithm) -> pb::KeyAlgorithm {
    match algorithm {
        KeyAlgorithm::RsaSha256 => pb::KeyAlgorithm::RsaSha256,
        KeyAlgorithm::Ed25519Sha256 => pb::KeyAlgorithm::Ed25519Sha256,
    }
}

pub(crate) fn algorithm(key: &pb::DomainKey) -> Option<KeyAlgorithm> {
    match key.algorithm() {
        pb::KeyAlgorithm::RsaSha256 => Some(KeyAlgorithm::RsaSha256),
        pb::KeyAlgorithm::Ed25519Sha256 => Some(KeyAlgorithm::Ed25519Sha256),
        pb::KeyAlgorithm::Unspecified => None,
    }
}

/// What signs, as signers want it. A key of a kind that is not known here is left out: others may do.
pub(crate) fn signing(domain: String, keys: Vec<pb::DomainKey>) -> SigningKeys {
    let read = |key: pb::DomainKey| {
        let algorithm = algorithm(&key)?;
        let secret = SecretKey::from(STANDARD.decode(key.secret?.value).ok()?);
        Some(SigningKey { selector: key.selector, algorithm, secret })
    };
    SigningKeys { domain, keys: keys.into_iter().filter_map(read).collect() }
}

/// Name and text of the TXT record that a key needs.
pub(crate) fn record(domain: &str, key: &pb::DomainKey) -> (String, String) {
    let name = format!("{}._domainkey.{domain}", key.selector);
    let text = algorithm(key).map(|algorithm| mailcluster_dkim::record(algorithm, &key.public));
    (name, text.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 24 * 3600;

    fn made(name: &str) -> Vec<(KeyAlgorithm, NewKey)> {
        let key = || NewKey { secret: name.as_bytes().to_vec().into(), public: name.to_owned() };
        vec![(KeyAlgorithm::RsaSha256, key()), (KeyAlgorithm::Ed25519Sha256, key())]
    }

    fn states(ring: &KeyRing) -> Vec<(&str, pb::KeyState)> {
        ring.keys().iter().map(|key| (&*key.selector, key.state())).collect()
    }

    #[test]
    fn a_key_waits_signs_and_retires_and_no_moment_is_without_one() {
        use pb::KeyState::{Active, Pending, Retiring};
        let mut ring = KeyRing::default();
        ring.add(made("one"), 0).unwrap();
        assert_eq!(states(&ring), [("mc0rsa", Pending), ("mc0ed", Pending)]);
        assert!(ring.active().is_empty(), "what is not published signs nothing");
        assert!(matches!(ring.add(made("two"), 1), Err(AdminError::Refused(_))));
        ring.activate(1).unwrap();
        assert!(matches!(ring.activate(1), Err(AdminError::Refused(_))));
        ring.add(made("two"), 2).unwrap();
        assert_eq!(ring.active().len(), 2, "the old ones sign until the new ones do");
        ring.activate(DAY).unwrap();
        let expected = [("mc0rsa", Retiring), ("mc0ed", Retiring), ("mc0rsa2", Active), ("mc0ed2", Active)];
        assert_eq!(states(&ring), expected);
        assert!(!ring.forget_old(8 * DAY - 1));
        assert!(ring.forget_old(8 * DAY));
        assert_eq!(states(&ring), [("mc0rsa2", Active), ("mc0ed2", Active)]);
        assert!(matches!(ring.remove("mc0ed2"), Err(AdminError::Refused(_))), "it signs");
        assert!(matches!(ring.remove("mc0rsa"), Err(AdminError::NotFound(_))));
        ring.add(made("three"), 9 * DAY).unwrap();
        ring.remove("mc9ed").unwrap();
        assert_eq!(states(&ring)[2], ("mc9rsa", Pending));
    }

    #[test]
    fn keys_are_kept_as_they_are_and_shown_in_no_debug_output() {
        let mut ring = KeyRing::default();
        ring.add(made("hidden"), 0).unwrap();
        ring.activate(0).unwrap();
        let sealed = ring.sealed();
        assert!(KeyRing::read(&sealed) == ring);
        assert_eq!(from_pb(to_pb(&sealed)), Ok(sealed.clone()));
        let signing = signing("example.org".into(), ring.active());
        assert_eq!(signing.keys[0].secret.octets(), b"hidden");
        let secret = STANDARD.encode("hidden");
        for text in [format!("{sealed:?}"), format!("{signing:?}"), format!("{:?}", ring.active())] {
            assert!(!text.contains(&secret), "{text}");
        }
        let (name, text) = record("example.org", &ring.keys()[1]);
        assert_eq!(name, "mc0ed._domainkey.example.org");
        assert_eq!(text, "v=DKIM1; k=ed25519; p=hidden");
    }

    #[test]
    fn overlong_keys_are_refused() {
        let long = |selector: usize, public: usize| pb::DomainKey {
            selector: "s".repeat(selector),
            public: "p".repeat(public),
            ..Default::default()
        };
        for keys in [vec![long(64, 1)], vec![long(1, 9000)], vec![long(1, 1); 17]] {
            assert_eq!(from_pb(Some(pb::DomainKeys { keys })), Err(Malformed));
        }
        assert!(from_pb(Some(pb::DomainKeys { keys: vec![long(63, 8000); 16] })).is_ok());
    }
}
