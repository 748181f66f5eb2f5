//! The formats a stored password hash may have. What is imported is kept as it came until the first login.
//!
//! | written as | what it is |
//! |---|---|
//! | `$argon2id$v=19$m=19456,t=2,p=1$SALT$HASH` or `{ARGON2ID}$argon2id$…` | Argon2id (RFC 9106), PHC string |
//! | `{BLF-CRYPT}$2y$10$…` or `$2a$`, `$2b$`, `$2y$` alone | bcrypt; reads 72 octets of the password |
//! | `{SHA512-CRYPT}$6$[rounds=N$]SALT$HASH` or `$6$…` alone | SHA-512 crypt |
//! | `{SHA256-CRYPT}$5$[rounds=N$]SALT$HASH` or `$5$…` alone | SHA-256 crypt |
//! | `{SSHA}BASE64(SHA1(password SALT) SALT)` | salted SHA-1 (RFC 2307 as OpenLDAP writes it) |
//! | `{PBKDF2}$1$SALT$ROUNDS$HEX` | PBKDF2-HMAC-SHA-1, 20 octets, as Dovecot writes it |
//!
//! Scheme names are read without case. A hash whose work is beyond the limits here is refused, since every login
//! would have to do it.

use std::num::NonZeroU32;

use argon2::password_hash::phc::PasswordHash;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use ring::{digest, pbkdf2};
use subtle::ConstantTimeEq;

use crate::{MAX_PASSWORD, argon2_memory};

/// Most memory of an Argon2 hash, in KiB.
const MAX_ARGON2_MEMORY: u32 = 256 << 10;
/// Most passes of an Argon2 hash.
const MAX_ARGON2_PASSES: u32 = 64;
/// Most lanes of an Argon2 hash.
const MAX_ARGON2_LANES: u32 = 16;
/// Highest cost of a bcrypt hash.
const MAX_BCRYPT_COST: u32 = 16;
/// Rounds of SHA-crypt (glibc's least; its most would take minutes).
const SHA_CRYPT_ROUNDS: std::ops::RangeInclusive<u32> = 1000..=2_000_000;
/// Most rounds of PBKDF2.
const MAX_PBKDF2_ROUNDS: u32 = 5_000_000;
/// Longest text of a hash.
const MAX_HASH: usize = 512;

/// Why a text is not a password hash that is taken here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadHash {
    /// The scheme in braces, or the prefix, is not one that is known.
    #[error(
        "unknown password scheme; known are ARGON2ID, BLF-CRYPT, SHA512-CRYPT, SHA256-CRYPT, SSHA and PBKDF2"
    )]
    Scheme,
    /// The text after the scheme is not what the scheme writes.
    #[error("malformed {0} hash")]
    Malformed(&'static str),
    /// Verifying it would take too long or too much memory.
    #[error("{0} hash asks for more work than is allowed here")]
    TooCostly(&'static str),
}

/// A password hash that was read and found in order.
#[derive(Clone)]
pub struct StoredHash(Kind);

#[derive(Clone)]
enum Kind {
    Argon2id(Box<PasswordHash>),
    Bcrypt(String),
    Sha512Crypt(String),
    Sha256Crypt(String),
    Ssha { digest: [u8; 20], salt: Vec<u8> },
    Pbkdf2 { salt: String, rounds: NonZeroU32, hash: [u8; 20] },
}

impl StoredHash {
    /// Reads a stored hash.
    ///
    /// # Errors
    /// [`BadHash`] says what is wrong with it, without repeating it.
    pub fn parse(text: &str) -> Result<Self, BadHash> {
        if text.len() > MAX_HASH {
            return Err(BadHash::Malformed("overlong"));
        }
        let (scheme, rest) = match text.strip_prefix('{') {
            Some(braced) => braced.split_once('}').ok_or(BadHash::Scheme)?,
            None => (scheme_of_prefix(text)?, text),
        };
        let kind = match scheme.to_ascii_uppercase().as_str() {
            "ARGON2ID" => argon2id(rest)?,
            "BLF-CRYPT" => bcrypt(rest)?,
            "SHA512-CRYPT" => {
                sha_crypt(rest, "$6$", 86, "SHA512-CRYPT").map(|()| Kind::Sha512Crypt(rest.to_owned()))?
            }
            "SHA256-CRYPT" => {
                sha_crypt(rest, "$5$", 43, "SHA256-CRYPT").map(|()| Kind::Sha256Crypt(rest.to_owned()))?
            }
            "SSHA" => ssha(rest)?,
            "PBKDF2" => pbkdf2_sha1(rest)?,
            _ => return Err(BadHash::Scheme),
        };
        Ok(Self(kind))
    }

    /// Is the text meant as a hash (and not a password in clear)? True for `{SCHEME}…` with a known scheme and for
    /// `$…` of a known prefix; whether it is in order, [`Self::parse`] says.
    #[must_use]
    pub fn looks_like(text: &str) -> bool {
        let braced =
            text.strip_prefix('{').and_then(|t| t.split_once('}')).map(|(s, _)| s.to_ascii_uppercase());
        match braced.as_deref() {
            Some(s) => !s.is_empty() && s.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b)),
            None => scheme_of_prefix(text).is_ok(),
        }
    }

    /// The scheme's name.
    #[must_use]
    pub fn scheme(&self) -> &'static str {
        match self.0 {
            Kind::Argon2id(_) => "ARGON2ID",
            Kind::Bcrypt(_) => "BLF-CRYPT",
            Kind::Sha512Crypt(_) => "SHA512-CRYPT",
            Kind::Sha256Crypt(_) => "SHA256-CRYPT",
            Kind::Ssha { .. } => "SSHA",
            Kind::Pbkdf2 { .. } => "PBKDF2",
        }
    }

    /// Memory in KiB, passes and lanes of an Argon2id hash.
    pub(crate) fn argon2_cost(&self) -> Option<(u32, u32, u32)> {
        match &self.0 {
            Kind::Argon2id(hash) => argon2_cost(hash),
            _ => None,
        }
    }

    /// Is this the password? Blocking, and slow by design. The comparison takes the same time wherever the digests
    /// differ.
    #[must_use]
    pub fn verify(&self, password: &str) -> bool {
        if !is_possible(password) {
            return false;
        }
        match &self.0 {
            Kind::Argon2id(hash) => argon2_memory::verify(password, hash),
            Kind::Bcrypt(hash) => bcrypt::verify(password, hash).unwrap_or(false),
            Kind::Sha512Crypt(hash) => sha_crypt::sha512_check(password, hash).is_ok(),
            Kind::Sha256Crypt(hash) => sha_crypt::sha256_check(password, hash).is_ok(),
            Kind::Ssha { digest: expected, salt } => {
                let mut context = digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY);
                context.update(password.as_bytes());
                context.update(salt);
                context.finish().as_ref().ct_eq(expected).into()
            }
            Kind::Pbkdf2 { salt, rounds, hash } => {
                pbkdf2::verify(pbkdf2::PBKDF2_HMAC_SHA1, *rounds, salt.as_bytes(), password.as_bytes(), hash)
                    .is_ok()
            }
        }
    }
}

/// HMAC cannot tell trailing NULs from none, and C's crypt stops at one: no password has any.
pub(crate) fn is_possible(password: &str) -> bool {
    password.len() <= MAX_PASSWORD && !password.contains('\0')
}

fn scheme_of_prefix(text: &str) -> Result<&'static str, BadHash> {
    const PREFIXES: [(&str, &str); 6] = [
        ("$argon2id$", "ARGON2ID"),
        ("$2a$", "BLF-CRYPT"),
        ("$2b$", "BLF-CRYPT"),
        ("$2y$", "BLF-CRYPT"),
        ("$6$", "SHA512-CRYPT"),
        ("$5$", "SHA256-CRYPT"),
    ];
    PREFIXES.iter().find(|(p, _)| text.starts_with(p)).map(|(_, scheme)| *scheme).ok_or(BadHash::Scheme)
}

fn argon2_cost(hash: &PasswordHash) -> Option<(u32, u32, u32)> {
    Some((hash.params.get_decimal("m")?, hash.params.get_decimal("t")?, hash.params.get_decimal("p")?))
}

fn argon2id(text: &str) -> Result<Kind, BadHash> {
    const NAME: &str = "ARGON2ID";
    let hash = PasswordHash::new(text).map_err(|_| BadHash::Malformed(NAME))?;
    if hash.algorithm.as_str() != "argon2id" || hash.salt.is_none() || hash.hash.is_none() {
        return Err(BadHash::Malformed(NAME));
    }
    let (memory, passes, lanes) = argon2_cost(&hash).ok_or(BadHash::Malformed(NAME))?;
    if memory > MAX_ARGON2_MEMORY || passes > MAX_ARGON2_PASSES || lanes > MAX_ARGON2_LANES {
        return Err(BadHash::TooCostly(NAME));
    }
    Ok(Kind::Argon2id(Box::new(hash)))
}

/// `$2y$CC$` and 53 characters of bcrypt's base 64.
fn bcrypt(text: &str) -> Result<Kind, BadHash> {
    const NAME: &str = "BLF-CRYPT";
    let malformed = BadHash::Malformed(NAME);
    let rest = ["$2a$", "$2b$", "$2y$"].iter().find_map(|p| text.strip_prefix(p)).ok_or(malformed)?;
    let (cost, body) = rest.split_once('$').ok_or(malformed)?;
    if cost.len() != 2 || body.len() != 53 || !body.bytes().all(is_crypt64) {
        return Err(malformed);
    }
    match cost.parse::<u32>() {
        Ok(4..=MAX_BCRYPT_COST) => Ok(Kind::Bcrypt(text.to_owned())),
        Ok(cost) if cost > MAX_BCRYPT_COST => Err(BadHash::TooCostly(NAME)),
        _ => Err(malformed),
    }
}

fn is_crypt64(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b == b'.' || b == b'/'
}

/// `$6$[rounds=N$]SALT$HASH`.
fn sha_crypt(text: &str, prefix: &str, length: usize, name: &'static str) -> Result<(), BadHash> {
    let malformed = BadHash::Malformed(name);
    let mut rest = text.strip_prefix(prefix).ok_or(malformed)?;
    if let Some(rounds) = rest.strip_prefix("rounds=") {
        let (rounds, after) = rounds.split_once('$').ok_or(malformed)?;
        let rounds: u32 = rounds.parse().map_err(|_| malformed)?;
        if rounds > *SHA_CRYPT_ROUNDS.end() {
            return Err(BadHash::TooCostly(name));
        }
        if !SHA_CRYPT_ROUNDS.contains(&rounds) {
            return Err(malformed);
        }
        rest = after;
    }
    let (salt, hash) = rest.split_once('$').ok_or(malformed)?;
    let in_order =
        salt.len() <= 16 && salt.is_ascii() && hash.len() == length && hash.bytes().all(is_crypt64);
    if in_order { Ok(()) } else { Err(malformed) }
}

fn ssha(text: &str) -> Result<Kind, BadHash> {
    let malformed = BadHash::Malformed("SSHA");
    let bytes = STANDARD.decode(text).map_err(|_| malformed)?;
    let (digest, salt) = bytes.split_first_chunk::<20>().ok_or(malformed)?;
    if salt.is_empty() {
        return Err(malformed);
    }
    Ok(Kind::Ssha { digest: *digest, salt: salt.to_vec() })
}

fn pbkdf2_sha1(text: &str) -> Result<Kind, BadHash> {
    const NAME: &str = "PBKDF2";
    let malformed = BadHash::Malformed(NAME);
    let mut parts = text.strip_prefix("$1$").ok_or(malformed)?.split('$');
    let (Some(salt), Some(rounds), Some(hex), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(malformed);
    };
    let rounds: NonZeroU32 = rounds.parse().map_err(|_| malformed)?;
    if rounds.get() > MAX_PBKDF2_ROUNDS {
        return Err(BadHash::TooCostly(NAME));
    }
    let hash = from_hex(hex).ok_or(malformed)?;
    if salt.is_empty() {
        return Err(malformed);
    }
    Ok(Kind::Pbkdf2 { salt: salt.to_owned(), rounds, hash })
}

fn from_hex(text: &str) -> Option<[u8; 20]> {
    let digits: Vec<u8> =
        text.chars().map(|c| c.to_digit(16).and_then(|d| u8::try_from(d).ok())).collect::<Option<_>>()?;
    let bytes: Vec<u8> = digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect();
    if digits.len() == 40 { bytes.try_into().ok() } else { None }
}

#[cfg(test)]
mod tests;
