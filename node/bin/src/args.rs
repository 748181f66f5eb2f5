//! The command line.

use std::{net::SocketAddr, path::PathBuf};

use clap::{Args as ClapArgs, Parser, Subcommand};
use mailcluster_api::mailcluster::Screening;

use crate::listen_spec::ListenSpec;

/// A node of a mail cluster.
#[derive(Debug, Parser)]
#[command(name = "mailcluster-node", version, about, long_about = None)]
pub struct Args {
    /// How to log.
    #[command(flatten)]
    pub log: LogArgs,
    /// What to run.
    #[command(subcommand)]
    pub command: Command,
}

/// How to log; times are UTC.
#[derive(Debug, Clone, ClapArgs)]
pub struct LogArgs {
    /// Format of log lines on standard error.
    #[arg(long, global = true, env = "MAILCLUSTER_LOG_FORMAT", default_value = "text", value_parser = ["text", "json"])]
    pub log_format: String,
    /// What to log: a level (error, warn, info, debug, trace) or directives such as `info,mailcluster_store=debug`.
    #[arg(long, global = true, env = "MAILCLUSTER_LOG", default_value = "info")]
    pub log_level: String,
}

/// The roles and tools.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// All roles in one process, on loopback, without Kubernetes: for trying out, for tests, for one machine.
    Standalone(Box<StandaloneArgs>),
    /// Faces the internet: SMTP, submission, IMAP and POP3 with TLS. Runs in a pod that the operator makes.
    Frontend(FrontendArgs),
    /// Serves one store. Runs in a pod that the operator makes.
    Backend(StorePodArgs),
    /// Serves the directory. Runs in a pod that the operator makes.
    Directory(StorePodArgs),
    /// Reads a stopped store: no server may have it open.
    #[command(subcommand)]
    Store(StoreTool),
    /// Prints the reference of metrics (docs/reference/metrics.md).
    #[command(hide = true)]
    MetricsReference,
}

/// Options of `standalone`.
#[derive(Debug, ClapArgs)]
pub struct StandaloneArgs {
    /// Where everything is kept. Made if missing; a local file system (not NFS, SMB, 9p, tmpfs, overlay).
    #[arg(long, value_name = "DIR")]
    pub data: PathBuf,
    /// The node's FQDN: greeting, EHLO, Received, Message-ID.
    #[arg(long, value_name = "NAME", default_value = "localhost.localdomain")]
    pub hostname: String,
    /// Listen here; PROTO is one of smtp, submission, submissions, imap, imaps, pop3, pop3s, sieve, lmtp, http. May be
    /// given several times. Default: all of them on 127.0.0.1, ports 2525, 2587, 2465, 2143, 2993, 2110, 2995,
    /// 2424 and 2080. Port 0 picks a free port; the line that tells that it serves names it.
    #[arg(long = "listen", value_name = "PROTO=ADDR:PORT")]
    pub listen: Vec<ListenSpec>,
    /// PEM certificate chain for TLS. Default: a self-signed one, made once in the data directory.
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,
    /// PEM private key for TLS.
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
    /// Who gets mail for postmaster at any local domain that has no such account or alias.
    #[arg(long, value_name = "ADDRESS")]
    pub postmaster: Option<String>,
    /// Days for which mail that users expunge can be brought back (`kubectl mailcluster --standalone DIR undelete`); 0: it is
    /// gone at once.
    #[arg(long, value_name = "DAYS", default_value_t = 7, value_parser = clap::value_parser!(u32).range(0..=3650))]
    pub undelete_days: u32,
    /// Mail to other sites.
    #[command(flatten)]
    pub way_out: WayOutArgs,
    /// Checks of mail from other sites.
    #[command(flatten)]
    pub way_in: WayInArgs,
    /// A name server to ask, for --outbound, for checks and for records of keys. May be given several times. Default: those
    /// of /etc/resolv.conf.
    #[arg(long = "name-server", value_name = "ADDR:PORT")]
    pub name_servers: Vec<SocketAddr>,
    /// Who is refused.
    #[command(flatten)]
    pub screening: ScreeningArgs,
}

/// Checks of mail from other sites (port smtp). Without any of them mail is taken as it is, and no name server is asked.
#[derive(Debug, Clone, Default, ClapArgs)]
pub struct WayInArgs {
    /// SPF: `mark` writes the result into the message, `enforce` refuses what fails.
    #[arg(long, value_name = "HOW", value_parser = ["off", "mark", "enforce"], default_value = "off")]
    pub spf: String,
    /// DKIM signatures and ARC chains: `mark` writes the results into the message.
    #[arg(long, value_name = "HOW", value_parser = ["off", "mark"], default_value = "off")]
    pub dkim: String,
    /// DMARC, which needs --spf and --dkim: `mark` writes the result into the message, `enforce` does as the author's domain
    /// asks with what fails.
    #[arg(long, value_name = "HOW", value_parser = ["off", "mark", "enforce"], default_value = "off")]
    pub dmarc: String,
    /// A DNS list of clients; ACTION is `mark`, `junk` or `reject`. May be given several times.
    #[arg(long = "dnsbl", value_name = "ZONE=ACTION")]
    pub dnsbls: Vec<String>,
    /// A network whose mail is marked, but never refused or put into Junk. May be given several times.
    #[arg(long = "allow", value_name = "CIDR")]
    pub allowed: Vec<String>,
}

/// Who is refused.
#[derive(Debug, Clone, Default, ClapArgs)]
pub struct ScreeningArgs {
    /// Nobody is refused, whatever he tries.
    #[arg(long)]
    pub screening_off: bool,
    /// A network that is never refused. May be given several times. Default: 127.0.0.0/8 and ::1.
    #[arg(long, value_name = "CIDR")]
    pub screening_allow: Vec<String>,
    /// A network that is always refused, but for what is allowed. May be given several times.
    #[arg(long, value_name = "CIDR")]
    pub screening_block: Vec<String>,
    /// Seconds of the first ban of an address; each further one is twice as long.
    #[arg(long, value_name = "SECONDS", default_value_t = 900, value_parser = clap::value_parser!(u32).range(1..=604_800))]
    pub screening_first_ban: u32,
    /// Networks whose connections begin with a PROXY header; from all others it is refused.
    #[arg(long, value_name = "CIDR")]
    pub trusted_proxy: Vec<String>,
}

impl ScreeningArgs {
    /// As a MailCluster has it.
    pub fn asked(&self) -> Screening {
        let loopback = || vec!["127.0.0.0/8".to_owned(), "::1".to_owned()];
        Screening {
            enabled: !self.screening_off,
            allow_cidrs: Some(self.screening_allow.clone())
                .filter(|all| !all.is_empty())
                .unwrap_or_else(loopback),
            block_cidrs: self.screening_block.clone(),
            first_ban_seconds: self.screening_first_ban,
            ..Screening::default()
        }
    }
}

/// Mail to other sites.
#[derive(Debug, Clone, Default, ClapArgs)]
pub struct WayOutArgs {
    /// Users may send mail to other sites: WAY is `direct`, for the hosts that MX records name, or HOST[:PORT] of a
    /// smarthost that takes all of it (port 25 when there is none). Left out: such mail is refused.
    #[arg(long, value_name = "WAY")]
    pub outbound: Option<String>,
    /// Messages that each account may send to other sites in any hour. Default: no limit.
    #[arg(long, value_name = "N", requires = "outbound", value_parser = clap::value_parser!(u32).range(1..))]
    pub messages_per_hour: Option<u32>,
    /// Recipients that each account may send to at other sites in any hour. Default: no limit.
    #[arg(long, value_name = "N", requires = "outbound", value_parser = clap::value_parser!(u32).range(1..))]
    pub recipients_per_hour: Option<u32>,
    /// The same in any day. Default: no limit.
    #[arg(long, value_name = "N", requires = "outbound", value_parser = clap::value_parser!(u32).range(1..))]
    pub recipients_per_day: Option<u32>,
    /// Verify signatures in the DNS, and keep to what TLSA records demand (DANE). The name servers must pass signatures on.
    #[arg(long, requires = "outbound")]
    pub dane: bool,
    /// The DNS's keys that are trusted: DNSKEY records, as in a zone file. Default: the root's.
    #[arg(long, value_name = "FILE", requires = "dane")]
    pub dns_trust_anchor: Option<PathBuf>,
    /// Do not keep to the policies that domains publish (MTA-STS).
    #[arg(long, requires = "outbound")]
    pub no_mta_sts: bool,
    /// The port that such policies are fetched from: for tests.
    #[arg(long, hide = true, requires = "outbound")]
    pub mta_sts_port: Option<u16>,
    /// The port of hosts that MX records name, which may then be on this machine: for tests.
    #[arg(long, hide = true, requires = "outbound")]
    pub outbound_port: Option<u16>,
    /// Seconds after the first attempt that failed, instead of five minutes: for tests.
    #[arg(long, hide = true, requires = "outbound")]
    pub outbound_pause: Option<u32>,
}

/// Options of `frontend`.
#[derive(Debug, ClapArgs)]
pub struct FrontendArgs {
    /// The configuration that the operator renders.
    #[arg(long, value_name = "FILE", default_value = "/etc/mailcluster/node.yaml")]
    pub config: PathBuf,
}

/// Options of `backend` and `directory`.
#[derive(Debug, ClapArgs)]
pub struct StorePodArgs {
    /// The configuration that the operator renders.
    #[arg(long, value_name = "FILE", default_value = "/etc/mailcluster/node.yaml")]
    pub config: PathBuf,
    /// The replica that the volume must hold: 32 hexadecimal digits.
    #[arg(long, value_name = "ID")]
    pub replica: String,
}

/// Tools for a stopped store.
#[derive(Debug, Subcommand)]
pub enum StoreTool {
    /// Lists accounts; with ACCOUNT its mailboxes; with MAILBOX its messages.
    Ls {
        /// The store's directory (of a standalone node: DIR/store).
        dir: PathBuf,
        /// An account's address.
        account: Option<String>,
        /// A mailbox's name.
        mailbox: Option<String>,
    },
    /// Writes one message to standard output.
    Cat {
        /// The store's directory.
        dir: PathBuf,
        /// The account's address.
        account: String,
        /// The mailbox's name.
        mailbox: String,
        /// The message's UID.
        uid: u32,
    },
    /// Checks everything: superblock, log, index, and every message's text. Nothing is changed. Ends with 1 when something
    /// is wrong.
    Fsck {
        /// The store's directory.
        dir: PathBuf,
        /// Also makes an index from the log in this folder, which must be empty or not there, and compares it with the
        /// store's. It takes as much room as the index, and is left there.
        #[arg(long, value_name = "FOLDER")]
        compare_in: Option<PathBuf>,
    },
    /// Writes what only this copy has after a forced failover went on without it, for `kubectl mailcluster store salvage`:
    /// mail, flags, moves and all else behind the record at which the two lines part. Nothing of the copy is changed.
    Salvage {
        /// The store's directory.
        dir: PathBuf,
        /// The last record that both lines have, as the store's condition Forced says: EPOCH/RECORD.
        #[arg(long, value_name = "EPOCH/RECORD", value_parser = record)]
        after: (u64, u64),
        /// The file to write; - is standard output.
        out: PathBuf,
    },
    /// Writes every account's mail as Maildir++ into OUT/<address>.
    Export {
        /// The store's directory.
        dir: PathBuf,
        /// Where to write; must not exist or be empty.
        out: PathBuf,
        /// Also what was expunged and can be brought back, as OUT/<address>/expunged.
        #[arg(long)]
        expunged: bool,
    },
}

/// A record by its epoch and number.
fn record(text: &str) -> Result<(u64, u64), String> {
    let parsed = text.split_once('/').and_then(|(epoch, seq)| Some((epoch.parse().ok()?, seq.parse().ok()?)));
    parsed.ok_or_else(|| "a record is named like 3/1234".to_owned())
}
