//! Running an account's script over a snapshot of the store.

use std::{
    cell::RefCell,
    sync::{Arc, LazyLock},
};

use mailcluster_message::Message;
use mailcluster_sieve::{Context, Host, Outcome};
use mailcluster_store::{ReadError, Store, View};
use mailcluster_types::{AccountId, DeliveryId};
use tokio::sync::Semaphore;

use super::{compile, ids, mail::Parsed};

/// Scripts that run at a time, in the whole process: as many as there are processors.
static RUNS: LazyLock<Semaphore> =
    LazyLock::new(|| Semaphore::new(std::thread::available_parallelism().map_or(1, usize::from)));

/// Stands between user and detail in local parts, as the directory has it.
const SEPARATOR: &str = "+";

/// What a script is to be run for.
#[derive(Clone)]
pub(crate) struct Asked {
    pub(crate) delivery: DeliveryId,
    pub(crate) account: AccountId,
    /// Of the envelope; empty for the null sender.
    pub(crate) sender: String,
    pub(crate) recipient: String,
    /// Seconds since 1970.
    pub(crate) at: i64,
    pub(crate) hostname: Arc<str>,
    pub(crate) message: Arc<Message>,
}

/// What came of it.
#[derive(Debug)]
pub(crate) enum Ran {
    /// There is no active script any more, or the account has had the delivery.
    Not,
    /// The script cannot be run at all; why, for its author.
    Broken { own: String, script: String, why: String },
    /// What it wants.
    Through { own: String, script: String, outcome: Box<Outcome> },
}

/// Runs the account's active script.
///
/// # Errors
/// When the store cannot be read.
pub(crate) async fn run(store: &Store, asked: Asked) -> Result<Ran, ReadError> {
    let _turn = RUNS.acquire().await.map_err(|_| ReadError::NotServing)?;
    store.read(move |view| run_over(view, &asked)).await
}

fn run_over(view: &View, asked: &Asked) -> Result<Ran, ReadError> {
    if view.has_delivery(asked.account, asked.delivery)? {
        return Ok(Ran::Not);
    }
    let Some((script, text)) = view.active_script(asked.account)? else { return Ok(Ran::Not) };
    let own = view.account_record(asked.account)?.map(|account| account.address).unwrap_or_default();
    let compiled = match compile(&text) {
        Ok(compiled) => compiled,
        Err(why) => return Ok(Ran::Broken { own, script, why: why.to_string() }),
    };
    let snapshot = Snapshot { view, account: asked.account, now: asked.at, failed: RefCell::new(None) };
    let domain = asked.recipient.rsplit_once('@').map_or("", |(_, domain)| domain);
    let context = Context {
        sender: &asked.sender,
        recipient: &asked.recipient,
        addresses: &[own.as_str()],
        separator: SEPARATOR,
        now: asked.at,
        environment: &[
            ("domain", domain),
            ("host", &asked.hostname),
            ("location", "MDA"),
            ("name", "mailcluster"),
            ("phase", "during"),
            ("version", env!("CARGO_PKG_VERSION")),
        ],
        host: &snapshot,
    };
    let outcome = compiled.run(&Parsed(&asked.message), &context);
    match snapshot.failed.into_inner() {
        Some(error) => Err(error),
        None => Ok(Ran::Through { own, script, outcome: Box::new(outcome) }),
    }
}

/// The account as it is in the snapshot. What cannot be read is told at the end.
struct Snapshot<'a> {
    view: &'a View,
    account: AccountId,
    now: i64,
    failed: RefCell<Option<ReadError>>,
}

impl Snapshot<'_> {
    fn ask(&self, answer: Result<bool, ReadError>) -> bool {
        answer.unwrap_or_else(|error| {
            self.failed.replace(Some(error));
            false
        })
    }
}

impl Host for Snapshot<'_> {
    fn mailbox_exists(&self, name: &str) -> bool {
        self.ask(self.view.mailbox_by_name(self.account, name).map(|found| found.is_some()))
    }

    fn mailbox_id_exists(&self, _: &str) -> bool {
        false
    }

    fn seen(&self, handle: &str, id: &[u8]) -> bool {
        self.ask(self.view.is_seen(self.account, &ids::duplicate(handle, id), self.now))
    }
}
