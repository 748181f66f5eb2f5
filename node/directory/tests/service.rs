//! The directory over a real store: look-ups, logins, administration, and stores that follow it.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod common;

use std::time::Duration;

use common::{World, config, login, names, new_account, until};
use mailcluster_auth::StoredHash;
use mailcluster_directory::{AdminError, Credential, DirectoryService, StoreLoad};
use mailcluster_store::Account;
use mailcluster_types::{AccountStatus, Address, AuthOutcome, Directory, Resolution};
use tokio::sync::watch;

fn address(text: &str) -> Address {
    text.parse().unwrap()
}

#[tokio::test]
async fn a_directory_without_domains_knows_nothing() {
    let world = World::new(&["t-0"]);
    let answer = world.directory.resolve(&address("a@example.org")).await;
    assert!(answer.is_err(), "an empty directory must never bounce mail: {answer:?}");
    world.directory.add_domain("test", "example.org").await.unwrap();
    let answer = world.directory.resolve(&address("a@example.org")).await;
    assert_eq!(answer, Ok(Resolution::NoSuchMailbox));
    world.directory.store().stop().await;
    assert!(world.directory.resolve(&address("a@example.org")).await.is_err(), "stopped");
}

#[tokio::test]
async fn addresses_resolve() {
    let world = World::ready(&["t-0", "t-1"]).await;
    for user in ["ann", "bob", "cid+own"] {
        world.add(&format!("{user}@example.org")).await;
    }
    let all = ["ann@example.org".to_owned(), "bob@example.org".to_owned()];
    world.directory.add_alias("test", "all@example.org", &all, false).await.unwrap();
    let nested = ["all@example.org".to_owned(), "Ann@example.org".to_owned()];
    world.directory.add_alias("test", "both@example.org", &nested, false).await.unwrap();
    for (asked, expected) in [
        ("ann@example.org", vec!["ann@example.org"]),
        ("ANN@Example.Org", vec!["ann@example.org"]),
        ("\"ann\"@example.org", vec!["ann@example.org"]),
        ("ann+shop@example.org", vec!["ann@example.org"]),
        ("cid+own@example.org", vec!["cid+own@example.org"]),
        ("cid@example.org", vec!["NoSuchMailbox"]),
        ("all@example.org", vec!["ann@example.org", "bob@example.org"]),
        ("both+x@example.org", vec!["ann@example.org", "bob@example.org"]),
        ("nobody@example.org", vec!["NoSuchMailbox"]),
        ("nobody+ann@example.org", vec!["NoSuchMailbox"]),
        ("ann@elsewhere.org", vec!["NotLocal"]),
        ("ann@mail.example.org", vec!["NotLocal"]),
        ("postmaster@example.org", vec!["NoSuchMailbox"]),
        ("PostMaster@mail.example.org", vec!["NoSuchMailbox"]),
        ("postmaster@elsewhere.org", vec!["NotLocal"]),
    ] {
        let resolution = world.directory.resolve(&address(asked)).await.unwrap();
        assert_eq!(names(&resolution), expected, "{asked}");
    }
}

#[tokio::test]
async fn postmaster_is_who_was_named() {
    let world = World::ready(&["t-0"]).await;
    for user in ["ann", "bob"] {
        world.add(&format!("{user}@example.org")).await;
    }
    let (_keep, loads) = watch::channel(vec![StoreLoad::named("t-0".into())]);
    let mut config = config(loads);
    config.postmaster = Some(address("bob@example.org"));
    let named = DirectoryService::new(world.directory.store().clone(), config).unwrap();
    let found = named.resolve(&address("postmaster@example.org")).await.unwrap();
    assert_eq!(names(&found), ["bob@example.org"]);
    let found = named.resolve(&address("PostMaster@mail.example.org")).await.unwrap();
    assert_eq!(names(&found), ["bob@example.org"]);
}

#[tokio::test]
async fn an_account_is_active_when_its_store_has_it() {
    let world = World::new(&["t-0"]);
    world.directory.add_domain("test", "example.org").await.unwrap();
    let mut new = new_account("ann@example.org");
    new.wait = Duration::from_millis(1);
    let pending = world.directory.add_account("test", new).await.unwrap();
    assert!(pending.pending);
    let Resolution::Accounts(found) = world.directory.resolve(&address("ann@example.org")).await.unwrap()
    else {
        panic!("not found");
    };
    assert_eq!(found[0].status, AccountStatus::Pending);
    let attempt = world.directory.authenticate(&login("ann@example.org", "secret", "192.0.2.1")).await;
    assert!(attempt.is_err(), "come again, not a rejection: {attempt:?}");
    world.sync();
    until("active", || async { !world.directory.account("ann@example.org").await.unwrap().0.pending }).await;
    let id = pending.id;
    let (account, boxes, domain) = world.stores[0]
        .read(move |v| Ok((v.account(id)?, v.mailboxes(id)?.len(), v.domain("example.org")?)))
        .await
        .unwrap();
    let account = account.unwrap();
    assert_eq!((account.address.as_str(), account.pending, boxes), ("ann@example.org", false, 6));
    assert!(StoredHash::parse(&account.password_hash).unwrap().verify("secret"));
    assert!(domain.is_some());
}

#[tokio::test]
async fn changes_reach_the_store_and_nothing_is_written_twice() {
    let world = World::ready(&["t-0", "t-1"]).await;
    let account = world.add("ann@example.org").await;
    let store = world.stores.iter().find(|s| s.identity().store == account.store).unwrap();
    let other = world.stores.iter().find(|s| s.identity().store != account.store).unwrap();
    world.directory.set_quota("test", "ann@example.org", 5000).await.unwrap();
    world.directory.set_suspended("test", "ann@example.org", true).await.unwrap();
    let alias = ["ann@example.org".to_owned()];
    world.directory.add_alias("test", "all@example.org", &alias, false).await.unwrap();
    let id = account.id;
    let there = || async {
        store
            .read(move |v| {
                let account = v.account(id)?.filter(|a| a.suspended && a.quota_octets == 5000);
                Ok(account.is_some() && v.alias("all@example.org")?.is_some())
            })
            .await
            .unwrap()
    };
    until("the change and the alias are on the account's store", there).await;
    let elsewhere =
        other.read(move |v| Ok(v.account(id)?.is_some() || v.alias("all@example.org")?.is_some()));
    assert!(!elsewhere.await.unwrap(), "other stores do not carry it");
    // A second follower from the start writes nothing.
    let before = store.committed();
    world.sync();
    world.directory.add_domain("test", "second.org").await.unwrap();
    until("the second domain", || async {
        store.read(|v| Ok(v.domain("second.org")?.is_some())).await.unwrap()
    })
    .await;
    assert!(store.committed().1 <= before.1 + 2, "one domain, at most twice: {:?}", store.committed());
    world.directory.delete_account("test", "ann@example.org").await.unwrap();
    until("the account is gone from its store", || async {
        store
            .read(move |v| Ok(v.account(id)?.is_none() && v.alias("all@example.org")?.is_none()))
            .await
            .unwrap()
    })
    .await;
    let again = world.add("ann@example.org").await;
    assert_ne!(again.id, id, "an id is never used again");
}

#[tokio::test]
async fn passwords_decide_and_old_hashes_are_made_new() {
    let world = World::ready(&["t-0"]).await;
    let mut new = new_account("ann@example.org");
    let ssha = "{SSHA}5pcxo13YdJml98eQSIlT3FMEBMMBAgME";
    new.credential = Credential::Hash(ssha.into());
    let made = world.directory.add_account("test", new).await.unwrap();
    assert_eq!(made.password_hash, ssha);
    let mut none = new_account("nopass@example.org");
    none.credential = Credential::None;
    world.directory.add_account("test", none).await.unwrap();
    for (user, password, accepted) in [
        ("ann@example.org", "wrong", false),
        ("ann@example.org", "", false),
        ("nobody@example.org", "correct horse", false),
        ("nopass@example.org", "", false),
        ("an\0n@example.org", "correct horse", false),
        ("ann@example.org", "correct horse", true),
        ("ann", "correct horse", true),
        ("ANN@EXAMPLE.ORG", "correct horse", true),
    ] {
        let outcome = world.directory.authenticate(&login(user, password, "127.0.0.1")).await.unwrap();
        assert_eq!(matches!(outcome, AuthOutcome::Accepted(_)), accepted, "{user} {password}");
        assert!(accepted || outcome == AuthOutcome::Rejected);
    }
    let (account, _) = world.directory.account("ann@example.org").await.unwrap();
    assert!(account.password_hash.starts_with("$argon2id$") && account.generation > made.generation);
    world.directory.set_suspended("test", "ann@example.org", true).await.unwrap();
    let outcome = world.directory.authenticate(&login("ann", "correct horse", "127.0.0.1")).await;
    assert_eq!(outcome, Ok(AuthOutcome::Rejected));
    world.directory.set_suspended("test", "ann@example.org", false).await.unwrap();
    world
        .directory
        .set_credential("test", "ann@example.org", Credential::Password("new".into()))
        .await
        .unwrap();
    let outcome = world.directory.authenticate(&login("ann", "new", "127.0.0.1")).await.unwrap();
    assert!(matches!(outcome, AuthOutcome::Accepted(_)));
}

#[tokio::test]
async fn guessing_is_slowed_where_it_comes_from() {
    let world = World::ready(&["t-0"]).await;
    world.add("ann@example.org").await;
    let mut last = AuthOutcome::Rejected;
    for _ in 0..7 {
        last = world.directory.authenticate(&login("ann", "wrong", "192.0.2.1")).await.unwrap();
    }
    assert!(matches!(last, AuthOutcome::Throttled(s) if s > 0), "{last:?}");
    let right = world.directory.authenticate(&login("ann", "secret", "192.0.2.1")).await.unwrap();
    assert!(matches!(right, AuthOutcome::Throttled(_)), "not even the right one is told");
    let elsewhere = world.directory.authenticate(&login("ann", "secret", "192.0.2.2")).await.unwrap();
    assert!(matches!(elsewhere, AuthOutcome::Accepted(_)));
}

#[tokio::test]
async fn senders_are_own_addresses_and_aliases() {
    let world = World::ready(&["t-0"]).await;
    let ann = world.add("ann@example.org").await.id;
    let bob = world.add("bob@example.org").await.id;
    let targets = ["ann@example.org".to_owned()];
    world.directory.add_alias("test", "sales@example.org", &targets, false).await.unwrap();
    for (account, sender, allowed) in [
        (ann, "ann@example.org", true),
        (ann, "Ann+x@example.org", true),
        (ann, "sales@example.org", true),
        (bob, "sales@example.org", false),
        (ann, "bob@example.org", false),
        (ann, "ann@elsewhere.org", false),
    ] {
        let answer = world.directory.may_send_as(account, &address(sender)).await;
        assert_eq!(answer, Ok(allowed), "{sender}");
    }
}

#[tokio::test]
async fn what_cannot_be_is_refused_with_the_reason() {
    let world = World::ready(&["t-0"]).await;
    let d = &world.directory;
    world.add("ann@example.org").await;
    let ann = ["ann@example.org".to_owned()];
    d.add_alias("test", "all@example.org", &ann, false).await.unwrap();
    let add = |address: &str, store: Option<&str>| {
        let mut new = new_account(address);
        new.store = store.map(Into::into);
        async move { d.add_account("test", new).await.map(|a: Account| a.address) }
    };
    assert!(matches!(add("ann@example.org", None).await, Err(AdminError::Exists(_))));
    assert!(matches!(add("all@example.org", None).await, Err(AdminError::Exists(_))));
    assert!(matches!(add("x@elsewhere.org", None).await, Err(AdminError::NotFound(_))));
    assert!(matches!(add("x@example.org", Some("t-9")).await, Err(AdminError::NotFound(_))));
    assert!(matches!(add("x y@example.org", None).await, Err(AdminError::Invalid(_))));
    assert!(matches!(d.add_domain("t", "Example.ORG").await, Err(AdminError::Exists(_))));
    assert!(matches!(d.add_domain("t", "a b").await, Err(AdminError::Invalid(_))));
    assert!(matches!(d.add_alias("t", "all@example.org", &ann, false).await, Err(AdminError::Exists(_))));
    assert!(matches!(d.add_alias("t", "ann@example.org", &ann, true).await, Err(AdminError::Exists(_))));
    let nobody = ["nobody@example.org".to_owned()];
    assert!(matches!(d.add_alias("t", "n@example.org", &nobody, false).await, Err(AdminError::NotFound(_))));
    assert!(matches!(d.add_alias("t", "n@example.org", &[], false).await, Err(AdminError::Invalid(_))));
    assert!(matches!(d.delete_account("t", "no@example.org").await, Err(AdminError::NotFound(_))));
    let bad = Credential::Hash("{MD5}x".into());
    assert!(matches!(d.set_credential("t", "ann@example.org", bad).await, Err(AdminError::Invalid(_))));
    assert!(matches!(d.delete_domain("t", "example.org", false).await, Err(AdminError::Refused(_))));
    world.loads.send_replace(Vec::new());
    assert!(matches!(add("x@example.org", None).await, Err(AdminError::Refused(_))));
}

#[tokio::test]
async fn a_forced_domain_goes_with_all_in_it_and_may_come_back() {
    let world = World::ready(&["t-0"]).await;
    let d = &world.directory;
    d.add_domain("test", "other.org").await.unwrap();
    let ann = world.add("ann@example.org").await.id;
    world.add("bob@other.org").await;
    let both = ["ann@example.org".to_owned(), "bob@other.org".to_owned()];
    for alias in ["in@example.org", "out@other.org"] {
        d.add_alias("test", alias, &both, false).await.unwrap();
    }
    assert_eq!(d.domain("example.org").await.unwrap().accounts, 1);
    d.delete_domain("test", "example.org", true).await.unwrap();
    assert_eq!(d.domains().await.unwrap(), ["other.org"]);
    assert_eq!(d.resolve(&address("ann@example.org")).await, Ok(Resolution::NotLocal));
    assert_eq!(d.alias("out@other.org").await.unwrap().1, ["bob@other.org"]);
    until("the mail is gone", || async {
        world.stores[0].read(move |v| Ok(v.account(ann)?.is_none())).await.unwrap()
    })
    .await;
    d.add_domain("test", "example.org").await.unwrap();
    d.add_alias("test", "in@example.org", &both[1..], false).await.unwrap();
    assert_eq!(names(&d.resolve(&address("in@example.org")).await.unwrap()), ["bob@other.org"]);
    let log = d.audit_log(100).await.unwrap();
    assert!(log[0].2.starts_with("alias add in@example.org") && log[0].1 == "test", "{log:?}");
    assert!(log.iter().any(|(_, _, what)| what.starts_with("domain delete example.org with 1 accounts")));
    assert!(!format!("{log:?}").contains("secret"));
}

#[tokio::test]
async fn one_domain_spreads_over_all_stores() {
    let world = World::ready(&["t-0", "t-1", "t-2"]).await;
    let mut stores = Vec::new();
    for i in 0..6 {
        stores.push(world.add(&format!("u{i}@example.org")).await.store.to_string());
    }
    stores.sort();
    assert_eq!(stores, ["t-0", "t-0", "t-1", "t-1", "t-2", "t-2"]);
    let page = world.directory.accounts_page(Some("example.org"), "u2@example.org").await.unwrap();
    let addresses: Vec<_> = page.accounts.iter().map(|a| a.address.as_str()).collect();
    assert_eq!(addresses, ["u3@example.org", "u4@example.org", "u5@example.org"]);
}
