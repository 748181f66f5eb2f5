//! What the cluster's API says, kept up to date by watches.

use std::collections::BTreeMap;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Result, bail};
use serde_json::Value;

use crate::api;

/// Objects by `NAMESPACE/NAME`.
pub(crate) type Objects = BTreeMap<String, Value>;

/// The kinds that are watched.
pub(crate) const KINDS: [(&str, &str); 6] = [
    ("pods", "/api/v1/pods"),
    ("services", "/api/v1/services"),
    ("namespaces", "/api/v1/namespaces"),
    ("nodes", "/api/v1/nodes"),
    ("endpointslices", "/apis/discovery.k8s.io/v1/endpointslices"),
    ("networkpolicies", "/apis/networking.k8s.io/v1/networkpolicies"),
];

/// All objects of the kinds watched, as last heard.
#[derive(Clone, Debug, Default)]
pub(crate) struct View {
    kinds: BTreeMap<&'static str, Objects>,
}

impl View {
    /// The objects of a kind.
    pub fn of(&self, kind: &str) -> impl Iterator<Item = &Value> {
        self.kinds.get(kind).into_iter().flat_map(BTreeMap::values)
    }

    /// Whether every kind was listed at least once.
    pub fn complete(&self) -> bool {
        self.kinds.len() == KINDS.len()
    }

    /// A view of given objects.
    #[cfg(test)]
    pub fn given(objects: &[(&'static str, Value)]) -> Self {
        let mut view = Self::default();
        for (kind, object) in objects {
            view.kinds.entry(kind).or_default().insert(key(object), object.clone());
        }
        view
    }
}

/// `NAMESPACE/NAME` of an object.
pub(crate) fn key(object: &Value) -> String {
    let part = |name: &str| object["metadata"][name].as_str().unwrap_or_default();
    format!("{}/{}", part("namespace"), part("name"))
}

/// Watches every kind from threads of their own; each change is told by a word in the channel.
pub(crate) fn start(changed: &Sender<()>) -> Arc<Mutex<View>> {
    let view = Arc::new(Mutex::new(View::default()));
    for (kind, path) in KINDS {
        let (view, changed) = (Arc::clone(&view), changed.clone());
        std::thread::spawn(move || {
            let mut silent = false;
            loop {
                if let Err(error) = follow(kind, path, &view, &changed) {
                    // With the API server away this would be one line a second.
                    if !silent {
                        eprintln!("watching {kind}: {error:#}");
                    }
                    silent = true;
                    std::thread::sleep(Duration::from_secs(1));
                } else {
                    silent = false;
                }
            }
        });
    }
    view
}

fn follow(kind: &'static str, path: &str, view: &Mutex<View>, changed: &Sender<()>) -> Result<()> {
    let list = api::get(path)?;
    let items = list["items"].as_array().map(Vec::as_slice).unwrap_or_default();
    let objects: Objects = items.iter().map(|item| (key(item), trimmed(item.clone()))).collect();
    lock(view).kinds.insert(kind, objects);
    changed.send(())?;
    let version = list["metadata"]["resourceVersion"].as_str().unwrap_or_default();
    let query =
        format!("{path}?watch=1&allowWatchBookmarks=true&timeoutSeconds=600&resourceVersion={version}");
    api::watch(&query, |mut event| {
        let object = event["object"].take();
        match event["type"].as_str() {
            Some("ADDED" | "MODIFIED") => {
                lock(view).kinds.entry(kind).or_default().insert(key(&object), trimmed(object));
            }
            Some("DELETED") => {
                lock(view).kinds.entry(kind).or_default().remove(&key(&object));
            }
            Some("BOOKMARK") => return Ok(()),
            _ => bail!("the watch ended: {}", object["message"]),
        }
        Ok(changed.send(())?)
    })
}

fn trimmed(mut object: Value) -> Value {
    if let Some(metadata) = object["metadata"].as_object_mut() {
        metadata.remove("managedFields");
    }
    object
}

/// A view is whole at any time: a panic elsewhere doesn't spoil it.
pub(crate) fn lock(view: &Mutex<View>) -> std::sync::MutexGuard<'_, View> {
    view.lock().unwrap_or_else(PoisonError::into_inner)
}
