//! The other copies of a pod's store: where they are, who may feed this one, and where it says that it is.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use mailcluster_arbiter::{StatusHandle, lifecycle::Peers, publish_mirror};
use mailcluster_net::{
    grpc::{self, PeerInfo},
    mtls::{Expect, Identity},
};
use mailcluster_types::StoreName;
use tokio::sync::watch;
use tonic::{Status, transport::Channel};

use super::{pod::Pod, routes::Copies};

/// Between two looks whether the volume was opened.
const LOOK: Duration = Duration::from_millis(200);
/// Between two tries to say where this copy is.
const AGAIN: Duration = Duration::from_secs(2);

type Mirrors = watch::Receiver<BTreeMap<StoreName, Copies>>;

/// The other copies, by what the MailStore says of them.
pub struct PodPeers {
    /// The store.
    pub store: StoreName,
    /// Where copies are.
    pub mirrors: Mirrors,
    /// Who calls.
    pub identity: Identity,
    /// Who must answer.
    pub expect: Expect,
    /// A channel to each, kept while the copy stays where it is.
    pub kept: Mutex<BTreeMap<String, (SocketAddr, Channel)>>,
}

#[async_trait]
impl Peers for PodPeers {
    fn all(&self) -> Vec<String> {
        let mirrors = self.mirrors.borrow();
        mirrors.get(&self.store).into_iter().flatten().map(|(id, _)| id.clone()).collect()
    }

    async fn channel(&self, replica: &str) -> Result<Channel, String> {
        let at = self.mirrors.borrow().get(&self.store).and_then(|copies| copies.get(replica).copied());
        let at = at.flatten();
        let at = at.ok_or("its MailStore does not say where it is")?;
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((to, channel)) = kept.get(replica)
            && *to == at
        {
            return Ok(channel.clone());
        }
        let channel = grpc::channel(at, self.identity.clone(), self.expect.clone());
        kept.insert(replica.to_owned(), (at, channel.clone()));
        Ok(channel)
    }
}

/// Sees to it that the MailStore says where this copy can be fed, once its volume was open: nobody begins with an empty
/// volume for a copy of which that was said.
pub async fn keep_published(pod: Own, status: StatusHandle) {
    while status.get().description.is_none() {
        tokio::time::sleep(LOOK).await;
    }
    let mut mirrors = pod.mirrors.clone();
    loop {
        let said =
            mirrors.borrow_and_update().get(&pod.store).and_then(|copies| copies.get(&pod.replica).copied());
        // Nothing is said of a store that is not there or was not heard of yet, nor when another has this copy's place.
        if said.is_some_and(|said| said != Some(pod.at)) {
            let (store, entry) = (pod.store.as_str(), (pod.replica.as_str(), pod.at));
            if let Err(error) = publish_mirror(pod.client.clone(), &pod.namespace, store, entry).await {
                tracing::warn!(%error, "where this copy can be fed could not be said yet");
            }
            tokio::time::sleep(AGAIN).await;
            continue;
        }
        if mirrors.changed().await.is_err() {
            return;
        }
    }
}

/// This copy, as its MailStore is to show it.
pub struct Own {
    client: kube::Client,
    namespace: String,
    store: StoreName,
    replica: String,
    at: SocketAddr,
    mirrors: Mirrors,
}

impl Own {
    /// The copy `replica` of the store, in this pod.
    pub fn new(pod: &Pod, store: StoreName, replica: &str, at: SocketAddr, mirrors: Mirrors) -> Self {
        let namespace = pod.config.namespace.clone();
        Self { client: pod.client.clone(), namespace, store, replica: replica.to_owned(), at, mirrors }
    }
}

/// Only another copy of the same store feeds this one.
#[allow(clippy::result_large_err, reason = "what tonic interceptors return")]
pub fn only_copies(
    expect: Expect,
) -> impl Fn(tonic::Request<()>) -> Result<tonic::Request<()>, Status> + Clone + Send + Sync + 'static {
    move |request| match request.extensions().get::<PeerInfo>() {
        Some(info) if info.peer.role == expect.role && info.peer.store == expect.store => Ok(request),
        _ => Err(Status::permission_denied("a store is fed by its own copies alone")),
    }
}
