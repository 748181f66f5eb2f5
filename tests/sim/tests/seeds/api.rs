//! A stand-in for the Kubernetes API: the store's Lease, replaced only against the version that was read, and what the
//! operator and the holder write beside it. Requests and answers take time, and get lost on either way.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use async_trait::async_trait;
use mailcluster_arbiter::{Advice, Arbiter, ArbiterError, Current, Route, SwapError, TargetAdvice};
use mailcluster_failover::{LeaseRecord, Target};
use mailcluster_store::testing::Rng;
use tokio::sync::oneshot;

use crate::{ledger::Ledger, net::Place, node::Around};

/// An attempt takes no longer than a quarter of the lease, as in `KubeArbiter`.
const ATTEMPT: Duration = Duration::from_millis(1_000);

/// What the objects say.
#[derive(Debug, Clone)]
pub struct Objects {
    pub lease: Option<(LeaseRecord, u64)>,
    pub target: Option<(Target, u64)>,
    /// Epoch, pod and place.
    pub serving: Option<(u64, String, Place)>,
    /// The copies whose volumes a process has opened.
    pub opened: BTreeSet<String>,
}

#[derive(Debug, Clone)]
enum Ask {
    Lease,
    Swap(u64, Box<LeaseRecord>),
    Advice,
    Publish(Route),
}

enum Answer {
    Lease(Box<Option<(LeaseRecord, u64)>>),
    Swapped(Result<u64, SwapError>),
    Advice(Box<Objects>),
    Published(Result<(), ArbiterError>),
}

struct Request {
    from: Place,
    due: u64,
    ask: Ask,
    /// How long its answer takes; `None`: it is lost.
    back: Option<u64>,
    reply: oneshot::Sender<Answer>,
}

struct State {
    now: u64,
    rng: Rng,
    objects: Objects,
    version: u64,
    requests: Vec<Request>,
    answers: Vec<(u64, oneshot::Sender<Answer>, Answer)>,
    cut: BTreeSet<Place>,
    is_down: bool,
    /// One request in so many is lost, and one answer.
    losses: usize,
    latency: u64,
}

/// The API; cheap to clone.
#[derive(Clone)]
pub struct Api {
    state: Arc<Mutex<State>>,
    ledger: Ledger,
}

impl Api {
    pub fn new(first: LeaseRecord, rng: Rng, ledger: Ledger) -> Self {
        let objects =
            Objects { lease: Some((first, 1)), target: None, serving: None, opened: BTreeSet::new() };
        let state = State {
            now: 0,
            rng,
            objects,
            version: 1,
            requests: Vec::new(),
            answers: Vec::new(),
            cut: BTreeSet::new(),
            is_down: false,
            losses: 0,
            latency: 0,
        };
        Self { state: Arc::new(Mutex::new(state)), ledger }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// What the objects say, for who looks at everything.
    pub fn objects(&self) -> Objects {
        self.lock().objects.clone()
    }

    pub fn is_down(&self) -> bool {
        self.lock().is_down
    }

    pub fn set_down(&self, is_down: bool) {
        self.lock().is_down = is_down;
    }

    pub fn cut(&self, at: Place) {
        self.lock().cut.insert(at);
    }

    /// How it goes with requests from now on.
    pub fn set_weather(&self, losses: usize, latency: u64) {
        let mut state = self.lock();
        (state.losses, state.latency) = (losses, latency);
    }

    pub fn mend(&self) {
        let mut state = self.lock();
        state.cut.clear();
        (state.is_down, state.losses, state.latency) = (false, 0, 0);
    }

    /// A machine is gone, and what it has asked for with it.
    pub fn gone(&self, from: Place) {
        self.lock().requests.retain(|request| request.from != from);
    }

    /// Somebody deletes the Lease.
    pub fn delete_lease(&self) {
        self.lock().objects.lease = None;
    }

    /// The operator writes what is its own.
    pub fn write_target(&self, target: Option<(Target, u64)>) {
        self.lock().objects.target = target;
    }

    pub fn note_opened(&self, replica: String) {
        self.lock().objects.opened.insert(replica);
    }

    /// The operator makes the Lease, or replaces this version of it.
    pub fn restore_lease(&self, record: LeaseRecord, over: Option<u64>) {
        let mut state = self.lock();
        if state.objects.lease.as_ref().map(|(_, version)| *version) == over {
            state.version += 1;
            self.ledger.lease_restored(&record);
            state.objects.lease = Some((record, state.version));
        }
    }

    /// Time has come to `now`: what is due is done.
    pub fn tick(&self, now: u64) {
        let mut state = self.lock();
        state.now = now;
        if state.is_down {
            return;
        }
        let due = |at: u64| at <= now;
        let (ready, later) = std::mem::take(&mut state.requests).into_iter().partition(|r| due(r.due));
        state.requests = later;
        let ready: Vec<Request> = ready;
        for request in ready {
            let answer = self.serve(&mut state, request.ask);
            if let Some(back) = request.back.filter(|_| !state.cut.contains(&request.from)) {
                state.answers.push((now + back, request.reply, answer));
            }
        }
        let (ready, later) = std::mem::take(&mut state.answers).into_iter().partition(|(at, ..)| due(*at));
        state.answers = later;
        let ready: Vec<(u64, oneshot::Sender<Answer>, Answer)> = ready;
        for (_, reply, answer) in ready {
            let _ = reply.send(answer);
        }
    }

    fn serve(&self, state: &mut State, ask: Ask) -> Answer {
        match ask {
            Ask::Lease => Answer::Lease(Box::new(state.objects.lease.clone())),
            Ask::Advice => Answer::Advice(Box::new(state.objects.clone())),
            Ask::Swap(over, next) => Answer::Swapped(match &state.objects.lease {
                Some((old, version)) if *version == over => {
                    self.ledger.lease_written(old, &next);
                    state.version += 1;
                    state.objects.lease = Some((*next, state.version));
                    Ok(state.version)
                }
                _ => Err(SwapError::Conflict),
            }),
            Ask::Publish(route) => {
                let pod = route.pod_uid.clone();
                let place = usize::from(route.endpoint.port());
                let allowed = state.objects.serving.as_ref().is_none_or(|(epoch, holder, _)| {
                    route.epoch > *epoch || (route.epoch == *epoch && *holder == pod)
                });
                Answer::Published(if allowed {
                    state.objects.serving = Some((route.epoch, pod, place));
                    Ok(())
                } else {
                    Err(ArbiterError::Refused("the epoch falls".into()))
                })
            }
        }
    }

    /// One attempt. `None`: nobody knows what became of it.
    async fn ask(&self, from: Place, ask: Ask) -> Option<Answer> {
        let answered = {
            let mut state = self.lock();
            if state.cut.contains(&from) || state.is_down {
                None
            } else {
                let (reply, answered) = oneshot::channel();
                let (latency, losses) = (usize::try_from(state.latency).unwrap(), state.losses);
                let mut span = || u64::try_from(state.rng.below(latency + 1)).unwrap();
                let (there, back) = (span(), span());
                let mut lost = || losses > 0 && state.rng.one_in(losses);
                let (is_lost, is_unanswered) = (lost(), lost());
                let due = state.now + there;
                if !is_lost {
                    let back = (!is_unanswered).then_some(back);
                    state.requests.push(Request { from, due, ask, back, reply });
                }
                Some(answered)
            }
        };
        match answered {
            Some(answered) => tokio::time::timeout(ATTEMPT, answered).await.ok()?.ok(),
            None => {
                tokio::time::sleep(ATTEMPT).await;
                None
            }
        }
    }

    /// The arbiter of a process.
    pub fn arbiter(&self, from: Place, around: Around) -> Arc<Way> {
        Arc::new(Way { api: self.clone(), from, around })
    }
}

/// One process' way to the API.
pub struct Way {
    api: Api,
    from: Place,
    around: Around,
}

fn away() -> ArbiterError {
    ArbiterError::Away("no answer".into())
}

#[async_trait]
impl Arbiter for Way {
    async fn current(&self) -> Result<Current, ArbiterError> {
        match self.api.ask(self.from, Ask::Lease).await {
            Some(Answer::Lease(found)) => Ok(match *found {
                Some((record, version)) => Current::new(record, version.to_string()),
                None => Current::none(),
            }),
            _ => Err(away()),
        }
    }

    async fn swap(&self, read: &Current, next: &LeaseRecord) -> Result<Current, SwapError> {
        let version = read.version.parse().map_err(|_| SwapError::Refused("it was never read".into()))?;
        match self.api.ask(self.from, Ask::Swap(version, Box::new(next.clone()))).await {
            Some(Answer::Swapped(Ok(version))) => Ok(Current::new(next.clone(), version.to_string())),
            Some(Answer::Swapped(Err(error))) => Err(error),
            _ => Err(SwapError::Unknown("no answer".into())),
        }
    }

    async fn advice(&self) -> Result<Advice, ArbiterError> {
        let Some(Answer::Advice(objects)) = self.api.ask(self.from, Ask::Advice).await else {
            return Err(away());
        };
        let target = objects.target.map(|(target, _)| TargetAdvice {
            replica: target.replica,
            version: target.lease_version,
            kind: target.kind,
        });
        let unopened = self.around.ids().into_iter().filter(|id| !objects.opened.contains(id)).collect();
        let serving_pod = objects.serving.map(|(_, pod, _)| pod);
        Ok(Advice { target, evidence: Vec::new(), serving_pod, unopened })
    }

    async fn publish(&self, route: &Route) -> Result<(), ArbiterError> {
        match self.api.ask(self.from, Ask::Publish(route.clone())).await {
            Some(Answer::Published(done)) => done,
            _ => Err(away()),
        }
    }

    fn supervised(&self) -> bool {
        true
    }
}
