//! Logins past the gate: refused or delayed before they are looked at, and noted after.

use std::time::{Duration, Instant};

use mailcluster_screen::Verdict;
use mailcluster_types::{AuthOutcome, AuthRequest, Unavailable};

use crate::FrontendContext;

/// As [`mailcluster_types::Directory::authenticate`]. What the directory could not say is noted nowhere: it is no failure
/// of the client.
pub(crate) async fn authenticate(
    context: &FrontendContext,
    request: &AuthRequest,
    limit: Duration,
) -> Result<AuthOutcome, Unavailable> {
    let (screen, ip) = (&context.screen, request.client.remote.ip());
    let tried = (request.user.as_str(), &*request.password);
    match screen.login(Instant::now(), ip, &request.user) {
        Verdict::Allow => {}
        Verdict::Delay(wait, place) => {
            tokio::time::sleep(wait).await;
            drop(place);
        }
        Verdict::Refuse(wait) => {
            screen.throttled(Instant::now(), ip, tried);
            return Ok(AuthOutcome::Throttled(seconds(wait)));
        }
    }
    let asked = context.directory.authenticate(request);
    let answer = tokio::time::timeout(limit, asked).await;
    let answer = answer.unwrap_or_else(|_| Err(Unavailable("no answer to a login in time".into())))?;
    match &answer {
        AuthOutcome::Accepted(_) => screen.logged_in(ip, &request.user),
        AuthOutcome::Rejected => screen.failed(Instant::now(), ip, tried),
        AuthOutcome::Throttled(_) => screen.throttled(Instant::now(), ip, tried),
    }
    Ok(answer)
}

fn seconds(wait: Duration) -> u32 {
    u32::try_from(wait.as_secs()).unwrap_or(u32::MAX).max(1)
}
