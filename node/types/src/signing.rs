//! What signs a domain's mail.

use std::{fmt, sync::Arc};

/// How a key signs (RFC 6376 section 3.3, RFC 8463).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KeyAlgorithm {
    /// `rsa-sha256`
    RsaSha256,
    /// `ed25519-sha256`
    Ed25519Sha256,
}

/// A private key, PKCS #8. Its debug form says nothing.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretKey(Arc<[u8]>);

impl SecretKey {
    /// What signs.
    #[must_use]
    pub fn octets(&self) -> &[u8] {
        &self.0
    }
}

impl From<Vec<u8>> for SecretKey {
    fn from(octets: Vec<u8>) -> Self {
        Self(octets.into())
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretKey(..)")
    }
}

/// One key in use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SigningKey {
    /// Where its record is: `SELECTOR._domainkey.DOMAIN`.
    pub selector: String,
    /// How it signs.
    pub algorithm: KeyAlgorithm,
    /// The key.
    pub secret: SecretKey,
}

/// The keys in use of a domain.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SigningKeys {
    /// The domain whose keys they are: the one that was asked for, or one above it.
    pub domain: String,
    /// Mail is signed with each; none: it is not signed.
    pub keys: Vec<SigningKey>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_output_has_no_key() {
        let secret = SecretKey::from(b"hidden".to_vec());
        let key = SigningKey { selector: "s".into(), algorithm: KeyAlgorithm::RsaSha256, secret };
        let text = format!("{key:?}");
        assert!(text.contains("SecretKey(..)") && !text.contains("hidden") && !text.contains("104"));
    }
}
