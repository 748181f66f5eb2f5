//! What the demo and the end-to-end tests do to a cluster.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use mailcluster_test_clients::{
    ImapClient, Ledger, Load, LoadPlan, Tls, Verdict, collect_imap, collect_pop3,
};
use serde_json::Value;

use crate::{
    layout::PASSWORD,
    site::{SYSTEM, Site, wait_for},
    stores::describe_change,
};

/// The domain that is made.
pub const DOMAIN: &str = "example.test";
/// How long a client waits for an answer: shorter than a dead node's silence.
const CLIENT: Duration = Duration::from_secs(15);

/// Told what happens.
pub type Say<'a> = &'a dyn Fn(&str);

/// An account and the store it is on.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Placed {
    /// The address.
    pub address: String,
    /// The store.
    pub store: String,
}

impl Site {
    /// Makes the domain and two accounts on every mail store.
    ///
    /// # Errors
    /// When the admin command fails.
    pub fn make_accounts(&self, say: Say<'_>) -> Result<Vec<Placed>> {
        self.admin(&["domain", "add", DOMAIN], "")?;
        let mut made = Vec::new();
        let stores: Vec<_> = self.stores()?.into_iter().filter(|store| store.kind == "Mail").collect();
        for (number, store) in stores.iter().flat_map(|store| [store, store]).enumerate() {
            let address = format!("user{number}@{DOMAIN}");
            self.admin(
                &["account", "add", &address, "--store", &store.name, "--password-file", "-"],
                PASSWORD,
            )?;
            made.push(Placed { address, store: store.name.clone() });
        }
        say(&format!("{} accounts on {} stores", made.len(), stores.len()));
        Ok(made)
    }

    /// Powers a node off that carries a mail store; answers the seconds until its users were served again.
    ///
    /// # Errors
    /// When they are not within five minutes.
    pub fn pull_the_plug(&self, say: Say<'_>, accounts: &[Placed], victim: &str) -> Result<f64> {
        let leader = self.leader()?;
        let leading = if self.node_of(SYSTEM, &leader)? == victim { "the operator's leader, " } else { "" };
        let lost: Vec<_> = self.stores()?.into_iter().filter(|store| store.host == victim).collect();
        let names: Vec<&str> = lost.iter().map(|store| store.name.as_str()).collect();
        let store =
            lost.iter().find(|store| store.kind == "Mail").context("the victim carries no mail store")?;
        let user = accounts.iter().find(|account| account.store == store.name);
        let user = user.context("no account on the lost store")?.address.clone();
        say(&format!("POWER OFF {victim}: it carries {leading}{}", names.join(" and ")));
        let start = Instant::now();
        self.lab.power_off(victim)?;
        let (port, epoch) = (self.port(993)?, store.epoch);
        let mut before = self.stores()?;
        let served = wait_for("the lost store's users are served", Duration::from_secs(300), || {
            let now = self.stores()?;
            for (old, new) in before.iter().zip(&now) {
                if let Some(change) = describe_change(old, new) {
                    say(&change);
                }
            }
            before = now;
            let moved = before.iter().any(|view| view.name == store.name && view.epoch > epoch);
            Ok((moved && reads(port, &user)).then(|| start.elapsed().as_secs_f64()))
        })?;
        say(&format!("{user} is served again after {served:.1} s; the leader is {}", self.leader()?));
        wait_for("the directory serves", Duration::from_secs(120), || {
            let directory = self.stores()?.into_iter().find(|view| view.kind == "Directory");
            Ok(directory.filter(|view| view.phase == "Serving" && view.host != victim))
        })?;
        Ok(served)
    }

    /// Waits until nothing is queued any more.
    ///
    /// # Errors
    /// When something still waits after three minutes.
    pub fn drain_queues(&self, say: Say<'_>) -> Result<()> {
        wait_for("every queue is empty", Duration::from_secs(180), || {
            let text = self.admin(&["queue", "list", "-o", "json"], "")?;
            let waiting = waiting(&serde_json::from_str(&text)?)?;
            if waiting > 0 {
                bail!("{waiting} messages wait");
            }
            Ok(Some(()))
        })?;
        say("every queue is empty: what was handed off has been delivered");
        Ok(())
    }

    /// Starts sending to these addresses through the Service.
    ///
    /// # Errors
    /// When the Service has no address.
    pub fn load(&self, name: &str, addresses: &[String]) -> Result<Load> {
        Ok(Load::start(&LoadPlan {
            addr: self.port(25)?,
            lmtp: false,
            recipients: addresses.to_vec(),
            threads: 4,
            size: 2048,
            pause: Duration::from_millis(50),
            timeout: CLIENT,
            name: name.to_owned(),
        }))
    }

    /// Expunges what an earlier run has left in the mailboxes.
    ///
    /// # Errors
    /// When a mailbox cannot be emptied.
    pub fn empty_mailboxes(&self, addresses: &[String]) -> Result<()> {
        for address in addresses {
            let port = self.port(993)?;
            let mut client = ImapClient::login(port, Tls::Implicit, CLIENT, address, PASSWORD)?;
            client.ok("SELECT INBOX")?;
            client.ok("UID STORE 1:* +FLAGS.SILENT (\\Deleted)")?;
            client.ok("EXPUNGE")?;
        }
        Ok(())
    }

    /// Reads everything over IMAP and POP3, which must agree, and compares it with what was promised.
    ///
    /// # Errors
    /// When something cannot be read, or the two differ.
    pub fn read_back(&self, ledger: &Ledger, addresses: &[String]) -> Result<Verdict> {
        let by_imap = collect_imap(self.port(993)?, Tls::Implicit, addresses, PASSWORD)?;
        let by_pop3 = collect_pop3(self.port(995)?, Tls::Implicit, addresses, PASSWORD)?;
        let (mut one, mut two) = (by_imap.clone(), by_pop3);
        one.sort();
        two.sort();
        if one != two {
            bail!("IMAP shows {} messages and POP3 {}, or other ones", one.len(), two.len());
        }
        Ok(ledger.compare(&by_imap))
    }
}

/// How many recipients wait, by `queue list -o json`; an error as long as a store has not told.
fn waiting(queue: &Value) -> Result<usize> {
    let unreachable = queue["unreachableStores"].as_array().context("no unreachableStores")?;
    if !unreachable.is_empty() {
        bail!("did not answer: {unreachable:?}");
    }
    let entries = queue["entries"].as_array().context("no entries")?;
    let recipients = entries.iter().flat_map(|entry| entry["recipients"].as_array().into_iter().flatten());
    Ok(recipients.filter(|recipient| recipient["held"] != true).count())
}

/// Can this user log in and select INBOX?
#[must_use]
pub fn reads(port: SocketAddr, user: &str) -> bool {
    let login = ImapClient::login(port, Tls::Implicit, Duration::from_secs(5), user, PASSWORD);
    login.and_then(|mut client| client.ok("SELECT INBOX")).is_ok()
}

/// Reads everyone's INBOX in turn, all the time.
#[derive(Debug)]
pub struct Reader {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
    failed: Arc<AtomicU64>,
    thread: JoinHandle<()>,
}

impl Reader {
    /// Starts reading.
    #[must_use]
    pub fn start(port: SocketAddr, users: &[String]) -> Self {
        let (stop, done, failed) = <(Arc<AtomicBool>, Arc<AtomicU64>, Arc<AtomicU64>)>::default();
        let (stopped, good, bad, users) = (stop.clone(), done.clone(), failed.clone(), users.to_vec());
        let thread = std::thread::spawn(move || {
            for user in users.iter().cycle() {
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                let counter = if reads(port, user) { &good } else { &bad };
                counter.fetch_add(1, Ordering::Relaxed);
            }
        });
        Self { stop, done, failed, thread }
    }

    /// Stops; answers how often it read, and how often it could not.
    #[must_use]
    pub fn finish(self) -> (u64, u64) {
        self.stop.store(true, Ordering::Relaxed);
        let _panicked = self.thread.join();
        (self.done.load(Ordering::Relaxed), self.failed.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_queue_is_empty_only_when_every_store_says_so() {
        let entry = |held: bool| json!({"recipients": [{"address": "a@x", "held": held}]});
        let list = |entries: Value, away: Value| json!({"entries": entries, "unreachableStores": away});
        assert_eq!(waiting(&list(json!([]), json!([]))).unwrap(), 0);
        assert_eq!(waiting(&list(json!([entry(true), entry(false)]), json!([]))).unwrap(), 1);
        assert!(waiting(&list(json!([]), json!(["demo-0"]))).is_err());
        assert!(waiting(&json!({"items": []})).is_err());
    }
}
