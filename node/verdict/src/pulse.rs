//! Does the DNS answer at all? Asked by a name that nobody has, so that no sender's name servers have a say in it. While it
//! does not, messages do not wait for it.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use mail_auth::{DnsError, Error, MessageAuthenticator};
use tokio::time::timeout;

/// How long an answer to this is believed.
const BELIEVED: Duration = Duration::from_secs(5);
/// How long it is waited for: that there is no such top-level domain, resolvers know (RFC 6761 section 6.2).
const ANSWER: Duration = Duration::from_secs(2);

/// What was last heard of the DNS.
#[derive(Debug, Default)]
pub(crate) struct Pulse {
    heard: Mutex<Option<(Instant, bool)>>,
    /// One message asks; others go by what was heard before.
    asking: tokio::sync::Mutex<()>,
    /// Each question is a new one: nothing that is remembered answers it.
    asked: AtomicU64,
}

impl Pulse {
    /// Did the DNS answer lately?
    pub(crate) async fn is_there(&self, dns: &MessageAuthenticator) -> bool {
        let heard = *self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, there)) = heard
            && at.elapsed() < BELIEVED
        {
            return there;
        }
        let Ok(_alone) = self.asking.try_lock() else { return heard.is_none_or(|(_, there)| there) };
        let number = self.asked.fetch_add(1, Ordering::Relaxed);
        // Not `invalid`, which our own resolver answers by itself.
        let name = format!("p{number}-{}.mailcluster.test.", std::process::id());
        let answer = timeout(ANSWER, dns.ipv4_lookup_raw(&name)).await;
        let there = matches!(answer, Ok(Ok(_) | Err(Error::Dns(DnsError::RecordNotFound(_)))));
        if heard.is_some_and(|(_, before)| before != there) || (heard.is_none() && !there) {
            match there {
                true => tracing::info!("the DNS answers again: mail is checked"),
                false => tracing::warn!("the DNS does not answer: mail is taken without its checks"),
            }
        }
        *self.heard.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), there));
        there
    }
}
