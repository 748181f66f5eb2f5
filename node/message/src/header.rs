//! Header fields as octets (RFC 5322 section 2.2).

use std::ops::Range;

/// One header field with its place in the message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field<'a> {
    /// Its name as written.
    pub name: &'a [u8],
    /// What follows the colon, folds and last line end included.
    pub value: &'a [u8],
    /// The whole field with its line ends.
    pub raw: &'a [u8],
}

impl Field<'_> {
    /// Has it this name (in any case)?
    #[must_use]
    pub fn is(&self, name: &[u8]) -> bool {
        self.name.eq_ignore_ascii_case(name)
    }
}

/// Where the header ends: behind its empty line, or at the end of `octets` when there is none.
#[must_use]
pub fn header_end(octets: &[u8]) -> usize {
    let mut start = 0;
    loop {
        let rest = octets.get(start..).unwrap_or_default();
        if rest.starts_with(b"\r\n") {
            return start + 2;
        }
        if rest.starts_with(b"\n") {
            return start + 1;
        }
        match memchr::memchr(b'\n', rest) {
            Some(offset) => start += offset + 1,
            None => return octets.len(),
        }
    }
}

/// The fields of a header; lines that are no field belong to none.
pub fn header_fields(header: &[u8]) -> impl Iterator<Item = Field<'_>> {
    let mut rest = header;
    std::iter::from_fn(move || {
        loop {
            if rest.is_empty() || rest.starts_with(b"\r\n") || rest.starts_with(b"\n") {
                return None;
            }
            let length = field_length(rest);
            let (raw, after) = rest.split_at(length);
            rest = after;
            if let Some(colon) = memchr::memchr(b':', raw) {
                let name = raw[..colon].trim_ascii_end();
                if !name.is_empty() && name.iter().all(|b| matches!(b, 0x21..=0x7e)) {
                    return Some(Field { name, value: &raw[colon + 1..], raw });
                }
            }
        }
    })
}

/// Octets up to the first line end that no folded line follows.
fn field_length(octets: &[u8]) -> usize {
    let mut end = 0;
    loop {
        match memchr::memchr(b'\n', &octets[end..]) {
            None => return octets.len(),
            Some(offset) => end += offset + 1,
        }
        if !matches!(octets.get(end), Some(b' ' | b'\t')) {
            return end;
        }
    }
}

/// A field's value on one line: line ends removed, outer white space trimmed (RFC 5322 section 2.2.3).
#[must_use]
pub fn unfold(value: &[u8]) -> Vec<u8> {
    let joined: Vec<u8> = value.iter().copied().filter(|b| !matches!(b, b'\r' | b'\n')).collect();
    joined.trim_ascii().to_vec()
}

/// The first field of this name, unfolded.
pub(crate) fn first(header: &[u8], name: &[u8]) -> Option<Vec<u8>> {
    header_fields(header).find(|field| field.is(name)).map(|field| unfold(field.value))
}

/// The lines that end a range of octets: how many LFs it has.
pub(crate) fn lines(octets: &[u8], range: &Range<usize>) -> usize {
    memchr::memchr_iter(b'\n', octets.get(range.clone()).unwrap_or_default()).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_and_folds() {
        let header = b"From x\r\nSubject: a\r\n b\r\nno field\r\nTo : c\r\nX:\n\r\nbody: no";
        let end = header_end(header);
        assert_eq!(&header[end..], b"body: no");
        let fields: Vec<_> = header_fields(&header[..end]).map(|f| (f.name, unfold(f.value))).collect();
        assert_eq!(
            fields,
            [(&b"Subject"[..], b"a b".to_vec()), (b"To", b"c".to_vec()), (b"X", b"".to_vec())]
        );
        assert_eq!(header_end(b"a: b"), 4);
        assert_eq!(header_end(b"\nx"), 1);
    }
}
