//! DANE for SMTP (RFC 7672): TLSA records count only when DNSSEC vouches for all on the way to them, the MX records,
//! the host's address and the TLSA records themselves; then they must be kept.

use crate::route::{Answer, Looked};

/// Records beyond so many are not looked at; those that are there for a key's change are two or four.
const MAX_RECORDS: usize = 32;

/// A TLSA record (RFC 6698 section 2.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tlsa {
    /// 2: an authority of the certificate's chain; 3: the certificate itself. 0 and 1 mean nothing for SMTP.
    pub usage: u8,
    /// 0: the certificate; 1: its public key.
    pub selector: u8,
    /// 0: all of it; 1: its SHA-256; 2: its SHA-512.
    pub matching: u8,
    /// What it must be.
    pub data: Vec<u8>,
}

impl Tlsa {
    /// Can it be kept (RFC 7672 section 3.1)?
    #[must_use]
    pub fn is_usable(&self) -> bool {
        let length = match self.matching {
            0 => !self.data.is_empty(),
            1 => self.data.len() == 32,
            2 => self.data.len() == 64,
            _ => false,
        };
        matches!(self.usage, 2 | 3) && self.selector <= 1 && length
    }

    /// Is it about this certificate?
    #[must_use]
    pub fn matches(&self, certificate: &Certificate<'_>) -> bool {
        let part = if self.selector == 0 { &certificate.whole } else { &certificate.key };
        let found: &[u8] = match self.matching {
            0 => part.der,
            1 => &part.sha256,
            2 => &part.sha512,
            _ => return false,
        };
        self.is_usable() && found == self.data
    }
}

/// Octets, and their hashes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hashed<'a> {
    /// DER.
    pub der: &'a [u8],
    /// SHA-256 of it.
    pub sha256: [u8; 32],
    /// SHA-512 of it.
    pub sha512: [u8; 64],
}

/// A certificate of the chain that a server showed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate<'a> {
    /// All of it.
    pub whole: Hashed<'a>,
    /// Its `SubjectPublicKeyInfo`.
    pub key: Hashed<'a>,
}

/// What DANE says of a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Dane {
    /// Nothing: there are no TLSA records that DNSSEC vouches for.
    Absent,
    /// TLS, with any certificate: there are records, and none can be kept (RFC 7672 section 2.2).
    Encrypted,
    /// TLS, with a certificate that one of these is about.
    Records(Vec<Tlsa>),
    /// The records cannot be had, or their signatures are wrong: the host must not be used now.
    Unknown,
}

/// What DANE says of a host. `secure_until_here`: DNSSEC vouches for the MX records and the host's address; without,
/// its TLSA records are of no use and need not be looked up.
#[must_use]
pub fn dane(secure_until_here: bool, tlsa: &Looked<Tlsa>) -> Dane {
    if !secure_until_here {
        return Dane::Absent;
    }
    match &tlsa.answer {
        Answer::Failed | Answer::Bogus => Dane::Unknown,
        Answer::NoRecord | Answer::NoName => Dane::Absent,
        Answer::Records(records) if records.is_empty() || !tlsa.secure => Dane::Absent,
        Answer::Records(records) => {
            let usable: Vec<&Tlsa> =
                records.iter().take(MAX_RECORDS).filter(|record| record.is_usable()).collect();
            let kept: Vec<Tlsa> =
                usable.iter().filter(|r| is_strongest(r, &usable)).map(|r| (*r).clone()).collect();
            if kept.is_empty() { Dane::Encrypted } else { Dane::Records(kept) }
        }
    }
}

/// Where the same is given as two hashes, the stronger one counts (RFC 7671 section 9).
fn is_strongest(record: &Tlsa, among: &[&Tlsa]) -> bool {
    let same = |other: &&&Tlsa| (other.usage, other.selector) == (record.usage, record.selector);
    record.matching != 1 || !among.iter().filter(same).any(|other| other.matching == 2)
}

/// The names below which a host's TLSA records are looked up, in this order; the first that has some counts (RFC 7672
/// section 2.2.2). `canonical` is the name behind CNAMEs that DNSSEC vouches for.
#[must_use]
pub fn base_domains(host: &str, canonical: Option<&str>) -> Vec<String> {
    let other = canonical.filter(|name| *name != host);
    other.into_iter().chain([host]).map(str::to_owned).collect()
}

/// The name of the TLSA records of a base domain (RFC 6698 section 3).
#[must_use]
pub fn record_name(base_domain: &str, port: u16) -> String {
    format!("_{port}._tcp.{base_domain}")
}

/// The names that a certificate below a trust anchor may have (RFC 7672 section 3.2.2): the host's, by which its
/// records were found, and, as DNSSEC vouches for the MX records, the domain's.
#[must_use]
pub fn names(base_domain: &str, domain: &str) -> Vec<String> {
    let domain = Some(domain).filter(|domain| *domain != base_domain);
    [base_domain].into_iter().chain(domain).map(str::to_owned).collect()
}

/// What the records say of a chain, the server's own certificate first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Match {
    /// The certificate is the one: neither its names nor its dates matter (RFC 7672 section 3.1.1).
    EndEntity,
    /// The certificate at this place is an anchor: the chain up to it must hold, with names and dates (section 3.1.2).
    TrustAnchor(usize),
    /// None of them is about it.
    None,
}

/// Looks for the records in a chain.
#[must_use]
pub fn find(records: &[Tlsa], chain: &[Certificate<'_>]) -> Match {
    let has = |usage: u8, certificate: &Certificate<'_>| {
        records.iter().filter(|record| record.usage == usage).any(|record| record.matches(certificate))
    };
    if chain.first().is_some_and(|own| has(3, own)) {
        return Match::EndEntity;
    }
    chain.iter().position(|certificate| has(2, certificate)).map_or(Match::None, Match::TrustAnchor)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn record(usage: u8, selector: u8, matching: u8, data: &[u8]) -> Tlsa {
        Tlsa { usage, selector, matching, data: data.to_vec() }
    }

    fn looked(records: &[Tlsa], secure: bool) -> Looked<Tlsa> {
        Looked { answer: Answer::Records(records.to_vec()), secure }
    }

    /// A certificate whose DER, key and hashes are all of one octet.
    fn certificate(octet: u8) -> Certificate<'static> {
        const DER: [[u8; 1]; 6] = [[0], [1], [2], [3], [4], [5]];
        let hashed =
            |octet: u8| Hashed { der: &DER[usize::from(octet)], sha256: [octet; 32], sha512: [octet; 64] };
        Certificate { whole: hashed(octet), key: hashed(octet + 1) }
    }

    #[test]
    fn records_count_only_where_dnssec_vouches_for_all() {
        let good = record(3, 1, 1, &[1; 32]);
        let one = std::slice::from_ref(&good);
        for (secure, tlsa, expected) in [
            (true, looked(one, true), Dane::Records(vec![good.clone()])),
            (false, looked(one, true), Dane::Absent),
            (true, looked(one, false), Dane::Absent),
            (true, looked(&[], true), Dane::Absent),
            (true, Looked { answer: Answer::NoRecord, secure: true }, Dane::Absent),
            (true, Looked { answer: Answer::NoName, secure: true }, Dane::Absent),
            // What cannot be known must not be taken for nothing.
            (true, Looked::plain(Answer::Failed), Dane::Unknown),
            (true, Looked::plain(Answer::Bogus), Dane::Unknown),
            (false, Looked::plain(Answer::Bogus), Dane::Absent),
            // Records that cannot be kept still say that there is TLS.
            (true, looked(&[record(1, 1, 1, &[1; 32])], true), Dane::Encrypted),
            (
                true,
                looked(&[record(3, 1, 1, &[1; 31]), good.clone()], true),
                Dane::Records(vec![good.clone()]),
            ),
        ] {
            assert_eq!(dane(secure, &tlsa), expected, "{secure} {tlsa:?}");
        }
    }

    #[test]
    fn what_can_be_kept() {
        for (usage, selector, matching, length, usable) in [
            (3, 0, 0, 1, true),
            (2, 1, 1, 32, true),
            (3, 1, 2, 64, true),
            (0, 0, 1, 32, false),
            (1, 0, 1, 32, false),
            (4, 0, 1, 32, false),
            (3, 2, 1, 32, false),
            (3, 1, 3, 32, false),
            (3, 1, 1, 33, false),
            (3, 1, 2, 32, false),
            (3, 1, 0, 0, false),
        ] {
            let record = record(usage, selector, matching, &vec![0; length]);
            assert_eq!(record.is_usable(), usable, "{record:?}");
        }
    }

    #[test]
    fn of_two_hashes_of_the_same_the_stronger_counts() {
        let (weak, strong) = (record(3, 1, 1, &[1; 32]), record(3, 1, 2, &[1; 64]));
        let (other, whole) = (record(2, 1, 1, &[2; 32]), record(3, 1, 0, &[1]));
        let all = [weak.clone(), strong.clone(), other.clone(), whole.clone()];
        assert_eq!(dane(true, &looked(&all, true)), Dane::Records(vec![strong, other, whole]));
        assert_eq!(dane(true, &looked(std::slice::from_ref(&weak), true)), Dane::Records(vec![weak]));
    }

    #[test]
    fn a_chain_is_looked_through_for_the_records() {
        let chain = [certificate(1), certificate(3)];
        for (records, expected) in [
            (&[record(3, 0, 1, &[1; 32])][..], Match::EndEntity),
            (&[record(3, 1, 1, &[2; 32])], Match::EndEntity),
            (&[record(3, 0, 2, &[1; 64])], Match::EndEntity),
            (&[record(3, 0, 0, &[1])], Match::EndEntity),
            (&[record(3, 1, 0, &[2])], Match::EndEntity),
            // An authority is no server, and a key no certificate.
            (&[record(3, 0, 1, &[3; 32])], Match::None),
            (&[record(3, 1, 1, &[1; 32])], Match::None),
            (&[record(2, 0, 1, &[3; 32])], Match::TrustAnchor(1)),
            (&[record(2, 1, 1, &[4; 32])], Match::TrustAnchor(1)),
            (&[record(2, 0, 1, &[1; 32])], Match::TrustAnchor(0)),
            (&[record(2, 0, 1, &[3; 32]), record(3, 0, 1, &[1; 32])], Match::EndEntity),
            (&[record(3, 0, 1, &[9; 32])], Match::None),
            (&[record(1, 0, 1, &[1; 32])], Match::None),
            (&[], Match::None),
        ] {
            assert_eq!(find(records, &chain), expected, "{records:?}");
        }
        assert_eq!(find(&[record(3, 0, 1, &[1; 32])], &[]), Match::None);
    }

    #[test]
    fn names_of_records_and_certificates() {
        assert_eq!(record_name("mx.example.org", 25), "_25._tcp.mx.example.org");
        assert_eq!(base_domains("mx.a", Some("mx.b")), ["mx.b", "mx.a"]);
        assert_eq!(base_domains("mx.a", Some("mx.a")), ["mx.a"]);
        assert_eq!(base_domains("mx.a", None), ["mx.a"]);
        assert_eq!(names("mx.a", "a"), ["mx.a", "a"]);
        assert_eq!(names("a", "a"), ["a"]);
    }

    proptest! {
        #[test]
        fn no_record_makes_it_panic(
            fields in prop::collection::vec((any::<u8>(), any::<u8>(), any::<u8>(), 0usize..70), 0..80),
        ) {
            let records: Vec<Tlsa> = fields.iter().map(|(u, s, m, n)| record(u % 5, s % 3, m % 4, &vec![1; *n])).collect();
            if let Dane::Records(kept) = dane(true, &looked(&records, true)) {
                prop_assert!(kept.iter().all(Tlsa::is_usable) && kept.len() <= MAX_RECORDS);
                let _ = find(&kept, &[certificate(1)]);
            }
        }
    }
}
