//! COPY and MOVE (RFC 3501 section 6.4.7, RFC 6851, COPYUID of RFC 4315).

use mailcluster_proto_imap::{command::CopyOrMove, encode};
use mailcluster_store::{Copied, CopyKind, Receipt};
use mailcluster_types::Uid;

use super::{
    reply::{Done, Fail, News, Outcome, into_target},
    session::Session,
};

impl Session {
    pub(super) async fn copy(&mut self, copy: &CopyOrMove) -> Outcome {
        let receipt = self.transfer(copy, CopyKind::Copy).await?;
        let pending = self.poll_after_change().await?;
        let copied = receipt.acknowledge()?;
        self.tell(pending, News::All);
        let done = Done::new("copied").news(News::None);
        Ok(match copy_uid(&copied) {
            Some(code) => done.code(code),
            None => done,
        })
    }

    /// RFC 6851 section 4.3: COPYUID comes untagged, before the EXPUNGEs.
    pub(super) async fn move_messages(&mut self, copy: &CopyOrMove) -> Outcome {
        self.writable()?;
        let receipt = self.transfer(copy, CopyKind::Move).await?;
        let pending = self.poll_after_change().await?;
        let copied = receipt.acknowledge()?;
        if let Some(code) = copy_uid(&copied) {
            self.untagged(format!("OK [{code}] moved"));
        }
        self.tell(pending, News::All);
        Ok(Done::new("moved").news(News::None))
    }

    async fn transfer(&mut self, copy: &CopyOrMove, kind: CopyKind) -> Result<Receipt<Copied>, Fail> {
        let mailbox = self.mailbox()?;
        let from = mailbox.id;
        let places = mailbox.resolve(&copy.set, copy.uid)?;
        let uids = mailbox.uids_at(&places);
        let Some(to) = self.find(&copy.mailbox).await? else {
            return Err(Fail::no("TRYCREATE", "no such mailbox; create it first"));
        };
        self.context.store.copy(from, uids, to.id, kind).await.map_err(into_target)
    }
}

/// `COPYUID 38505 304,319:320 3956:3958`; nothing when nothing was copied.
fn copy_uid(copied: &Copied) -> Option<String> {
    if copied.pairs.is_empty() {
        return None;
    }
    let (from, to): (Vec<Uid>, Vec<Uid>) = copied.pairs.iter().copied().unzip();
    Some(format!("COPYUID {} {} {}", copied.uid_validity, encode::set(&from), encode::set(&to)))
}
