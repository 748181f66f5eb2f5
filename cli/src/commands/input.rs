//! Secrets and files that commands read.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, IsTerminal, Read},
    path::Path,
};

use mailcluster_rpc::admin::v1::{Credential, credential::Kind};

use crate::{args::Secret, failure::Failure};

/// Longest line that is taken as a password or hash.
const LONGEST: u64 = 4096;

/// The credential that the options lead to.
///
/// # Errors
/// When the file cannot be read or its first line is empty.
pub fn credential(secret: &Secret) -> Result<Option<Credential>, Failure> {
    let kind = match (&secret.password_file, &secret.hash_file) {
        (Some(file), _) => Kind::Password(first_line(file, "Password: ")?.into()),
        (None, Some(file)) => Kind::Hash(first_line(file, "Password hash: ")?.into()),
        (None, None) => return Ok(None),
    };
    Ok(Some(Credential { kind: Some(kind) }))
}

fn first_line(file: &Path, prompt: &str) -> Result<String, Failure> {
    if is_stdin(file) && io::stdin().is_terminal() {
        eprint!("{prompt}(shown as you type) ");
    }
    let mut bytes = Vec::new();
    let read = open(file)?.take(LONGEST).read_until(b'\n', &mut bytes);
    read.map_err(|e| Failure::Failed(format!("{}: {e}", file.display())))?;
    let text = String::from_utf8(bytes).map_err(|_| Failure::Failed("the secret is not UTF-8".into()))?;
    let line = text.trim_end_matches(['\r', '\n']);
    if line.is_empty() {
        return Err(Failure::Failed("the first line is empty; for no password use --no-password".into()));
    }
    Ok(line.to_owned())
}

fn is_stdin(file: &Path) -> bool {
    file.as_os_str() == "-"
}

/// Opens a file, or standard input for `-`.
///
/// # Errors
/// When it cannot be opened.
pub fn open(file: &Path) -> Result<Box<dyn BufRead + Send>, Failure> {
    if is_stdin(file) {
        return Ok(Box::new(BufReader::new(io::stdin())));
    }
    let opened = File::open(file).map_err(|e| Failure::Failed(format!("{}: {e}", file.display())))?;
    Ok(Box::new(BufReader::new(opened)))
}
