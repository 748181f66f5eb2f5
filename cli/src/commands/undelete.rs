//! `undelete ACCOUNT`: expunged mail comes back.

use jiff::Timestamp;
use mailcluster_rpc::{admin::v1 as pb, store::v1 as store_pb};
use serde_json::{Value, json};

use crate::{
    args::Undelete,
    connect::Admin,
    failure::Failure,
    output::{self, Format},
    units,
};

const HEADING: [&str; 6] = ["MAILBOX", "EXPUNGED", "DATE", "SIZE", "UID", "SUBJECT"];

/// `undelete ACCOUNT`
pub async fn run(asked: Undelete, admin: &mut Admin, out: Format) -> Result<(), Failure> {
    let now = Timestamp::now().as_second();
    let since = asked.since.as_deref().map(|text| units::parse_since(text, now)).transpose();
    let since = since.map_err(Failure::Usage)?.unwrap_or(i64::MIN);
    let dry_run = asked.dry_run;
    let mut page = store_pb::UndeleteRequest {
        mailbox: asked.mailbox.unwrap_or_default(),
        since,
        into: asked.into.unwrap_or_default(),
        dry_run,
        ..store_pb::UndeleteRequest::default()
    };
    let mut all = Vec::new();
    let mut mailboxes = 0;
    // Page by page: what has come back by then stays, should a later one fail.
    let outcome = loop {
        let question = pb::UndeleteRequest { address: asked.account.clone(), page: Some(page.clone()) };
        match admin.undelete(question).await {
            Ok(answer) => {
                let store_pb::UndeleteResponse { messages, mailboxes: made, next } = answer.into_inner();
                all.extend(messages);
                mailboxes += made;
                page.after = next;
                if page.after.is_none() {
                    break Ok(());
                }
            }
            Err(status) => break Err(status),
        }
    };
    if outcome.is_ok() || !all.is_empty() {
        tell(&asked.account, dry_run, (&all, mailboxes), out);
    }
    Ok(outcome?)
}

fn tell(account: &str, dry_run: bool, (all, mailboxes): (&[store_pb::ExpungedMessage], u64), out: Format) {
    match out {
        Format::Json => output::json(&json!({
            "account": account,
            "dryRun": dry_run,
            "messages": all.iter().map(message_json).collect::<Vec<_>>(),
            "mailboxesMade": mailboxes,
        })),
        Format::Text => {
            if !all.is_empty() {
                output::table(&HEADING, &all.iter().map(row).collect::<Vec<_>>());
            }
            let octets = units::size(all.iter().map(|message| message.size).sum());
            let count = all.len();
            output::line(&if dry_run {
                format!("{account}: {count} messages ({octets}) would come back")
            } else {
                format!("{account}: {count} messages ({octets}) came back; {mailboxes} mailboxes were made")
            });
        }
    }
}

fn message_json(message: &store_pb::ExpungedMessage) -> Value {
    json!({
        "mailbox": message.mailbox,
        "mailboxIsGone": message.mailbox_is_gone,
        "uid": message.uid,
        "expungedAt": units::time(message.expunged_at),
        "date": units::time(message.date),
        "size": message.size,
        "subject": message.subject,
    })
}

fn row(message: &store_pb::ExpungedMessage) -> Vec<String> {
    let gone = if message.mailbox_is_gone { " (gone)" } else { "" };
    vec![
        format!("{}{gone}", message.mailbox),
        units::time(message.expunged_at),
        units::time(message.date),
        units::size(message.size),
        message.uid.to_string(),
        message.subject.clone(),
    ]
}
