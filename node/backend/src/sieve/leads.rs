//! Where mail that a script sends goes.

use mailcluster_store::QueueRecipient;
use mailcluster_types::{Address, Resolution, Unavailable};

use super::Sending;

/// Where an address leads.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Leads {
    /// Into the queue, for these.
    To(Vec<QueueRecipient>),
    /// To nobody; why, for people.
    Nowhere(&'static str),
}

/// Looks an address up.
pub(super) async fn leads(sending: &Sending, address: &str, at: i64) -> Result<Leads, Unavailable> {
    let Some(directory) = &sending.directory else { return Ok(Leads::Nowhere("nothing can be sent here")) };
    let Ok(parsed) = address.parse::<Address>() else { return Ok(Leads::Nowhere("not a mail address")) };
    Ok(match directory.resolve(&parsed).await? {
        Resolution::Accounts(accounts) if !accounts.is_empty() => {
            // One address may stand for several accounts; in the queue each needs an address of its own.
            let several = accounts.len() > 1;
            let queued = accounts.into_iter().map(|account| {
                let own = if several { account.address.to_string() } else { address.to_owned() };
                QueueRecipient {
                    account: Some(account.id),
                    store: Some(account.store),
                    ..QueueRecipient::new(own, at)
                }
            });
            Leads::To(queued.collect())
        }
        Resolution::Accounts(_) | Resolution::NoSuchMailbox => Leads::Nowhere("no such mailbox"),
        Resolution::NotLocal if sending.to_other_sites => {
            Leads::To(vec![QueueRecipient::new(address.to_owned(), at)])
        }
        Resolution::NotLocal => Leads::Nowhere("mail to other sites is not sent here"),
    })
}
