//! Tickets: an administrator's tool logs in to an account over IMAP without knowing its password.

use std::time::{Duration, Instant};

use mailcluster_store::Account;

use crate::{AdminError, DirectoryService, names};

/// How long a ticket can be used to log in; a session may last longer.
pub(crate) const VALID: Duration = Duration::from_secs(60);

impl DirectoryService {
    /// A ticket for this account, and the account. What it is for goes into the audit log.
    ///
    /// # Errors
    /// [`AdminError::NotFound`] when there is no such account, [`AdminError::Refused`] when nobody may log in to it.
    pub async fn issue_ticket(
        &self,
        who: &str,
        address: &str,
        purpose: &str,
    ) -> Result<(String, Account), AdminError> {
        let key = names::address(address)?.key();
        let asked = key.clone();
        let found = self.look(move |view, _| view.account_by_address(&asked)).await?;
        let account = found.ok_or_else(|| AdminError::no_account(&key))?;
        if account.suspended {
            let text = format!("account {} is suspended: nobody can log in to it", account.address);
            return Err(AdminError::Refused(text));
        }
        if account.pending {
            let text =
                format!("account {} is being created: its store has not confirmed it", account.address);
            return Err(AdminError::Unavailable(text));
        }
        self.note_ticket(who, &account.address, purpose).await?;
        Ok((self.tickets().issue(Instant::now(), account.id, VALID), account))
    }

    async fn note_ticket(&self, who: &str, address: &str, purpose: &str) -> Result<(), AdminError> {
        if purpose.is_empty() || purpose.len() > super::LONGEST_NOTE || purpose.contains(char::is_control) {
            let text = format!("a purpose is one line of at most {} octets", super::LONGEST_NOTE);
            return Err(AdminError::Invalid(text));
        }
        self.note(who, &format!("login ticket for {address}: {purpose}")).await
    }
}
