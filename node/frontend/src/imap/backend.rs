//! Into the owner's backend: its greeting, and AUTHENTICATE EXTERNAL on the user's behalf.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use mailcluster_net::stream::LineStream;
use mailcluster_types::{BoxStream, ClientInfo, Protocol, ResolvedAccount};

use crate::{FrontendContext, login::BACKEND_LIMIT, relay::put_back};

/// The tag of our one command.
const TAG: &str = "mc1";
/// Longest line before the session starts, and how many of them.
const MAX_LINE: usize = 8 << 10;
const MAX_LINES: usize = 32;

/// A backend that has let the user in.
pub(super) struct Backend {
    pub stream: BoxStream,
    /// `[CAPABILITY ...] ` as the backend told it, or nothing.
    pub capability: String,
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
        let stream = context.backends.open(&account.store, Protocol::Imap, Some(account.id), client).await;
        authenticate(LineStream::new(stream.map_err(|e| e.to_string())?), account).await
    };
    tokio::time::timeout(BACKEND_LIMIT, entering).await.map_err(|_| "the backend took too long".to_owned())?
}

async fn authenticate(mut lines: LineStream, account: &ResolvedAccount) -> Result<Backend, String> {
    let failed = |e: &dyn std::fmt::Display| e.to_string();
    let greeting = lines.read_line(MAX_LINE).await.map_err(|e| failed(&e))?;
    if !greeting.starts_with(b"* OK") {
        return Err(format!("greeted with {}", String::from_utf8_lossy(&greeting)));
    }
    let identity = STANDARD.encode(account.address.to_string());
    let command = format!("{TAG} AUTHENTICATE EXTERNAL {identity}\r\n");
    lines.send(command.as_bytes()).await.map_err(|e| failed(&e))?;
    for _ in 0..MAX_LINES {
        let line = lines.read_line(MAX_LINE).await.map_err(|e| failed(&e))?;
        let text = String::from_utf8_lossy(&line);
        match text.strip_prefix(TAG).and_then(|t| t.strip_prefix(' ')) {
            Some(answer) => {
                let Some(said) = answer.strip_prefix("OK ") else { return Err(format!("answered {answer}")) };
                let capability = capability_code(said);
                let (stream, ahead) = lines.into_parts();
                return Ok(Backend { stream: put_back(stream, ahead), capability });
            }
            None if text.starts_with("* BYE") || text.starts_with('+') => {
                return Err(format!("answered {text}"));
            }
            None => {}
        }
    }
    Err("too many lines before the answer".to_owned())
}

/// The response code at the start of an OK's text, if it is CAPABILITY.
fn capability_code(said: &str) -> String {
    match said.split_once(']') {
        Some((code, _))
            if code.starts_with("[CAPABILITY ")
                && code.bytes().all(|b| b.is_ascii_graphic() || b == b' ') =>
        {
            format!("{code}] ")
        }
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::capability_code;

    #[test]
    fn what_is_told_on() {
        assert_eq!(capability_code("[CAPABILITY IMAP4rev1 IDLE] in"), "[CAPABILITY IMAP4rev1 IDLE] ");
        assert_eq!(capability_code("[ALERT] in"), "");
        assert_eq!(capability_code("in"), "");
    }
}
