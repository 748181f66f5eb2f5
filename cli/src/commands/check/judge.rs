//! What is right and what is wrong of what was found: pure.

use std::net::IpAddr;

use mailcluster_rpc::{admin::v1::DomainKey, directory::v1::KeyState};

use super::lookup::{DomainFacts, Found, HostFacts};
use crate::commands::dkim::strings;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    Ok,
    /// It works without.
    Advice,
    Missing,
    Wrong,
    /// The DNS did not say.
    Unknown,
}

impl Level {
    pub fn label(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Advice => "advice",
            Self::Missing => "missing",
            Self::Wrong => "wrong",
            Self::Unknown => "unknown",
        }
    }
}

/// One record, or what stands for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    pub level: Level,
    /// For example `MX`.
    pub record: &'static str,
    pub text: String,
    /// A line of a zone file that mends it.
    pub publish: Option<String>,
}

impl Finding {
    fn new(level: Level, record: &'static str, text: impl Into<String>) -> Self {
        Self { level, record, text: text.into(), publish: None }
    }

    fn unknown(record: &'static str) -> Self {
        Self::new(Level::Unknown, record, "the DNS did not answer")
    }

    fn publish(self, line: String) -> Self {
        Self { publish: Some(line), ..self }
    }
}

/// Of the host: its addresses, and their names.
pub fn host(hostname: &str, facts: &HostFacts) -> Vec<Finding> {
    let mut out = Vec::new();
    match facts.addresses.as_deref() {
        None => out.push(Finding::unknown("A, AAAA")),
        Some([]) => out.push(Finding::new(Level::Missing, "A, AAAA", "the host has no address")),
        Some(found) => {
            let texts: Vec<String> = found.iter().map(ToString::to_string).collect();
            out.push(Finding::new(Level::Ok, "A, AAAA", texts.join(", ")));
        }
    }
    out.extend(facts.names.iter().map(|(address, names)| pointer(hostname, *address, names)));
    out
}

fn pointer(hostname: &str, address: IpAddr, names: &Found<String>) -> Finding {
    match names.as_deref() {
        None => Finding::unknown("PTR"),
        Some([]) => {
            Finding::new(Level::Missing, "PTR", format!("{address} has no name; it should be {hostname}"))
        }
        Some(names) if names.iter().any(|name| name == hostname) => {
            Finding::new(Level::Ok, "PTR", format!("{address} is {hostname}"))
        }
        Some(names) => {
            let text = format!("{address} is {}, not {hostname}", names.join(", "));
            Finding::new(Level::Wrong, "PTR", text)
        }
    }
}

/// Of a domain whose mail goes to and comes from `hostname`.
pub fn domain(
    name: &str,
    (hostname, host): (&str, &HostFacts),
    (keys, facts): (&[DomainKey], &DomainFacts),
) -> Vec<Finding> {
    let mut out = vec![exchange(name, hostname, facts), spf(name, (hostname, host), &facts.texts)];
    if keys.is_empty() {
        let text = format!("the domain has no keys: kubectl mailcluster domain dkim rotate {name}");
        out.push(Finding::new(Level::Missing, "DKIM", text));
    }
    out.extend(keys.iter().zip(&facts.keys).map(|(key, found)| dkim(key, found)));
    out.push(dmarc(name, &facts.dmarc));
    out.push(match facts.mta_sts.as_deref().map(|found| of_version(found, "v=STSv1")) {
        None => Finding::unknown("MTA-STS"),
        Some(found) if found.is_empty() => Finding::new(Level::Advice, "MTA-STS", "no policy is announced"),
        Some(_) => Finding::new(Level::Ok, "MTA-STS", "a policy is announced"),
    });
    out
}

fn exchange(name: &str, hostname: &str, facts: &DomainFacts) -> Finding {
    let publish = format!("{name}. MX 10 {hostname}.");
    let Some(found) = &facts.exchanges else { return Finding::unknown("MX") };
    let hosts: Vec<String> = found.iter().map(|(preference, host)| format!("{preference} {host}")).collect();
    let ours = found.iter().find(|(_, host)| host == hostname).map(|(preference, _)| *preference);
    let best = found.first().map(|(preference, _)| *preference);
    match ours {
        _ if found.is_empty() => {
            Finding::new(Level::Missing, "MX", "no host takes the domain's mail").publish(publish)
        }
        None => {
            let text = format!("{} take its mail, not {hostname}", hosts.join(", "));
            Finding::new(Level::Wrong, "MX", text).publish(publish)
        }
        ours if ours == best => Finding::new(Level::Ok, "MX", hosts.join(", ")),
        _ => Finding::new(Level::Advice, "MX", format!("{}: others come first", hosts.join(", "))),
    }
}

/// Records of this version (RFC 7208 section 4.5, RFC 7489 section 6.6.3, RFC 8461 section 3.1).
fn of_version<'a>(found: &'a [String], version: &str) -> Vec<&'a str> {
    let rest = |text: &&str| {
        text.strip_prefix(version).is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', ';']))
    };
    found.iter().map(String::as_str).filter(rest).collect()
}

fn spf(name: &str, (hostname, host): (&str, &HostFacts), texts: &Found<String>) -> Finding {
    let publish = format!("{name}. TXT \"v=spf1 mx a:{hostname} -all\"");
    let Some(found) = texts else { return Finding::unknown("SPF") };
    match of_version(found, "v=spf1").as_slice() {
        [] => Finding::new(Level::Missing, "SPF", "nothing says who may send its mail").publish(publish),
        [one] => {
            if names_host(one, (hostname, host)) {
                Finding::new(Level::Ok, "SPF", *one)
            } else if ["include:", "redirect=", "exists:", "ip4:", "ip6:", "%"]
                .iter()
                .any(|part| one.contains(part))
            {
                let text = format!("{one}: see that it has the addresses that mail goes out from");
                Finding::new(Level::Advice, "SPF", text)
            } else {
                let text = format!("{one}: it does not name {hostname}");
                Finding::new(Level::Wrong, "SPF", text).publish(publish)
            }
        }
        _ => Finding::new(Level::Wrong, "SPF", "there are several records, which count as none")
            .publish(publish),
    }
}

/// Does it let the host send, as far as can be seen from its words?
fn names_host(record: &str, (hostname, host): (&str, &HostFacts)) -> bool {
    let addresses: Vec<String> = host.addresses.iter().flatten().map(ToString::to_string).collect();
    record.split(' ').skip(1).any(|word| {
        let word = word.strip_prefix('+').unwrap_or(word).to_ascii_lowercase();
        let ip = word.strip_prefix("ip4:").or_else(|| word.strip_prefix("ip6:"));
        word == "mx"
            || word == format!("a:{hostname}")
            || ip.is_some_and(|ip| addresses.iter().any(|own| own == ip))
    })
}

fn dkim(key: &DomainKey, found: &Found<String>) -> Finding {
    let publish = format!("{}. TXT {}", key.record_name, strings(&key.record_text));
    let bare = |text: &str| text.split_whitespace().collect::<String>().trim_end_matches(';').to_owned();
    let state = match key.state() {
        KeyState::Pending => "waits",
        KeyState::Active => "signs",
        KeyState::Retiring => "signed until lately",
        KeyState::Unspecified => "is of an unknown state",
    };
    let what = format!("{} {state}", key.selector);
    match found.as_deref() {
        None => Finding::unknown("DKIM"),
        Some(texts) if texts.iter().any(|text| bare(text) == bare(&key.record_text)) => {
            Finding::new(Level::Ok, "DKIM", what)
        }
        Some([]) => {
            Finding::new(Level::Missing, "DKIM", format!("{what} and is not published")).publish(publish)
        }
        Some(_) => {
            Finding::new(Level::Wrong, "DKIM", format!("{what}; another key is published")).publish(publish)
        }
    }
}

fn dmarc(name: &str, found: &Found<String>) -> Finding {
    let publish = format!("_dmarc.{name}. TXT \"v=DMARC1; p=none; rua=mailto:postmaster@{name}\"");
    let Some(found) = found else { return Finding::unknown("DMARC") };
    match of_version(found, "v=DMARC1").as_slice() {
        [] => Finding::new(Level::Missing, "DMARC", "no policy").publish(publish),
        [one] if one.split(';').any(|tag| tag.trim_start().starts_with("p=")) => {
            Finding::new(Level::Ok, "DMARC", *one)
        }
        [one] => Finding::new(Level::Wrong, "DMARC", format!("{one}: it has no p=")).publish(publish),
        _ => Finding::new(Level::Wrong, "DMARC", "there are several records, which count as none")
            .publish(publish),
    }
}

#[cfg(test)]
mod tests;
