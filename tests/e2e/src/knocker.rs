//! Whether anybody is turned away at the door: a new connection through the Service every few milliseconds.

use std::{
    io::{BufRead, BufReader},
    net::{SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use anyhow::{Result, ensure};

/// Between two tries.
const PAUSE: Duration = Duration::from_millis(20);
/// Slow is not turned away.
const PATIENCE: Duration = Duration::from_secs(20);

/// Connects and reads the greeting, again and again.
#[derive(Debug)]
pub struct Knocker {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Knocked>,
}

/// What came of it.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Knocked {
    /// How often a greeting came.
    pub greeted: u64,
    /// Why none came, each time.
    pub turned_away: Vec<String>,
}

impl Knocker {
    /// Starts knocking at a port that greets with `220`.
    #[must_use]
    pub fn start(port: SocketAddr) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            let mut knocked = Knocked::default();
            while !stopped.load(Ordering::Relaxed) {
                match knock(port) {
                    Ok(()) => knocked.greeted += 1,
                    Err(error) => knocked.turned_away.push(format!("{error:#}")),
                }
                std::thread::sleep(PAUSE);
            }
            knocked
        });
        Self { stop, thread }
    }

    /// Stops.
    #[must_use]
    pub fn finish(self) -> Knocked {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap_or_default()
    }
}

fn knock(port: SocketAddr) -> Result<()> {
    let stream = TcpStream::connect_timeout(&port, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut greeting = String::new();
    BufReader::new(stream).read_line(&mut greeting)?;
    ensure!(greeting.starts_with("220"), "greeted with {:?}", greeting.trim_end());
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{io::Write, net::TcpListener};

    use super::*;

    #[test]
    fn who_is_not_greeted_was_turned_away() -> Result<()> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let port = listener.local_addr()?;
        let server = std::thread::spawn(move || {
            for line in ["220 come in\r\n", "421 not now\r\n", ""] {
                let _sent = listener.accept().map(|(mut stream, _)| stream.write_all(line.as_bytes()));
            }
        });
        assert!(knock(port).is_ok());
        assert_eq!(knock(port).map_err(|e| e.to_string()), Err("greeted with \"421 not now\"".to_owned()));
        assert!(knock(port).is_err(), "closed without a word");
        assert!(server.join().is_ok());
        assert!(knock(port).is_err(), "nobody listens");
        Ok(())
    }
}
