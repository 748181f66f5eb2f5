//! SEARCH (RFC 3501 section 6.4.4, RFC 4731, RFC 7162 section 3.1.5).

use crate::{cursor::Cursor, date, date::Day, error::SyntaxError, sequence::SequenceSet};

/// Deepest nesting of keys.
const MAX_DEPTH: usize = 32;
/// Most keys in one command.
const MAX_KEYS: usize = 1000;

/// SEARCH's arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Search {
    /// The answer names UIDs.
    pub uid: bool,
    /// RETURN was given (RFC 4731); an empty `RETURN ()` means ALL.
    pub returns: Option<SearchReturn>,
    /// The charset in capitals: the session refuses what it does not know with BADCHARSET.
    pub charset: Option<String>,
    /// All must hold.
    pub keys: Vec<SearchKey>,
}

/// What ESEARCH tells.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SearchReturn {
    /// MIN
    pub min: bool,
    /// MAX
    pub max: bool,
    /// ALL
    pub all: bool,
    /// COUNT
    pub count: bool,
}

/// One condition. Texts are octets in the command's charset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SearchKey {
    /// ALL
    All,
    /// ANSWERED, SEEN, ...; with `false` UNANSWERED, UNSEEN, ...
    Flag(crate::Flag, bool),
    /// RECENT
    Recent,
    /// NEW
    New,
    /// OLD
    Old,
    /// HEADER and BCC, CC, FROM, SUBJECT, TO; an empty text asks whether the field is there.
    Header(Vec<u8>, Vec<u8>),
    /// BODY
    Body(Vec<u8>),
    /// TEXT
    Text(Vec<u8>),
    /// INTERNALDATE before this day.
    Before(Day),
    /// INTERNALDATE on this day.
    On(Day),
    /// INTERNALDATE on or after this day.
    Since(Day),
    /// Date header before this day.
    SentBefore(Day),
    /// Date header on this day.
    SentOn(Day),
    /// Date header on or after this day.
    SentSince(Day),
    /// Larger than so many octets.
    Larger(u64),
    /// Smaller than so many octets.
    Smaller(u64),
    /// UID
    Uid(SequenceSet),
    /// Message numbers.
    Sequence(SequenceSet),
    /// MODSEQ: at least this.
    ModSeq(u64),
    /// NOT
    Not(Box<SearchKey>),
    /// OR
    Or(Box<SearchKey>, Box<SearchKey>),
    /// A parenthesised list.
    And(Vec<SearchKey>),
}

impl SearchKey {
    /// Does this key, or one inside it, ask for MODSEQ?
    #[must_use]
    pub fn names_modseq(&self) -> bool {
        match self {
            Self::ModSeq(_) => true,
            Self::Not(key) => key.names_modseq(),
            Self::Or(a, b) => a.names_modseq() || b.names_modseq(),
            Self::And(keys) => keys.iter().any(Self::names_modseq),
            _ => false,
        }
    }
}

/// ```text
/// search = "SEARCH" [SP "RETURN" SP "(" [search-return-opt *(SP search-return-opt)] ")"]
///          [SP "CHARSET" SP astring] 1*(SP search-key)
/// search-return-opt = "MIN" / "MAX" / "ALL" / "COUNT"
/// ```
pub(super) fn arguments(cursor: &mut Cursor<'_>, uid: bool) -> Result<Search, SyntaxError> {
    cursor.space()?;
    let mut returns = None;
    if cursor.eat_word("RETURN ") {
        returns = Some(return_options(cursor)?);
        cursor.space()?;
    }
    let mut charset = None;
    if cursor.eat_word("CHARSET ") {
        charset = Some(cursor.text("a charset")?.to_ascii_uppercase());
        cursor.space()?;
    }
    let mut count = 0;
    let mut keys = vec![key(cursor, 0, &mut count)?];
    while !cursor.at_end() {
        cursor.space()?;
        keys.push(key(cursor, 0, &mut count)?);
    }
    Ok(Search { uid, returns, charset, keys })
}

fn return_options(cursor: &mut Cursor<'_>) -> Result<SearchReturn, SyntaxError> {
    let mut returns = SearchReturn::default();
    cursor.list(|c| {
        let start = c.position();
        match c.keyword("MIN, MAX, ALL or COUNT")?.as_str() {
            "MIN" => returns.min = true,
            "MAX" => returns.max = true,
            "ALL" => returns.all = true,
            "COUNT" => returns.count = true,
            _ => return Err(SyntaxError::at(start, "MIN, MAX, ALL or COUNT")),
        }
        Ok(())
    })?;
    if returns == SearchReturn::default() {
        returns.all = true;
    }
    Ok(returns)
}

/// ```text
/// search-key = "ALL" / "ANSWERED" / "BCC" SP astring / ... / "NOT" SP search-key /
///              "OR" SP search-key SP search-key / sequence-set / "(" search-key *(SP search-key) ")"
/// ```
fn key(cursor: &mut Cursor<'_>, depth: usize, count: &mut usize) -> Result<SearchKey, SyntaxError> {
    *count += 1;
    if depth > MAX_DEPTH || *count > MAX_KEYS {
        return Err(SyntaxError::too_big("a search has at most 1000 keys, nested at most 32 deep"));
    }
    match cursor.peek() {
        Some(b'(') => {
            let mut keys = Vec::new();
            cursor.list(|c| {
                keys.push(key(c, depth + 1, count)?);
                Ok(())
            })?;
            return if keys.is_empty() { cursor.fail("a search key") } else { Ok(SearchKey::And(keys)) };
        }
        Some(b'0'..=b'9' | b'*') => return SequenceSet::parse(cursor).map(SearchKey::Sequence),
        _ => {}
    }
    let start = cursor.position();
    let name = cursor.keyword("a search key")?;
    if let Some(found) = flag_key(&name) {
        return Ok(found);
    }
    match name.as_str() {
        "NOT" => {
            cursor.space()?;
            Ok(SearchKey::Not(Box::new(key(cursor, depth + 1, count)?)))
        }
        "OR" => {
            cursor.space()?;
            let first = key(cursor, depth + 1, count)?;
            cursor.space()?;
            Ok(SearchKey::Or(Box::new(first), Box::new(key(cursor, depth + 1, count)?)))
        }
        name => valued_key(name, start, cursor),
    }
}

/// Keys that stand alone.
fn flag_key(name: &str) -> Option<SearchKey> {
    use crate::Flag;
    Some(match name {
        "ALL" => SearchKey::All,
        "RECENT" => SearchKey::Recent,
        "NEW" => SearchKey::New,
        "OLD" => SearchKey::Old,
        "ANSWERED" => SearchKey::Flag(Flag::Answered, true),
        "DELETED" => SearchKey::Flag(Flag::Deleted, true),
        "DRAFT" => SearchKey::Flag(Flag::Draft, true),
        "FLAGGED" => SearchKey::Flag(Flag::Flagged, true),
        "SEEN" => SearchKey::Flag(Flag::Seen, true),
        "UNANSWERED" => SearchKey::Flag(Flag::Answered, false),
        "UNDELETED" => SearchKey::Flag(Flag::Deleted, false),
        "UNDRAFT" => SearchKey::Flag(Flag::Draft, false),
        "UNFLAGGED" => SearchKey::Flag(Flag::Flagged, false),
        "UNSEEN" => SearchKey::Flag(Flag::Seen, false),
        _ => return None,
    })
}

/// Keys with a value after a space.
fn valued_key(name: &str, start: usize, cursor: &mut Cursor<'_>) -> Result<SearchKey, SyntaxError> {
    const KNOWN: [&str; 20] = [
        "BCC",
        "CC",
        "FROM",
        "SUBJECT",
        "TO",
        "HEADER",
        "BODY",
        "TEXT",
        "BEFORE",
        "ON",
        "SINCE",
        "SENTBEFORE",
        "SENTON",
        "SENTSINCE",
        "LARGER",
        "SMALLER",
        "UID",
        "KEYWORD",
        "UNKEYWORD",
        "MODSEQ",
    ];
    if !KNOWN.contains(&name) {
        return Err(SyntaxError::at(start, "a search key"));
    }
    cursor.space()?;
    Ok(match name {
        "BCC" | "CC" | "FROM" | "SUBJECT" | "TO" => {
            SearchKey::Header(name.as_bytes().to_vec(), cursor.astring("a text")?)
        }
        "HEADER" => {
            let field = cursor.astring("a header field's name")?;
            cursor.space()?;
            SearchKey::Header(field, cursor.astring("a text")?)
        }
        "BODY" => SearchKey::Body(cursor.astring("a text")?),
        "TEXT" => SearchKey::Text(cursor.astring("a text")?),
        "BEFORE" => SearchKey::Before(date::date(cursor)?),
        "ON" => SearchKey::On(date::date(cursor)?),
        "SINCE" => SearchKey::Since(date::date(cursor)?),
        "SENTBEFORE" => SearchKey::SentBefore(date::date(cursor)?),
        "SENTON" => SearchKey::SentOn(date::date(cursor)?),
        "SENTSINCE" => SearchKey::SentSince(date::date(cursor)?),
        "LARGER" => SearchKey::Larger(cursor.number64("a number of octets")?),
        "SMALLER" => SearchKey::Smaller(cursor.number64("a number of octets")?),
        "UID" => SearchKey::Uid(SequenceSet::parse(cursor)?),
        "KEYWORD" => SearchKey::Flag(crate::Flag::Keyword(cursor.atom("a keyword")?), true),
        "UNKEYWORD" => SearchKey::Flag(crate::Flag::Keyword(cursor.atom("a keyword")?), false),
        _ => mod_seq(cursor)?,
    })
}

/// ```text
/// search-modsequence  = "MODSEQ" [SP entry-name SP entry-type-req] SP mod-sequence-valzer
/// ```
/// The entry name (always a flag's) and type are passed over, as RFC 7162 allows for servers that keep one
/// modification sequence per message.
fn mod_seq(cursor: &mut Cursor<'_>) -> Result<SearchKey, SyntaxError> {
    if cursor.peek() == Some(b'"') {
        cursor.string("an entry name")?;
        cursor.space()?;
        cursor.atom("priv, shared or all")?;
        cursor.space()?;
    }
    cursor.number64("a modification sequence").map(SearchKey::ModSeq)
}
