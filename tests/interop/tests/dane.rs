//! A Postfix whose certificate stands in a signed zone (DANE, RFC 7672), and one that shows another.

mod common;

use anyhow::{Context, Result, ensure};
use common::{ANN, LIMIT, PASSWORD};
use mailcluster_interop::{ClientRoot, NameServer, Postfix, SiteCertificate, Standalone, wait_until};
use mailcluster_test_clients::{SmtpClient, Tls, message};

const JOE: &str = "joe@elsewhere.test";

/// A site whose zone has this about its certificate, and a node that keeps to it.
struct World {
    postfix: Postfix,
    node: Standalone,
    _names: NameServer,
    _anchor: tempfile::TempDir,
}

fn world(name: &str, tlsa: &str) -> Result<World> {
    let (root, certificate) = (ClientRoot::ensure()?, SiteCertificate::make()?);
    let addr = Postfix::free_addr()?;
    let tlsa = tlsa.replace("SHA256", &certificate.sha256);
    let zone = format!(
        "elsewhere.test MX 10 mx.elsewhere.test.
         mx.elsewhere.test A 127.0.0.1
         _{}._tcp.mx.elsewhere.test TLSA {tlsa}",
        addr.port()
    );
    let (names, key) = NameServer::start_signed(&zone)?;
    let anchor = tempfile::tempdir()?;
    let file = anchor.path().join("root.key");
    std::fs::write(&file, key)?;
    let (server, port) = (names.addr().to_string(), addr.port().to_string());
    let options = [
        "--outbound",
        "direct",
        "--dane",
        "--dns-trust-anchor",
        file.to_str().context("the folder's name")?,
        "--name-server",
        &server,
        "--outbound-port",
        &port,
        "--outbound-pause",
        "1",
    ];
    let node = Standalone::start_so(name, &options)?;
    node.accounts("example.test", &["ann"], PASSWORD)?;
    let postfix = Postfix::start_so(&root, name, (addr, node.addr("smtp")?), (&certificate, ""))?;
    let mut client = SmtpClient::connect(node.addr("submissions")?, Tls::Implicit, LIMIT)?;
    client.auth_plain(ANN, PASSWORD)?;
    let outcome = client.send(ANN, &[JOE], &message("anchored", 2000));
    ensure!(common::accepted(&outcome), "{outcome:?}");
    Ok(World { postfix, node, _names: names, _anchor: anchor })
}

#[test]
fn a_postfix_whose_certificate_stands_in_the_dns_is_sent_to() -> Result<()> {
    let world = world("dane", "3 0 1 SHA256")?;
    let there = || world.postfix.inbox().is_ok_and(|found| !found.is_empty());
    let listed = || world.node.admin(&["queue", "list"], "").unwrap_or_default();
    wait_until("the mail arrives at Postfix", LIMIT, there)
        .with_context(|| format!("{}\n{}", listed(), world.postfix.log()))?;
    let found = world.postfix.inbox()?.remove(0);
    ensure!(found.contains("with ESMTPS") && found.contains("anchored"), "{found}");
    Ok(())
}

#[test]
fn another_certificate_than_the_dns_has_gets_no_mail() -> Result<()> {
    let world = world("dane-bad", &format!("3 0 1 {}", "ab".repeat(32)))?;
    let listed = || world.node.admin(&["queue", "list"], "").unwrap_or_default();
    wait_until("it waits, and says why", LIMIT, || listed().contains("TLSA")).with_context(listed)?;
    ensure!(world.postfix.inbox()?.is_empty(), "it was sent all the same");
    ensure!(!world.postfix.log().contains("from=<ann"), "{}", world.postfix.log());
    Ok(())
}
