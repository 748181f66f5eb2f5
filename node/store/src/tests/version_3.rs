//! A store whose index, and base, version 3 made: its tables are frozen here.

use std::{fs, path::Path, sync::Arc};

use mailcluster_types::{AccountId, ReplicaId};
use rusqlite::Connection;

use super::{
    rewrite::{bodies, checkpointed, content, eager, mostly_gone, serve, store_view, thinned, without_sense},
    support::{deliver, identity, mailbox},
};
use crate::{
    Domain, Expunge, OpenError, OpenGate, RecoverableFilter, Sealed, Undelete, base, schema,
    superblock::Superblock, testing::Setup, tools,
};

const ME: &[ReplicaId] = &[ReplicaId(9)];

/// As version 3 made them.
const TABLES: &str = "
CREATE TABLE state(id INTEGER PRIMARY KEY CHECK(id = 1), version INT, cluster BLOB, replica BLOB,
  epoch INT, seq INT, crc INT, segment INT, start INT, end INT, in_sync_version INT, in_sync BLOB,
  modseq INT, mailbox INT, uid_validity INT, body INT, history INT, audit INT, clock INT, accounts INT,
  octets INT);
CREATE TABLE account(local INTEGER PRIMARY KEY, id BLOB NOT NULL UNIQUE, address TEXT NOT NULL,
  domain TEXT NOT NULL, store TEXT NOT NULL, generation INT NOT NULL, password_hash TEXT NOT NULL,
  quota INT NOT NULL, suspended INT NOT NULL, pending INT NOT NULL, tombstone INT NOT NULL, seq INT NOT NULL);
CREATE INDEX account_address ON account(address) WHERE tombstone = 0;
CREATE INDEX account_domain ON account(domain, address) WHERE tombstone = 0;
CREATE INDEX account_seq ON account(seq);
CREATE TABLE used(account INTEGER PRIMARY KEY, octets INT NOT NULL, mailboxes INT NOT NULL);
CREATE TABLE mailbox(id INTEGER PRIMARY KEY, account INT NOT NULL, name TEXT NOT NULL, uid_validity INT NOT NULL,
  special_use INT NOT NULL, UNIQUE(account, name));
CREATE TABLE counter(mailbox INTEGER PRIMARY KEY, uid_next INT NOT NULL, modseq INT NOT NULL,
  messages INT NOT NULL, unseen INT NOT NULL, deleted INT NOT NULL, octets INT NOT NULL,
  expunged INT NOT NULL, expunge_floor INT NOT NULL);
CREATE TABLE subscription(account INT NOT NULL, name TEXT NOT NULL, PRIMARY KEY(account, name)) WITHOUT ROWID;
CREATE TABLE message(mailbox INT NOT NULL, uid INT NOT NULL, modseq INT NOT NULL, born INT NOT NULL,
  system INT NOT NULL, keywords TEXT, internal_date INT NOT NULL, zone INT NOT NULL, size INT NOT NULL,
  delivery BLOB, body INT NOT NULL, PRIMARY KEY(mailbox, uid)) WITHOUT ROWID;
CREATE INDEX message_changed ON message(mailbox, modseq) WHERE modseq <> born;
CREATE INDEX message_deleted ON message(mailbox, uid) WHERE (system & 8) <> 0;
CREATE TABLE body(id INTEGER PRIMARY KEY, segment INT NOT NULL, offset INT NOT NULL, len INT NOT NULL,
  crc INT NOT NULL, refs INT NOT NULL, prefix BLOB);
CREATE TABLE expunged(mailbox INT NOT NULL, modseq INT NOT NULL, uid INT NOT NULL,
  PRIMARY KEY(mailbox, modseq, uid)) WITHOUT ROWID;
CREATE TABLE delivered(delivery BLOB NOT NULL, account INT NOT NULL, at INT NOT NULL,
  PRIMARY KEY(delivery, account)) WITHOUT ROWID;
CREATE TABLE queue(delivery BLOB NOT NULL PRIMARY KEY, sender TEXT NOT NULL, queued_at INT NOT NULL,
  size INT NOT NULL, body INT NOT NULL, params TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE recipient(delivery BLOB NOT NULL, address TEXT NOT NULL, account BLOB, store TEXT,
  attempts INT NOT NULL, next_attempt INT NOT NULL, last_error TEXT NOT NULL, held INT NOT NULL,
  noticed INT NOT NULL, PRIMARY KEY(delivery, address)) WITHOUT ROWID;
CREATE INDEX recipient_due ON recipient(store, next_attempt) WHERE held = 0;
CREATE TABLE queued(delivery BLOB NOT NULL, address TEXT NOT NULL, at INT NOT NULL,
  PRIMARY KEY(delivery, address)) WITHOUT ROWID;
CREATE TABLE domain(name TEXT PRIMARY KEY, generation INT NOT NULL, tombstone INT NOT NULL, seq INT NOT NULL);
CREATE TABLE alias(address TEXT PRIMARY KEY, accounts BLOB NOT NULL, generation INT NOT NULL,
  tombstone INT NOT NULL, seq INT NOT NULL);
CREATE INDEX alias_seq ON alias(seq);
CREATE TABLE history(id INTEGER PRIMARY KEY, at INT NOT NULL, delivery BLOB NOT NULL, event INT NOT NULL,
  recipient TEXT NOT NULL, mailbox INT NOT NULL, uid INT NOT NULL, detail TEXT);
CREATE INDEX history_delivery ON history(delivery);
CREATE TABLE audit(id INTEGER PRIMARY KEY, at INT NOT NULL, who TEXT NOT NULL, what TEXT NOT NULL);
CREATE TABLE sieve(account INT NOT NULL, name TEXT NOT NULL, script BLOB NOT NULL, active INT NOT NULL,
  PRIMARY KEY(account, name)) WITHOUT ROWID;
CREATE TABLE gap(store TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE salvaged(place INT NOT NULL, number INT NOT NULL, born INT NOT NULL,
  PRIMARY KEY(place, number, born)) WITHOUT ROWID;
CREATE TABLE epochs(epoch INTEGER PRIMARY KEY, first_seq INT NOT NULL, forced INT NOT NULL);
INSERT INTO state VALUES(1, 1, zeroblob(0), zeroblob(0), 0, 0, 0, 0, 0, 0, 0, zeroblob(0), 0, 0, 0, 0, 0, 0, 0, 0, 0);
";

/// Makes a database of version 3 that has what this one has of its tables.
fn as_version_3(index: &Path) {
    let old = index.with_extension("old");
    let conn = Connection::open(&old).unwrap();
    conn.execute_batch(&format!("BEGIN; {TABLES} DELETE FROM state; COMMIT;")).unwrap();
    conn.execute("ATTACH ? AS new", [index.display().to_string()]).unwrap();
    let names = "SELECT name FROM main.sqlite_master WHERE type='table' AND name NOT LIKE 'sqlite_%'";
    let mut query = conn.prepare(names).unwrap();
    let names: Vec<String> = query.query_map([], |r| r.get(0)).unwrap().map(Result::unwrap).collect();
    assert_eq!(names.len(), 21);
    for name in names {
        let columns: String = conn
            .query_row("SELECT group_concat(name) FROM pragma_table_info(?, 'main')", [&name], |r| r.get(0))
            .unwrap();
        conn.execute(&format!("INSERT INTO main.{name} SELECT {columns} FROM new.{name}"), []).unwrap();
    }
    let more: u64 = conn.query_row("SELECT count(*) FROM new.recoverable", [], |r| r.get(0)).unwrap();
    assert_eq!(more, 0, "version 3 keeps nothing");
    drop(query);
    conn.execute_batch("DETACH new; PRAGMA user_version=3; PRAGMA journal_mode=DELETE;").unwrap();
    drop(conn);
    fs::rename(old, index).unwrap();
}

/// The store as version 3 left it: its index, and its base if there is one.
fn downgraded(dir: &Path) {
    checkpointed(dir);
    for file in schema::files(dir).skip(1) {
        let _ = fs::remove_file(file);
    }
    as_version_3(&schema::path(dir));
    for old in base::list(dir).unwrap() {
        let new = base::unfinished(dir);
        fs::rename(old.path(dir), &new).unwrap();
        as_version_3(&new);
        let disk = Setup::default_disk();
        base::Base::put_in_place(dir, &disk, (old.seq, old.segment), &|| Ok(())).unwrap();
    }
}

fn version(dir: &Path) -> u32 {
    schema::version(&schema::open_reader(dir).unwrap()).unwrap()
}

/// What is new works: what is expunged comes back.
async fn works(dir: &Path) {
    let setup = Setup { undelete: std::time::Duration::from_secs(3600), ..eager() };
    let replica = setup.open(dir, &identity()).unwrap();
    let epoch = replica.describe().last_epoch + 1;
    let store = replica.serve(epoch, ME, Arc::new(OpenGate)).unwrap();
    let (inbox, uid) = deliver(&store, 1, "new\r\n").await;
    store.expunge(inbox, Expunge::These(vec![uid])).await.unwrap().acknowledge().unwrap();
    let account = AccountId(1);
    let gone = store.read(move |v| v.recoverable(account, &RecoverableFilter::default(), 9)).await.unwrap();
    assert_eq!(gone.len(), 1);
    let asked = Undelete { account, messages: vec![(inbox, uid)], into: None };
    assert_eq!(store.undelete(asked).await.unwrap().acknowledge().unwrap().messages.len(), 1);
    assert_eq!(mailbox(&store, 1, "INBOX").await.uid_next, uid + 2);
    // And keys of a domain are kept.
    let keys = Sealed(b"sealed".to_vec());
    let domain = Domain { name: "example.org".into(), generation: 2, tombstone: false, keys };
    store.put_domain(domain.clone()).await.unwrap().acknowledge().unwrap();
    assert_eq!(store.read(|v| v.domain("example.org")).await.unwrap(), Some(domain));
    assert_eq!(store.read(|v| v.verify()).await.unwrap(), Vec::<String>::new());
    drop(store.stop().await);
}

#[tokio::test]
async fn an_index_of_version_3_is_brought_up_in_place() {
    let dir = tempfile::tempdir().unwrap();
    let store = serve(&eager(), dir.path());
    mostly_gone(&store, 60, 1500, 4).await;
    let keys = Sealed::default();
    let domain = Domain { name: "example.org".into(), generation: 1, tombstone: false, keys };
    store.put_domain(domain).await.unwrap().acknowledge().unwrap();
    drop(store.stop().await);
    let (grown, log) = (content(dir.path()), dir.path().join("log"));
    downgraded(dir.path());
    assert_eq!(version(dir.path()), 3);
    let checked = tools::fsck(dir.path(), None, &mut |_, line| assert_eq!(line, None)).unwrap();
    assert_eq!(checked.problems, 0, "a tool that comes first finds nothing wrong");
    // Not from the log: without its beginning that would be refused.
    let first = fs::read_dir(&log).unwrap().map(|entry| entry.unwrap().path()).min().unwrap();
    fs::rename(&first, dir.path().join("away")).unwrap();
    drop(eager().open(dir.path(), &identity()).unwrap());
    fs::rename(dir.path().join("away"), first).unwrap();
    assert_eq!(version(dir.path()), 4);
    assert!(content(dir.path()) == grown, "as one that was made by this version");
    works(dir.path()).await;
}

#[tokio::test]
async fn a_base_of_version_3_takes_the_place_of_a_log_without_its_beginning() {
    let dir = tempfile::tempdir().unwrap();
    let store = serve(&eager(), dir.path());
    mostly_gone(&store, 120, 1500, 4).await;
    thinned(&store, 60, 1500).await;
    assert!(store.reclaim().await.unwrap().packed > 0);
    deliver(&store, 1, "one more\r\n").await;
    let texts = bodies(dir.path(), &store_view(&store).await);
    drop(store.stop().await);
    assert!(Superblock::read(dir.path()).unwrap().contiguous_from > 1);
    let grown = content(dir.path());
    downgraded(dir.path());

    // In place, with what is given back as it was.
    drop(eager().open(dir.path(), &identity()).unwrap());
    assert!(version(dir.path()) == 4 && content(dir.path()) == grown);

    // And where the index is lost, from the base.
    without_sense(dir.path());
    let replica = eager().open(dir.path(), &identity()).unwrap();
    assert_eq!(bodies(dir.path(), &replica.view()), texts);
    drop(replica);
    assert!(version(dir.path()) == 4 && content(dir.path()) == grown);
    works(dir.path()).await;
    // Rounds go on from it.
    let store = serve(&eager(), dir.path());
    mostly_gone(&store, 60, 1500, 1).await;
    assert!(store.reclaim().await.unwrap().files > 0);
    drop(store.stop().await);
    without_sense(dir.path());
    drop(eager().open(dir.path(), &identity()).unwrap());

    // Of another version that is not known, none is believed.
    checkpointed(dir.path());
    for base in base::list(dir.path()).unwrap() {
        let path = base.path(dir.path());
        let new = base::unfinished(dir.path());
        fs::rename(path, &new).unwrap();
        Connection::open(&new).unwrap().execute_batch("PRAGMA user_version=9").unwrap();
        let disk = Setup::default_disk();
        base::Base::put_in_place(dir.path(), &disk, (base.seq, base.segment), &|| Ok(())).unwrap();
    }
    without_sense(dir.path());
    let refused = eager().open(dir.path(), &identity()).err();
    assert!(matches!(refused, Some(OpenError::Damaged(_))), "{refused:?}");
}
