//! `kubectl mailcluster import`: a Maildir as Dovecot leaves it and an mbox file come into accounts of a standalone node,
//! whole and once, whoever is killed meanwhile; every octet is compared.

#[path = "import/mod.rs"]
mod import;

use std::{
    collections::BTreeMap,
    fs,
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use import::{Expected, Forwarder, Mail, Mailbox, maildir, stored};
use mailcluster_interop::{NodeBinary, Standalone, scratch, wait_until};
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(120);
const PASSWORD: &str = "correct horse\n";
const ANN: &str = "ann@example.test";

struct World {
    node: Standalone,
    folder: std::path::PathBuf,
}

impl World {
    fn new(name: &str) -> Result<Self> {
        let node = Standalone::start(name)?;
        node.accounts("example.test", &["ann", "bob"], PASSWORD)?;
        let folder = scratch(&format!("{name}-source"))?;
        fs::create_dir_all(&folder)?;
        Ok(Self { node, folder })
    }

    /// The command's words, for a server at this port.
    fn words(&self, port: u16, what: &[&str]) -> Vec<String> {
        let path = |name: &str, below: &std::path::Path| below.join(name).display().to_string();
        let (server, state) = (format!("127.0.0.1:{port}"), path("state", &self.folder));
        let ca = path("tls.crt", self.node.data());
        let options = ["--server", &server, "--state", &state, "--ca", &ca, "-o", "json"];
        ["import"].iter().chain(what).chain(&options).map(|word| (*word).to_owned()).collect()
    }

    fn port(&self) -> Result<u16> {
        Ok(self.node.addr("imaps")?.port())
    }

    fn import(&self, what: &[&str]) -> Result<Value> {
        let words = self.words(self.port()?, what);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let told = self.node.admin(&words, "")?;
        serde_json::from_str(&told).with_context(|| told.clone())
    }

    /// Starts the command beside the test.
    fn start(&self, port: u16, what: &[&str]) -> Result<Child> {
        let mut command = mailcluster_interop::mortal(NodeBinary::find()?.cli);
        command.arg("--standalone").arg(self.node.data()).args(self.words(port, what));
        Ok(command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?)
    }

    /// Lines of the journal that tell of messages.
    fn journaled(&self) -> usize {
        let text = fs::read(self.journal()).unwrap_or_default();
        text.split_inclusive(|b| *b == b'\n')
            .filter(|line| line.starts_with(b"m\t") && line.ends_with(b"\n"))
            .count()
    }

    fn journal(&self) -> std::path::PathBuf {
        self.folder.join("state").join(format!("{ANN}.journal"))
    }

    fn stored(&self) -> Result<BTreeMap<String, Mailbox>> {
        stored(self.node.addr("imaps")?, ANN, PASSWORD.trim_end(), LIMIT)
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let _best_effort = fs::remove_dir_all(&self.folder);
        }
    }
}

fn is_same(found: &BTreeMap<String, Mailbox>, expected: &Expected) -> Result<()> {
    let names = |boxes: Vec<&String>| boxes.into_iter().cloned().collect::<Vec<_>>();
    ensure!(
        names(found.keys().collect()) == names(expected.keys().collect()),
        "mailboxes: {:?}",
        found.keys()
    );
    for (name, mails) in expected {
        let found = &found[name].mails;
        ensure!(found.len() == mails.len(), "{name}: {} messages and not {}", found.len(), mails.len());
        for (found, mail) in found.iter().zip(mails) {
            let mail = Mail { start: String::new(), ..mail.clone() };
            ensure!(*found == mail, "{name}:\n{found:?}\nand not\n{mail:?}");
        }
    }
    Ok(())
}

#[test]
fn a_maildir_comes_in_whole_and_what_cannot_is_told() -> Result<()> {
    let world = World::new("import-maildir")?;
    let source = world.folder.join("Maildir");
    let mut expected = maildir(&source, 40)?;
    std::os::unix::fs::symlink("/etc/passwd", source.join("cur/1.link:2,S"))?;
    let source = source.to_str().context("path")?;
    let told = world.import(&[ANN, source])?;
    let count: usize = expected.values().map(Vec::len).sum();
    ensure!(told["messages"] == count && told["skipped"] == 1, "{told}");
    let found = world.stored()?;
    is_same(&found, &expected)?;
    // Sent is there, and subscribed to, from the start.
    let subscribed: Vec<_> = found.iter().map(|(name, m)| (name.as_str(), m.subscribed)).collect();
    let expected_ones = [("Entw\u{fc}rfe", false), ("INBOX", true), ("Lists/Rust", true), ("Sent", true)];
    ensure!(subscribed == expected_ones, "{subscribed:?}");
    ensure!(found["Sent"].special_use == "\\Sent", "{:?}", found["Sent"].special_use);

    // Nothing is new: nothing comes.
    let told = world.import(&[ANN, source])?;
    ensure!(told["messages"] == 0 && told["earlier"] == count && told["flagsChanged"] == 0, "{told}");
    is_same(&world.stored()?, &expected)?;

    // The old server was used meanwhile: one message more, one read, one no longer a draft.
    let inbox = world.folder.join("Maildir/cur");
    let more = Mail::new("late", 3, &["\\Flagged"], 1_700_500_000);
    more.write(&inbox.join("1700500000.late.h:2,F"))?;
    let name = |start: &str| -> Result<std::path::PathBuf> {
        let mut names = fs::read_dir(&inbox)?.filter_map(|entry| Some(entry.ok()?.path()));
        let is_it = |path: &std::path::PathBuf| {
            path.file_name().is_some_and(|n| n.to_string_lossy().starts_with(start))
        };
        names.find(is_it).with_context(|| start.to_owned())
    };
    let mails = expected.get_mut("INBOX").context("INBOX")?;
    let place =
        |flags: &[&str]| mails.iter().position(|mail| mail.flags.iter().eq(flags)).context("none such");
    let (unread, draft) = (place(&[])?, place(&["\\Draft"])?);
    for (at, letters) in [(unread, "S"), (draft, "")] {
        let old = name(&mails[at].start)?;
        let base = old.to_str().and_then(|path| path.split_once(":2,")).context("name")?.0.to_owned();
        fs::rename(&old, format!("{base}:2,{letters}"))?;
    }
    mails[unread].flags = ["\\Seen".to_owned()].into();
    mails[draft].flags.clear();
    mails.push(more);
    let told = world.import(&[ANN, source])?;
    ensure!(told["messages"] == 1 && told["flagsChanged"] == 2, "{told}");
    is_same(&world.stored()?, &expected)
}

#[test]
fn whoever_is_killed_every_message_comes_once() -> Result<()> {
    let mut world = World::new("import-killed")?;
    let source = world.folder.join("Maildir");
    let expected = maildir(&source, 1500)?;
    let count: usize = expected.values().map(Vec::len).sum();
    let source = source.to_str().context("path")?.to_owned();
    let what = [ANN, source.as_str()];

    // The command, twice; what was on its way then is in no journal.
    for at_least in [100, 400] {
        let mut child = world.start(world.port()?, &what)?;
        wait_until("messages", LIMIT, || world.journaled() >= at_least)?;
        child.kill()?;
        child.wait()?;
        let journaled = world.journaled();
        ensure!(journaled < count, "it was too fast to be killed: {journaled}");
    }
    // The journal lost its end, in the middle of a line.
    let text = fs::read(world.journal())?;
    fs::write(world.journal(), &text[..text.len() - 1234])?;

    // The node, once; the command waits for it.
    let forwarder = Forwarder::start(world.node.addr("imaps")?)?;
    let mut child = world.start(forwarder.port(), &what)?;
    let before = world.journaled();
    wait_until("messages", LIMIT, || world.journaled() > before + 100)?;
    world.node.kill()?;
    ensure!(world.journaled() < count, "it was too fast for the node to be killed");
    world.node.restart()?;
    forwarder.leads_to(world.node.addr("imaps")?);
    let mut told = String::new();
    std::io::Read::read_to_string(&mut child.stdout.take().context("stdout")?, &mut told)?;
    ensure!(child.wait()?.success(), "{told}");
    let told: Value = serde_json::from_str(&told)?;
    ensure!(told["recognised"].as_u64() > Some(5) && told["skipped"] == 0, "{told}");
    is_same(&world.stored()?, &expected)?;

    // Without any journal each message is compared, and known again.
    fs::remove_file(world.journal())?;
    let told = world.import(&what)?;
    ensure!(told["messages"] == 0 && told["recognised"] == count, "{told}");
    is_same(&world.stored()?, &expected)
}

#[test]
fn many_accounts_come_from_a_list_and_one_that_fails_is_told() -> Result<()> {
    let world = World::new("import-list")?;
    let at = |name: &str| world.folder.join(name);
    let expected = maildir(&at("ann"), 5)?;
    let mails =
        [Mail::new("first", 2, &[], 1_700_211_901), Mail::new("From line", 2, &["\\Seen"], 1_700_211_902)];
    let joined = |mail: &Mail| {
        let status = if mail.flags.is_empty() { "" } else { "Status: RO\n" };
        let text = String::from_utf8_lossy(&mail.text).replace("\r\n", "\n").replace("\nFrom ", "\n>From ");
        let second = mail.date - 1_700_211_900;
        format!("From joe@example.org Fri Nov 17 09:05:0{second} 2023 +0000\n{status}{text}\n")
    };
    fs::write(at("bob.mbox"), mails.iter().map(joined).collect::<String>())?;
    let list =
        [("ann", "ann", ""), ("bob", "bob.mbox", "Old/Post"), ("eve", "ann", ""), ("bob", "nothing", "")];
    let line = |(name, source, mailbox): &(&str, &str, &str)| {
        format!("{name}@example.test\t{}\t{mailbox}\n", at(source).display())
    };
    fs::write(at("list"), list.iter().take(3).map(line).collect::<String>())?;
    let path = at("list").display().to_string();
    let words = world.words(world.port()?, &["--list", &path]);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let output = world.node.admin_output(&words, "")?;
    ensure!(output.status.code() == Some(1), "{output:?}");
    let told: Value = serde_json::from_slice(&output.stdout)?;
    ensure!(told["accounts"] == 3 && told["failed"][0]["address"] == "eve@example.test", "{told}");
    is_same(&world.stored()?, &expected)?;
    let bob = stored(world.node.addr("imaps")?, "bob@example.test", PASSWORD.trim_end(), LIMIT)?;
    is_same(&bob, &[("INBOX".to_owned(), Vec::new()), ("Old/Post".to_owned(), mails.to_vec())].into())?;

    // A source that is not there costs its account alone, and a list that is wrong does not begin.
    fs::write(at("list"), list.iter().map(line).collect::<String>())?;
    let output = world.node.admin_output(&words, "")?;
    let told: Value = serde_json::from_slice(&output.stdout)?;
    ensure!(told["failed"].as_array().map(Vec::len) == Some(2), "{told}");
    fs::write(at("list"), "ann@example.test\n")?;
    let output = world.node.admin_output(&words, "")?;
    ensure!(
        output.stdout.is_empty() && String::from_utf8_lossy(&output.stderr).contains("line 1"),
        "{output:?}"
    );
    Ok(())
}

#[test]
fn a_server_that_is_another_gets_nothing() -> Result<()> {
    let world = World::new("import-server")?;
    let source = world.folder.join("Maildir");
    maildir(&source, 1)?;
    let source = source.to_str().context("path")?;
    let run = |change: &dyn Fn(&mut Vec<String>)| -> Result<(Option<i32>, String)> {
        let mut words = world.words(world.port()?, &[ANN, source]);
        change(&mut words);
        let output = Command::new(NodeBinary::find()?.cli)
            .arg("--standalone")
            .arg(world.node.data())
            .args(words)
            .env("SSL_CERT_FILE", "/etc/ssl/certs/ca-certificates.crt")
            .output()?;
        Ok((output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned()))
    };
    let (code, text) = run(&|words| words.extend(["--tls-name", "elsewhere.test"].map(str::to_owned)))?;
    ensure!(code == Some(4) && text.contains("certificate"), "{code:?} {text}");
    let (code, text) = run(&|words| words[4] = "127.0.0.1:1".to_owned())?;
    ensure!(code == Some(4) && text.contains("cannot be reached"), "{code:?} {text}");
    let (code, text) = run(&|words| words[2] = "/nonexistent".to_owned())?;
    ensure!(code == Some(1) && text.contains("not brought whole"), "{code:?} {text}");
    ensure!(world.stored()?["INBOX"].mails.is_empty());
    let audit = world.node.admin(&["audit"], "")?;
    ensure!(!audit.contains("login ticket"), "{audit}");
    Ok(())
}
