//! What a server offers in its answer to EHLO (RFC 5321 section 4.1.1.1).
//!
//! ```text
//! ehlo-ok-rsp  = ( "250" SP Domain [ SP ehlo-greet ] CRLF ) / ( "250-" Domain [ SP ehlo-greet ] CRLF
//!                *( "250-" ehlo-line CRLF ) "250" SP ehlo-line CRLF )
//! ehlo-line    = ehlo-keyword *( SP ehlo-param )
//! ehlo-keyword = (ALPHA / DIGIT) *(ALPHA / DIGIT / "-")
//! ```

use crate::Reply;

/// Most AUTH mechanisms that are remembered.
const MAX_MECHANISMS: usize = 32;
/// Longest name of a mechanism (RFC 4422 section 3.1).
const MAX_MECHANISM: usize = 20;

/// A server's offers. A keyword that comes twice counts once, as it came first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Extensions {
    /// SIZE (RFC 1870) was offered.
    pub size: bool,
    /// The largest message; `None` when no limit was named (or 0, which says the same).
    pub max_size: Option<u64>,
    /// 8BITMIME (RFC 6152).
    pub eight_bit: bool,
    /// SMTPUTF8 (RFC 6531), together with the 8BITMIME that it demands.
    pub utf8: bool,
    /// DSN (RFC 3461).
    pub dsn: bool,
    /// PIPELINING (RFC 2920).
    pub pipelining: bool,
    /// CHUNKING (RFC 3030).
    pub chunking: bool,
    /// STARTTLS (RFC 3207).
    pub start_tls: bool,
    /// REQUIRETLS (RFC 8689).
    pub require_tls: bool,
    /// ENHANCEDSTATUSCODES (RFC 2034).
    pub enhanced_codes: bool,
    /// AUTH (RFC 4954): mechanisms in capitals.
    pub auth: Vec<String>,
    /// LIMITS (RFC 9422): most transactions of one session.
    pub max_mails: Option<u32>,
    /// LIMITS (RFC 9422): most recipients of one transaction.
    pub max_recipients: Option<u32>,
    /// LIMITS (RFC 9422): most domains among the recipients of one transaction.
    pub max_domains: Option<u32>,
}

impl Extensions {
    /// Reads a positive answer to EHLO. Lines that are none of ours, or make no sense, are passed over.
    #[must_use]
    pub fn parse(reply: &Reply) -> Self {
        let mut offers = Self::default();
        let mut seen: Vec<String> = Vec::new();
        for line in reply.text.split('\n').skip(1) {
            // "AUTH=LOGIN" is how servers before RFC 2554 wrote it; some still do, beside the right form.
            let old_auth =
                line.get(..5).filter(|start| start.eq_ignore_ascii_case("AUTH=")).map(|_| &line[5..]);
            let before = old_auth.map(|_| "AUTH");
            let mut words = before.into_iter().chain(old_auth.unwrap_or(line).split_ascii_whitespace());
            let Some(keyword) = words.next().map(str::to_ascii_uppercase) else { continue };
            if keyword != "AUTH" && seen.contains(&keyword) {
                continue;
            }
            offers.take(&keyword, &words.collect::<Vec<_>>());
            seen.push(keyword);
        }
        offers.utf8 &= offers.eight_bit;
        offers
    }

    /// How many recipients go into one transaction, of `wanted`.
    #[must_use]
    pub fn recipients_at_once(&self, wanted: usize) -> usize {
        let limit = self.max_recipients.map_or(usize::MAX, |max| usize::try_from(max).unwrap_or(usize::MAX));
        wanted.min(limit).max(1)
    }

    fn take(&mut self, keyword: &str, params: &[&str]) {
        match keyword {
            "SIZE" => {
                self.size = true;
                self.max_size = params.first().and_then(|p| p.parse().ok()).filter(|max| *max > 0);
            }
            "8BITMIME" => self.eight_bit = true,
            "SMTPUTF8" => self.utf8 = true,
            "DSN" => self.dsn = true,
            "PIPELINING" => self.pipelining = true,
            "CHUNKING" => self.chunking = true,
            "STARTTLS" => self.start_tls = true,
            "REQUIRETLS" => self.require_tls = true,
            "ENHANCEDSTATUSCODES" => self.enhanced_codes = true,
            "AUTH" => self.mechanisms(params),
            "LIMITS" => self.limits(params),
            _ => {}
        }
    }

    fn mechanisms(&mut self, params: &[&str]) {
        for name in params.iter().map(|p| p.to_ascii_uppercase()) {
            let good = name.len() <= MAX_MECHANISM
                && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
            if good && self.auth.len() < MAX_MECHANISMS && !self.auth.contains(&name) {
                self.auth.push(name);
            }
        }
    }

    /// `"LIMITS" *( SP limit-name "=" limit-value )`; a limit of 0 is none (RFC 9422 section 4 wants at least 1).
    fn limits(&mut self, params: &[&str]) {
        for param in params {
            let Some((name, value)) = param.split_once('=') else { continue };
            let value = value.parse().ok().filter(|limit| *limit > 0);
            match name.to_ascii_uppercase().as_str() {
                "MAILMAX" => self.max_mails = value,
                "RCPTMAX" => self.max_recipients = value,
                "RCPTDOMAINMAX" => self.max_domains = value,
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offers(lines: &str) -> Extensions {
        Extensions::parse(&Reply::with(250, format!("mx.example.org hello{lines}")))
    }

    #[test]
    fn each_keyword_is_read_in_any_case() {
        let all = offers(
            "\nPIPELINING\nsize 10240000\nStartTLS\n8BITMIME\nDSN\nSMTPUTF8\nCHUNKING\nREQUIRETLS\n\
             ENHANCEDSTATUSCODES\nAUTH plain LOGIN PLAIN\nLIMITS RCPTMAX=20 MAILMAX=5 RCPTDOMAINMAX=1 X=9\nXFOO",
        );
        let expected = Extensions {
            size: true,
            max_size: Some(10_240_000),
            eight_bit: true,
            utf8: true,
            dsn: true,
            pipelining: true,
            chunking: true,
            start_tls: true,
            require_tls: true,
            enhanced_codes: true,
            auth: vec!["PLAIN".into(), "LOGIN".into()],
            max_mails: Some(5),
            max_recipients: Some(20),
            max_domains: Some(1),
        };
        assert_eq!(all, expected);
    }

    #[test]
    fn what_makes_no_sense_is_passed_over() {
        let none = Extensions::default();
        for (lines, expected) in [
            ("", none.clone()),
            // The first line is the server's name, not an offer.
            (" DSN", none.clone()),
            ("\n\n   \n=\nPIPELINE\nDSNX", none.clone()),
            ("\nSIZE", Extensions { size: true, ..none.clone() }),
            ("\nSIZE 0", Extensions { size: true, ..none.clone() }),
            ("\nSIZE -1 x", Extensions { size: true, ..none.clone() }),
            ("\nSIZE 99999999999999999999999", Extensions { size: true, ..none.clone() }),
            ("\nSIZE 5\nSIZE 7", Extensions { size: true, max_size: Some(5), ..none.clone() }),
            // RFC 6531 section 3.1: SMTPUTF8 comes with 8BITMIME or not at all.
            ("\nSMTPUTF8", none.clone()),
            ("\nLIMITS RCPTMAX=0 MAILMAX=x RCPTDOMAINMAX", none.clone()),
            ("\nX AUTH=PLAIN", none.clone()),
            ("\nauth=PLAIN LOGIN", Extensions { auth: vec!["PLAIN".into(), "LOGIN".into()], ..none.clone() }),
            ("\nAUTH A\u{fc} \r x/y THIS-NAME-IS-MUCH-TOO-LONG-FOR-ONE", none.clone()),
        ] {
            assert_eq!(offers(lines), expected, "{lines:?}");
        }
        let many: String = (0..1000).map(|n| format!(" M{n}")).collect();
        assert_eq!(offers(&format!("\nAUTH{many}")).auth.len(), MAX_MECHANISMS);
    }

    #[test]
    fn a_transaction_takes_what_the_server_does() {
        let limited = |max_recipients| Extensions { max_recipients, ..Extensions::default() };
        assert_eq!(limited(None).recipients_at_once(100), 100);
        assert_eq!(limited(Some(20)).recipients_at_once(100), 20);
        assert_eq!(limited(Some(500)).recipients_at_once(100), 100);
    }
}
