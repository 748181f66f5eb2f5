//! The stores for which something is being done: each by itself, so that an API call that hangs for one holds up no other.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use kube::ResourceExt;
use mailcluster_api::MailStore;
use tokio::{
    task::{Id, JoinSet},
    time::Instant,
};

/// So many stores at once: each reads a dozen objects before each step.
const AT_ONCE: usize = 16;
/// So many of them with no more than something to write down: a store that must move finds room beside them.
const AT_REST: usize = 12;

/// For so long after its end a move counts as one: the watches may not show yet what it has written.
pub const LINGERS: Duration = Duration::from_secs(1);

type Key = (String, String);

fn key(store: &MailStore) -> Key {
    (store.namespace().unwrap_or_default(), store.name_any())
}

struct One {
    store: Arc<MailStore>,
    moves: bool,
}

/// What is done for a store meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// Something is written down; the store stays as it is.
    Note,
    /// A step that moves nothing.
    Step,
    /// It moves.
    Move,
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Something was done.
    Done,
    /// Nothing was to be done after all.
    Nothing,
    /// It failed on the way.
    Failed,
}

/// All of them; what is under way ends with this.
#[derive(Default)]
pub struct UnderWay {
    tasks: JoinSet<Outcome>,
    all: BTreeMap<Id, One>,
    busy: BTreeSet<Key>,
    /// Moves that have just ended.
    ended: Vec<(Instant, Arc<MailStore>)>,
    /// Those for which nothing could be done the last time.
    unlucky: BTreeSet<Key>,
}

impl UnderWay {
    /// Takes in what has ended since.
    pub fn take_in(&mut self) {
        self.ended.retain(|(at, _)| at.elapsed() < LINGERS);
        while let Some(ended) = self.tasks.try_join_next_with_id() {
            let (id, outcome) = match ended {
                Ok(ended) => ended,
                Err(error) => {
                    tracing::error!(%error, "a step of failover ended by itself; it is tried again");
                    (error.id(), Outcome::Failed)
                }
            };
            let Some(one) = self.all.remove(&id) else { continue };
            let key = key(&one.store);
            self.busy.remove(&key);
            if one.moves && outcome != Outcome::Nothing {
                self.ended.push((Instant::now(), one.store));
            }
            if outcome == Outcome::Done {
                self.unlucky.remove(&key);
            } else {
                self.unlucky.insert(key);
            }
        }
    }

    /// The stores that move by what is under way, or was a moment ago.
    pub fn moving(&self) -> impl Iterator<Item = &MailStore> {
        let under_way = self.all.values().filter(|one| one.moves).map(|one| &one.store);
        under_way.chain(self.ended.iter().map(|(_, store)| store)).map(|store| &**store)
    }

    /// Is something being done for this store, or has a move of it just failed? Then it is the others' turn first.
    #[must_use]
    pub fn is_busy(&self, store: &MailStore) -> bool {
        let key = key(store);
        let failed =
            || self.unlucky.contains(&key) && self.ended.iter().any(|(_, ended)| self::key(ended) == key);
        self.busy.contains(&key) || failed()
    }

    /// Does this store come after those for which something was done the last time? Else one that the API server refuses again
    /// and again would have the only place among those that may move at once.
    #[must_use]
    pub fn is_unlucky(&self, store: &MailStore) -> bool {
        self.unlucky.contains(&key(store))
    }

    /// Is there room for one more?
    #[must_use]
    pub fn has_room(&self, work: Work) -> bool {
        self.all.len() < if work == Work::Note { AT_REST } else { AT_ONCE }
    }

    /// Begins what is to be done for a store.
    pub fn begin(
        &mut self,
        store: &Arc<MailStore>,
        work: Work,
        task: impl Future<Output = Outcome> + Send + 'static,
    ) {
        let id = self.tasks.spawn(task).id();
        self.busy.insert(key(store));
        self.all.insert(id, One { store: store.clone(), moves: work == Work::Move });
    }

    /// Forgets stores that are no more.
    pub fn keep_only(&mut self, is_there: impl Fn(&str, &str) -> bool) {
        self.unlucky.retain(|(namespace, name)| is_there(namespace, name));
    }
}

#[cfg(test)]
mod tests {
    use mailcluster_api::mailstore::{MailStoreSpec, StoreKind};

    use super::*;

    fn store(name: &str) -> Arc<MailStore> {
        let spec = MailStoreSpec {
            kind: StoreKind::Mail,
            cluster: "demo".into(),
            replicas: Vec::new(),
            pinned_node: None,
        };
        Arc::new(MailStore::new(name, spec))
    }

    /// Takes in until nothing is left of what can end.
    async fn until_rest(all: &mut UnderWay, left: usize) {
        let wait = async {
            while all.all.len() > left {
                tokio::task::yield_now().await;
                all.take_in();
            }
        };
        tokio::time::timeout(Duration::from_secs(10), wait).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_is_busy_and_moves_until_its_task_has_ended_however_it_ends() {
        for (what, work, moving) in
            [("a move", Work::Move, 1), ("a step", Work::Step, 0), ("a note", Work::Note, 0)]
        {
            let mut all = UnderWay::default();
            all.begin(&store("a"), work, std::future::pending());
            assert!(all.is_busy(&store("a")) && !all.is_busy(&store("b")), "{what}");
            assert_eq!(all.moving().count(), moving, "{what}");
        }
        for (what, ends, lingers, unlucky) in [
            ("done", Some(Outcome::Done), 1, false),
            ("nothing", Some(Outcome::Nothing), 0, true),
            ("failed", Some(Outcome::Failed), 1, true),
            ("a panic", None, 1, true),
        ] {
            let mut all = UnderWay::default();
            all.begin(&store("a"), Work::Move, async move { ends.unwrap() });
            until_rest(&mut all, 0).await;
            assert_eq!(all.moving().count(), lingers, "{what}: what it wrote may not be seen yet");
            assert_eq!(all.is_busy(&store("a")), lingers == 1 && unlucky, "{what}: the others first");
            assert_eq!(all.is_unlucky(&store("a")), unlucky, "{what}");
            tokio::time::sleep(LINGERS).await;
            all.take_in();
            assert_eq!(all.moving().count(), 0, "{what}");
            assert!(!all.is_busy(&store("a")), "{what}");
            all.begin(&store("a"), Work::Move, std::future::ready(Outcome::Done));
            until_rest(&mut all, 0).await;
            assert!(!all.is_unlucky(&store("a")), "{what}: something came of it then");
        }
    }

    #[tokio::test]
    async fn there_is_room_for_moves_beside_what_is_only_written_down() {
        let mut all = UnderWay::default();
        let hangs = |all: &mut UnderWay, n: usize, work| {
            for number in all.all.len()..n {
                all.begin(&store(&number.to_string()), work, std::future::pending());
            }
        };
        hangs(&mut all, AT_REST, Work::Note);
        assert_eq!([Work::Note, Work::Step, Work::Move].map(|w| all.has_room(w)), [false, true, true]);
        hangs(&mut all, AT_ONCE, Work::Move);
        assert_eq!([Work::Note, Work::Step, Work::Move].map(|w| all.has_room(w)), [false; 3]);
    }
}
