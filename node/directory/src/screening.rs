//! Screening in the directory: what frontends report is added up here, and what is decided goes to all of them at once.
//!
//! It is kept in memory. Frontends go on with what they hold when the directory is away, and give it back to the next
//! one, which knows nothing.

mod run;
mod source;
mod wire;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use futures::{Stream, StreamExt, stream};
use mailcluster_screen::{Ban, BanError, Cidr, Judge, Lists, News, Observation, Policy, Slowed};
use tokio::sync::broadcast;

pub use run::run;
pub use source::{RemoteScreening, ScreeningSource, ScreeningStream, Told};
pub(crate) use wire::{ban_from_pb, ban_to_pb, observation_from_pb, slowed_to_pb, told_to_pb};

/// News that may wait for a frontend; one that is further behind is told everything anew.
const WAITING: usize = 1024;
/// Accounts under attack that one message tells of.
const MOST_SLOWED: usize = 5000;
/// Something is told at least this often.
const HEARTBEAT: Duration = Duration::from_secs(4);

/// The judge, and whoever listens to it. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Screening {
    /// Drawn at the start.
    instance: u64,
    judge: Arc<Mutex<Judge>>,
    news: broadcast::Sender<Vec<News>>,
}

impl Screening {
    /// Knows nothing yet.
    pub(crate) fn new(policy: Policy, lists: Lists) -> std::io::Result<Self> {
        let mut drawn = [0; 8];
        getrandom(&mut drawn)?;
        let judge = Arc::new(Mutex::new(Judge::new(policy, lists)));
        Ok(Self { instance: u64::from_be_bytes(drawn), judge, news: broadcast::Sender::new(WAITING) })
    }

    fn judge(&self) -> MutexGuard<'_, Judge> {
        self.judge.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes what the judge knows, and tells everybody; in one step, so that no listener misses anything between.
    fn tell<T>(&self, change: impl FnOnce(&mut Judge, Instant) -> (T, Vec<News>)) -> T {
        let mut judge = self.judge();
        let (answer, news) = change(&mut judge, Instant::now());
        for news in &news {
            log(news);
        }
        if !news.is_empty() {
            // Nobody may be listening.
            let _ = self.news.send(news);
        }
        answer
    }

    /// A frontend saw this.
    pub(crate) fn observe(&self, seen: &[Observation]) {
        self.tell(|judge, now| ((), seen.iter().flat_map(|seen| judge.observe(now, seen)).collect()));
    }

    /// A frontend holds these from the time before.
    pub(crate) fn adopt(&self, held: &[Ban]) {
        self.tell(|judge, now| ((), held.iter().flat_map(|ban| judge.adopt(now, *ban)).collect()));
    }

    /// These are the cluster's own.
    pub(crate) fn own(&self, own: Vec<Cidr>) {
        self.tell(|judge, now| ((), judge.own(now, own)));
    }

    /// An administrator bans a network.
    pub(crate) fn ban(&self, network: Cidr, duration: Duration) -> Result<(), BanError> {
        self.tell(|judge, now| match judge.ban(now, network, duration) {
            Ok(news) => (Ok(()), news),
            Err(error) => (Err(error), Vec::new()),
        })
    }

    /// A ban is over. `false`: there was none.
    pub(crate) fn lift(&self, network: Cidr) -> bool {
        self.tell(|judge, _| {
            let news = judge.lift(network);
            (news.is_some(), news.into_iter().collect())
        })
    }

    /// Who is refused, and which accounts are under attack.
    pub(crate) fn standing(&self) -> (Vec<Ban>, Vec<Slowed>) {
        let (judge, now) = (self.judge(), Instant::now());
        (judge.bans(now), judge.slowed(now))
    }

    /// Everything, then every change; something at least every [`HEARTBEAT`].
    pub(crate) fn follow(&self) -> impl Stream<Item = Told> + Send + use<> {
        let (first, receiver) = self.everything();
        let rest = stream::unfold((self.clone(), receiver), |(screening, mut receiver)| async move {
            let instance = screening.instance;
            let told = match tokio::time::timeout(HEARTBEAT, receiver.recv()).await {
                Ok(Ok(news)) => Told { instance, is_everything: false, news },
                Err(_) => Told { instance, is_everything: false, news: Vec::new() },
                Ok(Err(broadcast::error::RecvError::Lagged(_))) => {
                    let (all, new) = screening.everything();
                    receiver = new;
                    all
                }
                Ok(Err(broadcast::error::RecvError::Closed)) => return None,
            };
            Some((told, (screening, receiver)))
        });
        stream::iter([first]).chain(rest)
    }

    fn everything(&self) -> (Told, broadcast::Receiver<Vec<News>>) {
        let (judge, now) = (self.judge(), Instant::now());
        // Under the lock: nothing is decided between the two.
        let receiver = self.news.subscribe();
        let bans = judge.bans(now).into_iter().map(News::Banned);
        let slowed = judge.slowed(now).into_iter().take(MOST_SLOWED).map(News::Slowed);
        let news = bans.chain(slowed).collect();
        (Told { instance: self.instance, is_everything: true, news }, receiver)
    }
}

fn getrandom(into: &mut [u8]) -> std::io::Result<()> {
    use ring::rand::{SecureRandom, SystemRandom};
    SystemRandom::new().fill(into).map_err(|_| std::io::Error::other("no randomness"))
}

fn log(news: &News) {
    match news {
        News::Banned(ban) => {
            let (seconds, reason) = (ban.remaining.as_secs(), ban.reason.label());
            tracing::info!(network = %ban.network, seconds, reason, "banned");
        }
        News::Lifted(network) => tracing::info!(%network, "banned no longer"),
        News::Slowed(slowed) => {
            let seconds = slowed.delay.as_secs();
            tracing::info!(
                account = slowed.account,
                seconds,
                "an account is under attack: logins to it wait"
            );
        }
    }
}
