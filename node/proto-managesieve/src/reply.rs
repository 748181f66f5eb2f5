//! Replies (RFC 5804 sections 1.2, 1.3, 1.7).

/// Longest string that is quoted; longer ones, and those with line ends, are literals.
const MAX_QUOTED: usize = 1024;

/// A response code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is the code that it is written as")]
pub enum Code {
    Active,
    AlreadyExists,
    EncryptNeeded,
    NonExistent,
    Quota,
    QuotaMaxScripts,
    QuotaMaxSize,
    TryLater,
    Warnings,
}

impl Code {
    fn text(self) -> &'static str {
        match self {
            Self::Active => "ACTIVE",
            Self::AlreadyExists => "ALREADYEXISTS",
            Self::EncryptNeeded => "ENCRYPT-NEEDED",
            Self::NonExistent => "NONEXISTENT",
            Self::Quota => "QUOTA",
            Self::QuotaMaxScripts => "QUOTA/MAXSCRIPTS",
            Self::QuotaMaxSize => "QUOTA/MAXSIZE",
            Self::TryLater => "TRYLATER",
            Self::Warnings => "WARNINGS",
        }
    }
}

/// Writes a string, quoted or as a literal.
pub fn string(out: &mut Vec<u8>, text: &[u8]) {
    let quotable = text.len() <= MAX_QUOTED && !text.iter().any(|octet| matches!(octet, b'\r' | b'\n' | 0));
    if !quotable {
        out.extend_from_slice(format!("{{{}}}\r\n", text.len()).as_bytes());
        out.extend_from_slice(text);
        return;
    }
    out.push(b'"');
    for octet in text {
        if matches!(octet, b'"' | b'\\') {
            out.push(b'\\');
        }
        out.push(*octet);
    }
    out.push(b'"');
}

fn answer(out: &mut Vec<u8>, word: &str, code: Option<Code>, text: &str) {
    out.extend_from_slice(word.as_bytes());
    if let Some(code) = code {
        out.extend_from_slice(format!(" ({})", code.text()).as_bytes());
    }
    if !text.is_empty() {
        out.push(b' ');
        string(out, text.as_bytes());
    }
    out.extend_from_slice(b"\r\n");
}

/// `OK`
pub fn ok(out: &mut Vec<u8>, code: Option<Code>, text: &str) {
    answer(out, "OK", code, text);
}

/// `NO`
pub fn no(out: &mut Vec<u8>, code: Option<Code>, text: &str) {
    answer(out, "NO", code, text);
}

/// `BYE`
pub fn bye(out: &mut Vec<u8>, code: Option<Code>, text: &str) {
    answer(out, "BYE", code, text);
}

/// What a server tells of itself.
#[derive(Debug, Clone, Default)]
pub struct Capabilities<'a> {
    /// Sieve's extensions, by name.
    pub sieve: String,
    /// SASL mechanisms; empty where none can be used (yet).
    pub sasl: &'a str,
    /// STARTTLS can be used.
    pub starttls: bool,
    /// Redirects of one run.
    pub redirects: usize,
    /// Who is logged in.
    pub owner: Option<&'a str>,
}

impl Capabilities<'_> {
    /// Writes the lines, without the OK behind them.
    pub fn write(&self, out: &mut Vec<u8>) {
        let mut line = |name: &str, value: Option<&str>| {
            string(out, name.as_bytes());
            if let Some(value) = value {
                out.push(b' ');
                string(out, value.as_bytes());
            }
            out.extend_from_slice(b"\r\n");
        };
        line("IMPLEMENTATION", Some("mailcluster"));
        line("SASL", Some(self.sasl));
        line("SIEVE", Some(&self.sieve));
        line("NOTIFY", Some("mailto"));
        line("MAXREDIRECTS", Some(&self.redirects.to_string()));
        if self.starttls {
            line("STARTTLS", None);
        }
        if let Some(owner) = self.owner {
            line("OWNER", Some(owner));
        }
        line("VERSION", Some("1.0"));
    }
}
