//! One account from begin to end: every folder of its sources, again and again while the server is away.

use std::{
    collections::HashSet,
    io::{Read, Write},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use crate::{
    Event, Journal, JournalError, Key, Listener, Progress, Source, Unread,
    append::{Filling, Target, told_once},
    imap::{Client, Condition, ConnectError, ImapError, Server, quoted},
    settle::{self, Opened, Unsettled},
    source::Folder,
};

/// Longest pause between two tries.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// Longest mailbox name in octets that a server takes.
const MAX_NAME: usize = 1000;
/// What is brought into one account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// The account.
    pub address: String,
    /// Maildirs and mbox files, with the mailbox that the top of each becomes.
    pub sources: Vec<(PathBuf, String)>,
}

/// A response to AUTHENTICATE PLAIN, or why there is none.
pub enum Login {
    /// In base 64.
    Response(String),
    /// Not now: worth another try.
    Later(String),
    /// Not for this account.
    Never(String),
}

/// What all accounts share.
pub struct Work<'a> {
    /// Where to.
    pub server: &'a Server,
    /// How to log in to an account.
    pub login: &'a (dyn Fn(&str) -> Login + Sync),
    /// The folder of journals.
    pub journals: &'a Path,
    /// Counts.
    pub progress: &'a Progress,
    /// Who is told what is skipped, and what is waited for.
    pub listener: Listener<'a>,
    /// An account that does not get on for this long is given up.
    pub patience: Duration,
}

/// Why a try ended.
#[derive(Debug)]
pub(crate) enum Stop {
    /// Another one may get on.
    Again(String),
    /// The account is done with.
    Account(String),
}

impl From<ImapError> for Stop {
    fn from(error: ImapError) -> Self {
        match error {
            ImapError::Unable(_) => Self::Account(error.to_string()),
            _ => Self::Again(error.to_string()),
        }
    }
}

impl From<ConnectError> for Stop {
    fn from(error: ConnectError) -> Self {
        match error {
            ConnectError::Tls(..) => Self::Account(error.to_string()),
            ConnectError::Imap(error) => error.into(),
            ConnectError::Unreachable(..) => Self::Again(error.to_string()),
        }
    }
}

impl From<JournalError> for Stop {
    fn from(error: JournalError) -> Self {
        Self::Account(error.to_string())
    }
}

/// Brings all that there is of one account. What was brought stays, however it ends.
///
/// # Errors
/// Why not all of it could be tried, for people.
pub fn run(job: &Job, work: &Work<'_>) -> Result<(), String> {
    let mut sources = Vec::new();
    for (path, mailbox) in &job.sources {
        sources.push(Source::open(path, mailbox).map_err(|error| error.to_string())?);
    }
    let journal = Journal::open(work.journals, &job.address).map_err(|error| error.to_string())?;
    Progress::add(&work.progress.earlier, journal.count());
    let mut account =
        Account { job, work, journal, told: HashSet::new(), refused: HashSet::new(), done: HashSet::new() };
    let mut tries = Tries::new(work.patience);
    loop {
        let before = account.journal.lines();
        let why = match account.once(&sources) {
            Ok(()) => return Ok(()),
            Err(Stop::Account(why)) => return Err(why),
            Err(Stop::Again(why)) => why,
        };
        let Some(pause) = tries.pause(Instant::now(), account.journal.lines() > before) else {
            return Err(why);
        };
        (work.listener)(&job.address, &Event::Waiting { why });
        thread::sleep(pause);
    }
}

/// When to try again.
struct Tries {
    patience: Duration,
    since: Option<Instant>,
    pause: Duration,
}

impl Tries {
    fn new(patience: Duration) -> Self {
        Self { patience, since: None, pause: Duration::ZERO }
    }

    /// After a try that ended: how long to wait for the next one; `None`: it has been long enough.
    fn pause(&mut self, now: Instant, got_on: bool) -> Option<Duration> {
        if got_on {
            *self = Self::new(self.patience);
        }
        let since = *self.since.get_or_insert(now);
        if now.saturating_duration_since(since) >= self.patience {
            return None;
        }
        self.pause = (self.pause * 2).clamp(Duration::from_secs(1), LONGEST_PAUSE).min(self.patience);
        Some(self.pause)
    }
}

struct Account<'a> {
    job: &'a Job,
    work: &'a Work<'a>,
    journal: Journal,
    /// What was told as not brought.
    told: HashSet<Key>,
    /// Messages that the server does not take, by mailbox.
    refused: HashSet<(usize, Key)>,
    /// Folders that are through, by source and folder.
    done: HashSet<(usize, Vec<u8>)>,
}

impl Account<'_> {
    fn once(&mut self, sources: &[Source]) -> Result<(), Stop> {
        let response = match (self.work.login)(&self.job.address) {
            Login::Response(response) => response,
            Login::Later(why) => return Err(Stop::Again(why)),
            Login::Never(why) => return Err(Stop::Account(why)),
        };
        let mut client = self.work.server.connect()?;
        if let Some(refused) = client.log_in(&response)? {
            return Err(Stop::Again(format!("no login: {}", refused.text)));
        }
        for (number, source) in sources.iter().enumerate() {
            self.source(&mut client, number, source)?;
        }
        let _polite = client.command("LOGOUT", &mut |_| ());
        Ok(())
    }

    fn source<S: Read + Write>(
        &mut self,
        client: &mut Client<S>,
        number: usize,
        source: &Source,
    ) -> Result<(), Stop> {
        let folders = source.folders(&mut |what, why| self.tell(what, &why.to_string()));
        for folder in &folders {
            let place = (number, folder.dir.clone());
            if !self.done.contains(&place) {
                self.folder(client, source, folder)?;
                self.done.insert(place);
            }
        }
        let subscribed = source.subscriptions(&mut |what, why| self.tell(what, &why.to_string()));
        // Who says nothing of it would see none of his folders in most clients.
        let names = subscribed.unwrap_or_else(|| folders.into_iter().map(|folder| folder.mailbox).collect());
        for name in names.iter().filter(|name| fits(name)) {
            if self.journal.is_subscribed(name) {
                continue;
            }
            let answer = client.command(&format!("SUBSCRIBE {}", quoted(name)), &mut |_| ())?;
            match answer.condition {
                Condition::Ok => self.journal.subscribed(name)?,
                _ => self.tell(&format!("subscription to {name}"), &Unread::Refused(answer.text).to_string()),
            }
        }
        Ok(())
    }

    fn folder<S: Read + Write>(
        &mut self,
        client: &mut Client<S>,
        source: &Source,
        folder: &Folder,
    ) -> Result<(), Stop> {
        let name = folder.mailbox.as_str();
        let opened = match open_or_create(client, name)? {
            Ok(opened) => opened,
            Err(why) => {
                self.tell(&format!("folder {name}"), &Unread::Refused(why).to_string());
                return Ok(());
            }
        };
        let number = self.journal.mailbox(name, opened.uid_validity)?;
        let last = self.journal.last_uid(number);
        let mut unsettled = Unsettled::default();
        if opened.uid_next > last.saturating_add(1) {
            unsettled = Unsettled::look(client, last)?;
        }
        let is_open = !unsettled.is_empty();
        if !is_open {
            // The server would tell this session of each message that it appends.
            client.command("UNSELECT", &mut |_| ())?;
        }
        let limit = client.max_message;
        let into = Target { name, number, uid_validity: opened.uid_validity, is_open };
        let work = self.work;
        let mut tell = told_once(&self.job.address, work.progress, work.listener, &mut self.told);
        let mut filling = Filling::new(
            client,
            &mut self.journal,
            work.progress,
            &mut tell,
            (into, unsettled),
            &mut self.refused,
        );
        source.visit(folder, limit, &mut filling)?;
        filling.finish()
    }

    fn tell(&mut self, what: &str, why: &str) {
        let work = self.work;
        told_once(&self.job.address, work.progress, work.listener, &mut self.told)(what, why);
    }
}

/// Opens a mailbox, made first when it is not there. The inner error: the server does not want one of this name.
fn open_or_create<S: Read + Write>(
    client: &mut Client<S>,
    name: &str,
) -> Result<Result<Opened, String>, Stop> {
    if !fits(name) {
        return Ok(Err(format!("a mailbox name has at most {MAX_NAME} octets")));
    }
    if let Some(opened) = settle::open(client, name)? {
        return Ok(Ok(opened));
    }
    let answer = client.command(&format!("CREATE {}", quoted(name)), &mut |_| ())?;
    match (answer.condition, answer.code.as_str()) {
        (Condition::Ok, _) | (_, "ALREADYEXISTS") => {}
        (Condition::No, "CANNOT") | (Condition::Bad, _) => return Ok(Err(answer.text)),
        (Condition::No, _) => return Err(Stop::Again(format!("{name} could not be made: {}", answer.text))),
    }
    let opened = settle::open(client, name)?;
    opened.map(Ok).ok_or_else(|| Stop::Again(format!("{name} is gone again")))
}

fn fits(name: &str) -> bool {
    (1..=MAX_NAME).contains(&name.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patience_counts_from_the_last_time_that_it_got_on() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut tries = Tries::new(Duration::from_secs(100));
        let mut pauses = Vec::new();
        for now in [0, 5, 10, 20, 40, 70, 99] {
            pauses.push(tries.pause(at(now), false).map(|pause| pause.as_secs()));
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 30, 30].map(Some));
        assert_eq!(tries.pause(at(100), false), None);
        assert_eq!(tries.pause(at(150), true), Some(Duration::from_secs(1)));
        assert_eq!(tries.pause(at(250), false), None);
    }
}
