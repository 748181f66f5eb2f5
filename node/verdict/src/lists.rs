//! DNS lists, asked. A list that does not answer, or is not itself, has nobody.

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use futures::future::join_all;
use mail_auth::{DnsError, Error, MessageAuthenticator};
use tokio::time::timeout;

use crate::{
    dnsbl::{self, TEST_LISTED, TEST_NOT_LISTED},
    results::Listed,
    settings::List,
};

/// All lists answer within this, or not at all.
const ANSWER: Duration = Duration::from_secs(5);
/// How long it is believed that a list lives.
const ALIVE: Duration = Duration::from_secs(3600);
/// How long it is believed that it does not.
const DEAD: Duration = Duration::from_secs(300);

/// The lists of a frontend.
pub(crate) struct Lists(Vec<Entry>);

struct Entry {
    list: List,
    /// Whether it lives, and when that was found.
    state: Mutex<Option<(Instant, bool)>>,
}

impl Lists {
    pub(crate) fn new(lists: Vec<List>) -> Self {
        Self(lists.into_iter().map(|list| Entry { list, state: Mutex::new(None) }).collect())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The lists that have this client.
    pub(crate) async fn having(&self, dns: &MessageAuthenticator, client: IpAddr) -> Vec<Listed> {
        let asked = join_all(self.0.iter().map(|entry| timeout(ANSWER, entry.ask(dns, client))));
        asked.await.into_iter().filter_map(|answer| answer.ok().flatten()).collect()
    }
}

impl Entry {
    async fn ask(&self, dns: &MessageAuthenticator, client: IpAddr) -> Option<Listed> {
        let answer = self.look_up(dns, client).await.flatten()?;
        // Looked at only for who is listed: a dead list that has nobody does no harm.
        if !self.lives(dns).await {
            return None;
        }
        let (zone, action) = (self.list.zone.clone(), self.list.action);
        Some(Listed { zone, answer, action })
    }

    /// `None`: no answer. `Some(None)`: not listed.
    async fn look_up(&self, dns: &MessageAuthenticator, client: IpAddr) -> Option<Option<Ipv4Addr>> {
        match dns.ipv4_lookup_raw(&dnsbl::name(client, &self.list.zone)).await {
            Ok(found) => Some(dnsbl::counts(&self.list, &found.entry)),
            Err(Error::Dns(DnsError::RecordNotFound(_))) => Some(None),
            Err(error) => {
                tracing::debug!(zone = %self.list.zone, %error, "a DNS list does not answer");
                None
            }
        }
    }

    async fn lives(&self, dns: &MessageAuthenticator) -> bool {
        let known = *self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, alive)) = known
            && at.elapsed() < if alive { ALIVE } else { DEAD }
        {
            return alive;
        }
        // Answers that are not wanted show that it lives, too.
        let any = Self { list: List { answers: Vec::new(), ..self.list.clone() }, state: Mutex::new(None) };
        let (listed, not_listed) =
            tokio::join!(any.look_up(dns, TEST_LISTED), any.look_up(dns, TEST_NOT_LISTED));
        let Some(alive) = dnsbl::is_alive(listed.map(|l| l.is_some()), not_listed.map(|l| l.is_some()))
        else {
            return false;
        };
        if !alive {
            tracing::warn!(
                zone = %self.list.zone,
                "a DNS list is not used: it does not have 127.0.0.2, or has 127.0.0.1 (RFC 5782 section 5)"
            );
        }
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), alive));
        alive
    }
}
