//! Ways to the directory's administration.

mod cluster;
mod forward;

use std::{path::Path, str::FromStr};

use mailcluster_rpc::admin::v1::admin_client::AdminClient;
use tonic::{
    Request, Status,
    metadata::{Ascii, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Channel, Endpoint},
};

use crate::{args::Global, failure::Failure};

pub use cluster::Cluster;

/// Largest message, in octets.
const MAX_MESSAGE: usize = 16 << 20;

/// The directory's administration.
pub type Admin = AdminClient<InterceptedService<Channel, Credentials>>;

/// What stands beside every request: a token, and who typed the command.
#[derive(Clone)]
pub struct Credentials {
    token: Option<MetadataValue<Ascii>>,
    user: Option<MetadataValue<Ascii>>,
}

impl Credentials {
    fn new(token: Option<&str>) -> Result<Self, Failure> {
        let header = |text: &str| MetadataValue::from_str(text);
        let token = token.map(|t| header(&format!("Bearer {t}"))).transpose();
        let mut token =
            token.map_err(|_| Failure::Failed("the token has characters that no token has".into()))?;
        if let Some(token) = &mut token {
            token.set_sensitive(true);
        }
        let user = std::env::var("USER").ok().filter(|u| !u.is_empty()).and_then(|u| header(&u).ok());
        Ok(Self { token, user })
    }
}

impl Interceptor for Credentials {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(token) = &self.token {
            request.metadata_mut().insert("authorization", token.clone());
        }
        if let Some(user) = &self.user {
            request.metadata_mut().insert("mailcluster-user", user.clone());
        }
        Ok(request)
    }
}

fn client(channel: Channel, token: Option<&str>) -> Result<Admin, Failure> {
    let client = AdminClient::with_interceptor(channel, Credentials::new(token)?);
    Ok(client.max_decoding_message_size(MAX_MESSAGE))
}

/// The administration of the cluster or standalone node that was named.
///
/// # Errors
/// When it cannot be reached.
pub async fn admin(global: &Global) -> Result<Admin, Failure> {
    match &global.standalone {
        Some(dir) => standalone(dir).await,
        None => Cluster::find(global).await?.admin().await,
    }
}

async fn standalone(dir: &Path) -> Result<Admin, Failure> {
    let socket = dir.join("admin.sock");
    if !socket.exists() {
        let text = format!(
            "{} is not there: is the standalone node running with this data directory?",
            socket.display()
        );
        return Err(Failure::Unavailable(text));
    }
    let socket = socket.canonicalize().map_err(|e| Failure::Failed(format!("{}: {e}", socket.display())))?;
    let endpoint = Endpoint::from_shared(format!("unix://{}", socket.display()))
        .map_err(|e| Failure::Usage(format!("{}: {e}", socket.display())))?;
    let channel = endpoint.connect().await.map_err(|e| {
        Failure::Unavailable(format!("{} does not answer: {}", socket.display(), crate::failure::chain(&e)))
    })?;
    client(channel, None)
}
