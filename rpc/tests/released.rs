//! A node of the last release and one of today talk to each other while a cluster is upgraded, so what they say must be understood
//! by both: `released/interface.txt` has every field, value and call of the last release, and each must be as it was, or
//! be gone with its number and name reserved. New ones may come. A release writes the file anew with `UPDATE_GOLDEN=1`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

/// What a set of `.proto` files defines.
#[derive(Debug, Default, PartialEq, Eq)]
struct Interface {
    /// `package.Message 3`, `package.Enum 3` or `package.Service.Call`: what is there.
    members: BTreeMap<String, String>,
    /// `package.Message 3` and `package.Message name`: what must not be used again.
    reserved: BTreeSet<String>,
    /// Every name of a member, with where it is.
    names: BTreeSet<String>,
}

/// Words and signs of a file, without its comments.
fn tokens(text: &str) -> Vec<String> {
    let code: String =
        text.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n");
    let mut tokens: Vec<String> = Vec::new();
    let mut in_word = false;
    for c in code.chars() {
        let of_word = c.is_ascii_alphanumeric() || "._\"/-".contains(c);
        match (of_word, in_word, tokens.last_mut()) {
            (true, true, Some(word)) => word.push(c),
            _ if c.is_whitespace() => {}
            _ => tokens.push(c.to_string()),
        }
        in_word = of_word;
    }
    tokens
}

impl Interface {
    /// Reads statement by statement: each ends with `;`, or opens or closes a block.
    fn read(&mut self, text: &str) {
        let mut package = String::new();
        let mut blocks: Vec<(String, String)> = Vec::new();
        let mut statement: Vec<String> = Vec::new();
        for token in tokens(text) {
            match token.as_str() {
                ";" => {
                    let words: Vec<&str> = statement.iter().map(String::as_str).collect();
                    match words.as_slice() {
                        ["package", name] => package = (*name).to_owned(),
                        ["syntax" | "import" | "option", ..] | [] => {}
                        words => self.statement(&package, &blocks, words),
                    }
                    statement.clear();
                }
                "{" => {
                    let word = |at: usize| statement.get(at).cloned().unwrap_or_default();
                    // A call with an empty body.
                    if word(0) == "rpc" {
                        let words: Vec<&str> = statement.iter().map(String::as_str).collect();
                        self.statement(&package, &blocks, &words);
                    }
                    blocks.push((word(0), word(1)));
                    statement.clear();
                }
                "}" => {
                    blocks.pop().expect("a block is closed that was not opened");
                    statement.clear();
                }
                _ => statement.push(token),
            }
        }
        assert!(blocks.is_empty() && statement.is_empty(), "{blocks:?} {statement:?}");
    }

    fn statement(&mut self, package: &str, blocks: &[(String, String)], words: &[&str]) {
        let choice = blocks.iter().rev().find(|(kind, _)| kind == "oneof").map(|(_, name)| name);
        let named = blocks.iter().filter(|(kind, _)| kind != "oneof").map(|(_, name)| name.as_str());
        let place = [package].into_iter().chain(named).collect::<Vec<_>>().join(".");
        if let ["reserved", what @ ..] = words {
            let what = what.iter().filter(|word| **word != ",");
            self.reserved.extend(what.map(|word| format!("{place} {}", word.trim_matches('"'))));
            return;
        }
        if let ["rpc", name, call @ ..] = words {
            self.add(format!("{place}.{name}"), call.join(" "), format!("{place} {name}"));
            return;
        }
        let [what @ .., name, "=", number] = words else { panic!("{place}: {words:?} is not understood") };
        let mut what = what.join(" ");
        if let Some(choice) = choice {
            what = format!("oneof {choice} {what}");
        }
        let said = format!("{what} {name}");
        self.add(format!("{place} {number}"), said.trim().to_owned(), format!("{place} {name}"));
    }

    fn add(&mut self, key: String, said: String, name: String) {
        assert!(
            !self.reserved.contains(&key) && !self.reserved.contains(&name),
            "{key} or {name} is reserved"
        );
        assert!(self.names.insert(name.clone()), "{name} is there twice");
        assert_eq!(self.members.insert(key.clone(), said), None, "{key} is there twice");
    }

    fn text(&self) -> String {
        self.members.iter().map(|(key, said)| format!("{key}: {said}\n")).collect()
    }
}

/// What of the last release's interface is not as it was.
fn broken(released: &str, today: &Interface) -> Vec<String> {
    let is_kept = |line: &&str| {
        let (key, said) = line.split_once(": ").unwrap();
        if today.members.get(key).is_some_and(|now| now == said) {
            return true;
        }
        let (place, _) = key.rsplit_once(' ').unwrap_or((key, ""));
        let name = said.rsplit(' ').next().unwrap_or_default();
        let is_reserved = |what: String| today.reserved.contains(&what);
        !today.members.contains_key(key)
            && is_reserved(key.to_owned())
            && is_reserved(format!("{place} {name}"))
    };
    released.lines().filter(|line| !is_kept(line)).map(str::to_owned).collect()
}

fn today() -> Interface {
    let mut interface = Interface::default();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("proto");
    for entry in fs::read_dir(folder).unwrap() {
        interface.read(&fs::read_to_string(entry.unwrap().path()).unwrap());
    }
    interface
}

#[test]
fn the_last_releases_interface_is_as_it_was() {
    let (today, path) = (today(), Path::new(env!("CARGO_MANIFEST_DIR")).join("released/interface.txt"));
    assert!(today.members.len() > 300, "the files were not read: {}", today.members.len());
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&path, today.text()).unwrap();
    }
    let broken = broken(&fs::read_to_string(&path).unwrap(), &today);
    assert!(broken.is_empty(), "nodes of the last release do not understand this: {broken:#?}");
}

const BEFORE: &str = "syntax = \"proto3\"; package p.v1; // a comment; { with signs\n\
    service S { rpc Get(A) returns (stream A); rpc Put(A) returns (A) {} }\n\
    message A { uint64 one = 1; repeated string two = 2; oneof kind { bytes three = 3; } enum E { ZERO = 0; } E e = 5; }";

#[test]
fn what_an_older_node_does_not_understand_is_found() {
    let read = |text: &str| {
        let mut interface = Interface::default();
        interface.read(text);
        interface
    };
    let before = read(BEFORE);
    let keys: Vec<&str> = before.members.keys().map(String::as_str).collect();
    assert_eq!(
        keys,
        ["p.v1.A 1", "p.v1.A 2", "p.v1.A 3", "p.v1.A 5", "p.v1.A.E 0", "p.v1.S.Get", "p.v1.S.Put"]
    );
    for (what, from, to, lost) in [
        ("the same", "", "", 0),
        ("a field more", "uint64 one = 1;", "uint64 one = 1; uint64 four = 4;", 0),
        ("a field less", "uint64 one = 1;", "", 1),
        ("its number reserved, but not its name", "uint64 one = 1;", "reserved 1;", 1),
        ("reserved", "uint64 one = 1;", "reserved 1; reserved \"one\";", 0),
        ("another type", "uint64 one = 1;", "string one = 1;", 1),
        ("another name", "uint64 one = 1;", "uint64 uno = 1;", 1),
        ("another number", "uint64 one = 1;", "uint64 one = 9;", 1),
        ("one of many", "repeated string two", "string two", 1),
        ("no longer of a choice", "oneof kind { bytes three = 3; }", "bytes three = 3;", 1),
        ("of another choice", "oneof kind", "oneof sort", 1),
        ("a value less", "ZERO = 0;", "", 1),
        ("a call less", "rpc Put(A) returns (A) {}", "", 1),
        ("a call that streams", "rpc Put(A)", "rpc Put(stream A)", 1),
        ("another package", "package p.v1", "package p.v2", 7),
    ] {
        let after = read(&BEFORE.replacen(from, to, 1));
        let found = broken(&before.text(), &after);
        assert_eq!(found.len(), lost, "{what}: {found:?}");
    }
}

#[test]
#[should_panic(expected = "is reserved")]
fn what_is_reserved_cannot_be_used_again() {
    Interface::default().read("package p; message A { reserved 1; uint64 one = 1; }");
}
