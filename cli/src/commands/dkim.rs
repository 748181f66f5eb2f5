//! `domain dkim …`: keys that sign a domain's mail.

use clap::Subcommand;
use jiff::Timestamp;
use mailcluster_rpc::{
    admin::v1 as pb,
    directory::v1::{KeyAlgorithm, KeyState},
};
use serde_json::{Value, json};

use crate::{
    connect::Admin,
    failure::Failure,
    output::{self, Format},
};

/// A string of a TXT record has no more octets (RFC 1035 section 3.3).
const STRING: usize = 255;

#[derive(Subcommand)]
pub enum Dkim {
    /// The domain's keys, with the records to publish.
    List {
        /// The domain.
        name: String,
    },
    /// Make new keys: they sign when their records are published, those before them stay published for a week.
    Rotate {
        /// The domain.
        name: String,
    },
    /// Let keys that wait sign at once, whether their records can be seen or not.
    Activate {
        /// The domain.
        name: String,
    },
    /// Remove a key that waits, or signs no more.
    Remove {
        /// The domain.
        name: String,
        /// The key's selector.
        selector: String,
    },
}

pub async fn run(command: Dkim, admin: &mut Admin, out: Format) -> Result<(), Failure> {
    let asked = |name| pb::DomainKeysRequest { name };
    let answer = match command {
        Dkim::List { name } => admin.list_domain_keys(asked(name)).await?,
        Dkim::Rotate { name } => admin.rotate_domain_keys(asked(name)).await?,
        Dkim::Activate { name } => admin.activate_domain_keys(asked(name)).await?,
        Dkim::Remove { name, selector } => {
            admin.remove_domain_keys(pb::RemoveDomainKeysRequest { name, selector }).await?
        }
    };
    let keys = answer.into_inner().keys;
    match out {
        Format::Json => output::json(&keys.iter().map(as_json).collect()),
        Format::Text if keys.is_empty() => output::line("no keys: mail of this domain is not signed"),
        Format::Text => keys.iter().for_each(show),
    }
    Ok(())
}

fn show(key: &pb::DomainKey) {
    output::line(&format!("{}: {}, {} since {}", key.selector, algorithm(key), state(key), since(key)));
    output::line(&format!("  {}. TXT {}", key.record_name, strings(&key.record_text)));
}

fn as_json(key: &pb::DomainKey) -> Value {
    json!({
        "selector": key.selector,
        "algorithm": algorithm(key),
        "state": state(key),
        "since": since(key),
        "record": {"name": key.record_name, "type": "TXT", "text": key.record_text},
    })
}

fn algorithm(key: &pb::DomainKey) -> &'static str {
    match key.algorithm() {
        KeyAlgorithm::RsaSha256 => "rsa-sha256",
        KeyAlgorithm::Ed25519Sha256 => "ed25519-sha256",
        KeyAlgorithm::Unspecified => "unknown",
    }
}

fn state(key: &pb::DomainKey) -> &'static str {
    match key.state() {
        KeyState::Pending => "Pending",
        KeyState::Active => "Active",
        KeyState::Retiring => "Retiring",
        KeyState::Unspecified => "unknown",
    }
}

fn since(key: &pb::DomainKey) -> String {
    Timestamp::from_second(key.since).map_or_else(|_| key.since.to_string(), |at| at.to_string())
}

/// As zone files have it: in pieces, each in quotes. The text has neither quotes nor backslashes.
pub fn strings(text: &str) -> String {
    let quoted = |piece: &[u8]| format!("\"{}\"", String::from_utf8_lossy(piece));
    text.as_bytes().chunks(STRING).map(quoted).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_records_are_written_in_pieces() {
        assert_eq!(strings("v=DKIM1; p=AA"), "\"v=DKIM1; p=AA\"");
        let long = strings(&"x".repeat(300));
        assert_eq!(long, format!("\"{}\" \"{}\"", "x".repeat(255), "x".repeat(45)));
    }
}
