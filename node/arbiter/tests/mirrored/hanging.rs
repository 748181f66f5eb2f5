//! F16: a mirror that hangs, as a stopped process does: its connections stay, and nothing comes through them. Its primary's
//! writes wait for it once, and for no longer than mirrorTimeout.

use std::{io, net::SocketAddr, time::Duration};

use mailcluster_arbiter::StatusHandle;
use mailcluster_failover::{Durability, TargetKind};
use mailcluster_store::Store;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    task::JoinSet,
    time::Instant,
};

use super::{Cluster, lines, write};

/// So long that a disk which is slow for other reasons does not pass for it.
const TIMEOUT: Duration = Duration::from_secs(3);
/// What is promised is `TIMEOUT`; the rest is for a machine with other work.
const MOST: Duration = Duration::from_secs(3 + 3 + 2);
/// Clients that write at the same time, each one thing after the other.
const WRITERS: usize = 4;
/// What each of them writes while the mirror hangs.
const WRITES: usize = 20;

/// The way to a replica, which may hang.
struct Way {
    hangs: watch::Sender<bool>,
    _connections: JoinSet<()>,
}

impl Way {
    /// Others reach that replica by it from now on.
    async fn to(cluster: &Cluster, n: u128) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let here = listener.local_addr().unwrap();
        let there = cluster.at.lock().unwrap().insert(n, here).unwrap();
        let (hangs, hanging) = watch::channel(false);
        let mut connections = JoinSet::new();
        connections.spawn(take(listener, there, hanging));
        Self { hangs, _connections: connections }
    }
}

async fn take(listener: TcpListener, there: SocketAddr, hanging: watch::Receiver<bool>) {
    let mut taken = JoinSet::new();
    while let Ok((from, _)) = listener.accept().await {
        taken.spawn(pass(from, there, hanging.clone()));
    }
}

async fn pass(from: TcpStream, there: SocketAddr, hanging: watch::Receiver<bool>) {
    let Ok(onward) = TcpStream::connect(there).await else { return };
    let ((from, back), (answers, onward)) = (from.into_split(), onward.into_split());
    // Either end may close the connection.
    let _ended = tokio::select! {
        ended = one_way(from, onward, hanging.clone()) => ended,
        ended = one_way(answers, back, hanging) => ended,
    };
}

async fn one_way(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut hanging: watch::Receiver<bool>,
) -> io::Result<()> {
    let mut octets = vec![0; 64 << 10];
    loop {
        let count = from.read(&mut octets).await?;
        if count == 0 || hanging.wait_for(|hangs| !*hangs).await.is_err() {
            return Ok(());
        }
        to.write_all(&octets[..count]).await?;
    }
}

/// Frontends go on speaking to a primary.
async fn spoken_to(status: StatusHandle) {
    loop {
        status.heard();
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// How long each of these writes took to be acknowledged.
async fn writes(store: Store, writer: usize) -> Vec<Duration> {
    let mut took = Vec::new();
    for n in 0..WRITES {
        let began = Instant::now();
        assert!(write(&store, &format!("{writer} {n:02}")).await, "{took:?}");
        took.push(began.elapsed());
    }
    took
}

#[tokio::test(flavor = "multi_thread")]
async fn f16_a_mirror_that_hangs_holds_writes_up_once_and_no_longer_than_mirror_timeout() {
    let cluster = Cluster::standing_by(&[1, 2], Durability::Preferred, TIMEOUT).await;
    let way = Way::to(&cluster, 2).await;
    cluster.record.ask(1, TargetKind::Initial);
    let store = cluster.serving(1).await;
    cluster.in_sync(&[1, 2]).await;
    assert!(write(&store, "both").await);
    let mut background = JoinSet::new();
    background.spawn(spoken_to(cluster.nodes[&1].status.clone()));

    way.hangs.send_replace(true);
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        writers.spawn(writes(store.clone(), writer));
    }
    let all = writers.join_all().await;
    cluster.in_sync(&[1]).await;
    // Each client has one write under way at a time: what it waits for twice is in its own list twice.
    for took in &all {
        assert!(took.iter().all(|span| *span < MOST), "longer than mirrorTimeout: {took:?}");
        assert!(took.iter().filter(|span| **span >= TIMEOUT).count() <= 1, "held up again: {took:?}");
    }
    let first: Vec<Duration> = all.iter().map(|took| took[0]).collect();
    assert!(first.iter().any(|span| *span >= TIMEOUT), "it did not hang: {all:?}");

    way.hangs.send_replace(false);
    cluster.in_sync(&[1, 2]).await;
    assert!(write(&store, "both again").await);
    assert_eq!(lines(&store).await.len(), WRITERS * WRITES + 2);
    drop(store);
    cluster.stop().await;
}
