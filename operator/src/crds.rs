//! Waits for the resource definitions: a controller that cannot list its resource does not even stop when told to.

use std::time::Duration;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{Api, CustomResourceExt};
use mailcluster_api::{MailCluster, MailStore};

use crate::context::Context;

/// How often to look.
const PERIOD: Duration = Duration::from_secs(2);

/// Returns once the API serves MailClusters and MailStores.
///
/// # Errors
/// Never while waiting; the signature leaves room for the caller's context.
pub async fn established(ctx: &Context) -> anyhow::Result<()> {
    let api: Api<CustomResourceDefinition> = Api::all(ctx.client.clone());
    for name in [MailCluster::crd_name(), MailStore::crd_name()] {
        let mut told = false;
        while !is_established(&api, name).await {
            if !told {
                tracing::info!(definition = name, "waiting for the resource definition");
                told = true;
            }
            tokio::time::sleep(PERIOD).await;
        }
    }
    Ok(())
}

async fn is_established(api: &Api<CustomResourceDefinition>, name: &str) -> bool {
    match api.get_opt(name).await {
        Ok(crd) => {
            crd.and_then(|crd| crd.status).and_then(|status| status.conditions).is_some_and(|conditions| {
                conditions.iter().any(|c| c.type_ == "Established" && c.status == "True")
            })
        }
        Err(error) => {
            tracing::warn!(%error, definition = name, "the resource definition could not be read");
            false
        }
    }
}
