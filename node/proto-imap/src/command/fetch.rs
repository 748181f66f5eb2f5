//! FETCH (RFC 3501 section 6.4.5, RFC 7162 section 3.1.4).

use crate::{cursor::Cursor, encode, error::SyntaxError, sequence::SequenceSet};

/// Most parts in a section's path.
const MAX_PATH: usize = 64;
/// Most header fields in a section.
const MAX_FIELDS: usize = 100;

/// FETCH's arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetch {
    /// Which messages.
    pub set: SequenceSet,
    /// The set names UIDs.
    pub uid: bool,
    /// What; macros are expanded.
    pub items: Vec<FetchItem>,
    /// Only messages changed after this modification sequence.
    pub changed_since: Option<u64>,
}

/// Something FETCH tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FetchItem {
    /// FLAGS
    Flags,
    /// INTERNALDATE
    InternalDate,
    /// RFC822.SIZE
    Size,
    /// ENVELOPE
    Envelope,
    /// BODY without a section
    Body,
    /// BODYSTRUCTURE
    BodyStructure,
    /// UID
    Uid,
    /// MODSEQ
    ModSeq,
    /// BODY[..], RFC822, RFC822.HEADER, RFC822.TEXT
    Section(BodySection),
}

/// A part of a message's text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BodySection {
    /// How it was asked for, which is how it is answered.
    pub form: SectionForm,
    /// `\Seen` is not set.
    pub peek: bool,
    /// Part numbers, outermost first.
    pub path: Vec<u32>,
    /// What of that part.
    pub text: SectionText,
    /// Only some octets.
    pub partial: Option<Partial>,
}

/// The old and the new way to ask for text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SectionForm {
    /// BODY[..]
    Body,
    /// RFC822
    Rfc822,
    /// RFC822.HEADER
    Rfc822Header,
    /// RFC822.TEXT
    Rfc822Text,
}

/// What of a part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SectionText {
    /// Everything.
    All,
    /// HEADER
    Header,
    /// HEADER.FIELDS
    HeaderFields(Vec<Vec<u8>>),
    /// HEADER.FIELDS.NOT
    HeaderFieldsNot(Vec<Vec<u8>>),
    /// TEXT
    Text,
    /// MIME
    Mime,
}

/// `<offset.length>`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Partial {
    /// The first octet, from 0.
    pub offset: u32,
    /// At most so many.
    pub length: u32,
}

impl BodySection {
    fn plain(form: SectionForm, text: SectionText, peek: bool) -> FetchItem {
        FetchItem::Section(Self { form, peek, path: Vec::new(), text, partial: None })
    }

    /// How the answer names it: `BODY[1.HEADER.FIELDS (SUBJECT)]<0>`.
    #[must_use]
    pub fn label(&self) -> Vec<u8> {
        match self.form {
            SectionForm::Rfc822 => return b"RFC822".to_vec(),
            SectionForm::Rfc822Header => return b"RFC822.HEADER".to_vec(),
            SectionForm::Rfc822Text => return b"RFC822.TEXT".to_vec(),
            SectionForm::Body => {}
        }
        let mut out = b"BODY[".to_vec();
        let path: Vec<String> = self.path.iter().map(u32::to_string).collect();
        out.extend_from_slice(path.join(".").as_bytes());
        if !path.is_empty() && self.text != SectionText::All {
            out.push(b'.');
        }
        match &self.text {
            SectionText::All => {}
            SectionText::Header => out.extend_from_slice(b"HEADER"),
            SectionText::HeaderFields(fields) => label_fields(&mut out, b"HEADER.FIELDS", fields),
            SectionText::HeaderFieldsNot(fields) => label_fields(&mut out, b"HEADER.FIELDS.NOT", fields),
            SectionText::Text => out.extend_from_slice(b"TEXT"),
            SectionText::Mime => out.extend_from_slice(b"MIME"),
        }
        out.push(b']');
        if let Some(partial) = self.partial {
            out.extend_from_slice(format!("<{}>", partial.offset).as_bytes());
        }
        out
    }
}

fn label_fields(out: &mut Vec<u8>, name: &[u8], fields: &[Vec<u8>]) {
    out.extend_from_slice(name);
    out.extend_from_slice(b" (");
    for (i, field) in fields.iter().enumerate() {
        if i > 0 {
            out.push(b' ');
        }
        encode::astring(out, field);
    }
    out.push(b')');
}

/// ```text
/// fetch = "FETCH" SP sequence-set SP ("ALL" / "FULL" / "FAST" / fetch-att / "(" fetch-att *(SP fetch-att) ")")
///         [SP "(" "CHANGEDSINCE" SP mod-sequence-value ")"]
/// ```
pub(super) fn arguments(cursor: &mut Cursor<'_>, uid: bool) -> Result<Fetch, SyntaxError> {
    cursor.space()?;
    let set = SequenceSet::parse(cursor)?;
    cursor.space()?;
    let mut items = Vec::new();
    if cursor.peek() == Some(b'(') {
        cursor.list(|c| {
            items.push(item(c)?);
            Ok(())
        })?;
        if items.is_empty() {
            return cursor.fail("at least one item");
        }
    } else if let Some(expanded) = macro_items(cursor) {
        items = expanded;
    } else {
        items.push(item(cursor)?);
    }
    let mut changed_since = None;
    if !cursor.at_end() {
        cursor.space()?;
        cursor.expect(b'(', "(")?;
        if !cursor.eat_word("CHANGEDSINCE") {
            return cursor.fail("CHANGEDSINCE");
        }
        cursor.space()?;
        changed_since = Some(cursor.number64("a modification sequence")?);
        cursor.expect(b')', ")")?;
        push_once(&mut items, FetchItem::ModSeq);
    }
    if uid {
        push_once(&mut items, FetchItem::Uid);
    }
    Ok(Fetch { set, uid, items, changed_since })
}

fn push_once(items: &mut Vec<FetchItem>, item: FetchItem) {
    if !items.contains(&item) {
        items.push(item);
    }
}

/// ```text
/// ALL  = (FLAGS INTERNALDATE RFC822.SIZE ENVELOPE)
/// FAST = (FLAGS INTERNALDATE RFC822.SIZE)
/// FULL = (FLAGS INTERNALDATE RFC822.SIZE ENVELOPE BODY)
/// ```
fn macro_items(cursor: &mut Cursor<'_>) -> Option<Vec<FetchItem>> {
    let mut items = vec![FetchItem::Flags, FetchItem::InternalDate, FetchItem::Size];
    if cursor.eat_word("ALL") {
        items.push(FetchItem::Envelope);
    } else if cursor.eat_word("FULL") {
        items.extend([FetchItem::Envelope, FetchItem::Body]);
    } else if !cursor.eat_word("FAST") {
        return None;
    }
    Some(items)
}

/// ```text
/// fetch-att = "ENVELOPE" / "FLAGS" / "INTERNALDATE" / "RFC822" [".HEADER" / ".SIZE" / ".TEXT"] /
///             "BODY" ["STRUCTURE"] / "UID" / "MODSEQ" /
///             "BODY" section ["<" number "." nz-number ">"] / "BODY.PEEK" section ["<" number "." nz-number ">"]
/// ```
fn item(cursor: &mut Cursor<'_>) -> Result<FetchItem, SyntaxError> {
    let start = cursor.position();
    let name = cursor.take_while("an item to fetch", |b| b.is_ascii_alphanumeric() || b == b'.')?;
    Ok(match name.to_ascii_uppercase().as_slice() {
        b"ENVELOPE" => FetchItem::Envelope,
        b"FLAGS" => FetchItem::Flags,
        b"INTERNALDATE" => FetchItem::InternalDate,
        b"RFC822.SIZE" => FetchItem::Size,
        b"UID" => FetchItem::Uid,
        b"MODSEQ" => FetchItem::ModSeq,
        b"BODYSTRUCTURE" => FetchItem::BodyStructure,
        b"RFC822" => BodySection::plain(SectionForm::Rfc822, SectionText::All, false),
        b"RFC822.HEADER" => BodySection::plain(SectionForm::Rfc822Header, SectionText::Header, true),
        b"RFC822.TEXT" => BodySection::plain(SectionForm::Rfc822Text, SectionText::Text, false),
        b"BODY" if cursor.peek() == Some(b'[') => FetchItem::Section(section(cursor, false)?),
        b"BODY" => FetchItem::Body,
        b"BODY.PEEK" => FetchItem::Section(section(cursor, true)?),
        _ => return Err(SyntaxError::at(start, "an item to fetch")),
    })
}

/// ```text
/// section         = "[" [section-spec] "]"
/// section-spec    = section-msgtext / (section-part ["." section-text])
/// section-part    = nz-number *("." nz-number)
/// section-text    = section-msgtext / "MIME"
/// ```
fn section(cursor: &mut Cursor<'_>, peek: bool) -> Result<BodySection, SyntaxError> {
    cursor.expect(b'[', "[")?;
    let mut path = Vec::new();
    let mut text = SectionText::All;
    if cursor.peek().is_some_and(|b| b.is_ascii_digit()) {
        loop {
            path.push(cursor.nz_number("a part number")?);
            if path.len() > MAX_PATH {
                return Err(SyntaxError::too_big("a section has at most 64 part numbers"));
            }
            if !cursor.eat(b'.') {
                break;
            }
            if !cursor.peek().is_some_and(|b| b.is_ascii_digit()) {
                text = section_text(cursor, true)?;
                break;
            }
        }
    } else if cursor.peek() != Some(b']') {
        text = section_text(cursor, false)?;
    }
    cursor.expect(b']', "]")?;
    let mut partial = None;
    if cursor.eat(b'<') {
        let offset = cursor.number("an offset")?;
        cursor.expect(b'.', ".")?;
        let length = cursor.nz_number("a length")?;
        cursor.expect(b'>', ">")?;
        partial = Some(Partial { offset, length });
    }
    Ok(BodySection { form: SectionForm::Body, peek, path, text, partial })
}

/// ```text
/// section-msgtext = "HEADER" / "HEADER.FIELDS" [".NOT"] SP header-list / "TEXT"
/// header-list     = "(" header-fld-name *(SP header-fld-name) ")"
/// header-fld-name = astring
/// ```
fn section_text(cursor: &mut Cursor<'_>, in_part: bool) -> Result<SectionText, SyntaxError> {
    if cursor.eat_word("HEADER.FIELDS.NOT") {
        return header_list(cursor).map(SectionText::HeaderFieldsNot);
    }
    if cursor.eat_word("HEADER.FIELDS") {
        return header_list(cursor).map(SectionText::HeaderFields);
    }
    if cursor.eat_word("HEADER") {
        return Ok(SectionText::Header);
    }
    if cursor.eat_word("TEXT") {
        return Ok(SectionText::Text);
    }
    if in_part && cursor.eat_word("MIME") {
        return Ok(SectionText::Mime);
    }
    cursor.fail("HEADER, HEADER.FIELDS, TEXT or, in a part, MIME")
}

fn header_list(cursor: &mut Cursor<'_>) -> Result<Vec<Vec<u8>>, SyntaxError> {
    cursor.space()?;
    let mut fields = Vec::new();
    cursor.list(|c| {
        fields.push(c.astring("a header field's name")?);
        Ok(())
    })?;
    if fields.len() > MAX_FIELDS {
        return Err(SyntaxError::too_big("a section names at most 100 header fields"));
    }
    if fields.is_empty() { cursor.fail("at least one header field") } else { Ok(fields) }
}
