//! `account import` and `account export`.

use std::{path::Path, time::Instant};

use mailcluster_rpc::{
    admin::v1 as pb,
    directory::v1::{Account, Secret, record::Record},
};
use serde_json::json;

use super::{admin, input};
use crate::{
    args::Global,
    connect::Admin,
    csv,
    failure::Failure,
    output::{self, Format},
};

/// Rows of one message.
const BATCH: usize = 1000;

pub async fn import(file: &Path, global: &Global) -> Result<(), Failure> {
    let rows = csv::read(input::open(file)?)
        .map_err(|e| Failure::Failed(format!("{}: {e}; nothing was imported", file.display())))?;
    let mut admin = admin(global).await?;
    let started = Instant::now();
    let batches: Vec<_> = rows
        .chunks(BATCH)
        .map(|rows| pb::ImportAccountsRequest { rows: rows.iter().map(row).collect() })
        .collect();
    let answer = admin.import_accounts(tokio_stream::iter(batches)).await?.into_inner();
    report(&answer, global.output, started);
    if answer.failed > 0 {
        return Err(Failure::Failed(format!("{} rows were not imported", answer.failed)));
    }
    Ok(())
}

fn row(row: &csv::Row) -> pb::ImportRow {
    pb::ImportRow {
        line: row.line,
        address: row.address.clone(),
        credential: Some(Secret::from(row.password.as_str())),
        quota_octets: row.quota_octets,
        store: row.store.clone(),
    }
}

fn report(answer: &pb::ImportAccountsResponse, out: Format, started: Instant) {
    let seconds = started.elapsed().as_secs_f64();
    match out {
        Format::Json => {
            let error =
                |e: &pb::ImportError| json!({"line": e.line, "address": e.address, "reason": e.reason});
            output::json(&json!({
                "added": answer.added,
                "existing": answer.existing,
                "failed": answer.failed,
                "seconds": seconds,
                "errors": answer.errors.iter().map(error).collect::<Vec<_>>(),
            }));
        }
        Format::Text => {
            for error in &answer.errors {
                output::line(&format!("line {}: {}: {}", error.line, error.address, error.reason));
            }
            let untold = answer.failed.saturating_sub(answer.errors.len() as u64);
            if untold > 0 {
                output::line(&format!("and {untold} more"));
            }
            output::line(&format!(
                "{} accounts added in {seconds:.1} s, {} were there already, {} failed; each takes mail as soon as its store has it",
                answer.added, answer.existing, answer.failed
            ));
        }
    }
}

pub async fn export(admin: &mut Admin) -> Result<(), Failure> {
    let mut records = admin.export_records(pb::ExportRecordsRequest {}).await?.into_inner();
    output::raw("address,password,quota_octets,store\n");
    while let Some(record) = records.message().await? {
        if let Some(Record::Account(account)) = record.record
            && !account.tombstone
        {
            output::raw(&csv_line(&account));
        }
    }
    Ok(())
}

fn csv_line(account: &Account) -> String {
    let hash = account.password_hash.as_ref().map_or("", |s| s.value.as_str());
    format!(
        "{},{},{},{}\n",
        csv::quoted(&account.address),
        csv::quoted(hash),
        account.quota_octets,
        csv::quoted(&account.store)
    )
}
