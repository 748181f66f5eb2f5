//! Header fields in relaxed form (RFC 6376 section 3.4.2), and which of them are signed.

use memchr::memmem;

use crate::SignError;

/// What readers go by: one more of these than there are is signed, so that none can be added (section 8.15).
const OVERSIGNED: [&str; 5] = ["From", "Reply-To", "Subject", "To", "Cc"];
/// Signed as often as they are there (section 5.4.1; trace fields and what others may add are not).
const SIGNED: [&str; 18] = [
    "Sender",
    "Date",
    "Message-ID",
    "In-Reply-To",
    "References",
    "MIME-Version",
    "Content-Type",
    "Content-Transfer-Encoding",
    "Content-ID",
    "Content-Description",
    "Auto-Submitted",
    "List-Id",
    "List-Help",
    "List-Unsubscribe",
    "List-Unsubscribe-Post",
    "List-Post",
    "List-Owner",
    "List-Archive",
];
/// Most fields of one name: more are no message of RFC 5322, and would make a signature without end.
const MAX_OF_A_NAME: usize = 16;

/// Fields of a header section, each with its folds and its CRLF.
pub fn fields(section: &[u8]) -> Vec<&[u8]> {
    let mut fields = Vec::new();
    let mut start = 0;
    for at in memmem::find_iter(section, b"\r\n").map(|at| at + 2) {
        if !matches!(section.get(at), Some(b' ' | b'\t')) {
            fields.push(&section[start..at]);
            start = at;
        }
    }
    if start < section.len() {
        fields.push(&section[start..]);
    }
    fields
}

/// Name and value of a field.
fn parts(field: &[u8]) -> (&[u8], &[u8]) {
    let colon = memchr::memchr(b':', field).unwrap_or(field.len());
    (field[..colon].trim_ascii(), field.get(colon + 1..).unwrap_or_default())
}

/// Names for `h=` and the fields that they stand for, in its order: of each name the last field first (section 5.4.2).
pub fn selected(section: &[u8]) -> Result<(Vec<&'static str>, Vec<&[u8]>), SignError> {
    let all = fields(section);
    let (mut names, mut chosen) = (Vec::new(), Vec::new());
    for name in OVERSIGNED.iter().chain(&SIGNED) {
        let named = all.iter().rev().filter(|field| parts(field).0.eq_ignore_ascii_case(name.as_bytes()));
        let before = chosen.len();
        chosen.extend(named.copied());
        let found = chosen.len() - before;
        if found > MAX_OF_A_NAME {
            return Err(SignError::TooMany(name));
        }
        if found == 0 && *name == "From" {
            return Err(SignError::NoFrom);
        }
        let extra = usize::from(OVERSIGNED.contains(name));
        names.extend(std::iter::repeat_n(*name, found + extra));
    }
    Ok((names, chosen))
}

/// Appends a field: name in lower case, unfolded, runs of white space as one space.
pub fn relax(field: &[u8], out: &mut Vec<u8>) {
    let (name, value) = parts(field);
    out.extend(name.iter().map(u8::to_ascii_lowercase));
    out.push(b':');
    let start = out.len();
    let mut space = false;
    for octet in value {
        match octet {
            b' ' | b'\t' => space = true,
            b'\r' | b'\n' => {}
            octet => {
                if std::mem::take(&mut space) && out.len() > start {
                    out.push(b' ');
                }
                out.push(*octet);
            }
        }
    }
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_relaxed_as_the_rfc_shows() {
        for (field, expected) in [
            ("A: X\r\n", "a:X\r\n"),
            ("B : Y\t\r\n\tZ  \r\n", "b:Y Z\r\n"),
            ("Subject:\r\n folded\r\n", "subject:folded\r\n"),
            ("Empty:\r\n", "empty:\r\n"),
            ("X:a:b\r\n", "x:a:b\r\n"),
        ] {
            let mut out = Vec::new();
            relax(field.as_bytes(), &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), expected, "{field:?}");
        }
    }

    #[test]
    fn what_readers_see_is_signed_once_more_than_it_is_there() {
        let section = b"Received: x\r\nto: a\r\nTo: b\r\nFROM: c\r\nDate: d\r\nX-Own: e\r\n";
        let (names, chosen) = selected(section).unwrap();
        assert_eq!(names, ["From", "From", "Reply-To", "Subject", "To", "To", "To", "Cc", "Date"]);
        assert_eq!(chosen, [&b"FROM: c\r\n"[..], b"To: b\r\n", b"to: a\r\n", b"Date: d\r\n"]);
    }

    #[test]
    fn a_header_without_from_or_without_end_is_not_signed() {
        assert_eq!(selected(b"To: a\r\n").unwrap_err(), SignError::NoFrom);
        let many = format!("From: a\r\n{}", "To: b\r\n".repeat(17));
        assert_eq!(selected(many.as_bytes()).unwrap_err(), SignError::TooMany("To"));
    }
}
