//! `domain …`

use mailcluster_rpc::admin::v1 as pb;
use serde_json::json;

use super::{collect, dkim};
use crate::{
    args::Domain,
    connect::Admin,
    failure::Failure,
    output::{self, Format},
};

pub async fn run(command: Domain, admin: &mut Admin, out: Format) -> Result<(), Failure> {
    match command {
        Domain::Add { name } => {
            let domain = admin.add_domain(pb::AddDomainRequest { name }).await?.into_inner();
            done(out, &domain.name, "added");
        }
        Domain::List => {
            let domains = collect(admin.list_domains(pb::ListDomainsRequest {}).await?.into_inner()).await?;
            let names: Vec<_> = domains.into_iter().map(|d| d.name).collect();
            match out {
                Format::Json => output::json(&json!(names)),
                Format::Text => names.iter().for_each(|n| output::line(n)),
            }
        }
        Domain::Show { name } => {
            let domain = admin.get_domain(pb::GetDomainRequest { name }).await?.into_inner();
            match out {
                Format::Json => output::json(
                    &json!({"name": domain.name, "accounts": domain.accounts, "aliases": domain.aliases}),
                ),
                Format::Text => output::line(&format!(
                    "{}: {} accounts, {} aliases",
                    domain.name, domain.accounts, domain.aliases
                )),
            }
        }
        Domain::Dkim(command) => dkim::run(command, admin, out).await?,
        Domain::Delete { name, force } => {
            admin.delete_domain(pb::DeleteDomainRequest { name: name.clone(), force }).await?;
            done(out, &name, "deleted");
        }
    }
    Ok(())
}

fn done(out: Format, name: &str, what: &str) {
    match out {
        Format::Json => output::json(&json!({"name": name, "result": what})),
        Format::Text => output::line(&format!("domain {name} {what}")),
    }
}
