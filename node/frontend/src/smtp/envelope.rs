//! MAIL and RCPT: who may send, who may receive.

use std::time::SystemTime;

use mailcluster_lmtp::{Checked, Recipient, Wishes};
use mailcluster_proto_smtp::{MailParams, Path, RcptDsn, RcptParams, Reply};
use mailcluster_screen::Kind;
use mailcluster_types::{AccountStatus, Address, DeliveryId, Resolution, ResolvedAccount};

use super::{
    Service,
    deliver::Item,
    metrics,
    session::{OUT_OF_ORDER, Session},
};

pub(super) const TRY_AGAIN: Reply = Reply::new(451, "4.3.0 cannot be answered now, try again");

/// The open transaction.
pub(super) struct Envelope {
    /// Drawn once; with each account the key by which stores know a second copy.
    pub(super) id: DeliveryId,
    /// Empty for the null sender.
    pub(super) sender: String,
    pub(super) size: u64,
    pub(super) utf8: bool,
    /// What is to be delivered, each account once whatever number of recipients lead to it.
    pub(super) items: Vec<Item>,
    /// Accepted recipients as sent.
    pub(super) recipients: Vec<String>,
    /// What the sender asks for its reports (RFC 3461).
    pub(super) wishes: Wishes,
    /// What was made of the message.
    pub(super) checked: Checked,
}

impl Envelope {
    pub(super) fn lmtp(&self, size: u64) -> mailcluster_lmtp::Envelope {
        mailcluster_lmtp::Envelope {
            delivery: self.id,
            sender: self.sender.clone(),
            size,
            utf8: self.utf8 || self.recipients.iter().any(|r| !r.is_ascii()),
            wishes: self.wishes.clone(),
            checked: self.checked.clone(),
        }
    }

    fn add(&mut self, item: Item, dsn: &RcptDsn) {
        let known = match &item {
            Item::Account { account, .. } => self.items.iter().any(|i| i.account() == Some(*account)),
            Item::Out { address, .. } => {
                self.items.iter().any(|i| matches!(i, Item::Out { address: other, .. } if other == address))
            }
            Item::Held { .. } => false,
        };
        if !known {
            if !dsn.is_empty() {
                self.wishes.recipients.insert(item.address().to_owned(), dsn.clone());
            }
            self.items.push(item);
        }
    }
}

/// A refusal and what it is counted as.
pub(super) type Refused = (Reply, &'static str);

impl Session {
    pub(super) async fn mail(&mut self, path: Path, params: MailParams) -> Reply {
        if self.hello.is_none() || self.envelope.is_some() {
            return OUT_OF_ORDER;
        }
        match self.open(path, params).await {
            Ok(envelope) => {
                self.envelope = Some(envelope);
                self.stores.forget_mute();
                Reply::new(250, "2.1.0 ok")
            }
            Err(refused) => self.refuse(refused),
        }
    }

    async fn open(&self, path: Path, params: MailParams) -> Result<Envelope, Refused> {
        if self.service == Service::Submission && self.account.is_none() {
            return Err((Reply::new(530, "5.7.0 authentication required"), "auth"));
        }
        if params.any_internal() {
            return Err((Reply::new(555, "5.5.4 parameter not offered"), "syntax"));
        }
        if !params.dsn.is_empty() && !self.context.sends_out {
            return Err((Reply::new(555, "5.5.4 DSN not offered"), "syntax"));
        }
        if params.size.is_some_and(|size| size > self.context.limits.max_message) {
            return Err((Reply::new(552, "5.3.4 message too large"), "too_large"));
        }
        let sender = match path {
            Path::Null | Path::Postmaster => None,
            Path::Mailbox(mailbox) => Some(address(&mailbox, params.utf8, "5.1.7")?),
        };
        if let Some(account) = &self.account {
            self.check_sender(account, sender.as_ref()).await?;
        }
        let id = DeliveryId::new(unix_ms()).map_err(|_| (TRY_AGAIN, "unavailable"))?;
        let sender = sender.map(|s| s.to_string()).unwrap_or_default();
        let (size, utf8) = (params.size.unwrap_or(0), params.utf8);
        let wishes = Wishes { mail: params.dsn, ..Wishes::default() };
        let checked = Checked::default();
        Ok(Envelope { id, sender, size, utf8, items: Vec::new(), recipients: Vec::new(), wishes, checked })
    }

    async fn check_sender(&self, account: &ResolvedAccount, sender: Option<&Address>) -> Result<(), Refused> {
        let Some(sender) = sender else {
            return Err((Reply::new(553, "5.7.1 users cannot send with a null sender"), "sender"));
        };
        match self.context.directory.may_send_as(account.id, sender).await {
            Ok(true) => Ok(()),
            Ok(false) => Err((Reply::new(553, "5.7.1 not your address"), "sender")),
            Err(error) => {
                tracing::warn!(session = %self.client.session, %error, "sender could not be checked");
                Err((TRY_AGAIN, "unavailable"))
            }
        }
    }

    pub(super) async fn rcpt(&mut self, path: Path, params: RcptParams) -> Reply {
        let Some(mut envelope) = self.envelope.take() else {
            let needs_login = self.service == Service::Submission && self.account.is_none();
            return if needs_login { Reply::new(530, "5.7.0 authentication required") } else { OUT_OF_ORDER };
        };
        let result = self.recipient(&mut envelope, path, params).await;
        self.envelope = Some(envelope);
        self.note_recipient(result.as_ref().map_err(|(_, reason)| *reason));
        match result {
            Ok(()) => Reply::new(250, "2.1.5 ok"),
            Err(refused) => self.refuse(refused),
        }
    }

    /// Strangers that try out addresses are noticed by what they get wrong, less what they get right.
    fn note_recipient(&self, result: Result<&(), &'static str>) {
        if self.account.is_some() {
            return;
        }
        let ip = self.client.remote.ip();
        match result {
            Ok(()) => self.context.screen.saw(ip, Kind::TookRecipient),
            Err("unknown_mailbox" | "relay") => self.context.screen.saw(ip, Kind::UnknownRecipient),
            Err(_) => {}
        }
    }

    async fn recipient(
        &mut self,
        envelope: &mut Envelope,
        path: Path,
        params: RcptParams,
    ) -> Result<(), Refused> {
        if params.any() || (!params.dsn.is_empty() && !self.context.sends_out) {
            return Err((Reply::new(555, "5.5.4 parameter not offered"), "syntax"));
        }
        if envelope.recipients.len() >= self.context.limits.max_recipients {
            return Err((Reply::new(452, "4.5.3 too many recipients"), "recipients"));
        }
        self.check_client(&path).await?;
        let bare_postmaster = matches!(path, Path::Postmaster);
        let address = match path {
            Path::Mailbox(mailbox) => address(&mailbox, envelope.utf8, "5.1.3")?,
            Path::Postmaster | Path::Null => {
                address(&format!("postmaster@{}", self.context.hostname), true, "5.1.3")?
            }
        };
        let mut items = self.resolve(&address, bare_postmaster).await?;
        for item in &items {
            match self.ask_store(envelope, item).await {
                // A full mailbox is no reason to be out of reach for those who report abuse.
                Err((reply, _)) if address.is_postmaster() && reply.status() == Some("5.2.2") => {
                    items = vec![Item::Held { address: address.to_string() }];
                    break;
                }
                asked => asked?,
            }
        }
        items.into_iter().for_each(|item| envelope.add(item, &params.dsn));
        envelope.recipients.push(address.to_string());
        Ok(())
    }

    /// What the directory says of an address. It never says "unknown" because it cannot be asked (invariant I10).
    async fn resolve(&self, address: &Address, bare_postmaster: bool) -> Result<Vec<Item>, Refused> {
        let held = || Ok(vec![Item::Held { address: address.to_string() }]);
        match self.context.directory.resolve(address).await {
            Ok(Resolution::Accounts(accounts)) => {
                let pending = accounts.iter().any(|a| a.status == AccountStatus::Pending);
                if pending || accounts.is_empty() {
                    return Err((Reply::new(451, "4.3.0 mailbox not ready, try again"), "unavailable"));
                }
                // In a queue, a message's recipients are told apart by their addresses: where one address stands
                // for several accounts, each goes on under its own.
                let several = accounts.len() > 1;
                let item = |found: ResolvedAccount| Item::Account {
                    address: if several { found.address.to_string() } else { address.to_string() },
                    account: found.id,
                    store: found.store,
                };
                Ok(accounts.into_iter().map(item).collect())
            }
            // RFC 5321 section 4.5.1: postmaster is always there, if need be in the queue, held for a person.
            Ok(Resolution::NoSuchMailbox) if address.is_postmaster() => held(),
            Ok(Resolution::NotLocal) if bare_postmaster => held(),
            Ok(Resolution::NoSuchMailbox) => {
                Err((Reply::new(550, "5.1.1 no such mailbox"), "unknown_mailbox"))
            }
            Ok(Resolution::NotLocal) => self.out(address).map(|item| vec![item]),
            Err(error) => {
                tracing::warn!(session = %self.client.session, %error, "recipient could not be resolved");
                Err((TRY_AGAIN, "unavailable"))
            }
        }
    }

    /// Mail for another site, which only users may send.
    fn out(&self, address: &Address) -> Result<Item, Refused> {
        match &self.account {
            Some(account) if self.context.sends_out => {
                Ok(Item::Out { address: address.to_string(), store: account.store.clone() })
            }
            Some(_) => Err((Reply::new(550, "5.7.1 mail to other sites is not sent from here"), "relay")),
            None => Err((Reply::new(550, "5.7.1 relaying denied"), "relay")),
        }
    }

    /// Quota is enforced here, while the sending server can still tell its user.
    async fn ask_store(&mut self, envelope: &Envelope, item: &Item) -> Result<(), Refused> {
        let Item::Account { address, account, store } = item else { return Ok(()) };
        let recipient = Recipient::Deliver { address: address.clone(), account: *account };
        match self.stores.refuses(store, &envelope.lmtp(envelope.size), recipient).await {
            Some(reply) => Err((reply, "refused_by_store")),
            None => Ok(()),
        }
    }

    pub(super) fn refuse(&self, (reply, reason): Refused) -> Reply {
        metrics::rejected(self.service.label(), reason);
        tracing::debug!(session = %self.client.session, reason, %reply, "refused");
        reply
    }
}

fn address(text: &str, utf8: bool, status: &str) -> Result<Address, Refused> {
    if !utf8 && !text.is_ascii() {
        return Err((Reply::new(553, "5.6.7 a UTF-8 address needs SMTPUTF8"), "syntax"));
    }
    text.parse().map_err(|error| (Reply::with(553, format!("{status} {error}")), "syntax"))
}

/// Milliseconds since 1970.
pub(super) fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
