//! From a domain to hosts, and from host to host until each recipient has its answer.

use std::{net::SocketAddr, sync::Arc};

use futures::future::join_all;
use mailcluster_lmtp::{Body, PIECE};
use mailcluster_outbound::{
    Status,
    reply::{Action, Heard, Verdict, after_the_last_host, judge},
    route::{
        Answer, Exchange, Exchanges, Failure, First, HostAnswer, Looked, Ourselves, Smarthost, Target,
        exchanges, first, targets,
    },
    tls::policy::Override,
};
use mailcluster_proto_smtp::{Envelope, Misfit, Needs, Outcome, Reply, Stage, Utf8};
use tokio::{net::TcpStream, time::timeout};

use crate::{
    dns::{Dns, literal},
    job::{Attempt, Credentials, Fate, Job, Settings, SmarthostAccess, Told},
    session::{Broken, Connection, Demands, Encryption, Sent},
    tls::Tls,
};

/// Takes mail to other sites.
pub struct Relay {
    settings: Settings,
    ourselves: Ourselves,
    dns: Arc<dyn Dns>,
    tls: Tls,
}

/// Where a message goes.
struct Way {
    targets: Vec<Target>,
    port: u16,
    access: SmarthostAccess,
}

/// What is known of the recipients so far.
struct Ledger {
    told: Vec<Option<Told>>,
    /// What the hosts that were tried have said of those that have no answer yet.
    verdicts: Vec<Verdict>,
    last: Option<Told>,
    reached: bool,
}

impl Relay {
    /// One that looks up with `dns`.
    #[must_use]
    pub fn new(settings: Settings, dns: Arc<dyn Dns>, tls: Tls) -> Self {
        let mut names = settings.own_names.clone();
        names.insert(settings.name.to_ascii_lowercase());
        let loopback_is_another = settings.loopback_is_another;
        let ourselves = Ourselves { names, loopback_is_another, ..Ourselves::default() };
        Self { settings, ourselves, dns, tls }
    }

    /// The name under which attempts to a domain are counted together: the host that all its mail goes through, or
    /// the domain itself.
    #[must_use]
    pub fn destination(&self, domain: &str) -> String {
        match first(domain, &self.settings.ways, &self.ourselves) {
            Ok(First::Smarthost(smarthost)) => format!("{}:{}", smarthost.host, smarthost.port),
            Ok(First::LookUpMx(domain)) => domain,
            Ok(First::Address(_)) | Err(_) => domain.to_ascii_lowercase(),
        }
    }

    /// Tries once. `leave` is asked right before the end of each copy; when it says no, that copy is not taken.
    pub async fn attempt(&self, job: &Job<'_>, leave: &(dyn Fn() -> bool + Sync)) -> Attempt {
        let way = match self.way(job.domain).await {
            Ok(way) => way,
            Err(failure) => return all(job, &of_failure(&failure)),
        };
        let needs = match needs(job).await {
            Ok(needs) => needs,
            Err(error) => {
                let text = format!("the message cannot be read now: {error}");
                return all(
                    job,
                    &Told { fate: Fate::Later, status: Status::new(4, 3, 0), text, ..nothing() },
                );
            }
        };
        let mut ledger = Ledger::new(job.recipients.len());
        for target in &way.targets {
            if ledger.open().is_empty() {
                break;
            }
            self.try_host(&way, target, (job, &needs), &mut ledger, leave).await;
        }
        ledger.conclude()
    }

    async fn way(&self, domain: &str) -> Result<Way, Failure> {
        match first(domain, &self.settings.ways, &self.ourselves)? {
            First::Smarthost(smarthost) => {
                let targets = self.smarthost(&smarthost).await.map_err(Failure::of_our_own_making)?;
                Ok(Way { targets, port: smarthost.port, access: self.settings.access(&smarthost) })
            }
            First::Address(address) => {
                let host = address.to_string();
                let target = Target { host, canonical: None, preference: 0, address, secure: false };
                Ok(self.direct(vec![target]))
            }
            First::LookUpMx(domain) => {
                let looked = self.dns.exchanges(&domain).await;
                let found = exchanges(&domain, &looked, &self.ourselves, self.settings.limits, &mut draw)?;
                Ok(self.direct(self.addresses(&found).await?))
            }
        }
    }

    fn direct(&self, targets: Vec<Target>) -> Way {
        Way { targets, port: self.settings.port, access: SmarthostAccess::default() }
    }

    async fn addresses(&self, found: &Exchanges) -> Result<Vec<Target>, Failure> {
        let answers = join_all(found.hosts.iter().map(|exchange| self.dns.host(&exchange.host))).await;
        targets(found, &answers, &self.ourselves, self.settings.limits, &mut draw)
    }

    /// A smarthost is not looked up by MX records, and may be on this very machine.
    async fn smarthost(&self, smarthost: &Smarthost) -> Result<Vec<Target>, Failure> {
        let exchange = Exchange { preference: 0, host: smarthost.host.clone() };
        let found = Exchanges { hosts: vec![exchange], implicit: true, secure: false };
        let ourselves = Ourselves { loopback_is_another: true, ..Ourselves::default() };
        let answer = match literal(&smarthost.host) {
            Some(address) => of_literal(address),
            None => self.dns.host(&smarthost.host).await,
        };
        targets(&found, &[answer], &ourselves, self.settings.limits, &mut draw)
    }

    /// One host: with TLS as it is offered, and without where the handshake fails and nobody demands it.
    async fn try_host(
        &self,
        way: &Way,
        target: &Target,
        message: (&Job<'_>, &Needs),
        ledger: &mut Ledger,
        leave: &(dyn Fn() -> bool + Sync),
    ) {
        let first = encryption(&way.access);
        let mut opened = self.open(way, target, first).await;
        if let (Err(Broken::Handshake(why)), Encryption::Offered) = (&opened, first) {
            tracing::info!(host = target.host, why, "TLS failed, tried in clear");
            opened = self.open(way, target, Encryption::Never).await;
        }
        match opened {
            Ok(connection) => {
                ledger.reached = true;
                send_all(connection, target, message, ledger, leave).await;
            }
            Err(broken) => ledger.host_failed(target, &broken),
        }
    }

    async fn open(&self, way: &Way, target: &Target, tls: Encryption) -> Result<Connection, Broken> {
        let credentials = way.access.credentials.as_deref().map(Credentials::read).transpose();
        let credentials = credentials.map_err(|error| Broken::NoLogin(error.to_string()))?;
        let address = SocketAddr::new(target.address, way.port);
        let lost = |why: String| Broken::Lost(Stage::Connect, why);
        let stream = timeout(self.settings.connect, TcpStream::connect(address))
            .await
            .map_err(|_| lost(format!("no connection to {address} in time")))?
            .map_err(|error| lost(format!("no connection to {address}: {error}")))?;
        let _ = stream.set_nodelay(true);
        let demands =
            Demands { name: &self.settings.name, host: &target.host, tls, credentials: credentials.as_ref() };
        Connection::open(Box::new(stream), &self.tls, &demands).await
    }
}

/// All that wait for an answer, in as many transactions as the server wants.
async fn send_all(
    mut connection: Connection,
    target: &Target,
    (job, needs): (&Job<'_>, &Needs),
    ledger: &mut Ledger,
    leave: &(dyn Fn() -> bool + Sync),
) {
    let mut left = ledger.open();
    while !left.is_empty() && connection.is_ready() {
        let rest = left.split_off(connection.recipients_at_once(left.len()));
        let envelope = Envelope {
            sender: job.sender.to_owned(),
            ret: job.dsn.ret,
            envelope_id: job.dsn.envelope_id.clone(),
            recipients: left.iter().map(|place| job.recipients[*place].clone()).collect(),
        };
        match connection.send(&envelope, needs, job.body, leave).await {
            Sent::Outcomes(outcomes) => {
                let again = ledger.heard((target, connection.takes_dsn()), &left, &outcomes);
                left = rest;
                // Only where something was taken: a server that takes nobody at all is not asked for ever.
                if again.len() < outcomes.len() {
                    left.extend(again);
                }
            }
            Sent::Misfit(misfit) => return ledger.misfit(target, &left, misfit),
            Sent::Unsendable(why) => return ledger.unsendable(&left, &why),
            Sent::Left => return ledger.not_ours(&left),
        }
    }
    connection.quit().await;
}

impl Ledger {
    fn new(recipients: usize) -> Self {
        Self { told: vec![None; recipients], verdicts: Vec::new(), last: None, reached: false }
    }

    /// Those without an answer.
    fn open(&self) -> Vec<usize> {
        (0..self.told.len()).filter(|place| self.told[*place].is_none()).collect()
    }

    fn host_failed(&mut self, target: &Target, broken: &Broken) {
        let (stage, reply, text) = match broken {
            Broken::Refused(stage, reply) => {
                (*stage, Some(reply), "the server refused the session".to_owned())
            }
            Broken::Lost(stage, why) => (*stage, None, why.clone()),
            Broken::NoTls(why) | Broken::Handshake(why) => (Stage::StartTls, None, format!("no TLS: {why}")),
            Broken::NoLogin(why) => (Stage::Auth, None, format!("no login: {why}")),
        };
        let verdict = judge(Heard { stage, reply, accepted_before: 0 });
        self.verdicts.push(verdict);
        self.last = Some(told(target, Fate::Later, verdict.status, text, reply));
    }

    /// Writes down what was said; answers those that another transaction on this connection is for.
    fn heard(
        &mut self,
        (target, takes_dsn): (&Target, bool),
        places: &[usize],
        outcomes: &[Outcome],
    ) -> Vec<usize> {
        let mut again = Vec::new();
        let mut accepted = 0;
        for (place, outcome) in places.iter().zip(outcomes) {
            let heard =
                Heard { stage: outcome.stage, reply: outcome.reply.as_ref(), accepted_before: accepted };
            let verdict = judge(heard);
            accepted += usize::from(outcome.stage > Stage::Rcpt);
            let fate = match verdict.action {
                Action::Delivered => Fate::Delivered,
                Action::Bounce => Fate::Never,
                Action::Unknown => Fate::Unknown,
                Action::Defer | Action::Again | Action::NextHost => Fate::Later,
            };
            let text = sentence(fate, outcome.reply.is_some());
            let told = told(target, fate, verdict.status, text.to_owned(), outcome.reply.as_ref());
            let told = Told { takes_dsn, ..told };
            match verdict.action {
                Action::Again => again.push(*place),
                Action::NextHost => {
                    self.verdicts.push(verdict);
                    self.last = Some(told);
                }
                _ => self.told[*place] = Some(told),
            }
        }
        again
    }

    /// Another host of the domain may take it.
    fn misfit(&mut self, target: &Target, places: &[usize], misfit: Misfit) {
        let status = Status::parse(misfit.status()).unwrap_or(Status::new(5, 6, 0));
        for place in places {
            self.told[*place] = Some(told(target, Fate::Never, status, misfit.to_string(), None));
        }
    }

    fn unsendable(&mut self, places: &[usize], why: &str) {
        for place in places {
            let text = format!("it cannot be sent: {why}");
            self.told[*place] =
                Some(Told { fate: Fate::Never, status: Status::new(5, 6, 0), text, ..nothing() });
        }
    }

    /// Whoever has taken the store over sends it.
    fn not_ours(&mut self, places: &[usize]) {
        for place in places {
            let text = "the store was taken over meanwhile".to_owned();
            self.told[*place] = Some(Told { text, ..nothing() });
        }
    }

    fn conclude(self) -> Attempt {
        let verdict = after_the_last_host(&self.verdicts);
        let fate = if verdict.action == Action::Bounce { Fate::Never } else { Fate::Later };
        let last = self.last.unwrap_or_else(nothing);
        let rest = Told { fate, status: verdict.status, ..last };
        let told = self.told.into_iter().map(|told| told.unwrap_or_else(|| rest.clone())).collect();
        Attempt { told, reached: self.reached }
    }
}

fn sentence(fate: Fate, answered: bool) -> &'static str {
    match (fate, answered) {
        (Fate::Delivered, _) => "it was taken",
        (Fate::Never, _) => "the server refused it",
        (Fate::Unknown, _) => "the connection was lost after the end of the message",
        (Fate::Later, true) => "the server put it off",
        (Fate::Later, false) => "the connection was lost",
    }
}

fn told(target: &Target, fate: Fate, status: Status, text: String, reply: Option<&Reply>) -> Told {
    let remote = Some(target.host.clone());
    Told { fate, status, text, remote, said: reply.map(ToString::to_string), takes_dsn: false }
}

fn nothing() -> Told {
    let text = "no host could be tried".to_owned();
    let status = Status::new(4, 4, 1);
    Told { fate: Fate::Later, status, text, remote: None, said: None, takes_dsn: false }
}

fn of_failure(failure: &Failure) -> Told {
    let fate = if failure.is_permanent() { Fate::Never } else { Fate::Later };
    Told { fate, status: failure.status, text: failure.text.clone(), ..nothing() }
}

/// The same for all: no host was reached, so the destination is no better off for trying others' mail. What is sent
/// back for good costs the destination nothing.
fn all(job: &Job<'_>, told: &Told) -> Attempt {
    Attempt { told: vec![told.clone(); job.recipients.len()], reached: told.fate == Fate::Never }
}

/// Credentials are for nobody else to read.
fn encryption(access: &SmarthostAccess) -> Encryption {
    match access.tls {
        Some(Override::Verify) => Encryption::Verified,
        Some(Override::Encrypt) => Encryption::Always,
        Some(Override::May) | None if access.credentials.is_some() => Encryption::Always,
        Some(Override::May) | None => Encryption::Offered,
    }
}

fn of_literal(address: std::net::IpAddr) -> HostAnswer {
    let (v4, v6) = match address {
        std::net::IpAddr::V4(v4) => (Answer::Records(vec![v4]), Answer::NoRecord),
        std::net::IpAddr::V6(v6) => (Answer::NoRecord, Answer::Records(vec![v6])),
    };
    HostAnswer { v4: Looked::plain(v4), v6: Looked::plain(v6), canonical: None }
}

/// What a server must be able to take. The message is looked through for octets above 127.
async fn needs(job: &Job<'_>) -> std::io::Result<Needs> {
    let addresses =
        !job.sender.is_ascii() || job.recipients.iter().any(|recipient| !recipient.address.is_ascii());
    let utf8 = match (addresses, job.utf8) {
        (true, _) => Utf8::Addresses,
        (false, true) => Utf8::Headers,
        (false, false) => Utf8::Nowhere,
    };
    Ok(Needs { size: job.body.size(), eight_bit: is_eight_bit(job.body).await?, utf8, require_tls: false })
}

async fn is_eight_bit(body: &dyn Body) -> std::io::Result<bool> {
    let mut offset = 0;
    loop {
        let piece = body.piece(offset).await?;
        if piece.is_empty() || !piece.is_ascii() {
            return Ok(!piece.is_ascii());
        }
        offset += u64::try_from(piece.len()).unwrap_or(PIECE as u64);
    }
}

/// A number below `n`.
fn draw(n: usize) -> usize {
    let drawn = getrandom::u32().unwrap_or_default();
    usize::try_from(drawn).unwrap_or_default() % n.max(1)
}
