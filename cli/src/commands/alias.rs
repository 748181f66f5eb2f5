//! `alias …`

use mailcluster_rpc::admin::v1 as pb;
use serde_json::{Value, json};

use super::collect;
use crate::{
    args::Alias,
    connect::Admin,
    failure::Failure,
    output::{self, Format},
};

pub async fn run(command: Alias, admin: &mut Admin, out: Format) -> Result<(), Failure> {
    match command {
        Alias::Add { address, targets, replace } => {
            let asked = pb::AddAliasRequest { address, targets, replace };
            show(out, &admin.add_alias(asked).await?.into_inner());
        }
        Alias::Show { address } => {
            show(out, &admin.get_alias(pb::GetAliasRequest { address }).await?.into_inner());
        }
        Alias::List { domain } => {
            let asked = pb::ListAliasesRequest { domain: domain.unwrap_or_default() };
            let aliases = collect(admin.list_aliases(asked).await?.into_inner()).await?;
            match out {
                Format::Json => output::json(&aliases.iter().map(as_json).collect()),
                Format::Text => aliases.iter().for_each(|a| show(out, a)),
            }
        }
        Alias::Delete { address } => {
            admin.delete_alias(pb::DeleteAliasRequest { address: address.clone() }).await?;
            match out {
                Format::Json => output::json(&json!({"address": address, "result": "deleted"})),
                Format::Text => output::line(&format!("alias {address} deleted")),
            }
        }
    }
    Ok(())
}

fn as_json(alias: &pb::Alias) -> Value {
    json!({"address": alias.address, "targets": alias.targets})
}

fn show(out: Format, alias: &pb::Alias) {
    match out {
        Format::Json => output::json(&as_json(alias)),
        Format::Text => {
            let targets = if alias.targets.is_empty() { "nobody".into() } else { alias.targets.join(", ") };
            output::line(&format!("{} -> {targets}", alias.address));
        }
    }
}
