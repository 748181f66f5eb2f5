//! The Kubernetes components and helm: built from source once, cached by version and source.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::cache_key::cache_key;
use crate::command::Cmd;
use crate::paths::{Paths, instance};
use crate::progress::step;

/// The Kubernetes release the lab runs.
pub const KUBERNETES_VERSION: &str = "1.34.4";
/// The helm release the lab installs charts with.
pub const HELM_VERSION: &str = "3.22.0";

const SOURCES: &[(&str, &str)] = &[
    ("go.mod", include_str!("../kubebox/go.mod")),
    ("go.sum", include_str!("../kubebox/go.sum")),
    ("main.go", include_str!("../kubebox/main.go")),
];

/// Where the binary of these sources is, or will be.
pub fn location(paths: &Paths) -> PathBuf {
    let mut parts: Vec<&[u8]> = vec![KUBERNETES_VERSION.as_bytes(), std::env::consts::ARCH.as_bytes()];
    parts.extend(SOURCES.iter().map(|(_, text)| text.as_bytes()));
    paths.cache.join("bin").join(format!("kubebox-{KUBERNETES_VERSION}-{}", cache_key(&parts)))
}

/// Builds the Kubernetes components when the cache lacks them.
pub(crate) fn ensure(paths: &Paths) -> Result<PathBuf> {
    let binary = location(paths);
    if binary.is_file() {
        return Ok(binary);
    }
    step(&format!("building Kubernetes {KUBERNETES_VERSION} (about 8 minutes on 2 cores, once)"));
    let work = fresh_folder(paths, "build-kubebox")?;
    let result = build(&work, &binary);
    let _best_effort = fs::remove_dir_all(&work);
    result.map(|()| binary)
}

fn build(work: &Path, binary: &Path) -> Result<()> {
    for (name, text) in SOURCES {
        fs::write(work.join(name), text)?;
    }
    let mut minor = KUBERNETES_VERSION.split('.').skip(1);
    let version = "k8s.io/component-base/version.git";
    // Without these the API server calls itself v0.0.0, and clients balk.
    let flags = format!(
        "-s -w -X {version}Version=v{KUBERNETES_VERSION} -X {version}Major=1 -X {version}Minor={}",
        minor.next().unwrap_or_default()
    );
    let fresh = work.join("kubebox");
    Cmd::line("go build -trimpath -ldflags")
        .arg(flags)
        .arg("-o")
        .arg(&fresh)
        .arg(".")
        .env("CGO_ENABLED", "0")
        .directory(work)
        .run_shown()
        .context("failed to build Kubernetes")?;
    install(&fresh, binary)
}

/// Where helm is, or will be.
pub fn helm_location(paths: &Paths) -> PathBuf {
    paths.cache.join("bin").join(format!("helm-v{HELM_VERSION}"))
}

/// Builds helm when the cache lacks it.
pub(crate) fn ensure_helm(paths: &Paths) -> Result<PathBuf> {
    let binary = helm_location(paths);
    if binary.is_file() {
        return Ok(binary);
    }
    step(&format!("building helm {HELM_VERSION} (about 2 minutes, once)"));
    let work = fresh_folder(paths, "build-helm")?;
    let result = Cmd::line("go install")
        .arg(format!("helm.sh/helm/v3/cmd/helm@v{HELM_VERSION}"))
        .env("GOBIN", &work)
        .env("CGO_ENABLED", "0")
        .directory(&work)
        .run_shown()
        .context("failed to build helm")
        .and_then(|()| install(&work.join("helm"), &binary));
    let _best_effort = fs::remove_dir_all(&work);
    result.map(|()| binary)
}

/// An empty folder to build in; what an interrupted build left in it goes.
fn fresh_folder(paths: &Paths, name: &str) -> Result<PathBuf> {
    let work = paths.cache.join(format!("{name}-{}", instance()));
    let _none = fs::remove_dir_all(&work);
    fs::create_dir_all(&work)?;
    Ok(work)
}

fn install(fresh: &Path, binary: &Path) -> Result<()> {
    if let Some(folder) = binary.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::rename(fresh, binary).with_context(|| format!("failed to install {}", binary.display()))
}
