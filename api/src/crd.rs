//! The CustomResourceDefinitions as YAML, as they stand in `crds/` and in the chart.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;

use crate::{MailCluster, MailStore};

/// The definitions with their file names, without directory.
#[must_use]
pub fn all() -> Vec<(&'static str, CustomResourceDefinition)> {
    vec![("mailclusters.yaml", MailCluster::crd()), ("mailstores.yaml", MailStore::crd())]
}

/// File names and contents.
///
/// # Errors
/// When a definition cannot be written as YAML, which would be a defect of this crate.
pub fn render() -> Result<Vec<(&'static str, String)>, serde_saphyr::SerializeError> {
    all()
        .into_iter()
        .map(|(name, crd)| {
            let body = serde_saphyr::to_string(&crd)?;
            Ok((name, format!("# Generated from api/ by `cargo xtask generate`; do not edit.\n{body}")))
        })
        .collect()
}
