//! The gRPC port of a pod: control for the operator from the first moment, and what a store's service adds while it
//! serves.

use std::{convert::Infallible, sync::Arc};

use arc_swap::ArcSwap;
use axum::{Router, extract::Request, response::Response};
use mailcluster_arbiter::{StatusHandle, control};
use mailcluster_directory::serve::{PeerCheck, Wish};
use mailcluster_net::{
    grpc::{PeerInfo, serve_incoming},
    mtls::{Identity, Role},
};
use mailcluster_rpc::control::v1::control_server::ControlServer;
use tokio::net::TcpListener;
use tonic::{
    Extensions, Status,
    codegen::Service,
    service::{Routes, interceptor::InterceptedService},
    transport::Server,
};

use super::providers::Providers;

/// Roles whose connections are taken at all; each service admits fewer.
const ROLES: [Role; 4] = [Role::Frontend, Role::Backend, Role::Directory, Role::Operator];

/// Services that come and go with the store.
#[derive(Clone)]
pub struct Changing(Arc<ArcSwap<Router>>);

impl Changing {
    /// None yet.
    pub fn new() -> Self {
        Self(Arc::new(ArcSwap::from_pointee(Router::new())))
    }

    /// These from now on.
    pub fn set(&self, routes: Option<Routes>) {
        let router = routes.map(|routes| routes.prepare().into_axum_router()).unwrap_or_default();
        self.0.store(Arc::new(router));
    }

    /// Answers with what is set now.
    pub async fn call(&self, request: Request) -> Result<Response, Infallible> {
        let mut router = Router::clone(&self.0.load());
        router.call(request).await
    }
}

/// What a copy of a mirrored store serves beside.
pub struct Mirrored {
    /// Whoever feeds it.
    pub routes: Routes,
    /// Is told of everybody who asks for something else.
    pub status: StatusHandle,
}

/// Serves control, the copies of a mirrored store, and whatever else is there, for ever.
pub fn serve(
    listener: TcpListener,
    identity: Identity,
    control: ControlServer<control::ControlService<Providers>>,
    mirrored: Option<Mirrored>,
    changing: &Changing,
) {
    let guarded = InterceptedService::new(control, only_operator);
    let (mirrors, status) = mirrored.map(|m| (m.routes, m.status)).unzip();
    let mirrors =
        mirrors.map(|routes| routes.prepare().into_axum_router().reset_fallback()).unwrap_or_default();
    let changing = changing.clone();
    let fallback = move |request: Request| {
        let changing = changing.clone();
        status.iter().for_each(StatusHandle::heard);
        async move { changing.call(request).await }
    };
    let router = Routes::new(guarded).into_axum_router().merge(mirrors).fallback(fallback);
    let incoming = serve_incoming(listener, identity, ROLES.to_vec());
    tokio::spawn(async move {
        let server = Server::builder().add_routes(Routes::from(router));
        if let Err(error) = server.serve_with_incoming(incoming).await {
            tracing::error!(%error, "gRPC ended");
        }
    });
}

#[allow(clippy::result_large_err, reason = "what tonic interceptors return")]
fn only_operator(request: tonic::Request<()>) -> Result<tonic::Request<()>, Status> {
    match request.extensions().get::<PeerInfo>() {
        Some(info) if info.peer.role == Role::Operator => Ok(request),
        _ => Err(Status::permission_denied("control is for the operator")),
    }
}

/// Who may ask for what, by the certificate's role.
pub fn peer_check() -> PeerCheck {
    Arc::new(|extensions: &Extensions, wish: &Wish| {
        let Some(PeerInfo { peer, .. }) = extensions.get::<PeerInfo>() else { return false };
        match wish {
            Wish::Lookup => matches!(peer.role, Role::Frontend | Role::Backend | Role::Directory),
            Wish::Screening => peer.role == Role::Frontend,
            Wish::Feed(store) => peer.role == Role::Backend && peer.store.as_ref() == Some(store),
            Wish::StoreAdmin => matches!(peer.role, Role::Directory | Role::Operator),
        }
    })
}
