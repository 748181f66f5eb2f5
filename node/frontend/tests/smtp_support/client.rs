//! A client of few words.

use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, DuplexStream};

pub struct Smtp {
    stream: BufReader<DuplexStream>,
    /// How long to wait for a reply.
    pub patience: Duration,
}

impl Smtp {
    pub fn new(stream: DuplexStream) -> Self {
        Self { stream: BufReader::new(stream), patience: Duration::from_secs(30) }
    }

    /// Writes octets as they are.
    pub async fn send(&mut self, octets: &[u8]) {
        self.stream.get_mut().write_all(octets).await.unwrap();
    }

    /// One whole reply, lines joined by `\n`.
    pub async fn reply(&mut self) -> String {
        let mut all = Vec::new();
        loop {
            let mut line = String::new();
            let read = tokio::time::timeout(self.patience, self.stream.read_line(&mut line)).await;
            assert!(read.expect("a reply in time").unwrap() > 0, "closed instead of a reply");
            let line = line.strip_suffix("\r\n").expect("a line that ends with CRLF").to_owned();
            let last = line.as_bytes().get(3) != Some(&b'-');
            all.push(line);
            if last {
                return all.join("\n");
            }
        }
    }

    /// A command and its reply.
    pub async fn say(&mut self, command: &str) -> String {
        self.send(format!("{command}\r\n").as_bytes()).await;
        self.reply().await
    }

    /// A command whose reply must start so.
    pub async fn expect(&mut self, command: &str, start: &str) -> String {
        let reply = self.say(command).await;
        assert!(reply.starts_with(start), "{command:?} got {reply:?}, not {start:?}");
        reply
    }

    /// A transaction up to 354.
    pub async fn envelope(&mut self, from: &str, to: &[&str]) {
        self.expect(&format!("MAIL FROM:<{from}>"), "250 ").await;
        for to in to {
            self.expect(&format!("RCPT TO:<{to}>"), "250 ").await;
        }
        self.expect("DATA", "354 ").await;
    }

    /// A whole message; answers the last reply.
    pub async fn mail(&mut self, from: &str, to: &[&str], text: &str) -> String {
        self.envelope(from, to).await;
        self.say(&format!("{text}\r\n.")).await
    }

    /// The same, but the session must be closed without a reply.
    pub async fn mail_without_answer(&mut self, from: &str, to: &[&str], text: &str) {
        self.envelope(from, to).await;
        self.send(format!("{text}\r\n.\r\n").as_bytes()).await;
        self.closed().await;
    }

    /// Nothing more comes.
    pub async fn closed(&mut self) {
        let mut rest = String::new();
        let read = tokio::time::timeout(self.patience, self.stream.read_to_string(&mut rest)).await;
        read.expect("the end in time").unwrap();
        assert_eq!(rest, "", "the session ends without another word");
    }
}

/// The delivery id told in a 250.
pub fn id_in(reply: &str) -> mailcluster_types::DeliveryId {
    let id = reply.split("id=").nth(1).unwrap_or_else(|| panic!("no id in {reply:?}"));
    id.split_whitespace().next().unwrap().parse().unwrap()
}
