//! What is seen and heard before anything is decided: leases over time, pods' own accounts, frontends' reports.

use std::{collections::BTreeSet, sync::Arc, time::Instant};

use k8s_openapi::api::{coordination::v1::Lease, core::v1::Pod};
use kube::{Api, ResourceExt, api::ListParams};
use mailcluster_api::labels;
use mailcluster_failover::Observation;

use super::{
    CALM, COUNTS, COUNTS_OF_NEW, Failover, TICK,
    cache::{World, limited},
    lease,
    mover::Mover,
    now_ms, observe, serves,
    shelf::Shelf,
};

impl Failover {
    /// Feeds each lease's watch. What the API's watch shows counts as written when it was seen; that a version stood
    /// still is believed of quorum reads only, made for leases that have been quiet for half of D (F2). Answers whether
    /// there are such leases.
    pub(super) async fn watch_leases(&mut self, world: &World) -> bool {
        let now = now_ms();
        let mut quiet = Vec::new();
        self.watches.retain(|(namespace, name), _| world.stores.get(Some(namespace), name).is_some());
        let heard = Arc::make_mut(&mut self.heard);
        heard.unchanged.clear();
        for store in &world.stores {
            let (Some(lease), Some(cluster)) = (world.lease(store), world.cluster(store)) else { continue };
            let key = (store.namespace().unwrap_or_default(), store.name_any());
            let version = lease.metadata.resource_version.clone().unwrap_or_default();
            let watch = self.watches.entry(key.clone()).or_default();
            let age = watch.observe(&version, now, now);
            if lease.spec.as_ref().and_then(|s| s.holder_identity.as_ref()).is_none_or(String::is_empty) {
                continue;
            }
            let d = observe::lease_ms(cluster, Some(lease));
            if age >= d / 2 {
                quiet.push(key);
            } else if watch.watched_for(now) >= d || watch.changed() {
                // It was renewed while we looked: fresh, and known to be.
                heard.unchanged.insert(key, age);
            }
        }
        if quiet.is_empty() {
            return false;
        }
        self.confirm(&quiet).await;
        true
    }

    /// Quorum reads of the leases that have been quiet.
    async fn confirm(&mut self, quiet: &[(String, String)]) {
        let namespaces: BTreeSet<&String> = quiet.iter().map(|(ns, _)| ns).collect();
        for namespace in namespaces {
            let api: Api<Lease> = Api::namespaced(self.ctx.client.clone(), namespace);
            let asked = now_ms();
            let ours = of_stores();
            let live = limited(api.list(&ours)).await;
            let now = now_ms();
            let live = live.map(|list| list.items.into_iter().map(Arc::new).collect::<Shelf<Lease>>());
            let heard = Arc::make_mut(&mut self.heard);
            for key in quiet.iter().filter(|(ns, _)| ns == namespace) {
                let watch = self.watches.entry(key.clone()).or_default();
                match &live {
                    Ok(all) => {
                        if let Some(lease) = all.get(Some(namespace), &key.1) {
                            let version = lease.metadata.resource_version.clone().unwrap_or_default();
                            heard.unchanged.insert(key.clone(), watch.observe(&version, asked, now));
                        }
                    }
                    Err(error) => {
                        tracing::warn!(%error, store = key.1, "a lease could not be read: its watch begins anew");
                        watch.failed();
                    }
                }
            }
        }
    }

    /// Asks pods what they say of themselves, and frontends what they reach where something is suspected.
    pub(super) async fn ask_pods(&mut self, world: &World, suspects: bool) {
        self.hear().await;
        if !suspects {
            // What is suspected next is asked about anew.
            let heard = Arc::make_mut(&mut self.heard);
            (heard.awaited, self.asks_frontends) = (None, false);
            heard.reports.clear();
        }
        let busy = suspects || world.stores.iter().any(|s| !serves(s));
        let due = if busy { TICK } else { CALM };
        if self.asking.is_some() || self.described_at.is_some_and(|at| at.elapsed() < due) {
            return;
        }
        self.described_at = Some(Instant::now());
        self.peers.keep_only(&world.pods);
        // A pod on a node that is not Ready would only keep the others waiting for its silence.
        let lost = observe::lost_nodes(world);
        let pods = || world.pods.iter().filter(|pod| !observe::is_on(pod, &lost));
        let of_stores: Vec<_> = pods().filter(|p| p.labels().contains_key(labels::STORE)).cloned().collect();
        let asked = |pod: &&Arc<Pod>| suspects && observe::is_frontend(pod) && observe::may_answer(pod);
        let frontends: Vec<_> = pods().filter(asked).cloned().collect();
        self.asks_frontends = suspects;
        if suspects {
            let uids = frontends.iter().filter_map(|pod| pod.uid());
            let heard = Arc::make_mut(&mut self.heard);
            heard.awaited = Some(uids.filter(|uid| !heard.reports.contains_key(uid)).collect());
        }
        self.asking = Some(self.peers.ask(&self.ctx, &of_stores, &frontends).await);
        self.asked = of_stores;
    }

    /// Takes in what pods have said since. Who has not answered yet is as it was at the round before; who has not at its
    /// end says nothing.
    async fn hear(&mut self) {
        let Some(round) = &self.asking else { return };
        let (is_over, told) = (round.is_over(), round.told());
        let heard = Arc::make_mut(&mut self.heard);
        if is_over {
            self.asking = None;
            (heard.described, heard.is_told) = (told.described, true);
            if self.asks_frontends {
                (heard.reports, heard.awaited) = (told.reports, Some(BTreeSet::new()));
            }
            self.count().await;
        } else {
            heard.described.extend(told.described);
            if self.asks_frontends {
                heard.reports.extend(told.reports);
                let reports = &heard.reports;
                heard.awaited.iter_mut().for_each(|awaited| awaited.retain(|uid| !reports.contains_key(uid)));
            }
        }
    }

    /// Asks those that serve, and have just answered, for counts.
    async fn count(&mut self) {
        let serves = |uid: Option<String>| {
            uid.and_then(|uid| self.heard.described.get(&uid)).is_some_and(|described| described.epoch > 0)
        };
        let serving: Vec<_> = self.asked.iter().filter(|pod| serves(pod.uid())).cloned().collect();
        let uncounted =
            serving.iter().any(|pod| pod.uid().is_some_and(|uid| !self.counts.contains_key(&uid)));
        let age = if uncounted { COUNTS_OF_NEW } else { COUNTS };
        if self.ctx.leads() && self.counted_at.is_none_or(|at| at.elapsed() >= age) {
            self.counted_at = Some(Instant::now());
            let status = self.peers.status(&self.ctx, &serving).await;
            let number = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
            let serving = status.into_iter().filter(|(_, s)| s.epoch > 0);
            let counts = serving.map(|(uid, s)| (uid, (number(s.accounts), number(s.octets))));
            self.counts = Arc::new(counts.collect());
        }
    }
}

impl Mover {
    /// Before a machine is switched off: was the lease of another store on it written since the watch showed it, or does
    /// one sit there of which nothing is known?
    pub(super) async fn neighbour_lives(&self, world: &World, o: &Observation) -> anyhow::Result<bool> {
        let Some(node) = o.placement.as_ref().map(|p| p.node.as_str()) else { return Ok(true) };
        let ours = of_stores();
        for api in crate::controller::apis::<Lease>(&self.ctx) {
            for lease in limited(api.list(&ours)).await?.items {
                if may_live(world, &lease) && lease::sits_on(&lease, node) {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }
}

/// Nobody else speaks for a store whose MailStore or MailCluster is not there or cannot be read.
fn may_live(world: &World, lease: &Lease) -> bool {
    let (namespace, name) = (lease.metadata.namespace.as_deref(), lease.name_any());
    let known = world.leases.get(namespace, &name).filter(|known| known.uid() == lease.uid());
    let written = known.is_none_or(|l| l.resource_version() != lease.resource_version());
    written || world.stores.get(namespace, &name).and_then(|store| world.cluster(store)).is_none()
}

/// The stores' Leases.
fn of_stores() -> ListParams {
    ListParams::default().labels(&format!("{}={},{}", labels::NAME, labels::APP_NAME, labels::STORE))
}
