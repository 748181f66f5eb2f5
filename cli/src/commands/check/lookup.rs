//! Asks the DNS.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use hickory_resolver::{
    TokioResolver,
    config::ResolveHosts,
    proto::rr::{Name, RData, RecordType},
};
use mailcluster_rpc::admin::v1::DomainKey;

use crate::failure::{Failure, chain};

/// What was found; `None`: the DNS did not say.
pub type Found<T> = Option<Vec<T>>;

/// Of the host.
pub struct HostFacts {
    pub addresses: Found<IpAddr>,
    /// Of each address, its names.
    pub names: Vec<(IpAddr, Found<String>)>,
}

/// Of a domain.
pub struct DomainFacts {
    /// Hosts, best first.
    pub exchanges: Found<(u16, String)>,
    /// TXT records of the domain itself.
    pub texts: Found<String>,
    pub dmarc: Found<String>,
    pub mta_sts: Found<String>,
    /// TXT records of each key, in their order.
    pub keys: Vec<Found<String>>,
}

pub struct Lookup(TokioResolver);

/// A person waits.
const QUESTION: Duration = Duration::from_secs(3);

impl Lookup {
    /// By these servers, or the system's.
    pub fn new(servers: &[SocketAddr]) -> Result<Self, Failure> {
        let broken = |error| Failure::Failed(format!("name servers cannot be asked: {}", chain(&error)));
        let mut builder = mailcluster_resolver::builder(servers).map_err(broken)?;
        let options = builder.options_mut();
        (options.timeout, options.attempts, options.try_tcp_on_error) = (QUESTION, 1, true);
        // What the world sees counts, and not what this machine says of itself.
        options.use_hosts_file = ResolveHosts::Never;
        Ok(Self(builder.build().map_err(broken)?))
    }

    /// Of the host.
    pub async fn host(&self, name: &str) -> HostFacts {
        let v4 = |data: &RData| if let RData::A(a) = data { Some(IpAddr::V4(a.0)) } else { None };
        let v6 = |data: &RData| if let RData::AAAA(a) = data { Some(IpAddr::V6(a.0)) } else { None };
        let found = tokio::join!(self.ask(name, RecordType::A, v4), self.ask(name, RecordType::AAAA, v6));
        let addresses = found.0.zip(found.1).map(|(v4, v6)| [v4, v6].concat());
        let mut names = Vec::new();
        for address in addresses.iter().flatten() {
            let pick = |data: &RData| if let RData::PTR(ptr) = data { Some(text(&ptr.0)) } else { None };
            let name = text(&Name::from(*address));
            names.push((*address, self.ask(&name, RecordType::PTR, pick).await));
        }
        HostFacts { addresses, names }
    }

    /// Of a domain with these keys.
    pub async fn domain(&self, name: &str, keys: &[DomainKey]) -> DomainFacts {
        let exchange = |data: &RData| match data {
            RData::MX(mx) => Some((mx.preference, text(&mx.exchange))),
            _ => None,
        };
        let mut exchanges = self.ask(name, RecordType::MX, exchange).await;
        exchanges.iter_mut().for_each(|found| found.sort());
        let mut of_keys = Vec::new();
        for key in keys {
            of_keys.push(self.texts(&key.record_name).await);
        }
        DomainFacts {
            exchanges,
            texts: self.texts(name).await,
            dmarc: self.texts(&format!("_dmarc.{name}")).await,
            mta_sts: self.texts(&format!("_mta-sts.{name}")).await,
            keys: of_keys,
        }
    }

    async fn texts(&self, name: &str) -> Found<String> {
        let pick = |data: &RData| match data {
            RData::TXT(txt) => Some(String::from_utf8_lossy(&txt.txt_data.concat()).into_owned()),
            _ => None,
        };
        self.ask(name, RecordType::TXT, pick).await
    }

    async fn ask<T>(&self, name: &str, kind: RecordType, pick: impl Fn(&RData) -> Option<T>) -> Found<T> {
        // With its last dot, no search list comes in.
        let name = Name::from_utf8(format!("{name}.")).ok()?;
        match self.0.lookup(name, kind).await {
            Ok(found) => Some(found.answers().iter().filter_map(|record| pick(&record.data)).collect()),
            Err(error) if error.is_nx_domain() || error.is_no_records_found() => Some(Vec::new()),
            Err(_) => None,
        }
    }
}

/// Lower case, without the last dot.
fn text(name: &Name) -> String {
    let text = name.to_ascii().to_ascii_lowercase();
    text.strip_suffix('.').filter(|rest| !rest.is_empty()).map_or(text.clone(), str::to_owned)
}
