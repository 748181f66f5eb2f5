//! The directory itself: a store, what it was told, and the state of logins.

use std::{
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use async_trait::async_trait;
use mailcluster_auth::{Hasher, HasherError, StoredHash, Throttle, Tickets, Verdict, VerifyPool, is_ticket};
use mailcluster_rpc::directory::v1::DomainKey;
use mailcluster_store::{Account, ReadError, Store, View};
use mailcluster_types::{
    AccountId, Address, Allowance, AuthOutcome, AuthRequest, Directory, Located, Resolution, ResolvedAccount,
    SigningKeys, StoreName, Unavailable,
};
use tokio::sync::Mutex as AsyncMutex;

use crate::{
    DirectoryConfig,
    error::CannotSay,
    keyring,
    lookup::{self, Looked, Page, Whose},
    names,
    screening::Screening,
    sending::Sending,
};

/// The directory over its store. Cheap to clone.
#[derive(Clone)]
pub struct DirectoryService {
    inner: Arc<Inner>,
}

struct Inner {
    store: Store,
    config: DirectoryConfig,
    hasher: Hasher,
    pool: VerifyPool,
    throttle: Mutex<Throttle>,
    tickets: Tickets,
    sending: Mutex<Sending>,
    screening: Option<Screening>,
    /// Held from reading a record to putting its next generation.
    writer: AsyncMutex<()>,
}

/// A login's outcome with what a cache needs to know of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Login {
    Accepted(ResolvedAccount, u64),
    Rejected,
    Throttled(u32),
}

impl DirectoryService {
    /// A directory over a store of kind `Directory` that serves.
    ///
    /// # Errors
    /// When the hash cost is out of range, or the machine has no randomness.
    pub fn new(store: Store, config: DirectoryConfig) -> Result<Self, HasherError> {
        let hasher = Hasher::new(config.hash_cost)?;
        let throttle = Mutex::new(Throttle::new(config.throttle.clone()));
        let pool = VerifyPool::for_this_machine();
        let tickets = Tickets::new(Instant::now()).map_err(|_| HasherError::Failed)?;
        let sending = Mutex::new(Sending::new(config.send_limits, Instant::now()));
        let screening = match config.screening.clone() {
            Some((policy, lists)) => Some(Screening::new(policy, lists).map_err(|_| HasherError::Failed)?),
            None => None,
        };
        let writer = AsyncMutex::new(());
        let inner = Inner { store, config, hasher, pool, throttle, tickets, sending, screening, writer };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The store it stands on.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.inner.store
    }

    pub(crate) fn config(&self) -> &DirectoryConfig {
        &self.inner.config
    }

    pub(crate) fn hasher(&self) -> &Hasher {
        &self.inner.hasher
    }

    pub(crate) fn pool(&self) -> &VerifyPool {
        &self.inner.pool
    }

    /// Who is refused, unless screening is off.
    pub(crate) fn screening(&self) -> Option<&Screening> {
        self.inner.screening.as_ref()
    }

    pub(crate) fn tickets(&self) -> &Tickets {
        &self.inner.tickets
    }

    /// One change at a time: what was read stays true until it is replaced.
    pub(crate) async fn writing(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.inner.writer.lock().await
    }

    fn throttle(&self) -> MutexGuard<'_, Throttle> {
        self.inner.throttle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) async fn look<T, F>(&self, read: F) -> Result<T, CannotSay>
    where
        T: Send + 'static,
        F: FnOnce(&View, &DirectoryConfig) -> Result<T, ReadError> + Send + 'static,
    {
        let inner = Arc::clone(&self.inner);
        Ok(self.inner.store.read(move |view| read(view, &inner.config)).await?)
    }

    /// As [`Directory::resolve`].
    pub(crate) async fn resolved(&self, address: &Address) -> Result<Resolution, CannotSay> {
        let address = address.clone();
        match self.look(move |view, config| lookup::resolve(view, config, &address)).await? {
            Looked::Known(resolution) => Ok(resolution),
            Looked::Incomplete(missing) => Err(incomplete(&missing)),
            Looked::Empty => Err(CannotSay::NotYet(
                "it holds no domains: add one, or run `directory rebuild` when it was lost".into(),
            )),
        }
    }

    /// A page of what addresses stand for, from the first key above `after` on.
    pub(crate) async fn known(&self, whose: Whose, after: String) -> Result<Page, CannotSay> {
        self.look(move |view, config| lookup::known(view, config, whose, &after)).await
    }

    /// What signs mail from a domain, and whose keys these are.
    pub(crate) async fn active_keys(&self, domain: &str) -> Result<(String, Vec<DomainKey>), CannotSay> {
        let domain = domain.to_lowercase();
        self.look(move |view, _| lookup::active_keys(view, &domain)).await
    }

    /// As [`Directory::authenticate`], with the account's generation.
    pub(crate) async fn login(&self, request: &AuthRequest) -> Result<Login, CannotSay> {
        let started = Instant::now();
        let client = request.client.remote.ip();
        // A malformed name takes the same way as others: no account has an empty address.
        let domain = self.inner.config.default_domain.as_deref();
        let name = names::login_key(&request.user, domain).unwrap_or_default();
        let begun = self.throttle().begin(started, client, &name);
        if let Verdict::Wait(wait) = begun {
            let seconds = u32::try_from(wait.as_secs()).unwrap_or(u32::MAX).max(1);
            return Ok(Login::Throttled(seconds));
        }
        let _under_way = UnderWay { service: self, client, name: name.clone() };
        let key = name.clone();
        let (account, gaps) =
            self.look(move |view, _| Ok((view.account_by_address(&key)?, view.gaps()?))).await?;
        let unsure = account.is_none() && !gaps.is_empty();
        let (right, new_hash) = if self.has_ticket(account.as_ref(), request) {
            (true, None)
        } else {
            self.verify(account.as_ref(), Arc::clone(&request.password)).await?
        };
        match account.filter(|a| right && !a.suspended) {
            Some(account) if account.pending => {
                Err(CannotSay::NotYet(format!("account {} is being created", account.id)))
            }
            Some(account) => {
                self.throttle().succeeded(client, &name);
                let generation = self.rehashed(&account, new_hash).await;
                let resolved = lookup::resolved(&account).ok_or_else(|| {
                    CannotSay::NotYet(format!("account {} has a damaged address", account.id))
                })?;
                Ok(Login::Accepted(resolved, generation))
            }
            None if unsure => Err(incomplete(&gaps)),
            None => {
                self.throttle().failed(Instant::now(), client, &name);
                tracing::info!(%client, service = request.service, session = %request.client.session, "login failed");
                tokio::time::sleep_until((started + self.inner.config.reject_floor).into()).await;
                Ok(Login::Rejected)
            }
        }
    }

    /// Does it come with a ticket that an administrator has asked for? Tickets are for reading and filling mailboxes:
    /// none sends mail.
    fn has_ticket(&self, account: Option<&Account>, request: &AuthRequest) -> bool {
        let tickets = &self.inner.tickets;
        request.service == "imap"
            && is_ticket(&request.password)
            && account.is_some_and(|a| tickets.admits(Instant::now(), a.id, &request.password))
    }

    /// Verifies in the pool, with the same work for nobody; a new hash when the stored one is of another make.
    async fn verify(
        &self,
        account: Option<&Account>,
        password: Arc<str>,
    ) -> Result<(bool, Option<String>), CannotSay> {
        let stored = account.and_then(|a| match StoredHash::parse(&a.password_hash) {
            Ok(hash) => Some(hash),
            Err(_) if a.password_hash.is_empty() => None,
            Err(error) => {
                tracing::warn!(account = %a.id, %error, "stored password hash cannot be used");
                None
            }
        });
        let hasher = self.inner.hasher.clone();
        let verify = move || {
            let right = hasher.verify(stored.as_ref(), &password);
            let outdated = right && stored.as_ref().is_some_and(|s| hasher.needs_rehash(s));
            (right, if outdated { hasher.hash(&password).ok() } else { None })
        };
        Ok(self.inner.pool.run(verify).await?)
    }

    /// Puts a new hash of the same password, unless the record changed meanwhile. A login does not fail for it.
    async fn rehashed(&self, account: &Account, new_hash: Option<String>) -> u64 {
        let Some(password_hash) = new_hash else { return account.generation };
        let _writing = self.writing().await;
        let id = account.id;
        match self.look(move |view, _| view.account(id)).await {
            Ok(Some(now)) if now == *account => {
                let generation = next_generation(now.generation);
                let next = Account { password_hash, generation, ..now };
                let put = self.inner.store.put_account(next).await;
                match put.map(mailcluster_store::Receipt::acknowledge) {
                    Ok(Ok(())) => return generation,
                    Ok(Err(error)) => tracing::warn!(account = %id, %error, "new password hash not kept"),
                    Err(error) => tracing::warn!(account = %id, %error, "new password hash not kept"),
                }
            }
            _ => tracing::debug!(account = %id, "account changed while its password was hashed anew"),
        }
        account.generation
    }
}

/// An attempt that the throttle counts as under way until this is dropped, even when its caller goes away.
struct UnderWay<'a> {
    service: &'a DirectoryService,
    client: IpAddr,
    name: String,
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.service.throttle().end(self.client, &self.name);
    }
}

#[async_trait]
impl Directory for DirectoryService {
    async fn resolve(&self, address: &Address) -> Result<Resolution, Unavailable> {
        Ok(self.resolved(address).await?)
    }

    async fn locate(&self, account: AccountId) -> Result<Located, Unavailable> {
        Ok(self.look(move |view, _| lookup::locate(view, account)).await?)
    }

    async fn authenticate(&self, request: &AuthRequest) -> Result<AuthOutcome, Unavailable> {
        Ok(match self.login(request).await? {
            Login::Accepted(account, _) => AuthOutcome::Accepted(account),
            Login::Rejected => AuthOutcome::Rejected,
            Login::Throttled(seconds) => AuthOutcome::Throttled(seconds),
        })
    }

    async fn may_send_as(&self, account: AccountId, sender: &Address) -> Result<bool, Unavailable> {
        let sender = sender.clone();
        Ok(self.look(move |view, _| lookup::may_send_as(view, account, &sender)).await?)
    }

    async fn signing_keys(&self, domain: &str) -> Result<Arc<SigningKeys>, Unavailable> {
        let (domain, keys) = self.active_keys(domain).await?;
        Ok(Arc::new(keyring::signing(domain, keys)))
    }

    async fn count_sent(&self, account: AccountId, recipients: u32) -> Result<Allowance, Unavailable> {
        // One that serves no more would count for nobody.
        if !self.inner.store.may_read() {
            return Err(Unavailable("it does not serve".into()));
        }
        let mut sending = self.inner.sending.lock().unwrap_or_else(PoisonError::into_inner);
        let allowance = sending.count(Instant::now(), account, recipients);
        drop(sending);
        if allowance != Allowance::Granted {
            tracing::warn!(%account, recipients, ?allowance, "an account sends more than it may");
        }
        Ok(allowance)
    }
}

fn incomplete(missing: &[StoreName]) -> CannotSay {
    let names: Vec<&str> = missing.iter().map(StoreName::as_str).collect();
    CannotSay::NotYet(format!(
        "it was rebuilt without {}: run `directory rebuild` again when they are back",
        names.join(", ")
    ))
}

/// Seconds since 1970.
pub(crate) fn unix_seconds() -> i64 {
    i64::try_from(unix_millis() / 1000).unwrap_or(i64::MAX)
}

fn unix_millis() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Above the last one, and no less than the time in milliseconds: so that records made after a rebuild, from
/// volumes that had not seen the last changes, still win over those changes.
pub(crate) fn next_generation(last: u64) -> u64 {
    unix_millis().max(last.saturating_add(1))
}
