//! EXPUNGE and UID EXPUNGE (RFC 4315).

use mailcluster_proto_imap::SequenceSet;
use mailcluster_store::Expunge;

use super::{
    reply::{Done, News, Outcome},
    session::Session,
};

impl Session {
    pub(super) async fn expunge(&mut self, uids: Option<&SequenceSet>) -> Outcome {
        let mailbox = self.writable()?;
        let id = mailbox.id;
        let which = match uids {
            None => Expunge::AllDeleted,
            Some(set) => {
                let places = mailbox.resolve(set, true)?;
                Expunge::Deleted(mailbox.uids_at(&places))
            }
        };
        let receipt = self.context.store.expunge(id, which).await?;
        let pending = self.poll_after_change().await?;
        receipt.acknowledge()?;
        self.tell(pending, News::All);
        Ok(Done::new("expunged").news(News::None))
    }
}
