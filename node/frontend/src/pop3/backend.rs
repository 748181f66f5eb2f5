//! Into the owner's backend: its greeting, and AUTH EXTERNAL on the user's behalf.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use mailcluster_net::stream::LineStream;
use mailcluster_proto_pop3::MAX_LINE;
use mailcluster_types::{BoxStream, ClientInfo, Protocol, ResolvedAccount};

use crate::{FrontendContext, login::BACKEND_LIMIT, relay::put_back};

/// Longest line of an answer with its CRLF (RFC 1939 section 3), and room for servers that do not count.
const MAX_ANSWER: usize = 1024;

/// A backend that has let the user in.
pub(super) struct Backend {
    pub stream: BoxStream,
    /// What it said.
    pub said: String,
}

/// Opens a connection to the account's backend and logs in.
///
/// # Errors
/// For the log: the client is told to come again.
pub(super) async fn enter(
    context: &FrontendContext,
    account: &ResolvedAccount,
    client: &ClientInfo,
) -> Result<Backend, String> {
    let entering = async {
        let stream = context.backends.open(&account.store, Protocol::Pop3, Some(account.id), client).await;
        authenticate(LineStream::new(stream.map_err(|e| e.to_string())?), account).await
    };
    tokio::time::timeout(BACKEND_LIMIT, entering).await.map_err(|_| "the backend took too long".to_owned())?
}

async fn authenticate(mut lines: LineStream, account: &ResolvedAccount) -> Result<Backend, String> {
    ok_line(&mut lines).await?;
    let identity = STANDARD.encode(account.address.to_string());
    let command = format!("AUTH EXTERNAL {identity}\r\n");
    if command.len() <= MAX_LINE {
        send(&mut lines, &command).await?;
    } else {
        send(&mut lines, "AUTH EXTERNAL\r\n").await?;
        let line = lines.read_line(MAX_ANSWER).await.map_err(|e| e.to_string())?;
        if !line.starts_with(b"+ ") {
            return Err(format!("answered {}", String::from_utf8_lossy(&line)));
        }
        send(&mut lines, &format!("{identity}\r\n")).await?;
    }
    let said = ok_line(&mut lines).await?;
    let (stream, ahead) = lines.into_parts();
    Ok(Backend { stream: put_back(stream, ahead), said })
}

async fn send(lines: &mut LineStream, text: &str) -> Result<(), String> {
    lines.send(text.as_bytes()).await.map_err(|e| e.to_string())
}

async fn ok_line(lines: &mut LineStream) -> Result<String, String> {
    let line = lines.read_line(MAX_ANSWER).await.map_err(|e| e.to_string())?;
    let text = String::from_utf8_lossy(&line);
    match text.strip_prefix("+OK") {
        Some(said) => Ok(said.trim().to_owned()),
        None => Err(format!("answered {text}")),
    }
}
