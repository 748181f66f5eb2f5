//! The file of `import --list`: whose mail lies where.

use std::{
    collections::HashMap,
    io::{BufRead, Read},
    path::PathBuf,
};

use mailcluster_import::Job;

/// Longest line in octets, and most of them.
const MAX_LINE: u64 = 16 << 10;
const MAX_LINES: u64 = 5_000_000;

/// Reads the whole list, so that nothing is begun of one that is wrong. Sources of one account are one job, in their
/// order.
///
/// # Errors
/// What is wrong, with its line.
pub fn read(mut input: impl BufRead, mailbox: &str) -> Result<Vec<Job>, String> {
    let mut jobs: Vec<Job> = Vec::new();
    let mut places: HashMap<String, usize> = HashMap::new();
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        let read = input.by_ref().take(MAX_LINE).read_until(b'\n', &mut line);
        if read.map_err(|error| format!("line {number}: {error}"))? == 0 {
            break;
        }
        if number > MAX_LINES || line.len() as u64 >= MAX_LINE {
            return Err(format!("line {number}: too long, or too many lines"));
        }
        let text = std::str::from_utf8(&line).map_err(|_| format!("line {number}: not UTF-8"))?;
        let text = text.trim_end_matches(['\r', '\n']);
        if text.trim().is_empty() || text.starts_with('#') {
            continue;
        }
        let (address, source) = entry(text, mailbox).map_err(|what| format!("line {number}: {what}"))?;
        let place = *places.entry(address.to_lowercase()).or_insert(jobs.len());
        match jobs.get_mut(place) {
            Some(job) if job.sources.contains(&source) => {
                return Err(format!("line {number}: the same source again"));
            }
            Some(job) => job.sources.push(source),
            None => jobs.push(Job { address, sources: vec![source] }),
        }
    }
    if jobs.is_empty() { Err("there is no account in it".to_owned()) } else { Ok(jobs) }
}

type Entry = (String, (PathBuf, String));

fn entry(text: &str, mailbox: &str) -> Result<Entry, &'static str> {
    let (address, path, into) = if text.contains('\t') {
        let mut fields = text.split('\t').map(str::trim);
        let (address, path) = (fields.next().unwrap_or_default(), fields.next().unwrap_or_default());
        let into = fields.next().filter(|name| !name.is_empty()).unwrap_or(mailbox);
        if fields.next().is_some() {
            return Err("more than three fields");
        }
        (address, path, into)
    } else {
        let (address, path) =
            text.trim().split_once(' ').ok_or("an address, a blank, and a path are expected")?;
        (address, path.trim_start(), mailbox)
    };
    if !address.contains('@') {
        return Err("it does not begin with an address");
    }
    if path.is_empty() {
        return Err("no path");
    }
    Ok((address.to_owned(), (path.into(), into.to_owned())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_of_an_account_are_one_job() {
        let text = "# comment\n\nann@example.org /srv/ann/Maildir\r\nbob@example.org\t/var/mail/bob box\tOld/Mail\n\
                    Ann@example.org\t/var/mail/ann\n cid@example.org  /srv/c d ";
        let jobs = read(text.as_bytes(), "INBOX").unwrap();
        let source = |path: &str, mailbox: &str| (PathBuf::from(path), mailbox.to_owned());
        let expected = [
            ("ann@example.org", vec![source("/srv/ann/Maildir", "INBOX"), source("/var/mail/ann", "INBOX")]),
            ("bob@example.org", vec![source("/var/mail/bob box", "Old/Mail")]),
            ("cid@example.org", vec![source("/srv/c d", "INBOX")]),
        ];
        assert_eq!(jobs, expected.map(|(address, sources)| Job { address: address.to_owned(), sources }));
    }

    #[test]
    fn a_wrong_list_is_told_with_its_line() {
        for (text, expected) in [
            ("", "no account"),
            ("# nothing\n", "no account"),
            ("ann@example.org\n", "line 1: an address"),
            ("a@b /x\nann /x\n", "line 2: it does not begin"),
            ("a@b\t\n", "line 1: no path"),
            ("a@b\t/x\tc\td\n", "line 1: more than three"),
            ("a@b /x\na@b /x\n", "line 2: the same source"),
            (&format!("a@b {}\n", "x".repeat(20_000)), "line 1: too long"),
        ] {
            let told = read(text.as_bytes(), "INBOX").unwrap_err();
            assert!(told.contains(expected), "{told}");
        }
        assert!(read(&b"a@b \xff\n"[..], "INBOX").unwrap_err().contains("line 1: not UTF-8"));
    }
}
