//! Look-ups.

use std::net::{IpAddr, SocketAddr};

use async_trait::async_trait;
use hickory_resolver::{
    TokioResolver,
    config::{ConnectionConfig, NameServerConfig, ResolverConfig},
    net::{NetError, runtime::TokioRuntimeProvider},
    proto::{
        op::ResponseCode,
        rr::{Name, RData, RecordType},
    },
};
use mailcluster_outbound::route::{Answer, Exchange, HostAnswer, Looked};

/// What the DNS says. Names are A-labels without a last dot.
#[async_trait]
pub trait Dns: Send + Sync {
    /// MX records of a domain.
    async fn exchanges(&self, domain: &str) -> Looked<Exchange>;

    /// Addresses of a host.
    async fn host(&self, host: &str) -> HostAnswer;
}

/// Why there is no resolver.
#[derive(Debug, thiserror::Error)]
#[error("the resolver cannot be set up: {0}")]
pub struct DnsError(#[from] NetError);

/// Asks the system's name servers, or those that were named. DNSSEC is not looked at: no answer counts as secure.
pub struct Resolver {
    inner: TokioResolver,
}

impl Resolver {
    /// As the system's configuration says (`/etc/resolv.conf`).
    ///
    /// # Errors
    /// When that cannot be read.
    pub fn of_system() -> Result<Self, DnsError> {
        let mut builder = TokioResolver::builder_tokio()?;
        let options = builder.options_mut();
        options.try_tcp_on_error = true;
        Ok(Self { inner: builder.build()? })
    }

    /// By these servers alone, over UDP and TCP.
    ///
    /// # Errors
    /// When it cannot be set up.
    pub fn of_servers(servers: &[SocketAddr]) -> Result<Self, DnsError> {
        let server = |at: &SocketAddr| {
            let with_port = |mut connection: ConnectionConfig| {
                connection.port = at.port();
                connection
            };
            let mut server = NameServerConfig::udp_and_tcp(at.ip());
            server.connections = vec![with_port(ConnectionConfig::udp()), with_port(ConnectionConfig::tcp())];
            server
        };
        let config = ResolverConfig::from_parts(None, vec![], servers.iter().map(server).collect());
        let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        builder.options_mut().try_tcp_on_error = true;
        Ok(Self { inner: builder.build()? })
    }

    /// The records of a type, and the name that CNAMEs led to.
    pub(crate) async fn look_up<T>(
        &self,
        name: &str,
        kind: RecordType,
        pick: impl Fn(&RData) -> Option<T>,
    ) -> (Answer<T>, Option<Name>) {
        // With its last dot, no search list comes in.
        let Ok(name) = Name::from_ascii(format!("{name}.")) else { return (Answer::NoName, None) };
        let found = match self.inner.lookup(name.clone(), kind).await {
            Ok(found) => found,
            Err(error) => return (absent(&error), None),
        };
        let of_kind = || found.answers().iter().filter(|record| record.record_type() == kind);
        let owner = of_kind().next().map(|record| record.name.clone()).filter(|owner| *owner != name);
        let records: Vec<T> = of_kind().filter_map(|record| pick(&record.data)).collect();
        match records.is_empty() {
            false => (Answer::Records(records), owner),
            true if found.message().metadata.response_code == ResponseCode::NXDomain => {
                (Answer::NoName, None)
            }
            true => (Answer::NoRecord, None),
        }
    }
}

/// Only an answer that says so makes a name or a record absent.
fn absent<T>(error: &NetError) -> Answer<T> {
    if error.is_nx_domain() {
        Answer::NoName
    } else if error.is_no_records_found() {
        Answer::NoRecord
    } else {
        tracing::debug!(%error, "look-up failed");
        Answer::Failed
    }
}

#[async_trait]
impl Dns for Resolver {
    async fn exchanges(&self, domain: &str) -> Looked<Exchange> {
        let pick = |data: &RData| match data {
            RData::MX(mx) => Some(Exchange { preference: mx.preference, host: text(&mx.exchange) }),
            _ => None,
        };
        Looked::plain(self.look_up(domain, RecordType::MX, pick).await.0)
    }

    async fn host(&self, host: &str) -> HostAnswer {
        let v4 = |data: &RData| if let RData::A(a) = data { Some(a.0) } else { None };
        let v6 = |data: &RData| if let RData::AAAA(a) = data { Some(a.0) } else { None };
        let (v4, v6) =
            tokio::join!(self.look_up(host, RecordType::A, v4), self.look_up(host, RecordType::AAAA, v6));
        let canonical = v4.1.or(v6.1).map(|name| text(&name));
        HostAnswer { v4: Looked::plain(v4.0), v6: Looked::plain(v6.0), canonical }
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
