//! FETCH and UID FETCH (RFC 3501 section 6.4.5): page by page, written as it is made.

mod render;
mod structure;

use std::sync::Arc;

use mailcluster_proto_imap::command::{Fetch, FetchItem};
use mailcluster_store::{FlagChange, FlagOp, Flags, Message, SystemFlag};
use mailcluster_types::Uid;
use render::Rendered;
pub(super) use render::Row;

use super::{
    budget,
    reply::{Done, Fail, News, Outcome},
    selected::Selected,
    session::Session,
};

/// Messages of one page.
const PAGE: usize = 500;
/// Widest span of message numbers of one page, so that a sparse set does not read what lies between.
const SPAN: u32 = 2000;

/// What went wrong with single messages while others were told.
#[derive(Default)]
struct Trouble {
    gone: bool,
    damaged: bool,
}

impl Session {
    pub(super) async fn fetch(&mut self, fetch: Fetch) -> Outcome {
        self.condstore |= fetch.items.contains(&FetchItem::ModSeq);
        let mailbox = self.mailbox()?;
        let places = mailbox.resolve(&fetch.set, fetch.uid)?;
        let fetch = Arc::new(fetch);
        let mut trouble = Trouble::default();
        let mut rest = places.as_slice();
        while let Some(first) = rest.first() {
            let length = rest.iter().take(PAGE).take_while(|place| *place - first < SPAN).count();
            let (page, after) = rest.split_at(length);
            rest = after;
            self.fetch_page(page, &fetch, &mut trouble).await?;
        }
        if trouble.damaged {
            return Err(Fail::no("SERVERBUG", "some messages are damaged on disk and could not be read"));
        }
        let done = Done::new("fetched").news(if fetch.uid { News::All } else { News::NoExpunge });
        let gone = trouble.gone || self.selected.as_ref().is_some_and(Selected::has_gone);
        Ok(if gone && !fetch.uid { done.code("EXPUNGEISSUED") } else { done })
    }

    async fn fetch_page(
        &mut self,
        page: &[u32],
        fetch: &Arc<Fetch>,
        trouble: &mut Trouble,
    ) -> Result<(), Fail> {
        let mut rows = self.rows(page).await?;
        // The client's count is ahead of what exists: others have expunged.
        trouble.gone |= rows.len() < page.len();
        if let Some(since) = fetch.changed_since {
            rows.retain(|row| row.message.modseq > since);
        }
        if fetch.items.iter().any(sets_seen) {
            self.set_seen(&mut rows).await?;
        }
        if !fetch.items.iter().any(render::needs_body) {
            for row in &rows {
                render::plain(self.connection.out(), row, fetch, self.condstore);
                self.connection.relieve().await?;
            }
            return Ok(());
        }
        let rows = Arc::new(rows);
        let mut next = 0;
        while next < rows.len() {
            // Held until they are written.
            let _room = budget::going(render::octets_at_once(rows.get(next..).unwrap_or_default())).await?;
            let (rows, fetch, condstore) = (rows.clone(), fetch.clone(), self.condstore);
            let rendered = self
                .context
                .store
                .read(move |view| {
                    render::with_bodies(view, rows.get(next..).unwrap_or_default(), &fetch, condstore)
                })
                .await?;
            let Rendered { pieces, rows, gone, damaged } = rendered;
            next += rows.max(1);
            trouble.gone |= gone;
            trouble.damaged |= damaged;
            self.connection.write_pieces(&pieces).await?;
        }
        Ok(())
    }

    /// The messages at these places (ascending) that still exist.
    pub(super) async fn rows(&mut self, page: &[u32]) -> Result<Vec<Row>, Fail> {
        let mailbox = self.mailbox()?;
        let (id, uids) = (mailbox.id, mailbox.uids_at(page));
        let (Some(&from), Some(&to)) = (uids.first(), uids.last()) else { return Ok(Vec::new()) };
        let messages = self.context.store.read(move |view| view.messages(id, from, to)).await?;
        let wanted: Vec<(u32, Uid)> = page.iter().map(|place| place + 1).zip(uids).collect();
        Ok(pair(&wanted, messages))
    }

    /// Sets `\Seen` where it is missing (RFC 3501 section 6.4.5, BODY[...]); the flags then go with the answer.
    async fn set_seen(&mut self, rows: &mut [Row]) -> Result<(), Fail> {
        let mailbox = self.mailbox()?;
        let unseen = rows.iter().filter(|row| !row.message.flags.has(SystemFlag::Seen));
        let uids: Vec<Uid> = unseen.map(|row| row.message.uid).collect();
        if mailbox.read_only || uids.is_empty() {
            return Ok(());
        }
        let change = FlagChange {
            mailbox: mailbox.id,
            uids,
            op: FlagOp::Add,
            flags: Flags::default().with(SystemFlag::Seen),
            unchanged_since: None,
        };
        let changed = self.context.store.set_flags(change).await?.acknowledge()?;
        let Some(mailbox) = &mut self.selected else { return Ok(()) };
        for (uid, modseq, flags) in changed.now {
            mailbox.knows(uid, modseq);
            if let Ok(place) = rows.binary_search_by_key(&uid, |row| row.message.uid)
                && let Some(row) = rows.get_mut(place)
            {
                row.message.flags = flags;
                row.message.modseq = modseq;
                row.tell_flags = true;
            }
        }
        Ok(())
    }
}

/// Finds each wanted message among those read; both ascend.
fn pair(wanted: &[(u32, Uid)], messages: Vec<Message>) -> Vec<Row> {
    let mut wanted = wanted.iter().peekable();
    let mut rows = Vec::new();
    for message in messages {
        while wanted.next_if(|(_, uid)| *uid < message.uid).is_some() {}
        if let Some(&(number, _)) = wanted.next_if(|(_, uid)| *uid == message.uid) {
            rows.push(Row { number, message, tell_flags: false });
        }
    }
    rows
}

fn sets_seen(item: &FetchItem) -> bool {
    matches!(item, FetchItem::Section(section) if !section.peek)
}
