//! The mailbox for what checks think little of: the one with `\Junk` (RFC 6154), whatever it is called.

use mailcluster_store::{CreateMailbox, DeliveryTarget, ReadError, SpecialUse, Store, View, WriteError};
use mailcluster_types::AccountId;

use super::deliver::Silence;

/// What it is called when it is made here, and where none with the attribute can be made.
const NAME: &str = "Junk";

/// Directs all targets to their accounts' Junk mailboxes. Where there is none and none can be made, INBOX it is: mail is
/// never lost for its being suspicious. Where an account has a script, this is where what it keeps goes.
pub(super) async fn into(store: &Store, mut targets: Vec<&mut DeliveryTarget>) -> Result<(), Silence> {
    let accounts: Vec<AccountId> = targets.iter().map(|target| target.account).collect();
    let find =
        move |view: &View| accounts.iter().map(|account| name(view, *account)).collect::<Result<Vec<_>, _>>();
    let names = match store.read(find).await {
        Ok(names) => names,
        Err(ReadError::NotServing) => return Err(Silence("the store does not serve")),
        Err(error) => {
            tracing::warn!(%error, "mailboxes for junk could not be looked up");
            return Ok(());
        }
    };
    for (target, name) in targets.iter_mut().zip(names) {
        target.mailbox = match name {
            Some(name) => name,
            None => made(store, target.account).await?,
        };
    }
    Ok(())
}

fn name(view: &View, account: AccountId) -> Result<Option<String>, ReadError> {
    let mailboxes = view.mailboxes(account)?;
    let junk = mailboxes.into_iter().find(|mailbox| mailbox.special_use == Some(SpecialUse::Junk));
    Ok(junk.map(|mailbox| mailbox.name))
}

/// Makes one. That it is durable is not waited for: the delivery that follows it in the log is. A refusal means that a mailbox
/// of the name is there already, or that the delivery will be refused, too.
async fn made(store: &Store, account: AccountId) -> Result<String, Silence> {
    let create = CreateMailbox { account, name: NAME.to_owned(), special_use: Some(SpecialUse::Junk) };
    match store.create_mailbox(create).await {
        Ok(_) | Err(WriteError::Refused(_)) => Ok(NAME.to_owned()),
        Err(WriteError::Unknown) => Err(Silence("the outcome is unknown")),
        Err(WriteError::NotServing) => Err(Silence("the store does not serve")),
    }
}
