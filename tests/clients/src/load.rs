//! A background load that writes down what it was promised, and the reading back that it is compared with.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};

use crate::{Counts, Found, ImapClient, Ledger, Outcome, Pop3Client, SendOutcome, SmtpClient, Tls, message};

/// What to send where.
#[derive(Debug, Clone)]
pub struct LoadPlan {
    /// The server.
    pub addr: SocketAddr,
    /// Speak LMTP instead of SMTP.
    pub lmtp: bool,
    /// Accounts that get mail in turn; every fifth message goes to two of them.
    pub recipients: Vec<String>,
    /// Parallel senders.
    pub threads: usize,
    /// Octets of each body.
    pub size: usize,
    /// Pause between two messages of one sender.
    pub pause: Duration,
    /// How long to wait for an answer.
    pub timeout: Duration,
    /// Makes tokens of several loads differ.
    pub name: String,
}

/// A running load.
pub struct Load {
    stop: Arc<AtomicBool>,
    ledger: Arc<Mutex<Ledger>>,
    gap: Arc<Mutex<Gap>>,
    threads: Vec<JoinHandle<()>>,
}

/// The longest time without an accepted message.
#[derive(Debug, Clone, Copy)]
struct Gap {
    last: Instant,
    longest: Duration,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Load {
    /// Starts sending.
    #[must_use]
    pub fn start(plan: &LoadPlan) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let ledger = Arc::new(Mutex::new(Ledger::default()));
        let gap = Arc::new(Mutex::new(Gap { last: Instant::now(), longest: Duration::ZERO }));
        let number = Arc::new(AtomicU64::new(0));
        let threads = (0..plan.threads)
            .map(|_| {
                let (plan, stop, ledger, gap) = (plan.clone(), stop.clone(), ledger.clone(), gap.clone());
                let number = number.clone();
                std::thread::spawn(move || {
                    let mut session = None;
                    while !stop.load(Ordering::Relaxed) {
                        attempt(&plan, &mut session, number.fetch_add(1, Ordering::Relaxed), &ledger, &gap);
                        std::thread::sleep(plan.pause);
                    }
                })
            })
            .collect();
        Self { stop, ledger, gap, threads }
    }

    /// Messages accepted so far.
    #[must_use]
    pub fn accepted(&self) -> usize {
        lock(&self.ledger).accepted()
    }

    /// What has been promised so far.
    #[must_use]
    pub fn snapshot(&self) -> Ledger {
        lock(&self.ledger).clone()
    }

    /// Counts what has been promised so far, from any thread.
    pub fn counter(&self) -> impl Fn() -> Counts + Send + 'static {
        let ledger = self.ledger.clone();
        move || lock(&ledger).counts()
    }

    /// The longest time without an accepted message so far.
    #[must_use]
    pub fn longest_gap(&self) -> Duration {
        lock(&self.gap).longest
    }

    /// Stops, and answers what was promised.
    #[must_use]
    pub fn finish(self) -> Ledger {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            let _panicked = thread.join();
        }
        let ledger = lock(&self.ledger);
        ledger.clone()
    }
}

fn attempt(
    plan: &LoadPlan,
    session: &mut Option<SmtpClient>,
    number: u64,
    ledger: &Mutex<Ledger>,
    gap: &Mutex<Gap>,
) {
    let token = format!("{}-{number}", plan.name);
    let count = plan.recipients.len();
    let first = usize::try_from(number).unwrap_or(0) % count.max(1);
    let mut to = vec![plan.recipients[first].as_str()];
    if number % 5 == 4 && count > 1 && !plan.lmtp {
        to.push(plan.recipients[(first + 1) % count].as_str());
    }
    let connected = match session.take() {
        Some(open) => Ok(open),
        None if plan.lmtp => SmtpClient::lmtp(plan.addr, plan.timeout),
        None => SmtpClient::connect(plan.addr, Tls::None, plan.timeout),
    };
    let Ok(mut client) = connected else { return };
    let sent = client.send("sender@elsewhere.test", &to, &message(&token, plan.size));
    let outcome = match &sent {
        SendOutcome::Accepted(_) => Outcome::Accepted,
        SendOutcome::Refused(_) | SendOutcome::Failed(_) => Outcome::Refused,
        SendOutcome::Ambiguous(_) => Outcome::Ambiguous,
    };
    for rcpt in to {
        lock(ledger).record(&token, rcpt, outcome);
    }
    if outcome == Outcome::Accepted {
        let mut gap = lock(gap);
        gap.longest = gap.longest.max(gap.last.elapsed());
        gap.last = Instant::now();
        *session = Some(client);
    }
}

/// Reads every account's INBOX over IMAP: every copy, compared with what was sent.
///
/// # Errors
/// When an account cannot be read or a message has no token.
pub fn collect_imap(addr: SocketAddr, tls: Tls, accounts: &[String], password: &str) -> Result<Vec<Found>> {
    let mut found = Vec::new();
    for account in accounts {
        let mut client = ImapClient::login(addr, tls, Duration::from_secs(60), account, password)?;
        for fetched in client.fetch_all("INBOX").with_context(|| format!("INBOX of {account}"))? {
            let copy = Found::read(account, &fetched.body);
            found.push(copy.with_context(|| format!("UID {} of {account}", fetched.uid))?);
        }
    }
    Ok(found)
}

/// The same over POP3.
///
/// # Errors
/// As [`collect_imap`].
pub fn collect_pop3(addr: SocketAddr, tls: Tls, accounts: &[String], password: &str) -> Result<Vec<Found>> {
    let mut found = Vec::new();
    for account in accounts {
        let mut client = Pop3Client::login(addr, tls, Duration::from_secs(60), account, password)?;
        for body in client.retrieve_all().with_context(|| format!("POP3 of {account}"))? {
            found.push(Found::read(account, &body).with_context(|| account.clone())?);
        }
    }
    Ok(found)
}
