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
    site::{Site, wait_for},
    stores::StoreView,
};

/// The domain that is made.
pub const DOMAIN: &str = "example.test";
/// How long a client waits for an answer: shorter than a dead node's silence.
const CLIENT: Duration = Duration::from_secs(15);

/// For how long that is tried: see [`Site::read_back`].
const READ_BACK: Duration = Duration::from_secs(60);

/// The longest try to read after a loss.
const TRY: Duration = Duration::from_secs(2);

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

/// What is lost with a node.
#[derive(Debug)]
pub struct Loss {
    /// The node.
    pub node: String,
    /// Its stores, as they were.
    pub stores: Vec<StoreView>,
    /// Somebody on each of its mail stores.
    pub users: Vec<Placed>,
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

    /// What is lost with this node.
    ///
    /// # Errors
    /// When it carries no mail store with an account.
    pub fn loss(&self, accounts: &[Placed], node: &str) -> Result<Loss> {
        let stores = self.stores_on(node)?;
        let on_it = |store: &&StoreView| accounts.iter().find(|account| account.store == store.name);
        let users: Vec<_> = stores.iter().filter_map(|store| on_it(&store)).cloned().collect();
        if users.is_empty() {
            bail!("{node} carries no mail store with an account");
        }
        Ok(Loss { node: node.to_owned(), stores, users })
    }

    /// Waits until somebody of each lost store can read again; answers the seconds since `cut`. Then the directory, too,
    /// and every lost store at a higher epoch elsewhere.
    ///
    /// # Errors
    /// When they are not within five minutes.
    pub fn wait_served(&self, say: Say<'_>, loss: &Loss, cut: Instant) -> Result<f64> {
        let port = self.port(993)?;
        let mut waiting: Vec<&Placed> = loss.users.iter().collect();
        let served = wait_for("the lost stores' users are served", Duration::from_secs(300), || {
            // A short try: what hangs on a dead node must not hide that another try would succeed.
            waiting.retain(|user| read(port, &user.address, TRY).is_err());
            Ok(waiting.is_empty().then(|| cut.elapsed().as_secs_f64()))
        })?;
        let users: Vec<_> = loss.users.iter().map(|user| user.address.as_str()).collect();
        say(&format!("served again: {} after {served:.1} s", users.join(" and ")));
        self.wait_elsewhere(&loss.stores)?;
        Ok(served)
    }

    /// The stores that a node carries.
    ///
    /// # Errors
    /// When the API doesn't answer.
    pub fn stores_on(&self, node: &str) -> Result<Vec<StoreView>> {
        Ok(self.stores()?.into_iter().filter(|store| store.host == node).collect())
    }

    /// Waits until each of these stores serves at a higher epoch, on another node than then.
    ///
    /// # Errors
    /// When they do not within two minutes.
    pub fn wait_elsewhere(&self, lost: &[StoreView]) -> Result<()> {
        wait_for("every lost store serves elsewhere", Duration::from_secs(120), || {
            let now = self.stores()?;
            let moved = |old: &StoreView| {
                let new = now.iter().find(|new| new.name == old.name);
                new.is_some_and(|new| new.epoch > old.epoch && new.host != old.host && new.phase == "Serving")
            };
            Ok(lost.iter().all(moved).then_some(()))
        })
    }

    /// Waits until nothing is queued any more.
    ///
    /// # Errors
    /// When something still waits after three minutes.
    pub fn drain_queues(&self, say: Say<'_>) -> Result<()> {
        let mut before = 0;
        wait_for("every queue is empty", Duration::from_secs(180), || {
            let text = self.admin(&["queue", "list", "-o", "json"], "")?;
            let waiting = waiting(&serde_json::from_str(&text)?)?;
            if waiting != before {
                say(&format!("{waiting} copies wait in queues"));
                before = waiting;
            }
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
        let port = self.port(993)?;
        let empty = |address: &str| -> Result<()> {
            let mut client = ImapClient::login(port, Tls::Implicit, CLIENT, address, PASSWORD)?;
            client.ok("SELECT INBOX")?;
            client.ok("UID STORE 1:* +FLAGS.SILENT (\\Deleted)")?;
            client.ok("EXPUNGE").map(drop)
        };
        for address in addresses {
            wait_for("the mailbox is emptied", READ_BACK, || empty(address).map(Some))?;
        }
        Ok(())
    }

    /// Reads everything over IMAP and POP3, which must agree, and compares it with what was promised.
    ///
    /// Whoever is not let in tries again: after a time without an API, Kubernetes takes all nodes for lost until their
    /// kubelets have said otherwise, and the Service has no frontend for a moment.
    ///
    /// # Errors
    /// When something cannot be read within a minute, or the two differ.
    pub fn read_back(&self, ledger: &Ledger, addresses: &[String]) -> Result<Verdict> {
        let (imap, pop3) = (self.port(993)?, self.port(995)?);
        let (by_imap, by_pop3) = wait_for("everybody's mail can be read", READ_BACK, || {
            let by_imap = collect_imap(imap, Tls::Implicit, addresses, PASSWORD)?;
            Ok(Some((by_imap, collect_pop3(pop3, Tls::Implicit, addresses, PASSWORD)?)))
        })?;
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
    read(port, user, Duration::from_secs(5)).is_ok()
}

/// Logs this user in and selects INBOX, waiting so long for each answer.
///
/// # Errors
/// When that fails.
pub fn read(port: SocketAddr, user: &str, limit: Duration) -> Result<()> {
    let login = ImapClient::login(port, Tls::Implicit, limit, user, PASSWORD);
    login.and_then(|mut client| client.ok("SELECT INBOX")).map(drop)
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

    /// Counts from any thread: how often it read, and how often it could not.
    pub fn counter(&self) -> impl Fn() -> (u64, u64) + Send + 'static {
        let (done, failed) = (self.done.clone(), self.failed.clone());
        move || (done.load(Ordering::Relaxed), failed.load(Ordering::Relaxed))
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
