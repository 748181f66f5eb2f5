//! Sessions in the process that serves: each change is acknowledged by its receipt, or not at all.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use mailcluster_arbiter::StatusHandle;
use mailcluster_store::{
    Account, Delivered, Delivery, DeliveryTarget, Expunge, FlagChange, FlagOp, Flags, Receipt, Store,
    SystemFlag, WriteError, testing::Rng,
};
use mailcluster_types::{AccountId, DeliveryId, StoreName};
use tokio_util::sync::CancellationToken;

use crate::{
    STORE,
    ledger::{Change, LENGTHS, Ledger, text_of},
    net::Place,
};

/// So many have mail.
pub const ACCOUNTS: u128 = 2;
/// Sessions of each process that serves.
const SESSIONS: u64 = 3;
/// When mail is sent, in seconds since 1970: not so long ago that its id would be forgotten.
const NOW: i64 = 1_800_000_000;
/// A client waits no longer for an answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// What the clients of all processes share.
#[derive(Clone)]
pub struct Clients {
    pub ledger: Ledger,
    /// Nobody asks for anything any more.
    pub are_quiet: Arc<AtomicBool>,
    /// Old state is never read: no clock jumps.
    pub read_at_once: bool,
}

/// The process whose clients they are.
#[derive(Clone)]
pub struct Host {
    pub place: Place,
    pub process: u64,
    pub status: StatusHandle,
    /// Frontends do not reach it.
    pub is_cut: Arc<AtomicBool>,
}

impl Clients {
    /// The store serves.
    pub fn come(&self, host: &Host, store: &Store, over: &CancellationToken, rng: &mut Rng) {
        for n in 0..SESSIONS {
            let session = Session {
                clients: self.clone(),
                host: host.clone(),
                store: store.clone(),
                over: over.clone(),
                rng: Rng::new(rng.next()),
                // The last one does not hear that it is over.
                is_stubborn: n + 1 == SESSIONS,
            };
            tokio::spawn(session.run());
        }
    }
}

struct Session {
    clients: Clients,
    host: Host,
    store: Store,
    over: CancellationToken,
    rng: Rng,
    is_stubborn: bool,
}

pub fn account(n: u128) -> Account {
    Account {
        id: AccountId(n),
        address: format!("user{n}@example.org"),
        store: StoreName::from(STORE),
        generation: 1,
        password_hash: String::new(),
        quota_octets: 0,
        used_octets: 0,
        suspended: false,
        pending: false,
        tombstone: false,
    }
}

impl Session {
    async fn run(mut self) {
        for n in 1..=ACCOUNTS {
            // Refused where it is there already.
            let put = self.store.put_account(account(n));
            let _ = tokio::time::timeout(PATIENCE, put).await;
        }
        while self.is_stubborn || !self.over.is_cancelled() {
            let pause = 20 + self.rng.below(200);
            tokio::time::sleep(Duration::from_millis(u64::try_from(pause).unwrap())).await;
            // Clients come by frontends.
            if self.host.is_cut.load(Ordering::Relaxed) {
                continue;
            }
            self.host.status.heard();
            if self.clients.are_quiet.load(Ordering::Relaxed) {
                continue;
            }
            match self.rng.below(20) {
                0..10 => self.deliver().await,
                10..14 => self.flag().await,
                14..16 => self.expunge().await,
                _ => self.read().await,
            }
        }
    }

    async fn deliver(&mut self) {
        let ledger = self.clients.ledger.clone();
        let (account, id) = match ledger.some_open(&mut self.rng) {
            // Sent again by somebody who got no answer.
            Some(open) if self.rng.one_in(4) => open,
            _ => {
                let account = 1 + u128::from(self.rng.next()) % ACCOUNTS;
                (account, DeliveryId(u128::from(self.rng.next()) << 64 | u128::from(self.rng.next())))
            }
        };
        let body = text_of(id, *self.rng.pick(&LENGTHS));
        let target = DeliveryTarget {
            account: AccountId(account),
            recipient: format!("user{account}@example.org"),
            mailbox: "INBOX".into(),
            filing: None,
            prefix: Bytes::new(),
        };
        let delivery = Delivery {
            id,
            sender: String::new(),
            at: NOW,
            body: body.into(),
            met: String::new(),
            targets: vec![target],
        };
        let change = Change::Deliver(id, account);
        ledger.asked(&change);
        let store = self.store.clone();
        if let Some(delivered) = self.answered(store.deliver(delivery)).await {
            match delivered.as_slice() {
                [Delivered::Stored { mailbox, uid }] => {
                    ledger.named(*mailbox, *uid, id);
                    ledger.done(&change);
                }
                [Delivered::Duplicate] => ledger.done(&change),
                // Its account is not there yet.
                _ => {}
            }
        }
    }

    async fn flag(&mut self) {
        let ledger = self.clients.ledger.clone();
        let Some((mailbox, uid, id)) = ledger.some_message(&mut self.rng) else { return };
        let flags = Flags { system: SystemFlag::Seen as u8, ..Flags::default() };
        let change = FlagChange { mailbox, uids: vec![uid], op: FlagOp::Add, flags, unchanged_since: None };
        ledger.asked(&Change::Seen(id));
        let store = self.store.clone();
        if let Some(changed) = self.answered(store.set_flags(change)).await
            && changed.now.iter().any(|(changed, ..)| *changed == uid)
        {
            ledger.done(&Change::Seen(id));
        }
    }

    async fn expunge(&mut self) {
        let ledger = self.clients.ledger.clone();
        let Some((mailbox, uid, id)) = ledger.some_message(&mut self.rng) else { return };
        ledger.asked(&Change::Expunge(id));
        let store = self.store.clone();
        // A replica that another has deposed without its knowledge may not have the message yet: OK, and nothing is gone.
        if let Some(gone) = self.answered(store.expunge(mailbox, Expunge::These(vec![uid]))).await
            && gone.contains(&uid)
        {
            ledger.done(&Change::Expunge(id));
        }
    }

    /// The one way in which anything is acknowledged.
    async fn answered<T>(&self, change: impl Future<Output = Result<Receipt<T>, WriteError>>) -> Option<T> {
        let ledger = &self.clients.ledger;
        let receipt = match tokio::time::timeout(PATIENCE, change).await {
            Ok(Ok(receipt)) => receipt,
            Ok(Err(WriteError::Refused(_))) => return None,
            Ok(Err(_)) | Err(_) => {
                ledger.unknown();
                return None;
            }
        };
        let at = receipt.position();
        let Ok(value) = receipt.acknowledge() else {
            ledger.unknown();
            return None;
        };
        ledger.acknowledged((self.host.place, self.host.process), at);
        Some(value)
    }

    async fn read(&mut self) {
        let account = 1 + u128::from(self.rng.next()) % ACCOUNTS;
        let Ok(Some(inbox)) =
            self.store.read(move |view| view.mailbox_by_name(AccountId(account), "INBOX")).await
        else {
            return;
        };
        let expected = self.clients.ledger.expect(account, inbox.id);
        let which = usize::try_from(self.rng.next() % 1_000).unwrap_or(0);
        let both = self.store.read(move |view| {
            let inbox = view.mailbox_by_name(AccountId(account), "INBOX")?;
            let id = inbox.as_ref().map_or(0, |inbox| inbox.id);
            let messages = view.messages(id, 1, u32::MAX)?;
            let one = (!messages.is_empty()).then(|| &messages[which % messages.len()]);
            let text = one.and_then(|one| Some((one.delivery?, view.body(one.body))));
            Ok((inbox, messages, text))
        });
        if let Ok((Some(inbox), messages, text)) = both.await {
            if let Some((id, text)) = text {
                self.clients.ledger.text(id, text.as_deref());
            }
            self.clients.ledger.read(&expected, &inbox, &messages, self.clients.read_at_once);
        }
    }
}
