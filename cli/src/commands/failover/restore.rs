//! `store restore-lease STORE [--without COPY]...`: a Lease made anew from what the copies say.

use kube::{Api, ResourceExt};
use mailcluster_api::{MailStore, mailstore::Phase, names::REPLICAS, restore};
use serde_json::json;

use super::{Note, annotate, in_cluster, store, waiting::until};
use crate::{
    args::Global,
    connect::Cluster,
    failure::Failure,
    output::{self, Format},
};

/// What is asked for.
pub struct Asked {
    pub store: String,
    /// Copies that are not waited for, each by its letter or id.
    pub without: Vec<String>,
    pub wait: u32,
}

/// `store restore-lease STORE [--without COPY]...`
pub async fn run(asked: Asked, global: &Global) -> Result<(), Failure> {
    in_cluster(global)?;
    let cluster = Cluster::find(global).await?;
    let left_out = ids_of(&store(&cluster, &asked.store).await?, &asked.without)?;
    let name = &asked.store;
    let words: String = left_out.iter().map(|id| format!(" --without {id}")).collect();
    let note = Note::write(&cluster, format!("store restore-lease {name}{words}")).await;
    let api: Api<MailStore> = cluster.api();
    annotate(&api, name, restore::ANNOTATION, &restore::value(&left_out)).await?;
    let waited = serves(&api, &asked).await;
    note.finish(&cluster).await;
    waited?;
    let result = if asked.wait == 0 { "asked" } else { "served" };
    match global.output {
        Format::Json => output::json(&json!({"store": name, "without": left_out, "result": result})),
        Format::Text if asked.wait == 0 => {
            output::line(&format!("asked to make the Lease of {name} anew from what its volumes say"));
        }
        Format::Text => output::line(&format!("the Lease of {name} is made anew, and it is served")),
    }
    Ok(())
}

/// The ids of the copies that are named.
fn ids_of(store: &MailStore, named: &[String]) -> Result<Vec<String>, Failure> {
    let name = store.name_any();
    let copies = || store.spec.replicas.iter().zip(REPLICAS);
    let mut ids: Vec<String> = Vec::new();
    for copy in named {
        let is_meant = |id: &str, letter: char| id == copy.as_str() || copy.chars().eq([letter]);
        let found = copies().find(|(replica, letter)| is_meant(&replica.id, *letter));
        let (replica, _) = found.ok_or_else(|| Failure::NotFound(format!("{name} has no copy {copy}")))?;
        if !ids.contains(&replica.id) {
            ids.push(replica.id.clone());
        }
    }
    if !ids.is_empty() && ids.len() == store.spec.replicas.len() {
        return Err(Failure::Usage(format!(
            "{name} has no other copy: there is nothing that its Lease could be made from"
        )));
    }
    Ok(ids)
}

/// Waits until the operator has done it and the store is served, for as long as was asked.
async fn serves(api: &Api<MailStore>, asked: &Asked) -> Result<(), Failure> {
    if asked.wait == 0 {
        return Ok(());
    }
    let late =
        format!("{} is not served after {} s; the request stands until it is done", asked.store, asked.wait);
    until(api, (&asked.store, asked.wait), |now| Ok(is_done(now)), &late).await.map(drop)
}

/// The request is taken away and the store is served.
fn is_done(store: &MailStore) -> bool {
    let is_served = store.status.as_ref().and_then(|s| s.phase) == Some(Phase::Serving);
    is_served && !store.annotations().contains_key(restore::ANNOTATION)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(ids: &[&str]) -> MailStore {
        let replicas: Vec<_> = ids.iter().map(|id| json!({"id": id, "pvc": "p"})).collect();
        serde_json::from_value(json!({
            "apiVersion": "mailcluster.io/v1alpha1", "kind": "MailStore", "metadata": {"name": "demo-0"},
            "spec": {"kind": "Mail", "cluster": "demo", "replicas": replicas},
        }))
        .unwrap()
    }

    #[test]
    fn copies_that_are_left_out_are_named_by_letter_or_id() {
        for (ids, named, expected) in [
            ("xx yy", "", Ok("")),
            ("xx yy", "b", Ok("yy")),
            ("xx yy", "yy", Ok("yy")),
            ("xx yy zz", "c a c", Ok("zz xx")),
            ("xx yy", "c", Err("no copy c")),
            ("xx yy", "x", Err("no copy x")),
            ("xx yy", "a b", Err("no other copy")),
            ("xx", "a", Err("no other copy")),
        ] {
            let of = |words: &str| words.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
            let store = with(&ids.split(' ').collect::<Vec<_>>());
            let found = ids_of(&store, &of(named)).map_err(|why| why.to_string());
            match expected {
                Ok(expected) => assert_eq!(found, Ok(of(expected)), "{ids}: {named}"),
                Err(word) => assert!(found.is_err_and(|why| why.contains(word)), "{ids}: {named}"),
            }
        }
    }

    #[test]
    fn it_is_done_when_the_store_serves_and_the_request_is_gone() {
        for (phase, is_asked, expected) in
            [("Serving", false, true), ("Serving", true, false), ("Blocked", false, false)]
        {
            let mut store = with(&["xx", "yy"]);
            store.status = serde_json::from_value(json!({"phase": phase})).unwrap();
            if is_asked {
                store.annotations_mut().insert(restore::ANNOTATION.into(), restore::value(&[]));
            }
            assert_eq!(is_done(&store), expected, "{phase} {is_asked}");
        }
    }
}
