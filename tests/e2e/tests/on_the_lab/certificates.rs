//! Certificates between pods, so short-lived that all of them are renewed while mail flows.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use anyhow::{Result, bail, ensure};
use mailcluster_e2e::{SYSTEM, wait_for};
use mailcluster_test_clients::Ledger;
use serde_json::Value;

use crate::{
    chart::mail_pods,
    stage::{LIMIT, Stage, length, plan, say},
};

/// Certificates of two minutes, and what the chart then wants of the authority: its keys are renewed while this runs.
const SHORT: [&str; 3] =
    ["certificates.leafSeconds=120", "certificates.caSeconds=540", "certificates.caOverlapSeconds=90"];
/// The chart's own values.
const USUAL: [&str; 3] = [
    "certificates.leafSeconds=7776000",
    "certificates.caSeconds=315360000",
    "certificates.caOverlapSeconds=3600",
];

/// Every certificate is renewed, several times, under load: nobody notices, no pod restarts.
pub fn short_lived(stage: &Stage) -> Result<Ledger> {
    let before = mail_pods(stage)?;
    // From long-lived to short-lived: the first ones are replaced now.
    let time = length(130, 900);
    let ledger = stage.sending("certificates", || {
        upgrade(stage, &SHORT)?;
        let outcome = renewed_for(stage, time);
        upgrade(stage, &USUAL)?;
        outcome
    })?;
    stage.site.wait_ready(LIMIT)?;
    ensure!(before == mail_pods(stage)?, "certificates restarted mail pods: {before:?}");
    Ok(ledger)
}

fn upgrade(stage: &Stage, values: &[&str]) -> Result<()> {
    let chart = plan(&stage.site.binaries)?.chart();
    let mut words = vec!["upgrade", "mailcluster", &chart, "--namespace", SYSTEM, "--reuse-values", "--wait"];
    for value in values {
        words.extend(["--set", value]);
    }
    stage.site.kubernetes.helm(&words)?;
    wait_for("an operator leads", LIMIT, || stage.site.leader().map(Some)).map(drop)
}

/// Watches the Secrets with certificates for this long; each changes at least once a certificate's life, and everybody
/// reads his mail throughout.
fn renewed_for(stage: &Stage, time: Duration) -> Result<()> {
    let mut seen: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let until = Instant::now() + time;
    while Instant::now() < until {
        for (secret, certificate) in certificates(stage)? {
            let of_it = seen.entry(secret).or_default();
            if of_it.last() != Some(&certificate) {
                of_it.push(certificate);
            }
        }
        stage.all_can_read_for(Duration::from_secs(3))?;
    }
    for (secret, certificates) in &seen {
        say(&format!("{secret}: {} certificates in {} s", certificates.len(), time.as_secs()));
    }
    let wanted = usize::try_from(time.as_secs() / 120)?;
    let renewed = seen.iter().filter(|(secret, _)| !secret.ends_with("-ca"));
    for (secret, certificates) in renewed {
        if certificates.len() <= wanted {
            bail!("{secret} was renewed {} times in {} s", certificates.len() - 1, time.as_secs());
        }
    }
    Ok(())
}

/// The certificates of the cluster's identities, by Secret.
fn certificates(stage: &Stage) -> Result<Vec<(String, String)>> {
    let secrets = stage.site.get(&["secrets", "-l", "app.kubernetes.io/name=mailcluster"])?;
    let of = |secret: &Value| {
        let name = secret.pointer("/metadata/name")?.as_str()?.to_owned();
        // What clients are shown has a life of its own.
        let own = !name.ends_with("-tls");
        Some((name, secret.pointer("/data/tls.crt")?.as_str()?.to_owned())).filter(|_| own)
    };
    let found: Vec<_> = secrets["items"].as_array().into_iter().flatten().filter_map(of).collect();
    ensure!(!found.is_empty(), "no Secrets with certificates");
    Ok(found)
}
