//! What must hold of a connection to a host.
//!
//! In this order: what the administrator says of the destination; DANE, where it applies, which no MTA-STS policy
//! weakens (RFC 8461 section 2); MTA-STS; else TLS when it is offered. A sender's REQUIRETLS comes on top: it takes a
//! host whose name DNSSEC or a policy vouches for, and a certificate that is verified (RFC 8689 section 4.2.1).

use super::{
    dane::{Dane, Tlsa},
    sts::{Mode, Policy},
};
use crate::Status;

/// What the administrator says of a destination; it replaces what the destination publishes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Override {
    /// TLS when it is offered, else in clear.
    May,
    /// TLS or nothing, with any certificate.
    Encrypt,
    /// TLS or nothing, with a certificate of the host's name by a known authority.
    Verify,
}

/// What is known of a destination's host.
#[derive(Debug, Clone, Copy)]
pub struct Known<'a> {
    /// What the administrator says.
    pub told: Option<Override>,
    /// What DANE says.
    pub dane: &'a Dane,
    /// The domain's policy, if there is one that holds.
    pub sts: Option<&'a Policy>,
    /// The host, as the MX record names it.
    pub host: &'a str,
    /// DNSSEC vouches for the MX records.
    pub secure_mx: bool,
    /// The sender demands TLS all the way.
    pub require_tls: bool,
}

/// What a certificate must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Certificate {
    /// Anything.
    Any,
    /// Of the host's name, by a known authority (RFC 5280, RFC 6125), and not expired.
    OfHost,
    /// As one of these records says.
    Tlsa(Vec<Tlsa>),
}

/// By what the demand came about; the words of RFC 8460 section 4.4.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Source {
    /// `tlsa`
    Tlsa,
    /// `sts`
    Sts,
    /// `no-policy-found`
    None,
}

impl Source {
    /// As reports write it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Tlsa => "tlsa",
            Self::Sts => "sts",
            Self::None => "no-policy-found",
        }
    }
}

/// What must hold of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Must {
    /// This.
    Hold {
        /// There is no mail without TLS and this certificate. Otherwise both are tried, a failure is counted, and the
        /// mail goes all the same.
        strict: bool,
        /// The certificate.
        certificate: Certificate,
        /// Whose demand it is, for reports.
        source: Source,
    },
    /// No connection to this host now.
    NotThisHost {
        /// To be counted, and why.
        result: ResultType,
        /// Whose demand it is, for reports.
        source: Source,
        /// For the recipient, when there is no other host.
        status: Status,
    },
}

/// Result types of TLS-RPT (RFC 8460 section 4.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ResultType {
    /// The server does not offer STARTTLS.
    StartTlsNotSupported,
    /// The certificate has other names.
    CertificateHostMismatch,
    /// The certificate is expired.
    CertificateExpired,
    /// The certificate is by nobody known.
    CertificateNotTrusted,
    /// Anything else about the connection or the host.
    ValidationFailure,
    /// No TLSA record is about the certificate, or they cannot be read.
    TlsaInvalid,
    /// The signatures of the DNS are wrong.
    DnssecInvalid,
    /// DANE was demanded of a host that has none.
    DaneRequired,
    /// The policy could not be fetched.
    StsPolicyFetchError,
    /// The policy cannot be read.
    StsPolicyInvalid,
    /// The certificate of the server that has the policy is not valid.
    StsWebpkiInvalid,
}

impl ResultType {
    /// As reports write it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::StartTlsNotSupported => "starttls-not-supported",
            Self::CertificateHostMismatch => "certificate-host-mismatch",
            Self::CertificateExpired => "certificate-expired",
            Self::CertificateNotTrusted => "certificate-not-trusted",
            Self::ValidationFailure => "validation-failure",
            Self::TlsaInvalid => "tlsa-invalid",
            Self::DnssecInvalid => "dnssec-invalid",
            Self::DaneRequired => "dane-required",
            Self::StsPolicyFetchError => "sts-policy-fetch-error",
            Self::StsPolicyInvalid => "sts-policy-invalid",
            Self::StsWebpkiInvalid => "sts-webpki-invalid",
        }
    }
}

/// Says what must hold of a connection to a host.
#[must_use]
pub fn must(known: &Known<'_>) -> Must {
    let base = match known.told {
        Some(told) => of_administrator(told),
        None => published(known),
    };
    if known.require_tls { with_require_tls(base, known) } else { base }
}

fn hold(strict: bool, certificate: Certificate, source: Source) -> Must {
    Must::Hold { strict, certificate, source }
}

fn of_administrator(told: Override) -> Must {
    match told {
        Override::May => hold(false, Certificate::Any, Source::None),
        Override::Encrypt => hold(true, Certificate::Any, Source::None),
        Override::Verify => hold(true, Certificate::OfHost, Source::None),
    }
}

fn published(known: &Known<'_>) -> Must {
    match known.dane {
        Dane::Unknown => {
            return Must::NotThisHost {
                result: ResultType::DnssecInvalid,
                source: Source::Tlsa,
                status: Status::new(4, 7, 5),
            };
        }
        Dane::Encrypted => return hold(true, Certificate::Any, Source::Tlsa),
        Dane::Records(records) => return hold(true, Certificate::Tlsa(records.clone()), Source::Tlsa),
        Dane::Absent => {}
    }
    match known.sts.map(|policy| (policy.mode, policy.names(known.host))) {
        Some((Mode::Enforce, true)) => hold(true, Certificate::OfHost, Source::Sts),
        Some((Mode::Enforce, false)) => Must::NotThisHost {
            result: ResultType::ValidationFailure,
            source: Source::Sts,
            status: Status::new(4, 7, 5),
        },
        Some((Mode::Testing, _)) => hold(false, Certificate::OfHost, Source::Sts),
        Some((Mode::None, _)) | None => hold(false, Certificate::Any, Source::None),
    }
}

/// REQUIRETLS takes a verified certificate of a host that is known to be the right one.
fn with_require_tls(base: Must, known: &Known<'_>) -> Must {
    let named = known.sts.is_some_and(|policy| policy.mode != Mode::None && policy.names(known.host));
    match base {
        Must::NotThisHost { .. } => base,
        Must::Hold { certificate: Certificate::Tlsa(_), .. } => base,
        Must::Hold { source, .. } if known.secure_mx || named || known.told == Some(Override::Verify) => {
            hold(true, Certificate::OfHost, source)
        }
        Must::Hold { source, .. } => {
            Must::NotThisHost { result: ResultType::ValidationFailure, source, status: Status::new(5, 7, 30) }
        }
    }
}

/// What was wrong with a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fault {
    /// STARTTLS is not offered, or was refused.
    NotOffered,
    /// The handshake failed.
    Handshake,
    /// The certificate has other names.
    Names,
    /// The certificate is expired or not valid yet.
    Expired,
    /// The certificate is by nobody known.
    Untrusted,
    /// No TLSA record is about it.
    NoMatch,
}

/// What is done about a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Consequence {
    /// To be counted for TLS-RPT (RFC 8460).
    pub result: ResultType,
    /// Mail goes to this host all the same.
    pub go_on: GoOn,
    /// For the recipient, when it does not, and there is no other host.
    pub status: Status,
}

/// How mail goes on after a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum GoOn {
    /// Over this connection, as it is.
    AsItIs,
    /// Over a new one, without TLS.
    InClear,
    /// Not to this host.
    NextHost,
}

/// What is done when a connection is not what it must be.
#[must_use]
pub fn consequence(strict: bool, source: Source, fault: Fault) -> Consequence {
    let result = match fault {
        Fault::NotOffered => ResultType::StartTlsNotSupported,
        Fault::Handshake => ResultType::ValidationFailure,
        Fault::Names => ResultType::CertificateHostMismatch,
        Fault::Expired => ResultType::CertificateExpired,
        Fault::Untrusted => ResultType::CertificateNotTrusted,
        Fault::NoMatch if source == Source::Tlsa => ResultType::TlsaInvalid,
        Fault::NoMatch => ResultType::ValidationFailure,
    };
    let go_on = match (strict, fault) {
        (true, _) => GoOn::NextHost,
        (false, Fault::Handshake) => GoOn::InClear,
        (false, _) => GoOn::AsItIs,
    };
    let status = match fault {
        Fault::NotOffered => Status::new(4, 7, 4),
        _ => Status::new(4, 7, 5),
    };
    Consequence { result, go_on, status }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records() -> Dane {
        Dane::Records(vec![Tlsa { usage: 3, selector: 1, matching: 1, data: vec![1; 32] }])
    }

    fn tlsa() -> Certificate {
        let Dane::Records(records) = records() else { return Certificate::Any };
        Certificate::Tlsa(records)
    }

    fn sts(mode: Mode, host: &str) -> Policy {
        Policy { mode, hosts: vec![host.to_owned()], max_age: 1 }
    }

    fn not(result: ResultType, source: Source, status: Status) -> Must {
        Must::NotThisHost { result, source, status }
    }

    #[test]
    fn the_strongest_that_is_published_counts_and_dane_before_sts() {
        let (enforce, other) = (sts(Mode::Enforce, "mx.a"), sts(Mode::Enforce, "mx.b"));
        let (testing, none) = (sts(Mode::Testing, "mx.a"), sts(Mode::None, "mx.a"));
        let later = Status::new(4, 7, 5);
        for (dane, sts, expected) in [
            (Dane::Absent, None, hold(false, Certificate::Any, Source::None)),
            (Dane::Absent, Some(&none), hold(false, Certificate::Any, Source::None)),
            (Dane::Absent, Some(&testing), hold(false, Certificate::OfHost, Source::Sts)),
            (Dane::Absent, Some(&enforce), hold(true, Certificate::OfHost, Source::Sts)),
            (Dane::Absent, Some(&other), not(ResultType::ValidationFailure, Source::Sts, later)),
            (Dane::Encrypted, Some(&testing), hold(true, Certificate::Any, Source::Tlsa)),
            (records(), Some(&enforce), hold(true, tlsa(), Source::Tlsa)),
            (records(), Some(&other), hold(true, tlsa(), Source::Tlsa)),
            (Dane::Unknown, Some(&enforce), not(ResultType::DnssecInvalid, Source::Tlsa, later)),
            (Dane::Unknown, None, not(ResultType::DnssecInvalid, Source::Tlsa, later)),
        ] {
            let known =
                Known { told: None, dane: &dane, sts, host: "mx.a", secure_mx: false, require_tls: false };
            assert_eq!(must(&known), expected, "{dane:?} {sts:?}");
            // The administrator's word replaces it all.
            for (told, strict, certificate) in [
                (Override::May, false, Certificate::Any),
                (Override::Encrypt, true, Certificate::Any),
                (Override::Verify, true, Certificate::OfHost),
            ] {
                let known = Known { told: Some(told), ..known };
                assert_eq!(must(&known), hold(strict, certificate, Source::None));
            }
        }
    }

    #[test]
    fn require_tls_takes_a_host_that_is_known_to_be_right() {
        let (enforce, other) = (sts(Mode::Enforce, "mx.a"), sts(Mode::Testing, "mx.b"));
        let testing = sts(Mode::Testing, "mx.a");
        let of_host = |source| hold(true, Certificate::OfHost, source);
        let never = |source| not(ResultType::ValidationFailure, source, Status::new(5, 7, 30));
        for (told, dane, sts, secure_mx, expected) in [
            (None, Dane::Absent, None, false, never(Source::None)),
            (None, Dane::Absent, None, true, of_host(Source::None)),
            (None, Dane::Absent, Some(&enforce), false, of_host(Source::Sts)),
            (None, Dane::Absent, Some(&testing), false, of_host(Source::Sts)),
            (None, Dane::Absent, Some(&other), false, never(Source::Sts)),
            (None, records(), None, true, hold(true, tlsa(), Source::Tlsa)),
            // Any certificate is not enough.
            (None, Dane::Encrypted, None, true, of_host(Source::Tlsa)),
            (
                None,
                Dane::Unknown,
                None,
                true,
                not(ResultType::DnssecInvalid, Source::Tlsa, Status::new(4, 7, 5)),
            ),
            (Some(Override::May), records(), None, false, never(Source::None)),
            (Some(Override::Verify), Dane::Absent, None, false, of_host(Source::None)),
        ] {
            let known = Known { told, dane: &dane, sts, host: "mx.a", secure_mx, require_tls: true };
            assert_eq!(must(&known), expected, "{told:?} {dane:?} {sts:?} {secure_mx}");
        }
    }

    #[test]
    fn a_fault_is_counted_and_stops_mail_only_where_it_must() {
        use ResultType as R;
        for (fault, result, lenient) in [
            (Fault::NotOffered, R::StartTlsNotSupported, GoOn::AsItIs),
            (Fault::Handshake, R::ValidationFailure, GoOn::InClear),
            (Fault::Names, R::CertificateHostMismatch, GoOn::AsItIs),
            (Fault::Expired, R::CertificateExpired, GoOn::AsItIs),
            (Fault::Untrusted, R::CertificateNotTrusted, GoOn::AsItIs),
            (Fault::NoMatch, R::TlsaInvalid, GoOn::AsItIs),
        ] {
            let strict = consequence(true, Source::Tlsa, fault);
            assert_eq!(
                (strict.result, strict.go_on, strict.status.class),
                (result, GoOn::NextHost, 4),
                "{fault:?}"
            );
            assert_eq!(consequence(false, Source::Tlsa, fault).go_on, lenient, "{fault:?}");
        }
    }

    #[test]
    fn reports_have_their_words() {
        let words = [
            (ResultType::StartTlsNotSupported, "starttls-not-supported"),
            (ResultType::CertificateHostMismatch, "certificate-host-mismatch"),
            (ResultType::CertificateExpired, "certificate-expired"),
            (ResultType::CertificateNotTrusted, "certificate-not-trusted"),
            (ResultType::ValidationFailure, "validation-failure"),
            (ResultType::TlsaInvalid, "tlsa-invalid"),
            (ResultType::DnssecInvalid, "dnssec-invalid"),
            (ResultType::DaneRequired, "dane-required"),
            (ResultType::StsPolicyFetchError, "sts-policy-fetch-error"),
            (ResultType::StsPolicyInvalid, "sts-policy-invalid"),
            (ResultType::StsWebpkiInvalid, "sts-webpki-invalid"),
        ];
        assert!(words.iter().all(|(result, word)| result.word() == *word));
        let sources = [Source::Tlsa, Source::Sts, Source::None].map(Source::word);
        assert_eq!(sources, ["tlsa", "sts", "no-policy-found"]);
    }
}
