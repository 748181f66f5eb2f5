//! Administration of a standalone node: gRPC on a unix socket that only its owner and root can open.

use std::{fs, os::unix::fs::PermissionsExt, path::Path, sync::Arc};

use anyhow::{Context, Result};
use mailcluster_directory::{
    DirectoryService, StoreDialer,
    serve::{AdminAccess, AdminServer},
};
use tokio::net::UnixListener;
use tokio_stream::wrappers::UnixListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;

/// Serves until `over` is cancelled.
pub fn serve(
    socket: &Path,
    service: DirectoryService,
    dialer: Arc<dyn StoreDialer>,
    over: CancellationToken,
) -> Result<()> {
    // A killed process leaves its socket; the arbiter's lock says that nobody uses it.
    let _stale = fs::remove_file(socket);
    let listener =
        UnixListener::bind(socket).with_context(|| format!("cannot listen on {}", socket.display()))?;
    fs::set_permissions(socket, fs::Permissions::from_mode(0o600))?;
    let access = AdminAccess::Socket { uid: rustix::process::geteuid().as_raw() };
    let routes = AdminServer::routes(service, access, dialer);
    tokio::spawn(async move {
        let incoming = UnixListenerStream::new(listener);
        let server = Server::builder().add_routes(routes);
        if let Err(error) = server.serve_with_incoming_shutdown(incoming, over.cancelled_owned()).await {
            tracing::error!(%error, "administration ended");
        }
    });
    Ok(())
}
