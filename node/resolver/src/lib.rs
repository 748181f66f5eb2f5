//! Who is asked for what stands in the DNS: the beginning of every resolver of ours.

use std::{io, net::SocketAddr, sync::Arc};

use hickory_resolver::{
    ResolverBuilder, TokioResolver,
    config::{ConnectionConfig, NameServerConfig, ResolverConfig},
    net::{NetError, runtime::TokioRuntimeProvider},
};
use rustls::{ClientConfig, RootCertStore};

/// Asks these servers alone, over UDP and TCP; without any, those of the system's configuration (`/etc/resolv.conf`). How is
/// for the caller to say.
///
/// # Errors
/// When that configuration cannot be read.
pub fn builder(servers: &[SocketAddr]) -> Result<ResolverBuilder<TokioRuntimeProvider>, NetError> {
    let builder = match servers.is_empty() {
        true => TokioResolver::builder_tokio()?,
        false => {
            let config = ResolverConfig::from_parts(None, vec![], servers.iter().map(server).collect());
            TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
        }
    };
    Ok(builder.with_tls_config(no_tls()?))
}

fn server(at: &SocketAddr) -> NameServerConfig {
    let with_port = |mut connection: ConnectionConfig| {
        connection.port = at.port();
        connection
    };
    let mut server = NameServerConfig::udp_and_tcp(at.ip());
    server.connections = vec![with_port(ConnectionConfig::udp()), with_port(ConnectionConfig::tcp())];
    server
}

/// Name servers are asked in clear. The resolver wants to know how it would ask by TLS all the same, and looks for the system's
/// authorities, of which an image has none, when nobody tells it.
fn no_tls() -> Result<ClientConfig, NetError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.map_err(|error| NetError::from(io::Error::other(error)))?;
    Ok(config.with_root_certificates(RootCertStore::empty()).with_no_client_auth())
}
