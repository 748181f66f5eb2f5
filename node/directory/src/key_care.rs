//! What becomes of keys by themselves: new ones sign when the DNS has their records, old ones go.

use std::{collections::HashMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use mailcluster_types::Unavailable;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{AdminError, DirectoryService};

/// How often keys are looked at.
const ROUND: Duration = Duration::from_secs(60);
/// A record that was seen is left to spread for this long: whoever asked before may have kept that there is none.
const SPREAD: Duration = Duration::from_secs(600);

/// Texts of TXT records.
#[async_trait]
pub trait TxtLookup: Send + Sync + 'static {
    /// Those at this name, each in one piece; none when the DNS says that there are none.
    ///
    /// # Errors
    /// When it cannot be asked.
    async fn texts(&self, name: &str) -> Result<Vec<String>, Unavailable>;
}

/// Is this the record, however its tags are spaced?
fn is_record(published: &str, wanted: &str) -> bool {
    let bare = |text: &str| -> String {
        text.chars().filter(|c| !c.is_ascii_whitespace()).collect::<String>().trim_end_matches(';').to_owned()
    };
    bare(published) == bare(wanted)
}

/// Has every record of a domain been there for long enough? `seen` remembers since when they are.
fn have_spread(seen: &mut HashMap<String, Instant>, (domain, all_there): (&str, bool), now: Instant) -> bool {
    if !all_there {
        seen.remove(domain);
        return false;
    }
    let since = *seen.entry(domain.to_owned()).or_insert(now);
    now.saturating_duration_since(since) >= SPREAD
}

/// Runs until `over`. Without a look-up, new keys are put to use by command alone.
pub async fn run(service: DirectoryService, dns: Option<Arc<dyn TxtLookup>>, over: CancellationToken) {
    let mut seen = HashMap::new();
    loop {
        tokio::select! {
            () = over.cancelled() => return,
            () = service.store().stopped() => return,
            () = tokio::time::sleep(ROUND) => {}
        }
        if let Err(error) = round(&service, dns.as_deref(), &mut seen).await {
            tracing::warn!(%error, "keys of domains could not be looked after");
        }
    }
}

async fn round(
    service: &DirectoryService,
    dns: Option<&dyn TxtLookup>,
    seen: &mut HashMap<String, Instant>,
) -> Result<(), AdminError> {
    let waiting = service.look_after_keys().await?;
    let Some(dns) = dns else { return Ok(()) };
    seen.retain(|domain, _| waiting.iter().any(|(name, _)| name == domain));
    for (domain, records) in waiting {
        let all_there = are_published(dns, &records).await;
        if have_spread(seen, (&domain, all_there), Instant::now()) {
            service.activate_domain_keys("the directory, as the records are published", &domain).await?;
        }
    }
    Ok(())
}

async fn are_published(dns: &dyn TxtLookup, records: &[(String, String)]) -> bool {
    for (name, text) in records {
        match dns.texts(name).await {
            Ok(texts) if texts.iter().any(|published| is_record(published, text)) => {}
            Ok(_) => return false,
            Err(error) => {
                tracing::debug!(name, %error, "record could not be looked for");
                return false;
            }
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_known_again_however_they_are_spaced() {
        let wanted = "v=DKIM1; k=rsa; p=AAAA";
        for (published, same) in [
            ("v=DKIM1; k=rsa; p=AAAA", true),
            ("v=DKIM1;k=rsa;p=AA AA;", true),
            ("v=DKIM1; k=rsa; p=AAAB", false),
            ("v=DKIM1; k=rsa; p=", false),
        ] {
            assert_eq!(is_record(published, wanted), same, "{published}");
        }
    }

    #[test]
    fn a_record_must_have_been_there_for_a_while_without_a_break() {
        let (mut seen, start) = (HashMap::new(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        for (seconds, there, expected) in [
            (0, true, false),
            (599, true, false),
            (600, false, false),
            (700, true, false),
            (1299, true, false),
            (1300, true, true),
        ] {
            let spread = have_spread(&mut seen, ("example.org", there), at(seconds));
            assert_eq!(spread, expected, "{seconds}");
        }
    }
}
