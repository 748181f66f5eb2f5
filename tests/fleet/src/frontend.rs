//! A frontend: it answers probes, and says which stores it reaches.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::Result;
use kube::ResourceExt;
use mailcluster_api::{MailStore, ports};
use mailcluster_rpc::control::v1::{
    DescribeRequest, DescribeResponse, DrainRequest, DrainResponse, ReachabilityRequest,
    ReachabilityResponse, StatusRequest, StatusResponse, StoreReach, control_server::Control,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};
use tonic::{Request, Response, Status};

use crate::site::Site;

/// One frontend.
#[derive(Clone)]
pub struct Frontend {
    site: Site,
}

impl Frontend {
    /// It reaches whatever is not dead.
    pub fn new(site: Site) -> Self {
        Self { site }
    }

    fn reach(&self, store: &MailStore) -> Option<StoreReach> {
        let serving = store.status.as_ref()?.serving.as_ref()?;
        let endpoint: SocketAddr = serving.endpoint.parse().ok()?;
        Some(StoreReach {
            store: store.name_any(),
            epoch: u64::try_from(serving.epoch).ok()?,
            reachable: self.site.answers(endpoint.ip()),
            age_ms: 0,
        })
    }
}

/// Answers what asks for health.
pub async fn health(address: Ipv4Addr) -> Result<()> {
    let listener = TcpListener::bind((address, ports::HEALTH)).await?;
    loop {
        let (mut stream, _) = listener.accept().await?;
        tokio::spawn(async move {
            let mut request = [0; 512];
            if matches!(stream.read(&mut request).await, Ok(1..)) {
                let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
                // Whoever has gone needs no answer.
                let _ = stream.write_all(answer).await;
            }
        });
    }
}

#[tonic::async_trait]
impl Control for Frontend {
    async fn describe(&self, _: Request<DescribeRequest>) -> Result<Response<DescribeResponse>, Status> {
        Err(Status::unimplemented("a frontend holds no replica"))
    }

    async fn status(&self, _: Request<StatusRequest>) -> Result<Response<StatusResponse>, Status> {
        Err(Status::unimplemented("a frontend holds no replica"))
    }

    async fn drain(&self, _: Request<DrainRequest>) -> Result<Response<DrainResponse>, Status> {
        Err(Status::unimplemented("a frontend holds no replica"))
    }

    async fn reachability(
        &self,
        _: Request<ReachabilityRequest>,
    ) -> Result<Response<ReachabilityResponse>, Status> {
        let stores = self.site.stores.state().iter().filter_map(|store| self.reach(store)).collect();
        Ok(Response::new(ReachabilityResponse { stores }))
    }
}
