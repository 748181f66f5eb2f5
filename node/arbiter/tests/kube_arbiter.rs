//! The arbiter in the Kubernetes API against a scripted API server: compare-and-swap, conflicts, lost replies, silence.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use mailcluster_arbiter::{Arbiter, ArbiterError, KubeArbiter, KubeArbiterConfig, SwapError};
use mailcluster_failover::{Holder, LeaseRecord};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// What the server does with the next write.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mood {
    Well,
    /// It writes, and drops the connection without an answer.
    LoseReply,
    /// It neither writes nor answers.
    Silent,
    /// It answers 500 after it has written.
    Broken,
    /// It refuses.
    Forbidden,
}

struct Server {
    lease: Mutex<Option<Value>>,
    mood: Mutex<Mood>,
    connections: Mutex<u32>,
}

impl Server {
    async fn start() -> (Arc<Self>, Arc<KubeArbiter>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let uri = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        let record = LeaseRecord::initial(vec!["aa".into()], 1);
        let lease = json!({
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
            "metadata": {"name": "demo-0", "namespace": "mail", "resourceVersion": "1",
                "finalizers": ["mailcluster.io/cleanup"], "labels": {"kept": "yes"}, "annotations": record.annotations()},
            "spec": {"holderIdentity": "", "leaseTransitions": 0},
        });
        let server = Arc::new(Self {
            lease: Mutex::new(Some(lease)),
            mood: Mutex::new(Mood::Well),
            connections: Mutex::new(0),
        });
        let accepting = server.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                *accepting.connections.lock().unwrap() += 1;
                tokio::spawn(accepting.clone().serve(stream));
            }
        });
        let config = KubeArbiterConfig {
            namespace: "mail".into(),
            lease: "demo-0".into(),
            store: "demo-0".into(),
            lease_seconds: 2,
        };
        (server, KubeArbiter::new(config, kube::Config::new(uri)))
    }

    fn mood(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
    }

    fn lease(&self) -> Value {
        self.lease.lock().unwrap().clone().unwrap()
    }

    async fn serve(self: Arc<Self>, mut stream: TcpStream) {
        while let Some((method, body)) = request(&mut stream).await {
            let mood = *self.mood.lock().unwrap();
            if mood == Mood::Silent {
                tokio::time::sleep(Duration::from_secs(60)).await;
            }
            let (mut code, mut answer) = self.answer(&method, &body, mood);
            match mood {
                Mood::LoseReply if method == "PUT" => return,
                Mood::Broken if method == "PUT" => (code, answer) = (500, status(500)),
                _ => {}
            }
            let text = answer.to_string();
            let head = format!(
                "HTTP/1.1 {code} X\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
                text.len()
            );
            if stream.write_all((head + &text).as_bytes()).await.is_err() {
                return;
            }
        }
    }

    fn answer(&self, method: &str, body: &[u8], mood: Mood) -> (u16, Value) {
        let mut lease = self.lease.lock().unwrap();
        let Some(held) = &mut *lease else { return (404, status(404)) };
        if method == "GET" {
            return (200, held.clone());
        }
        if mood == Mood::Forbidden {
            return (403, status(403));
        }
        let mut sent: Value = serde_json::from_slice(body).unwrap();
        if sent["metadata"]["resourceVersion"] != held["metadata"]["resourceVersion"] {
            return (409, status(409));
        }
        let version: u64 = held["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap();
        sent["metadata"]["resourceVersion"] = json!((version + 1).to_string());
        *held = sent.clone();
        (200, sent)
    }
}

fn status(code: u16) -> Value {
    json!({"apiVersion": "v1", "kind": "Status", "status": "Failure", "code": code, "message": "as the script says",
        "reason": match code { 404 => "NotFound", 409 => "Conflict", 403 => "Forbidden", _ => "InternalError" }})
}

async fn request(stream: &mut TcpStream) -> Option<(String, Vec<u8>)> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
    let length =
        head.split("content-length: ").nth(1).map_or(0, |l| l.split('\r').next().unwrap().parse().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    Some((head.split(' ').next().unwrap().to_ascii_uppercase(), body))
}

fn mine(record: &LeaseRecord) -> LeaseRecord {
    let mut next = record.clone();
    next.holder = Some(Holder { pod_uid: "p".into(), start_id: "s".into() });
    next.epoch += 1;
    next
}

#[tokio::test]
async fn a_swap_is_a_replace_with_the_version_that_was_read() {
    let (server, arbiter) = Server::start().await;
    let read = arbiter.current().await.unwrap();
    let next = mine(read.record.as_ref().unwrap());
    let written = arbiter.swap(&read, &next).await.unwrap();
    assert_eq!((written.record.as_ref(), written.version.as_str()), (Some(&next), "2"));
    let lease = server.lease();
    assert_eq!(lease["spec"]["holderIdentity"], "p/s");
    assert_eq!(lease["spec"]["leaseTransitions"], 1);
    assert_eq!(lease["metadata"]["labels"]["kept"], "yes", "what is not ours stays");
    assert_eq!(lease["metadata"]["finalizers"][0], "mailcluster.io/cleanup");
    assert_eq!(arbiter.swap(&read, &next).await.err(), Some(SwapError::Conflict), "A2: the version is gone");
    let again = arbiter.swap(&written, &next).await.unwrap();
    assert_eq!(again.version, "3", "a renewal needs no read");
}

#[tokio::test]
async fn a6_a_lost_reply_is_unknown_and_reading_tells() {
    let (server, arbiter) = Server::start().await;
    for mood in [Mood::LoseReply, Mood::Broken] {
        let read = arbiter.current().await.unwrap();
        let next = mine(read.record.as_ref().unwrap());
        server.mood(mood);
        let outcome = arbiter.swap(&read, &next).await;
        assert!(matches!(outcome, Err(SwapError::Unknown(_))), "{outcome:?}");
        server.mood(Mood::Well);
        let now = arbiter.current().await.unwrap();
        assert_eq!(now.record, Some(next), "it had taken place");
    }
}

#[tokio::test]
async fn f5_silence_ends_after_a_quarter_of_the_lease_and_takes_the_connection_along() {
    let (server, arbiter) = Server::start().await;
    let read = arbiter.current().await.unwrap();
    let next = mine(read.record.as_ref().unwrap());
    server.mood(Mood::Silent);
    let began = std::time::Instant::now();
    let outcome = arbiter.swap(&read, &next).await;
    assert!(matches!(outcome, Err(SwapError::Unknown(_))), "{outcome:?}");
    assert!(began.elapsed() < Duration::from_millis(1_500), "{:?}", began.elapsed());
    let before = *server.connections.lock().unwrap();
    server.mood(Mood::Well);
    assert_eq!(arbiter.current().await.unwrap().version, "1");
    assert!(*server.connections.lock().unwrap() > before, "a fresh connection");
}

#[tokio::test]
async fn refusals_and_absence_are_told_apart() {
    let (server, arbiter) = Server::start().await;
    let read = arbiter.current().await.unwrap();
    let next = mine(read.record.as_ref().unwrap());
    server.mood(Mood::Forbidden);
    assert!(matches!(arbiter.swap(&read, &next).await, Err(SwapError::Refused(_))));
    server.mood(Mood::Well);
    server.lease.lock().unwrap().as_mut().unwrap()["metadata"]["annotations"]["mailcluster.io/position"] =
        json!("x");
    assert!(
        matches!(arbiter.current().await, Err(ArbiterError::Malformed(_))),
        "nothing is decided from nonsense"
    );
    *server.lease.lock().unwrap() = None;
    assert!(arbiter.current().await.unwrap().record.is_none());
    assert_eq!(arbiter.swap(&read, &next).await.err(), Some(SwapError::Conflict));
}
