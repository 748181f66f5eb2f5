//! What mail programs write into the header of messages in an mbox file, for themselves.

use crate::Flags;

/// Fields that are left out.
const OWN: [&[u8]; 7] =
    [b"Status", b"X-Status", b"X-Keywords", b"X-UID", b"X-IMAP", b"X-IMAPbase", b"Content-Length"];

/// Of UW-imap and its like, at the top of a file.
const FOLDER_DATA: &[u8] = b"DON'T DELETE THIS MESSAGE -- FOLDER INTERNAL DATA";

/// A message as its header says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Header {
    pub flags: Flags,
    /// The message without the fields that are left out.
    pub kept: Vec<u8>,
    /// It is no message: the program that wrote the file keeps its numbers in it.
    pub is_folder_data: bool,
}

pub(super) fn read(raw: &[u8]) -> Header {
    let mut header = Header { kept: Vec::with_capacity(raw.len()), ..Header::default() };
    let mut rest = raw;
    let (mut is_own, mut has_numbers, mut has_subject) = (false, false, false);
    while let Some(line) = line(rest) {
        if matches!(line, b"\n" | b"\r\n") {
            break;
        }
        rest = rest.get(line.len()..).unwrap_or_default();
        if !line.starts_with(b" ") && !line.starts_with(b"\t") {
            let (name, value) = field(line);
            is_own = OWN.iter().any(|own| own.eq_ignore_ascii_case(name));
            has_numbers |= name.eq_ignore_ascii_case(b"X-IMAP");
            has_subject |= name.eq_ignore_ascii_case(b"Subject") && value.starts_with(FOLDER_DATA);
            set(&mut header.flags, name, value);
        }
        if !is_own {
            header.kept.extend_from_slice(line);
        }
    }
    header.kept.extend_from_slice(rest);
    header.is_folder_data = has_numbers && has_subject;
    header
}

fn line(text: &[u8]) -> Option<&[u8]> {
    let end = memchr::memchr(b'\n', text).map_or(text.len(), |at| at + 1);
    text.get(..end).filter(|line| !line.is_empty())
}

fn field(line: &[u8]) -> (&[u8], &[u8]) {
    let Some(colon) = memchr::memchr(b':', line) else { return (b"", b"") };
    let (name, value) = line.split_at(colon);
    (name.trim_ascii_end(), value.get(1..).unwrap_or_default().trim_ascii())
}

/// `Status: RO` and `X-Status: AFDT`, as in UW-imap, Dovecot and mutt.
fn set(flags: &mut Flags, name: &[u8], value: &[u8]) {
    let letters: &[(u8, char)] = if name.eq_ignore_ascii_case(b"Status") {
        &[(b'R', 'S')]
    } else if name.eq_ignore_ascii_case(b"X-Status") {
        &[(b'A', 'R'), (b'F', 'F'), (b'D', 'T'), (b'T', 'D')]
    } else {
        if name.eq_ignore_ascii_case(b"X-Keywords") {
            let text = String::from_utf8_lossy(value);
            text.split_ascii_whitespace().for_each(|keyword| flags.set_keyword(keyword));
        }
        return;
    };
    for octet in value {
        if let Some((_, letter)) = letters.iter().find(|(own, _)| own == octet) {
            flags.set_letter(*letter, |_| None);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_fields_become_flags_and_are_left_out() {
        for (raw, kept, flags) in [
            (
                &b"Subject: a\nStatus: RO\nX-Status: AF\n\nStatus: R\n"[..],
                &b"Subject: a\n\nStatus: R\n"[..],
                "\\Answered \\Flagged \\Seen",
            ),
            (b"X-Status: DT\r\n\r\nb", b"\r\nb", "\\Deleted \\Draft"),
            (b"status: O\nX-Keywords: Work  $Forwarded \nA: b\n", b"A: b\n", "$Forwarded Work"),
            (b"X-IMAPbase: 1 2\n NonJunk\nX-UID: 5\nA: b\n c\n\n", b"A: b\n c\n\n", ""),
            (b"Content-Length: 5\nno field\nA:b", b"no field\nA:b", ""),
            (b"\nStatus: R\n", b"\nStatus: R\n", ""),
            (b"", b"", ""),
        ] {
            let header = read(raw);
            assert_eq!(String::from_utf8_lossy(&header.kept), String::from_utf8_lossy(kept));
            assert_eq!(header.flags.to_string(), flags, "{raw:?}");
            assert!(!header.is_folder_data);
        }
        let data = b"X-IMAP: 17 9\nSubject: DON'T DELETE THIS MESSAGE -- FOLDER INTERNAL DATA\n\nThis text\n";
        assert!(read(data).is_folder_data);
    }
}
