//! Reports whose way leads to an account of ours. A store that reports success puts its report into its queue without
//! asking where the sender is: that is found out here.

use mailcluster_store::{QueueItem, QueueRecipient, QueueUpdate};
use mailcluster_types::{Address, Resolution};

use crate::{
    attempt::{Context, Stop},
    undeliverable::put_off,
};

/// Where a report goes.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Turn {
    /// To another site.
    Out,
    /// To an account of ours, or nowhere: its row becomes this one.
    Here(Box<QueueRecipient>),
}

/// True when it goes out. What turns inward is in its place in the queue then, and what cannot be told waits.
pub(super) async fn leads_out(
    context: &Context,
    item: &QueueItem,
    recipient: &QueueRecipient,
) -> Result<bool, Stop> {
    let Ok(address) = recipient.address.parse::<Address>() else { return Ok(true) };
    match context.directory.resolve(&address).await {
        Ok(found) => match turn(recipient, found) {
            Turn::Out => Ok(true),
            Turn::Here(row) => {
                context.update(item.delivery, recipient, QueueUpdate::Retry(*row)).await?;
                Ok(false)
            }
        },
        Err(error) => {
            tracing::warn!(id = %item.delivery, %error, "where a report goes cannot be found out now");
            put_off(context, item, recipient).await?;
            Ok(false)
        }
    }
}

/// An address that stands for several accounts gets one report: the first has it.
fn turn(recipient: &QueueRecipient, found: Resolution) -> Turn {
    let row = match found {
        Resolution::NotLocal => return Turn::Out,
        Resolution::Accounts(accounts) => accounts.into_iter().next().map(|account| QueueRecipient {
            account: Some(account.id),
            store: Some(account.store),
            ..recipient.clone()
        }),
        Resolution::NoSuchMailbox => None,
    };
    let lost = || QueueRecipient {
        held: true,
        last_error: "a report to an address of ours that leads to nobody".into(),
        ..recipient.clone()
    };
    Turn::Here(Box::new(row.unwrap_or_else(lost)))
}

#[cfg(test)]
mod tests {
    use mailcluster_types::{AccountId, AccountStatus, ResolvedAccount};

    use super::*;

    #[test]
    fn a_report_goes_to_its_account_or_out_and_is_never_lost() {
        let to = QueueRecipient::new("ann@example.org".into(), 5);
        let account = |id| ResolvedAccount {
            id: AccountId(id),
            address: "ann@example.org".parse().unwrap(),
            store: "mail-1".into(),
            status: AccountStatus::Active,
        };
        assert_eq!(turn(&to, Resolution::NotLocal), Turn::Out);
        let here = QueueRecipient { account: Some(AccountId(1)), store: Some("mail-1".into()), ..to.clone() };
        for found in [vec![account(1)], vec![account(1), account(2)]] {
            assert_eq!(turn(&to, Resolution::Accounts(found)), Turn::Here(Box::new(here.clone())));
        }
        for nobody in [Resolution::NoSuchMailbox, Resolution::Accounts(Vec::new())] {
            let Turn::Here(row) = turn(&to, nobody) else { panic!("it does not go out") };
            assert!(row.held && !row.last_error.is_empty() && row.store.is_none());
        }
    }
}
