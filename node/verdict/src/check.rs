//! A message is judged: everything is asked at once, and what is not answered in time counts as not answered.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::join_all;
use hickory_resolver::{TokioResolver, net::NetError};
use mail_auth::{
    AuthenticatedMessage, DkimOutput, DkimResult, DmarcResult, Error, IprevResult, MessageAuthenticator,
    SpfOutput, SpfResult, dmarc::verify::DmarcParameters,
};
use tokio::{
    sync::Semaphore,
    time::{Instant, timeout, timeout_at},
};

use crate::{
    authors::authors,
    body::BodyHashes,
    decide::{Action, decide, not_looked_at, refusal},
    field::{self, Sender},
    lists::Lists,
    lookups::Lookups,
    message::{self, Header},
    pulse::Pulse,
    results::{Authors, Dmarc, Listed, Outcome, Policy, Results, Signature},
    settings::{Check, Settings},
    spf,
};

/// Time for everything but DMARC.
const FIRST: Duration = Duration::from_secs(10);
/// Time for DMARC, of its own: who makes the first part last must not get around it.
const SECOND: Duration = Duration::from_secs(8);
/// One question to one name server, of two.
const QUESTION: Duration = Duration::from_secs(3);
/// Messages that are judged at once; each holds its header.
const AT_ONCE: usize = 200;
/// How long a message waits for its turn; then it is not judged.
const TURN: Duration = Duration::from_secs(5);
/// Look-ups for DMARC of one domain, with the walks up the tree (RFC 9989 section 4.10).
const DMARC_LOOKUPS: u32 = 40;
/// Look-ups for iprev.
const IPREV_LOOKUPS: u32 = 4;

/// A body, behind the empty line that parts it from the header.
#[async_trait]
pub trait Text: Send + Sync {
    /// Some octets from here on; none at its end.
    async fn piece(&self, offset: u64) -> io::Result<Bytes>;
}

/// What came in.
pub struct Mail<'a> {
    /// The client's address.
    pub client: IpAddr,
    /// The argument of HELO or EHLO.
    pub helo: &'a str,
    /// MAIL FROM; empty for the null sender.
    pub sender: &'a str,
    /// The header section as it came, each field with its CRLF, without the empty line.
    pub header: &'a [u8],
    /// Lists that have the client.
    pub listed: Vec<Listed>,
}

/// What a message is worth.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// What is done with it.
    pub action: Action,
    /// The field Authentication-Results with its last CRLF.
    pub field: String,
    /// What was found.
    pub results: Results,
}

/// Why nothing can be asked.
#[derive(Debug, thiserror::Error)]
#[error("the resolver cannot be set up: {0}")]
pub struct ResolverError(#[from] NetError);

/// Judges mail.
pub struct Checks {
    settings: Settings,
    /// The authserv-id.
    name: String,
    dns: MessageAuthenticator,
    lists: Lists,
    turns: Semaphore,
    pulse: Pulse,
}

impl Checks {
    /// Asks these servers, or when there is none those of the system's configuration. `name` stands in front of the results:
    /// the cluster's host name.
    ///
    /// # Errors
    /// When the system's configuration cannot be read.
    pub fn new(settings: Settings, name: &str, servers: &[SocketAddr]) -> Result<Self, ResolverError> {
        let lists = Lists::new(settings.lists.clone());
        let dns = MessageAuthenticator(resolver(servers)?);
        Ok(Self {
            settings,
            name: name.to_owned(),
            dns,
            lists,
            turns: Semaphore::new(AT_ONCE),
            pulse: Pulse::default(),
        })
    }

    /// The name that stands in front of the results.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Is anything of a message looked at?
    #[must_use]
    pub fn judges(&self) -> bool {
        self.settings.judges() || !self.lists.is_empty()
    }

    /// The lists that have this client; those of a network that is allowed are not asked about.
    pub async fn listed(&self, client: IpAddr) -> Vec<Listed> {
        if self.lists.is_empty() || self.allows(client) || !self.pulse.is_there(&self.dns).await {
            return Vec::new();
        }
        self.lists.having(&self.dns, client).await
    }

    /// Why recipients are refused to this client.
    #[must_use]
    pub fn refusal(listed: &[Listed], client: IpAddr) -> Option<String> {
        refusal(listed, client)
    }

    fn allows(&self, client: IpAddr) -> bool {
        self.settings.allowed.iter().any(|network| network.contains(client))
    }

    /// Judges a message.
    ///
    /// # Errors
    /// When its body cannot be read.
    pub async fn judge(&self, mail: &Mail<'_>, body: &dyn Text) -> io::Result<Verdict> {
        let (mut results, missed) = match timeout(TURN, self.turns.acquire()).await {
            Ok(Ok(_turn)) => (self.results(mail, body).await?, false),
            _ => (self.unanswered(), true),
        };
        results.listed.clone_from(&mail.listed);
        let allowed = self.allows(mail.client);
        let mut action = decide(&results, &self.settings, allowed);
        if missed {
            action = not_looked_at(action, &self.settings, allowed);
        }
        let from = Sender { client: mail.client, helo: mail.helo, sender: mail.sender };
        let field = field::write(&results, &self.name, &from);
        Ok(Verdict { action, field, results })
    }

    /// When it was not even asked.
    fn unanswered(&self) -> Results {
        let on = |check: bool| check.then_some(Outcome::TempError);
        let signature = Signature {
            outcome: Outcome::TempError,
            domain: String::new(),
            selector: String::new(),
            why: "not looked at",
        };
        let dmarc = Dmarc {
            outcome: Outcome::TempError,
            policy: Policy::None,
            domain: String::new(),
            authors: Authors::Unknown,
        };
        Results {
            spf: on(self.settings.spf != Check::Off),
            dkim: self.settings.dkim.then(|| vec![signature]),
            dmarc: (self.settings.dmarc != Check::Off).then_some(dmarc),
            ..Results::default()
        }
    }

    async fn results(&self, mail: &Mail<'_>, body: &dyn Text) -> io::Result<Results> {
        if !self.settings.judges() {
            return Ok(Results::default());
        }
        if !self.pulse.is_there(&self.dns).await {
            return Ok(self.unanswered());
        }
        let section = [mail.header, b"\r\n"].concat();
        let mut header = Header::parse(&section);
        if self.settings.dkim {
            hash(&mut header.message, body).await?;
        }
        let end = Instant::now() + FIRST;
        let asking = spf::Asking { client: mail.client.to_canonical(), helo: mail.helo, here: &self.name };
        let (iprev, (helo, from), (dkim, found), arc) = tokio::join!(
            self.iprev(asking.client, end),
            self.spf(&asking, mail.sender, end),
            self.dkim(&header, end),
            self.arc(&header, end),
        );
        let mut results = Results { iprev: Some(iprev), arc, ..Results::default() };
        if self.settings.spf != Check::Off {
            results.helo = Some(spf::outcome(&helo));
            results.spf = Some(spf::outcome(from.as_ref().unwrap_or(&helo)));
        }
        if self.settings.dkim {
            results.dkim = Some([found, header.refused.clone()].concat());
        }
        if self.settings.dmarc != Check::Off {
            let domain = mail.sender.rsplit_once('@').map_or(mail.helo, |(_, domain)| domain);
            results.dmarc = Some(self.dmarc(&header, &dkim, (domain, from.as_ref().unwrap_or(&helo))).await);
        }
        Ok(results)
    }

    async fn iprev(&self, client: IpAddr, end: Instant) -> Outcome {
        let lookups = Lookups::new(IPREV_LOOKUPS);
        match timeout_at(end, self.dns.verify_iprev(lookups.of(client))).await.map(|found| found.result) {
            Ok(IprevResult::Pass) => Outcome::Pass,
            Ok(IprevResult::Fail(_)) => Outcome::Fail,
            Ok(IprevResult::PermError(_)) => Outcome::PermError,
            Ok(IprevResult::None) => Outcome::None,
            Ok(IprevResult::TempError(_)) | Err(_) => Outcome::TempError,
        }
    }

    /// Of HELO, and of MAIL FROM when it is not the null sender.
    async fn spf(
        &self,
        asking: &spf::Asking<'_>,
        sender: &str,
        end: Instant,
    ) -> (SpfOutput, Option<SpfOutput>) {
        let late = || SpfOutput::new(String::new()).with_result(SpfResult::TempError);
        if self.settings.spf == Check::Off {
            return (SpfOutput::default(), None);
        }
        let helo = async { timeout_at(end, spf::helo(&self.dns, asking)).await.unwrap_or_else(|_| late()) };
        let from = async {
            if sender.is_empty() {
                return None;
            }
            let found = timeout_at(end, spf::mail_from(&self.dns, asking, sender)).await;
            Some(found.unwrap_or_else(|_| late()))
        };
        tokio::join!(helo, from)
    }

    /// Each signature on its own: one whose key is slow to come must not let another one pass as "not answered".
    async fn dkim<'h>(&self, header: &'h Header<'_>, end: Instant) -> (Vec<DkimOutput<'h>>, Vec<Signature>) {
        let verify = |at: usize| async move {
            let one = header.with_signature(at);
            let result = match timeout_at(end, self.dns.verify_dkim(&one)).await {
                Ok(outputs) => outputs.first().map_or(DkimResult::None, |output| output.result().clone()),
                Err(_) => late(),
            };
            header.message.dkim_headers.get(at).map(|field| output(result).with_signature(&field.header))
        };
        let count = if self.settings.dkim { header.message.dkim_headers.len() } else { 0 };
        let outputs: Vec<DkimOutput<'_>> =
            join_all((0..count).map(verify)).await.into_iter().flatten().collect();
        let found = outputs.iter().filter_map(message::verified).collect();
        (outputs, found)
    }

    async fn arc(&self, header: &Header<'_>, end: Instant) -> Option<Outcome> {
        if !self.settings.dkim {
            return None;
        }
        if header.too_many_sets {
            return Some(Outcome::PermError);
        }
        Some(
            match timeout_at(end, self.dns.verify_arc(&header.message))
                .await
                .map(|found| found.result().clone())
            {
                Ok(DkimResult::Pass) => Outcome::Pass,
                Ok(DkimResult::None) => Outcome::None,
                Ok(DkimResult::TempError(_)) | Err(_) => Outcome::TempError,
                // A chain holds or does not (RFC 8617 section 4.4).
                Ok(_) => Outcome::Fail,
            },
        )
    }

    /// The strictest of what the authors' domains ask for (RFC 7489 section 6.6.1).
    async fn dmarc(
        &self,
        header: &Header<'_>,
        dkim: &[DkimOutput<'_>],
        (sender, spf): (&str, &SpfOutput),
    ) -> Dmarc {
        let (authors, domains) = authors(header.from_fields, &header.message.from);
        if authors != Authors::Named {
            let outcome = Outcome::PermError;
            return Dmarc { outcome, policy: Policy::None, domain: String::new(), authors };
        }
        let end = Instant::now() + SECOND;
        let of = |domain: String| async move {
            let message = AuthenticatedMessage {
                from: vec![format!("author@{domain}")],
                ..AuthenticatedMessage::default()
            };
            let lookups = Lookups::new(DMARC_LOOKUPS);
            let params = DmarcParameters::new(&message, dkim, sender, spf);
            let output = timeout_at(end, self.dns.verify_dmarc(lookups.of(params))).await.ok();
            let policy = output.as_ref().map_or(Policy::None, |output| match output.policy() {
                mail_auth::dmarc::Policy::Reject => Policy::Reject,
                mail_auth::dmarc::Policy::Quarantine => Policy::Quarantine,
                _ => Policy::None,
            });
            let outcome = match output.map(|output| output.result()) {
                Some(DmarcResult::Pass) => Outcome::Pass,
                Some(DmarcResult::Fail(_)) => Outcome::Fail,
                Some(DmarcResult::PermError(_)) => Outcome::PermError,
                Some(DmarcResult::None) => Outcome::None,
                Some(DmarcResult::TempError(_)) | None => Outcome::TempError,
            };
            Dmarc { outcome, policy, domain, authors }
        };
        let all = join_all(domains.into_iter().map(of)).await;
        strictest(all).unwrap_or(Dmarc {
            outcome: Outcome::None,
            policy: Policy::None,
            domain: String::new(),
            authors,
        })
    }
}

/// What fails counts first, by what is asked for; then what could not be found out; and only then what passes.
fn strictest(all: Vec<Dmarc>) -> Option<Dmarc> {
    all.into_iter().min_by_key(|dmarc| match (dmarc.outcome, dmarc.policy) {
        (Outcome::Fail, Policy::Reject) => 0,
        (Outcome::Fail, Policy::Quarantine) => 1,
        (Outcome::Fail, Policy::None) => 2,
        (Outcome::TempError, _) => 3,
        (Outcome::PermError, _) => 4,
        (Outcome::None, _) => 5,
        _ => 6,
    })
}

fn late() -> DkimResult {
    DkimResult::TempError(Error::Io("not in time".to_owned()))
}

fn output<'x>(result: DkimResult) -> DkimOutput<'x> {
    match result {
        DkimResult::Pass => DkimOutput::pass(),
        DkimResult::Neutral(error) => DkimOutput::neutral(error),
        DkimResult::Fail(error) => DkimOutput::fail(error),
        DkimResult::PermError(error) => DkimOutput::perm_err(error),
        DkimResult::TempError(error) => DkimOutput::temp_err(error),
        DkimResult::None => DkimOutput::neutral(Error::NoHeadersFound),
    }
}

/// Hashes the body as the signatures want it.
async fn hash(message: &mut AuthenticatedMessage<'_>, body: &dyn Text) -> io::Result<()> {
    let mut hashes = BodyHashes::new(message);
    if hashes.is_empty() {
        return Ok(());
    }
    let mut offset = 0;
    loop {
        let piece = body.piece(offset).await?;
        if piece.is_empty() {
            break;
        }
        offset += piece.len() as u64;
        hashes.write(&piece);
        // Others have their turn: a large message takes a while.
        tokio::task::yield_now().await;
    }
    hashes.finish(message);
    Ok(())
}

fn resolver(servers: &[SocketAddr]) -> Result<TokioResolver, NetError> {
    let mut builder = mailcluster_resolver::builder(servers)?;
    let options = builder.options_mut();
    (options.timeout, options.attempts, options.try_tcp_on_error) = (QUESTION, 1, true);
    builder.build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_several_authors_the_strictest_counts() {
        use Outcome as O;
        use Policy as P;
        for (all, expected) in [
            (&[(O::Pass, P::Reject), (O::Fail, P::None)][..], (O::Fail, P::None)),
            (&[(O::Fail, P::None), (O::Fail, P::Reject), (O::Fail, P::Quarantine)], (O::Fail, P::Reject)),
            (&[(O::Fail, P::Quarantine), (O::Fail, P::None)], (O::Fail, P::Quarantine)),
            (&[(O::Pass, P::Reject), (O::None, P::None)], (O::None, P::None)),
            (&[(O::Pass, P::Reject), (O::TempError, P::Reject)], (O::TempError, P::Reject)),
            (&[(O::Pass, P::None)], (O::Pass, P::None)),
        ] {
            let all = all.iter().map(|(outcome, policy)| Dmarc {
                outcome: *outcome,
                policy: *policy,
                domain: "x".into(),
                authors: Authors::Named,
            });
            let found = strictest(all.collect()).unwrap();
            assert_eq!((found.outcome, found.policy), expected);
        }
        assert_eq!(strictest(vec![]), None);
    }
}
