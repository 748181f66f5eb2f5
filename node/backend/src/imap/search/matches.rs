//! Does a message match? First from its index row; its text is read only when that does not decide.

use std::{cell::OnceCell, ops::RangeInclusive};

use bytes::Bytes;
use mailcluster_message::{self as mime, Needle, Sighting};
use mailcluster_proto_imap::{Flag, SequenceSet, command::SearchKey, date::Day};
use mailcluster_store::{Message, SystemFlag};

use super::super::{flags, reply::Fail};

/// Texts to look for in bodies, in one search: each is looked for in every octet.
const MAX_TEXTS: usize = 100;

/// What a search asks for.
pub(super) struct Query {
    condition: Condition,
    /// What BODY and TEXT look for.
    texts: Vec<Needle>,
}

/// A message's text; what is in it is found when it is first asked for, all at once.
pub(super) struct Text<'a> {
    message: mime::Message,
    wanted: &'a [Needle],
    seen: OnceCell<Vec<Sighting>>,
}

impl Text<'_> {
    fn sees(&self, wanted: usize, what: impl Fn(&Sighting) -> bool) -> bool {
        self.seen.get_or_init(|| self.message.look_for(self.wanted)).get(wanted).is_some_and(what)
    }
}

impl Query {
    pub fn new(keys: Vec<SearchKey>, last: Last) -> Result<Self, Fail> {
        let mut texts = Vec::new();
        let condition = Condition::all(keys, last, &mut texts)?;
        if texts.len() > MAX_TEXTS {
            return Err(Fail::no("LIMIT", format!("a search has at most {MAX_TEXTS} BODY and TEXT keys")));
        }
        Ok(Self { condition, texts })
    }

    /// Can the outermost conditions hold for this message number and UID?
    pub fn may_hold(&self, number: u32, uid: u32) -> bool {
        self.condition.may_hold(number, uid)
    }

    /// A message's text, to be asked about.
    pub fn text(&self, body: Bytes) -> Text<'_> {
        Text { message: mime::Message::parse(body), wanted: &self.texts, seen: OnceCell::new() }
    }

    /// Does it hold? `None`: the text must be read to tell.
    pub fn holds(&self, number: u32, row: &Message, text: Option<&Text<'_>>) -> Option<bool> {
        self.condition.holds(number, row, text)
    }
}

/// A condition with its sets resolved. What it says of bodies are places in [`Query::texts`].
enum Condition {
    Always(bool),
    System(SystemFlag, bool),
    Keyword(String, bool),
    Header(Vec<u8>, Needle),
    Body(usize),
    Text(usize),
    Before(Day),
    On(Day),
    Since(Day),
    SentBefore(Day),
    SentOn(Day),
    SentSince(Day),
    Larger(u64),
    Smaller(u64),
    Uid(Vec<RangeInclusive<u32>>),
    Number(Vec<RangeInclusive<u32>>),
    ModSeq(u64),
    Not(Box<Condition>),
    Or(Box<Condition>, Box<Condition>),
    And(Vec<Condition>),
}

/// What `*` stands for.
#[derive(Clone, Copy)]
pub(super) struct Last {
    pub number: u32,
    pub uid: u32,
}

impl Condition {
    fn all(keys: Vec<SearchKey>, last: Last, texts: &mut Vec<Needle>) -> Result<Self, Fail> {
        let conditions = keys.into_iter().map(|key| Self::new(key, last, texts)).collect::<Result<_, _>>()?;
        Ok(Self::And(conditions))
    }

    fn new(key: SearchKey, last: Last, texts: &mut Vec<Needle>) -> Result<Self, Fail> {
        Ok(match key {
            // `\Recent` is not kept: nothing is recent.
            SearchKey::All | SearchKey::Old => Self::Always(true),
            SearchKey::Recent | SearchKey::New => Self::Always(false),
            SearchKey::Flag(flag, set) => match (flags::system(&flag), flag) {
                (Some(system), _) => Self::System(system, set),
                (None, Flag::Keyword(keyword)) => Self::Keyword(keyword, set),
                (None, _) => Self::Always(!set),
            },
            SearchKey::Header(name, text) => Self::Header(name, needle(text)?),
            SearchKey::Body(text) => Self::Body(place(texts, needle(text)?)),
            SearchKey::Text(text) => Self::Text(place(texts, needle(text)?)),
            SearchKey::Before(day) => Self::Before(day),
            SearchKey::On(day) => Self::On(day),
            SearchKey::Since(day) => Self::Since(day),
            SearchKey::SentBefore(day) => Self::SentBefore(day),
            SearchKey::SentOn(day) => Self::SentOn(day),
            SearchKey::SentSince(day) => Self::SentSince(day),
            SearchKey::Larger(octets) => Self::Larger(octets),
            SearchKey::Smaller(octets) => Self::Smaller(octets),
            SearchKey::Uid(set) => Self::Uid(set.resolve(last.uid)),
            SearchKey::Sequence(set) => Self::Number(numbers(&set, last.number)),
            SearchKey::ModSeq(modseq) => Self::ModSeq(modseq),
            SearchKey::Not(key) => Self::Not(Box::new(Self::new(*key, last, texts)?)),
            SearchKey::Or(a, b) => {
                let (a, b) = (Self::new(*a, last, texts)?, Self::new(*b, last, texts)?);
                Self::Or(Box::new(a), Box::new(b))
            }
            SearchKey::And(keys) => Self::all(keys, last, texts)?,
        })
    }

    fn may_hold(&self, number: u32, uid: u32) -> bool {
        match self {
            Self::And(all) => all.iter().all(|condition| condition.may_hold(number, uid)),
            Self::Uid(ranges) => contains(ranges, uid),
            Self::Number(ranges) => contains(ranges, number),
            Self::Always(holds) => *holds,
            _ => true,
        }
    }

    fn holds(&self, number: u32, row: &Message, text: Option<&Text<'_>>) -> Option<bool> {
        let day = || Day::of(row.internal_date, row.zone_minutes);
        let sent = |test: &dyn Fn(Day) -> bool| text.map(|text| sent_day(&text.message).is_some_and(test));
        match self {
            Self::Always(holds) => Some(*holds),
            Self::System(flag, set) => Some(row.flags.has(*flag) == *set),
            Self::Keyword(keyword, set) => {
                Some(row.flags.keywords.iter().any(|k| k.eq_ignore_ascii_case(keyword)) == *set)
            }
            Self::Header(name, needle) => text.map(|text| text.message.header_has(name, needle)),
            Self::Body(wanted) => text.map(|text| text.sees(*wanted, |seen| seen.body)),
            Self::Text(wanted) => text.map(|text| text.sees(*wanted, |seen| seen.header || seen.body)),
            Self::Before(limit) => Some(day() < *limit),
            Self::On(limit) => Some(day() == *limit),
            Self::Since(limit) => Some(day() >= *limit),
            Self::SentBefore(limit) => sent(&|day| day < *limit),
            Self::SentOn(limit) => sent(&|day| day == *limit),
            Self::SentSince(limit) => sent(&|day| day >= *limit),
            Self::Larger(octets) => Some(u64::from(row.size) > *octets),
            Self::Smaller(octets) => Some(u64::from(row.size) < *octets),
            Self::Uid(ranges) => Some(contains(ranges, row.uid)),
            Self::Number(ranges) => Some(contains(ranges, number)),
            Self::ModSeq(modseq) => Some(row.modseq >= *modseq),
            Self::Not(inner) => inner.holds(number, row, text).map(|holds| !holds),
            Self::Or(a, b) => match a.holds(number, row, text) {
                Some(true) => Some(true),
                Some(false) => b.holds(number, row, text),
                None => b.holds(number, row, text).filter(|holds| *holds),
            },
            Self::And(all) => {
                let mut known = Some(true);
                for condition in all {
                    match condition.holds(number, row, text) {
                        Some(true) => {}
                        Some(false) => return Some(false),
                        None => known = None,
                    }
                }
                known
            }
        }
    }
}

/// The needle's place among the texts to look for, where it is put if it is new.
fn place(texts: &mut Vec<Needle>, needle: Needle) -> usize {
    texts.iter().position(|known| *known == needle).unwrap_or_else(|| {
        texts.push(needle);
        texts.len() - 1
    })
}

/// Texts are UTF-8 (US-ASCII is): what is not cannot be found.
fn needle(text: Vec<u8>) -> Result<Needle, Fail> {
    match String::from_utf8(text) {
        Ok(text) => Ok(Needle::new(&text)),
        Err(_) => Err(Fail::no("BADCHARSET (US-ASCII UTF-8)", "the text to look for is not UTF-8")),
    }
}

fn numbers(set: &SequenceSet, last: u32) -> Vec<RangeInclusive<u32>> {
    if last == 0 { Vec::new() } else { set.resolve(last) }
}

/// The ranges ascend and do not overlap.
fn contains(ranges: &[RangeInclusive<u32>], number: u32) -> bool {
    let place = ranges.partition_point(|range| *range.end() < number);
    ranges.get(place).is_some_and(|range| range.contains(&number))
}

/// The Date field's day, as the sender wrote it (RFC 3501: disregarding time and timezone).
fn sent_day(text: &mime::Message) -> Option<Day> {
    let date = text.sent_date()?;
    Some(Day::from_date(date.year.into(), date.month.into(), date.day.into()))
}
