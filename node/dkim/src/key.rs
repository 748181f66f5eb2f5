//! Keys of domains: made here, used by [`crate::sign`], published as [`record`] writes them (RFC 6376 section 3.6.1).

use base64::{Engine, engine::general_purpose::STANDARD};
use mailcluster_types::{KeyAlgorithm, SecretKey};
use ring::{
    rand::{SecureRandom, SystemRandom},
    signature::{Ed25519KeyPair, KeyPair, RsaKeyPair},
};
use rsa::{
    PrivateKey,
    pkcs8::{EncodePrivateKey, EncodePublicKey},
    rand_core::{TryCryptoRng, TryRng},
};

/// RFC 8301 section 3.2 asks for 1024 at least and for 2048; longer keys do not fit into what some DNS hosts take.
const RSA_BITS: usize = 2048;

/// A key cannot be made or used. Nothing of the key is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The machine has no randomness, or no key was found.
    #[error("no key could be made")]
    NotMade,
    /// What is kept is no key of this algorithm.
    #[error("a kept key cannot be read")]
    Unreadable,
}

/// A key that was made.
#[derive(Debug, Clone)]
pub struct NewKey {
    /// PKCS #8.
    pub secret: SecretKey,
    /// What `p=` tells.
    pub public: String,
}

/// Draws a key. RSA takes up to seconds: not for a thread that others wait for.
///
/// # Errors
/// When none can be made.
pub fn generate(algorithm: KeyAlgorithm) -> Result<NewKey, KeyError> {
    match algorithm {
        KeyAlgorithm::RsaSha256 => {
            // ring signs with RSA keys, and makes none.
            let key =
                PrivateKey::new(&mut Draw(SystemRandom::new()), RSA_BITS).map_err(|_| KeyError::NotMade)?;
            let secret = key.to_pkcs8_der().map_err(|_| KeyError::NotMade)?;
            let public = key.to_public_key().to_public_key_der().map_err(|_| KeyError::NotMade)?;
            Ok(NewKey { secret: secret.as_bytes().to_vec().into(), public: STANDARD.encode(public) })
        }
        KeyAlgorithm::Ed25519Sha256 => {
            let made = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).map_err(|_| KeyError::NotMade)?;
            let pair = Ed25519KeyPair::from_pkcs8(made.as_ref()).map_err(|_| KeyError::NotMade)?;
            let public = STANDARD.encode(pair.public_key());
            Ok(NewKey { secret: made.as_ref().to_vec().into(), public })
        }
    }
}

/// The machine's randomness, by ring.
struct Draw(SystemRandom);

/// It has none.
#[derive(Debug, thiserror::Error)]
#[error("the machine has no randomness to give")]
struct NoRandomness;

impl TryRng for Draw {
    type Error = NoRandomness;

    fn try_next_u32(&mut self) -> Result<u32, NoRandomness> {
        let mut octets = [0; 4];
        self.try_fill_bytes(&mut octets).map(|()| u32::from_le_bytes(octets))
    }

    fn try_next_u64(&mut self) -> Result<u64, NoRandomness> {
        let mut octets = [0; 8];
        self.try_fill_bytes(&mut octets).map(|()| u64::from_le_bytes(octets))
    }

    fn try_fill_bytes(&mut self, octets: &mut [u8]) -> Result<(), NoRandomness> {
        self.0.fill(octets).map_err(|_| NoRandomness)
    }
}

impl TryCryptoRng for Draw {}

/// The text of the TXT record at `SELECTOR._domainkey.DOMAIN`.
#[must_use]
pub fn record(algorithm: KeyAlgorithm, public: &str) -> String {
    let kind = match algorithm {
        KeyAlgorithm::RsaSha256 => "rsa",
        KeyAlgorithm::Ed25519Sha256 => "ed25519",
    };
    format!("v=DKIM1; k={kind}; p={public}")
}

/// A key, read.
pub(crate) enum Key {
    Rsa(Box<RsaKeyPair>),
    Ed25519(Ed25519KeyPair),
}

impl Key {
    pub(crate) fn read(algorithm: KeyAlgorithm, secret: &SecretKey) -> Result<Self, KeyError> {
        let unreadable = |_| KeyError::Unreadable;
        match algorithm {
            KeyAlgorithm::RsaSha256 => RsaKeyPair::from_pkcs8(secret.octets())
                .map(|key| Self::Rsa(Box::new(key)))
                .map_err(unreadable),
            KeyAlgorithm::Ed25519Sha256 => {
                Ed25519KeyPair::from_pkcs8(secret.octets()).map(Self::Ed25519).map_err(unreadable)
            }
        }
    }
}
