//! LIST (RFC 3501 section 6.3.8, RFC 5258, RFC 5819, RFC 6154).

use super::{StatusItem, status};
use crate::{
    cursor::Cursor,
    error::SyntaxError,
    mailbox::{ListPattern, MailboxName, list_pattern, mailbox},
};

/// Most patterns of one LIST.
const MAX_PATTERNS: usize = 50;

/// What is selected.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ListSelect {
    /// SUBSCRIBED
    pub subscribed: bool,
    /// REMOTE: nothing here is.
    pub remote: bool,
    /// RECURSIVEMATCH: parents of what matches, too.
    pub recursive_match: bool,
    /// SPECIAL-USE
    pub special_use: bool,
}

/// What is told of each mailbox.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListReturn {
    /// SUBSCRIBED
    pub subscribed: bool,
    /// CHILDREN (always told)
    pub children: bool,
    /// SPECIAL-USE (always told)
    pub special_use: bool,
    /// STATUS
    pub status: Option<Vec<StatusItem>>,
}

/// LIST's arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct List {
    /// Stands before each pattern.
    pub reference: MailboxName,
    /// With wildcards; at least one.
    pub patterns: Vec<ListPattern>,
    /// Selection options.
    pub select: ListSelect,
    /// Return options.
    pub returns: ListReturn,
    /// Was any extended syntax used? (`LIST "" ""` asks for the separator in the basic form alone.)
    pub extended: bool,
}

/// ```text
/// list = "LIST" [SP list-select-opts] SP mailbox SP mbox-or-pat [SP list-return-opts]
/// mbox-or-pat = list-mailbox / "(" list-mailbox *(SP list-mailbox) ")"
/// list-return-opts = "RETURN" SP "(" [return-option *(SP return-option)] ")"
/// ```
pub(super) fn arguments(cursor: &mut Cursor<'_>) -> Result<List, SyntaxError> {
    cursor.space()?;
    let mut extended = false;
    let mut select = ListSelect::default();
    if cursor.peek() == Some(b'(') {
        extended = true;
        select = selection(cursor)?;
        cursor.space()?;
    }
    let reference = mailbox(cursor)?;
    cursor.space()?;
    let mut patterns = Vec::new();
    if cursor.peek() == Some(b'(') {
        extended = true;
        cursor.list(|c| {
            patterns.push(list_pattern(c)?);
            Ok(())
        })?;
        if patterns.is_empty() || patterns.len() > MAX_PATTERNS {
            return Err(SyntaxError::too_big("LIST takes 1 to 50 patterns"));
        }
    } else {
        patterns.push(list_pattern(cursor)?);
    }
    let mut returns = ListReturn::default();
    if !cursor.at_end() {
        extended = true;
        cursor.space()?;
        returns = return_options(cursor)?;
    }
    Ok(List { reference, patterns, select, returns, extended })
}

/// ```text
/// list-select-opts = "(" [*(list-select-opt SP) ("SUBSCRIBED" / "REMOTE" / "RECURSIVEMATCH" / "SPECIAL-USE")] ")"
/// ```
/// RECURSIVEMATCH alone is an error (RFC 5258 section 3.1).
fn selection(cursor: &mut Cursor<'_>) -> Result<ListSelect, SyntaxError> {
    let mut select = ListSelect::default();
    cursor.list(|c| {
        let start = c.position();
        match c.keyword("a selection option")?.as_str() {
            "SUBSCRIBED" => select.subscribed = true,
            "REMOTE" => select.remote = true,
            "RECURSIVEMATCH" => select.recursive_match = true,
            "SPECIAL-USE" => select.special_use = true,
            _ => return Err(SyntaxError::at(start, "SUBSCRIBED, REMOTE, RECURSIVEMATCH or SPECIAL-USE")),
        }
        Ok(())
    })?;
    if select.recursive_match && !select.subscribed && !select.special_use {
        return cursor.fail("SUBSCRIBED or SPECIAL-USE with RECURSIVEMATCH");
    }
    Ok(select)
}

/// ```text
/// return-option = "SUBSCRIBED" / "CHILDREN" / "SPECIAL-USE" / "STATUS" SP "(" status-att *(SP status-att) ")"
/// ```
fn return_options(cursor: &mut Cursor<'_>) -> Result<ListReturn, SyntaxError> {
    let mut returns = ListReturn::default();
    if !cursor.eat_word("RETURN") {
        return cursor.fail("RETURN");
    }
    cursor.space()?;
    cursor.list(|c| {
        let start = c.position();
        match c.keyword("a return option")?.as_str() {
            "SUBSCRIBED" => returns.subscribed = true,
            "CHILDREN" => returns.children = true,
            "SPECIAL-USE" => returns.special_use = true,
            "STATUS" => {
                c.space()?;
                returns.status = Some(status::items(c)?);
            }
            _ => return Err(SyntaxError::at(start, "SUBSCRIBED, CHILDREN, SPECIAL-USE or STATUS")),
        }
        Ok(())
    })?;
    Ok(returns)
}
