//! Every subcommand of `kubectl-mailcluster` against a standalone node: what it is given, how it ends, and which keys
//! its JSON has. Programs build on both, so a change of either is a change for people.

use std::{
    collections::BTreeSet,
    process::{Command, Output},
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use mailcluster_interop::{NodeBinary, Standalone};
use mailcluster_test_clients::{SendOutcome, SmtpClient, Tls, message};
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(30);
const HASH: &str = "{SSHA}5pcxo13YdJml98eQSIlT3FMEBMMBAgME";
const ACCOUNT: &str = "address,generation,id,password,quotaOctets,state,store";
const SHOWN: &str = "address,aliases,generation,id,password,quotaOctets,state,store";
const MERGED: &str = "accounts,aliases,conflicts,domains,unchanged,unreachableStores";
const IMPORTED: &str = "added,errors,existing,failed,seconds";

/// What a command prints when it ends well, with `-o json`.
#[derive(Debug, Clone, Copy)]
enum Told {
    /// An object with these keys, sorted.
    Object(&'static str),
    /// A list of objects with these keys; at least one.
    Objects(&'static str),
    /// A list of texts; at least one.
    Texts,
    /// Lines, JSON or not, the first of which starts like this.
    Lines(&'static str),
    /// It fails: one line on standard error that has this in it, and nothing on standard output unless the command
    /// answers with what it could do.
    Error(&'static str),
    /// Both: the answer with these keys, and an error.
    ObjectAndError(&'static str),
}
use Told::{Error, Lines, Object, ObjectAndError, Objects, Texts};

/// Command, standard input, exit code, what is told; `ID` stands for the delivery id of a message to ann.
type Case = (&'static str, &'static str, i32, Told);

const DOMAINS: &[Case] = &[
    ("domain add example.test", "", 0, Object("name,result")),
    ("domain add example.test", "", 1, Error("exists")),
    ("domain add no@domain", "", 1, Error("domain")),
    ("domain add other.test", "", 0, Object("name,result")),
    ("domain list", "", 0, Texts),
    ("domain show other.test", "", 0, Object("accounts,aliases,name")),
    ("domain show nowhere.test", "", 3, Error("no domain")),
    ("domain delete other.test", "", 0, Object("name,result")),
    ("domain delete other.test", "", 3, Error("no domain")),
    ("domain", "", 2, Error("Usage")),
];

const ACCOUNTS: &[Case] = &[
    ("account add ann@example.test --password-file -", "correct horse\n", 0, Object(ACCOUNT)),
    ("account add ann@example.test --password-file -", "correct horse\n", 1, Error("exists")),
    ("account add bob@example.test --hash-file - --quota 1G", HASH, 0, Object(ACCOUNT)),
    ("account add cid@example.test --hash-file -", "{MD5}xyz", 1, Error("error: ")),
    ("account add cid@example.test --password-file -", "", 1, Error("empty")),
    ("account add cid@example.test --password-file /nonexistent", "", 1, Error("/nonexistent")),
    ("account add cid@example.test", "", 2, Error("--password-file")),
    ("account add cid@example.test --no-password --store nowhere", "", 3, Error("no store")),
    ("account add cid@nowhere.test --no-password", "", 3, Error("no domain")),
    ("account add cid@example.test --no-password --wait 61", "", 2, Error("61")),
    ("account add cid@example.test --no-password", "", 0, Object(ACCOUNT)),
    ("account list", "", 0, Objects(ACCOUNT)),
    ("account list --domain example.test --limit 1", "", 0, Objects(ACCOUNT)),
    ("account list --domain nowhere.test", "", 3, Error("no domain")),
    ("account show ann@example.test", "", 0, Object(SHOWN)),
    ("account show eve@example.test", "", 3, Error("no account")),
    ("account passwd bob@example.test --password-file -", "battery staple\n", 0, Object(ACCOUNT)),
    ("account passwd eve@example.test --no-password", "", 3, Error("no account")),
    ("account suspend bob@example.test", "", 0, Object(ACCOUNT)),
    ("account resume bob@example.test", "", 0, Object(ACCOUNT)),
    ("account suspend eve@example.test", "", 3, Error("no account")),
    ("account resume eve@example.test", "", 3, Error("no account")),
    ("account quota bob@example.test 2G", "", 0, Object(ACCOUNT)),
    ("account quota bob@example.test much", "", 2, Error("much")),
    ("account delete cid@example.test", "", 0, Object("address,result")),
    ("account delete cid@example.test", "", 3, Error("no account")),
    (
        "account import -",
        "address,password\ndan@example.test,{SSHA}5pcxo13YdJml98eQSIlT3FMEBMMBAgME\n",
        0,
        Object(IMPORTED),
    ),
    ("account import -", "dan@example.test\n", 0, Object(IMPORTED)),
    ("account import -", "eve@nowhere.test\nfay@example.test\n", 1, ObjectAndError(IMPORTED)),
    ("account import -", "address,colour\n", 1, Error("unknown column")),
    ("account import /nonexistent", "", 1, Error("/nonexistent")),
    ("account export", "", 0, Lines("address,password,quota_octets,store")),
];

const KEYS: &[Case] = &[
    ("domain dkim rotate example.test", "", 0, Objects("algorithm,record,selector,since,state")),
    ("domain dkim list example.test", "", 0, Objects("algorithm,record,selector,since,state")),
    ("domain dkim activate example.test", "", 0, Objects("algorithm,record,selector,since,state")),
    ("domain dkim remove example.test nosuch", "", 3, Error("nosuch")),
    ("domain dkim list nowhere.test", "", 3, Error("no domain")),
    ("domain dkim rotate nowhere.test", "", 3, Error("no domain")),
    // What it finds is in `check.rs`.
    ("check --name-server nonsense", "", 2, Error("nonsense")),
];

const BANS: &[Case] = &[
    ("bans add 192.0.2.9 --for 2h", "", 0, Object("network,reason,seconds")),
    ("bans add nonsense", "", 1, Error("nonsense")),
    ("bans list", "", 0, Object("accountsUnderAttack,bans")),
    ("bans remove 192.0.2.9", "", 0, Object("network,result")),
    ("bans remove 192.0.2.9", "", 3, Error("192.0.2.9")),
    ("bans add 192.0.2.9", "", 0, Object("network,reason,seconds")),
    ("bans remove 192.0.2.9/32", "", 0, Object("network,result")),
];

const ALIASES: &[Case] = &[
    ("alias add all@example.test ann@example.test bob@example.test", "", 0, Object("address,targets")),
    ("alias add all@example.test ann@example.test", "", 1, Error("exists")),
    ("alias add all@example.test ann@example.test --replace", "", 0, Object("address,targets")),
    ("alias add no@example.test eve@example.test", "", 3, Error("neither")),
    ("alias add no@example.test", "", 2, Error("TARGETS")),
    ("alias list", "", 0, Objects("address,targets")),
    ("alias list --domain example.test", "", 0, Objects("address,targets")),
    ("alias show all@example.test", "", 0, Object("address,targets")),
    ("alias show ann@example.test", "", 3, Error("no alias")),
    ("domain delete example.test", "", 1, Error("accounts")),
    ("alias delete all@example.test", "", 0, Object("address,result")),
    ("alias delete all@example.test", "", 3, Error("no alias")),
];

const MAIL: &[Case] = &[
    ("status", "", 0, Object("directory")),
    ("trace ID", "", 0, Object("events,unreachableStores")),
    ("trace --rcpt ann@example.test --limit 1", "", 0, Object("events,unreachableStores")),
    ("trace 00000000000000000000000000", "", 3, ObjectAndError("events,unreachableStores")),
    ("trace --rcpt bob@example.test", "", 3, ObjectAndError("events,unreachableStores")),
    ("trace short", "", 1, Error("26 digits")),
    ("trace", "", 2, Error("--rcpt")),
    ("trace ID --rcpt ann@example.test", "", 2, Error("--rcpt")),
    ("undelete ann@example.test", "", 0, Object("account,dryRun,mailboxesMade,messages")),
    (
        "undelete ann@example.test --dry-run --since 3d --mailbox INBOX",
        "",
        0,
        Object("account,dryRun,mailboxesMade,messages"),
    ),
    ("undelete ann@example.test --since yesterday", "", 2, Error("not a time")),
    ("undelete eve@example.test", "", 3, Error("no account")),
    ("undelete", "", 2, Error("ACCOUNT")),
    ("queue list", "", 0, Object("entries,unreachableStores")),
    ("queue list --store nowhere", "", 3, Error("no store")),
    ("queue show 00000000000000000000000000", "", 3, ObjectAndError("entries,unreachableStores")),
    ("queue show short", "", 1, Error("26 digits")),
    ("queue hold", "", 2, Error("--destination")),
    ("queue hold --all --address ann@example.test", "", 2, Error("--all")),
    ("queue hold --all", "", 3, ObjectAndError("dryRun,messages,recipients,stores")),
    ("queue release short", "", 1, Error("26 digits")),
    ("queue flush --destination example.net", "", 3, ObjectAndError("dryRun,messages,recipients,stores")),
    ("queue requeue --all --store nowhere", "", 3, Error("no store")),
    ("queue delete --all --dry-run", "", 3, ObjectAndError("dryRun,messages,recipients,stores")),
    ("queue delete --all --bounce --yes", "", 3, ObjectAndError("dryRun,messages,recipients,stores")),
];

/// What it does when it is given a server is looked at in `import_mail.rs`.
const IMPORTS: &[Case] = &[
    ("import", "", 2, Error("--server")),
    ("import ann@example.test --server 127.0.0.1:1", "", 2, Error("SOURCE")),
    ("import ann@example.test /nonexistent", "", 2, Error("--server")),
    ("import ann@example.test /nonexistent --server localhost", "", 2, Error("HOST:PORT")),
    ("import ann@example.test /nonexistent --server 127.0.0.1:1 --jobs 0", "", 2, Error("--jobs")),
    ("import ann@example.test /nonexistent --server 127.0.0.1:1 --tls-name -", "", 2, Error("certificate")),
    ("import ann@example.test /nonexistent --server 127.0.0.1:1 --ca /nowhere", "", 1, Error("/nowhere")),
    ("import ann@example.test --list /nonexistent --server 127.0.0.1:1", "", 2, Error("--list")),
    ("import --list /nonexistent --server 127.0.0.1:1", "", 1, Error("/nonexistent")),
    ("import --list - --mailbox Old --state /nonexistent --server 127.0.0.1:1", "ann\n", 1, Error("line 1")),
];

const RECORDS: &[Case] = &[
    ("directory export", "", 0, Lines("{\"")),
    ("directory import -", "{\"domain\":{\"name\":\"late.test\",\"generation\":1}}\n", 0, Object(MERGED)),
    ("directory import -", "{\"domain\":\n", 1, Error("line 1")),
    ("directory rebuild", "", 0, Object(MERGED)),
    ("directory rebuild --partial", "", 0, Object(MERGED)),
    ("audit", "", 0, Objects("time,what,who")),
    ("audit --limit 1", "", 0, Objects("time,what,who")),
    ("domain delete example.test --force", "", 0, Object("name,result")),
];

/// What only a cluster can do is refused as wrong usage.
const OF_CLUSTERS: &[Case] = &[
    ("failover demo-0", "", 2, Error("clusters")),
    ("failover demo-0 --to node1 --wait 0", "", 2, Error("clusters")),
    ("failover demo-0 --force --to b --accept-loss --yes --wait 0", "", 2, Error("clusters")),
    ("failover demo-0 --accept-loss", "", 2, Error("--force")),
    ("failover demo-0 --yes", "", 2, Error("--force")),
    ("fence confirm node1 --yes", "", 2, Error("clusters")),
    ("rebalance", "", 2, Error("clusters")),
    ("store replace-replica demo-0 b --yes", "", 2, Error("clusters")),
    ("store salvage demo-0 -", "", 2, Error("clusters")),
    ("store salvage demo-0", "", 2, Error("FILE")),
    ("store restore-lease demo-0", "", 2, Error("clusters")),
    ("store restore-lease demo-0 --without a --without b --wait 5", "", 2, Error("clusters")),
    ("store adopt --pv disk-0 --to node1", "", 2, Error("clusters")),
    ("status --cluster demo", "", 2, Error("--cluster")),
    ("nothing", "", 2, Error("nothing")),
];

fn keys(value: &Value) -> Result<String> {
    let object = value.as_object().with_context(|| format!("no object: {value}"))?;
    let keys: BTreeSet<_> = object.keys().map(String::as_str).collect();
    Ok(keys.into_iter().collect::<Vec<_>>().join(","))
}

fn first(value: &Value) -> Result<&Value> {
    value.as_array().and_then(|list| list.first()).with_context(|| format!("no list with an item: {value}"))
}

fn check_error(output: &Output, part: &str) -> Result<()> {
    let text = String::from_utf8_lossy(&output.stderr);
    ensure!(text.starts_with("error: ") || text.contains("Usage"), "standard error: {text}");
    ensure!(text.contains(part), "{part:?} is not in: {text}");
    Ok(())
}

fn check(output: &Output, code: i32, told: Told) -> Result<()> {
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.code() == Some(code), "{:?}: {out}{err}", output.status);
    let json = || serde_json::from_str::<Value>(&out).with_context(|| format!("not one JSON value: {out}"));
    let is_quiet = || -> Result<()> {
        ensure!(err.is_empty(), "standard error: {err}");
        Ok(())
    };
    let found = |found: String, expected: &str| {
        ensure!(found == expected, "the keys are {found}");
        Ok(())
    };
    match told {
        Object(expected) => is_quiet().and(found(keys(&json()?)?, expected)),
        Objects(expected) => is_quiet().and(found(keys(first(&json()?)?)?, expected)),
        Texts => is_quiet().and(first(&json()?)?.as_str().map(drop).context("no text")),
        Lines(start) => {
            ensure!(out.starts_with(start), "{out}");
            is_quiet()
        }
        Error(part) => {
            ensure!(out.is_empty(), "standard output: {out}");
            check_error(output, part)
        }
        ObjectAndError(expected) => {
            check_error(output, "")?;
            found(keys(&json()?)?, expected)
        }
    }
}

fn run(node: &Standalone, cases: &[Case], id: &str) -> Result<()> {
    for (line, input, code, told) in cases {
        let words = line.split_whitespace().map(|word| if word == "ID" { id } else { word });
        let args: Vec<&str> = words.chain(["-o", "json"]).collect();
        let output = node.admin_output(&args, input)?;
        check(&output, *code, *told).with_context(|| format!("{line} < {input:?}"))?;
        let text: Vec<&str> = args[..args.len() - 2].to_vec();
        // What people see is checked where asking twice changes nothing.
        if ["list", "show", "status", "trace", "audit"].iter().any(|word| text.contains(word)) {
            let output = node.admin_output(&text, input)?;
            ensure!(output.status.code() == Some(*code), "{line} as text: {output:?}");
        }
    }
    Ok(())
}

/// Sends ann a message; answers its delivery id.
fn send(node: &Standalone) -> Result<String> {
    let mut client = SmtpClient::connect(node.addr("smtp")?, Tls::None, LIMIT)?;
    match client.send("joe@elsewhere.test", &["ann@example.test"], &message("traced", 500)) {
        SendOutcome::Accepted(reply) => {
            let is_id = |word: &&str| word.len() == 26 && word.chars().all(|c| c.is_ascii_alphanumeric());
            let id = reply.text.split(|c: char| !c.is_ascii_alphanumeric()).find(is_id);
            Ok(id.with_context(|| format!("no delivery id in {reply:?}"))?.to_owned())
        }
        other => bail!("{other:?}"),
    }
}

#[test]
fn every_subcommand_ends_and_answers_as_promised() -> Result<()> {
    let node = Standalone::start("admin-command")?;
    for cases in [DOMAINS, ACCOUNTS, ALIASES, KEYS, BANS] {
        run(&node, cases, "")?;
    }
    let id = send(&node)?;
    for cases in [MAIL, IMPORTS, RECORDS, OF_CLUSTERS] {
        run(&node, cases, &id)?;
    }
    Ok(())
}

#[test]
fn nobody_to_ask_is_told_apart_from_wrong_usage() -> Result<()> {
    let cli = NodeBinary::find()?.cli;
    let folder = mailcluster_interop::scratch("admin-nobody")?;
    let folder = folder.to_str().context("folder")?;
    for (args, code) in [
        (vec!["--standalone", folder, "status"], 4),
        (vec!["--standalone", "/nonexistent", "domain", "list"], 4),
        (vec!["--kubeconfig", "/nonexistent", "domain", "list"], 2),
        (vec!["--standalone", folder, "--context", "x", "status"], 2),
        (vec!["--version"], 0),
    ] {
        let output = Command::new(&cli).args(&args).output()?;
        ensure!(output.status.code() == Some(code), "{args:?}: {output:?}");
    }
    Ok(())
}

/// The names of the subcommands that a help text lists.
fn listed(help: &str) -> Vec<String> {
    let after = help.split_once("Commands:\n").map_or("", |(_, after)| after);
    let lines = after.lines().take_while(|line| !line.is_empty());
    // A name stands two columns in; what follows of its description further.
    let names = lines.filter_map(|line| line.strip_prefix("  ").filter(|rest| !rest.starts_with(' ')));
    names.filter_map(|rest| rest.split(' ').next()).filter(|n| *n != "help").map(str::to_owned).collect()
}

fn help(words: &[String]) -> Result<String> {
    let output = Command::new(NodeBinary::find()?.cli).args(words).arg("--help").output()?;
    Ok(String::from_utf8(output.stdout)?)
}

#[test]
fn no_subcommand_is_missing_here() -> Result<()> {
    let tables = [DOMAINS, ACCOUNTS, ALIASES, KEYS, BANS, MAIL, IMPORTS, RECORDS, OF_CLUSTERS].concat();
    let mut open: Vec<Vec<String>> = vec![Vec::new()];
    let mut seen = 0;
    while let Some(words) = open.pop() {
        let below = listed(&help(&words)?);
        if below.is_empty() {
            let line = words.join(" ");
            let is_here = |case: &Case| case.0 == line || case.0.starts_with(&format!("{line} "));
            ensure!(tables.iter().any(is_here), "`{line}` is in no table");
            seen += 1;
        }
        open.extend(below.into_iter().map(|name| [words.clone(), vec![name]].concat()));
    }
    ensure!(seen > 20, "only {seen} subcommands were found");
    Ok(())
}
