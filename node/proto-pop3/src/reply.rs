//! Status lines (RFC 1939 section 3) with response codes (RFC 2449 section 8, RFC 3206).

/// Why a command failed, for programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// `[AUTH]`: the credentials are wrong.
    Auth,
    /// `[SYS/TEMP]`: come again later.
    SysTemp,
    /// `[SYS/PERM]`: a person must do something.
    SysPerm,
    /// `[IN-USE]`: the account has too many sessions.
    InUse,
}

impl Code {
    fn as_str(self) -> &'static str {
        match self {
            Self::Auth => "[AUTH] ",
            Self::SysTemp => "[SYS/TEMP] ",
            Self::SysPerm => "[SYS/PERM] ",
            Self::InUse => "[IN-USE] ",
        }
    }
}

/// Longest text of a status line: the line is at most 512 octets (RFC 1939 section 3).
const MAX_TEXT: usize = 400;

fn line(out: &mut Vec<u8>, start: &str, text: &str) {
    out.extend_from_slice(start.as_bytes());
    // Nothing that came from elsewhere can end the line or look like a second one.
    out.extend(text.bytes().take(MAX_TEXT).map(|b| if b.is_ascii_graphic() || b == b' ' { b } else { b'?' }));
    out.extend_from_slice(b"\r\n");
}

/// Adds `+OK text`.
pub fn ok(out: &mut Vec<u8>, text: &str) {
    line(out, "+OK ", text);
}

/// Adds `-ERR [code] text`.
pub fn err(out: &mut Vec<u8>, code: Option<Code>, text: &str) {
    out.extend_from_slice(b"-ERR ");
    line(out, code.map_or("", Code::as_str), text);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_lines() {
        let mut out = Vec::new();
        ok(&mut out, "2 messages");
        err(&mut out, Some(Code::SysTemp), "later\r\n+OK");
        err(&mut out, None, "no");
        assert_eq!(out, b"+OK 2 messages\r\n-ERR [SYS/TEMP] later??+OK\r\n-ERR no\r\n");
        out.clear();
        ok(&mut out, &"x".repeat(9999));
        assert!(out.len() <= 512);
    }
}
