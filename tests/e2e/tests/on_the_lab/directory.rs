//! The directory away: frontends go on from what they last knew, and say "later" where they know nothing.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context, Result, ensure};
use mailcluster_e2e::{DOMAIN, NAMESPACE, wait_for};
use mailcluster_test_clients::{Ledger, SmtpClient, Tls};

use crate::stage::{LIMIT, Stage, pod_of};

/// The directory's process is frozen, and a frontend starts meanwhile.
pub fn away(stage: &Stage) -> Result<Ledger> {
    let site = &stage.site;
    let directory = pod_of("demo-directory");
    let before = site.store("demo-directory")?.epoch;
    // Held where it is, and the operator away, so that nobody moves it while it is tried what works without it.
    stage.scale_operator(0)?;
    let ledger = stage.sending("no-directory", || {
        site.lab()?.pause_pod(NAMESPACE, &directory)?;
        let tried = without_directory(stage);
        site.lab()?.resume_pod(NAMESPACE, &directory)?;
        tried
    });
    stage.scale_operator(2)?;
    wait_for("an operator leads again", LIMIT, || site.leader().map(Some))?;
    let ledger = ledger?;
    wait_for("the directory serves", LIMIT, || {
        let view = site.store("demo-directory")?;
        Ok((view.phase == "Serving" && view.epoch >= before).then_some(()))
    })?;
    wait_for("an unknown recipient is refused again", LIMIT, || {
        Ok((rcpt(site.port(25)?, &format!("nobody@{DOMAIN}"))? == 550).then_some(()))
    })?;
    Ok(ledger)
}

fn without_directory(stage: &Stage) -> Result<()> {
    let site = &stage.site;
    ensure!(
        rcpt(site.port(25)?, &format!("nobody@{DOMAIN}"))? == 451,
        "nobody can say that this mailbox does not exist: it must be 451"
    );
    // Frontends that saw these accounts go on, for mail and for logins.
    stage.all_can_read_for(Duration::from_secs(5))?;
    let known = site.frontends()?;
    let victim = known.first().context("no frontend")?;
    stage.kubectl(&["delete", "pod", victim, "--wait=false"])?;
    let fresh = wait_for("a frontend starts without the directory", LIMIT, || {
        let others = site.frontends()?.into_iter().filter(|name| !known.contains(name));
        Ok(others.filter_map(|name| site.running_at(&name).ok().flatten()).next())
    })?;
    // It knows nobody yet: it may say "later", never "there is no such mailbox".
    let answer = wait_for("the new frontend answers", LIMIT, || {
        rcpt(SocketAddr::new(fresh, 10025), &stage.addresses[0]).map(Some)
    })?;
    ensure!(answer == 451, "a frontend that knows nothing yet answered {answer}");
    Ok(())
}

/// The reply to RCPT.
fn rcpt(frontend: SocketAddr, to: &str) -> Result<u16> {
    let mut client = SmtpClient::connect(frontend, Tls::None, Duration::from_secs(15))?;
    client.expect("MAIL FROM:<sender@elsewhere.test>", 250)?;
    Ok(client.command(&format!("RCPT TO:<{to}>"))?.code)
}
