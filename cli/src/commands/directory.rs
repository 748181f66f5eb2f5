//! `directory …` and `audit`.

use std::{
    io::{BufRead, Read},
    path::Path,
};

use mailcluster_rpc::{
    admin::v1 as pb,
    directory::v1::{self as records, record::Record},
};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{
    admin, collect, input,
    key_line::{self, KeyLine},
};
use crate::{
    args::{Directory, Global},
    connect::Admin,
    failure::Failure,
    output::{self, Format},
    units,
};

/// Longest line of an export.
const LONGEST: u64 = 1 << 20;
/// Records of one message.
const BATCH: usize = 1000;

pub async fn run(command: Directory, global: &Global) -> Result<(), Failure> {
    match command {
        Directory::Rebuild { partial } => {
            let answer = admin(global).await?.rebuild(pb::RebuildRequest { partial }).await?.into_inner();
            merged(&answer, global.output);
            Ok(())
        }
        Directory::Export => export(&mut admin(global).await?).await,
        Directory::Import { file } => import(&file, global).await,
    }
}

fn merged(answer: &pb::MergeResponse, out: Format) {
    match out {
        Format::Json => output::json(&json!({
            "accounts": answer.accounts,
            "domains": answer.domains,
            "aliases": answer.aliases,
            "unchanged": answer.unchanged,
            "conflicts": answer.conflicts,
            "unreachableStores": answer.unreachable_stores,
        })),
        Format::Text => {
            output::line(&format!(
                "taken: {} accounts, {} domains, {} aliases; {} records were here already",
                answer.accounts, answer.domains, answer.aliases, answer.unchanged
            ));
            answer.conflicts.iter().for_each(|c| output::line(&format!("conflict: {c}")));
            if !answer.unreachable_stores.is_empty() {
                output::line(&format!("left out: {}", answer.unreachable_stores.join(", ")));
            }
        }
    }
}

/// A line of an export.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", deny_unknown_fields)]
enum Line {
    Account {
        id: String,
        address: String,
        store: String,
        generation: u64,
        #[serde(default)]
        password_hash: String,
        #[serde(default)]
        quota_octets: u64,
        #[serde(default)]
        suspended: bool,
        #[serde(default)]
        pending: bool,
        #[serde(default)]
        tombstone: bool,
    },
    Domain {
        name: String,
        generation: u64,
        #[serde(default)]
        tombstone: bool,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        keys: Vec<KeyLine>,
    },
    Alias {
        address: String,
        accounts: Vec<String>,
        generation: u64,
        #[serde(default)]
        tombstone: bool,
    },
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn unhex(text: &str) -> Result<Vec<u8>, String> {
    let id = u128::from_str_radix(text, 16).ok().filter(|_| text.len() == 32 && !text.starts_with('+'));
    id.map(|id| id.to_be_bytes().to_vec()).ok_or_else(|| "an id has 32 hexadecimal digits".to_owned())
}

fn to_line(record: Record) -> Line {
    match record {
        Record::Account(a) => Line::Account {
            id: hex(&a.id),
            address: a.address,
            store: a.store,
            generation: a.generation,
            password_hash: a.password_hash.map(|s| s.value).unwrap_or_default(),
            quota_octets: a.quota_octets,
            suspended: a.suspended,
            pending: a.pending,
            tombstone: a.tombstone,
        },
        Record::Domain(records::Domain { name, generation, tombstone, keys }) => {
            Line::Domain { name, generation, tombstone, keys: key_line::to_lines(keys) }
        }
        Record::Alias(a) => Line::Alias {
            address: a.address,
            accounts: a.accounts.iter().map(|id| hex(id)).collect(),
            generation: a.generation,
            tombstone: a.tombstone,
        },
    }
}

fn from_line(line: Line) -> Result<Record, String> {
    Ok(match line {
        Line::Account {
            id,
            address,
            store,
            generation,
            password_hash,
            quota_octets,
            suspended,
            pending,
            tombstone,
        } => Record::Account(records::Account {
            id: unhex(&id)?,
            address,
            store,
            generation,
            password_hash: Some(password_hash.into()),
            quota_octets,
            suspended,
            pending,
            tombstone,
        }),
        Line::Domain { name, generation, tombstone, keys } => {
            Record::Domain(records::Domain { name, generation, tombstone, keys: key_line::from_lines(keys) })
        }
        Line::Alias { address, accounts, generation, tombstone } => Record::Alias(records::Alias {
            address,
            accounts: accounts.iter().map(|id| unhex(id)).collect::<Result<_, _>>()?,
            generation,
            tombstone,
        }),
    })
}

async fn export(admin: &mut Admin) -> Result<(), Failure> {
    let mut stream = admin.export_records(pb::ExportRecordsRequest {}).await?.into_inner();
    while let Some(records::Record { record }) = stream.message().await? {
        if let Some(record) = record {
            let text = serde_json::to_string(&to_line(record));
            output::raw(&format!("{}\n", text.map_err(|e| Failure::Failed(e.to_string()))?));
        }
    }
    Ok(())
}

async fn import(file: &Path, global: &Global) -> Result<(), Failure> {
    let records = read(input::open(file)?)
        .map_err(|e| Failure::Failed(format!("{}: {e}; nothing was imported", file.display())))?;
    let messages: Vec<_> =
        records.chunks(BATCH).map(|r| pb::ImportRecordsRequest { records: r.to_vec() }).collect();
    let answer = admin(global).await?.import_records(tokio_stream::iter(messages)).await?.into_inner();
    merged(&answer, global.output);
    Ok(())
}

/// Every record of an export. Messages never repeat a line: it may hold a password hash.
fn read(mut input: impl BufRead) -> Result<Vec<records::Record>, String> {
    let mut all = Vec::new();
    let mut bytes = Vec::new();
    for number in 1u64.. {
        bytes.clear();
        let read = Read::take(&mut input, LONGEST).read_until(b'\n', &mut bytes);
        if read.map_err(|e| format!("line {number}: {e}"))? == 0 {
            break;
        }
        if bytes.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        let line: Line = serde_json::from_slice(&bytes)
            .map_err(|e| format!("line {number}, column {}: not a record", e.column()))?;
        let record = from_line(line).map_err(|e| format!("line {number}: {e}"))?;
        all.push(records::Record { record: Some(record) });
    }
    Ok(all)
}

pub async fn audit(limit: u32, admin: &mut Admin, out: Format) -> Result<(), Failure> {
    let entries = collect(admin.list_audit(pb::ListAuditRequest { limit }).await?.into_inner()).await?;
    match out {
        Format::Json => {
            let entry = |e: &pb::AuditEntry| json!({"time": units::time(e.at), "who": e.who, "what": e.what});
            output::json(&entries.iter().map(entry).collect());
        }
        Format::Text => {
            let rows: Vec<_> = entries.into_iter().map(|e| vec![units::time(e.at), e.who, e.what]).collect();
            output::table(&["TIME", "WHO", "WHAT"], &rows);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_survive_a_file() {
        let account = records::Account {
            id: (0..16).collect(),
            address: "a@b.c".into(),
            store: "s-0".into(),
            generation: u64::MAX,
            password_hash: Some("{SSHA}x".into()),
            quota_octets: 1,
            suspended: true,
            pending: false,
            tombstone: true,
        };
        let key = records::DomainKey {
            selector: "mc1rsa".into(),
            algorithm: records::KeyAlgorithm::RsaSha256.into(),
            state: records::KeyState::Active.into(),
            since: 7,
            public: "p".into(),
            secret: Some("s".into()),
        };
        let keys = Some(records::DomainKeys { keys: vec![key] });
        let domain = records::Domain { name: "b.c".into(), generation: 3, tombstone: false, keys };
        let bare = records::Domain { keys: None, ..domain.clone() };
        let alias = records::Alias {
            address: "x@b.c".into(),
            accounts: vec![vec![255; 16]],
            generation: 4,
            tombstone: false,
        };
        let all =
            [Record::Account(account), Record::Domain(domain), Record::Domain(bare), Record::Alias(alias)];
        let lines: Vec<String> =
            all.iter().map(|r| serde_json::to_string(&to_line(r.clone())).unwrap()).collect();
        let read: Vec<_> =
            read(lines.join("\n").as_bytes()).unwrap().into_iter().filter_map(|r| r.record).collect();
        assert_eq!(read, all);
    }

    #[test]
    fn what_is_no_record_is_named_by_its_line_alone() {
        for (text, line) in [
            ("{}", 1),
            ("\n\n{\"account\":{\"id\":\"zz\",\"address\":\"a@b.c\",\"store\":\"s\",\"generation\":1}}", 3),
            ("{\"domain\":{\"name\":\"secret\",\"generation\":-1}}", 1),
            ("{\"domain\":{\"name\":\"secret\",\"generation\":1,\"colour\":2}}", 1),
            ("\u{0}", 1),
        ] {
            let error = read(text.as_bytes()).unwrap_err();
            assert!(error.starts_with(&format!("line {line}")) && !error.contains("secret"), "{error}");
        }
        assert!(read(vec![b'['; 3 << 20].as_slice()).is_err(), "deep and long");
    }
}
