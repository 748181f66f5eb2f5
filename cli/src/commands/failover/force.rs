//! `failover STORE --force`: a copy that lacks something takes the store, because those that have everything are gone for
//! good. What is known of the loss is said before anything is asked of the operator.

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use kube::{
    Api, ResourceExt,
    api::{Patch, PatchParams},
};
use mailcluster_api::{
    MailStore, force,
    mailstore::{Phase, Survivor},
    names::REPLICAS,
};
use mailcluster_failover::Position;
use serde_json::json;

use super::{
    Note, ask, epoch, obstacle, store,
    waiting::{refusal, until},
};
use crate::{
    args::Failover,
    connect::Cluster,
    copies,
    failure::Failure,
    output::{self, Format},
};

/// Annotation of a Lease: what was acknowledged at its last renewal, `epoch/sequence`.
const POSITION: &str = "mailcluster.io/position";

/// `failover STORE --force`
pub async fn run(asked: Failover, cluster: &Cluster, out: Format) -> Result<(), Failure> {
    let before = store(cluster, &asked.store).await?;
    let leases: Api<Lease> = cluster.api();
    let lease = leases.get_opt(&asked.store).await?;
    let plan = Plan::new(&before, lease.as_ref(), asked.to.as_deref())?;
    // People read what they are asked; a program's output stays one value.
    eprintln!("{}", plan.told(&asked));
    ask(&format!("Type the store's name, {}, to go on: ", asked.store), &asked.store, asked.yes)?;
    let accepted = if asked.accept_loss { ", the loss accepted" } else { "" };
    let what =
        format!("failover {} --force to copy {}{accepted}: {}", asked.store, plan.copy.id, plan.lost());
    let note = Note::write(cluster, what).await;
    let api: Api<MailStore> = cluster.api();
    let request = plan.request(asked.accept_loss)?;
    api.patch(&asked.store, &PatchParams::default(), &Patch::Merge(request)).await?;
    let waited = wait(&api, &asked, &before).await;
    note.finish(cluster).await;
    let now = waited?;
    match out {
        Format::Json => {
            output::json(&json!({"store": asked.store, "copy": plan.copy.id, "status": now.status}))
        }
        Format::Text if asked.wait == 0 => output::line(&format!("ordered for {}", asked.store)),
        Format::Text => {
            let host = now.status.unwrap_or_default().host.unwrap_or_default();
            output::line(&format!("{} is served from {host}, by copy {}", asked.store, plan.copy.id));
        }
    }
    Ok(())
}

/// A place in a log, as it stands in status and Lease.
fn position(text: &str) -> Option<Position> {
    text.parse().ok()
}

/// What is to be done, and what is known of it.
struct Plan<'a> {
    copies: Vec<(char, &'a Survivor)>,
    copy: &'a Survivor,
    lease: &'a Lease,
    epoch: u64,
    /// Where the copy's log ends.
    end: Position,
    /// What was acknowledged at the lease's last renewal.
    acknowledged: Position,
}

impl<'a> Plan<'a> {
    fn new(store: &'a MailStore, lease: Option<&'a Lease>, to: Option<&str>) -> Result<Self, Failure> {
        let (name, failed) = (store.name_any(), |why: String| Err(Failure::Failed(why)));
        if !store.spec.is_mirrored() {
            return failed(format!(
                "{name} has a single copy: nothing else could serve it; without --force it is moved to another node that reaches its disk"
            ));
        }
        let status = store.status.as_ref();
        if status.and_then(|s| s.phase) == Some(Phase::Serving) {
            let host = status.and_then(|s| s.host.clone()).unwrap_or_default();
            return failed(format!(
                "{name} is served from {host}: --force is for a store that nobody can serve"
            ));
        }
        let Some(lease) = lease else {
            return failed(format!(
                "the Lease of {name} is missing: see `kubectl mailcluster store restore-lease`"
            ));
        };
        let survivors = status.map(|s| s.survivors.as_slice()).unwrap_or_default();
        if survivors.is_empty() {
            let why = obstacle(store).unwrap_or_else(|| "it is still being looked at".into());
            return Err(Failure::Unavailable(format!(
                "the operator has not found yet that no copy of {name} that has everything answers ({why}): ask again when it says NoInSyncCopy"
            )));
        }
        let letter = |s: &Survivor| store.spec.replicas.iter().zip(REPLICAS).find(|(r, _)| r.id == s.id);
        let copies: Vec<_> = survivors.iter().filter_map(|s| Some((letter(s)?.1, s))).collect();
        let copy = chosen(&copies, to)?;
        let epoch = lease.spec.as_ref().and_then(|s| s.lease_transitions).unwrap_or(0);
        Ok(Self {
            epoch: u64::try_from(epoch).unwrap_or(0),
            end: copy.end.as_deref().and_then(position).unwrap_or_default(),
            acknowledged: lease.annotations().get(POSITION).and_then(|p| position(p)).unwrap_or_default(),
            copies,
            copy,
            lease,
        })
    }

    fn request(&self, accept_loss: bool) -> Result<serde_json::Value, Failure> {
        let request = force::Request { copy: self.copy.id.clone(), epoch: self.epoch, accept_loss };
        let text = serde_json::to_string(&request).map_err(|error| Failure::Failed(error.to_string()))?;
        Ok(json!({"metadata": {"annotations": {force::ANNOTATION: text, force::REFUSED: null}}}))
    }

    /// What is known of the loss, in a line.
    fn lost(&self) -> String {
        let (end, acknowledged) = (self.end, self.acknowledged);
        let known = match acknowledged.seq.checked_sub(end.seq).filter(|n| *n > 0 && acknowledged > end) {
            Some(1) => "at least 1 acknowledged change is missing".to_owned(),
            Some(n) => format!("at least {n} acknowledged changes are missing"),
            None => "no acknowledged change is known to be missing".to_owned(),
        };
        format!(
            "it ends at {}/{}, and {}/{} was acknowledged: {known}",
            end.epoch, end.seq, acknowledged.epoch, acknowledged.seq
        )
    }

    /// All that a person should know before.
    fn told(&self, asked: &Failover) -> String {
        let renewed = self.lease.spec.as_ref().and_then(|s| s.renew_time.as_ref()).map(|t| t.0);
        let mut text = format!("Copies of {}, at epoch {}:\n", asked.store, self.epoch);
        for (letter, copy) in &self.copies {
            let node = copy.node.as_deref().unwrap_or("no node");
            let has =
                if copies::has_everything(Some(self.lease), &copy.id) { "has everything; " } else { "" };
            let end = copy.end.as_deref().map(|end| format!("; ends at {end}")).unwrap_or_default();
            let newest = copy.newest.as_ref().map(|t| format!(", its newest change is {}", ago(t.0)));
            let newest = newest.unwrap_or_default();
            text.push_str(&format!("  {letter}  {}  {node}: {has}{}{end}{newest}\n", copy.id, copy.state));
        }
        text.push_str(&format!("Copy {} is to serve {}: {}.\n", self.copy.id, asked.store, self.lost()));
        let until = renewed.map_or_else(|| "the last renewal of the lease".to_owned(), ago);
        text.push_str(&format!(
            "That is what the lease knew {until}. What was acknowledged after it is missing as well, and is not counted.\n"
        ));
        text.push_str(
            "A copy that comes back with more keeps that on its volume: it is not served. A copy that has everything and \
             can be brought back loses nothing: bring it back instead, if there is a way.\n",
        );
        if asked.accept_loss {
            text.push_str(
                "--accept-loss: if the old holder's process still runs, its clients go on being served by it, and what it \
                 acknowledges to them is missing here, too.\n",
            );
        }
        text
    }
}

/// `3 min before now, at 2026-11-23T05:00:00Z`.
fn ago(at: Timestamp) -> String {
    let seconds = (Timestamp::now().as_second() - at.as_second()).max(0);
    let span = match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} days", seconds / 86_400),
    };
    format!("{span} ago, at {}", at.strftime("%Y-%m-%dT%H:%M:%SZ"))
}

/// The copy that was named, or the one with the most of those that stand by.
fn chosen<'a>(copies: &[(char, &'a Survivor)], to: Option<&str>) -> Result<&'a Survivor, Failure> {
    let place = |copy: &&Survivor| copy.end.as_deref().and_then(position);
    let answer = || copies.iter().map(|(_, copy)| *copy).filter(|copy| place(copy).is_some());
    let Some(to) = to else {
        let able = answer().filter(|copy| copy.state.starts_with("stands by"));
        return able
            .max_by_key(place)
            .ok_or_else(|| Failure::Failed("no copy answers and stands by: there is none to serve".into()));
    };
    let is_named = |(letter, copy): &&(char, &Survivor)| {
        letter.to_string() == to || copy.id == to || copy.node.as_deref() == Some(to)
    };
    let named = copies.iter().find(is_named).map(|(_, copy)| *copy);
    let copy =
        named.ok_or_else(|| Failure::NotFound(format!("no copy is {to}, or on a node of that name")))?;
    if place(&copy).is_none() {
        return Err(Failure::Failed(format!("the copy {} does not answer", copy.id)));
    }
    Ok(copy)
}

async fn wait(api: &Api<MailStore>, asked: &Failover, before: &MailStore) -> Result<MailStore, Failure> {
    let has_it = |now: &MailStore| {
        let serves = now.status.as_ref().and_then(|s| s.phase) == Some(Phase::Serving);
        !now.annotations().contains_key(force::ANNOTATION) && serves && epoch(now) > epoch(before)
    };
    let is_done = |now: &MailStore| match refusal(now, force::REFUSED, force::ANNOTATION) {
        _ if has_it(now) => Ok(true),
        Some(why) => Err(Failure::Failed(format!("{} is not served by force: {why}", asked.store))),
        None => Ok(false),
    };
    let late = format!("{} is not served within {} s; the order stands", asked.store, asked.wait);
    until(api, (&asked.store, asked.wait), is_done, &late).await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(position: &str) -> Lease {
        serde_json::from_value(json!({
            "metadata": {"annotations": {POSITION: position, "mailcluster.io/in-sync": "v4:aa"}},
            "spec": {"leaseTransitions": 5, "holderIdentity": "p/s", "renewTime": "2026-11-23T05:00:00.000000Z"},
        }))
        .unwrap()
    }

    fn mirrored(phase: &str, survivors: serde_json::Value) -> MailStore {
        let replicas: Vec<_> = ["aa", "bb", "cc"].iter().map(|id| json!({"id": id, "pvc": "p"})).collect();
        serde_json::from_value(json!({
            "apiVersion": "mailcluster.io/v1alpha1", "kind": "MailStore", "metadata": {"name": "demo-0"},
            "spec": {"kind": "Mail", "cluster": "demo", "replicas": replicas},
            "status": {"phase": phase, "host": "n1", "survivors": survivors},
        }))
        .unwrap()
    }

    fn found() -> serde_json::Value {
        json!([
            {"id": "aa", "node": "n1", "state": "does not answer"},
            {"id": "bb", "node": "n2", "state": "stands by", "end": "5/90", "newest": "2026-11-23T04:59:00Z"},
            {"id": "cc", "node": "n3", "state": "stands by", "end": "4/99"},
        ])
    }

    fn asked(accept_loss: bool) -> Failover {
        Failover { store: "demo-0".into(), to: None, force: true, accept_loss, yes: false, wait: 0 }
    }

    #[test]
    fn the_copy_with_the_most_is_chosen_unless_one_is_named() {
        let (store, lease) = (mirrored("Blocked", found()), lease("5/118"));
        let copy = |to| Plan::new(&store, Some(&lease), to).map(|plan| plan.copy.id.clone());
        for (to, wanted) in [(None, "bb"), (Some("c"), "cc"), (Some("cc"), "cc"), (Some("n3"), "cc")] {
            assert_eq!(copy(to), Ok(wanted.to_owned()), "{to:?}");
        }
        for (to, why) in [("a", "does not answer"), ("d", "no copy is d"), ("n9", "no copy is n9")] {
            assert!(copy(Some(to)).unwrap_err().to_string().contains(why), "{to}");
        }
    }

    #[test]
    fn it_is_said_what_there_is_and_what_is_known_to_be_missing() {
        let (store, lease) = (mirrored("Blocked", found()), lease("5/118"));
        let plan = Plan::new(&store, Some(&lease), None).unwrap();
        let text = plan.told(&asked(false));
        for part in [
            "a  aa  n1: has everything; does not answer",
            "b  bb  n2: stands by; ends at 5/90, its newest change is",
            "at 2026-11-23T04:59:00Z",
            "c  cc  n3: stands by; ends at 4/99",
            "Copy bb is to serve demo-0: it ends at 5/90, and 5/118 was acknowledged: at least 28 acknowledged changes are missing.",
            "at 2026-11-23T05:00:00Z. What was acknowledged after it",
        ] {
            assert!(text.contains(part), "{part}\n{text}");
        }
        assert!(!text.contains("--accept-loss") && plan.told(&asked(true)).contains("--accept-loss"));
        let request = plan.request(true).unwrap();
        let text = request["metadata"]["annotations"][force::ANNOTATION].as_str().unwrap();
        let wanted = force::Request { copy: "bb".into(), epoch: 5, accept_loss: true };
        assert_eq!(serde_json::from_str::<force::Request>(text).unwrap(), wanted);
        let all = self::lease("5/90");
        let plan = Plan::new(&store, Some(&all), None).unwrap();
        assert!(plan.lost().contains("no acknowledged change is known"), "{}", plan.lost());
    }

    #[test]
    fn it_is_for_stores_that_nobody_can_serve() {
        let lease = lease("5/118");
        let mut single = mirrored("Blocked", found());
        single.spec.replicas.truncate(1);
        for (what, store, lease, why) in [
            ("a single copy", single, Some(&lease), "single copy"),
            ("it serves", mirrored("Serving", json!([])), Some(&lease), "is served from n1"),
            ("not judged yet", mirrored("Suspect", json!([])), Some(&lease), "NoInSyncCopy"),
            ("no lease", mirrored("Blocked", found()), None, "restore-lease"),
        ] {
            let failed = Plan::new(&store, lease, None).err().map(|e| e.to_string()).unwrap_or_default();
            assert!(failed.contains(why), "{what}: {failed}");
        }
    }
}
