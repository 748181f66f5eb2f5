//! What faults do to the lab, and how each is mended.

use std::{
    net::Ipv4Addr,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use mailcluster_lab::{Block, Lab, Way};
use serde_json::Value;

use super::schedule::{Kind, Planned, Role};
use crate::site::{SYSTEM, Site, wait_for};

/// Half a period of a flapping link.
const FLAP: Duration = Duration::from_secs(2);
/// How long it is waited for that somebody notices a fault.
const NOTICED: Duration = Duration::from_secs(40);

/// What was to follow a fault and did not: no fault of the lab's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Broken(&'static str);

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0)
    }
}

/// A copy of a store.
#[derive(Debug, Clone)]
struct Copy {
    pod: String,
    node: String,
    address: Ipv4Addr,
    claim: String,
}

/// Who makes faults.
pub(super) struct Nemesis<'a> {
    site: &'a Site,
    /// What was stopped and not made to go on yet: processes by their numbers, as pods may be gone by then.
    stopped: Mutex<Vec<(String, String)>>,
    /// Volumes that were filled.
    filled: Mutex<Vec<String>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<'a> Nemesis<'a> {
    pub fn new(site: &'a Site) -> Self {
        Self { site, stopped: Mutex::default(), filled: Mutex::default() }
    }

    fn lab(&self) -> Result<&'a Lab> {
        self.site.lab()
    }

    /// Makes a fault, holds it, and ends it.
    ///
    /// # Errors
    /// When it cannot be made, or not be ended.
    pub fn strike(&self, planned: &Planned) -> Result<()> {
        let struck = self.begin(planned).and_then(|()| self.hold(planned));
        struck.and(self.mend())
    }

    fn begin(&self, planned: &Planned) -> Result<()> {
        let (lab, namespace) = (self.lab()?, self.site.namespace.as_str());
        let leader = if planned.with_leader { Some(self.site.leader()?) } else { None };
        let copy = || self.copy(&planned.store, planned.role);
        match planned.kind {
            Kind::Kill => lab.kill_pod(namespace, &copy()?.pod)?,
            Kind::Pause => self.pause(&copy()?.pod)?,
            Kind::DeletePod => self.delete("pod", &copy()?.pod)?,
            Kind::DeleteLease => self.delete("lease", &planned.store)?,
            Kind::Partition | Kind::Flap => lab.partition(&copy()?.node)?,
            Kind::Mute => lab.block(&copy()?.node, Block::all(Way::Out))?,
            Kind::Deaf => lab.block(&copy()?.node, Block::all(Way::In))?,
            Kind::CutApi => lab.partition_from(&copy()?.node, "api")?,
            Kind::CutMirrors => self.cut_mirrors(&planned.store)?,
            Kind::CutFrontends => self.cut_frontends(&copy()?)?,
            Kind::PowerOff => lab.power_off(&copy()?.node)?,
            Kind::FillDisk => self.fill(&copy()?)?,
            Kind::ApiDown => lab.api_down(None)?,
            Kind::OneApiDown => self.one_api_down(planned)?,
            Kind::DeleteLeader => self.delete_leader(&self.site.leader()?)?,
            Kind::LeaderMidFailover => self.leader_mid_failover(planned)?,
            Kind::PauseFrontend => {
                let frontends = self.site.frontends()?;
                self.pause(frontends.first().context("no frontend")?)?;
            }
            Kind::HandOver => self.hand_over(&planned.store)?,
        }
        leader.map_or(Ok(()), |leader| self.delete_leader(&leader))
    }

    fn hold(&self, planned: &Planned) -> Result<()> {
        let until = Instant::now() + planned.hold;
        if planned.kind != Kind::Flap {
            std::thread::sleep(planned.hold);
            return Ok(());
        }
        let (lab, cut) = (self.lab()?, self.cut_off()?);
        let node = cut.context("no node is cut off")?;
        while Instant::now() < until {
            std::thread::sleep(FLAP);
            lab.heal(&node)?;
            std::thread::sleep(FLAP);
            lab.partition(&node)?;
        }
        Ok(())
    }

    fn cut_off(&self) -> Result<Option<String>> {
        let nodes = self.lab()?.state()?.nodes;
        Ok(nodes.into_iter().find(|node| !node.connected).map(|node| node.name))
    }

    /// Ends every fault that there is, also one that was made by halves.
    ///
    /// # Errors
    /// When the lab does not do it.
    pub fn mend(&self) -> Result<()> {
        let lab = self.lab()?;
        let mut mended: Vec<Result<()>> = vec![lab.api_up(None)];
        for node in lab.state()?.nodes {
            mended.push(lab.heal(&node.name));
        }
        mended.push(self.power_on_all());
        for (namespace, pod) in lock(&self.stopped).drain(..) {
            // What was replaced meanwhile was ended by its kubelet.
            if let Err(error) = lab.resume_pod(&namespace, &pod) {
                println!("    the frozen process is gone: {error:#}");
            }
        }
        for volume in lock(&self.filled).drain(..) {
            mended.push(lab.unfill_volume(&volume));
        }
        mended.into_iter().collect()
    }

    /// Switches on what is off: by a fault, or by a fence.
    ///
    /// # Errors
    /// When the lab does not do it.
    pub fn power_on_all(&self) -> Result<()> {
        let lab = self.lab()?;
        for node in lab.state()?.nodes.iter().filter(|node| !node.is_on()) {
            lab.power_on(&node.name)?;
        }
        Ok(())
    }

    fn pause(&self, pod: &str) -> Result<()> {
        let namespace = &self.site.namespace;
        lock(&self.stopped).push((namespace.clone(), pod.to_owned()));
        self.lab()?.pause_pod(namespace, pod)
    }

    fn delete(&self, kind: &str, name: &str) -> Result<()> {
        let words = ["-n", &self.site.namespace, "delete", kind, name, "--wait=false"];
        self.site.kubernetes.kubectl(&words).map(drop)
    }

    /// Without a farewell: its lease must run out.
    fn delete_leader(&self, leader: &str) -> Result<()> {
        let words = ["-n", SYSTEM, "delete", "pod", leader, "--grace-period=0", "--force", "--wait=false"];
        self.site.kubernetes.kubectl(&words).map(drop)
    }

    fn leader_mid_failover(&self, planned: &Planned) -> Result<()> {
        let before = self.site.store(&planned.store)?;
        self.pause(&self.copy(&planned.store, Role::Primary)?.pod)?;
        wait_for("somebody notices", NOTICED, || {
            let now = self.site.store(&planned.store)?;
            Ok((now.phase != "Serving" || now.epoch > before.epoch).then_some(()))
        })
        .context(Broken("a frozen primary goes unnoticed"))?;
        self.delete_leader(&self.site.leader()?)
    }

    fn one_api_down(&self, planned: &Planned) -> Result<()> {
        let servers = self.lab()?.state()?.api_servers.len();
        ensure!(servers == 2, "this lab has {servers} API server");
        self.lab()?.api_down(Some(1 + usize::from(planned.role == Role::Mirror)))
    }

    fn hand_over(&self, store: &str) -> Result<()> {
        // The operator may not have heard yet that a copy stands by again.
        wait_for("the store is handed over", NOTICED, || self.site.admin(&["failover", store], "").map(Some))
            .map(drop)
            .context(Broken("a store that is well is not handed over"))
    }

    fn cut_mirrors(&self, store: &str) -> Result<()> {
        let (primary, mirrors) = self.copies(store)?;
        ensure!(!mirrors.is_empty(), "{store} has no mirrors now");
        let peers = mirrors.iter().map(|mirror| mirror.address).collect();
        self.lab()?.block(&primary.node, Block { way: Way::Both, own: Some(primary.address), peers })
    }

    fn cut_frontends(&self, copy: &Copy) -> Result<()> {
        let mut peers = Vec::new();
        for frontend in self.site.frontends()? {
            if let Some(std::net::IpAddr::V4(address)) = self.site.running_at(&frontend)? {
                peers.push(address);
            }
        }
        ensure!(!peers.is_empty(), "no frontend runs");
        self.lab()?.block(&copy.node, Block { way: Way::Both, own: Some(copy.address), peers })
    }

    fn fill(&self, copy: &Copy) -> Result<()> {
        let claim = self.site.get(&["persistentvolumeclaim", &copy.claim])?;
        let volume = claim.pointer("/spec/volumeName").and_then(Value::as_str).context("an unbound claim")?;
        lock(&self.filled).push(volume.to_owned());
        self.lab()?.fill_volume(volume)
    }

    fn copy(&self, store: &str, role: Role) -> Result<Copy> {
        let (primary, mirrors) = self.copies(store)?;
        match role {
            Role::Primary => Ok(primary),
            Role::Mirror => mirrors.into_iter().next().with_context(|| format!("{store} has no mirror now")),
        }
    }

    /// The copy that serves, and the others.
    fn copies(&self, store: &str) -> Result<(Copy, Vec<Copy>)> {
        let host = self.site.store(store)?.host;
        let pods = self.site.get(&["pods", "-l", &format!("mailcluster.io/store={store}")])?;
        let all = pods["items"].as_array().into_iter().flatten().filter_map(copy);
        let (mut serving, others): (Vec<Copy>, Vec<Copy>) = all.partition(|copy| copy.node == host);
        match serving.pop() {
            Some(primary) => Ok((primary, others)),
            None => bail!("nothing of {store} runs on {host}"),
        }
    }
}

/// A pod that runs, as a copy.
fn copy(pod: &Value) -> Option<Copy> {
    let text = |pointer: &str| pod.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
    if pod.pointer("/metadata/deletionTimestamp").is_some() {
        return None;
    }
    let volumes = pod.pointer("/spec/volumes")?.as_array()?;
    let claim = volumes.iter().find_map(|v| v.pointer("/persistentVolumeClaim/claimName")?.as_str())?;
    Some(Copy {
        pod: text("/metadata/name")?,
        node: text("/spec/nodeName")?,
        address: text("/status/podIP")?.parse().ok()?,
        claim: claim.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_pod_that_runs_is_a_copy() {
        let pod = |deleted: Value| {
            json!({"metadata": {"name": "a-0-b-0", "deletionTimestamp": deleted}, "status": {"podIP": "10.0.0.7"},
                "spec": {"nodeName": "node2", "volumes": [{"name": "tls"},
                    {"persistentVolumeClaim": {"claimName": "data-a-0-b-0"}}]}})
        };
        let mut alive = pod(Value::Null);
        alive["metadata"].as_object_mut().unwrap().remove("deletionTimestamp");
        let read = copy(&alive).unwrap();
        assert_eq!(
            (read.pod.as_str(), read.node.as_str(), read.claim.as_str()),
            ("a-0-b-0", "node2", "data-a-0-b-0")
        );
        assert!(copy(&pod(json!("2026-01-01T00:00:00Z"))).is_none());
        assert!(copy(&json!({"metadata": {"name": "x"}})).is_none());
    }
}
