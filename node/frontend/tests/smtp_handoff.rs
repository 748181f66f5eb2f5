//! Stores that are away: 250 only for what is durable, each copy once.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may fail loudly")]

mod smtp_support;

use std::time::Duration;

use mailcluster_types::ResolvedAccount;
use smtp_support::{Cluster, Fault, client::id_in};

const TEXT: &str = "Subject: hello\r\n\r\ntext";
const THREE: [&str; 3] = ["ann@example.org", "bob@example.org", "cy@example.org"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mail_for_a_store_that_is_away_waits_elsewhere_and_arrives_once() {
    let cluster = Cluster::new(&["s-0", "s-1", "s-2"]).await;
    let ann = cluster.account("ann", "s-0").await;
    let bob = cluster.account("bob", "s-1").await;
    let cy = cluster.account("cy", "s-2").await;
    cluster.fault("s-1", Fault::Away);
    let reply = cluster.mx().await.mail("x@y.example", &THREE, TEXT).await;
    let id = id_in(&reply);
    assert_eq!(cluster.inbox("s-0", ann).await.len(), 1);
    assert_eq!(cluster.inbox("s-2", cy).await.len(), 1);
    let queue = cluster.queue("s-0").await;
    assert_eq!(queue.len(), 1, "a store that takes part keeps it");
    assert_eq!((queue[0].delivery, queue[0].recipients[0].account), (id, Some(bob)));
    let handle = cluster.run_queue("s-0");
    tokio::time::timeout(Duration::from_millis(300), cluster.inbox_of("s-1", bob, 1)).await.unwrap_err();
    assert_eq!(cluster.queue("s-0").await[0].recipients[0].attempts, 0, "an absence costs no attempt");
    cluster.heal("s-1");
    handle.kick(&"s-1".into());
    let inbox = cluster.inbox_of("s-1", bob, 1).await;
    assert!(inbox[0].contains(&id.to_string()), "the same delivery id in the trace");
    assert!(inbox[0].starts_with("Return-Path: <x@y.example>\r\nDelivered-To: bob@example.org\r\n"));
    cluster.queue_drained("s-0").await;
    assert_eq!(cluster.inbox("s-1", bob).await.len(), 1);
    assert_eq!(handle.counters().delivered, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lone_recipient_of_a_store_that_is_away_is_handed_off_too() {
    let cluster = Cluster::new(&["s-0", "s-1"]).await;
    let bob = cluster.account("bob", "s-1").await;
    cluster.fault("s-1", Fault::Away);
    cluster.run_queue("s-0");
    let reply = cluster.mx().await.mail("", &["bob@example.org"], TEXT).await;
    assert!(reply.starts_with("250 "), "{reply}");
    cluster.heal("s-1");
    assert_eq!(cluster.inbox_of("s-1", bob, 1).await.len(), 1, "found without being told of the route");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_goes_on_when_the_lease_of_its_store_is_good_again() {
    let cluster = Cluster::new(&["s-0", "s-1"]).await;
    let bob = cluster.account("bob", "s-1").await;
    cluster.fault("s-1", Fault::Away);
    cluster.run_queue("s-0");
    let reply = cluster.mx().await.mail("", &["bob@example.org"], TEXT).await;
    assert!(reply.starts_with("250 "), "{reply}");
    // As in a cut from the API that ends before anybody else takes the store.
    let lease = cluster.leases[&"s-0".into()].clone();
    lease.shut(true);
    while lease.refused() == 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    lease.shut(false);
    cluster.heal("s-1");
    assert_eq!(cluster.inbox_of("s-1", bob, 1).await.len(), 1);
    cluster.queue_drained("s-0").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_waits_for_a_store_that_is_known_to_be_away() {
    let cluster = Cluster::new(&["s-0", "s-1"]).await;
    let bob = cluster.account("bob", "s-1").await;
    let mut smtp = cluster.mx().await;
    // The connection of this one is kept.
    assert!(smtp.mail("x@y.example", &["bob@example.org"], TEXT).await.starts_with("250 "));
    let before = cluster.asked("s-1");
    cluster.known_away("s-1");
    assert!(smtp.mail("x@y.example", &["bob@example.org"], TEXT).await.starts_with("250 "));
    assert_eq!(cluster.asked("s-1"), before);
    assert_eq!((cluster.inbox("s-1", bob).await.len(), cluster.queue("s-0").await.len()), (1, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_goes_away_while_it_owes_an_answer_is_not_waited_for() {
    let cluster = Cluster::new(&["s-0", "s-1"]).await;
    let bob = cluster.account("bob", "s-1").await;
    cluster.fault("s-1", Fault::SilentAfterDot);
    let mut smtp = cluster.mx().await;
    let sending = smtp.mail("x@y.example", &["bob@example.org"], TEXT);
    let (reply, ()) = tokio::join!(sending, async {
        cluster.inbox_of("s-1", bob, 1).await;
        cluster.known_away("s-1");
    });
    assert!(reply.starts_with("250 "), "{reply}");
    assert_eq!(cluster.queue("s-0").await.len(), 1, "it was handed off under the same id");
    cluster.heal("s-1");
    cluster.run_queue("s-0");
    cluster.queue_drained("s-0").await;
    assert_eq!(cluster.inbox("s-1", bob).await.len(), 1, "and had arrived already");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_goes_away_is_waited_for_when_there_is_no_other_place() {
    let cluster = Cluster::new(&["s-0"]).await;
    let bob = cluster.account("bob", "s-0").await;
    cluster.fault("s-0", Fault::LateAfterDot);
    let mut smtp = cluster.mx().await;
    let sending = smtp.mail("x@y.example", &["bob@example.org"], TEXT);
    let (reply, ()) = tokio::join!(sending, async {
        cluster.inbox_of("s-0", bob, 1).await;
        cluster.known_away("s-0");
    });
    assert!(reply.starts_with("250 "), "closed without a reply, it would have come twice: {reply}");
    assert_eq!(cluster.inbox("s-0", bob).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_any_durable_place_it_is_451_and_nobody_has_it() {
    let cluster = Cluster::new(&["s-0", "s-1"]).await;
    let ann = cluster.account("ann", "s-0").await;
    cluster.account("bob", "s-1").await;
    cluster.fault("s-1", Fault::Away);
    cluster.candidates(&[]);
    let mut smtp = cluster.mx().await;
    let reply = smtp.mail("x@y.example", &["bob@example.org"], TEXT).await;
    assert!(reply.starts_with("451 "), "{reply}");
    // The store that could take its own recipient has no room for the other's.
    cluster.fault("s-0", Fault::NoQueue);
    let reply = smtp.mail("x@y.example", &THREE[..2], TEXT).await;
    assert!(reply.starts_with("451 "), "{reply}");
    assert!(cluster.inbox("s-0", ann).await.is_empty(), "room was asked for before the first body was sent");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_reply_makes_no_second_copy() {
    let cluster = Cluster::new(&["s-0", "s-1"]).await;
    let ann = cluster.account("ann", "s-0").await;
    let bob = cluster.account("bob", "s-1").await;
    cluster.fault("s-1", Fault::CutAfterDot);
    let reply = cluster.mx().await.mail("x@y.example", &THREE[..2], TEXT).await;
    let id = id_in(&reply);
    assert_eq!(cluster.inbox("s-1", bob).await.len(), 1, "it had arrived");
    assert_eq!(cluster.queue("s-0").await.len(), 1, "and was handed off, since nobody knew");
    cluster.heal("s-1");
    cluster.run_queue("s-0");
    cluster.queue_drained("s-0").await;
    assert_eq!(cluster.inbox("s-1", bob).await.len(), 1);
    assert_eq!(cluster.inbox("s-0", ann).await.len(), 1);
    let events: Vec<String> = cluster.history("s-1", id).await.into_iter().map(|e| e.event).collect();
    assert!(events.contains(&"duplicate".to_owned()), "{events:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_queue_too_survives_a_lost_reply() {
    let cluster = Cluster::new(&["s-0", "s-1"]).await;
    let bob = cluster.account("bob", "s-1").await;
    cluster.fault("s-1", Fault::Away);
    let reply = cluster.mx().await.mail("x@y.example", &["bob@example.org"], TEXT).await;
    assert!(reply.starts_with("250 "), "{reply}");
    cluster.fault("s-1", Fault::CutAfterDot);
    let handle = cluster.run_queue("s-0");
    cluster.inbox_of("s-1", bob, 1).await;
    cluster.heal("s-1");
    handle.kick(&"s-1".into());
    cluster.queue_drained("s-0").await;
    assert_eq!(cluster.inbox("s-1", bob).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_cut_in_the_body_is_handed_off() {
    let cluster = Cluster::new(&["s-0", "s-1"]).await;
    let ann = cluster.account("ann", "s-0").await;
    let bob = cluster.account("bob", "s-1").await;
    cluster.fault("s-1", Fault::CutInBody);
    let reply = cluster.mx().await.mail("x@y.example", &THREE[..2], TEXT).await;
    assert!(reply.starts_with("250 "), "{reply}");
    assert!(cluster.inbox("s-1", bob).await.is_empty());
    cluster.heal("s-1");
    cluster.run_queue("s-0");
    assert_eq!(cluster.inbox_of("s-1", bob, 1).await.len(), 1);
    assert_eq!(cluster.inbox("s-0", ann).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn closed_without_a_reply_when_one_copy_is_durable_and_another_finds_no_place() {
    let cluster = Cluster::new(&["s-0", "s-1"]).await;
    let ann = cluster.account("ann", "s-0").await;
    let bob = cluster.account("bob", "s-1").await;
    cluster.candidates(&[]);
    cluster.fault("s-1", Fault::CutInBody);
    // No room anywhere should s-1 die: known before anything is sent, so nothing is.
    cluster.fault("s-0", Fault::NoQueue);
    let reply = cluster.mx().await.mail("x@y.example", &THREE[..2], TEXT).await;
    assert!(reply.starts_with("451 "), "{reply}");
    assert!(cluster.inbox("s-0", ann).await.is_empty());
    // There was room, and then there is none.
    cluster.fault("s-0", Fault::CutQueue);
    cluster.mx().await.mail_without_answer("x@y.example", &THREE[..2], TEXT).await;
    assert_eq!(cluster.inbox("s-0", ann).await.len(), 1);
    assert!(cluster.inbox("s-1", bob).await.is_empty());
    // The same when nothing is known of the only copy.
    cluster.fault("s-1", Fault::CutAfterDot);
    cluster.mx().await.mail_without_answer("x@y.example", &["bob@example.org"], TEXT).await;
    assert_eq!(cluster.inbox("s-1", bob).await.len(), 1);
    // But when it surely did not arrive, as its end was not sent, 451 is honest.
    cluster.fault("s-1", Fault::CutInBody);
    let long = "line\r\n".repeat(50_000);
    let reply = cluster.mx().await.mail("x@y.example", &["bob@example.org"], &long).await;
    assert!(reply.starts_with("451 "), "{reply}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_final_refusal_after_acceptance_becomes_a_bounce_to_a_local_sender() {
    let cluster = Cluster::new(&["s-0", "s-1"]).await;
    let ann = cluster.account("ann", "s-0").await;
    let full = cluster.account_with_quota("bob", "s-1", 1500).await;
    let mut smtp = cluster.mx().await;
    let big = format!("Subject: big\r\n\r\n{}", "x".repeat(3000));
    let reply = smtp.mail("ann@example.org", &THREE[..2], &big).await;
    let id = id_in(&reply);
    cluster.run_queue("s-0");
    let inbox = cluster.inbox_of("s-0", ann, 2).await;
    assert!(inbox[1].starts_with("Return-Path: <>\r\n"), "{}", inbox[1]);
    for part in
        ["multipart/report", "Final-Recipient: rfc822; bob@example.org", "Status: 5.2.2", &id.to_string()]
    {
        assert!(inbox[1].contains(part), "{part} in {}", inbox[1]);
    }
    cluster.queue_drained("s-0").await;
    assert!(cluster.queue("s-0").await.is_empty() && cluster.inbox("s-1", full).await.is_empty());
}

/// F41 of the null sender, too: the same code makes the report of what has expired.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bounce_for_a_foreign_sender_is_held_and_for_the_null_sender_not_made() {
    let cluster = Cluster::new(&["s-0", "s-1"]).await;
    cluster.account("ann", "s-0").await;
    cluster.account("bob", "s-1").await;
    cluster.fault("s-1", Fault::Away);
    let mut smtp = cluster.mx().await;
    for sender in ["x@y.example", ""] {
        let reply = smtp.mail(sender, &["bob@example.org"], TEXT).await;
        assert!(reply.starts_with("250 "), "{reply}");
    }
    cluster.delete("bob");
    cluster.heal("s-1");
    let handle = cluster.run_queue("s-0");
    cluster.queue_drained("s-0").await;
    let queue = cluster.queue("s-0").await;
    assert_eq!(queue.len(), 1);
    assert_eq!((queue[0].sender.as_str(), queue[0].recipients[0].address.as_str()), ("", "x@y.example"));
    assert!(queue[0].recipients[0].held);
    let counters = handle.counters();
    assert_eq!((counters.held, counters.dropped, counters.bounced, counters.delivered), (1, 1, 0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn queued_mail_needs_no_address_only_its_account() {
    let cluster = Cluster::new(&["s-0", "s-1"]).await;
    let bob = cluster.account("bob", "s-1").await;
    cluster.resolve_as("alias", vec![cluster.resolved("bob")]);
    cluster.fault("s-1", Fault::Away);
    let mut smtp = cluster.mx().await;
    for to in ["alias@example.org", "bob@example.org"] {
        let reply = smtp.mail("", &[to], TEXT).await;
        assert!(reply.starts_with("250 "), "{reply}");
    }
    // The alias is removed, and then the directory is rebuilt without the store that is away.
    cluster.forget("alias");
    cluster.forget("bob");
    cluster.heal("s-1");
    let handle = cluster.run_queue("s-0");
    assert_eq!(cluster.inbox_of("s-1", bob, 2).await.len(), 2);
    cluster.queue_drained("s-0").await;
    assert_eq!((handle.counters().delivered, handle.counters().dropped), (2, 0));
}

/// F41.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_too_long_is_bounced_even_while_its_store_is_away() {
    let cluster = Cluster::new(&["s-0", "s-1"]).await;
    let ann = cluster.account("ann", "s-0").await;
    cluster.account("bob", "s-1").await;
    cluster.fault("s-1", Fault::Away);
    let reply = cluster.mx().await.mail("ann@example.org", &["bob@example.org"], TEXT).await;
    assert!(reply.starts_with("250 "), "{reply}");
    tokio::time::sleep(Duration::from_millis(2100)).await;
    cluster.run_queue_with("s-0", |config| config.max_age = Duration::from_secs(1));
    let inbox = cluster.inbox_of("s-0", ann, 1).await;
    assert!(inbox[0].contains("Status: 4.4.7"), "{}", inbox[0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bounce_whose_sender_cannot_be_asked_for_waits_a_while() {
    let cluster = Cluster::new(&["s-0", "s-1"]).await;
    cluster.account("ann", "s-0").await;
    cluster.account("bob", "s-1").await;
    cluster.fault("s-1", Fault::Away);
    let reply = cluster.mx().await.mail("ann@example.org", &["bob@example.org"], TEXT).await;
    assert!(reply.starts_with("250 "), "{reply}");
    let queued_at = cluster.queue("s-0").await[0].queued_at;
    cluster.directory.away.store(true, std::sync::atomic::Ordering::SeqCst);
    cluster.run_queue_with("s-0", |config| config.max_age = Duration::ZERO);
    for _ in 0..2000 {
        if cluster.queue("s-0").await[0].recipients[0].next_attempt >= queued_at + 60 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it is tried at once again: {:?}", cluster.queue("s-0").await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn queued_mail_follows_an_account_that_moved() {
    let cluster = Cluster::new(&["s-0", "s-1", "s-2"]).await;
    cluster.account("bob", "s-1").await;
    cluster.fault("s-1", Fault::Away);
    let reply = cluster.mx().await.mail("x@y.example", &["bob@example.org"], TEXT).await;
    assert!(reply.starts_with("250 "), "{reply}");
    let old = cluster.resolved("bob");
    cluster.account("bob", "s-2").await;
    let moved = cluster.resolved("bob");
    // The same account in its new place: give the queue's entry an account that the directory now finds there.
    cluster.resolve_as("bob", vec![ResolvedAccount { id: old.id, ..moved.clone() }]);
    cluster.run_queue("s-0");
    // The new store does not know the id yet: put off, never refused.
    tokio::time::sleep(Duration::from_millis(300)).await;
    let waiting = cluster.queue("s-0").await;
    assert_eq!(waiting[0].recipients[0].account, Some(old.id));
    assert!(waiting[0].recipients[0].last_error.starts_with("451 "), "{:?}", waiting[0].recipients[0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_of_many_for_one_store_does_not_hold_up_another() {
    let cluster = Cluster::new(&["s-0", "s-1", "s-2"]).await;
    let bob = cluster.account("bob", "s-1").await;
    let cy = cluster.account("cy", "s-2").await;
    cluster.fault("s-1", Fault::Away);
    cluster.fault("s-2", Fault::Away);
    cluster.candidates(&["s-0", "s-2"]);
    let mut smtp = cluster.mx().await;
    for _ in 0..300 {
        assert!(smtp.mail("x@y.example", &["bob@example.org"], TEXT).await.starts_with("250 "));
    }
    assert!(smtp.mail("x@y.example", &["cy@example.org"], TEXT).await.starts_with("250 "));
    cluster.heal("s-2");
    let handle = cluster.run_queue("s-0");
    assert_eq!(cluster.inbox_of("s-2", cy, 1).await.len(), 1);
    assert!(cluster.inbox("s-1", bob).await.is_empty());
    cluster.heal("s-1");
    handle.kick(&"s-1".into());
    assert_eq!(cluster.inbox_of("s-1", bob, 300).await.len(), 300);
    cluster.queue_drained("s-0").await;
    assert_eq!(cluster.inbox("s-1", bob).await.len(), 300);
}
