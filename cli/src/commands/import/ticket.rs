//! Tickets for accounts, from the directory.

use mailcluster_import::{Login, imap};
use mailcluster_rpc::admin::v1 as pb;
use tokio::{runtime::Handle, sync::Mutex};
use tonic::Code;

use super::super::admin;
use crate::{args::Global, connect::Admin, failure::Failure};

/// What the audit log says of them.
const PURPOSE: &str = "import of mail";

/// Asks the directory, from threads that are none of the runtime's.
pub struct Tickets<'a> {
    admin: Mutex<Admin>,
    global: &'a Global,
    runtime: Handle,
}

impl<'a> Tickets<'a> {
    pub fn new(admin: Admin, global: &'a Global, runtime: Handle) -> Self {
        Self { admin: Mutex::new(admin), global, runtime }
    }

    /// How to log in to this account.
    pub fn login(&self, address: &str) -> Login {
        self.runtime.block_on(self.ask(address))
    }

    async fn ask(&self, address: &str) -> Login {
        let mut known = self.admin.lock().await.clone();
        let first = known.issue_ticket(asked(address)).await;
        let answer = match first {
            // A token ends after ten minutes, and the directory's pod may have moved: the way is looked for anew.
            Err(status) if is_of_the_way(status.code()) => match admin(self.global).await {
                Ok(mut fresh) => {
                    *self.admin.lock().await = fresh.clone();
                    fresh.issue_ticket(asked(address)).await
                }
                Err(failure) => return Login::Later(failure.to_string()),
            },
            other => other,
        };
        match answer.map(tonic::Response::into_inner) {
            Ok(pb::IssueTicketResponse { ticket: Some(ticket), address, .. }) => {
                Login::Response(imap::plain(&address, &ticket.value))
            }
            Ok(_) => Login::Never("the directory gave an empty ticket".to_owned()),
            Err(status) if status.code() == Code::Unimplemented => {
                Login::Never("the directory is older than this command and gives no tickets".to_owned())
            }
            Err(status) => match Failure::from(status) {
                Failure::Unavailable(why) => Login::Later(why),
                failure => Login::Never(failure.to_string()),
            },
        }
    }
}

fn asked(address: &str) -> pb::IssueTicketRequest {
    pb::IssueTicketRequest { address: address.to_owned(), purpose: PURPOSE.to_owned() }
}

fn is_of_the_way(code: Code) -> bool {
    matches!(
        code,
        Code::Unauthenticated | Code::Unavailable | Code::Unknown | Code::Internal | Code::Cancelled
    )
}
