//! Look-ups.

use std::{
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
};

use async_trait::async_trait;
use hickory_resolver::{
    TokioResolver,
    net::{DnsError as Refusal, NetError},
    proto::{
        dnssec::{Proof, TrustAnchors},
        op::ResponseCode,
        rr::{Name, RData, RecordType},
    },
};
use mailcluster_outbound::{
    route::{Answer, Exchange, HostAnswer, Looked},
    tls::dane::Tlsa,
};

/// What the DNS says. Names are A-labels without a last dot.
#[async_trait]
pub trait Dns: Send + Sync {
    /// MX records of a domain.
    async fn exchanges(&self, domain: &str) -> Looked<Exchange>;

    /// Addresses of a host.
    async fn host(&self, host: &str) -> HostAnswer;

    /// TLSA records of a name like `_25._tcp.mx.example.org`.
    async fn tlsa(&self, name: &str) -> Looked<Tlsa>;

    /// TXT records of a name, each in one piece.
    async fn texts(&self, name: &str) -> Answer<String>;
}

/// What becomes of signatures in the DNS.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Signatures {
    /// They are not looked at: no answer counts as secure.
    #[default]
    Ignored,
    /// They are verified, from the root's keys on or from those of this file (DNSKEY records, as in a zone file). Name servers must
    /// pass them on: where one does not, signed names cannot be looked up.
    Verified(Option<PathBuf>),
}

/// Why there is no resolver.
#[derive(Debug, thiserror::Error)]
pub enum DnsError {
    /// The system's configuration cannot be read.
    #[error("the resolver cannot be set up: {0}")]
    Setup(#[from] NetError),
    /// There are no keys to trust.
    #[error("{}: not a file of DNSKEY records: {why}", path.display())]
    Anchors {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
}

/// Asks the system's name servers, or those that were named.
pub struct Resolver {
    inner: TokioResolver,
}

impl Resolver {
    /// By these servers alone, over UDP and TCP; without any, as the system's configuration says (`/etc/resolv.conf`).
    ///
    /// # Errors
    /// When that cannot be read, or there are no keys to trust.
    pub fn new(servers: &[SocketAddr], signatures: &Signatures) -> Result<Self, DnsError> {
        let mut builder = mailcluster_resolver::builder(servers)?;
        builder.options_mut().try_tcp_on_error = true;
        if let Signatures::Verified(path) = signatures {
            let anchors = path.as_deref().map_or_else(|| Ok(TrustAnchors::default()), anchors)?;
            builder = builder.with_trust_anchor(Arc::new(anchors));
        }
        Ok(Self { inner: builder.build()? })
    }

    /// The records of a type, and the name that CNAMEs led to.
    pub(crate) async fn look_up<T>(
        &self,
        name: &str,
        kind: RecordType,
        pick: impl Fn(&RData) -> Option<T>,
    ) -> (Looked<T>, Option<Name>) {
        let nothing = |answer| (Looked::plain(answer), None);
        // With its last dot, no search list comes in.
        let Ok(name) = Name::from_ascii(format!("{name}.")) else { return nothing(Answer::NoName) };
        let found = match self.inner.lookup(name.clone(), kind).await {
            Ok(found) => found,
            Err(error) => return (absent(&error), None),
        };
        let of_kind = || found.answers().iter().filter(|record| record.record_type() == kind);
        let owner = of_kind().next().map(|record| record.name.clone()).filter(|owner| *owner != name);
        let records: Vec<T> = of_kind().filter_map(|record| pick(&record.data)).collect();
        // The CNAMEs on the way count as well.
        let secure = found.answers().iter().all(|record| record.proof == Proof::Secure);
        match records.is_empty() {
            false => (Looked { answer: Answer::Records(records), secure }, owner),
            true if found.message().metadata.response_code == ResponseCode::NXDomain => {
                nothing(Answer::NoName)
            }
            true => nothing(Answer::NoRecord),
        }
    }
}

fn anchors(path: &Path) -> Result<TrustAnchors, DnsError> {
    TrustAnchors::from_file(path)
        .map_err(|error| DnsError::Anchors { path: path.to_owned(), why: error.to_string() })
}

/// Only an answer that says so makes a name or a record absent.
fn absent<T>(error: &NetError) -> Looked<T> {
    let answer = match error {
        NetError::Dns(Refusal::DnssecBogus) => Answer::Bogus,
        // Its absence is signed.
        NetError::Dns(Refusal::Nsec { response, proof, .. }) => {
            let is_no_name = response.response_code == ResponseCode::NXDomain;
            let answer = if is_no_name { Answer::NoName } else { Answer::NoRecord };
            return Looked { answer, secure: *proof == Proof::Secure };
        }
        error if error.is_nx_domain() => Answer::NoName,
        error if error.is_no_records_found() => Answer::NoRecord,
        error => {
            tracing::debug!(%error, "look-up failed");
            Answer::Failed
        }
    };
    Looked::plain(answer)
}

#[async_trait]
impl Dns for Resolver {
    async fn exchanges(&self, domain: &str) -> Looked<Exchange> {
        let pick = |data: &RData| match data {
            RData::MX(mx) => Some(Exchange { preference: mx.preference, host: text(&mx.exchange) }),
            _ => None,
        };
        self.look_up(domain, RecordType::MX, pick).await.0
    }

    async fn host(&self, host: &str) -> HostAnswer {
        let v4 = |data: &RData| if let RData::A(a) = data { Some(a.0) } else { None };
        let v6 = |data: &RData| if let RData::AAAA(a) = data { Some(a.0) } else { None };
        let (v4, v6) =
            tokio::join!(self.look_up(host, RecordType::A, v4), self.look_up(host, RecordType::AAAA, v6));
        let canonical = v4.1.or(v6.1).map(|name| text(&name));
        HostAnswer { v4: v4.0, v6: v6.0, canonical }
    }

    async fn tlsa(&self, name: &str) -> Looked<Tlsa> {
        let pick = |data: &RData| match data {
            RData::TLSA(tlsa) => Some(Tlsa {
                usage: tlsa.cert_usage.into(),
                selector: tlsa.selector.into(),
                matching: tlsa.matching.into(),
                data: tlsa.cert_data.clone(),
            }),
            _ => None,
        };
        self.look_up(name, RecordType::TLSA, pick).await.0
    }

    async fn texts(&self, name: &str) -> Answer<String> {
        let pick = |data: &RData| match data {
            // RFC 7208 section 3.3, RFC 6376 section 3.6.2.2.
            RData::TXT(txt) => Some(String::from_utf8_lossy(&txt.txt_data.concat()).into_owned()),
            _ => None,
        };
        self.look_up(name, RecordType::TXT, pick).await.0.answer
    }
}

/// The null MX's root stays a dot.
fn text(name: &Name) -> String {
    let text = name.to_ascii().to_ascii_lowercase();
    text.strip_suffix('.').filter(|rest| !rest.is_empty()).map_or(text.clone(), str::to_owned)
}

/// An address literal, as smarthosts may be given.
pub(crate) fn literal(host: &str) -> Option<IpAddr> {
    host.parse().ok()
}
