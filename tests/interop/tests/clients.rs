//! The mail programs people use, against a standalone node, without workarounds for us.

use std::{fs, process::Command, time::Duration};

use anyhow::{Context, Result, ensure};
use mailcluster_interop::{ClientRoot, Standalone};
use mailcluster_test_clients::{ImapClient, Tls, collect_imap, collect_pop3, message};

const PASSWORD: &str = "correct horse";

fn node(name: &str) -> Result<Standalone> {
    let node = Standalone::start(name)?;
    node.accounts("example.test", &["ann", "bob"], PASSWORD)?;
    Ok(node)
}

/// Puts `count` messages into ann's INBOX by swaks, as another server would.
fn swaks(root: &ClientRoot, node: &Standalone, count: usize) -> Result<()> {
    for n in 0..count {
        let line = format!(
            "swaks --server {} --from joe@elsewhere.test --to ann@example.test --header 'Subject: number {n}' --body 'hello {n}' --tls-optional",
            node.addr("smtp")?
        );
        let ran = root.shell(&line, b"", 60)?;
        ensure!(ran.success, "swaks: {}", ran.output);
    }
    Ok(())
}

#[test]
fn swaks_delivers_to_mx_and_submits_after_auth() -> Result<()> {
    let (root, node) = (ClientRoot::ensure()?, node("swaks")?);
    swaks(&root, &node, 2)?;
    let submit = |proto: &str, tls: &str| -> Result<_> {
        let line = format!(
            "swaks --server {} {tls} --auth PLAIN --auth-user ann@example.test --auth-password '{PASSWORD}' --from ann@example.test --to bob@example.test",
            node.addr(proto)?
        );
        root.shell(&line, b"", 60)
    };
    for (proto, tls) in [("submission", "--tls"), ("submissions", "--tlsc")] {
        let ran = submit(proto, tls)?;
        ensure!(ran.success, "{proto}: {}", ran.output);
    }
    let mut bob = ImapClient::login(
        node.addr("imaps")?,
        Tls::Implicit,
        Duration::from_secs(30),
        "bob@example.test",
        PASSWORD,
    )?;
    ensure!(bob.fetch_all("INBOX")?.len() == 2);
    Ok(())
}

#[test]
fn a_message_passes_through_swaks_unchanged() -> Result<()> {
    let (root, node) = (ClientRoot::ensure()?, node("unchanged")?);
    let line = format!(
        "swaks --server {} --tls-optional --from joe@elsewhere.test --to ann@example.test --data -",
        node.addr("smtp")?
    );
    // swaks ends the last line itself.
    let ran = root.shell(&line, message("swaks", 2000).trim_ascii_end(), 60)?;
    ensure!(ran.success, "swaks: {}", ran.output);
    let ann = ["ann@example.test".to_owned()];
    for found in [
        collect_imap(node.addr("imaps")?, Tls::Implicit, &ann, PASSWORD)?,
        collect_pop3(node.addr("pop3s")?, Tls::Implicit, &ann, PASSWORD)?,
    ] {
        ensure!(
            matches!(found.as_slice(), [one] if one.token == "swaks" && one.damage.is_none()),
            "{found:?}"
        );
    }
    Ok(())
}

#[test]
fn swaks_cannot_relay_to_the_outside() -> Result<()> {
    let (root, node) = (ClientRoot::ensure()?, node("relay")?);
    let line = format!("swaks --server {} --from joe@elsewhere.test --to x@outside.test", node.addr("smtp")?);
    let ran = root.shell(&line, b"", 60)?;
    ensure!(!ran.success && ran.output.contains("550 5.7.1"), "{}", ran.output);
    Ok(())
}

#[test]
fn mbsync_mirrors_both_ways() -> Result<()> {
    let (root, node) = (ClientRoot::ensure()?, node("mbsync")?);
    swaks(&root, &node, 3)?;
    let (outside, inside) = root.scratch("mbsync")?;
    let imaps = node.addr("imaps")?;
    let pem = outside.join("ca.pem");
    fs::copy(node.data().join("tls.crt"), &pem).context("the node's own certificate")?;
    fs::create_dir_all(outside.join("mail"))?;
    fs::write(
        outside.join("mbsyncrc"),
        format!(
            "IMAPAccount us\nHost 127.0.0.1\nPort {}\nUser ann@example.test\nPass \"{PASSWORD}\"\nSSLType IMAPS\nCertificateFile {inside}/ca.pem\n\n\
             IMAPStore far\nAccount us\n\nMaildirStore near\nSubFolders Verbatim\nPath {inside}/mail/\nInbox {inside}/mail/INBOX\n\n\
             Channel all\nFar :far:\nNear :near:\nPatterns *\nCreate Both\nExpunge Both\nSyncState *\n",
            imaps.port()
        ),
    )?;
    let sync = || -> Result<()> {
        let ran = root.shell(&format!("mbsync -V -c {inside}/mbsyncrc all"), b"", 120)?;
        ensure!(ran.success, "mbsync: {}", ran.output);
        Ok(())
    };
    sync()?;
    let inbox = outside.join("mail/INBOX");
    let count = |folder: &str| fs::read_dir(inbox.join(folder)).map(|entries| entries.count()).unwrap_or(0);
    ensure!(count("new") + count("cur") == 3, "new {} cur {}", count("new"), count("cur"));
    ensure!(outside.join("mail/Sent").is_dir(), "the default mailboxes are mirrored");
    // One new message and one flag here; one flag there.
    fs::write(outside.join("mail/Sent/cur/1.test.host:2,S"), message("from-mbsync", 500))?;
    let mut ann =
        ImapClient::login(imaps, Tls::Implicit, Duration::from_secs(30), "ann@example.test", PASSWORD)?;
    ann.ok("SELECT INBOX")?;
    ann.ok("STORE 1 +FLAGS (\\Flagged)")?;
    ann.ok("STORE 2 +FLAGS (\\Deleted)")?;
    sync()?;
    ensure!(ann.fetch_all("Sent")?.len() == 1);
    ensure!(ann.fetch_all("INBOX")?.len() == 2, "mbsync expunged what was deleted");
    let names = fs::read_dir(inbox.join("cur"))?.chain(fs::read_dir(inbox.join("new"))?);
    let flagged = names.flatten().filter(|entry| entry.file_name().to_string_lossy().contains('F')).count();
    ensure!(flagged == 1, "the flag came over");
    Ok(())
}

#[test]
fn neomutt_reads_flags_and_saves() -> Result<()> {
    let (root, node) = (ClientRoot::ensure()?, node("neomutt")?);
    swaks(&root, &node, 2)?;
    let (outside, inside) = root.scratch("neomutt")?;
    fs::copy(node.data().join("tls.crt"), outside.join("ca.pem")).context("the node's own certificate")?;
    fs::write(
        outside.join("rc"),
        format!(
            "set imap_user=ann@example.test imap_pass=\"{PASSWORD}\" ssl_force_tls ssl_ca_certificates_file={inside}/ca.pem certificate_file={inside}/ca.pem\n\
             set ssl_verify_host=no ssl_verify_dates=no confirmappend=no confirmcreate=no delete=yes move=no quit=yes timeout=5 mark_old=no\n\
             set folder=imaps://127.0.0.1:{} spoolfile=imaps://127.0.0.1:{}/INBOX header_cache= message_cachedir=\n\
             push '<tag-pattern>~A<enter><tag-prefix><copy-message>=Archive<enter><first-entry><flag-message><delete-message><sync-mailbox><quit>'\n",
            node.addr("imaps")?.port(),
            node.addr("imaps")?.port()
        ),
    )?;
    let drawn = root.terminal(&format!("neomutt -n -F {inside}/rc"), 90)?;
    let mut ann = ImapClient::login(
        node.addr("imaps")?,
        Tls::Implicit,
        Duration::from_secs(30),
        "ann@example.test",
        PASSWORD,
    )?;
    let archived = ann.fetch_all("Archive")?.len();
    ensure!(archived == 2, "archived {archived}; neomutt drew: {drawn}");
    ensure!(ann.fetch_all("INBOX")?.len() == 1, "neomutt deleted the first message: {drawn}");
    Ok(())
}

#[test]
fn fetchmail_takes_mail_by_pop3_and_imap() -> Result<()> {
    let (root, node) = (ClientRoot::ensure()?, node("fetchmail")?);
    for proto in ["pop3", "imap"] {
        swaks(&root, &node, 2)?;
        let (outside, inside) = root.scratch(&format!("fetchmail-{proto}"))?;
        let rc = outside.join("rc");
        fs::write(
            &rc,
            format!(
                "poll 127.0.0.1 protocol {proto} port {} user 'ann@example.test' password '{PASSWORD}' sslproto 'TLS1.2+' no sslcertck mda \"/bin/cat >> {inside}/got\" no rewrite\n",
                node.addr(proto)?.port()
            ),
        )?;
        Command::new("chmod").arg("600").arg(&rc).status()?;
        let ran = root.shell(
            &format!("fetchmail -v --pidfile {inside}/pid -f {inside}/rc -i {inside}/ids"),
            b"",
            90,
        )?;
        let got = fs::read_to_string(outside.join("got")).unwrap_or_default();
        ensure!(got.matches("Subject: number").count() == 2, "{proto}: {}", ran.output);
    }
    let mut ann = ImapClient::login(
        node.addr("imaps")?,
        Tls::Implicit,
        Duration::from_secs(30),
        "ann@example.test",
        PASSWORD,
    )?;
    ensure!(ann.fetch_all("INBOX")?.is_empty(), "fetchmail deletes what it took");
    Ok(())
}

#[test]
fn pythons_imaplib_and_poplib_work() -> Result<()> {
    let (root, node) = (ClientRoot::ensure()?, node("python")?);
    swaks(&root, &node, 2)?;
    let script = include_str!("python_clients.py");
    let ports =
        ["imaps", "imap", "pop3s", "pop3"].map(|proto| node.addr(proto).map(|addr| addr.port().to_string()));
    let mut command = root.command("/usr/bin/python3");
    command.args(["-c", script]);
    for port in ports {
        command.arg(port?);
    }
    let output = command.arg(PASSWORD).output().context("python3")?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}
