//! CREATE, DELETE, RENAME, SUBSCRIBE, LIST, LSUB, STATUS, SELECT.

mod imap_support;

use imap_support::World;

#[tokio::test]
async fn a_new_account_has_its_mailboxes() {
    let world = World::new().await;
    let mut client = world.login().await;
    client
        .script(
            "C: a LIST \"\" \"\"
             S: * LIST (\\Noselect) \"/\" \"\"
             S: a OK …
             C: b LIST \"\" *
             S: * LIST (\\HasNoChildren \\Archive) \"/\" \"Archive\"
             S: * LIST (\\HasNoChildren \\Drafts) \"/\" \"Drafts\"
             S: * LIST (\\HasNoChildren) \"/\" INBOX
             S: * LIST (\\HasNoChildren \\Junk) \"/\" \"Junk\"
             S: * LIST (\\HasNoChildren \\Sent) \"/\" \"Sent\"
             S: * LIST (\\HasNoChildren \\Trash) \"/\" \"Trash\"
             S: b OK …
             C: c LIST (SPECIAL-USE) \"\" S% RETURN (CHILDREN STATUS (MESSAGES UIDNEXT))
             S: * LIST (\\HasNoChildren \\Sent) \"/\" \"Sent\"
             S: * STATUS \"Sent\" (MESSAGES 0 UIDNEXT 1)
             S: c OK …
             C: d STATUS inbox (MESSAGES RECENT UIDNEXT UIDVALIDITY UNSEEN SIZE DELETED HIGHESTMODSEQ)
             S: * STATUS INBOX (MESSAGES 0 RECENT 0 UIDNEXT 1 UIDVALIDITY … UNSEEN 0 SIZE 0 DELETED 0 HIGHESTMODSEQ …)
             S: d OK …
             C: e STATUS nowhere (MESSAGES)
             S: e NO [NONEXISTENT] …",
        )
        .await;
}

#[tokio::test]
async fn a_special_use_is_one_mailbox_s() {
    let world = World::new().await;
    let mut client = world.login().await;
    client
        .script(
            "C: e CREATE Out (USE (\\Sent))
             S: e NO [USEATTR] …
             C: e1 DELETE Sent
             S: e1 OK …
             C: e2 CREATE Out (USE (\\Sent))
             S: e2 OK …
             C: e3 CREATE Outbox (USE (\\Sent))
             S: e3 NO [USEATTR] …
             C: e4 LIST \"\" Out*
             S: * LIST (\\HasNoChildren \\Sent) \"/\" \"Out\"
             S: e4 OK …
             C: f CREATE All (USE (\\All))
             S: f NO [USEATTR] …",
        )
        .await;
}

#[tokio::test]
async fn create_rename_delete() {
    let world = World::new().await;
    let mut client = world.login().await;
    client
        .script(
            "C: a CREATE a/b/
             S: a OK …
             C: b CREATE a/b
             S: b NO [ALREADYEXISTS] …
             C: c CREATE INBOX
             S: c NO …
             C: d CREATE &AOQ-rger
             S: d OK …
             C: g LIST \"\" a%
             S: * LIST (\\HasChildren) \"/\" \"a\"
             S: g OK …
             C: h RENAME a x
             S: h OK …
             C: i LIST \"\" (x% &AOQ-*)
             S: * LIST (\\HasChildren) \"/\" \"x\"
             S: * LIST (\\HasNoChildren) \"/\" \"&AOQ-rger\"
             S: i OK …
             C: j DELETE x
             S: j OK …
             C: k LIST x/ *
             S: * LIST (\\HasNoChildren) \"/\" \"x/b\"
             S: k OK …
             C: l LIST \"\" x
             S: * LIST (\\NonExistent \\Noselect \\HasChildren) \"/\" \"x\"
             S: l OK …
             C: m DELETE x
             S: m NO [NONEXISTENT] …
             C: n DELETE INBOX
             S: n NO [CANNOT] …
             C: o RENAME x/b x/b/c
             S: o NO [CANNOT] …
             C: p RENAME nowhere y
             S: p NO [NONEXISTENT] …
             C: q CREATE a//b
             S: q NO [CANNOT] …
             C: r CREATE \"\"
             S: r NO [CANNOT] …
             C: s CREATE &AAo-
             S: s NO [CANNOT] …
             C: t CREATE &broken
             S: t BAD …
             C: u CREATE ../../etc
             S: u OK …
             C: v DELETE ../../etc
             S: v OK …",
        )
        .await;
}

#[tokio::test]
async fn subscriptions() {
    let world = World::new().await;
    let mut client = world.login().await;
    client
        .script(
            "C: a CREATE deep/er
             S: a OK …
             C: b SUBSCRIBE deep/er
             S: b OK …
             C: c LIST (SUBSCRIBED) \"\" d*
             S: * LIST (\\HasNoChildren \\Subscribed) \"/\" \"deep/er\"
             S: c OK …
             C: d LIST (SUBSCRIBED RECURSIVEMATCH) \"\" d%
             S: * LIST (\\HasChildren) \"/\" \"deep\" (\"CHILDINFO\" (\"SUBSCRIBED\"))
             S: d OK …
             C: e LSUB \"\" d%
             S: * LSUB (\\Noselect) \"/\" \"deep\"
             S: e OK …
             C: f LSUB \"\" d*
             S: * LSUB () \"/\" \"deep/er\"
             S: f OK …
             C: g UNSUBSCRIBE deep/er
             S: g OK …
             C: h LSUB \"\" d*
             S: h OK …",
        )
        .await;
}

#[tokio::test]
async fn select_and_examine() {
    let world = World::new().await;
    world.deliver("Subject: one\r\n\r\n1\r\n").await;
    let mut client = world.login().await;
    client
        .script(
            "C: a SELECT inbox (CONDSTORE)
             S: * FLAGS (\\Answered \\Flagged \\Deleted \\Seen \\Draft …)
             S: * OK [PERMANENTFLAGS (… \\*)] …
             S: * 1 EXISTS
             S: * 0 RECENT
             S: * OK [UNSEEN 1] …
             S: * OK [UIDVALIDITY …] …
             S: * OK [UIDNEXT 2] …
             S: * OK [HIGHESTMODSEQ …] …
             S: a OK [READ-WRITE] selected
             C: b EXAMINE INBOX
             S…
             S: * OK [PERMANENTFLAGS ()] …
             S…
             S: b OK [READ-ONLY] selected
             C: c STORE 1 +FLAGS (\\Deleted)
             S: c NO [READ-ONLY] …
             C: d EXPUNGE
             S: d NO [READ-ONLY] …
             C: e FETCH 1 BODY[TEXT]
             S: * 1 FETCH (BODY[TEXT] {3}
             S: 1
             S: )
             S: e OK …
             C: f SEARCH UNSEEN
             S: * SEARCH 1
             S: f OK …
             C: g CLOSE
             S: g OK …
             C: h CHECK
             S: h OK …
             C: i SELECT nowhere
             S: i NO [NONEXISTENT] …
             C: j SELECT INBOX
             S…
             S: j OK [READ-WRITE] selected
             C: k SELECT nowhere
             S: k NO [NONEXISTENT] …
             C: l FETCH 1 FLAGS
             S: l BAD select a mailbox first
             C: m UNSELECT
             S: m BAD select a mailbox first",
        )
        .await;
}

#[tokio::test]
async fn a_deleted_mailbox_ends_the_sessions_in_it() {
    let world = World::new().await;
    let mut one = world.login().await;
    one.script("C: a CREATE x\nS: a OK …\nC: b SELECT x\nS…\nS: b OK …\nC: c IDLE\nS: + idling").await;
    let mut two = world.login().await;
    two.script("C: a SELECT x\nS…\nS: a OK …\nC: b DELETE x\nS: b OK …\nC: c FETCH 1 FLAGS\nS: c BAD …\nC: d NOOP\nS: d OK …").await;
    one.script("S: * BYE the selected mailbox was deleted").await;
    one.closed().await;
}
