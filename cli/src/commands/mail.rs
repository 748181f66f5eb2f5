//! `trace`.

use mailcluster_rpc::{admin::v1 as pb, store::v1 as store_pb};
use serde_json::{Value, json};

use crate::{
    args::Trace,
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

pub(super) fn missing(stores: &[String]) {
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
