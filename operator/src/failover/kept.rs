//! What watches show of one kind, without the parts that nobody here looks at.

use std::{
    fmt::Debug,
    future::ready,
    mem::take,
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use futures::StreamExt;
use kube::{
    Api, Resource, ResourceExt,
    runtime::{
        WatchStreamExt,
        watcher::{self, Event, watcher},
    },
};
use mailcluster_api::retry::Retry;
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{shelf::Shelf, unreadable::Invalid};

/// One object as the API server sent it, made what is kept of it.
pub type Read<G, K> = fn(G) -> Result<K, Invalid>;

/// Everything of one kind; what cannot be read takes no part.
#[derive(Debug)]
struct Content<K> {
    good: Shelf<K>,
    bad: Vec<Invalid>,
}

impl<K> Default for Content<K> {
    fn default() -> Self {
        Self { good: Shelf::default(), bad: Vec::new() }
    }
}

impl<K: ResourceExt> Content<K> {
    fn put(&mut self, read: Result<K, Invalid>) {
        match read {
            Ok(object) => {
                self.forget_bad(object.meta().namespace.as_deref(), object.meta().name.as_deref());
                self.good.put(Arc::new(object));
            }
            Err(invalid) => {
                let (namespace, name) = (invalid.about.namespace.clone(), invalid.about.name.clone());
                self.remove(namespace.as_deref(), name.as_deref());
                self.bad.push(invalid);
            }
        }
    }

    fn remove(&mut self, namespace: Option<&str>, name: Option<&str>) {
        self.forget_bad(namespace, name);
        self.good.remove(namespace, name.unwrap_or_default());
    }

    fn forget_bad(&mut self, namespace: Option<&str>, name: Option<&str>) {
        self.bad.retain(|i| i.about.namespace.as_deref() != namespace || i.about.name.as_deref() != name);
    }
}

/// What one watch has shown, for itself and beside those of other namespaces.
struct Keeper<K> {
    content: Arc<RwLock<Content<K>>>,
    namespace: Option<String>,
    listed: Vec<Result<K, Invalid>>,
    shown: watch::Sender<bool>,
}

impl<K: ResourceExt> Keeper<K> {
    fn take<G: Resource>(&mut self, event: Event<G>, read: Read<G, K>) {
        match event {
            Event::Init => self.listed = Vec::new(),
            Event::InitApply(object) => self.listed.push(read(unmanaged(object))),
            Event::InitDone => {
                let (good, bad): (Vec<_>, Vec<_>) =
                    take(&mut self.listed).into_iter().partition(Result::is_ok);
                let good = good.into_iter().flatten().map(Arc::new).collect();
                let mut content = write(&self.content);
                content.good.replace(self.namespace.as_deref(), good);
                content.bad.retain(|i| {
                    self.namespace.as_ref().is_some_and(|of| i.about.namespace.as_ref() != Some(of))
                });
                content.bad.extend(bad.into_iter().filter_map(Result::err));
                self.shown.send_replace(true);
            }
            Event::Apply(object) => write(&self.content).put(read(unmanaged(object))),
            Event::Delete(object) => {
                let meta = object.meta();
                write(&self.content).remove(meta.namespace.as_deref(), meta.name.as_deref());
            }
        }
    }
}

/// Nobody here asks who wrote which field.
fn unmanaged<G: Resource>(mut object: G) -> G {
    object.meta_mut().managed_fields = None;
    object
}

fn write<K>(content: &RwLock<Content<K>>) -> RwLockWriteGuard<'_, Content<K>> {
    content.write().unwrap_or_else(PoisonError::into_inner)
}

/// One kind, kept up by its watches.
pub struct Kept<K> {
    content: Arc<RwLock<Content<K>>>,
    shown: Vec<watch::Receiver<bool>>,
}

impl<K> Default for Kept<K> {
    fn default() -> Self {
        Self { content: Arc::default(), shown: Vec::new() }
    }
}

impl<K: ResourceExt + Send + Sync + 'static> Kept<K> {
    /// Adds the watch of one namespace, or of everything; it ends with `stop`.
    pub fn watch<G>(
        &mut self,
        api: Api<G>,
        config: watcher::Config,
        read: Read<G, K>,
        stop: &CancellationToken,
    ) where
        G: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
    {
        let (shown, is_shown) = watch::channel(false);
        let namespace = api.namespace().map(str::to_owned);
        let mut keeper = Keeper { content: self.content.clone(), namespace, listed: Vec::new(), shown };
        self.shown.push(is_shown);
        let stream = watcher(api, config).backoff(Retry::default());
        let stop = stop.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = stream.for_each(|event| {
                    match event {
                        Ok(event) => keeper.take(event, read),
                        Err(error) => {
                            tracing::warn!(%error, kind = %G::kind(&()), "a watch of failover failed; it is started again");
                        }
                    }
                    ready(())
                }) => {}
            }
        });
    }

    /// Waits until every watch has shown what there is.
    pub async fn ready(&self) {
        for shown in &self.shown {
            // An error means that the watch's task has ended, which it does only with the process.
            drop(shown.clone().wait_for(|shown| *shown).await);
        }
    }

    /// What they show now.
    #[must_use]
    pub fn shelf(&self) -> Shelf<K> {
        self.read().good.clone()
    }

    /// Those that cannot be read.
    #[must_use]
    pub fn unreadable(&self) -> Vec<Invalid> {
        self.read().bad.clone()
    }

    fn read(&self) -> RwLockReadGuard<'_, Content<K>> {
        self.content.read().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
