//! MTA-STS policies (RFC 8461): looked for, fetched over HTTPS and kept, as `mailcluster_outbound::tls::sts` says.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    pin::pin,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::{
    Request, StatusCode, Uri,
    client::conn::http1,
    header::{CONTENT_TYPE, HOST, USER_AGENT},
};
use hyper_util::rt::TokioIo;
use mailcluster_outbound::{
    route::{Answer, HostAnswer},
    tls::sts::{Kept, MAX_POLICY, Policy, Step, after_failed_fetch, policy_id, policy_url, step},
};
use tokio::{net::TcpStream, time::timeout};

use crate::{
    dns::Dns,
    tls::{Tls, Wanted},
};

/// Time for a policy to be there (RFC 8461 section 3.3 suggests a minute), with what leads to it.
const PATIENCE: Duration = Duration::from_secs(30);
/// Seconds until a fetch that failed is tried again (RFC 8461 section 3.3).
const PAUSE: i64 = 300;
/// Domains that something is kept of.
const MAX_DOMAINS: usize = 10_000;
/// Addresses of a domain's web server that are tried.
const MAX_ADDRESSES: usize = 2;

/// The policies of the domains that mail goes to. They are kept in memory: after a restart they are fetched again.
pub(crate) struct Policies {
    port: u16,
    loopback_is_another: bool,
    domains: Mutex<HashMap<String, Domain>>,
}

#[derive(Debug, Clone, Default)]
struct Domain {
    kept: Option<Kept>,
    /// When a fetch failed last (seconds since 1970).
    failed_at: Option<i64>,
}

impl Domain {
    /// Is there a reason to wait before the policy is asked for again?
    fn pauses(&self, now: i64) -> bool {
        self.failed_at.is_some_and(|at| (0..PAUSE).contains(&now.saturating_sub(at)))
    }

    fn newest(&self) -> i64 {
        self.kept.as_ref().map_or(0, |kept| kept.read_at).max(self.failed_at.unwrap_or(0))
    }
}

impl Policies {
    /// Fetched from `port`, which is that of HTTPS but for tests.
    pub(crate) fn new(port: u16, loopback_is_another: bool) -> Self {
        Self { port, loopback_is_another, domains: Mutex::default() }
    }

    /// The policy that counts for a domain now.
    pub(crate) async fn of(&self, domain: &str, (dns, tls): (&dyn Dns, &Tls)) -> Option<Policy> {
        let published = match dns.texts(&format!("_mta-sts.{domain}")).await {
            Answer::Records(texts) => policy_id(&texts),
            _ => None,
        };
        let now = now();
        let known = self.domains().get(domain).cloned().unwrap_or_default();
        let step = match step(known.kept.as_ref(), published.as_deref(), now) {
            Step::Fetch { id } if !known.pauses(now) => match self.fetch(domain, (dns, tls)).await {
                Ok(policy) => {
                    let kept = Kept { id, policy: policy.clone(), read_at: now };
                    self.note(domain, Domain { kept: Some(kept), failed_at: None });
                    return Some(policy);
                }
                Err(why) => {
                    tracing::info!(domain, why, "the MTA-STS policy cannot be fetched");
                    self.note(domain, Domain { failed_at: Some(now), ..known.clone() });
                    after_failed_fetch(known.kept.as_ref(), now)
                }
            },
            Step::Fetch { .. } => after_failed_fetch(known.kept.as_ref(), now),
            step => step,
        };
        known.kept.map(|kept| kept.policy).filter(|_| step == Step::Keep)
    }

    fn domains(&self) -> MutexGuard<'_, HashMap<String, Domain>> {
        self.domains.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A domain cannot make us keep more than there is room for: the one that was looked at longest ago goes.
    fn note(&self, domain: &str, known: Domain) {
        let mut domains = self.domains();
        if domains.len() >= MAX_DOMAINS && !domains.contains_key(domain) {
            let oldest = domains.iter().min_by_key(|(_, known)| known.newest()).map(|(name, _)| name.clone());
            oldest.and_then(|name| domains.remove(&name));
        }
        domains.insert(domain.to_owned(), known);
    }

    async fn fetch(&self, domain: &str, (dns, tls): (&dyn Dns, &Tls)) -> Result<Policy, String> {
        let url: Uri = policy_url(domain).parse().map_err(|error| format!("{domain}: {error}"))?;
        let text = timeout(PATIENCE, self.get(&url, (dns, tls))).await;
        let text = text.map_err(|_| "it took too long".to_owned())??;
        Policy::parse(&text).map_err(|fault| fault.to_string())
    }

    /// The text that is there. Redirects are not followed, and the certificate must be the host's (RFC 8461
    /// section 3.3).
    async fn get(&self, url: &Uri, (dns, tls): (&dyn Dns, &Tls)) -> Result<Bytes, String> {
        let host = url.host().unwrap_or_default();
        let stream = self.connect(&dns.host(host).await).await?;
        let stream = tls.start(Box::new(stream), host, Wanted::OfHost).await.map_err(|e| e.to_string())?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|e| e.to_string())?;
        let request = Request::get(url.path())
            .header(HOST, host)
            .header(USER_AGENT, "mailcluster")
            .body(Empty::<Bytes>::new())
            .map_err(|e| e.to_string())?;
        let answered = async {
            let response = sender.send_request(request).await.map_err(|e| e.to_string())?;
            let kind = response.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
            if response.status() != StatusCode::OK || !kind.is_some_and(is_text) {
                return Err(format!("the answer is {} {}", response.status(), kind.unwrap_or_default()));
            }
            let body = Limited::new(response.into_body(), MAX_POLICY).collect().await;
            body.map(|body| body.to_bytes()).map_err(|e| e.to_string())
        };
        // It ends as soon as the server has said everything, which may not have been read yet.
        let (mut answered, mut connection) = (pin!(answered), pin!(connection));
        tokio::select! {
            biased;
            answer = &mut answered => return answer,
            _ = &mut connection => {}
        }
        answered.await
    }

    async fn connect(&self, answer: &HostAnswer) -> Result<TcpStream, String> {
        let mut addresses: Vec<IpAddr> = Vec::new();
        if let Answer::Records(v6) = &answer.v6.answer {
            addresses.extend(v6.iter().take(1).copied().map(IpAddr::from));
        }
        if let Answer::Records(v4) = &answer.v4.answer {
            addresses.extend(v4.iter().take(MAX_ADDRESSES).copied().map(IpAddr::from));
        }
        addresses.retain(|address| self.loopback_is_another || !address.to_canonical().is_loopback());
        let mut why = "its host has no address".to_owned();
        for address in addresses {
            match TcpStream::connect(SocketAddr::new(address, self.port)).await {
                Ok(stream) => return Ok(stream),
                Err(error) => why = format!("{address}: {error}"),
            }
        }
        Err(why)
    }
}

fn is_text(kind: &str) -> bool {
    kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("text/plain"))
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}
