//! SPF (RFC 7208) of a client's HELO name and of MAIL FROM.

use std::net::IpAddr;

use mail_auth::{MessageAuthenticator, SpfOutput, SpfResult, common::to_a_label, spf::verify::SpfParameters};

use crate::{lookups::Lookups, results::Outcome};

/// Look-ups of one evaluation, those of an MX's hosts among them; it is at most ten terms (RFC 7208 section 4.6.4).
const MAX_LOOKUPS: u32 = 40;

/// Whose permission is looked for.
pub(crate) struct Asking<'a> {
    pub(crate) client: IpAddr,
    pub(crate) helo: &'a str,
    /// The name of this host.
    pub(crate) here: &'a str,
}

/// Could it be looked up? Address literals cannot.
pub(crate) fn is_domain(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    let is_label = |label: &str| {
        (1..=63).contains(&label.len()) && label.chars().all(|c| c.is_alphanumeric() || c == '-' || c == '_')
    };
    name.len() <= 253
        && name.contains('.')
        && name.split('.').all(is_label)
        && name.parse::<IpAddr>().is_err()
}

/// Of the HELO name.
pub(crate) async fn helo(dns: &MessageAuthenticator, asking: &Asking<'_>) -> SpfOutput {
    if !is_domain(asking.helo) {
        return SpfOutput::new(String::new()).with_result(SpfResult::None);
    }
    let name = to_a_label(asking.helo.trim_end_matches('.'));
    evaluate(dns, SpfParameters::verify_ehlo(asking.client, &name, asking.here)).await
}

/// Of MAIL FROM, which is not the null sender.
pub(crate) async fn mail_from(dns: &MessageAuthenticator, asking: &Asking<'_>, sender: &str) -> SpfOutput {
    let Some((local, domain)) = sender.rsplit_once('@').filter(|(_, domain)| is_domain(domain)) else {
        return SpfOutput::new(String::new()).with_result(SpfResult::None);
    };
    let sender = format!("{local}@{}", to_a_label(domain));
    evaluate(dns, SpfParameters::verify_mail_from(asking.client, asking.helo, asking.here, &sender)).await
}

async fn evaluate(dns: &MessageAuthenticator, params: SpfParameters<'_>) -> SpfOutput {
    let lookups = Lookups::new(MAX_LOOKUPS);
    let output = dns.check_host(lookups.of(params)).await;
    match lookups.are_too_many() {
        true => SpfOutput::new(output.domain().to_owned()).with_result(SpfResult::PermError),
        false => output,
    }
}

/// In our words.
pub(crate) fn outcome(output: &SpfOutput) -> Outcome {
    match output.result() {
        SpfResult::Pass => Outcome::Pass,
        SpfResult::Fail => Outcome::Fail,
        SpfResult::SoftFail => Outcome::SoftFail,
        SpfResult::Neutral => Outcome::Neutral,
        SpfResult::TempError => Outcome::TempError,
        SpfResult::PermError => Outcome::PermError,
        SpfResult::None => Outcome::None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_domains_are_looked_up() {
        for name in ["example.org", "a.b.example.org.", "_x.example.org", "b\u{fc}cher.example"] {
            assert!(is_domain(name), "{name}");
        }
        let long = format!("{}.org", "a".repeat(64));
        for name in ["", "localhost", "[192.0.2.1]", "192.0.2.1", "a..b", "a b.c", "a.b/c", ".", &long] {
            assert!(!is_domain(name), "{name}");
        }
    }
}
