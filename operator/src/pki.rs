//! The internal certificate authority and the certificates of operator and mail pods.

pub mod issue;
pub mod schedule;
pub mod secrets;

/// Why a certificate could not be made or read.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// The library refused.
    #[error("failed to make a certificate")]
    Issue(#[from] rcgen::Error),
    /// What is in a Secret is no certificate or key.
    #[error("failed to read a certificate: {0}")]
    Parse(String),
    /// The operating system has no randomness.
    #[error("the operating system gave no randomness")]
    Random,
}

/// 128 random bits as 32 hexadecimal digits.
///
/// # Errors
/// When the operating system has no randomness to give.
pub fn random_hex() -> Result<String, PkiError> {
    let mut bytes = [0; 16];
    let random = rustls::crypto::ring::default_provider().secure_random;
    random.fill(&mut bytes).map_err(|_| PkiError::Random)?;
    Ok(bytes.iter().map(|b| format!("{b:02x}")).collect())
}
