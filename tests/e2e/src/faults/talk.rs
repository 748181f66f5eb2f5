//! What actors say to a server, and what its answers mean.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use mailcluster_test_clients::{ImapClient, Tls, Untagged, damage, message, token_of};

use super::{
    model::Refusal,
    world::{Change, Flags, Op, Seen, SeenMessage, Told},
};
use crate::layout::PASSWORD;

/// How long an answer is waited for: less than a dead node is silent.
const PATIENCE: Duration = Duration::from_secs(10);
/// Octets of each message.
const SIZE: usize = 900;

/// What became of a command.
#[derive(Debug)]
pub(super) enum Answer<T> {
    /// OK, with this.
    Done(T),
    /// NO.
    No(Refusal),
    /// The connection is broken or silent.
    None(String),
    /// What no server may say here.
    Wrong(String),
}

/// A connection that is logged in.
pub(super) struct Talk {
    client: ImapClient,
    selected: Option<String>,
}

impl Talk {
    /// Connects and logs in.
    pub fn start(imap: SocketAddr, user: &str) -> Answer<Self> {
        let mut client = match ImapClient::connect(imap, Tls::Implicit, PATIENCE) {
            Ok(client) => client,
            Err(error) => return Answer::None(format!("{error:#}")),
        };
        match client.command(&format!("LOGIN \"{user}\" \"{PASSWORD}\"")) {
            Ok((_, tagged)) if tagged.starts_with("OK") => Answer::Done(Self { client, selected: None }),
            Ok((_, tagged)) => refused("LOGIN", &tagged),
            Err(error) => Answer::None(format!("{error:#}")),
        }
    }

    fn command(&mut self, line: &str) -> Answer<(Vec<Untagged>, String)> {
        match self.client.command(line) {
            Ok((untagged, tagged)) if tagged.starts_with("OK") => Answer::Done((untagged, tagged)),
            Ok((_, tagged)) => refused(line, &tagged),
            Err(error) => Answer::None(format!("{error:#}")),
        }
    }

    /// The names of all mailboxes.
    pub fn list(&mut self) -> Answer<BTreeSet<String>> {
        self.command("LIST \"\" \"*\"").and_then(|(untagged, _)| {
            let lines = untagged.iter().filter(|u| u.line.starts_with("* LIST "));
            let names = lines.map(|u| Some(u.line.rsplit_once(' ')?.1.trim_matches('"').to_owned()));
            names.collect::<Option<_>>().context("LIST")
        })
    }

    /// SELECT, and every message in it.
    pub fn look(&mut self, mailbox: &str) -> Answer<Seen> {
        self.selected = None;
        let selected = match self.command(&format!("SELECT {mailbox}")) {
            Answer::Done((untagged, _)) => untagged,
            other => return other.and_then(|_| bail!("SELECT")),
        };
        self.selected = Some(mailbox.to_owned());
        self.command("UID FETCH 1:* (UID FLAGS BODY.PEEK[])")
            .and_then(|(fetched, _)| seen(&selected, &fetched))
    }

    /// Asks for an operation.
    pub fn ask(&mut self, op: &Op) -> Answer<Told> {
        let of = match op {
            Op::Append { mailbox, token, flags } => return self.append(mailbox, token, flags),
            Op::Store { mailbox, .. } | Op::Expunge { mailbox, .. } => Some(mailbox),
            Op::Copy { from, .. } | Op::Move { from, .. } => Some(from),
            Op::Create { .. } | Op::Rename { .. } | Op::Delete { .. } => None,
        };
        if let Some(mailbox) = of.filter(|mailbox| self.selected.as_ref() != Some(mailbox)) {
            self.selected = None;
            match self.command(&format!("SELECT {mailbox}")) {
                Answer::Done(_) => self.selected = Some(mailbox.clone()),
                // Nothing was asked for yet: what follows from it is the same as if it had been.
                other => return other.and_then(|_| bail!("SELECT")),
            }
        } else if of.is_none() && op.names().iter().any(|name| self.selected.as_deref() == Some(name)) {
            // A selected mailbox that is deleted or renamed ends the session, or goes on under its new name.
            self.selected = None;
            if let Answer::None(why) = self.command("UNSELECT") {
                return Answer::None(why);
            }
        }
        self.command(&line(op)).and_then(|(untagged, tagged)| told(&untagged, &tagged))
    }

    fn append(&mut self, mailbox: &str, token: &str, flags: &Flags) -> Answer<Told> {
        let words: Vec<&str> = flags.iter().map(String::as_str).collect();
        match self.client.append(mailbox, &words.join(" "), &message(token, SIZE)) {
            Ok(tagged) if tagged.starts_with("OK") => Answer::Done((Vec::new(), tagged))
                .and_then(|(untagged, tagged): (Vec<Untagged>, String)| told(&untagged, &tagged)),
            // A line that comes instead of the call for the message, with BYE in it, is no answer.
            Ok(line) if line.starts_with('*') => Answer::None(line),
            Ok(tagged) => refused("APPEND", &tagged),
            Err(error) => Answer::None(format!("{error:#}")),
        }
    }
}

impl<T> Answer<T> {
    /// What cannot be read is wrong.
    pub fn and_then<U>(self, read: impl FnOnce(T) -> Result<U>) -> Answer<U> {
        match self {
            Self::Done(value) => match read(value) {
                Ok(value) => Answer::Done(value),
                Err(error) => Answer::Wrong(format!("{error:#}")),
            },
            Self::No(refusal) => Answer::No(refusal),
            Self::None(why) => Answer::None(why),
            Self::Wrong(what) => Answer::Wrong(what),
        }
    }
}

/// What a NO or BAD means. A wrong password is what nobody may be told here.
fn refused<T>(command: &str, tagged: &str) -> Answer<T> {
    let code = tagged.strip_prefix("NO [").and_then(|rest| rest.split([']', ' ']).next());
    match code {
        Some("NONEXISTENT" | "TRYCREATE") => Answer::No(Refusal::Missing),
        Some("ALREADYEXISTS") => Answer::No(Refusal::Exists),
        Some("UNAVAILABLE") => Answer::No(Refusal::Unavailable),
        _ => Answer::Wrong(format!("{command} was answered by {tagged:?}")),
    }
}

fn line(op: &Op) -> String {
    let list = |flags: &Flags| flags.iter().map(String::as_str).collect::<Vec<_>>().join(" ");
    let set = |uids: &[u32]| uids.iter().map(u32::to_string).collect::<Vec<_>>().join(",");
    match op {
        Op::Append { mailbox, .. } => format!("APPEND {mailbox}"),
        Op::Store { uids, change, flags, .. } => {
            let sign = match change {
                Change::Add => "+",
                Change::Remove => "-",
                Change::Replace => "",
            };
            format!("UID STORE {} {sign}FLAGS ({})", set(uids), list(flags))
        }
        Op::Copy { uids, to, .. } => format!("UID COPY {} {to}", set(uids)),
        Op::Move { uids, to, .. } => format!("UID MOVE {} {to}", set(uids)),
        Op::Expunge { uids, .. } => format!("UID EXPUNGE {}", set(uids)),
        Op::Create { name } => format!("CREATE {name}"),
        Op::Rename { from, to } => format!("RENAME {from} {to}"),
        Op::Delete { name } => format!("DELETE {name}"),
    }
}

/// APPENDUID, COPYUID and flags.
fn told(untagged: &[Untagged], tagged: &str) -> Result<Told> {
    let mut told = Told::default();
    let lines = untagged.iter().map(|untagged| untagged.line.as_str()).chain([tagged]);
    for words in lines.filter_map(|line| Some(line.split_once('[')?.1.split_once(']')?.0)) {
        match words.split(' ').collect::<Vec<_>>()[..] {
            ["APPENDUID", validity, uid] => {
                told.validity = Some(validity.parse()?);
                told.uids = vec![(0, uid.parse()?)];
            }
            ["COPYUID", validity, old, new] => {
                told.validity = Some(validity.parse()?);
                let (old, new) = (numbers(old)?, numbers(new)?);
                ensure!(old.len() == new.len(), "COPYUID {words}");
                told.uids = old.into_iter().zip(new).collect();
            }
            _ => {}
        }
    }
    for untagged in untagged.iter().filter(|untagged| untagged.line.contains(" FETCH (")) {
        let fetched = untagged.fetched()?;
        told.flags.insert(fetched.uid, flags(&fetched.flags));
    }
    Ok(told)
}

/// `304,319:320`
fn numbers(set: &str) -> Result<Vec<u32>> {
    let mut all = Vec::new();
    for part in set.split(',') {
        let (from, to) = part.split_once(':').unwrap_or((part, part));
        let (from, to): (u32, u32) = (from.parse()?, to.parse()?);
        ensure!(to >= from && to - from < 1000, "a set of UIDs: {set}");
        all.extend(from..=to);
    }
    Ok(all)
}

fn seen(selected: &[Untagged], fetched: &[Untagged]) -> Result<Seen> {
    let number = |name: &str| -> Result<u64> {
        let found = selected.iter().find_map(|u| u.line.strip_prefix(&format!("* OK [{name} ")));
        let number = found.and_then(|rest| rest.split(']').next()).and_then(|number| number.parse().ok());
        number.with_context(|| format!("SELECT told no {name}"))
    };
    let mut messages = Vec::new();
    for untagged in fetched.iter().filter(|untagged| untagged.line.contains(" FETCH (")) {
        let fetched = untagged.fetched()?;
        // Flags that another command has changed come alone.
        if fetched.body.is_empty() {
            continue;
        }
        if let Some(damage) = damage(&fetched.body) {
            bail!("UID {} is damaged: {damage}", fetched.uid);
        }
        let token = token_of(&fetched.body).context("a message without a token")?;
        messages.push(SeenMessage { uid: fetched.uid, token, flags: flags(&fetched.flags) });
    }
    Ok(Seen {
        validity: u32::try_from(number("UIDVALIDITY")?)?,
        uid_next: u32::try_from(number("UIDNEXT")?)?,
        modseq: number("HIGHESTMODSEQ")?,
        messages,
    })
}

fn flags(words: &[String]) -> Flags {
    words.iter().map(|word| word.to_lowercase()).filter(|word| word != "\\recent").collect()
}

/// All mailboxes of an account.
pub(super) fn whole(talk: &mut Talk) -> Answer<BTreeMap<String, Seen>> {
    let names = match talk.list() {
        Answer::Done(names) => names,
        other => return other.and_then(|_| bail!("LIST")),
    };
    let mut found = BTreeMap::new();
    for name in names {
        match talk.look(&name) {
            Answer::Done(seen) => drop(found.insert(name, seen)),
            other => return other.and_then(|_| bail!("SELECT")),
        }
    }
    Answer::Done(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn untagged(line: &str) -> Untagged {
        Untagged { line: line.to_owned(), literals: Vec::new() }
    }

    #[test]
    fn answers_are_read() {
        let lines = [
            untagged("* OK [COPYUID 9 3:4,7 10:12] moved"),
            untagged("* 1 FETCH (UID 3 FLAGS (\\Seen \\Recent $L))"),
        ];
        let moved = told(&lines, "OK moved").unwrap();
        assert_eq!((moved.validity, moved.uids), (Some(9), vec![(3, 10), (4, 11), (7, 12)]));
        assert_eq!(moved.flags[&3], ["\\seen", "$l"].map(str::to_owned).into());
        let appended = told(&[], "OK [APPENDUID 9 5] appended").unwrap();
        assert_eq!((appended.validity, appended.uids), (Some(9), vec![(0, 5)]));
        assert!(told(&[], "OK [COPYUID 9 1:2 5] copied").is_err());
    }

    #[test]
    fn a_mailbox_is_read_whole() {
        let selected =
            ["* OK [UIDVALIDITY 9] x", "* OK [UIDNEXT 6] x", "* OK [HIGHESTMODSEQ 70] x"].map(untagged);
        let mut message = untagged("* 1 FETCH (UID 5 FLAGS (\\Seen) BODY[] {3}");
        message.literals = vec![mailcluster_test_clients::message("t-1", 200)];
        let read = seen(&selected, &[message.clone(), untagged("* 1 FETCH (UID 5 FLAGS ())")]).unwrap();
        assert_eq!((read.validity, read.uid_next, read.modseq, read.messages.len()), (9, 6, 70, 1));
        assert_eq!(read.messages[0].token, "t-1");
        assert!(seen(&selected[..2], &[]).unwrap_err().to_string().contains("HIGHESTMODSEQ"));
        message.literals[0].pop();
        assert!(seen(&selected, &[message]).unwrap_err().to_string().contains("UID 5 is damaged"));
    }

    #[test]
    fn a_refusal_without_a_reason_is_wrong() {
        for (tagged, expected) in [
            ("NO [TRYCREATE] create it", "No(Missing)"),
            ("NO [ALREADYEXISTS] there", "No(Exists)"),
            ("NO [UNAVAILABLE] later", "No(Unavailable)"),
            ("NO [AUTHENTICATIONFAILED] no", "Wrong"),
            ("NO [SERVERBUG] sorry", "Wrong"),
            ("BAD what?", "Wrong"),
        ] {
            let answer = format!("{:?}", refused::<()>("X", tagged));
            assert!(answer.starts_with(expected), "{tagged}: {answer}");
        }
    }

    #[test]
    fn commands_are_written() {
        let flags: Flags = ["\\seen", "$x"].map(str::to_owned).into();
        let store =
            |change| Op::Store { mailbox: "a".into(), uids: vec![1, 3], change, flags: flags.clone() };
        assert_eq!(line(&store(Change::Remove)), "UID STORE 1,3 -FLAGS ($x \\seen)");
        assert_eq!(line(&store(Change::Replace)), "UID STORE 1,3 FLAGS ($x \\seen)");
        let moved = Op::Move { from: "a".into(), uids: vec![2], to: "b".into() };
        assert_eq!(line(&moved), "UID MOVE 2 b");
    }
}
