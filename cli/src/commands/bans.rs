//! `bans …`

use mailcluster_rpc::{
    admin::v1 as pb,
    directory::v1::{ScreeningBan, SlowedAccount},
};
use serde_json::{Value, json};

use crate::{
    args::Bans,
    connect::Admin,
    failure::Failure,
    output::{self, Format},
    units,
};

pub async fn run(command: Bans, admin: &mut Admin, out: Format) -> Result<(), Failure> {
    match command {
        Bans::List => {
            let answer = admin.list_bans(pb::ListBansRequest {}).await?.into_inner();
            list(out, &answer);
        }
        Bans::Add { network, duration } => {
            let ban = admin.add_ban(pb::AddBanRequest { network, seconds: duration }).await?.into_inner();
            match out {
                Format::Json => output::json(&ban_json(&ban)),
                Format::Text => output::line(&format!("{} is refused for {}", ban.network, remaining(&ban))),
            }
        }
        Bans::Remove { network } => {
            admin.remove_ban(pb::RemoveBanRequest { network: network.clone() }).await?;
            match out {
                Format::Json => output::json(&json!({"network": network, "result": "removed"})),
                Format::Text => output::line(&format!("{network} is refused no longer")),
            }
        }
    }
    Ok(())
}

fn list(out: Format, answer: &pb::ListBansResponse) {
    match out {
        Format::Json => output::json(&json!({
            "bans": answer.bans.iter().map(ban_json).collect::<Value>(),
            "accountsUnderAttack": answer.slowed.iter().map(slowed_json).collect::<Value>(),
        })),
        Format::Text => {
            for ban in &answer.bans {
                output::line(&format!(
                    "{} refused for {} more: {}",
                    ban.network,
                    remaining(ban),
                    reason(&ban.reason)
                ));
            }
            for slowed in &answer.slowed {
                output::line(&format!(
                    "{} under attack: logins wait {} s, but from {} address(es) from which it logged in well",
                    slowed.account,
                    slowed.delay_ms.div_ceil(1000),
                    slowed.good.len(),
                ));
            }
            if answer.bans.is_empty() && answer.slowed.is_empty() {
                output::line("nobody is refused");
            }
        }
    }
}

fn remaining(ban: &ScreeningBan) -> String {
    units::duration(ban.remaining_ms.div_ceil(1000))
}

fn reason(label: &str) -> &str {
    match label {
        "logins" => "many failed logins",
        "accounts" => "failed logins at many accounts",
        "recipients" => "many unknown recipients",
        "abuse" => "sessions ended for what they sent",
        "neighbours" => "many of its addresses are banned",
        "administrator" => "an administrator said so",
        other => other,
    }
}

fn ban_json(ban: &ScreeningBan) -> Value {
    json!({"network": ban.network, "seconds": ban.remaining_ms.div_ceil(1000), "reason": ban.reason})
}

fn slowed_json(slowed: &SlowedAccount) -> Value {
    json!({
        "account": slowed.account,
        "delaySeconds": slowed.delay_ms.div_ceil(1000),
        "seconds": slowed.remaining_ms.div_ceil(1000),
        "goodAddresses": slowed.good,
    })
}
