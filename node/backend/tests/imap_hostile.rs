//! Damage on disk and sessions of random pieces.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod imap_support;

use std::{fs, path::Path};

use imap_support::World;

/// Overwrites the first octets that read `marker` in any file below `dir`.
fn damage(dir: &Path, marker: &[u8]) -> bool {
    for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if path.is_dir() {
            if damage(&path, marker) {
                return true;
            }
            continue;
        }
        let mut octets = fs::read(&path).unwrap();
        if let Some(place) = octets.windows(marker.len()).position(|window| window == marker) {
            octets[place] ^= 0x55;
            fs::write(&path, octets).unwrap();
            return true;
        }
    }
    false
}

#[tokio::test]
async fn a_damaged_message_costs_that_message_alone() {
    let world = World::new().await;
    for marker in ["QX1ZK", "QX2ZK", "QX3ZK"] {
        world.deliver(&format!("Subject: x\r\n\r\n{marker}\r\n")).await;
    }
    assert!(damage(world.dir.path(), b"QX2ZK"), "the body is stored as it came");
    let mut client = world.inbox().await;
    client
        .script(
            "C: a FETCH 1:3 (UID BODY.PEEK[TEXT])
             S: * 1 FETCH (UID 1 BODY[TEXT] {7}
             S: QX1ZK
             S: )
             S: * 3 FETCH (UID 3 BODY[TEXT] {7}
             S: QX3ZK
             S: )
             S: a NO [SERVERBUG] …
             C: b FETCH 2 (FLAGS)
             S: * 2 FETCH (FLAGS ())
             S: b OK …
             C: c SEARCH BODY QX
             S: * SEARCH 1 3
             S: c OK …
             C: d STORE 2 +FLAGS.SILENT (\\Deleted)
             S: d OK …
             C: e EXPUNGE
             S: * 2 EXPUNGE
             S: e OK …",
        )
        .await;
}

/// Random octets, the same in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % limit as u64).unwrap_or(0)
    }
}

const PIECES: [&str; 40] = [
    "a ",
    "UID ",
    "FETCH ",
    "STORE ",
    "SEARCH ",
    "COPY ",
    "MOVE ",
    "LIST ",
    "LSUB ",
    "STATUS ",
    "SELECT ",
    "EXAMINE ",
    "CREATE ",
    "RENAME ",
    "EXPUNGE",
    "CLOSE",
    "NOOP",
    "IDLE",
    "DONE",
    "APPEND ",
    "INBOX ",
    "Trash ",
    "1:* ",
    "2,4:3 ",
    "(FLAGS) ",
    "BODY[1.2.MIME]<3.4> ",
    "(ENVELOPE BODYSTRUCTURE) ",
    "+FLAGS ",
    "(\\Seen x) ",
    "NOT ",
    "OR ",
    "TEXT ",
    "{3+}\r\nabc ",
    "{3}\r\n",
    "\"\" ",
    "* ",
    "(",
    ")",
    "\0",
    "RETURN (ALL) ",
];

#[tokio::test]
async fn random_sessions_end_well() {
    let world = World::new().await;
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for round in 0..150 {
        world.deliver("Subject: x\r\n\r\nx\r\n").await;
        let client = world.inbox().await;
        let mut octets = Vec::new();
        for _ in 0..60 {
            for _ in 0..=random.below(6) {
                octets.extend_from_slice(PIECES[random.below(PIECES.len())].as_bytes());
            }
            octets.extend_from_slice(b"\r\n");
        }
        if round % 2 == 0 {
            for _ in 0..20 {
                let place = random.below(octets.len());
                octets[place] = u8::try_from(random.below(256)).unwrap_or(0);
            }
        }
        client.send_and_read_all(&octets).await;
    }
    let mut client = world.login().await;
    client.script("C: a NOOP\nS: a OK done").await;
}
