//! A mail cluster in Kubernetes, as the kubeconfig reaches it.

use k8s_openapi::api::{
    authentication::v1::{TokenRequest, TokenRequestSpec},
    core::v1::{ConfigMap, Pod, ServiceAccount},
};
use kube::{
    Api, Client, Config, ResourceExt,
    api::{ListParams, PostParams},
    config::{KubeConfigOptions, Kubeconfig},
};
use mailcluster_api::{MailCluster, MailStore, labels, names::ClusterNames, ports};
use mailcluster_rpc::audience;

use super::{Admin, client, forward};
use crate::{
    args::Global,
    failure::{Failure, chain},
};

/// How long a token lives, in seconds: the least that Kubernetes issues.
const TOKEN_SECONDS: i64 = 600;

/// One MailCluster.
pub struct Cluster {
    pub client: Client,
    pub namespace: String,
    pub resource: MailCluster,
}

impl Cluster {
    /// The MailCluster that was named, or the only one of the namespace.
    ///
    /// # Errors
    /// When the API cannot be reached, or it is not clear which cluster is meant.
    pub async fn find(global: &Global) -> Result<Self, Failure> {
        let config = config(global).await?;
        let namespace = global.namespace.clone().unwrap_or_else(|| config.default_namespace.clone());
        let client = Client::try_from(config)?;
        let api: Api<MailCluster> = Api::namespaced(client.clone(), &namespace);
        let resource = match &global.cluster {
            Some(name) => api.get(name).await?,
            None => only(api.list(&ListParams::default()).await?.items, &namespace)?,
        };
        Ok(Self { client, namespace, resource })
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> String {
        self.resource.name_any()
    }

    /// The names of what belongs to it.
    #[must_use]
    pub fn names(&self) -> ClusterNames {
        ClusterNames::new(self.name())
    }

    /// Objects of its namespace.
    #[must_use]
    pub fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// The administration of its directory, through the API server.
    ///
    /// # Errors
    /// When the directory is not served, cannot be reached, or no token is to be had.
    pub async fn admin(&self) -> Result<Admin, Failure> {
        let pod = self.directory_pod().await?;
        let ca = self.certificates().await?;
        let token = self.token().await?;
        let channel = forward::channel(self.api(), pod, ports::DIRECTORY_ADMIN, &ca).await?;
        client(channel, Some(&token))
    }

    async fn directory_pod(&self) -> Result<String, Failure> {
        let name = self.names().directory();
        let store: MailStore = self.api().get(&name).await?;
        let phase = store.status.as_ref().and_then(|s| s.phase).map_or("not known", |p| p.as_str());
        let serving = store.status.as_ref().and_then(|s| s.serving.as_ref());
        let Some(serving) = serving else {
            return Err(Failure::Unavailable(format!(
                "the directory {name} has never served; its phase is {phase}"
            )));
        };
        let pods: Api<Pod> = self.api();
        let selector = format!("{}={name}", labels::STORE);
        let pods = pods.list(&ListParams::default().labels(&selector)).await?;
        pods.items
            .iter()
            .find(|p| p.uid().as_deref() == Some(&serving.pod_uid))
            .map(ResourceExt::name_any)
            .ok_or_else(|| {
                Failure::Unavailable(format!(
                    "the pod that served the directory {name} is gone; its phase is {phase}"
                ))
            })
    }

    async fn certificates(&self) -> Result<String, Failure> {
        let name = self.names().ca();
        let map: ConfigMap = self.api().get(&name).await?;
        let bundle = map.data.and_then(|mut data| data.remove("ca.crt"));
        bundle.ok_or_else(|| Failure::Failed(format!("ConfigMap {name} has no ca.crt")))
    }

    async fn token(&self) -> Result<String, Failure> {
        let accounts: Api<ServiceAccount> = self.api();
        let spec = TokenRequestSpec {
            audiences: vec![audience::admin(&self.namespace, &self.name())],
            expiration_seconds: Some(TOKEN_SECONDS),
            ..TokenRequestSpec::default()
        };
        let request = TokenRequest { spec, ..TokenRequest::default() };
        let name = self.names().admin();
        let answer = accounts.create_token_request(&name, &PostParams::default(), &request).await?;
        let token = answer.status.map(|s| s.token);
        token.ok_or_else(|| Failure::Failed(format!("no token for ServiceAccount {name} was issued")))
    }
}

async fn config(global: &Global) -> Result<Config, Failure> {
    let options = KubeConfigOptions { context: global.context.clone(), ..KubeConfigOptions::default() };
    let usage =
        |e: &dyn std::error::Error| Failure::Usage(format!("the kubeconfig cannot be used: {}", chain(e)));
    match &global.kubeconfig {
        Some(file) => {
            let kubeconfig = Kubeconfig::read_from(file).map_err(|e| usage(&e))?;
            Config::from_custom_kubeconfig(kubeconfig, &options).await.map_err(|e| usage(&e))
        }
        None if global.context.is_some() => Config::from_kubeconfig(&options).await.map_err(|e| usage(&e)),
        None => Config::infer().await.map_err(|e| usage(&e)),
    }
}

fn only(mut clusters: Vec<MailCluster>, namespace: &str) -> Result<MailCluster, Failure> {
    match (clusters.pop(), clusters.is_empty()) {
        (Some(one), true) => Ok(one),
        (None, _) => Err(Failure::NotFound(format!(
            "there is no MailCluster in namespace {namespace}; name another with -n"
        ))),
        (Some(last), false) => {
            let mut names: Vec<String> = clusters.iter().map(ResourceExt::name_any).collect();
            names.push(last.name_any());
            Err(Failure::Usage(format!(
                "namespace {namespace} has several MailClusters ({}): choose with --cluster",
                names.join(", ")
            )))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_that_is_not_named_must_be_the_only_one() {
        let cluster = |name: &&str| -> MailCluster {
            serde_json::from_value(serde_json::json!({
                "apiVersion": "mailcluster.io/v1alpha1", "kind": "MailCluster",
                "metadata": {"name": name},
                "spec": {"hostname": "mail.example.org", "stores": {"count": 1, "storage": {"size": "1Gi"}}},
            }))
            .unwrap()
        };
        for (names, expected) in [
            (vec!["one"], Ok("one")),
            (vec![], Err("there is no MailCluster in namespace mail")),
            (vec!["one", "two"], Err("several MailClusters (one, two): choose with --cluster")),
        ] {
            let found = only(names.iter().map(cluster).collect(), "mail").map(|c| c.name_any());
            match (found, expected) {
                (Ok(name), Ok(expected)) => assert_eq!(name, expected),
                (Err(Failure::NotFound(text) | Failure::Usage(text)), Err(part)) => {
                    assert!(text.contains(part), "{text}");
                }
                (found, _) => panic!("{names:?}: {found:?}"),
            }
        }
    }
}
