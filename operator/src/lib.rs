//! The operator: `controller` brings about what a MailCluster asks for, `failover` moves stores, `frontends_probe` takes
//! unreachable frontends out. Decisions are pure and tested as tables; what touches the Kubernetes API is thin.
//!
//! One replica leads; the others watch, so that they can go on at once.

pub mod apply;
pub mod args;
pub mod build;
pub mod cluster;
pub mod context;
pub mod controller;
pub mod crds;
pub mod failover;
pub mod frontends_probe;
pub mod http;
pub mod leader;
pub mod logging;
pub mod metrics;
pub mod pki;
pub mod tls_merge;
pub mod volumes;

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use kube::{
    Client,
    runtime::events::{Recorder, Reporter},
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{args::Args, context::Context};

/// Runs the operator until it is told to stop.
///
/// # Errors
/// When the Kubernetes API is out of reach at the start, or a part ends that must not end.
pub async fn run(args: Args) -> anyhow::Result<()> {
    install_crypto();
    let config = Arc::new(args.into_config()?);
    let stop = stop_on_signal()?;
    let client = connect().await?;
    let metrics = Arc::new(metrics::Metrics::new()?);
    let (lead, leadership) = watch::channel(leader::Leadership::standby());
    let reporter =
        Reporter { controller: "mailcluster-operator".into(), instance: Some(config.identity.pod.clone()) };
    let ctx = Context {
        recorder: Recorder::new(client.clone(), reporter),
        client,
        leadership,
        config,
        metrics,
        stop: stop.clone(),
    };
    let server = http::serve(ctx.clone());
    let work = work(ctx, lead);
    tokio::select! {
        result = server => result.context("the health and metrics server ended"),
        result = work => result,
    }
}

/// All tasks beside the health and metrics server.
async fn work(ctx: Context, lead: watch::Sender<leader::Leadership>) -> anyhow::Result<()> {
    tokio::select! {
        () = ctx.stop.cancelled() => return Ok(()),
        result = crds::established(&ctx) => result.context("waiting for the resource definitions")?,
    }
    ctx.metrics.started.set(1);
    let elector = leader::run(ctx.clone(), lead);
    let stop = ctx.stop.clone();
    let tasks = tasks(ctx);
    tokio::pin!(elector);
    let ended = tokio::select! {
        result = &mut elector => return result.context("leader election ended"),
        result = tasks => result,
    };
    if stop.is_cancelled() {
        // The lease is given up last, when nothing writes any more.
        return elector.await;
    }
    ended
}

/// Everything that acts only while this replica leads.
async fn tasks(ctx: Context) -> anyhow::Result<()> {
    let caches = Arc::new(failover::Caches::start(&ctx));
    tokio::select! {
        result = failover::run(ctx.clone(), caches.clone()) => result.context("failover ended"),
        result = controller::run(ctx.clone()) => result.context("the controller ended"),
        result = frontends_probe::run(ctx, caches) => result.context("the frontends' probe ended"),
    }
}

/// Connects with the pod's ServiceAccount, or with a kubeconfig outside of a cluster.
async fn connect() -> anyhow::Result<Client> {
    let mut config = kube::Config::infer().await.context("no way to a Kubernetes API server found")?;
    // A connection that went silent is given up; watches end by themselves before that.
    config.connect_timeout = Some(Duration::from_secs(5));
    config.read_timeout = Some(Duration::from_secs(300));
    Client::try_from(config).context("failed to set up the Kubernetes client")
}

/// One cryptography provider for everything.
fn install_crypto() {
    // An error means that one is installed already, which is as good.
    drop(rustls::crypto::ring::default_provider().install_default());
}

/// A token that is cancelled by the first SIGTERM or SIGINT.
fn stop_on_signal() -> anyhow::Result<CancellationToken> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let stop = CancellationToken::new();
    let token = stop.clone();
    tokio::spawn(async move {
        tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
        tracing::info!("told to stop");
        token.cancel();
    });
    Ok(stop)
}
