//! The DKIM-Signature field (RFC 6376 section 3.5).

use base64::{Engine, engine::general_purpose::STANDARD};
use mailcluster_types::{KeyAlgorithm, SigningKey, SigningKeys};
use ring::{
    digest::{SHA256, digest},
    rand::SystemRandom,
    signature::RSA_PKCS1_SHA256,
};

use crate::{BodyHash, header, key::Key};

/// Lines are folded before they are longer (RFC 5322 section 2.1.1).
const WIDTH: usize = 76;

/// Why a message is not signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SignError {
    /// It has no From field, which every signature must cover (RFC 6376 section 5.4).
    #[error("the header has no From field")]
    NoFrom,
    /// It has more fields of a name than any message needs.
    #[error("the header has too many {0} fields")]
    TooMany(&'static str),
    /// A key cannot be used.
    #[error("a key of the domain cannot be used")]
    Key,
}

/// Signs by each key: the fields to be put before the header section. `header` ends with the CRLF of its last field,
/// `body` is what [`crate::BodyHash`] made of what follows the empty line, `at` is in seconds since 1970.
///
/// # Errors
/// When the header cannot be signed, or a key cannot be read. It takes a few milliseconds for an RSA key.
pub fn sign(keys: &SigningKeys, header: &[u8], body: &[u8; 32], at: i64) -> Result<Vec<u8>, SignError> {
    let mut out = Vec::new();
    if keys.keys.is_empty() {
        return Ok(out);
    }
    let (names, fields) = header::selected(header)?;
    let mut signed = Vec::new();
    fields.iter().for_each(|field| header::relax(field, &mut signed));
    for key in &keys.keys {
        let unsigned = unsigned(&keys.domain, key, &names, (body, at));
        let value = signature(key, &signed, &unsigned)?;
        out.extend_from_slice(unsigned.as_bytes());
        out.extend_from_slice(folded(&value).as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    Ok(out)
}

/// As [`sign`], for a message that is in memory whole: the message with its signatures.
///
/// # Errors
/// As [`sign`] has them.
pub fn sign_whole(keys: &SigningKeys, message: &[u8], at: i64) -> Result<Vec<u8>, SignError> {
    let end = memchr::memmem::find(message, b"\r\n\r\n").map_or(message.len(), |at| at + 2);
    let (header, rest) = message.split_at(end);
    let mut body = BodyHash::default();
    body.update(rest.get(2..).unwrap_or_default());
    Ok([&sign(keys, header, &body.finish(), at)?[..], message].concat())
}

/// The field, up to where the signature's value begins.
fn unsigned(domain: &str, key: &SigningKey, names: &[&str], (body, at): (&[u8; 32], i64)) -> String {
    let algorithm = match key.algorithm {
        KeyAlgorithm::RsaSha256 => "rsa-sha256",
        KeyAlgorithm::Ed25519Sha256 => "ed25519-sha256",
    };
    let mut field = format!(
        "DKIM-Signature: v=1; a={algorithm}; c=relaxed/relaxed;\r\n\td={domain}; s={};\r\n\tt={}; bh={};\r\n\th=",
        key.selector,
        at.max(0),
        STANDARD.encode(body)
    );
    let mut width = 10;
    for (n, name) in names.iter().enumerate() {
        if width + name.len() >= WIDTH {
            field.push_str("\r\n\t ");
            width = 9;
        }
        if n > 0 {
            field.push(':');
        }
        field.push_str(name);
        width += name.len() + 1;
    }
    field.push_str(";\r\n\tb=");
    field
}

/// Base64 over several lines: white space in it does not count (section 3.5).
fn folded(value: &[u8]) -> String {
    let text = STANDARD.encode(value);
    let mut out = String::with_capacity(text.len() + text.len() / 20);
    for (n, c) in text.chars().enumerate() {
        if n > 0 && n % (WIDTH - 10) == 0 {
            out.push_str("\r\n\t ");
        }
        out.push(c);
    }
    out
}

/// Over the fields in their order, then the signature's own with nothing in `b=` and no CRLF (section 3.7).
fn signature(key: &SigningKey, signed: &[u8], unsigned: &str) -> Result<Vec<u8>, SignError> {
    let mut text = signed.to_vec();
    header::relax(unsigned.as_bytes(), &mut text);
    text.truncate(text.len() - 2);
    match Key::read(key.algorithm, &key.secret).map_err(|_| SignError::Key)? {
        Key::Rsa(pair) => {
            let mut value = vec![0; pair.public().modulus_len()];
            let done = pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), &text, &mut value);
            done.map(|()| value).map_err(|_| SignError::Key)
        }
        // RFC 8463 section 3: of the hash, not of the text.
        Key::Ed25519(pair) => Ok(pair.sign(digest(&SHA256, &text).as_ref()).as_ref().to_vec()),
    }
}

#[cfg(test)]
mod tests;
