//! From a domain to hosts, and from host to host until each recipient has its answer.

use std::{net::SocketAddr, path::Path, sync::Arc};

use futures::future::join_all;
use mailcluster_lmtp::{Body, PIECE};
use mailcluster_outbound::{
    Status,
    route::{
        Answer, Exchange, Exchanges, Failure, First, HostAnswer, Looked, Ourselves, Smarthost, Target,
        exchanges, first, targets,
    },
    tls::sts::Policy,
};
use mailcluster_proto_smtp::{Envelope, Needs, Stage, Utf8};
use tokio::{net::TcpStream, time::timeout};

use crate::{
    demand::{self, Demand, Published, RuledOut},
    dns::{Dns, literal},
    idle::{Idle, Place},
    job::{Attempt, Credentials, Fate, Job, Settings, SmarthostAccess, Told},
    ledger::{Ledger, nothing, of_failure},
    policies::Policies,
    session::{Broken, Connection, Demands, Encryption, Sent},
    tls::Tls,
};

/// Takes mail to other sites.
pub struct Relay {
    settings: Settings,
    ourselves: Ourselves,
    dns: Arc<dyn Dns>,
    tls: Tls,
    /// Those of MTA-STS, where they are kept to.
    policies: Option<Policies>,
    idle: Arc<Idle>,
}

/// Where a message goes.
struct Way {
    targets: Vec<Target>,
    port: u16,
    kind: Kind,
}

/// Whose hosts they are.
enum Kind {
    /// The administrator named it.
    Smarthost(SmarthostAccess),
    /// A domain's, which may demand something of a connection.
    Published(Published),
}

impl Relay {
    /// One that looks up with `dns`.
    #[must_use]
    pub fn new(settings: Settings, dns: Arc<dyn Dns>, tls: Tls) -> Self {
        let mut names = settings.own_names.clone();
        names.insert(settings.name.to_ascii_lowercase());
        let loopback_is_another = settings.loopback_is_another;
        let ourselves = Ourselves { names, loopback_is_another, ..Ourselves::default() };
        let https = settings.https_port;
        let policies = settings.mta_sts.then(|| Policies::new(https, loopback_is_another));
        let idle = Idle::new(settings.idle);
        Self { settings, ourselves, dns, tls, policies, idle }
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
                let kind = Kind::Smarthost(self.settings.access(&smarthost));
                Ok(Way { targets, port: smarthost.port, kind })
            }
            First::Address(address) => {
                let host = address.to_string();
                let target = Target { host, canonical: None, preference: 0, address, secure: false };
                Ok(self.direct(vec![target], Published::default()))
            }
            First::LookUpMx(domain) => {
                let looked = self.dns.exchanges(&domain).await;
                let found = exchanges(&domain, &looked, &self.ourselves, self.settings.limits, &mut draw)?;
                let policy = async { Ok(self.policy(&domain).await) };
                let (targets, policy) = tokio::try_join!(self.addresses(&found), policy)?;
                Ok(self.direct(targets, Published { domain, secure_mx: found.secure, policy }))
            }
        }
    }

    async fn policy(&self, domain: &str) -> Option<Policy> {
        self.policies.as_ref()?.of(domain, (&*self.dns, &self.tls)).await
    }

    fn direct(&self, targets: Vec<Target>, published: Published) -> Way {
        Way { targets, port: self.settings.port, kind: Kind::Published(published) }
    }

    async fn demand(&self, way: &Way, target: &Target) -> Result<Demand, RuledOut> {
        match &way.kind {
            Kind::Smarthost(access) => demand::of_smarthost(access, target),
            Kind::Published(published) => demand::of_host(&*self.dns, published, (target, way.port)).await,
        }
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
        let demand = match self.demand(way, target).await {
            Ok(demand) => demand,
            Err(ruled_out) => return ledger.ruled_out(target, &ruled_out),
        };
        let place = way.place(target, &demand);
        loop {
            let connection = match self.idle.take(&place) {
                Some(connection) => connection,
                None => match self.connect(way, target, &demand).await {
                    Ok(connection) => connection,
                    Err(broken) => return ledger.host_failed(target, &broken, demand.strict()),
                },
            };
            ledger.reached = true;
            match send_all(connection, target, message, ledger, leave).await {
                // That says nothing of the host.
                After::Stale => {}
                After::Ready(connection) => return self.idle.put(place, connection).await,
                After::Over => return,
            }
        }
    }

    async fn connect(&self, way: &Way, target: &Target, demand: &Demand) -> Result<Connection, Broken> {
        let first = demand.encryption();
        match self.open(way, target, first).await {
            Err(Broken::Handshake(why)) if first == Encryption::Offered => {
                tracing::info!(host = target.host, why, "TLS failed, tried in clear");
                self.open(way, target, Encryption::Never).await
            }
            opened => opened,
        }
    }

    async fn open(&self, way: &Way, target: &Target, tls: Encryption<'_>) -> Result<Connection, Broken> {
        let credentials = way.credentials().map(Credentials::read).transpose();
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

impl Way {
    fn credentials(&self) -> Option<&Path> {
        match &self.kind {
            Kind::Smarthost(access) => access.credentials.as_deref(),
            Kind::Published(_) => None,
        }
    }

    fn place(&self, target: &Target, demand: &Demand) -> Place {
        Place {
            address: SocketAddr::new(target.address, self.port),
            host: target.host.clone(),
            demand: demand.clone(),
            credentials: self.credentials().map(Path::to_owned),
        }
    }
}

/// What is left of a connection.
enum After {
    /// It may carry others.
    Ready(Connection),
    /// It was closed before this message.
    Stale,
    /// It is of no more use.
    Over,
}

/// All that wait for an answer, in as many transactions as the server wants.
async fn send_all(
    mut connection: Connection,
    target: &Target,
    (job, needs): (&Job<'_>, &Needs),
    ledger: &mut Ledger,
    leave: &(dyn Fn() -> bool + Sync),
) -> After {
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
            Sent::Misfit(misfit) => {
                ledger.misfit(target, &left, misfit);
                break;
            }
            Sent::Unsendable(why) => {
                ledger.unsendable(&left, &why);
                return After::Over;
            }
            Sent::Left => {
                ledger.not_ours(&left);
                return After::Over;
            }
            Sent::Stale => return After::Stale,
        }
    }
    After::Ready(connection)
}

/// The same for all: no host was reached, so the destination is no better off for trying others' mail. What is sent
/// back for good costs the destination nothing.
fn all(job: &Job<'_>, told: &Told) -> Attempt {
    Attempt { told: vec![told.clone(); job.recipients.len()], reached: told.fate == Fate::Never }
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
