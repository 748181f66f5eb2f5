use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
    task::JoinHandle,
};

use super::*;

type Joined = (DuplexStream, DuplexStream, JoinHandle<(SpliceEnd, u64, u64)>);

fn joined(size: usize, limits: SpliceLimits, stop: CancellationToken) -> Joined {
    let (client, a) = duplex(size);
    let (server, b) = duplex(size);
    let task = tokio::spawn(async move {
        let (mut a, mut b): (BoxStream, BoxStream) = (Box::new(a), Box::new(b));
        splice(&mut a, &mut b, limits, &stop).await
    });
    (client, server, task)
}

fn limits(idle_ms: u64, half_closed_ms: u64) -> SpliceLimits {
    SpliceLimits { idle: Duration::from_millis(idle_ms), half_closed: Duration::from_millis(half_closed_ms) }
}

#[tokio::test]
async fn much_goes_through_narrow_pipes_both_ways() {
    let (client, server, task) = joined(333, limits(60_000, 60_000), CancellationToken::new());
    let data: Vec<u8> = (0..200_000u32).map(|n| n as u8).collect();
    let run = |mut end: DuplexStream, data: Vec<u8>| async move {
        let (mut read, mut write) = tokio::io::split(&mut end);
        let mut got = Vec::new();
        let send = async {
            write.write_all(&data).await.unwrap();
            write.shutdown().await.unwrap();
        };
        let (_, n) = tokio::join!(send, read.read_to_end(&mut got));
        n.unwrap();
        got
    };
    let (one, two) = tokio::join!(run(client, data.clone()), run(server, data.clone()));
    assert!(one == data && two == data);
    assert!(matches!(task.await.unwrap(), (SpliceEnd::Closed, 200_000, 200_000)));
}

#[tokio::test]
async fn an_idle_pair_ends() {
    let started = Instant::now();
    let (mut client, _server, task) = joined(64, limits(100, 60_000), CancellationToken::new());
    client.write_all(b"x").await.unwrap();
    assert!(matches!(task.await.unwrap(), (SpliceEnd::Idle { at_line_end: true }, 1, 0)));
    assert!(started.elapsed() >= Duration::from_millis(100));
}

#[tokio::test]
async fn a_half_closed_pair_goes_on_for_a_while() {
    let (mut client, mut server, task) = joined(64, limits(60_000, 200), CancellationToken::new());
    client.shutdown().await.unwrap();
    assert_eq!(server.read(&mut [0; 8]).await.unwrap(), 0);
    server.write_all(b"half").await.unwrap();
    let mut got = [0; 4];
    client.read_exact(&mut got).await.unwrap();
    assert_eq!(&got, b"half");
    assert!(matches!(task.await.unwrap(), (SpliceEnd::Idle { at_line_end: false }, 0, 4)));
}

#[tokio::test]
async fn stopping_says_whether_a_line_may_follow() {
    for (said, expected) in [("* OK\r\n", true), ("* half a li", false), ("", true)] {
        let stop = CancellationToken::new();
        let (mut client, mut server, task) = joined(64, limits(60_000, 60_000), stop.clone());
        server.write_all(said.as_bytes()).await.unwrap();
        client.read_exact(&mut vec![0; said.len()]).await.unwrap();
        stop.cancel();
        let (end, _, _) = task.await.unwrap();
        assert!(matches!(end, SpliceEnd::Stopped { at_line_end } if at_line_end == expected), "{said:?}");
    }
}
