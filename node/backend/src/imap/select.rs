//! SELECT, EXAMINE, CLOSE, UNSELECT.

use mailcluster_proto_imap::command::Select;
use mailcluster_store::{Expunge, Mailbox, ReadError, SystemFlag, View};
use mailcluster_types::Uid;

use super::{
    flags,
    reply::{Done, Fail, News, Outcome},
    selected::Selected,
    session::Session,
};

/// Messages looked at in one go, and how often, to find the first unseen one; it is told only when it is near.
const UNSEEN_PAGE: usize = 500;
const UNSEEN_PAGES: usize = 10;

/// A mailbox as SELECT finds it.
struct Opened {
    mailbox: Mailbox,
    uids: Vec<Uid>,
    first_unseen: Option<usize>,
}

impl Session {
    pub(super) async fn select(&mut self, select: Select, read_only: bool) -> Outcome {
        // Whatever happens, the old mailbox is left (RFC 3501 section 6.3.1).
        self.selected = None;
        self.condstore |= select.condstore;
        let Some(found) = self.find(&select.mailbox).await? else {
            return Err(Fail::no("NONEXISTENT", "no such mailbox"));
        };
        // Watched before it is read, so that nothing between is missed.
        let mut watch = self.context.store.watch_mailbox(found.id);
        watch.borrow_and_update();
        let opened = self.context.store.read(move |view| open(view, found.id)).await?;
        let Some(Opened { mailbox, uids, first_unseen }) = opened else {
            return Err(Fail::no("NONEXISTENT", "no such mailbox"));
        };
        let permanent = if read_only { String::new() } else { format!("{} \\*", flags::OFFERED) };
        self.untagged(format!("FLAGS ({})", flags::OFFERED));
        self.untagged(format!("OK [PERMANENTFLAGS ({permanent})] what can be kept"));
        self.untagged(format!("{} EXISTS", uids.len()));
        self.untagged("0 RECENT");
        if let Some(place) = first_unseen {
            self.untagged(format!("OK [UNSEEN {}] first unseen", place + 1));
        }
        self.untagged(format!("OK [UIDVALIDITY {}] UIDs valid", mailbox.uid_validity));
        self.untagged(format!("OK [UIDNEXT {}] next UID", mailbox.uid_next));
        self.untagged(format!("OK [HIGHESTMODSEQ {}] highest", mailbox.highest_modseq.max(1)));
        self.selected = Some(Selected::new(mailbox.id, read_only, mailbox.highest_modseq, uids, watch));
        let code = if read_only { "READ-ONLY" } else { "READ-WRITE" };
        Ok(Done::new("selected").code(code).news(News::None))
    }

    /// RFC 3501 section 6.4.2: what is deleted goes, and nothing is told of it.
    pub(super) async fn close(&mut self) -> Outcome {
        let mailbox = self.mailbox()?;
        let (id, read_only) = (mailbox.id, mailbox.read_only);
        if !read_only {
            self.context.store.expunge(id, Expunge::AllDeleted).await?.acknowledge()?;
        }
        self.selected = None;
        Ok(Done::new("closed").news(News::None))
    }

    pub(super) fn unselect(&mut self) -> Done {
        self.selected = None;
        Done::new("unselected").news(News::None)
    }
}

fn open(view: &View, id: u64) -> Result<Option<Opened>, ReadError> {
    let Some(mailbox) = view.mailbox(id)? else { return Ok(None) };
    let uids = view.uids(id)?;
    let mut first_unseen = None;
    if mailbox.counts.unseen > 0 {
        for (page, chunk) in uids.chunks(UNSEEN_PAGE).take(UNSEEN_PAGES).enumerate() {
            let (Some(from), Some(to)) = (chunk.first(), chunk.last()) else { break };
            let messages = view.messages(id, *from, *to)?;
            if let Some(place) = messages.iter().position(|message| !message.flags.has(SystemFlag::Seen)) {
                first_unseen = Some(page * UNSEEN_PAGE + place);
                break;
            }
        }
    }
    Ok(Some(Opened { mailbox, uids, first_unseen }))
}
