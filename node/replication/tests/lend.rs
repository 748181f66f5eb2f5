//! A mirror lends its primary what is damaged there.
#![allow(clippy::panic, clippy::unwrap_used, reason = "tests")]

mod pair;

use mailcluster_replication::borrow;
use mailcluster_store::{Fetched, Identity, Link, LogReader, LoggedBatch, Wanted};
use pair::{Mirror, Pair, applied, identity, pair, work};
use tokio::net::TcpListener;
use tonic::transport::{Channel, Endpoint, Server};

/// Every batch of the primary's log but the last, with its name.
fn named(dir: &std::path::Path, end: u64) -> Vec<(Wanted, LoggedBatch)> {
    let mut reader = LogReader::after(dir, identity(1), 0).unwrap();
    let all: Vec<LoggedBatch> = std::iter::from_fn(|| reader.next(end).unwrap()).collect();
    let name = |(batch, next): (&LoggedBatch, &LoggedBatch)| {
        let wanted = Wanted { first: batch.seq, link: next.prev, most: batch.payload.len() };
        (wanted, batch.clone())
    };
    all.iter().zip(&all[1..]).map(name).collect()
}

async fn ask(mirror: &Mirror, epoch: u64, wanted: &Wanted) -> Fetched {
    borrow(mirror.channel(), (&identity(1), epoch), wanted).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_is_lent_by_its_name_to_the_primary_that_is_followed() {
    let Pair { primary, mirror, feed: _feed, dirs } = pair().await;
    let end = work(&primary.store, 1).await;
    applied(&primary, 2, end).await;
    let all = named(dirs.0.path(), end);
    assert!(all.len() > 5 && all.iter().any(|(_, batch)| batch.payload.len() > 256 << 10));
    for (wanted, batch) in &all {
        assert!(matches!(ask(&mirror, 1, wanted).await, Fetched::Batch(lent) if lent == *batch));
    }
    let (wanted, batch) = all.iter().max_by_key(|(_, batch)| batch.payload.len()).unwrap();
    let other = Link { crc: wanted.link.crc ^ 1, ..wanted.link };
    let later = Link { epoch: 2, ..wanted.link };
    for (what, wanted) in [
        ("another line", Wanted { link: other, ..*wanted }),
        ("another epoch", Wanted { link: later, ..*wanted }),
        ("not committed", Wanted { first: end + 1, link: Link { seq: end + 1, ..wanted.link }, ..*wanted }),
        ("more than was asked for", Wanted { most: batch.payload.len() - 1, ..*wanted }),
        ("no such batch", Wanted { first: wanted.first + 1, ..*wanted }),
    ] {
        assert!(matches!(ask(&mirror, 1, &wanted).await, Fetched::Nowhere), "{what}");
    }
    let foreign = Identity { store: "another".into(), ..identity(1) };
    assert!(matches!(borrow(mirror.channel(), (&foreign, 1), wanted).await, Fetched::Nowhere));
    // Another primary is promised.
    let mut taken = mirror.standby.take().unwrap();
    assert!(matches!(ask(&mirror, 1, wanted).await, Fetched::NoAnswer), "it does not stand by");
    taken.promise(2).unwrap();
    mirror.standby.give(taken);
    assert!(matches!(ask(&mirror, 1, wanted).await, Fetched::Nowhere));
    assert!(matches!(ask(&mirror, 2, wanted).await, Fetched::Batch(_)));
}

/// An older version has the service and not this call, or not even that.
#[tokio::test(flavor = "multi_thread")]
async fn an_older_version_has_nothing_to_lend_and_one_that_is_away_does_not_answer() {
    let wanted = Wanted { first: 1, link: Link { epoch: 1, seq: 1, crc: 1 }, most: 10 };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    let channel = || -> Channel { Endpoint::from_shared(format!("http://{at}")).unwrap().connect_lazy() };
    let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
    let server = tokio::spawn(
        Server::builder().add_routes(tonic::service::Routes::default()).serve_with_incoming(incoming),
    );
    assert!(matches!(borrow(channel(), (&identity(1), 1), &wanted).await, Fetched::Nowhere));
    server.abort();
    let _ = server.await;
    assert!(matches!(borrow(channel(), (&identity(1), 1), &wanted).await, Fetched::NoAnswer));
}
