//! The directory as frontends and backends see it: across the network, with a memory.

mod ahead;
mod cache;
mod watch;

use std::{
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use mailcluster_auth::{
    CacheAnswer, LoginCache, LoginCacheConfig, Lru, Throttle, ThrottlePolicy, Verdict, is_ticket,
};
use mailcluster_rpc::directory::v1 as pb;
use mailcluster_types::{
    AccountId, Address, Allowance, AuthOutcome, AuthRequest, Directory, Located, Resolution, ResolvedAccount,
    SigningKeys, Unavailable,
};
use pb::lookup_client::LookupClient;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tonic::{Status, transport::Channel};

use crate::{SendLimits, convert, error::is_answer, keyring, names, sending::Sending};
use cache::{Asking, Found, ResolveCache};

/// Leads to the directory's holder of the moment.
#[async_trait]
pub trait ChannelSource: Send + Sync + 'static {
    /// A channel to the holder; kept and shared by the source, made anew when the route changes.
    ///
    /// # Errors
    /// When no route is known.
    async fn channel(&self) -> Result<Channel, Unavailable>;

    /// A call over the last channel failed: look for the route anew.
    fn failed(&self) {}
}

/// Bounds of a [`RemoteDirectory`].
#[derive(Debug, Clone)]
pub struct RemoteConfig {
    /// The domain of user names without one; as the directory has it.
    pub default_domain: Option<String>,
    /// Longest wait for a look-up. Default 2.5 s.
    pub lookup_limit: Duration,
    /// Longest wait for a login. Default 3 s.
    pub login_limit: Duration,
    /// After a failure the directory is not asked for this long. Default 500 ms.
    pub back_off: Duration,
    /// Addresses remembered.
    pub addresses: usize,
    /// Are addresses asked for before anyone needs them, as far as there is room? For frontends, which then take mail
    /// for accounts they have not met when the directory is away. Default: no.
    pub ahead: bool,
    /// What an account may send to other sites, as the directory has it. Default: as much as it likes.
    pub send_limits: SendLimits,
    /// Logins remembered.
    pub logins: LoginCacheConfig,
    /// How patient logins are, here, with what this process has seen. The directory's own count stands above it.
    pub throttle: ThrottlePolicy,
}

impl Default for RemoteConfig {
    fn default() -> Self {
        Self {
            default_domain: None,
            lookup_limit: Duration::from_millis(2500),
            login_limit: Duration::from_secs(3),
            back_off: Duration::from_millis(500),
            addresses: 100_000,
            ahead: false,
            send_limits: SendLimits::default(),
            logins: LoginCacheConfig::default(),
            throttle: ThrottlePolicy::default(),
        }
    }
}

/// How long an answer on sender rights is taken without asking again.
const SENDER_FRESH: Duration = Duration::from_secs(30);

/// How long keys are taken without asking again. New ones sign so much later, and those before them are still there.
const KEYS_FRESH: Duration = Duration::from_secs(30);
/// Domains whose keys are remembered.
const KEYS: usize = 10_000;

struct State {
    cache: ResolveCache,
    logins: LoginCache,
    throttle: Throttle,
    senders: Lru<(AccountId, String), (bool, Instant)>,
    keys: Lru<String, (Arc<SigningKeys>, Instant)>,
    sending: Sending,
    /// Not asked before then.
    away_until: Option<Instant>,
}

/// A directory across the network, with a memory: it answers what it last knew when the directory is away, and then
/// never says "no such mailbox".
pub struct RemoteDirectory {
    source: Arc<dyn ChannelSource>,
    config: RemoteConfig,
    state: Mutex<State>,
    /// Something became different, or may have.
    news: Notify,
}

impl RemoteDirectory {
    /// A directory that `source` leads to; follows its invalidations until `shutdown`.
    ///
    /// # Errors
    /// When the operating system has no randomness to give.
    pub fn start(
        source: Arc<dyn ChannelSource>,
        config: RemoteConfig,
        shutdown: CancellationToken,
    ) -> std::io::Result<Arc<Self>> {
        let state = State {
            cache: ResolveCache::new(config.addresses),
            logins: LoginCache::new(config.logins)?,
            throttle: Throttle::new(config.throttle.clone()),
            senders: Lru::new(config.addresses),
            keys: Lru::new(KEYS),
            sending: Sending::new(config.send_limits, Instant::now()),
            away_until: None,
        };
        let directory = Arc::new(Self { source, config, state: Mutex::new(state), news: Notify::new() });
        if directory.config.ahead {
            tokio::spawn(ahead::run(Arc::clone(&directory), shutdown.clone()));
        }
        tokio::spawn(watch::run(Arc::clone(&directory), shutdown));
        Ok(directory)
    }

    /// How many addresses it remembers.
    #[must_use]
    pub fn addresses_known(&self) -> usize {
        self.state().cache.len()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Calls the directory, unless it was away a moment ago.
    async fn ask<T, F, C>(&self, question: Question, call: F) -> Result<T, Unavailable>
    where
        F: FnOnce(LookupClient<Channel>) -> C + Send,
        C: Future<Output = Result<tonic::Response<T>, Status>> + Send,
    {
        let limit = match question {
            Question::LookUp => self.config.lookup_limit,
            Question::Login | Question::Page => self.config.login_limit,
        };
        let asked = Instant::now();
        if self.state().away_until.is_some_and(|until| asked < until) {
            return Err(Unavailable("it did not answer a moment ago".into()));
        }
        let answer = async {
            let channel = self.source.channel().await.map_err(|e| Status::unavailable(e.0))?;
            call(LookupClient::new(channel)).await
        };
        let error = match tokio::time::timeout(limit, answer).await {
            Ok(Ok(answer)) => {
                self.state().away_until = None;
                return Ok(answer.into_inner());
            }
            Ok(Err(status)) if is_answer(status.code()) => {
                self.state().away_until = None;
                return Err(Unavailable(status.message().to_owned()));
            }
            Ok(Err(status)) => status.message().to_owned(),
            // Passwords take long to verify when there are many, pages to read: that says nothing of other questions.
            Err(_) if question != Question::LookUp => return Err(Unavailable("no answer in time".into())),
            Err(_) => "no answer in time".to_owned(),
        };
        self.source.failed();
        self.state().away_until = Some(Instant::now() + self.config.back_off);
        Err(Unavailable(error))
    }

    async fn ask_resolve(&self, address: &Address) -> Result<Resolution, Unavailable> {
        let request = pb::ResolveRequest { address: address.to_string() };
        let answer = self.ask(Question::LookUp, |mut c| async move { c.resolve(request).await }).await?;
        let garbled = || Unavailable("its answer cannot be read".into());
        match pb::Answer::try_from(answer.answer).unwrap_or_default() {
            pb::Answer::Accounts => {
                let accounts: Option<Vec<_>> =
                    answer.accounts.into_iter().map(convert::resolved_from_pb).collect();
                accounts.filter(|a| !a.is_empty()).map(Resolution::Accounts).ok_or_else(garbled)
            }
            pb::Answer::NoSuchMailbox => Ok(Resolution::NoSuchMailbox),
            pb::Answer::NotLocal => Ok(Resolution::NotLocal),
            pb::Answer::Unspecified => Err(garbled()),
        }
    }

    async fn ask_login(&self, request: &AuthRequest) -> Result<(AuthOutcome, u64), Unavailable> {
        use pb::authenticate_response::Outcome;
        let asked = pb::AuthenticateRequest {
            user: request.user.clone(),
            password: Some(request.password.to_string().into()),
            client: request.client.remote.ip().to_string(),
            service: request.service.to_owned(),
        };
        let answer = self.ask(Question::Login, |mut c| async move { c.authenticate(asked).await }).await?;
        let outcome = answer.outcome();
        let garbled = || Unavailable("its answer cannot be read".into());
        match outcome {
            Outcome::Accepted => {
                let generation = answer.account.as_ref().map_or(0, |a| a.generation);
                let account = answer.account.and_then(convert::resolved_from_pb).ok_or_else(garbled)?;
                Ok((AuthOutcome::Accepted(account), generation))
            }
            Outcome::Rejected => Ok((AuthOutcome::Rejected, 0)),
            Outcome::Throttled => Ok((AuthOutcome::Throttled(answer.wait_seconds), 0)),
            Outcome::Unspecified => Err(garbled()),
        }
    }

    /// Keeps what an answer to a login tells.
    fn heard(&self, login: &Attempt<'_>, asked: Asking, outcome: &AuthOutcome, generation: u64) {
        let now = Instant::now();
        let mut state = self.state();
        match outcome {
            AuthOutcome::Accepted(account) => {
                state.throttle.succeeded(login.client, login.user);
                // A ticket ends by itself, which only the directory knows of.
                if state.cache.still_holds(asked) && !is_ticket(login.password) {
                    state.logins.verified(asked.at, login.user, login.password, generation, account.clone());
                }
            }
            AuthOutcome::Rejected => {
                state.throttle.failed(now, login.client, login.user);
                state.logins.rejected(now, login.user, login.password);
            }
            AuthOutcome::Throttled(seconds) => {
                let wait = Duration::from_secs(u64::from(*seconds));
                state.throttle.impose(now, login.client, login.user, wait);
            }
        }
    }

    /// What this process alone can say of an attempt.
    fn remembered(&self, login: &Attempt<'_>) -> Memory {
        let now = Instant::now();
        let mut state = self.state();
        if let Verdict::Wait(wait) = state.throttle.check(now, login.client, login.user) {
            let seconds = u32::try_from(wait.as_secs()).unwrap_or(u32::MAX).max(1);
            return Memory::Throttled(seconds);
        }
        match state.logins.check(now, login.user, login.password) {
            CacheAnswer::Verified { account, at } if state.cache.is_fresh_since(at) => Memory::Fresh(account),
            CacheAnswer::Verified { account, .. } => Memory::LastKnown(account),
            CacheAnswer::OtherPassword => Memory::OtherPassword,
            CacheAnswer::Unknown => Memory::Nothing,
        }
    }
}

/// A directory of a version that knows of no keys has none.
fn none_of_old<T: Default>(answer: Result<tonic::Response<T>, Status>) -> Result<tonic::Response<T>, Status> {
    match answer {
        Err(status) if status.code() == tonic::Code::Unimplemented => Ok(tonic::Response::new(T::default())),
        answer => answer,
    }
}

/// What the directory is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Question {
    /// Of a kind that is answered at once.
    LookUp,
    /// One that costs a password's verification.
    Login,
    /// Many look-ups in one.
    Page,
}

struct Attempt<'a> {
    client: IpAddr,
    user: &'a str,
    password: &'a str,
}

enum Memory {
    Throttled(u32),
    Fresh(ResolvedAccount),
    LastKnown(ResolvedAccount),
    OtherPassword,
    Nothing,
}

#[async_trait]
impl Directory for RemoteDirectory {
    async fn resolve(&self, address: &Address) -> Result<Resolution, Unavailable> {
        let key = address.key();
        let (found, asked) = {
            let (now, mut state) = (Instant::now(), self.state());
            (state.cache.find(now, &key), state.cache.asking(now))
        };
        if let Found::Fresh(resolution) = found {
            return Ok(resolution);
        }
        match (self.ask_resolve(address).await, found) {
            (Ok(resolution), _) => {
                self.state().cache.learn(asked, key, resolution.clone());
                Ok(resolution)
            }
            (Err(error), Found::LastKnown(resolution)) => {
                tracing::debug!(%error, "directory away; last known answer used");
                Ok(resolution)
            }
            (Err(error), _) => Err(error),
        }
    }

    /// Asked each time: an account that moved a moment ago must not be looked for where it was.
    async fn locate(&self, account: AccountId) -> Result<Located, Unavailable> {
        use pb::locate_response::Place;
        let request = pb::LocateRequest { account: account.to_bytes().to_vec() };
        let answer = self.ask(Question::LookUp, |mut c| async move { c.locate(request).await }).await?;
        match answer.place {
            Some(Place::Store(store)) if !store.is_empty() => Ok(Located::On(store.into())),
            Some(Place::Deleted(true)) => Ok(Located::Deleted),
            Some(Place::Unknown(_)) => Ok(Located::Unknown),
            _ => Err(Unavailable("its answer cannot be read".into())),
        }
    }

    async fn authenticate(&self, request: &AuthRequest) -> Result<AuthOutcome, Unavailable> {
        let key = names::login_key(&request.user, self.config.default_domain.as_deref());
        let client = request.client.remote.ip();
        let login = Attempt { client, user: key.as_deref().unwrap_or_default(), password: &request.password };
        let memory = self.remembered(&login);
        match memory {
            Memory::Throttled(seconds) => return Ok(AuthOutcome::Throttled(seconds)),
            Memory::Fresh(account) => return Ok(AuthOutcome::Accepted(account)),
            _ => {}
        }
        let asked = self.state().cache.asking(Instant::now());
        match (self.ask_login(request).await, memory) {
            (Ok((outcome, generation)), _) => {
                self.heard(&login, asked, &outcome, generation);
                Ok(outcome)
            }
            (Err(error), Memory::LastKnown(account)) => {
                tracing::debug!(%error, account = %account.id, "directory away; remembered login used");
                Ok(AuthOutcome::Accepted(account))
            }
            (Err(error), memory) => {
                if matches!(memory, Memory::OtherPassword) {
                    // Most likely wrong; counted, so that guessing at the memory is slowed down too.
                    self.state().throttle.failed(Instant::now(), client, login.user);
                }
                Err(error)
            }
        }
    }

    async fn may_send_as(&self, account: AccountId, sender: &Address) -> Result<bool, Unavailable> {
        let key = (account, sender.key());
        let known = self.state().senders.get_mut(&key).copied();
        if let Some((allowed, at)) = known
            && at.elapsed() < SENDER_FRESH
        {
            return Ok(allowed);
        }
        let request =
            pb::MaySendAsRequest { account: account.to_bytes().to_vec(), sender: sender.to_string() };
        match (self.ask(Question::LookUp, |mut c| async move { c.may_send_as(request).await }).await, known) {
            (Ok(answer), _) => {
                self.state().senders.insert(key, (answer.allowed, Instant::now()));
                Ok(answer.allowed)
            }
            (Err(_), Some((true, _))) => Ok(true),
            (Err(error), _) => Err(error),
        }
    }

    /// What was told last goes on signing when the directory is away: keys stay published long after they were in use.
    async fn signing_keys(&self, domain: &str) -> Result<Arc<SigningKeys>, Unavailable> {
        let domain = domain.to_lowercase();
        let known = self.state().keys.get_mut(&domain).cloned();
        if let Some((keys, at)) = &known
            && at.elapsed() < KEYS_FRESH
        {
            return Ok(Arc::clone(keys));
        }
        let (asked, request) = (Instant::now(), pb::SigningKeysRequest { domain: domain.clone() });
        let call = |mut c: LookupClient<Channel>| async move { none_of_old(c.signing_keys(request).await) };
        match (self.ask(Question::LookUp, call).await, known) {
            (Ok(answer), _) => {
                let keys = Arc::new(keyring::signing(answer.domain, answer.keys));
                self.state().keys.insert(domain, (Arc::clone(&keys), asked));
                Ok(keys)
            }
            (Err(_), Some((keys, _))) => Ok(keys),
            (Err(error), None) => Err(error),
        }
    }

    /// While the directory is away, what comes by this frontend is counted here.
    async fn count_sent(&self, account: AccountId, recipients: u32) -> Result<Allowance, Unavailable> {
        use pb::count_sent_response::Verdict;
        if !self.config.send_limits.any() {
            return Ok(Allowance::Granted);
        }
        let request = pb::CountSentRequest { account: account.to_bytes().to_vec(), recipients };
        let answer = self.ask(Question::LookUp, |mut c| async move { c.count_sent(request).await }).await;
        let Ok(answer) = answer else {
            return Ok(self.state().sending.count(Instant::now(), account, recipients));
        };
        match answer.verdict() {
            Verdict::Granted => Ok(Allowance::Granted),
            Verdict::Wait => Ok(Allowance::Wait(answer.wait_seconds)),
            Verdict::Never => Ok(Allowance::Never),
            Verdict::Unspecified => Err(Unavailable("its answer cannot be read".into())),
        }
    }
}
