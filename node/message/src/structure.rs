//! The walk that finds MIME parts (RFC 2046 section 5.1): octets only, bounded in depth and number.

use std::ops::Range;

use crate::{
    content::{ContentType, token},
    header::{first, header_end},
    message::{Part, PartKind},
};

/// Deepest nesting; what is deeper is a leaf. Each level costs one pass over its octets.
const MAX_DEPTH: usize = 24;
/// Most parts; what follows belongs to the last one.
const MAX_PARTS: usize = 1000;

pub(crate) fn parse(raw: &[u8]) -> Part {
    let mut walk = Walk { raw, parts: 0 };
    walk.entity(0..raw.len(), 0, false)
}

struct Walk<'a> {
    raw: &'a [u8],
    parts: usize,
}

impl Walk<'_> {
    /// `in_digest`: the default type is message/rfc822 (RFC 2046 section 5.1.5).
    fn entity(&mut self, range: Range<usize>, depth: usize, in_digest: bool) -> Part {
        self.parts += 1;
        let octets = &self.raw[range.clone()];
        let split = range.start + header_end(octets);
        let (header, body) = (range.start..split, split..range.end);
        let fields = &self.raw[header.clone()];
        let default = if in_digest { ("message", "rfc822") } else { ("text", "plain") };
        let content_type = first(fields, b"content-type")
            .and_then(|value| ContentType::parse(&value))
            .unwrap_or_else(|| ContentType::new(default.0, default.1));
        let encoding = first(fields, b"content-transfer-encoding").and_then(|v| token(&v));
        let encoding = encoding.unwrap_or_else(|| "7bit".to_owned());
        let kind = if depth < MAX_DEPTH && matches!(encoding.as_str(), "7bit" | "8bit" | "binary") {
            self.inside(&content_type, body.clone(), depth)
        } else {
            PartKind::Leaf
        };
        Part { header, body, content_type, encoding, kind }
    }

    fn inside(&mut self, content_type: &ContentType, body: Range<usize>, depth: usize) -> PartKind {
        if content_type.kind == "multipart" {
            let digest = content_type.subtype == "digest";
            let boundary = content_type.parameter("boundary").unwrap_or_default().to_vec();
            let ranges = self.between(&boundary, body);
            let parts: Vec<Part> =
                ranges.into_iter().map(|range| self.entity(range, depth + 1, digest)).collect();
            return if parts.is_empty() { PartKind::Leaf } else { PartKind::Multipart(parts) };
        }
        if content_type.kind == "message" && matches!(content_type.subtype.as_str(), "rfc822" | "global") {
            return PartKind::Message(Box::new(self.entity(body, depth + 1, false)));
        }
        PartKind::Leaf
    }

    /// The octets between delimiter lines. The line end before a delimiter belongs to the delimiter.
    fn between(&self, boundary: &[u8], body: Range<usize>) -> Vec<Range<usize>> {
        let mut ranges = Vec::new();
        // RFC 2046 allows 70 octets; be lenient, but not with an empty one.
        if boundary.is_empty() || boundary.len() > 200 {
            return ranges;
        }
        let mut open: Option<usize> = None;
        let mut line = body.start;
        while line < body.end {
            let next = memchr::memchr(b'\n', &self.raw[line..body.end]).map_or(body.end, |n| line + n + 1);
            let delimiter = delimiter(&self.raw[line..next], boundary);
            if delimiter != Delimiter::No {
                if let Some(start) = open.take() {
                    ranges.push(start..self.before_line_end(start, line));
                }
                if delimiter == Delimiter::Close {
                    return ranges;
                }
                if self.parts + ranges.len() >= MAX_PARTS {
                    ranges.push(next..body.end);
                    return ranges;
                }
                open = Some(next);
            }
            line = next;
        }
        ranges.extend(open.map(|start| start..body.end));
        ranges
    }

    fn before_line_end(&self, start: usize, end: usize) -> usize {
        let octets = &self.raw[start..end];
        let length = octets.strip_suffix(b"\r\n").or(octets.strip_suffix(b"\n")).unwrap_or(octets).len();
        start + length
    }
}

#[derive(PartialEq, Eq)]
enum Delimiter {
    No,
    Open,
    Close,
}

/// ```text
/// delimiter := CRLF "--" boundary ["--"] transport-padding
/// ```
fn delimiter(line: &[u8], boundary: &[u8]) -> Delimiter {
    let Some(rest) = line.strip_prefix(b"--").and_then(|rest| rest.strip_prefix(boundary)) else {
        return Delimiter::No;
    };
    if rest.trim_ascii().is_empty() {
        return Delimiter::Open;
    }
    match rest.strip_prefix(b"--") {
        Some(rest) if rest.trim_ascii().is_empty() => Delimiter::Close,
        _ => Delimiter::No,
    }
}
