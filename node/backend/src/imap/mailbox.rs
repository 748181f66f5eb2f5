//! NAMESPACE, CREATE, DELETE, RENAME, SUBSCRIBE, UNSUBSCRIBE.

use mailcluster_proto_imap::{
    MailboxName,
    command::{Create, Rename, SpecialUseFlag},
};
use mailcluster_store::{CreateMailbox, Mailbox, SpecialUse};

use super::{
    reply::{Done, Fail, News, Outcome},
    session::Session,
};

impl Session {
    /// RFC 2342: one personal namespace without a prefix.
    pub(super) fn namespace(&mut self) -> Done {
        self.untagged("NAMESPACE ((\"\" \"/\")) NIL NIL");
        Done::new("that is all")
    }

    /// The account's mailbox of this name.
    pub(super) async fn find(&mut self, name: &MailboxName) -> Result<Option<Mailbox>, Fail> {
        let (account, name) = (self.account()?, name.as_str().to_owned());
        Ok(self.context.store.read(move |view| view.mailbox_by_name(account, &name)).await?)
    }

    async fn existing(&mut self, name: &MailboxName) -> Result<Mailbox, Fail> {
        self.find(name).await?.ok_or_else(|| Fail::no("NONEXISTENT", "no such mailbox"))
    }

    pub(super) async fn create(&mut self, create: Create) -> Outcome {
        let special_use = special_use(&create.special_use)?;
        let account = self.account()?;
        // A trailing separator announces children (RFC 3501 section 6.3.3).
        let name = create.mailbox.as_str();
        let name = name.strip_suffix('/').unwrap_or(name).to_owned();
        let receipt = self.context.store.create_mailbox(CreateMailbox { account, name, special_use }).await?;
        let pending = self.poll_after_change().await?;
        receipt.acknowledge()?;
        self.tell(pending, News::All);
        Ok(Done::new("created").news(News::None))
    }

    pub(super) async fn delete(&mut self, name: &MailboxName) -> Outcome {
        let mailbox = self.existing(name).await?;
        let selected = self.selected.as_ref().is_some_and(|selected| selected.id == mailbox.id);
        let pending = if selected { None } else { Some(self.poll().await?) };
        let receipt = self.context.store.delete_mailbox(mailbox.id).await?;
        receipt.acknowledge()?;
        match pending {
            Some(pending) => self.tell(pending, News::All),
            None => self.selected = None,
        }
        Ok(Done::new("deleted").news(News::None))
    }

    pub(super) async fn rename(&mut self, rename: &Rename) -> Outcome {
        let mailbox = self.existing(&rename.from).await?;
        let to = rename.to.as_str();
        let to = to.strip_suffix('/').unwrap_or(to).to_owned();
        let receipt = self.context.store.rename_mailbox(mailbox.id, to).await?;
        let pending = self.poll_after_change().await?;
        receipt.acknowledge()?;
        self.tell(pending, News::All);
        Ok(Done::new("renamed").news(News::None))
    }

    pub(super) async fn subscribe(&mut self, name: &MailboxName, subscribed: bool) -> Outcome {
        let (account, name) = (self.account()?, name.as_str().to_owned());
        let pending = self.poll().await?;
        let receipt = self.context.store.subscribe(account, name, subscribed).await?;
        receipt.acknowledge()?;
        self.tell(pending, News::All);
        Ok(Done::new("done").news(News::None))
    }
}

/// RFC 6154 section 3: USEATTR for what cannot be.
fn special_use(asked: &[SpecialUseFlag]) -> Result<Option<SpecialUse>, Fail> {
    match asked {
        [] => Ok(None),
        [one] => Ok(Some(match one {
            SpecialUseFlag::Sent => SpecialUse::Sent,
            SpecialUseFlag::Drafts => SpecialUse::Drafts,
            SpecialUseFlag::Trash => SpecialUse::Trash,
            SpecialUseFlag::Junk => SpecialUse::Junk,
            SpecialUseFlag::Archive => SpecialUse::Archive,
            SpecialUseFlag::Unsupported => {
                return Err(Fail::no("USEATTR", "this special use is not offered"));
            }
        })),
        _ => Err(Fail::no("USEATTR", "a mailbox has one special use")),
    }
}
