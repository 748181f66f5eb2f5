//! `queue`: what waits, and what a person does about it.

use mailcluster_rpc::{
    admin::v1 as pb,
    store::v1::{self as store_pb, QueueAction},
};
use serde_json::{Value, json};

use super::{failover::ask, mail::missing};
use crate::{
    args::{Queue, Waiting},
    connect::Admin,
    failure::Failure,
    output::{self, Format},
    units,
};

pub async fn run(command: Queue, admin: &mut Admin, out: Format) -> Result<(), Failure> {
    match command {
        Queue::List { store, limit } => list(store, limit, admin, out).await,
        Queue::Show { id } => show(id, admin, out).await,
        Queue::Hold(which) => change(which, QueueAction::Hold, admin, out).await,
        Queue::Release(which) => change(which, QueueAction::Release, admin, out).await,
        Queue::Flush(which) => change(which, QueueAction::Flush, admin, out).await,
        Queue::Requeue(which) => change(which, QueueAction::Requeue, admin, out).await,
        Queue::Delete { which, bounce, yes } => {
            let action = if bounce { QueueAction::Return } else { QueueAction::Delete };
            if !which.dry_run {
                confirm(&which, action, admin, yes).await?;
            }
            change(which, action, admin, out).await
        }
    }
}

async fn list(store: Option<String>, limit: u32, admin: &mut Admin, out: Format) -> Result<(), Failure> {
    let asked = pb::ListQueueRequest { limit, store: store.unwrap_or_default(), delivery: String::new() };
    let answer = admin.list_queue(asked).await?.into_inner();
    match out {
        Format::Json => output::json(&json!({
            "entries": answer.entries.iter().map(entry_json).collect::<Vec<_>>(),
            "unreachableStores": answer.unreachable_stores,
        })),
        Format::Text => {
            let rows: Vec<_> = answer.entries.iter().flat_map(entry_rows).collect();
            if rows.is_empty() {
                output::line("nothing waits");
            } else {
                let heading = ["STORE", "DELIVERY", "SINCE", "SIZE", "SENDER", "RECIPIENT", "FOR", "STATE"];
                output::table(&heading, &rows);
            }
            missing(&answer.unreachable_stores);
        }
    }
    Ok(())
}

/// One message, in each queue that it waits in.
async fn show(id: String, admin: &mut Admin, out: Format) -> Result<(), Failure> {
    let asked = pb::ListQueueRequest { delivery: id, limit: 1, ..Default::default() };
    let answer = admin.list_queue(asked).await?.into_inner();
    match out {
        Format::Json => output::json(&json!({
            "entries": answer.entries.iter().map(entry_json).collect::<Vec<_>>(),
            "unreachableStores": answer.unreachable_stores,
        })),
        Format::Text => {
            answer.entries.iter().flat_map(entry_lines).for_each(|line| output::line(&line));
            missing(&answer.unreachable_stores);
        }
    }
    match (answer.entries.is_empty(), answer.unreachable_stores.is_empty()) {
        (false, _) => Ok(()),
        (true, true) => {
            Err(Failure::NotFound("it waits in no queue; `trace` knows what became of it".into()))
        }
        (true, false) => {
            Err(Failure::Unavailable("the stores that answered do not have it; others did not answer".into()))
        }
    }
}

/// What goes is counted first, and a person agrees to it.
async fn confirm(which: &Waiting, action: QueueAction, admin: &mut Admin, yes: bool) -> Result<(), Failure> {
    if yes {
        return Ok(());
    }
    let counted = admin.change_queue(request(which, action, Wish::Count)).await?.into_inner();
    let (messages, recipients) = sum(&counted.stores);
    if recipients == 0 {
        // What follows says so.
        return Ok(());
    }
    let told = match action {
        QueueAction::Return => "Their senders get reports.",
        _ => "Nobody gets them, and their senders are not told.",
    };
    let question = format!(
        "{recipients} recipients of {messages} messages are taken out of the queue. {told}\n\
         Type the number of recipients to go on: "
    );
    ask(&question, &recipients.to_string(), false)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Wish {
    Count,
    Change,
}

fn request(which: &Waiting, action: QueueAction, wish: Wish) -> pb::ChangeQueueRequest {
    let text = |option: &Option<String>| option.clone().unwrap_or_default();
    let filter = store_pb::QueueFilter {
        delivery: text(&which.id),
        destination: text(&which.destination),
        address: text(&which.address),
        all: which.all,
    };
    pb::ChangeQueueRequest {
        filter: Some(filter),
        action: action.into(),
        store: text(&which.store),
        dry_run: wish == Wish::Count,
    }
}

fn sum(stores: &[pb::QueueChanged]) -> (u64, u64) {
    stores.iter().fold((0, 0), |(m, r), store| (m + store.messages, r + store.recipients))
}

async fn change(which: Waiting, action: QueueAction, admin: &mut Admin, out: Format) -> Result<(), Failure> {
    let wish = if which.dry_run { Wish::Count } else { Wish::Change };
    let stores = admin.change_queue(request(&which, action, wish)).await?.into_inner().stores;
    let (messages, recipients) = sum(&stores);
    match out {
        Format::Json => output::json(&json!({
            "dryRun": which.dry_run,
            "messages": messages,
            "recipients": recipients,
            "stores": stores.iter().map(store_json).collect::<Vec<_>>(),
        })),
        Format::Text => {
            output::line(&format!("{recipients} recipients of {messages} messages: {}", word(action, wish)));
        }
    }
    let failed: Vec<String> = stores
        .iter()
        .filter(|store| !store.error.is_empty())
        .map(|store| format!("{}: {}", store.store, store.error))
        .collect();
    match (failed.is_empty(), recipients) {
        (false, _) => Err(Failure::Unavailable(failed.join("; "))),
        (true, 0) => Err(Failure::NotFound("nothing waits that this is about".into())),
        (true, _) => Ok(()),
    }
}

fn word(action: QueueAction, wish: Wish) -> &'static str {
    match (wish, action) {
        (Wish::Count, _) => "that many it would be",
        (_, QueueAction::Hold) => "held",
        (_, QueueAction::Release) => "released",
        (_, QueueAction::Flush) => "tried now",
        (_, QueueAction::Requeue) => "queued anew",
        (_, QueueAction::Return) => "going back to their senders",
        (_, QueueAction::Delete | QueueAction::Unspecified) => "deleted",
    }
}

fn store_json(store: &pb::QueueChanged) -> Value {
    json!({
        "store": store.store,
        "messages": store.messages,
        "recipients": store.recipients,
        "error": store.error,
    })
}

fn entry_json(entry: &pb::QueueEntry) -> Value {
    let item = entry.item.clone().unwrap_or_default();
    let recipients: Vec<_> = item
        .recipients
        .iter()
        .map(|r| {
            json!({
                "address": r.address,
                "store": r.store,
                "attempts": r.attempts,
                "nextAttempt": units::time(r.next_attempt),
                "lastError": r.last_error,
                "held": r.held,
                "senderToldOfDelay": r.noticed,
                "params": r.params,
                "returned": r.returned,
            })
        })
        .collect();
    json!({
        "store": entry.store,
        "delivery": item.delivery,
        "sender": item.sender,
        "queuedAt": units::time(item.queued_at),
        "size": item.size,
        "params": item.params,
        "recipients": recipients,
    })
}

fn state(r: &store_pb::QueueRecipient) -> String {
    match (r.held, r.returned.is_empty(), r.attempts) {
        (true, _, _) => "held".to_owned(),
        (false, false, _) => "goes back".to_owned(),
        (false, true, 0) => "waits".to_owned(),
        (false, true, n) => {
            format!("tried {n} times, next {}: {}", units::time(r.next_attempt), r.last_error)
        }
    }
}

fn whither(r: &store_pb::QueueRecipient) -> String {
    if r.store.is_empty() { "outside".to_owned() } else { r.store.clone() }
}

fn from(sender: &str) -> String {
    if sender.is_empty() { "<>".to_owned() } else { sender.to_owned() }
}

fn entry_rows(entry: &pb::QueueEntry) -> Vec<Vec<String>> {
    let item = entry.item.clone().unwrap_or_default();
    let row = |r: &store_pb::QueueRecipient| {
        vec![
            entry.store.clone(),
            item.delivery.clone(),
            units::time(item.queued_at),
            units::size(item.size.into()),
            from(&item.sender),
            r.address.clone(),
            whither(r),
            state(r),
        ]
    };
    item.recipients.iter().map(row).collect()
}

fn entry_lines(entry: &pb::QueueEntry) -> Vec<String> {
    let item = entry.item.clone().unwrap_or_default();
    let mut lines = vec![
        format!("delivery:   {}", item.delivery),
        format!("queue of:   {}", entry.store),
        format!("sender:     {}", from(&item.sender)),
        format!("since:      {}", units::time(item.queued_at)),
        format!("size:       {}", units::size(item.size.into())),
    ];
    if !item.params.is_empty() {
        lines.push(format!("parameters: {}", item.params));
    }
    for r in &item.recipients {
        lines.push(format!("recipient:  {}, for {}: {}", r.address, whither(r), state(r)));
        let told = if r.noticed { "its sender was told that it is late" } else { "" };
        let held = if r.held && !r.last_error.is_empty() { &*r.last_error } else { "" };
        let more = [&*r.params, told, held, &*r.returned];
        lines.extend(
            more.into_iter().filter(|text| !text.is_empty()).map(|text| format!("            {text}")),
        );
    }
    lines
}
