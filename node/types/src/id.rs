//! Identifiers (design section 10a). All random ones are 128 bit and written as 32 hex digits.

use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize};

/// Why a text is not an identifier.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a valid {kind}: expected {expected}")]
pub struct IdError {
    kind: &'static str,
    expected: &'static str,
}

macro_rules! random_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(pub u128);

        impl $name {
            /// A new random identifier from the operating system's generator.
            ///
            /// # Errors
            /// When the operating system has no randomness to give.
            pub fn random() -> std::io::Result<Self> {
                let mut bytes = [0; 16];
                getrandom::fill(&mut bytes).map_err(std::io::Error::from)?;
                Ok(Self(u128::from_be_bytes(bytes)))
            }

            /// The sixteen bytes, most significant first.
            #[must_use]
            pub fn to_bytes(self) -> [u8; 16] {
                self.0.to_be_bytes()
            }

            /// Reads what [`Self::to_bytes`] wrote; `None` when the length differs from 16.
            #[must_use]
            pub fn from_slice(bytes: &[u8]) -> Option<Self> {
                bytes.try_into().ok().map(|b| Self(u128::from_be_bytes(b)))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:032x}", self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({:032x})"), self.0)
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                let error = IdError { kind: stringify!($name), expected: "32 hexadecimal digits" };
                if text.len() != 32 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
                    return Err(error);
                }
                u128::from_str_radix(text, 16).map(Self).map_err(|_| error)
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;

            fn try_from(text: String) -> Result<Self, IdError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.to_string()
            }
        }
    };
}

random_id!(
    /// Names a mail cluster for ever; drawn once, labelled on its volumes.
    ClusterId
);
random_id!(
    /// Names one copy of a store; new at every initialisation and at every snapshot start.
    ReplicaId
);
random_id!(
    /// Names an account for ever; never reused and never derived from the address.
    AccountId
);
random_id!(
    /// Names one client session in logs of frontend and backend.
    SessionId
);

/// The fencing token of a store: one more at every process start and every takeover.
pub type Epoch = u64;
/// A record's place in a store's log.
pub type Seq = u64;
/// IMAP unique identifier (RFC 9051 section 2.3.1.1).
pub type Uid = u32;
/// Modification sequence (RFC 7162), `epoch << 32` at least.
pub type ModSeq = u64;

/// A message accepted once by the cluster: a ULID, so that ids sort by time of acceptance.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DeliveryId(pub u128);

/// Crockford's base 32, as ULIDs use it.
const ULID_DIGITS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

impl DeliveryId {
    /// A new id for a message accepted `unix_ms` milliseconds after 1970-01-01T00:00:00Z.
    ///
    /// # Errors
    /// When the operating system has no randomness to give.
    pub fn new(unix_ms: u64) -> std::io::Result<Self> {
        let mut bytes = [0; 10];
        getrandom::fill(&mut bytes).map_err(std::io::Error::from)?;
        let random = bytes.iter().fold(0u128, |acc, b| acc << 8 | u128::from(*b));
        Ok(Self(u128::from(unix_ms & 0xffff_ffff_ffff) << 80 | random))
    }

    /// When the message was accepted, milliseconds since 1970-01-01T00:00:00Z.
    #[must_use]
    pub fn unix_ms(self) -> u64 {
        u64::try_from(self.0 >> 80).unwrap_or(u64::MAX)
    }

    /// The sixteen bytes, most significant first.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }

    /// Reads what [`Self::to_bytes`] wrote; `None` when the length differs from 16.
    #[must_use]
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(|b| Self(u128::from_be_bytes(b)))
    }
}

impl fmt::Display for DeliveryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (0..26).rev().try_for_each(|place| {
            let digit = (self.0 >> (place * 5)) & 31;
            write!(f, "{}", char::from(ULID_DIGITS[usize::try_from(digit).unwrap_or(0)]))
        })
    }
}

impl fmt::Debug for DeliveryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DeliveryId({self})")
    }
}

impl FromStr for DeliveryId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let error = IdError { kind: "delivery id", expected: "26 digits of a ULID" };
        if text.len() != 26 || text.as_bytes()[0] > b'7' {
            return Err(error);
        }
        text.bytes()
            .try_fold(0u128, |acc, b| {
                let digit = ULID_DIGITS.iter().position(|d| *d == b.to_ascii_uppercase());
                digit.and_then(|d| u128::try_from(d).ok()).map(|d| acc << 5 | d).ok_or(error.clone())
            })
            .map(Self)
    }
}

/// A store's name, `<cluster>-<n>` or `<cluster>-directory`; cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub struct StoreName(Arc<str>);

impl StoreName {
    /// Wraps a name as the operator made it.
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        Self(name.into())
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for StoreName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for StoreName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StoreName({})", self.0)
    }
}

impl From<String> for StoreName {
    fn from(name: String) -> Self {
        Self::new(name)
    }
}

impl From<StoreName> for String {
    fn from(name: StoreName) -> Self {
        name.as_str().to_owned()
    }
}

impl From<&str> for StoreName {
    fn from(name: &str) -> Self {
        Self::new(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_survive_text_and_bytes() {
        let id = AccountId::random().unwrap();
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(AccountId::from_slice(&id.to_bytes()), Some(id));
        assert!("zz".parse::<AccountId>().is_err());
        assert!("+0000000000000000000000000000001".parse::<AccountId>().is_err());
    }

    #[test]
    fn delivery_ids_are_ulids_that_sort_by_time() {
        let early = DeliveryId::new(1_700_000_000_000).unwrap();
        let late = DeliveryId::new(1_700_000_000_001).unwrap();
        assert!(early < late && early.to_string() < late.to_string());
        assert_eq!(late.unix_ms(), 1_700_000_000_001);
        assert_eq!(late.to_string().parse(), Ok(late));
        assert_eq!(
            "01ARZ3NDEKTSV4RRFFQ69G5FAV".parse::<DeliveryId>().unwrap().to_string(),
            "01ARZ3NDEKTSV4RRFFQ69G5FAV"
        );
        assert!("81ARZ3NDEKTSV4RRFFQ69G5FAV".parse::<DeliveryId>().is_err());
    }
}
