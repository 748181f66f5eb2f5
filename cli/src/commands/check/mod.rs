//! `check`: what the DNS says of the host and its domains, against what is configured.

mod judge;
mod lookup;

use std::net::SocketAddr;

use mailcluster_rpc::admin::v1 as pb;
use serde_json::{Value, json};

use self::{
    judge::{Finding, Level},
    lookup::Lookup,
};
use super::collect;
use crate::{
    connect::Admin,
    failure::Failure,
    output::{self, Format},
};

/// What to check.
#[derive(clap::Args)]
pub struct Check {
    /// One domain; default: all.
    pub domain: Option<String>,
    /// A name server to ask. May be given several times. Default: those of /etc/resolv.conf.
    #[arg(long = "name-server", value_name = "ADDR:PORT")]
    pub name_servers: Vec<SocketAddr>,
}

/// Prints what is right and wrong, and what to publish.
///
/// # Errors
/// [`Failure::Failed`] when something is missing or wrong, [`Failure::Unavailable`] when the DNS does not say.
pub async fn run(asked: Check, admin: &mut Admin, out: Format) -> Result<(), Failure> {
    let hostname = admin.get_status(pb::GetStatusRequest {}).await?.into_inner().hostname;
    if hostname.is_empty() {
        return Err(Failure::Failed("the directory does not tell its host name: update it first".into()));
    }
    let domains = match asked.domain {
        Some(domain) => vec![domain],
        None => {
            let all = collect(admin.list_domains(pb::ListDomainsRequest {}).await?.into_inner()).await?;
            all.into_iter().map(|domain| domain.name).collect()
        }
    };
    let dns = Lookup::new(&asked.name_servers)?;
    let host = dns.host(&hostname).await;
    let mut parts = vec![(hostname.clone(), judge::host(&hostname, &host))];
    for domain in domains {
        let keys = admin.list_domain_keys(pb::DomainKeysRequest { name: domain }).await?.into_inner();
        let name = keys.name;
        let found = dns.domain(&name, &keys.keys).await;
        parts.push((name.clone(), judge::domain(&name, (&hostname, &host), (&keys.keys, &found))));
    }
    match out {
        Format::Json => output::json(&parts.iter().map(as_json).collect()),
        Format::Text => parts.iter().for_each(show),
    }
    verdict(parts.iter().flat_map(|(_, findings)| findings).map(|finding| finding.level))
}

fn verdict(levels: impl Iterator<Item = Level>) -> Result<(), Failure> {
    let (mut bad, mut unknown) = (0, 0);
    for level in levels {
        match level {
            Level::Missing | Level::Wrong => bad += 1,
            Level::Unknown => unknown += 1,
            Level::Ok | Level::Advice => {}
        }
    }
    match (bad, unknown) {
        (0, 0) => Ok(()),
        (0, unknown) => Err(Failure::Unavailable(format!("the DNS did not answer {unknown} questions"))),
        (bad, _) => Err(Failure::Failed(format!("{bad} of the records above are missing or wrong"))),
    }
}

fn show((name, findings): &(String, Vec<Finding>)) {
    output::line(name);
    for finding in findings {
        output::line(
            format!("  {:<8} {:<8} {}", finding.level.label(), finding.record, finding.text).trim_end(),
        );
        if let Some(publish) = &finding.publish {
            output::line(&format!("  {:<17} {publish}", "publish"));
        }
    }
}

fn as_json((name, findings): &(String, Vec<Finding>)) -> Value {
    let finding = |finding: &Finding| {
        json!({
            "record": finding.record,
            "level": finding.level.label(),
            "text": finding.text,
            "publish": finding.publish,
        })
    };
    json!({"name": name, "findings": findings.iter().map(finding).collect::<Vec<_>>()})
}
