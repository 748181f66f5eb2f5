//! What one user asks of an API server, by its audit log.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{Read, Seek, SeekFrom},
    os::unix::fs::MetadataExt,
    path::PathBuf,
};

use anyhow::{Context, Result};
use serde_json::Value;

/// Requests by (verb, resource).
pub type Requests = BTreeMap<(String, String), usize>;

/// A log that is followed, also where the server begins a new file.
pub struct Audit {
    path: PathBuf,
    user: String,
    file: File,
    /// The beginning of a line whose end is not there yet.
    rest: Vec<u8>,
}

impl Audit {
    /// From the log's end on.
    pub fn follow(path: PathBuf, user: &str) -> Result<Self> {
        let mut file = File::open(&path).with_context(|| path.display().to_string())?;
        file.seek(SeekFrom::End(0))?;
        Ok(Self { path, user: user.to_owned(), file, rest: Vec::new() })
    }

    /// What was asked since this was called last. To be called often enough that the log is not begun anew twice meanwhile.
    pub fn take(&mut self) -> Result<Requests> {
        let mut requests = Requests::new();
        let is_new = fs::metadata(&self.path)?.ino() != self.file.metadata()?.ino();
        self.read(&mut requests)?;
        if is_new {
            self.file = File::open(&self.path)?;
            self.rest.clear();
            self.read(&mut requests)?;
        }
        Ok(requests)
    }

    fn read(&mut self, requests: &mut Requests) -> Result<()> {
        self.file.read_to_end(&mut self.rest)?;
        let Some(end) = self.rest.iter().rposition(|octet| *octet == b'\n') else { return Ok(()) };
        let lines: Vec<u8> = self.rest.drain(..=end).collect();
        for line in lines.split(|octet| *octet == b'\n') {
            if let Some(request) = request(line, &self.user) {
                *requests.entry(request).or_default() += 1;
            }
        }
        Ok(())
    }
}

/// A request of this user. A watch counts when it begins, what is answered as a whole when that is done.
fn request(line: &[u8], user: &str) -> Option<(String, String)> {
    let event: Value = serde_json::from_slice(line).ok()?;
    let word = |pointer: &str| event.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let verb = word("/verb");
    let counts = if verb == "watch" { "ResponseStarted" } else { "ResponseComplete" };
    let is_theirs = word("/user/username") == user && word("/stage") == counts;
    is_theirs.then(|| (verb.to_owned(), word("/objectRef/resource").to_owned()))
}

/// Adds up.
pub fn add(to: &mut Requests, more: Requests) {
    for (request, count) in more {
        *to.entry(request).or_default() += count;
    }
}

/// How many of them are like this.
pub fn count(requests: &Requests, is_one: impl Fn(&str, &str) -> bool) -> usize {
    requests.iter().filter(|((verb, what), _)| is_one(verb, what)).map(|(_, count)| count).sum()
}

/// Does it change nothing?
pub fn is_read(verb: &str) -> bool {
    ["get", "list", "watch"].contains(&verb)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn line(user: &str, stage: &str, verb: &str, what: &str) -> String {
        format!(
            r#"{{"stage":"{stage}","user":{{"username":"{user}"}},"verb":"{verb}","objectRef":{{"resource":"{what}"}}}}"#
        )
    }

    #[test]
    fn each_request_of_the_user_counts_once_also_across_files() {
        let folder = tempfile::tempdir().unwrap();
        let (path, old) = (folder.path().join("audit.log"), folder.path().join("audit-old.log"));
        let mut log = File::create(&path).unwrap();
        writeln!(log, "{}", line("op", "ResponseComplete", "get", "pods")).unwrap();
        let mut audit = Audit::follow(path.clone(), "op").unwrap();
        assert_eq!(audit.take().unwrap(), Requests::new(), "that was before");
        writeln!(log, "{}", line("op", "ResponseStarted", "watch", "pods")).unwrap();
        writeln!(log, "{}", line("op", "ResponseComplete", "watch", "pods")).unwrap();
        writeln!(log, "{}", line("other", "ResponseComplete", "patch", "pods")).unwrap();
        let whole = line("op", "ResponseComplete", "patch", "pods") + "\n";
        let (half, rest) = whole.split_at(20);
        log.write_all(half.as_bytes()).unwrap();
        let watch = ("watch".to_owned(), "pods".to_owned());
        assert_eq!(audit.take().unwrap(), [(watch, 1)].into());
        log.write_all(rest.as_bytes()).unwrap();
        fs::rename(&path, old).unwrap();
        fs::write(&path, line("op", "ResponseComplete", "patch", "pods") + "\n").unwrap();
        let found = audit.take().unwrap();
        assert_eq!(found, [(("patch".to_owned(), "pods".to_owned()), 2)].into());
        assert_eq!(count(&found, |verb, _| !is_read(verb)), 2);
    }
}
