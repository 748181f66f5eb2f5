//! `store salvage STORE FILE`: what a forced failover left behind goes to the store.

use std::{io::Read, path::Path};

use mailcluster_rpc::{admin::v1 as pb, store::v1::SalvageResponse};
use serde_json::json;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::super::input;
use crate::{
    args::Global,
    connect,
    failure::Failure,
    output::{self, Format},
};

/// Octets of one message.
const PART: usize = 256 << 10;
/// Messages that wait to be sent.
const WAITING: usize = 4;

/// `store salvage STORE FILE`
pub async fn run(store: &str, file: &Path, global: &Global) -> Result<(), Failure> {
    let mut admin = connect::admin(global).await?;
    let (sender, receiver) = mpsc::channel(WAITING);
    let mut name = store.to_owned();
    let path = file.to_owned();
    // The file is read no faster than the store takes it.
    let reading = tokio::task::spawn_blocking(move || {
        let mut source = input::open(&path)?;
        let mut sent: u64 = 0;
        loop {
            let mut octets = Vec::with_capacity(PART);
            let read = source.by_ref().take(PART as u64).read_to_end(&mut octets);
            read.map_err(|e| Failure::Failed(format!("{}: {e}", path.display())))?;
            if octets.is_empty() && sent > 0 {
                return Ok(());
            }
            sent += octets.len() as u64;
            let is_last = octets.is_empty();
            let part = pb::SalvageRequest { store: std::mem::take(&mut name), octets };
            // Whoever does not listen any more says why.
            if sender.blocking_send(part).is_err() || is_last {
                return Ok(());
            }
            eprint!("\r{} MiB sent", sent >> 20);
        }
    });
    let answer = admin.salvage(ReceiverStream::new(receiver)).await;
    let read: Result<(), Failure> =
        reading.await.map_err(|e| Failure::Failed(format!("reading the file failed: {e}")))?;
    eprintln!();
    read?;
    tell(store, &answer?.into_inner(), global.output);
    Ok(())
}

fn tell(store: &str, done: &SalvageResponse, out: Format) {
    match out {
        Format::Json => output::json(&json!({
            "store": store,
            "messages": done.messages,
            "moved": done.moved,
            "flags": done.flags,
            "expunged": done.expunged,
            "already": done.already,
            "mailboxes": done.mailboxes,
            "records": done.records,
            "queued": done.queued,
            "notTakenOver": done.kept,
            "notTakenOverLines": done.kept_lines,
        })),
        Format::Text => {
            done.kept_lines.iter().for_each(|line| output::line(line));
            let more = done.kept - done.kept_lines.len() as u64;
            if more > 0 {
                output::line(&format!("and {more} more"));
            }
            output::line(&format!(
                "{store}: {} messages came, {} moved, {} have other flags, {} went, {} were there already; {} mailboxes and \
                 subscriptions, {} records, {} queued recipients; {} things were not taken over",
                done.messages,
                done.moved,
                done.flags,
                done.expunged,
                done.already,
                done.mailboxes,
                done.records,
                done.queued,
                done.kept
            ));
        }
    }
}
