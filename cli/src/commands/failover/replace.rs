//! `store replace-replica STORE COPY`: a new copy in the place of another.

use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::Lease;
use kube::{
    Api, ResourceExt,
    api::{Patch, PatchParams},
};
use mailcluster_api::{
    MailStore,
    mailstore::{REPLACE_REFUSED, REPLACE_REPLICA},
    names::REPLICAS,
};
use serde_json::json;

use super::{LOOK, Note, ask, in_cluster, store, waiting::refusal};
use crate::{
    args::Global,
    connect::Cluster,
    copies,
    failure::Failure,
    output::{self, Format},
};

/// The operator takes a request up within this, or says why not.
const TAKEN: Duration = Duration::from_secs(60);

/// What is asked for.
pub struct Asked {
    pub store: String,
    pub copy: char,
    pub yes: bool,
    pub wait: u32,
}

/// `store replace-replica STORE COPY`
pub async fn run(asked: Asked, global: &Global) -> Result<(), Failure> {
    in_cluster(global)?;
    let cluster = Cluster::find(global).await?;
    let before = store(&cluster, &asked.store).await?;
    let old = id_of(&before, asked.copy)?;
    let leases: Api<Lease> = cluster.api();
    let lease = leases.get_opt(&asked.store).await?;
    confirm(&asked, &copies::standing(lease.as_ref(), &old))?;
    let note =
        Note::write(&cluster, format!("store replace-replica {} {}: {old}", asked.store, asked.copy)).await;
    let api: Api<MailStore> = cluster.api();
    let request = json!({"metadata": {"annotations": {REPLACE_REPLICA: old, REPLACE_REFUSED: null}}});
    api.patch(&asked.store, &PatchParams::default(), &Patch::Merge(request)).await?;
    let taken = taken(&api, &asked, &old).await;
    note.finish(&cluster).await;
    let new = taken?;
    caught_up(&leases, &asked, &new).await?;
    match global.output {
        Format::Json => output::json(&json!({"store": asked.store, "old": old, "new": new})),
        Format::Text => output::line(&format!(
            "copy {} of {} is {new} now; the claim of {old} is kept, with the label mailcluster.io/retired",
            asked.copy, asked.store
        )),
    }
    Ok(())
}

fn id_of(store: &MailStore, copy: char) -> Result<String, Failure> {
    let name = store.name_any();
    if !store.spec.is_mirrored() {
        return Err(Failure::Failed(format!("{name} has one copy alone: there is none to replace it from")));
    }
    let mut copies = store.spec.replicas.iter().zip(REPLICAS);
    let found = copies.find(|(_, letter)| *letter == copy).map(|(replica, _)| replica.id.clone());
    found.ok_or_else(|| Failure::NotFound(format!("{name} has no copy {copy}")))
}

fn confirm(asked: &Asked, standing: &str) -> Result<(), Failure> {
    let (store, copy) = (&asked.store, asked.copy);
    let question = format!(
        "Copy {copy} of {store} {standing}. Until the new one has everything, {store} has one copy less.\n\
         Type the copy's letter to go on: "
    );
    ask(&question, &copy.to_string(), asked.yes)
}

/// Waits until the operator has taken the request up; answers the new copy's id.
async fn taken(api: &Api<MailStore>, asked: &Asked, old: &str) -> Result<String, Failure> {
    let deadline = Instant::now() + TAKEN;
    loop {
        let now = api.get(&asked.store).await?;
        if let Some(why) = refusal(&now, REPLACE_REFUSED, REPLACE_REPLICA) {
            return Err(Failure::Failed(format!(
                "copy {} of {} is not replaced: {why}",
                asked.copy, asked.store
            )));
        }
        let new = id_of(&now, asked.copy)?;
        if new != old {
            return Ok(new);
        }
        if Instant::now() >= deadline {
            return Err(Failure::Unavailable(format!(
                "the operator has not replaced it within {} s, and does so only while {} is served; the request stands",
                TAKEN.as_secs(),
                asked.store
            )));
        }
        tokio::time::sleep(LOOK).await;
    }
}

async fn caught_up(leases: &Api<Lease>, asked: &Asked, new: &str) -> Result<(), Failure> {
    let deadline = Instant::now() + Duration::from_secs(asked.wait.into());
    let is_waited_for = asked.wait > 0;
    while is_waited_for && !copies::has_everything(leases.get_opt(&asked.store).await?.as_ref(), new) {
        if Instant::now() >= deadline {
            return Err(Failure::Unavailable(format!(
                "the new copy has not everything yet after {} s; it goes on: see `kubectl mailcluster status`",
                asked.wait
            )));
        }
        tokio::time::sleep(LOOK).await;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_are_named_by_their_letters() {
        let with = |ids: &[&str]| -> MailStore {
            let replicas: Vec<_> = ids.iter().map(|id| json!({"id": id, "pvc": "p"})).collect();
            serde_json::from_value(json!({
                "apiVersion": "mailcluster.io/v1alpha1", "kind": "MailStore", "metadata": {"name": "demo-0"},
                "spec": {"kind": "Mail", "cluster": "demo", "replicas": replicas},
            }))
            .unwrap()
        };
        assert_eq!(id_of(&with(&["x", "y"]), 'b').unwrap(), "y");
        for (ids, letter, word) in [
            (&["x", "y"][..], 'c', "no copy c"),
            (&["x", "y"], 'B', "no copy B"),
            (&["x"], 'a', "one copy alone"),
        ] {
            assert!(id_of(&with(ids), letter).unwrap_err().to_string().contains(word), "{ids:?} {letter}");
        }
    }
}
