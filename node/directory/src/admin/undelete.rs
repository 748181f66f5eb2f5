//! Expunged mail of an account is looked for on its store.

use mailcluster_rpc::{admin::v1 as pb, store::v1::UndeleteResponse};
use mailcluster_store::Account;
use tonic::Status;

use crate::{AdminError, DirectoryService, StoreDialer};

/// Octets of a name that are noted.
const NOTED: usize = 200;

impl DirectoryService {
    /// Asks the account's store for a page. Before the first, and after each that brought something back, that is noted.
    pub(crate) async fn undelete(
        &self,
        who: &str,
        dialer: &dyn StoreDialer,
        asked: pb::UndeleteRequest,
    ) -> Result<UndeleteResponse, Status> {
        let (account, _) = self.account(&asked.address).await?;
        let mut page = asked.page.unwrap_or_default();
        page.account = account.id.to_bytes().to_vec();
        let (is_first, dry_run) = (page.after.is_none(), page.dry_run);
        let what = noted(&account, &page);
        if is_first {
            self.note(who, &what).await?;
        }
        let store = dialer.dial(&account.store).await.map_err(AdminError::from)?;
        let answer = store.undelete(page).await;
        let told = match &answer {
            Ok(_) if dry_run => return answer,
            Ok(done) => format!("{what}: {} messages came back", done.messages.len()),
            Err(status) => format!("failed: {what}: {}", status.message()),
        };
        if let Err(error) = self.note(who, &told).await {
            tracing::warn!(who, told, %error, "the audit log could not be told what came of an undelete");
        }
        answer
    }
}

/// What is noted of a question: whose mail, and which of it.
fn noted(account: &Account, page: &mailcluster_rpc::store::v1::UndeleteRequest) -> String {
    let mut what = format!("account undelete {}", account.address);
    for (option, value) in [(" --mailbox ", &page.mailbox), (" --into ", &page.into)] {
        if !value.is_empty() {
            let shown = value.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).take(NOTED);
            what.push_str(option);
            what.extend(shown);
        }
    }
    if page.since > 0 {
        what.push_str(&format!(" --since {}", page.since));
    }
    if page.dry_run {
        what.push_str(" --dry-run");
    }
    what
}
