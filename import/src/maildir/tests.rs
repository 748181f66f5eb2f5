//! Folders as Dovecot leaves them, and as users can make them.

use std::{
    fs,
    os::unix::{ffi::OsStrExt, fs::symlink},
    time::UNIX_EPOCH,
};

use super::*;

/// Remembers what it is shown; a hook is called before each message is read.
#[derive(Default)]
struct Seen {
    found: Vec<Found>,
    unread: Vec<(String, String)>,
    hook: Option<Box<dyn FnMut()>>,
    expected: u64,
}

impl Visit for Seen {
    type Stop = ();

    fn expects(&mut self, messages: u64) {
        self.expected = messages;
    }

    fn wants(&mut self, key: Key, _: &Flags) -> Result<bool, ()> {
        if let Some(mut hook) = self.hook.take() {
            hook();
        }
        Ok(self.found.iter().all(|found| found.key != key))
    }

    fn message(&mut self, found: Found) -> Result<(), ()> {
        self.found.push(found);
        Ok(())
    }

    fn unread(&mut self, name: &str, why: &Unread) {
        self.unread.push((name.to_owned(), why.to_string()));
    }
}

impl Seen {
    fn names(&self) -> Vec<&str> {
        self.found.iter().map(|found| found.name.as_str()).collect()
    }
}

fn maildir(folders: &[&str]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for folder in folders {
        for part in ["cur", "new", "tmp"] {
            fs::create_dir_all(dir.path().join(folder).join(part)).unwrap();
        }
    }
    dir
}

fn put(dir: &tempfile::TempDir, name: &str, text: &str) {
    let path = dir.path().join(name);
    fs::write(&path, text).unwrap();
    let file = fs::File::open(&path).unwrap();
    file.set_modified(UNIX_EPOCH + std::time::Duration::from_secs(1_700_000_000)).unwrap();
}

fn visit(dir: &tempfile::TempDir, folder: &str, mut seen: Seen) -> Seen {
    let maildir = Maildir::open(dir.path()).unwrap().unwrap();
    maildir.visit(folder.as_bytes(), 1000, &mut seen).unwrap();
    seen
}

#[test]
fn folders_are_found_and_what_looks_like_one_is_told() {
    let dir = maildir(&["", ".Sent", ".Lists.Rust", ".Entw&APw-rfe", "fs-layout", ".a..b"]);
    let outside = maildir(&[""]);
    symlink(outside.path(), dir.path().join(".Out")).unwrap();
    fs::create_dir(dir.path().join(".no-maildir")).unwrap();
    fs::create_dir(dir.path().join(std::ffi::OsStr::from_bytes(b".\xff"))).unwrap();
    fs::create_dir(dir.path().join(std::ffi::OsStr::from_bytes(b".\xff/cur"))).unwrap();
    fs::write(dir.path().join(".lock"), "").unwrap();
    fs::write(dir.path().join("dovecot.index.cache"), "").unwrap();
    let mut unread = Vec::new();
    let found = Maildir::open(dir.path())
        .unwrap()
        .unwrap()
        .folders(&mut |name, why| unread.push(format!("{name}: {why}")));
    let names: Vec<_> = found.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["", "Entwürfe", "Lists/Rust", "Sent"]);
    assert_eq!(unread.len(), 4, "{unread:?}");
    for (name, why) in [
        (".Out", "symbolic link"),
        (".a..b", "its name"),
        (".\u{fffd}", "its name"),
        ("fs-layout", "LAYOUT=fs"),
    ] {
        assert!(unread.iter().any(|line| line.starts_with(name) && line.contains(why)), "{name}: {unread:?}");
    }
    assert!(Maildir::open(&dir.path().join("cur")).unwrap().is_none());
}

#[test]
fn messages_come_in_the_order_of_uids_with_flags_and_dates() {
    let dir = maildir(&[""]);
    put(&dir, "cur/1700000003.a.h,S=5:2,FSa", "A: 1\n");
    put(&dir, "cur/1700000001.b.h:2,", "A: 2\r\n");
    put(&dir, "new/1700000002.c.h", "A: 3\n\nx\n");
    put(&dir, "new/1700000009.d.h:2,S", "A: 4\n");
    fs::write(dir.path().join("dovecot-keywords"), "0 Work\n").unwrap();
    fs::write(dir.path().join("dovecot-uidlist"), "3 V1 N9 G0\n4 :1700000003.a.h,S=5\n8 :1700000001.b.h\n")
        .unwrap();
    let seen = visit(&dir, "", Seen::default());
    let told: Vec<_> = seen
        .found
        .iter()
        .map(|m| (m.name.as_str(), m.flags.to_string(), String::from_utf8(m.octets.clone()).unwrap(), m.date))
        .collect();
    let at = 1_700_000_000;
    let expected = [
        ("cur/1700000003.a.h,S=5:2,FSa", "\\Flagged \\Seen Work", "A: 1\r\n"),
        ("cur/1700000001.b.h:2,", "", "A: 2\r\n"),
        ("new/1700000002.c.h", "", "A: 3\r\n\r\nx\r\n"),
        ("new/1700000009.d.h:2,S", "\\Seen", "A: 4\r\n"),
    ];
    assert_eq!(told, expected.map(|(name, flags, text)| (name, flags.to_owned(), text.to_owned(), at)));
    assert!(seen.unread.is_empty() && seen.expected == 4);
    let key = seen.found[0].key;
    fs::rename(dir.path().join("cur/1700000003.a.h,S=5:2,FSa"), dir.path().join("cur/1700000003.a.h:2,"))
        .unwrap();
    assert_eq!(visit(&dir, "", Seen::default()).found[0].key, key, "flags and sizes in a name may change");
}

#[test]
fn only_regular_files_of_the_folder_itself_are_read() {
    let dir = maildir(&["", ".Sub"]);
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("secret"), "A: secret\n").unwrap();
    symlink(outside.path().join("secret"), dir.path().join("cur/1.link:2,")).unwrap();
    symlink("2.good:2,", dir.path().join("cur/1.inside:2,")).unwrap();
    put(&dir, "cur/2.good:2,", "A: good\n");
    fs::create_dir(dir.path().join("cur/3.folder:2,")).unwrap();
    let fifo = dir.path().join("cur/4.fifo:2,");
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0)
        .unwrap();
    put(&dir, "cur/5.empty:2,", "");
    put(&dir, "cur/.hidden", "A: hidden\n");
    let sparse = fs::File::create(dir.path().join("cur/6.large:2,")).unwrap();
    sparse.set_len(2 << 30).unwrap();
    put(&dir, "cur/7.grows:2,", &"\n".repeat(600));
    let odd = dir.path().join("cur").join(std::ffi::OsStr::from_bytes(b"8.\xff\x1b[2J\n:2,S"));
    fs::write(odd, "A: odd\n").unwrap();
    fs::remove_dir(dir.path().join(".Sub/cur")).unwrap();
    symlink(outside.path(), dir.path().join(".Sub/cur")).unwrap();
    let seen = visit(&dir, "", Seen::default());
    assert_eq!(seen.names(), ["cur/2.good:2,", "cur/8.\u{fffd}\u{fffd}[2J\u{fffd}:2,S"]);
    let reasons = [
        ("cur/1.inside:2,", "symbolic link"),
        ("cur/1.link:2,", "symbolic link"),
        ("cur/3.folder:2,", "not a file"),
        ("cur/4.fifo:2,", "not a file"),
        ("cur/5.empty:2,", "empty"),
        ("cur/6.large:2,", "2147483648 octets, and the server takes 1000"),
        ("cur/7.grows:2,", "1200 octets"),
    ];
    assert_eq!(seen.unread.len(), reasons.len(), "{:?}", seen.unread);
    for ((name, why), (expected, part)) in seen.unread.iter().zip(reasons) {
        assert!(name == expected && why.contains(part), "{name}: {why}");
    }
    let seen = visit(&dir, ".Sub", Seen::default());
    assert!(seen.found.is_empty());
    assert_eq!(seen.unread.len(), 1, "{:?}", seen.unread);
    assert!(seen.unread[0].1.contains("symbolic link"), "{:?}", seen.unread);
}

#[test]
fn a_file_that_is_renamed_meanwhile_is_found_and_one_that_goes_is_told() {
    let dir = maildir(&[""]);
    put(&dir, "cur/1.a:2,", "A: 1\n");
    put(&dir, "cur/2.b:2,", "A: 2\n");
    put(&dir, "new/3.c", "A: 3\n");
    put(&dir, "cur/4.d:2,", "A: 4\n");
    let path = dir.path().to_owned();
    let hook = move || {
        fs::rename(path.join("cur/2.b:2,"), path.join("cur/2.b:2,S")).unwrap();
        fs::rename(path.join("new/3.c"), path.join("cur/3.c:2,")).unwrap();
        fs::remove_file(path.join("cur/4.d:2,")).unwrap();
    };
    let seen = visit(&dir, "", Seen { hook: Some(Box::new(hook)), ..Seen::default() });
    assert_eq!(seen.names(), ["cur/1.a:2,", "cur/2.b:2,S", "cur/3.c:2,"]);
    assert_eq!(seen.found[1].flags.to_string(), "\\Seen");
    // It was deleted, and no message is missing that is there.
    assert!(seen.unread.is_empty(), "{:?}", seen.unread);
}

#[test]
fn files_of_one_unique_name_are_told_apart() {
    let dir = maildir(&[""]);
    put(&dir, "cur/1.a,S=5:2,", "A: 1\n");
    put(&dir, "cur/1.a,S=6:2,S", "A: 22\n");
    // One file under two names, as a listing shows one that is renamed meanwhile.
    fs::hard_link(dir.path().join("cur/1.a,S=5:2,"), dir.path().join("cur/1.a,S=5:2,F")).unwrap();
    let seen = visit(&dir, "", Seen::default());
    assert_eq!(seen.names(), ["cur/1.a,S=5:2,", "cur/1.a,S=6:2,S"]);
    assert_ne!(seen.found[0].key, seen.found[1].key);
}
