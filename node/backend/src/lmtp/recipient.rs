//! RCPT: may this recipient's mail come in here?

use mailcluster_proto_smtp::{Path, RcptParams, Reply};
use mailcluster_store::HasScript;
use mailcluster_types::{AccountId, AccountStatus, Address, Resolution, StoreName};

use super::{
    envelope::{Recipient, Way},
    refusal,
};
use crate::SessionContext;

const NOT_NOW: Reply = Reply::new(451, "4.3.0 cannot be answered now, try again");

/// Checks a recipient of a message of `size` octets.
pub(super) async fn check(
    context: &SessionContext,
    path: Path,
    params: RcptParams,
    size: u64,
) -> Result<Recipient, Reply> {
    let address = match path {
        Path::Mailbox(mailbox) => mailbox,
        Path::Postmaster | Path::Null => format!("postmaster@{}", context.hostname),
    };
    let dsn = params.dsn.clone();
    let way = match params.any() {
        true => named_way(params)?,
        false => resolve(context, &address).await?,
    };
    let mut scripted = Vec::new();
    match &way {
        Way::Deliver(accounts) => {
            for account in accounts {
                if check_account(context, *account, size).await? == HasScript::Yes {
                    scripted.push(*account);
                }
            }
        }
        Way::HandOff(..) | Way::Hold | Way::Out => {
            if !context.store.has_room(size) {
                return Err(Reply::new(452, "4.3.1 no room in this queue"));
            }
        }
    }
    Ok(Recipient { address, way, dsn, scripted })
}

/// What our own parts say should be done.
fn named_way(params: RcptParams) -> Result<Way, Reply> {
    const BAD: Reply = Reply::new(
        501,
        "5.5.4 MCACCT must be an account id, MCSTORE stands beside it, MCHOLD and MCOUT alone",
    );
    let account = params.account.map(|text| text.parse::<AccountId>()).transpose().map_err(|_| BAD)?;
    match (account, params.store, params.hold, params.out) {
        (Some(account), None, false, false) => Ok(Way::Deliver(vec![account])),
        (Some(account), Some(store), false, false) => Ok(Way::HandOff(account, StoreName::new(store))),
        (None, None, true, false) => Ok(Way::Hold),
        (None, None, false, true) => Ok(Way::Out),
        _ => Err(BAD),
    }
}

/// Finds the accounts of this store that an address without an account id stands for.
async fn resolve(context: &SessionContext, address: &str) -> Result<Way, Reply> {
    let Some(directory) = &context.directory else {
        return Err(Reply::new(451, "4.3.0 recipients need an account id here"));
    };
    let address: Address = address.parse().map_err(|_| Reply::new(553, "5.1.3 not a mail address"))?;
    let accounts = match directory.resolve(&address).await {
        Ok(Resolution::Accounts(accounts)) => accounts,
        // RFC 5321 section 4.5.1: postmaster is always there, if need be in the queue, held for a person.
        Ok(Resolution::NoSuchMailbox) if address.is_postmaster() => return Ok(Way::Hold),
        Ok(Resolution::NoSuchMailbox) => return Err(Reply::new(550, "5.1.1 no such mailbox")),
        Ok(Resolution::NotLocal) => return Err(Reply::new(550, "5.7.1 relaying denied")),
        Err(unavailable) => {
            tracing::warn!(error = %unavailable, "recipient could not be resolved");
            return Err(NOT_NOW);
        }
    };
    let here = context.store.identity().store;
    let elsewhere = accounts.iter().any(|a| a.store != here || a.status == AccountStatus::Pending);
    if elsewhere || accounts.is_empty() {
        return Err(Reply::new(451, "4.3.0 not every account of this address is on this store"));
    }
    Ok(Way::Deliver(accounts.into_iter().map(|a| a.id).collect()))
}

async fn check_account(context: &SessionContext, account: AccountId, size: u64) -> Result<HasScript, Reply> {
    match context.store.check_recipient(account, size).await {
        Ok(Ok(has_script)) => Ok(has_script),
        Ok(Err(refused)) => Err(refusal::reply(&refused)),
        Err(error) => {
            tracing::warn!(%account, %error, "recipient could not be checked");
            Err(NOT_NOW)
        }
    }
}
