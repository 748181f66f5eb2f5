//! `store fsck`: checks all of a stopped store, and changes nothing.

use std::{fs, io, path::Path};

use mailcluster_types::Seq;
use rusqlite::Connection;

use super::{PAGE, Share, ToolError, UIDS, each_account, each_recoverable, lengths::Lengths, salvage};
use crate::{
    base,
    engine::Engine,
    error::{OpenError, ReadError},
    log_walk::{LogWalk, Piece},
    model::{Account, Mailbox},
    pack,
    replica::Identity,
    schema::{self, State},
    segment,
    superblock::Superblock,
    view::View,
    volume,
};

/// What was looked at so far, and how much of it is wrong.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Checked {
    /// Segments of the log.
    pub segments: u64,
    /// Packs, which hold what is left of segments that were given back.
    pub packs: u64,
    /// Batches that are whole.
    pub batches: u64,
    /// Octets of segments and packs.
    pub log: Share,
    /// Messages in mailboxes and queues, and expunged ones that are kept, whose texts were read.
    pub messages: u64,
    /// So many there are by the index's counters; 0 as long as nobody has asked it.
    pub expected: u64,
    /// Octets of the log of which an index was made, to compare.
    pub made_anew: Share,
    /// Problems; each is told of.
    pub problems: u64,
}

/// Checks the store in `dir`: superblock, every batch of the log, the index by itself, and every message's text. With
/// `scratch`, which must be empty or not there, an index is made there from the log and compared with the store's, so
/// that an index that is wrong and makes sense is found, too. Nothing of the store is changed; what was not closed in
/// order is left as it is. `found` is called at every step, with a line when something is wrong or to be said.
///
/// # Errors
/// When it is in use, or cannot be read at all. What is wrong with it is no error.
pub fn fsck(
    dir: &Path,
    scratch: Option<&Path>,
    found: &mut dyn FnMut(&Checked, Option<&str>),
) -> Result<Checked, ToolError> {
    let _lock = volume::lock(dir)?;
    let mut check = Check { done: Checked::default(), found };
    if let Err(error) = Superblock::read(dir) {
        match &error {
            OpenError::Damaged(_) | OpenError::NewerFormat { .. } => check.problem(&error.to_string()),
            _ => return Err(error.into()),
        }
    }
    let identity = salvage::identity(dir)?;
    let end = check.log(dir, &identity)?;
    let can_compare = check.given_back(dir, &identity)?;
    let index =
        schema::open_reader(dir).and_then(|conn| Ok((salvage::integrity(&conn)?, State::load(&conn)?)));
    match index {
        Ok((problems, state)) if problems.is_empty() => {
            if state.link.seq > end {
                let at = state.link.seq;
                check.problem(&format!("the index has records up to {at}, and the log ends with {end}"));
            }
            check.texts(&salvage::pool(dir, dir).view())?;
            if let Some(scratch) = scratch {
                check.compare(dir, &identity, scratch, can_compare)?;
            }
        }
        Ok((problems, _)) => problems.iter().for_each(|what| check.problem(&format!("the index: {what}"))),
        Err(error) => check.problem(&format!("the index: {error}")),
    }
    Ok(check.done)
}

struct Check<'a> {
    done: Checked,
    found: &'a mut dyn FnMut(&Checked, Option<&str>),
}

impl Check<'_> {
    fn problem(&mut self, what: &str) {
        self.done.problems += 1;
        self.say(what);
    }

    fn say(&mut self, what: &str) {
        (self.found)(&self.done, Some(what));
    }

    fn reached(&mut self) {
        (self.found)(&self.done, None);
    }

    /// Is every batch whole? Answers the last record.
    fn log(&mut self, dir: &Path, identity: &Identity) -> Result<Seq, ToolError> {
        let log = Engine::log_dir(dir);
        let numbers = [segment::list(&log)?, segment::packs(&log)?].concat();
        let lengths = Lengths::of(&log, &numbers)?;
        self.done.log.of = lengths.total;
        let mut each = |piece| match piece {
            Piece::Batch(placed, _) => {
                self.done.batches += 1;
                self.done.log.done = lengths.up_to(placed.segment, placed.offset);
                self.reached();
            }
            Piece::Damage(what) => self.problem(&what),
            Piece::Torn(what) => self.say(&what),
        };
        let mut walk = LogWalk::new(&log, identity, salvage::contiguous_from(dir), &mut each);
        walk.run()?;
        let (segments, end) = (walk.segments, walk.link.seq);
        self.done.segments = segments;
        Ok(end)
    }

    /// What takes the place of a log's beginning: is it whole? Answers whether an index could be made from it.
    fn given_back(&mut self, dir: &Path, identity: &Identity) -> Result<bool, ToolError> {
        let log = Engine::log_dir(dir);
        let packs = segment::packs(&log)?;
        let lengths = Lengths::of(&log, &packs)?;
        let segments = self.done.log.of.saturating_sub(lengths.total);
        for number in packs {
            self.done.packs += 1;
            self.done.log.done = segments + lengths.up_to(number, 0);
            self.reached();
            pack::walk(&log, number, identity, &mut |piece| {
                if let pack::Piece::Damage(what) = piece {
                    self.problem(&what);
                }
            })?;
        }
        self.done.log.done = self.done.log.of;
        let from = salvage::contiguous_from(dir);
        if (from > 0 || !base::list(dir)?.is_empty())
            && let Err(what) = base::newest(dir, identity, from)?
        {
            self.problem(&what);
        }
        Ok(self.done.problems == 0)
    }

    /// Counters against rows, and every text against its checksum.
    fn texts(&mut self, view: &View) -> Result<(), ToolError> {
        for what in view.verify()? {
            self.problem(&format!("the index: {what}"));
        }
        // One whose counters make no sense is said already.
        let there = view.texts().unwrap_or_default();
        self.done.expected = there.mailboxes.saturating_add(there.queued).saturating_add(there.expunged);
        each_account(view, |account| self.account(view, account))?;
        let mut after = None;
        loop {
            let page = view.queue(after, PAGE)?;
            let Some(last) = page.last() else { return Ok(()) };
            after = Some(last.delivery);
            for item in &page {
                self.text(view, item.body, &|| format!("queued message {}", item.delivery))?;
            }
        }
    }

    fn account(&mut self, view: &View, account: &Account) -> Result<(), ToolError> {
        for mailbox in view.mailboxes(account.id)? {
            self.mailbox(view, account, &mailbox)?;
        }
        each_recoverable(view, account.id, |gone| {
            let name = || format!("expunged message {}/{}/{}", account.address, gone.name, gone.uid);
            self.text(view, gone.body, &name)
        })
    }

    fn mailbox(&mut self, view: &View, account: &Account, mailbox: &Mailbox) -> Result<(), ToolError> {
        for from in (1..mailbox.uid_next).step_by(UIDS as usize) {
            for message in view.messages(mailbox.id, from, from.saturating_add(UIDS - 1))? {
                let name = || format!("message {}/{}/{}", account.address, mailbox.name, message.uid);
                self.text(view, message.body, &name)?;
            }
        }
        Ok(())
    }

    fn text(&mut self, view: &View, body: u64, name: &dyn Fn() -> String) -> Result<(), ToolError> {
        self.done.messages += 1;
        self.reached();
        match view.body(body) {
            Ok(_) => Ok(()),
            Err(ReadError::Damaged(what)) => {
                self.problem(&format!("{} is damaged: {what}", name()));
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The index against one that is made from the log, row by row.
    fn compare(
        &mut self,
        dir: &Path,
        identity: &Identity,
        scratch: &Path,
        can_compare: bool,
    ) -> Result<(), ToolError> {
        if !can_compare {
            self.say("the log is damaged: the index is not compared with one that is made from it");
            return Ok(());
        }
        fs::create_dir_all(scratch)?;
        if fs::read_dir(scratch)?.next().is_some() {
            let why = format!("{} is not empty", scratch.display());
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, why).into());
        }
        salvage::rebuild(dir, identity, scratch, &mut |said| match said {
            salvage::Said::Problem(what) => self.problem(what),
            salvage::Said::MadeAnew(share) => {
                self.done.made_anew = share;
                self.reached();
            }
        })?;
        let differing = differing(dir, scratch).map_err(|e| OpenError::Index(e.to_string()))?;
        for (table, rows) in differing {
            self.problem(&format!("the index: {rows} rows of table {table} differ from what the log says"));
        }
        Ok(())
    }
}

/// An index that was not brought up to this version has nothing of what is new: nor has its log.
fn has_table(conn: &Connection, name: &str) -> rusqlite::Result<bool> {
    conn.query_row(
        "SELECT EXISTS(SELECT 1 FROM live.sqlite_master WHERE type='table' AND name=?)",
        [name],
        |r| r.get(0),
    )
}

/// The tables whose rows differ, and in how many. What the index has not applied yet of a store that was not closed in
/// order counts, too.
fn differing(dir: &Path, scratch: &Path) -> rusqlite::Result<Vec<(String, u64)>> {
    let conn = schema::open_reader(scratch)?;
    conn.execute("ATTACH ? AS live", [schema::path(dir).display().to_string()])?;
    let mut tables = conn.prepare(
        "SELECT name FROM main.sqlite_master WHERE type='table' AND name NOT LIKE 'sqlite_%' ORDER BY name",
    )?;
    let names = tables.query_map([], |r| r.get::<_, String>(0))?.collect::<rusqlite::Result<Vec<_>>>()?;
    let mut found = Vec::new();
    for name in names {
        if !has_table(&conn, &name)? {
            continue;
        }
        // Where a body lies says nothing of what it is: its text was checked.
        let columns = if name == "body" { "id, len, crc, refs, prefix" } else { "*" };
        let less = |a: &str, b: &str| {
            format!(
                "SELECT count(*) FROM (SELECT {columns} FROM {a}.{name} EXCEPT SELECT {columns} FROM {b}.{name})"
            )
        };
        let count = |sql: &str| conn.query_row(sql, [], |r| r.get::<_, u64>(0));
        let rows = count(&less("main", "live"))?.max(count(&less("live", "main"))?);
        if rows > 0 {
            found.push((name, rows));
        }
    }
    Ok(found)
}
