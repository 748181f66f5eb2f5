//! `trace` and `queue list`.

use mailcluster_rpc::{admin::v1 as pb, store::v1 as store_pb};
use serde_json::{Value, json};

use crate::{
    args::{Queue, Trace},
    connect::Admin,
    failure::Failure,
    output::{self, Format},
    units,
};

pub async fn trace(trace: Trace, admin: &mut Admin, out: Format) -> Result<(), Failure> {
    use pb::trace_request::Key;
    let key = match (trace.key.id, trace.key.rcpt) {
        (Some(id), _) => Key::Delivery(id),
        (None, Some(address)) => Key::Recipient(address),
        (None, None) => return Err(Failure::Usage("name a delivery id or --rcpt".into())),
    };
    let asked = pb::TraceRequest { key: Some(key), limit: trace.limit };
    let answer = admin.trace(asked).await?.into_inner();
    match out {
        Format::Json => output::json(&json!({
            "events": answer.events.iter().map(event_json).collect::<Vec<_>>(),
            "unreachableStores": answer.unreachable_stores,
        })),
        Format::Text => {
            let rows: Vec<_> = answer.events.iter().filter_map(event_row).collect();
            if !rows.is_empty() {
                output::table(&["TIME", "STORE", "EVENT", "RECIPIENT", "DELIVERY", "DETAIL"], &rows);
            }
            missing(&answer.unreachable_stores);
        }
    }
    match (answer.events.is_empty(), answer.unreachable_stores.is_empty()) {
        (false, _) => Ok(()),
        (true, true) => Err(Failure::NotFound("no store has a record of it".into())),
        (true, false) => Err(Failure::Unavailable(
            "the stores that answered have no record of it; others did not answer".into(),
        )),
    }
}

fn missing(stores: &[String]) {
    if !stores.is_empty() {
        output::line(&format!("did not answer: {}", stores.join(", ")));
    }
}

fn event_json(traced: &pb::TraceEvent) -> Value {
    let event = traced.event.clone().unwrap_or_default();
    json!({
        "store": traced.store,
        "time": units::time(event.at),
        "event": event.event,
        "recipient": event.recipient,
        "delivery": event.delivery,
        "detail": event.detail,
    })
}

fn event_row(traced: &pb::TraceEvent) -> Option<Vec<String>> {
    let store_pb::HistoryEvent { at, delivery, event, recipient, detail } = traced.event.clone()?;
    Some(vec![units::time(at), traced.store.clone(), event, recipient, delivery, detail])
}

pub async fn queue(command: Queue, admin: &mut Admin, out: Format) -> Result<(), Failure> {
    let Queue::List { store, limit } = command;
    let asked = pb::ListQueueRequest { limit, store: store.unwrap_or_default() };
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
            })
        })
        .collect();
    json!({
        "store": entry.store,
        "delivery": item.delivery,
        "sender": item.sender,
        "queuedAt": units::time(item.queued_at),
        "size": item.size,
        "recipients": recipients,
    })
}

fn entry_rows(entry: &pb::QueueEntry) -> Vec<Vec<String>> {
    let item = entry.item.clone().unwrap_or_default();
    let row = |r: &store_pb::QueueRecipient| {
        let state = match (r.held, r.attempts) {
            (true, _) => "held".to_owned(),
            (false, 0) => "waits".to_owned(),
            (false, n) => format!("tried {n} times, next {}: {}", units::time(r.next_attempt), r.last_error),
        };
        vec![
            entry.store.clone(),
            item.delivery.clone(),
            units::time(item.queued_at),
            units::size(item.size.into()),
            if item.sender.is_empty() { "<>".to_owned() } else { item.sender.clone() },
            r.address.clone(),
            if r.store.is_empty() { "outside".to_owned() } else { r.store.clone() },
            state,
        ]
    };
    item.recipients.iter().map(row).collect()
}
