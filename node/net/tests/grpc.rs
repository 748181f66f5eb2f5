//! gRPC over mutual TLS: the peer is known to every request; wrong peers don't get as far.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may panic")]

mod common;

use std::{
    convert::Infallible,
    future::{Ready, ready},
    net::SocketAddr,
    sync::{Arc, Mutex},
    task::{Context, Poll},
};

use common::Ca;
use mailcluster_net::{
    grpc::{self, PeerInfo},
    listen,
    mtls::{Expect, Role},
};
use tonic::{
    Code, Request, Status, body::Body, client::Grpc, codegen::Service, server::NamedService,
    transport::Channel, transport::Server,
};
use tonic_prost::ProstCodec;

/// Answers everything with a status nobody else gives, and remembers who asked.
#[derive(Clone, Default)]
struct Who(Arc<Mutex<Vec<PeerInfo>>>);

impl NamedService for Who {
    const NAME: &'static str = "test.Who";
}

impl Service<http::Request<Body>> for Who {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        self.0.lock().unwrap().push(request.extensions().get::<PeerInfo>().unwrap().clone());
        ready(Ok(Status::already_exists("here").into_http()))
    }
}

async fn ask(channel: Channel) -> Code {
    let mut client = Grpc::new(channel);
    if client.ready().await.is_err() {
        return Code::Unavailable;
    }
    let path = http::uri::PathAndQuery::from_static("/test.Who/Am");
    client.unary(Request::new(()), path, ProstCodec::<(), ()>::default()).await.unwrap_err().code()
}

#[tokio::test]
async fn the_peer_is_known_and_wrong_ones_are_kept_out() {
    let ca = Ca::new();
    let listener = listen::bind("127.0.0.1:0".parse::<SocketAddr>().unwrap()).unwrap();
    let addr = listener.local_addr().unwrap();
    let who = Who::default();
    let server = ca.identity(Role::Directory, Some("m-directory"));
    let incoming = grpc::serve_incoming(listener, server, vec![Role::Frontend, Role::Operator]);
    tokio::spawn(Server::builder().add_service(who.clone()).serve_with_incoming(incoming));
    let expect = |role, store: Option<&str>| Expect { role, store: store.map(Into::into) };

    let frontend = ca.identity(Role::Frontend, None);
    let channel = grpc::channel(addr, frontend.clone(), expect(Role::Directory, Some("m-directory")));
    assert_eq!(ask(channel).await, Code::AlreadyExists);
    assert_eq!(who.0.lock().unwrap()[0].peer, frontend.me());

    // A role that is not admitted, a server that is not whom we want, an authority nobody knows.
    let backend = ca.identity(Role::Backend, Some("m-0"));
    let channel = grpc::channel(addr, backend, expect(Role::Directory, None));
    assert_ne!(ask(channel).await, Code::AlreadyExists);
    for wrong in [expect(Role::Backend, None), expect(Role::Directory, Some("m-0"))] {
        assert_ne!(ask(grpc::channel(addr, frontend.clone(), wrong)).await, Code::AlreadyExists);
    }
    let stranger = Ca::new().identity(Role::Frontend, None);
    assert_ne!(ask(grpc::channel(addr, stranger, expect(Role::Directory, None))).await, Code::AlreadyExists);
    assert_eq!(who.0.lock().unwrap().len(), 1);

    // And the port goes on.
    let operator = ca.identity(Role::Operator, None);
    let channel = grpc::channel(addr, operator, expect(Role::Directory, None));
    assert_eq!(ask(channel).await, Code::AlreadyExists);
}
