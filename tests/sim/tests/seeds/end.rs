//! How a seed ends: everything is there, once, and the same everywhere.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, atomic::Ordering},
};

use mailcluster_replication::Compares;
use mailcluster_store::{
    Fetched, Follower, Identity, LogReader, LoggedBatch, Message, Replica, Siblings, View, Wanted, lend,
    testing::{rows, volume::Crash},
};
use mailcluster_types::{AccountId, DeliveryId};

use crate::{clients::ACCOUNTS, ledger::is_text_of, net::Place, world::World};

/// What nobody had is not asked for again for so long, and a little more.
const AGAIN: u64 = 70_000;

/// The other copies of a store that nobody serves.
struct Dirs(Vec<(PathBuf, Identity)>);

impl Siblings for Dirs {
    fn fetch(&self, wanted: &Wanted) -> Fetched {
        let lent = self.0.iter().find_map(|(dir, identity)| lend(dir, identity, wanted).ok().flatten());
        lent.map_or(Fetched::Nowhere, Fetched::Batch)
    }
}

/// A copy's log, and its index at the log's end.
type Copy = (Vec<LoggedBatch>, Vec<String>);

impl World {
    /// Everything is there, once, and the same everywhere.
    pub fn finish(&mut self) -> Result<(), String> {
        let before = self.ledger.counts();
        self.until(30_000, |world| {
            let now = world.ledger.counts();
            now.delivered > before.delivered && now.flagged > before.flagged && world.is_well()
        })?
        .ok_or_else(|| format!("I11 progress: nothing is acknowledged any more: {}", self.picture()))?;
        self.around.clients.are_quiet.store(true, Ordering::Relaxed);
        self.go_on(6_000)?;
        self.until(30_000, Self::is_well)?.ok_or("it does not stay well")?;
        if self.read_all()?.is_some() {
            self.go_on(AGAIN)?;
            let again = self.read_all()?;
            let place = self.serving().map(|(place, _)| place);
            if let Some(why) = again.filter(|_| !place.is_some_and(|place| self.has_lost_for_good(place))) {
                return Err(format!("another copy has it, and it is not served: {why}: {}", self.picture()));
            }
        }
        self.ledger.check_all();
        if let Some(sin) = self.ledger.sins().first() {
            return Err(format!("in the end: {sin}"));
        }
        self.compare()
    }

    /// Reads everything where the store is served; answers why a text cannot be read.
    fn read_all(&mut self) -> Result<Option<String>, String> {
        let (place, store) = self.serving().ok_or("nobody serves in the end")?;
        let process = self.nodes[place].process.as_ref().ok_or("no process")?;
        let (wrong, mail, texts) = process
            .block_on(store.read(|view| {
                let mut all: BTreeMap<u128, Vec<Message>> = BTreeMap::new();
                for n in 1..=ACCOUNTS {
                    for mailbox in view.mailboxes(AccountId(n))? {
                        all.entry(n).or_default().extend(view.messages(mailbox.id, 1, u32::MAX)?);
                    }
                }
                Ok((view.verify()?, all, texts(view)))
            }))
            .map_err(|error| format!("it cannot be read in the end: {error}"))?;
        drop(store);
        if !wrong.is_empty() {
            return Err(format!("counters are wrong: {wrong:?}"));
        }
        self.ledger.settle(&mail);
        texts
    }

    /// Indexes were compared all the time, and never differed.
    pub fn compared(&self) -> Result<(u64, u64), String> {
        let mut sum = (0, 0);
        for (place, node) in self.nodes.iter().enumerate() {
            let Compares { slices, passes, alarms } = node.comparing.counts();
            if alarms > 0 {
                return Err(format!(
                    "replica {place} found that another's index differs: {:?}",
                    node.comparing.differing()
                ));
            }
            sum = (sum.0 + slices, sum.1 + passes);
        }
        Ok(sum)
    }

    /// All replicas have the same log, and at its end the same index. What is damaged in one is as another has it.
    fn compare(&mut self) -> Result<(), String> {
        for node in &mut self.nodes {
            node.crash(Crash::Process);
        }
        let mut first: Option<Copy> = None;
        for place in 0..self.nodes.len() {
            let this = match self.copy(place) {
                Ok(this) => this,
                // It says so; another has its place then.
                Err(_) if self.nodes[place].volume.is_hurt() && self.may_be_refused(place) => continue,
                Err(why) => {
                    return Err(format!("replica {place}: {why}: {:?}", self.nodes[place].volume.damaged()));
                }
            };
            let error = |what: String| format!("replica {place}: {what}");
            match &first {
                None => first = Some(this),
                Some((log, _)) if !log.ends_with(&this.0) && !this.0.ends_with(log) => {
                    return Err(error("I5: its log is another".into()));
                }
                Some((_, index)) if *index != this.1 => {
                    let other = index.iter().zip(&this.1).find(|(a, b)| a != b);
                    return Err(error(format!("its index is another: {other:?}")));
                }
                Some(_) => {}
            }
        }
        Ok(())
    }

    /// Is it damaged where nobody else has it, or where only the opening of the copy would read it?
    fn may_be_refused(&self, place: Place) -> bool {
        let node = &self.nodes[place];
        let opens = Replica::open_with(node.dir(), &node.identity(), &node.options()).is_ok();
        let (damaged, _) = node.volume.damaged();
        let adjacent = |a: u64| damaged.iter().any(|other| other.first == a + 1);
        !opens || self.has_lost_for_good(place) || damaged.iter().any(|batch| adjacent(batch.last))
    }

    fn copy(&self, place: Place) -> Result<Copy, String> {
        let node = &self.nodes[place];
        let (dir, identity) = (node.dir().to_owned(), node.identity());
        let replica = Replica::open_with(&dir, &identity, &node.options()).map_err(|e| e.to_string())?;
        let mut follower = Follower::new(replica).map_err(|e| e.to_string())?;
        let others = self.nodes.iter().enumerate().filter(|(other, _)| *other != place);
        let others = others.map(|(_, node)| (node.dir().to_owned(), node.identity())).collect();
        let repairs = follower.repairs();
        repairs.ask(Some(Arc::new(Dirs(others))));
        let end = follower.end();
        follower.advance(end.seq).map_err(|e| e.to_string())?;
        let index = rows::rows(&dir, &["replica", "segment", "offset", "start", "end"]);
        // Each has given back some of it by itself.
        let from = LogReader::first(&dir).map_err(|e| e.to_string())?.saturating_sub(1);
        let mut reader = LogReader::after(&dir, identity, from).map_err(|e| e.to_string())?;
        let mut log = Vec::new();
        loop {
            match reader.next(end.seq) {
                Ok(None) => break,
                Ok(Some(batch)) => log.push(batch),
                Err(why) => log.push(reader.restored(&repairs).ok_or(why.to_string())?),
            }
        }
        match texts(&follower.into_replica().view())? {
            None => Ok((log, index)),
            Some(why) => Err(why),
        }
    }
}

/// Reads every message; answers why one cannot be read. An error: it is another than was sent.
fn texts(view: &View) -> Result<Option<String>, String> {
    let mut failed = None;
    for n in 1..=ACCOUNTS {
        for mailbox in view.mailboxes(AccountId(n)).map_err(|e| e.to_string())? {
            for message in view.messages(mailbox.id, 1, u32::MAX).map_err(|e| e.to_string())? {
                let is_right =
                    |text: &[u8]| message.delivery.is_none_or(|id: DeliveryId| is_text_of(id, text));
                match view.body(message.body) {
                    Ok(text) if is_right(&text) => {}
                    Ok(_) => return Err(format!("message {} is served with another text", message.uid)),
                    Err(why) => failed = Some(format!("message {}: {why}", message.uid)),
                }
            }
        }
    }
    Ok(failed)
}
