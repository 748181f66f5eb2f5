//! Looks for the records of domains' keys, so that the directory puts new ones to use when they are there.

use std::{net::SocketAddr, sync::Arc};

use async_trait::async_trait;
use mailcluster_directory::key_care::TxtLookup;
use mailcluster_outbound::route::Answer;
use mailcluster_relay::{Dns, Resolver, Signatures};
use mailcluster_types::Unavailable;

struct Texts(Resolver);

#[async_trait]
impl TxtLookup for Texts {
    async fn texts(&self, name: &str) -> Result<Vec<String>, Unavailable> {
        match self.0.texts(name).await {
            Answer::Records(texts) => Ok(texts),
            Answer::NoName | Answer::NoRecord => Ok(Vec::new()),
            Answer::Failed | Answer::Bogus => Err(Unavailable("the DNS does not answer".to_owned())),
        }
    }
}

/// By these servers, or the system's; none when there is no resolver: then keys are put to use by command.
pub fn look_up(servers: &[SocketAddr]) -> Option<Arc<dyn TxtLookup>> {
    match Resolver::new(servers, &Signatures::Ignored) {
        Ok(resolver) => Some(Arc::new(Texts(resolver))),
        Err(error) => {
            tracing::warn!(%error, "records of keys are not looked for");
            None
        }
    }
}
