//! `account …`

use mailcluster_rpc::admin::v1 as pb;
use serde_json::{Value, json};

use super::{admin, collect, input, transfer};
use crate::{
    args::{Account, Global},
    connect::Admin,
    failure::Failure,
    output::{self, Format},
    units,
};

pub async fn run(command: Account, global: &Global) -> Result<(), Failure> {
    let out = global.output;
    match command {
        Account::Import { file } => return transfer::import(&file, global).await,
        Account::Export => return transfer::export(&mut admin(global).await?).await,
        Account::Add { address, secret, store, quota, wait } => {
            // Read first: a person who types a password should not wait for the connection.
            let asked = pb::AddAccountRequest {
                address,
                credential: input::credential(&secret)?,
                store: store.unwrap_or_default(),
                quota_octets: quota,
                wait_ms: wait * 1000,
            };
            let account = admin(global).await?.add_account(asked).await?.into_inner();
            let is_pending = account.state() == pb::AccountState::Pending;
            let what = if is_pending {
                format!(
                    "added on {}, pending: it takes mail and logins as soon as that store has it",
                    account.store
                )
            } else {
                format!("added on {}, active", account.store)
            };
            changed(out, &account, &what);
        }
        Account::Passwd { address, secret } => {
            let credential = input::credential(&secret)?;
            let asked = pb::SetPasswordRequest { address, credential };
            changed(
                out,
                &admin(global).await?.set_password(asked).await?.into_inner(),
                "has its new password",
            );
        }
        Account::List { domain, limit } => list(&mut admin(global).await?, domain, limit, out).await?,
        Account::Show { address } => {
            let asked = pb::GetAccountRequest { address };
            show(&admin(global).await?.get_account(asked).await?.into_inner(), out);
        }
        Account::Delete { address } => {
            let asked = pb::DeleteAccountRequest { address: address.clone() };
            admin(global).await?.delete_account(asked).await?;
            match out {
                Format::Json => output::json(&json!({"address": address, "result": "deleted"})),
                Format::Text => output::line(&format!("account {address} deleted")),
            }
        }
        Account::Suspend { address } => suspend(&mut admin(global).await?, address, true, out).await?,
        Account::Resume { address } => suspend(&mut admin(global).await?, address, false, out).await?,
        Account::Quota { address, size } => {
            let asked = pb::SetQuotaRequest { address, quota_octets: size };
            let account = admin(global).await?.set_quota(asked).await?.into_inner();
            changed(out, &account, &format!("has the quota {}", units::quota(size)));
        }
    }
    Ok(())
}

async fn suspend(admin: &mut Admin, address: String, suspended: bool, out: Format) -> Result<(), Failure> {
    let asked = pb::SetSuspendedRequest { address, suspended };
    let account = admin.set_suspended(asked).await?.into_inner();
    changed(out, &account, if suspended { "suspended" } else { "resumed" });
    Ok(())
}

async fn list(admin: &mut Admin, domain: Option<String>, limit: u64, out: Format) -> Result<(), Failure> {
    let asked = pb::ListAccountsRequest { domain: domain.unwrap_or_default(), after: String::new(), limit };
    let accounts = collect(admin.list_accounts(asked).await?.into_inner()).await?;
    match out {
        Format::Json => output::json(&accounts.iter().map(as_json).collect()),
        Format::Text => {
            let rows: Vec<_> = accounts.iter().map(row).collect();
            output::table(&["ADDRESS", "STORE", "STATE", "QUOTA", "PASSWORD"], &rows);
        }
    }
    Ok(())
}

fn row(account: &pb::Account) -> Vec<String> {
    vec![
        account.address.clone(),
        account.store.clone(),
        state(account).to_owned(),
        units::quota(account.quota_octets),
        scheme(account).to_owned(),
    ]
}

fn state(account: &pb::Account) -> &'static str {
    match account.state() {
        pb::AccountState::Active => "active",
        pb::AccountState::Pending => "pending",
        pb::AccountState::Suspended => "suspended",
        pb::AccountState::Unspecified => "unknown",
    }
}

fn scheme(account: &pb::Account) -> &str {
    match (account.has_password, account.password_scheme.as_str()) {
        (false, _) => "none",
        (true, "") => "unusable",
        (true, scheme) => scheme,
    }
}

fn as_json(account: &pb::Account) -> Value {
    json!({
        "id": account.id,
        "address": account.address,
        "store": account.store,
        "state": state(account),
        "quotaOctets": account.quota_octets,
        "password": scheme(account),
        "generation": account.generation,
    })
}

fn show(account: &pb::Account, out: Format) {
    match out {
        Format::Json => {
            let mut value = as_json(account);
            value["aliases"] = json!(account.aliases);
            output::json(&value);
        }
        Format::Text => {
            let aliases =
                if account.aliases.is_empty() { "none".to_owned() } else { account.aliases.join(", ") };
            for (name, value) in [
                ("address", account.address.as_str()),
                ("id", &account.id),
                ("store", &account.store),
                ("state", state(account)),
                ("quota", &units::quota(account.quota_octets)),
                ("password", scheme(account)),
                ("aliases", &aliases),
            ] {
                output::line(&format!("{name:<10}{value}"));
            }
        }
    }
}

fn changed(out: Format, account: &pb::Account, what: &str) {
    match out {
        Format::Json => output::json(&as_json(account)),
        Format::Text => output::line(&format!("account {} {what}", account.address)),
    }
}
