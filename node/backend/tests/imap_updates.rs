//! What other sessions did: told where RFC 3501 section 7.4.1 allows it, and at once in IDLE. And what is never told.

mod imap_support;

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use imap_support::World;
use mailcluster_store::Gate;
use mailcluster_types::{Epoch, Seq};

#[tokio::test]
async fn expunges_wait_for_commands_that_allow_them() {
    let world = World::new().await;
    for _ in 0..3 {
        world.deliver("Subject: x\r\n\r\nx\r\n").await;
    }
    let mut one = world.inbox().await;
    let mut two = world.inbox().await;
    one.script(
        "C: a UID STORE 1 +FLAGS.SILENT (\\Deleted)
         S: a OK …
         C: b STORE 3 +FLAGS.SILENT (\\Flagged)
         S: b OK …
         C: c EXPUNGE
         S: * 1 EXPUNGE
         S: c OK …",
    )
    .await;
    two.script(
        "C: a FETCH 1:3 UID
         S: * 2 FETCH (UID 2)
         S: * 3 FETCH (UID 3)
         S: * 3 FETCH (UID 3 FLAGS (\\Flagged))
         S: a OK [EXPUNGEISSUED] fetched
         C: b SEARCH ALL
         S: * SEARCH 2 3
         S: b OK …
         C: c STORE 3 +FLAGS.SILENT (\\Seen)
         S: c OK [EXPUNGEISSUED] stored
         C: d NOOP
         S: * 1 EXPUNGE
         S: d OK done
         C: e FETCH 1:2 UID
         S: * 1 FETCH (UID 2)
         S: * 2 FETCH (UID 3)
         S: e OK fetched",
    )
    .await;
    world.deliver("Subject: y\r\n\r\ny\r\n").await;
    one.script("C: d NOOP\nS: * 2 FETCH (UID 3 FLAGS (\\Flagged \\Seen))\nS: * 3 EXISTS\nS: * 0 RECENT\nS: d OK done").await;
}

#[tokio::test]
async fn idle_pushes_at_once() {
    let world = World::new().await;
    let mut idling = world.inbox().await;
    idling.script("C: i IDLE\nS: + idling").await;
    world.deliver("Subject: x\r\n\r\nx\r\n").await;
    idling.script("S: * 1 EXISTS\nS: * 0 RECENT").await;
    let mut other = world.inbox().await;
    other.script("C: a STORE 1 +FLAGS (\\Deleted)\nS: * 1 FETCH …\nS: a OK …").await;
    idling.script("S: * 1 FETCH (UID 1 FLAGS (\\Deleted))").await;
    other.script("C: b EXPUNGE\nS: * 1 EXPUNGE\nS: b OK …").await;
    idling.script("S: * 1 EXPUNGE\nC: DONE\nS: i OK done idling\nC: j IDLE\nS: + idling\nC: j2 NOOP\nS: j BAD expected DONE").await;
    let mut unselected = world.login().await;
    unselected.script("C: i IDLE\nS: + idling\nC: done\nS: i OK …").await;
}

/// Closes when told.
#[derive(Default)]
struct Door(AtomicBool);

impl Gate for Door {
    fn may_acknowledge(&self, _: Epoch, _: Seq) -> bool {
        !self.0.load(Ordering::SeqCst)
    }
    fn may_read(&self) -> bool {
        true
    }
    fn may_write(&self) -> bool {
        true
    }
    fn poisoned(&self) {}
}

#[tokio::test]
async fn a_change_that_may_not_be_acknowledged_gets_no_answer() {
    for command in [
        "a APPEND INBOX {3+}\r\nabc",
        "a STORE 1 FLAGS (\\Seen)",
        "a COPY 1 Trash",
        "a MOVE 1 Trash",
        "a EXPUNGE",
        "a CREATE x",
        "a DELETE Junk",
        "a RENAME Junk x",
        "a SUBSCRIBE x",
        "a FETCH 1 BODY[]",
        "a CLOSE",
    ] {
        let door = Arc::new(Door::default());
        let world = World::with_gate(door.clone()).await;
        world.deliver("Subject: x\r\n\r\nx\r\n").await;
        let mut client = world.inbox().await;
        client.script("C: b STORE 1 +FLAGS.SILENT (\\Deleted)\nS: b OK …").await;
        door.0.store(true, Ordering::SeqCst);
        client.send(format!("{command}\r\n").as_bytes()).await;
        client.closed().await;
    }
}

#[tokio::test]
async fn a_stopped_store_ends_sessions_without_an_answer() {
    let world = World::new().await;
    let mut idling = world.inbox().await;
    idling.script("C: i IDLE\nS: + idling").await;
    let waiting = world.inbox().await;
    assert!(world.store.stop().await.is_some());
    idling.closed().await;
    waiting.closed().await;
}
