//! The account file: comma-separated values as RFC 4180 writes them.
//!
//! | column | meaning |
//! |---|---|
//! | `address` | the account's address; its domain must be there already |
//! | `password` | in clear, or a hash: `$argon2id$…`, `{ARGON2ID}`, `{BLF-CRYPT}`, `{SHA512-CRYPT}`, `{SHA256-CRYPT}`, `{SSHA}`, `{PBKDF2}`; empty: no password login |
//! | `quota_octets` | limit in octets; empty or 0: none |
//! | `store` | the store to put it on; empty: chosen by the directory |
//!
//! A first line that starts with a column's name says which columns there are, in any order; without one they are in
//! the order above. Columns at the end may be left out. Fields with commas, quotes or line breaks stand in double
//! quotes. Lines may end with LF or CRLF; a byte order mark is passed over; empty lines and lines that start with `#`
//! too.

use std::io::BufRead;

/// Longest record in octets.
const MAX_RECORD: usize = 16 << 10;
/// Most rows of one file.
const MAX_ROWS: usize = 5_000_000;
const COLUMNS: [&str; 4] = ["address", "password", "quota_octets", "store"];

/// One account of the file.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Row {
    /// Where it starts, counted from 1.
    pub line: u64,
    /// The address as written.
    pub address: String,
    /// A password or a hash; a secret.
    pub password: String,
    /// Octets; 0: none.
    pub quota_octets: u64,
    /// Empty: chosen by the directory.
    pub store: String,
}

/// What is wrong with the file. Never repeats a field, which might be a password.
#[derive(Debug, PartialEq, Eq)]
pub struct CsvError {
    /// The line, counted from 1.
    pub line: u64,
    /// What is wrong.
    pub what: String,
}

impl std::fmt::Display for CsvError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "line {}: {}", self.line, self.what)
    }
}

impl std::error::Error for CsvError {}

fn wrong(line: u64, what: impl Into<String>) -> CsvError {
    CsvError { line, what: what.into() }
}

/// Reads the whole file, so that nothing is imported of one that is damaged.
///
/// # Errors
/// The first thing that is wrong, with its line.
pub fn read(mut input: impl BufRead) -> Result<Vec<Row>, CsvError> {
    let mut rows = Vec::new();
    let mut order: Option<Vec<usize>> = None;
    let mut line = 1;
    while let Some((text, start, next)) = record(&mut input, line)? {
        line = next;
        if text.is_empty() || text.starts_with('#') {
            continue;
        }
        let fields = fields(&text).map_err(|what| wrong(start, what))?;
        match &order {
            None if is_header(&fields) => order = Some(header(&fields).map_err(|what| wrong(start, what))?),
            None => {
                let positions = (0..COLUMNS.len()).collect::<Vec<_>>();
                rows.push(row(start, &fields, &positions)?);
                order = Some(positions);
            }
            Some(positions) => rows.push(row(start, &fields, positions)?),
        }
        if rows.len() > MAX_ROWS {
            return Err(wrong(start, format!("more than {MAX_ROWS} rows: split the file")));
        }
    }
    Ok(rows)
}

type Record = (String, u64, u64);

/// One record without its line end, the line it starts at, and the line that follows it.
fn record(input: &mut impl BufRead, start: u64) -> Result<Option<Record>, CsvError> {
    let mut bytes = Vec::new();
    let mut line = start;
    loop {
        let room = u64::try_from(MAX_RECORD + 2 - bytes.len()).unwrap_or(0);
        let read = std::io::Read::take(&mut *input, room).read_until(b'\n', &mut bytes);
        let read = read.map_err(|e| wrong(line, format!("failed to read: {e}")))?;
        if bytes.len() > MAX_RECORD {
            return Err(wrong(start, format!("longer than {MAX_RECORD} octets; is a quote missing?")));
        }
        let quotes_open = bytes.iter().filter(|b| **b == b'"').count() % 2 == 1;
        if read == 0 {
            if quotes_open {
                return Err(wrong(start, "a quote is not closed"));
            }
            if bytes.is_empty() {
                return Ok(None);
            }
            break;
        }
        line += 1;
        if bytes.ends_with(b"\n") && !quotes_open {
            break;
        }
    }
    let mut text = String::from_utf8(bytes).map_err(|_| wrong(start, "not UTF-8"))?;
    if start == 1 && text.starts_with('\u{feff}') {
        text.remove(0);
    }
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    Ok(Some((text, start, line)))
}

fn fields(text: &str) -> Result<Vec<String>, &'static str> {
    let mut fields = Vec::new();
    let mut rest = text;
    loop {
        let (field, after) = match rest.strip_prefix('"') {
            Some(quoted) => quoted_field(quoted)?,
            None => {
                let end = rest.find(',').unwrap_or(rest.len());
                let (field, after) = rest.split_at(end);
                if field.contains('"') {
                    return Err("a quote inside a field that does not start with one");
                }
                (field.to_owned(), after)
            }
        };
        fields.push(field);
        if fields.len() > COLUMNS.len() {
            return Err("more than four fields; put fields with commas in quotes");
        }
        match after.strip_prefix(',') {
            Some(more) => rest = more,
            None if after.is_empty() => return Ok(fields),
            None => return Err("something follows a closing quote"),
        }
    }
}

/// What stands between the quotes, and what follows them.
fn quoted_field(text: &str) -> Result<(String, &str), &'static str> {
    let mut field = String::new();
    let mut rest = text;
    loop {
        let (before, after) = rest.split_once('"').ok_or("a quote is not closed")?;
        field.push_str(before);
        match after.strip_prefix('"') {
            Some(more) => {
                field.push('"');
                rest = more;
            }
            None => return Ok((field, after)),
        }
    }
}

fn is_header(fields: &[String]) -> bool {
    fields.first().is_some_and(|f| COLUMNS.contains(&f.trim().to_ascii_lowercase().as_str()))
}

/// For each field its column.
fn header(fields: &[String]) -> Result<Vec<usize>, String> {
    let mut order = Vec::new();
    for field in fields {
        let name = field.trim().to_ascii_lowercase();
        let column = COLUMNS.iter().position(|c| *c == name);
        match column {
            Some(column) if order.contains(&column) => return Err(format!("column {name} stands twice")),
            Some(column) => order.push(column),
            None => return Err(format!("unknown column; there are {}", COLUMNS.join(", "))),
        }
    }
    if order.contains(&0) { Ok(order) } else { Err("the column address is missing".to_owned()) }
}

fn row(line: u64, fields: &[String], order: &[usize]) -> Result<Row, CsvError> {
    if fields.len() > order.len() {
        return Err(wrong(line, "more fields than columns"));
    }
    let mut row = Row { line, ..Row::default() };
    for (field, column) in fields.iter().zip(order) {
        match column {
            0 => field.trim().clone_into(&mut row.address),
            1 => row.password.clone_from(field),
            2 if field.trim().is_empty() => {}
            2 => {
                let octets = field.trim().parse();
                row.quota_octets = octets.map_err(|_| wrong(line, "quota_octets is not a number"))?;
            }
            _ => field.trim().clone_into(&mut row.store),
        }
    }
    if row.address.is_empty() {
        return Err(wrong(line, "no address"));
    }
    Ok(row)
}

/// A field as it is written into such a file.
#[must_use]
pub fn quoted(field: &str) -> String {
    if field.contains([',', '"', '\n', '\r']) || field.starts_with('#') {
        format!("\"{}\"", field.replace('"', "\"\""))
    } else {
        field.to_owned()
    }
}

#[cfg(test)]
mod tests;
