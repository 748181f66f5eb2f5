//! Into the owner's backend: its greeting, and AUTHENTICATE "EXTERNAL" on the user's behalf.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use mailcluster_net::stream::LineStream;
use mailcluster_types::{BoxStream, ClientInfo, Protocol, ResolvedAccount};

use crate::{FrontendContext, login::BACKEND_LIMIT, relay::put_back};

/// Longest line before the session starts.
const MAX_LINE: usize = 8 << 10;

/// Opens a connection to the account's backend and logs in.
///
/// # Errors
/// For the log: the client is told to come again.
pub(super) async fn enter(
    context: &FrontendContext,
    account: &ResolvedAccount,
    client: &ClientInfo,
) -> Result<BoxStream, String> {
    let entering = async {
        let backends = &context.backends;
        let stream = backends.open(&account.store, Protocol::ManageSieve, Some(account.id), client).await;
        authenticate(LineStream::new(stream.map_err(|e| e.to_string())?), account).await
    };
    tokio::time::timeout(BACKEND_LIMIT, entering).await.map_err(|_| "the backend took too long".to_owned())?
}

async fn authenticate(mut lines: LineStream, account: &ResolvedAccount) -> Result<BoxStream, String> {
    ok_line(&mut lines).await?;
    let identity = STANDARD.encode(account.address.to_string());
    let command = format!("AUTHENTICATE \"EXTERNAL\" \"{identity}\"\r\n");
    lines.send(command.as_bytes()).await.map_err(|e| e.to_string())?;
    ok_line(&mut lines).await?;
    let (stream, ahead) = lines.into_parts();
    Ok(put_back(stream, ahead))
}

async fn ok_line(lines: &mut LineStream) -> Result<(), String> {
    let line = lines.read_line(MAX_LINE).await.map_err(|e| e.to_string())?;
    if line.starts_with(b"OK") { Ok(()) } else { Err(format!("answered {}", String::from_utf8_lossy(&line))) }
}
