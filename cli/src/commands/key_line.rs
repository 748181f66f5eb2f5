//! A domain's key in a line of `directory export`.

use mailcluster_rpc::directory::v1::{DomainKey, DomainKeys, KeyAlgorithm, KeyState};
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct KeyLine {
    selector: String,
    algorithm: Algorithm,
    state: State,
    since: i64,
    public: String,
    secret: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
enum Algorithm {
    #[serde(rename = "rsa-sha256")]
    Rsa,
    #[serde(rename = "ed25519-sha256")]
    Ed25519,
    #[serde(rename = "unknown")]
    Unknown,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
enum State {
    Pending,
    Active,
    Retiring,
    Unknown,
}

/// What goes into a line.
pub fn to_lines(keys: Option<DomainKeys>) -> Vec<KeyLine> {
    let line = |key: DomainKey| KeyLine {
        algorithm: match key.algorithm() {
            KeyAlgorithm::RsaSha256 => Algorithm::Rsa,
            KeyAlgorithm::Ed25519Sha256 => Algorithm::Ed25519,
            KeyAlgorithm::Unspecified => Algorithm::Unknown,
        },
        state: match key.state() {
            KeyState::Pending => State::Pending,
            KeyState::Active => State::Active,
            KeyState::Retiring => State::Retiring,
            KeyState::Unspecified => State::Unknown,
        },
        selector: key.selector,
        since: key.since,
        public: key.public,
        secret: key.secret.map(|secret| secret.value).unwrap_or_default(),
    };
    keys.unwrap_or_default().keys.into_iter().map(line).collect()
}

/// What a line told.
pub fn from_lines(lines: Vec<KeyLine>) -> Option<DomainKeys> {
    let key = |line: KeyLine| DomainKey {
        selector: line.selector,
        algorithm: match line.algorithm {
            Algorithm::Rsa => KeyAlgorithm::RsaSha256,
            Algorithm::Ed25519 => KeyAlgorithm::Ed25519Sha256,
            Algorithm::Unknown => KeyAlgorithm::Unspecified,
        }
        .into(),
        state: match line.state {
            State::Pending => KeyState::Pending,
            State::Active => KeyState::Active,
            State::Retiring => KeyState::Retiring,
            State::Unknown => KeyState::Unspecified,
        }
        .into(),
        since: line.since,
        public: line.public,
        secret: Some(line.secret.into()),
    };
    (!lines.is_empty()).then(|| DomainKeys { keys: lines.into_iter().map(key).collect() })
}
