//! MTA-STS (RFC 8461): the TXT record that says that there is a policy, the policy, and how long it is kept.

/// Largest policy that is read (RFC 8461 section 3.3 suggests it).
pub const MAX_POLICY: usize = 64 << 10;
/// Most hosts of a policy.
const MAX_HOSTS: usize = 200;
/// Longest that a policy is kept, in seconds (RFC 8461 section 3.2: a year).
const MAX_AGE: u32 = 31_557_600;

/// What a policy demands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Mail goes nowhere where the policy does not hold.
    Enforce,
    /// It goes all the same, and is reported.
    Testing,
    /// As if there were no policy.
    None,
}

/// A policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// What it demands.
    pub mode: Mode,
    /// Hosts, in lower case; `*.example.org` stands for one label before it.
    pub hosts: Vec<String>,
    /// How long it is kept, in seconds.
    pub max_age: u32,
}

/// Why a text is no policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PolicyFault {
    /// More than 64 KiB.
    #[error("the policy is too long")]
    TooLong,
    /// Not UTF-8, or a line that is not `key: value`.
    #[error("the policy has a line that is not \"key: value\"")]
    Line,
    /// Not `STSv1`.
    #[error("the policy's version is not STSv1")]
    Version,
    /// No known mode.
    #[error("the policy's mode is none of enforce, testing, none")]
    Mode,
    /// `max_age` is missing, or no number up to a year of seconds.
    #[error("the policy's max_age is missing or not a number of seconds up to a year")]
    MaxAge,
    /// No host, or one that is no name.
    #[error("the policy names no host, or something that is none")]
    Hosts,
}

impl Policy {
    /// Reads a policy (RFC 8461 section 3.2). Of a key that comes twice the first counts; unknown keys are passed over.
    ///
    /// # Errors
    /// [`PolicyFault`]
    pub fn parse(text: &[u8]) -> Result<Self, PolicyFault> {
        if text.len() > MAX_POLICY {
            return Err(PolicyFault::TooLong);
        }
        let text = std::str::from_utf8(text).map_err(|_| PolicyFault::Line)?;
        let (mut version, mut mode, mut max_age, mut hosts) = (None, None, None, Vec::new());
        for line in text.lines().filter(|line| !line.trim().is_empty()) {
            let (key, value) = line.split_once(':').ok_or(PolicyFault::Line)?;
            let value = value.trim();
            match key.trim() {
                "version" => _ = version.get_or_insert(value),
                "mode" => _ = mode.get_or_insert(value),
                "max_age" => _ = max_age.get_or_insert(value),
                "mx" => hosts.push(host(value).ok_or(PolicyFault::Hosts)?),
                _ => {}
            }
            if hosts.len() > MAX_HOSTS {
                return Err(PolicyFault::Hosts);
            }
        }
        if version != Some("STSv1") {
            return Err(PolicyFault::Version);
        }
        let mode = match mode {
            Some("enforce") => Mode::Enforce,
            Some("testing") => Mode::Testing,
            Some("none") => Mode::None,
            _ => return Err(PolicyFault::Mode),
        };
        let digits = |age: &&str| (1..=10).contains(&age.len()) && age.bytes().all(|b| b.is_ascii_digit());
        let max_age = max_age.filter(digits).and_then(|age| age.parse().ok()).filter(|age| *age <= MAX_AGE);
        let max_age = max_age.ok_or(PolicyFault::MaxAge)?;
        if hosts.is_empty() && mode != Mode::None {
            return Err(PolicyFault::Hosts);
        }
        Ok(Self { mode, hosts, max_age })
    }

    /// Does it name this host (RFC 8461 section 4.1)?
    #[must_use]
    pub fn names(&self, host: &str) -> bool {
        let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
        self.hosts.iter().any(|pattern| match pattern.strip_prefix("*.") {
            Some(above) => {
                host.split_once('.').is_some_and(|(label, rest)| !label.is_empty() && rest == above)
            }
            None => *pattern == host,
        })
    }
}

/// A host or `*.` and a name, in lower case.
fn host(value: &str) -> Option<String> {
    let value = value.strip_suffix('.').unwrap_or(value).to_ascii_lowercase();
    let name = value.strip_prefix("*.").unwrap_or(&value);
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
    };
    (name.len() <= 253 && name.split('.').all(label)).then_some(value)
}

/// The id in a domain's `_mta-sts` TXT records (RFC 8461 section 3.1): nothing unless there is exactly one record of
/// its kind. Each text is a record's strings, put together.
#[must_use]
pub fn policy_id(records: &[String]) -> Option<String> {
    let of_its_kind = |record: &&String| {
        record.strip_prefix("v=STSv1").is_some_and(|rest| rest.trim_start().starts_with(';'))
    };
    let mut found = records.iter().filter(of_its_kind);
    let (Some(record), None) = (found.next(), found.next()) else { return None };
    let mut fields = record.split(';').skip(1).filter_map(|field| field.split_once('='));
    let id = fields.find(|(key, _)| key.trim() == "id").map(|(_, id)| id.trim())?;
    let good = (1..=32).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric());
    good.then(|| id.to_owned())
}

/// Where a domain's policy is.
#[must_use]
pub fn policy_url(domain: &str) -> String {
    format!("https://mta-sts.{domain}/.well-known/mta-sts.txt")
}

/// A policy that is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// The id under which it was published.
    pub id: String,
    /// The policy.
    pub policy: Policy,
    /// When it was read (seconds since 1970).
    pub read_at: i64,
}

impl Kept {
    /// Does it still hold at `now`? A clock that went back ends nothing.
    #[must_use]
    pub fn holds(&self, now: i64) -> bool {
        now < self.read_at.saturating_add(i64::from(self.policy.max_age))
    }
}

/// What is to be done about a domain's policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Fetch it; when that fails, [`after_failed_fetch`].
    Fetch {
        /// To be kept with it.
        id: String,
    },
    /// The policy that is kept counts.
    Keep,
    /// There is none.
    NoPolicy,
}

/// What is to be done (RFC 8461 section 3.3 and 5.1): a policy that is kept and holds counts until another id is
/// published, also when the TXT record is gone or cannot be had; else an attacker could take a policy away.
#[must_use]
pub fn step(kept: Option<&Kept>, published: Option<&str>, now: i64) -> Step {
    let holding = kept.filter(|kept| kept.holds(now));
    match (holding, published) {
        (Some(kept), Some(id)) if kept.id == id => Step::Keep,
        (_, Some(id)) => Step::Fetch { id: id.to_owned() },
        (Some(_), None) => Step::Keep,
        (None, None) => Step::NoPolicy,
    }
}

/// A policy could not be fetched: the one that is kept counts while it holds.
#[must_use]
pub fn after_failed_fetch(kept: Option<&Kept>, now: i64) -> Step {
    if kept.is_some_and(|kept| kept.holds(now)) { Step::Keep } else { Step::NoPolicy }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_policy_is_read_line_by_line() {
        let good = "version: STSv1\r\nmode: enforce\r\nmx: mail.Example.com\r\nmx: *.example.net.\r\nmax_age: 604800\r\n";
        let policy = Policy::parse(good.as_bytes()).unwrap();
        let hosts = vec!["mail.example.com".to_owned(), "*.example.net".to_owned()];
        assert_eq!(policy, Policy { mode: Mode::Enforce, hosts, max_age: 604_800 });
        for (text, expected) in [
            ("version:STSv1\nmode:none\nmax_age:0", Ok(Mode::None)),
            ("mode: testing\nmax_age: 5\nversion: STSv1\nmx: a.b\n\n", Ok(Mode::Testing)),
            (
                "version: STSv1\nmode: testing\nmode: enforce\nmx: a\nmax_age: 5\nmax_age: x\nnew: y",
                Ok(Mode::Testing),
            ),
            ("", Err(PolicyFault::Version)),
            ("version: STSv2\nmode: none\nmax_age: 1", Err(PolicyFault::Version)),
            ("version: STSv1\nmode: Enforce\nmx: a\nmax_age: 1", Err(PolicyFault::Mode)),
            ("version: STSv1\nmx: a\nmax_age: 1", Err(PolicyFault::Mode)),
            ("version: STSv1\nmode: enforce\nmax_age: 1", Err(PolicyFault::Hosts)),
            ("version: STSv1\nmode: enforce\nmx: \nmax_age: 1", Err(PolicyFault::Hosts)),
            ("version: STSv1\nmode: enforce\nmx: a.*.b\nmax_age: 1", Err(PolicyFault::Hosts)),
            ("version: STSv1\nmode: enforce\nmx: *\nmax_age: 1", Err(PolicyFault::Hosts)),
            ("version: STSv1\nmode: enforce\nmx: a", Err(PolicyFault::MaxAge)),
            ("version: STSv1\nmode: enforce\nmx: a\nmax_age: -1", Err(PolicyFault::MaxAge)),
            ("version: STSv1\nmode: enforce\nmx: a\nmax_age: 31557601", Err(PolicyFault::MaxAge)),
            ("version: STSv1\nmode: enforce\nmx: a\nmax_age: 99999999999999", Err(PolicyFault::MaxAge)),
            ("<html>", Err(PolicyFault::Line)),
        ] {
            assert_eq!(Policy::parse(text.as_bytes()).map(|policy| policy.mode), expected, "{text}");
        }
        assert_eq!(Policy::parse(&vec![b'\n'; MAX_POLICY + 1]), Err(PolicyFault::TooLong));
        assert_eq!(Policy::parse(b"\xff: x"), Err(PolicyFault::Line));
        assert_eq!(Policy::parse("mx: a\n".repeat(MAX_HOSTS + 1).as_bytes()), Err(PolicyFault::Hosts));
    }

    #[test]
    fn a_star_is_one_label() {
        let hosts = vec!["mail.example.com".to_owned(), "*.example.net".to_owned()];
        let policy = Policy { mode: Mode::Enforce, hosts, max_age: 1 };
        for (host, named) in [
            ("mail.example.com", true),
            ("MAIL.example.com.", true),
            ("a.example.net", true),
            ("a.b.example.net", false),
            ("example.net", false),
            (".example.net", false),
            ("xexample.net", false),
            ("evil.com", false),
            ("mail.example.com.evil.com", false),
        ] {
            assert_eq!(policy.names(host), named, "{host}");
        }
    }

    #[test]
    fn exactly_one_record_publishes_an_id() {
        for (records, id) in [
            (&["v=STSv1; id=20160831085700Z;"][..], Some("20160831085700Z")),
            (&["v=STSv1;id=1"], Some("1")),
            (&["v=spf1 -all", "v=STSv1 ; x=y; id=1;"], Some("1")),
            (&["v=STSv1; id=1;", "v=STSv1; id=2;"], None),
            (&["v=STSv10; id=1;"], None),
            (&["v=STSv1; id=a-b;"], None),
            (&["v=STSv1; id=123456789012345678901234567890123;"], None),
            (&["v=STSv1;"], None),
            (&["id=1; v=STSv1"], None),
            (&[], None),
        ] {
            let records: Vec<String> = records.iter().map(|record| (*record).to_owned()).collect();
            assert_eq!(policy_id(&records).as_deref(), id, "{records:?}");
        }
        assert_eq!(policy_url("example.com"), "https://mta-sts.example.com/.well-known/mta-sts.txt");
    }

    #[test]
    fn a_policy_is_kept_until_another_is_published_or_it_is_too_old() {
        let policy = Policy { mode: Mode::Enforce, hosts: vec!["a".into()], max_age: 100 };
        let kept = Kept { id: "1".into(), policy, read_at: 1000 };
        let fetch = |id: &str| Step::Fetch { id: id.to_owned() };
        for (kept, published, now, expected) in [
            (None, None, 0, Step::NoPolicy),
            (None, Some("1"), 0, fetch("1")),
            (Some(&kept), Some("1"), 1099, Step::Keep),
            (Some(&kept), Some("2"), 1099, fetch("2")),
            (Some(&kept), None, 1099, Step::Keep),
            (Some(&kept), Some("1"), 1100, fetch("1")),
            (Some(&kept), None, 1100, Step::NoPolicy),
            (Some(&kept), None, 0, Step::Keep),
        ] {
            assert_eq!(step(kept, published, now), expected, "{published:?} at {now}");
        }
        assert_eq!(after_failed_fetch(Some(&kept), 1099), Step::Keep);
        assert_eq!(after_failed_fetch(Some(&kept), 1100), Step::NoPolicy);
        assert_eq!(after_failed_fetch(None, 0), Step::NoPolicy);
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(
            lines in prop::collection::vec("(version|mode|mx|max_age|\\PC{0,5}): ?(STSv1|none|enforce|[0-9]{0,12}|\\PC{0,8})", 0..8),
            octets in prop::collection::vec(any::<u8>(), 0..60),
        ) {
            let text = lines.join("\n");
            if let Ok(policy) = Policy::parse(text.as_bytes()) {
                let _ = policy.names(&text);
            }
            let _ = Policy::parse(&octets);
            let _ = policy_id(&[String::from_utf8_lossy(&octets).into_owned(), format!("v=STSv1;{text}")]);
        }
    }
}
