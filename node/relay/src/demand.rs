//! What must hold of a connection to a host, asked of all who may demand something (see `mailcluster_outbound::tls`).

use mailcluster_outbound::{
    Status,
    route::Target,
    tls::{
        dane::{self, Dane},
        policy::{Certificate, Known, Must, Override, ResultType, Source, must},
        sts::Policy,
    },
};

use crate::{dns::Dns, job::SmarthostAccess, session::Encryption};

/// Who may demand something of the hosts of a way.
#[derive(Debug, Default)]
pub(crate) struct Published {
    /// The domain, when its MX records were followed.
    pub(crate) domain: String,
    /// DNSSEC vouches for them.
    pub(crate) secure_mx: bool,
    /// The domain's policy.
    pub(crate) policy: Option<Policy>,
}

/// What a connection must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Demand {
    strict: bool,
    certificate: Certificate,
    source: Source,
    /// By the first of them TLSA records were found.
    names: Vec<String>,
}

/// No connection to a host may be made now.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct RuledOut {
    pub(crate) status: Status,
    pub(crate) text: String,
}

impl Demand {
    pub(crate) fn encryption(&self) -> Encryption<'_> {
        match &self.certificate {
            _ if !self.strict => Encryption::Offered,
            Certificate::Any => Encryption::Always,
            Certificate::OfHost => Encryption::Verified,
            Certificate::Tlsa(records) => Encryption::Anchored(records, &self.names),
        }
    }

    /// Whose demand it is that there is no mail otherwise.
    pub(crate) fn strict(&self) -> Option<Source> {
        self.strict.then_some(self.source)
    }
}

/// Of a host that a domain's MX records name.
pub(crate) async fn of_host(
    dns: &dyn Dns,
    published: &Published,
    (target, port): (&Target, u16),
) -> Result<Demand, RuledOut> {
    let (dane, names) = records(dns, published, (target, port)).await;
    let known = Known {
        told: None,
        dane: &dane,
        sts: published.policy.as_ref(),
        host: &target.host,
        secure_mx: published.secure_mx,
        require_tls: false,
    };
    demand(must(&known), names)
}

/// Of a host that the administrator named. Credentials are for nobody else to read.
pub(crate) fn of_smarthost(access: &SmarthostAccess, target: &Target) -> Result<Demand, RuledOut> {
    let told = match access.tls {
        Some(Override::Verify) => Override::Verify,
        Some(Override::Encrypt) => Override::Encrypt,
        Some(Override::May) | None if access.credentials.is_some() => Override::Encrypt,
        Some(Override::May) | None => Override::May,
    };
    let known = Known {
        told: Some(told),
        dane: &Dane::Absent,
        sts: None,
        host: &target.host,
        secure_mx: false,
        require_tls: false,
    };
    demand(must(&known), Vec::new())
}

fn demand(must: Must, names: Vec<String>) -> Result<Demand, RuledOut> {
    match must {
        Must::Hold { strict, certificate, source } => Ok(Demand { strict, certificate, source, names }),
        Must::NotThisHost { result, source, status } => {
            let text = match (source, result) {
                (Source::Sts, _) => "the domain's MTA-STS policy does not name this host",
                (_, ResultType::DnssecInvalid) => {
                    "the host's TLSA records cannot be had, or their signatures are wrong"
                }
                _ => "this host may not be used",
            };
            Err(RuledOut { status, text: text.to_owned() })
        }
    }
}

/// A host's TLSA records, looked up only where DNSSEC vouches for all on the way to them, with the names that its
/// certificate may have.
async fn records(
    dns: &dyn Dns,
    published: &Published,
    (target, port): (&Target, u16),
) -> (Dane, Vec<String>) {
    if published.secure_mx && target.secure {
        for base in dane::base_domains(&target.host, target.canonical.as_deref()) {
            let looked = dns.tlsa(&dane::record_name(&base, port)).await;
            let found = dane::dane(true, &looked);
            if found != Dane::Absent {
                return (found, dane::names(&base, &published.domain));
            }
        }
    }
    (Dane::Absent, Vec::new())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_given_over_tls_alone() {
        let target = Target {
            host: "relay.test".into(),
            canonical: None,
            preference: 0,
            address: std::net::Ipv4Addr::LOCALHOST.into(),
            secure: true,
        };
        for (tls, credentials, encryption) in [
            (None, false, Encryption::Offered),
            (Some(Override::May), false, Encryption::Offered),
            (None, true, Encryption::Always),
            (Some(Override::May), true, Encryption::Always),
            (Some(Override::Encrypt), false, Encryption::Always),
            (Some(Override::Verify), true, Encryption::Verified),
        ] {
            let access = SmarthostAccess { tls, credentials: credentials.then(|| "/s".into()) };
            let demand = of_smarthost(&access, &target).unwrap();
            assert_eq!(demand.encryption(), encryption, "{tls:?} {credentials}");
        }
    }
}
