//! The field Authentication-Results (RFC 8601).

use std::{fmt::Write, net::IpAddr};

use crate::results::{Authors, Outcome, Results};

/// Longest value that is written; addresses are no longer (RFC 5321 section 4.5.3.1.3).
const MAX_VALUE: usize = 320;

/// Does a field's value claim to be by `name`? `value` begins behind the colon. What cannot be read does not, as no
/// reader could take it for ours; a comment, quotes, a version and another case hide nothing.
#[must_use]
pub fn is_forged(value: &[u8], name: &str) -> bool {
    let text = String::from_utf8_lossy(value);
    let mut rest = text.as_ref();
    let mut id = String::new();
    loop {
        rest = skip(rest);
        let Some(next) = rest.chars().next() else { break };
        if next == '"' {
            let (quoted, left) = quoted(&rest[1..]);
            id.push_str(&quoted);
            rest = left;
        } else {
            let end = rest.find(|c: char| c.is_whitespace() || "();\"".contains(c)).unwrap_or(rest.len());
            // Whatever cannot stand here ends it.
            if end == 0 {
                break;
            }
            id.push_str(&rest[..end]);
            rest = &rest[end..];
        }
        // A word of its own behind the id is the version.
        if rest.starts_with(|c: char| c.is_whitespace() || c == ';') {
            break;
        }
    }
    id.trim_end_matches('.').eq_ignore_ascii_case(name.trim_end_matches('.'))
}

/// Behind white space and comments, which nest.
fn skip(mut text: &str) -> &str {
    loop {
        text = text.trim_start();
        if !text.starts_with('(') {
            return text;
        }
        let (mut depth, mut escaped, mut end) = (0_u32, false, text.len());
        for (at, c) in text.char_indices() {
            match c {
                _ if escaped => escaped = false,
                '\\' => escaped = true,
                '(' => depth += 1,
                ')' => depth -= 1,
                _ => {}
            }
            if depth == 0 {
                end = at + 1;
                break;
            }
        }
        text = &text[end..];
    }
}

/// A quoted string's text, and what is behind it.
fn quoted(text: &str) -> (String, &str) {
    let (mut out, mut escaped) = (String::new(), false);
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => {
                out.push(c);
                escaped = false;
            }
            '\\' => escaped = true,
            '"' => return (out, &text[at + 1..]),
            c => out.push(c),
        }
    }
    (out, "")
}

/// What stands in a name that somebody else chose, without what could end the line, or start another thought.
pub(crate) fn plain(text: &str) -> String {
    text.chars().filter(|c| c.is_alphanumeric() || ".-_:".contains(*c)).take(MAX_VALUE).collect()
}

/// A pvalue: as a token where it can be one, else quoted. Controls are left out.
fn value(text: &str) -> String {
    let text: String = text.chars().filter(|c| !c.is_control()).take(MAX_VALUE).collect();
    let is_plain = |c: char| c.is_alphanumeric() || "!#$%&'*+-/^_`{|}~.@:".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) {
        return text;
    }
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// Who sent the message, as far as the field tells.
pub(crate) struct Sender<'a> {
    pub(crate) client: IpAddr,
    pub(crate) helo: &'a str,
    /// MAIL FROM; empty for the null sender.
    pub(crate) sender: &'a str,
}

/// Writes the field, with its name and last CRLF.
pub(crate) fn write(results: &Results, name: &str, from: &Sender<'_>) -> String {
    let mut out = format!("Authentication-Results: {name}");
    let mut add = |method: &str, outcome: Outcome, rest: std::fmt::Arguments<'_>| {
        let written = write!(out, ";\r\n\t{method}={}{rest}", outcome.word());
        debug_assert!(written.is_ok(), "writing to a string cannot fail");
    };
    if let Some(outcome) = results.iprev {
        add("iprev", outcome, format_args!(" policy.iprev={}", address(from.client)));
    }
    if let Some(outcome) = results.helo {
        add("spf", outcome, format_args!(" smtp.helo={}", value(from.helo)));
    }
    if let Some(outcome) = results.spf.filter(|_| !from.sender.is_empty()) {
        add("spf", outcome, format_args!(" smtp.mailfrom={}", value(from.sender)));
    }
    for signature in results.dkim.iter().flatten() {
        let why = if signature.why.is_empty() { String::new() } else { format!(" ({})", signature.why) };
        match signature.domain.is_empty() {
            true => add("dkim", signature.outcome, format_args!("{why}")),
            false => {
                let (domain, selector) = (value(&signature.domain), value(&signature.selector));
                add("dkim", signature.outcome, format_args!("{why} header.d={domain} header.s={selector}"));
            }
        }
    }
    if results.dkim.as_ref().is_some_and(Vec::is_empty) {
        add("dkim", Outcome::None, format_args!(""));
    }
    if let Some(outcome) = results.arc {
        add("arc", outcome, format_args!(""));
    }
    if let Some(dmarc) = &results.dmarc {
        match dmarc.authors {
            Authors::Named => {
                let (policy, domain) = (dmarc.policy.word(), value(&dmarc.domain));
                add("dmarc", dmarc.outcome, format_args!(" (p={policy}) header.from={domain}"));
            }
            Authors::Unreadable => add("dmarc", dmarc.outcome, format_args!(" (no author that can be read)")),
            Authors::Unknown => add("dmarc", dmarc.outcome, format_args!("")),
            Authors::Several => add("dmarc", dmarc.outcome, format_args!(" (more than one author)")),
        }
    }
    for listed in &results.listed {
        let (zone, answer) = (&listed.zone, listed.answer);
        add("x-dnsbl", Outcome::Fail, format_args!(" policy.zone={zone} policy.answer={answer}"));
    }
    if results.by_check().is_empty() {
        out.push_str("; none");
    }
    out.push_str("\r\n");
    out
}

fn address(ip: IpAddr) -> String {
    match ip.to_canonical() {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("\"{ip}\""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::{Dmarc, Listed, Policy, Signature};

    #[test]
    fn what_claims_to_be_ours_is_known_however_it_is_written() {
        for (field, expected) in [
            (" mail.example.org; spf=pass", true),
            (" mail.example.org 1; spf=pass", true),
            (" mail.example.org", true),
            (" MAIL.Example.ORG.;\r\n\tspf=pass", true),
            ("mail.example.org;none", true),
            ("\r\n\tmail.example.org;\r\n\tspf=pass", true),
            (" (really (by)\\) us) mail.example.org (1.0);spf=pass", true),
            (" \"mail.example.org\"; spf=pass", true),
            (" \"mail.exa\\mple.org\"; spf=pass", true),
            (" mail(a comment).example.org; spf=pass", true),
            (" mx.elsewhere.test; spf=pass smtp.mailfrom=mail.example.org", false),
            (" mail.example.org.elsewhere.test; spf=pass", false),
            (" xmail.example.org; spf=pass", false),
            (" ; spf=pass", false),
            ("", false),
            (" (mail.example.org; spf=pass", false),
        ] {
            assert_eq!(is_forged(field.as_bytes(), "mail.example.org"), expected, "{field:?}");
        }
        assert!(is_forged(b" mail.example.org;\xff", "mail.example.org"));
    }

    #[test]
    fn all_that_was_found_is_written() {
        let signature =
            |outcome, why| Signature { outcome, domain: "example.org".into(), selector: "s1".into(), why };
        let results = Results {
            iprev: Some(Outcome::Pass),
            helo: Some(Outcome::None),
            spf: Some(Outcome::SoftFail),
            dkim: Some(vec![
                signature(Outcome::Pass, ""),
                signature(Outcome::Policy, "rsa-sha1"),
                Signature { domain: String::new(), ..signature(Outcome::PermError, "cannot be read") },
            ]),
            arc: Some(Outcome::None),
            dmarc: Some(Dmarc {
                outcome: Outcome::Pass,
                policy: Policy::Reject,
                domain: "example.org".into(),
                authors: Authors::Named,
            }),
            listed: vec![Listed {
                zone: "bl.example".into(),
                answer: [127, 0, 0, 4].into(),
                action: crate::ListAction::Mark,
            }],
        };
        let from = Sender {
            client: "192.0.2.1".parse().unwrap(),
            helo: "mx.example.org",
            sender: "ann@example.org",
        };
        assert_eq!(
            write(&results, "mail.example.net", &from),
            "Authentication-Results: mail.example.net;\r\n\tiprev=pass policy.iprev=192.0.2.1;\r\n\t\
             spf=none smtp.helo=mx.example.org;\r\n\tspf=softfail smtp.mailfrom=ann@example.org;\r\n\t\
             dkim=pass header.d=example.org header.s=s1;\r\n\t\
             dkim=policy (rsa-sha1) header.d=example.org header.s=s1;\r\n\tdkim=permerror (cannot be read);\r\n\t\
             arc=none;\r\n\tdmarc=pass (p=reject) header.from=example.org;\r\n\t\
             x-dnsbl=fail policy.zone=bl.example policy.answer=127.0.0.4\r\n"
        );
        assert_eq!(results.summary(), "iprev:pass,helo:none,spf:softfail,dkim:pass,dmarc:pass,dnsbl:fail");
        let nothing = write(&Results::default(), "mail.example.net", &from);
        assert_eq!(nothing, "Authentication-Results: mail.example.net; none\r\n");
        let unsigned = Results { dkim: Some(vec![]), ..Results::default() };
        assert!(write(&unsigned, "m", &from).ends_with("\tdkim=none\r\n"));
    }

    #[test]
    fn nothing_that_others_chose_ends_a_line_or_adds_a_result() {
        let results = Results { helo: Some(Outcome::None), spf: Some(Outcome::None), ..Results::default() };
        let from = Sender {
            client: "::1".parse().unwrap(),
            helo: "x; dmarc=pass\r\nX-Evil: 1",
            sender: "\"a\\\"; dkim=pass\"@b",
        };
        let field = write(&results, "m", &from);
        assert_eq!(
            field,
            "Authentication-Results: m;\r\n\tspf=none smtp.helo=\"x; dmarc=passX-Evil: 1\";\r\n\t\
             spf=none smtp.mailfrom=\"\\\"a\\\\\\\"; dkim=pass\\\"@b\"\r\n"
        );
    }
}
