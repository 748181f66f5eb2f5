//! What is sent, how, and what became of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, io,
    path::{Path, PathBuf},
    time::Duration,
};

use mailcluster_lmtp::Body;
use mailcluster_outbound::{
    Status,
    route::{Limits, Smarthost, Ways},
    tls::policy::Override,
};
use mailcluster_proto_smtp::{MailDsn, Recipient};

/// One message for recipients of one domain.
pub struct Job<'a> {
    /// The domain, as the addresses have it.
    pub domain: &'a str,
    /// The sender; empty for the null sender.
    pub sender: &'a str,
    /// Header or addresses may have UTF-8 (SMTPUTF8 was said when the message was accepted).
    pub utf8: bool,
    /// What the sender asks for its reports.
    pub dsn: &'a MailDsn,
    /// Those who are to get it.
    pub recipients: &'a [Recipient],
    /// The message.
    pub body: &'a dyn Body,
}

/// What became of a recipient.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// The next server has it.
    Delivered,
    /// It is to be tried again.
    Later,
    /// It is to be tried again, and may arrive twice: the connection was lost after the end of the message.
    Unknown,
    /// It will never be taken.
    Never,
}

/// What is told of a recipient.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// What became of it.
    pub fate: Fate,
    /// Why.
    pub status: Status,
    /// One sentence for people, without its full stop.
    pub text: String,
    /// The host that was spoken to last.
    pub remote: Option<String>,
    /// What it said.
    pub said: Option<String>,
    /// Who has taken it also took over what the sender asks for its reports.
    pub takes_dsn: bool,
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.remote, &self.said) {
            (Some(remote), Some(said)) => write!(f, "{remote} said: {said}"),
            (Some(remote), None) => write!(f, "{} ({remote})", self.text),
            (None, _) => f.write_str(&self.text),
        }
    }
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// In the order of the recipients.
    pub told: Vec<Told>,
    /// A host of the destination led a session up to a transaction: it is up.
    pub reached: bool,
}

/// A user's name and password at a smarthost.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The name.
    pub user: String,
    /// The password.
    pub password: String,
}

impl Credentials {
    /// Reads the files `username` and `password` of this folder, as a mounted Secret has them. A line's end behind the
    /// text is none of it.
    ///
    /// # Errors
    /// When one of them cannot be read.
    pub fn read(dir: &Path) -> io::Result<Self> {
        let read = |name: &str| -> io::Result<String> {
            let path = dir.join(name);
            let text = std::fs::read_to_string(&path)
                .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))?;
            Ok(text.trim_end_matches(['\r', '\n']).to_owned())
        };
        Ok(Self { user: read("username")?, password: read("password")? })
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credentials({}, …)", self.user)
    }
}

/// How a smarthost is spoken to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SmarthostAccess {
    /// The folder with who we are there (see [`Credentials::read`]), read for each connection, so that a change counts at
    /// once. Credentials are only given over TLS.
    pub credentials: Option<PathBuf>,
    /// What is asked of the connection; nothing: TLS when it is offered, and with credentials or nothing.
    pub tls: Option<Override>,
}

/// How mail leaves.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The name in EHLO, which should be that of the address that connections come from.
    pub name: String,
    /// To the hosts that MX records name, or to smarthosts.
    pub ways: Ways,
    /// How each smarthost is spoken to; those that are not here: in clear or TLS, without a login.
    pub smarthosts: BTreeMap<SmarthostKey, SmarthostAccess>,
    /// Further names that lead to us: mail for hosts with these names would go in circles.
    pub own_names: BTreeSet<String>,
    /// The port of hosts that MX records name: 25, but for tests.
    pub port: u16,
    /// Loopback addresses lead to somebody else: for tests, and for a smarthost on this machine.
    pub loopback_is_another: bool,
    /// Policies that domains publish are kept to (MTA-STS, RFC 8461).
    pub mta_sts: bool,
    /// The port that they are fetched from: that of HTTPS, but for tests.
    pub https_port: u16,
    /// How long a connection waits for the next message to the same host; nothing: not at all.
    pub idle: Duration,
    /// Time for a connection to be there.
    pub connect: Duration,
    /// How much is tried.
    pub limits: Limits,
}

/// Host and port.
pub type SmarthostKey = (String, u16);

impl Settings {
    /// Directly to the hosts that MX records name.
    #[must_use]
    pub fn new(name: String) -> Self {
        Self {
            name,
            ways: Ways::default(),
            smarthosts: BTreeMap::new(),
            own_names: BTreeSet::new(),
            port: 25,
            loopback_is_another: false,
            mta_sts: true,
            https_port: 443,
            idle: Duration::from_secs(5),
            connect: Duration::from_secs(30),
            limits: Limits::default(),
        }
    }

    pub(crate) fn access(&self, smarthost: &Smarthost) -> SmarthostAccess {
        self.smarthosts.get(&(smarthost.host.clone(), smarthost.port)).cloned().unwrap_or_default()
    }
}
