//! Waiting for the operator to do what was asked of a store.

use std::time::{Duration, Instant};

use kube::{Api, ResourceExt};
use mailcluster_api::MailStore;

use super::{LOOK, obstacle};
use crate::failure::Failure;

/// Looks at a store until it is done, for so many seconds; once when there are none. Answers the last look. `late` says what is
/// not done then, before what stands in the way.
pub async fn until(
    api: &Api<MailStore>,
    (name, seconds): (&str, u32),
    is_done: impl Fn(&MailStore) -> Result<bool, Failure>,
    late: &str,
) -> Result<MailStore, Failure> {
    let deadline = Instant::now() + Duration::from_secs(seconds.into());
    loop {
        let now = api.get(name).await?;
        if seconds == 0 || is_done(&now)? {
            return Ok(now);
        }
        if Instant::now() >= deadline {
            let phase = now.status.as_ref().and_then(|s| s.phase).map_or("not known", |p| p.as_str());
            let why = obstacle(&now).unwrap_or_else(|| format!("its phase is {phase}"));
            return Err(Failure::Unavailable(format!("{late}. {why}")));
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Why the operator has taken a request away undone, by the annotations of both.
pub fn refusal<'a>(store: &'a MailStore, refused: &str, request: &str) -> Option<&'a String> {
    let annotations = store.annotations();
    annotations.get(refused).filter(|_| !annotations.contains_key(request))
}
