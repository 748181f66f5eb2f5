//! Expunged mail of an account is listed, or comes back, page by page.

use mailcluster_rpc::store::v1 as pb;
use mailcluster_store::{
    ReadError, Recoverable, RecoverableFilter, Refusal, Store, Undelete, View, WriteError,
};
use mailcluster_types::AccountId;
use tonic::Status;

/// Messages of one page.
const PAGE: u32 = 500;
/// Octets of a message that are looked through for its subject.
const BEGINNING: usize = 16 << 10;
/// Characters of a subject that are told.
const SUBJECT: usize = 120;
/// Longest name of a mailbox that is looked at, in octets.
const NAME: usize = 1000;

/// Lists or brings back one page.
pub async fn undelete(store: &Store, asked: pb::UndeleteRequest) -> Result<pb::UndeleteResponse, Status> {
    let account = AccountId::from_slice(&asked.account)
        .ok_or_else(|| Status::invalid_argument("an account's id has 16 octets"))?;
    if asked.mailbox.len() > NAME || asked.into.len() > NAME {
        return Err(Status::invalid_argument("a mailbox's name has at most 1000 octets"));
    }
    let limit = page(asked.limit);
    let filter = RecoverableFilter {
        mailbox: named(asked.mailbox),
        since: asked.since,
        after: asked.after.map_or((0, 0), |place| (place.mailbox, place.uid)),
    };
    let read = store.read(move |view| listed(view, account, &filter, limit)).await;
    let found = read.map_err(|error| Status::unavailable(error.to_string()))?;
    let next = next(&found, limit);
    let (found, mailboxes) = if asked.dry_run || found.is_empty() {
        (found, 0)
    } else {
        back(store, account, found, named(asked.into)).await?
    };
    let messages = found.into_iter().map(|(gone, subject)| told(gone, subject)).collect();
    Ok(pb::UndeleteResponse { messages, mailboxes, next })
}

fn page(limit: u32) -> usize {
    let limit = if limit == 0 { PAGE } else { limit.min(PAGE) };
    usize::try_from(limit).unwrap_or(1)
}

fn named(name: String) -> Option<String> {
    Some(name).filter(|name| !name.is_empty())
}

/// A full page may have others behind it.
fn next(found: &[(Recoverable, String)], limit: usize) -> Option<pb::ExpungedPlace> {
    let (last, _) = found.last().filter(|_| found.len() >= limit)?;
    Some(pb::ExpungedPlace { mailbox: last.mailbox, uid: last.uid })
}

fn listed(
    view: &View,
    account: AccountId,
    filter: &RecoverableFilter,
    limit: usize,
) -> Result<Vec<(Recoverable, String)>, ReadError> {
    let found = view.recoverable(account, filter, limit)?;
    let with_subject = |gone: Recoverable| {
        // What cannot be read has no subject; whether it is damaged is for its readers to find.
        let text = view.beginning(gone.body, BEGINNING).unwrap_or_default();
        let subject = mailcluster_message::subject(&text).unwrap_or_default();
        (gone, subject.chars().take(SUBJECT).collect())
    };
    Ok(found.into_iter().map(with_subject).collect())
}

/// Brings these back; of those that somebody else brought back meanwhile nothing is told.
async fn back(
    store: &Store,
    account: AccountId,
    mut found: Vec<(Recoverable, String)>,
    into: Option<String>,
) -> Result<(Vec<(Recoverable, String)>, u64), Status> {
    let messages = found.iter().map(|(gone, _)| (gone.mailbox, gone.uid)).collect();
    let done = match store.undelete(Undelete { account, messages, into }).await {
        Ok(receipt) => receipt.acknowledge().map_err(|_| again())?,
        Err(WriteError::Refused(why @ Refusal::BadName(_))) => {
            return Err(Status::invalid_argument(why.to_string()));
        }
        Err(WriteError::Refused(why)) => return Err(Status::failed_precondition(why.to_string())),
        Err(WriteError::NotServing | WriteError::Unknown) => return Err(again()),
    };
    found.retain(|(gone, _)| done.messages.contains(&(gone.mailbox, gone.uid)));
    Ok((found, done.mailboxes))
}

fn again() -> Status {
    Status::unavailable("the store does not serve here any more: ask again, nothing comes back twice")
}

fn told(gone: Recoverable, subject: String) -> pb::ExpungedMessage {
    pb::ExpungedMessage {
        mailbox: gone.name,
        mailbox_is_gone: !gone.is_there,
        uid: gone.uid,
        expunged_at: gone.expunged_at,
        date: gone.internal_date,
        size: gone.size.into(),
        subject,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_bounded_and_says_where_the_next_one_begins() {
        for (asked, limit) in [(0, 500), (1, 1), (500, 500), (501, 500), (u32::MAX, 500)] {
            assert_eq!(page(asked), limit, "{asked}");
        }
        let gone = |uid| Recoverable {
            mailbox: 7,
            uid,
            name: "INBOX".into(),
            is_there: true,
            expunged_at: 0,
            flags: mailcluster_store::Flags::default(),
            internal_date: 0,
            size: 0,
            body: 0,
        };
        let found = [(gone(3), String::new()), (gone(9), String::new())];
        assert_eq!(next(&found, 2), Some(pb::ExpungedPlace { mailbox: 7, uid: 9 }));
        assert_eq!(next(&found, 3), None);
        assert_eq!(next(&[], 1), None);
    }
}
