//! Connections that wait a short while for the next message to the same host: most of what a message costs is the way to its
//! first command.

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use crate::{demand::Demand, session::Connection};

/// Connections that wait at once.
const MOST: usize = 100;
/// Messages that one connection carries.
const MESSAGES: u32 = 100;

/// For which messages a connection is good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) address: SocketAddr,
    /// The name that a certificate was compared with.
    pub(crate) host: String,
    pub(crate) demand: Demand,
    /// Who is logged in.
    pub(crate) credentials: Option<PathBuf>,
}

/// Those that wait.
pub(crate) struct Idle {
    patience: Duration,
    waiting: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    next: u64,
    connections: Vec<(u64, Place, Connection)>,
}

impl Idle {
    /// They wait for so long; with nothing of it, not at all.
    pub(crate) fn new(patience: Duration) -> Arc<Self> {
        Arc::new(Self { patience, waiting: Mutex::default() })
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The one that has waited least.
    pub(crate) fn take(&self, place: &Place) -> Option<Connection> {
        let mut waiting = self.waiting();
        let at = waiting.connections.iter().rposition(|(_, of, _)| of == place)?;
        Some(waiting.connections.remove(at).2)
    }

    /// One whose message was taken.
    pub(crate) async fn put(self: &Arc<Self>, place: Place, connection: Connection) {
        let is_good = connection.is_ready() && connection.messages() < MESSAGES && !self.patience.is_zero();
        match self.kept(is_good, place, connection) {
            Ok(id) => {
                let this = self.clone();
                tokio::spawn(async move {
                    tokio::time::sleep(this.patience).await;
                    let late = this.by_id(id);
                    if let Some(connection) = late {
                        connection.quit().await;
                    }
                });
            }
            Err(connection) => connection.quit().await,
        }
    }

    fn kept(&self, is_good: bool, place: Place, connection: Connection) -> Result<u64, Connection> {
        let mut waiting = self.waiting();
        if !is_good || waiting.connections.len() >= MOST {
            return Err(connection);
        }
        waiting.next += 1;
        let id = waiting.next;
        waiting.connections.push((id, place, connection));
        Ok(id)
    }

    fn by_id(&self, id: u64) -> Option<Connection> {
        let mut waiting = self.waiting();
        let at = waiting.connections.iter().position(|(of, ..)| *of == id)?;
        Some(waiting.connections.remove(at).2)
    }
}
