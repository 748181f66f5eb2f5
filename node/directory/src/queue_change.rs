//! A person changes how mail in a store's queue waits: which recipients are meant, and page by page the change.
//!
//! Each change is a record of the store's log; it counts when it may be acknowledged, like mail.

use futures::{StreamExt, TryStreamExt, stream};
use mailcluster_rpc::store::v1::{self as pb, QueueAction};
use mailcluster_store::{QueueChange, QueueItem, QueueRecipient, QueueUpdate, Store, WriteError};
use mailcluster_types::DeliveryId;
use tonic::Status;

use crate::store_admin::unreadable;

/// Messages of one page.
const PAGE: usize = 1000;
/// Changes under way at once: they are committed together.
const AT_ONCE: usize = 256;
/// Longest name of who asks, and longest word of a filter, in octets.
const LONGEST: usize = 512;

/// Which recipients are meant.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Filter {
    delivery: Option<DeliveryId>,
    destination: Option<String>,
    address: Option<String>,
}

impl Filter {
    #[allow(clippy::result_large_err, reason = "what tonic handlers return")]
    fn read(filter: pb::QueueFilter) -> Result<Self, Status> {
        let word = |text: String| match text.len() {
            0 => Ok(None),
            1..=LONGEST => Ok(Some(text)),
            _ => Err(Status::invalid_argument("a destination or an address is shorter than that")),
        };
        let read = Self {
            delivery: if filter.delivery.is_empty() { None } else { Some(delivery(&filter.delivery)?) },
            destination: word(filter.destination)?,
            address: word(filter.address)?,
        };
        match (read == Self::default(), filter.all) {
            (true, false) => {
                Err(Status::invalid_argument("name a message, a destination or an address, or all"))
            }
            (false, true) => {
                Err(Status::invalid_argument("all is all: no message, destination or address beside it"))
            }
            _ => Ok(read),
        }
    }

    fn fits(&self, item: &QueueItem, recipient: &QueueRecipient) -> bool {
        let goes_to = |destination: &String| match &recipient.store {
            Some(store) => store.as_str() == destination,
            None => recipient
                .address
                .rsplit_once('@')
                .is_some_and(|(_, domain)| domain.eq_ignore_ascii_case(destination)),
        };
        let is_of = |address: &String| {
            item.sender.eq_ignore_ascii_case(address) || recipient.address.eq_ignore_ascii_case(address)
        };
        self.delivery.is_none_or(|id| id == item.delivery)
            && self.destination.as_ref().is_none_or(goes_to)
            && self.address.as_ref().is_none_or(is_of)
    }
}

/// Is there something to do?
fn concerns(action: QueueAction, recipient: &QueueRecipient) -> bool {
    match action {
        QueueAction::Hold | QueueAction::Flush => !recipient.held,
        QueueAction::Release => recipient.held,
        QueueAction::Requeue | QueueAction::Delete | QueueAction::Return => true,
        QueueAction::Unspecified => false,
    }
}

fn update(action: QueueAction, who: &str) -> Option<QueueUpdate> {
    let change = |change, what| QueueUpdate::Change { change, note: format!("{what} by {who}") };
    Some(match action {
        QueueAction::Hold => change(QueueChange::Hold, "held"),
        QueueAction::Release => change(QueueChange::Release, "released"),
        QueueAction::Flush => change(QueueChange::Flush, "to be tried now, as asked"),
        QueueAction::Requeue => change(QueueChange::Requeue, "queued anew"),
        QueueAction::Return => change(QueueChange::Return, "sent back"),
        QueueAction::Delete => {
            QueueUpdate::Done { outcome: format!("deleted by {who}; its sender was not told") }
        }
        QueueAction::Unspecified => return None,
    })
}

/// A delivery id, as text.
#[allow(clippy::result_large_err, reason = "what tonic handlers return")]
pub(crate) fn delivery(id: &str) -> Result<DeliveryId, Status> {
    id.parse().map_err(|_| Status::invalid_argument("a delivery id has 26 digits"))
}

#[allow(clippy::result_large_err, reason = "what tonic handlers return")]
fn action(request: &pb::ChangeQueueRequest) -> Result<QueueAction, Status> {
    match QueueAction::try_from(request.action) {
        Ok(QueueAction::Unspecified) | Err(_) => Err(Status::invalid_argument("not a change of a queue")),
        Ok(action) => Ok(action),
    }
}

/// In one line what is asked, for the audit log.
#[allow(clippy::result_large_err, reason = "what tonic handlers return")]
pub(crate) fn describe(request: &pb::ChangeQueueRequest) -> Result<String, Status> {
    let verb = match action(request)? {
        QueueAction::Hold => "hold",
        QueueAction::Release => "release",
        QueueAction::Flush => "flush",
        QueueAction::Requeue => "requeue",
        QueueAction::Return => "delete --bounce",
        QueueAction::Delete | QueueAction::Unspecified => "delete",
    };
    let filter = Filter::read(request.filter.clone().unwrap_or_default())?;
    let mut text = format!("queue {verb}");
    let words = [
        filter.delivery.map(|id| format!(" {id}")),
        filter.destination.map(|to| format!(" --destination {to}")),
        filter.address.map(|address| format!(" --address {address}")),
    ];
    let before = text.len();
    words.into_iter().flatten().for_each(|word| text.push_str(&word));
    if text.len() == before {
        text.push_str(" --all");
    }
    Ok(text.replace(char::is_control, "?"))
}

/// Changes a page, or counts it.
pub(crate) async fn change(
    store: &Store,
    request: &pb::ChangeQueueRequest,
) -> Result<pb::ChangeQueueResponse, Status> {
    let action = action(request)?;
    let filter = Filter::read(request.filter.clone().unwrap_or_default())?;
    if request.who.len() > LONGEST || request.who.contains(char::is_control) {
        return Err(Status::invalid_argument("who asks is one short line"));
    }
    let after = if request.after.is_empty() { None } else { Some(delivery(&request.after)?) };
    let read = store.read(move |view| match filter.delivery {
        Some(id) => Ok((view.queued(id)?.into_iter().collect(), filter)),
        None => Ok((view.queue(after, PAGE)?, filter)),
    });
    let (items, filter): (Vec<QueueItem>, Filter) = read.await.map_err(unreadable)?;
    let next = match items.last() {
        Some(last) if items.len() == PAGE => last.delivery.to_string(),
        _ => String::new(),
    };
    let (mut messages, mut found) = (0, Vec::new());
    for item in &items {
        let meant = |r: &&QueueRecipient| filter.fits(item, r) && concerns(action, r);
        let before = found.len();
        found.extend(item.recipients.iter().filter(meant).map(|r| (item.delivery, r.address.clone())));
        messages += u64::from(found.len() > before);
    }
    let recipients = found.len() as u64;
    if !request.dry_run {
        let changes = found.into_iter().filter_map(|(id, address)| {
            Some(commit(store.clone(), id, address, update(action, &request.who)?))
        });
        stream::iter(changes.collect::<Vec<_>>()).buffer_unordered(AT_ONCE).try_collect::<()>().await?;
    }
    Ok(pb::ChangeQueueResponse { messages, recipients, next })
}

async fn commit(store: Store, id: DeliveryId, address: String, update: QueueUpdate) -> Result<(), Status> {
    let away = || Status::unavailable("the store does not serve any more");
    match store.queue_update(id, address, update).await {
        Ok(receipt) => receipt.acknowledge().map_err(|_| away()),
        Err(WriteError::Refused(refused)) => Err(Status::failed_precondition(refused.to_string())),
        Err(WriteError::Unknown | WriteError::NotServing) => Err(away()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item() -> QueueItem {
        let held = QueueRecipient { held: true, ..QueueRecipient::new("Bob@Example.net".into(), 0) };
        let ours = QueueRecipient {
            store: Some("mail-1".into()),
            ..QueueRecipient::new("cy@example.org".into(), 0)
        };
        QueueItem {
            delivery: DeliveryId(7),
            sender: "ann@example.org".into(),
            queued_at: 0,
            size: 1,
            body: 1,
            params: String::new(),
            recipients: vec![held, ours],
        }
    }

    fn filter(text: [&str; 3], all: bool) -> pb::QueueFilter {
        let [delivery, destination, address] = text.map(str::to_owned);
        pb::QueueFilter { delivery, destination, address, all }
    }

    #[test]
    fn a_filter_means_whom_it_names() {
        let (seven, eight) = (DeliveryId(7).to_string(), DeliveryId(8).to_string());
        for (text, all, expected) in [
            ([&*seven, "", ""], false, [true, true]),
            ([&*eight, "", ""], false, [false, false]),
            (["", "EXAMPLE.net", ""], false, [true, false]),
            (["", "example.org", ""], false, [false, false]),
            (["", "mail-1", ""], false, [false, true]),
            (["", "", "Ann@example.org"], false, [true, true]),
            (["", "", "bob@example.net"], false, [true, false]),
            (["", "", "cy@example.org"], false, [false, true]),
            (["", "", "ann"], false, [false, false]),
            ([&*seven, "example.net", "cy@example.org"], false, [false, false]),
            (["", "", ""], true, [true, true]),
        ] {
            let read = Filter::read(filter(text, all)).unwrap();
            let item = item();
            let fits: Vec<bool> = item.recipients.iter().map(|r| read.fits(&item, r)).collect();
            assert_eq!(fits, expected, "{text:?}");
        }
        let long = "x".repeat(LONGEST + 1);
        for (text, all) in [
            (["", "", ""], false),
            ([&*seven, "", ""], true),
            (["zz", "", ""], false),
            (["", &*long, ""], false),
        ] {
            assert!(Filter::read(filter(text, all)).is_err(), "{text:?} {all}");
        }
    }

    #[test]
    fn what_is_held_is_released_and_nothing_else() {
        use QueueAction::{Delete, Flush, Hold, Release, Requeue, Return, Unspecified};
        let held = &item().recipients[0];
        let waits = &item().recipients[1];
        for (action, expected) in [
            (Hold, (false, true)),
            (Release, (true, false)),
            (Flush, (false, true)),
            (Requeue, (true, true)),
            (Delete, (true, true)),
            (Return, (true, true)),
            (Unspecified, (false, false)),
        ] {
            assert_eq!((concerns(action, held), concerns(action, waits)), expected, "{action:?}");
            assert_eq!(update(action, "ann").is_some(), action != Unspecified);
        }
    }

    #[test]
    fn the_audit_log_has_the_command() {
        let asked = |action: QueueAction, filter| pb::ChangeQueueRequest {
            filter: Some(filter),
            action: action.into(),
            ..Default::default()
        };
        for (request, line) in [
            (asked(QueueAction::Delete, filter(["", "", ""], true)), "queue delete --all"),
            (
                asked(QueueAction::Return, filter(["", "a.b", "x@\n"], false)),
                "queue delete --bounce --destination a.b --address x@?",
            ),
        ] {
            assert_eq!(describe(&request).unwrap(), line);
        }
        assert!(describe(&asked(QueueAction::Unspecified, filter(["", "", ""], true))).is_err());
    }
}
