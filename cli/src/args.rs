//! The command line.

mod bans;
mod queue;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

pub use bans::Bans;
pub use queue::{Queue, Waiting};

use crate::{failure::Failure, output::Format, units};

/// Administers a mail cluster, or a standalone node.
///
/// In Kubernetes it reaches the cluster's directory through the API server, with a token of the ServiceAccount
/// <cluster>-admin that lives ten minutes: who may create such tokens may administer the cluster. Every change is
/// written to the directory's audit log.
///
/// Passwords are never taken from the command line, only from files or standard input.
///
/// Exit codes: 0 done, 1 failed, 2 wrong usage, 3 not found, 4 cannot be reached now.
#[derive(Parser)]
#[command(name = "kubectl-mailcluster", bin_name = "kubectl mailcluster", version)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Args)]
pub struct Global {
    /// Administer the standalone node with this data directory, not a cluster.
    #[arg(long, global = true, value_name = "DIR")]
    pub standalone: Option<PathBuf>,
    /// Namespace of the MailCluster; default: the context's.
    #[arg(short, long, global = true)]
    pub namespace: Option<String>,
    /// Context of the kubeconfig.
    #[arg(long, global = true)]
    pub context: Option<String>,
    /// Kubeconfig file; default: $KUBECONFIG, else ~/.kube/config.
    #[arg(long, global = true, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// Name of the MailCluster; may be left out when the namespace has one.
    #[arg(long, global = true, value_name = "NAME")]
    pub cluster: Option<String>,
    /// How to print.
    #[arg(short, long, global = true, value_enum, default_value = "text")]
    pub output: Format,
}

impl Global {
    /// Says no to options of a cluster beside `--standalone`. Checked here: clap compares global options only when they
    /// stand on the same side of the subcommand.
    ///
    /// # Errors
    /// When there are any.
    pub fn check(&self) -> Result<(), Failure> {
        let of_clusters = [
            ("--namespace", self.namespace.is_some()),
            ("--context", self.context.is_some()),
            ("--kubeconfig", self.kubeconfig.is_some()),
            ("--cluster", self.cluster.is_some()),
        ];
        match of_clusters.iter().find(|(_, is_given)| *is_given) {
            Some((option, _)) if self.standalone.is_some() => {
                Err(Failure::Usage(format!("{option} is for clusters: it cannot be used with --standalone")))
            }
            _ => Ok(()),
        }
    }
}

#[derive(Subcommand)]
pub enum Command {
    /// Domains that are local here.
    #[command(subcommand)]
    Domain(Domain),
    /// Accounts.
    #[command(subcommand)]
    Account(Account),
    /// Addresses that stand for accounts.
    #[command(subcommand)]
    Alias(Alias),
    /// Compare what the DNS says of the host and the domains with what is configured, and print what to publish.
    ///
    /// Exit codes: 0 when nothing is missing or wrong, 1 when something is, 4 when the DNS does not say.
    Check(crate::commands::Check),
    /// Bring mail from Maildirs and mbox files into accounts: messages, folders, flags, dates, subscriptions.
    ///
    /// Run it where the mail is. It logs in over IMAP to the frontends, with a ticket for each account that the directory
    /// gives an administrator: nobody's password is needed. Accounts must exist and not be suspended. UIDs are new, so
    /// clients fetch what they keep again.
    ///
    /// What was brought stands in the folder of --state. The same command goes on where the last one ended, however that
    /// was, and later brings what has come since and the flags that have changed; no message comes twice. Nothing is
    /// deleted, and nothing of the source is changed. What could not be brought is told, a line each, with the reason.
    Import(Import),
    /// The cluster at a glance: stores, hosts, epochs, the last failover, queues.
    Status,
    /// What happened to a message: delivered, queued, handed on, moved, expunged.
    ///
    /// A message is accepted (250) when each recipient has a line here: `delivered` in a mailbox, or `queued` because its
    /// store was away or the answer goes back to the sender. Further events: `handed-on` out of a queue to the
    /// recipient's store, `duplicate` when a store was offered what it had, `moved`, `expunged`, and `held` in a queue
    /// for the outside. Each store remembers its last million lines.
    Trace(Trace),
    /// Bring back mail that a user has expunged.
    ///
    /// What users expunge (IMAP's EXPUNGE, POP3's DELE, DELETE of a mailbox) is kept for spec.stores.undeleteDays, and shorter
    /// where a volume is short of room. It comes back into the mailbox that it went from, or when that is gone into one of
    /// its name, which is made, under new UIDs and without \\Deleted. Each message comes back once, however often this is
    /// said. Quotas do not keep it.
    Undelete(Undelete),
    /// Mail that waits in the stores' queues.
    #[command(subcommand)]
    Queue(Queue),
    /// Addresses that are refused for a while, by all frontends.
    ///
    /// An address is banned for failed logins, unknown recipients or garbage, for a quarter of an hour at first. Bans are
    /// kept in memory: a directory that starts anew takes them over from the frontends. Networks that shall be refused for
    /// ever, or never, belong into the MailCluster: spec.screening.
    #[command(subcommand)]
    Bans(Bans),
    /// The directory's records as a whole.
    #[command(subcommand)]
    Directory(Directory),
    /// Move a store to a sibling node, in order: its sessions are ended, then the other node serves it.
    ///
    /// With --force, a copy of a store with mirrors takes it that lacks something, because all copies that have everything
    /// are gone for good. What that costs is said first, and has to be confirmed. What other copies have beyond it is kept
    /// on their volumes, should they come back, and is not served.
    Failover(Failover),
    /// Hand stores with mirrors over, one after another, until the nodes serve about as many each: after a node came back.
    Rebalance {
        /// Only say what would be handed over.
        #[arg(long)]
        dry_run: bool,
    },
    /// What a person knows of a node.
    #[command(subcommand)]
    Fence(Fence),
    /// A store's bookkeeping.
    #[command(subcommand)]
    Store(Store),
    /// Who changed what, newest first.
    Audit {
        /// Entries at most.
        #[arg(long, default_value_t = 50)]
        limit: u32,
    },
}

#[derive(Args)]
pub struct Import {
    /// The account's address.
    #[arg(required_unless_present = "list", requires = "source")]
    pub account: Option<String>,
    /// A Maildir (folders as Maildir++ has them: .Name.Child) or an mbox file.
    pub source: Option<PathBuf>,
    /// Many accounts: a file with a line for each source, an address, a blank, and the path; or divided by TAB, and a
    /// mailbox as third. Lines that begin with # are passed over.
    #[arg(long, value_name = "FILE", conflicts_with = "account")]
    pub list: Option<PathBuf>,
    /// The mailbox that the source becomes; of a Maildir, the folders lie below it.
    #[arg(long, value_name = "NAME", default_value = "INBOX")]
    pub mailbox: String,
    /// The frontends' IMAP over TLS, like mail.example.org:993.
    #[arg(long, value_name = "HOST:PORT")]
    pub server: String,
    /// The name that the server's certificate must have; default: the host of --server.
    #[arg(long, value_name = "NAME")]
    pub tls_name: Option<String>,
    /// PEM certificates that are trusted to have issued the server's; default: the system's.
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// Where it is kept what was brought, a file for each account. Keep it until the last run.
    #[arg(long, value_name = "FOLDER", default_value = "mailcluster-import")]
    pub state: PathBuf,
    /// Accounts at the same time.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u8).range(1..=64))]
    pub jobs: u8,
}

#[derive(Subcommand)]
pub enum Domain {
    /// Make a domain local.
    Add {
        /// For example example.org.
        name: String,
    },
    /// All domains.
    List,
    /// One domain, with the number of its accounts and aliases.
    Show {
        /// The domain.
        name: String,
    },
    /// Keys that sign its mail (DKIM).
    #[command(subcommand)]
    Dkim(crate::commands::Dkim),
    /// Delete a domain.
    Delete {
        /// The domain.
        name: String,
        /// Delete its accounts, their mail and its aliases too.
        #[arg(long)]
        force: bool,
    },
}

/// Where a password comes from.
#[derive(Args)]
#[group(required = true, multiple = false)]
pub struct Secret {
    /// Read the password from the first line of FILE; - is standard input.
    #[arg(long, value_name = "FILE")]
    pub password_file: Option<PathBuf>,
    /// Read a password hash from the first line of FILE; - is standard input.
    #[arg(long, value_name = "FILE")]
    pub hash_file: Option<PathBuf>,
    /// No password: nobody can log in with one.
    #[arg(long)]
    pub no_password: bool,
}

#[derive(Subcommand)]
pub enum Account {
    /// Make an account, and wait until its store has it.
    Add {
        /// Its address; the domain must be there.
        address: String,
        #[command(flatten)]
        secret: Secret,
        /// The store to put it on; default: the one with the fewest accounts that has room.
        #[arg(long)]
        store: Option<String>,
        /// Limit of its mail, like 10G; default: none.
        #[arg(long, value_parser = units::parse_size, default_value = "none")]
        quota: u64,
        /// Seconds to wait for its store (at most 60); it becomes usable by itself later.
        #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(0..=60))]
        wait: u32,
    },
    /// Accounts of a domain, or all.
    List {
        /// The domain.
        #[arg(long)]
        domain: Option<String>,
        /// Accounts at most; 0: all.
        #[arg(long, default_value_t = 0)]
        limit: u64,
    },
    /// One account and its aliases.
    Show {
        /// Its address.
        address: String,
    },
    /// Delete an account and its mail.
    Delete {
        /// Its address.
        address: String,
    },
    /// Set an account's password.
    Passwd {
        /// Its address.
        address: String,
        #[command(flatten)]
        secret: Secret,
    },
    /// Stop logins; mail is still taken.
    Suspend {
        /// Its address.
        address: String,
    },
    /// Let an account log in again.
    Resume {
        /// Its address.
        address: String,
    },
    /// Set the limit of an account's mail.
    Quota {
        /// Its address.
        address: String,
        /// Like 10G, or none.
        #[arg(value_parser = units::parse_size)]
        size: u64,
    },
    /// Make many accounts from a CSV file.
    ///
    /// Columns: address, password (in clear, or a hash: $argon2id$, {ARGON2ID}, {BLF-CRYPT}, {SHA512-CRYPT},
    /// {SHA256-CRYPT}, {SSHA} or {PBKDF2}; empty: none), quota_octets, store. A first line that starts with a column's
    /// name says their order. Addresses that exist are left alone, so a second run goes on where the first one ended.
    /// Hashes of another make are replaced at the first login.
    Import {
        /// The file; - is standard input.
        file: PathBuf,
    },
    /// Write all accounts as CSV, password hashes included, in the columns that import reads.
    Export,
}

#[derive(Subcommand)]
pub enum Alias {
    /// Make an alias for one or more accounts.
    Add {
        /// The alias.
        address: String,
        /// Accounts, or aliases: those are resolved now.
        #[arg(required = true)]
        targets: Vec<String>,
        /// Give an alias that exists these accounts.
        #[arg(long)]
        replace: bool,
    },
    /// Aliases of a domain, or all.
    List {
        /// The domain.
        #[arg(long)]
        domain: Option<String>,
    },
    /// One alias.
    Show {
        /// The alias.
        address: String,
    },
    /// Delete an alias.
    Delete {
        /// The alias.
        address: String,
    },
}

#[derive(Args)]
pub struct Undelete {
    /// The account's address.
    pub account: String,
    /// Only what went from the mailbox of this name; of one that is gone, its last name.
    #[arg(long, value_name = "NAME")]
    pub mailbox: Option<String>,
    /// Only what went at this time or later: like 2026-11-23T05:00:00Z, 2026-11-23 (UTC), or 90m, 36h, 3d ago.
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
    /// Only list what would come back.
    #[arg(long)]
    pub dry_run: bool,
    /// The mailbox that all of it comes into; made when there is none.
    #[arg(long, value_name = "MAILBOX")]
    pub into: Option<String>,
}

#[derive(Args)]
#[group(required = true, multiple = false)]
pub struct TraceKey {
    /// The delivery id, as it stands in the 250 reply, in Received and in the logs.
    pub id: Option<String>,
    /// All mail to this recipient.
    #[arg(long, value_name = "ADDRESS")]
    pub rcpt: Option<String>,
}

#[derive(Args)]
pub struct Trace {
    #[command(flatten)]
    pub key: TraceKey,
    /// Events of each store at most.
    #[arg(long, default_value_t = 100)]
    pub limit: u32,
}

#[derive(Subcommand)]
pub enum Directory {
    /// Take every store's records and keep the newest of each: for an empty or older directory.
    Rebuild {
        /// Go on when a store cannot be asked; its accounts are then missing.
        #[arg(long)]
        partial: bool,
    },
    /// Write every record as a line of JSON, password hashes included.
    Export,
    /// Read what export wrote; each record that is newer than what is here is taken.
    Import {
        /// The file; - is standard input.
        file: PathBuf,
    },
}

#[derive(Args)]
pub struct Failover {
    /// The store, like demo-0 or demo-directory.
    pub store: String,
    /// The node to move it to; with --force also a copy, by its letter or id. Default: the one that suits best.
    #[arg(long, value_name = "NODE")]
    pub to: Option<String>,
    /// Let a copy take it that lacks something: the others are gone for good. Refused while one that has everything answers,
    /// and without proof that the old holder's process has ended.
    #[arg(long)]
    pub force: bool,
    /// Go on without that proof, or with a copy that is not the best: what is lost by it is accepted.
    #[arg(long, requires = "force")]
    pub accept_loss: bool,
    /// Don't ask.
    #[arg(long, requires = "force")]
    pub yes: bool,
    /// Seconds to wait until it is served again; 0: don't.
    #[arg(long, default_value_t = 120)]
    pub wait: u32,
}

#[derive(Subcommand)]
pub enum Fence {
    /// State that a node is off: the stores it served may then be moved.
    ///
    /// Only for a node that you have seen without power, or whose disk is no longer attached to it. The statement holds
    /// for the node's present boot alone: when it comes back, it is void.
    Confirm {
        /// The node.
        node: String,
        /// Don't ask.
        #[arg(long)]
        yes: bool,
    },
}

#[derive(Args)]
pub struct Adopt {
    /// The store's PersistentVolume.
    #[arg(long, value_name = "PV")]
    pub pv: String,
    /// The node that has the disk now.
    #[arg(long, value_name = "NODE")]
    pub to: String,
    /// State that the process which served the store last has ended, and that its old machine does not have the disk any
    /// more, or is this one under another name. If that is wrong, mail will be destroyed.
    #[arg(long)]
    pub accept_that_the_old_process_has_ended: bool,
    /// Seconds to wait until it is served there; 0: don't.
    #[arg(long, default_value_t = 300)]
    pub wait: u32,
}

#[derive(Subcommand)]
pub enum Store {
    /// Serve a store from another machine into which its disk was moved, or whose node has another name now.
    ///
    /// The disk must be mounted there at the path that the PersistentVolume names. Nothing is changed before it is proven
    /// that no process writes to it by its old way: as for any failover, by the old node's new boot, by the fence Job, by
    /// `fence confirm`, or by what you accept here. The PersistentVolume is then made anew, for that node and bound to the
    /// same claim; the chart's value clusterAccess.adoptVolumes gives the right to that.
    Adopt(Adopt),
    /// Give the place of one of a store's copies to a new one, on a volume of its own: after its disk died, or to have it
    /// elsewhere.
    ///
    /// The new copy is fed by the one that serves, and counts as soon as it has everything. The claim and the volume of the
    /// old one are kept, with the label mailcluster.io/retired=true: delete them when you need nothing of them.
    ReplaceReplica {
        /// The store.
        store: String,
        /// The copy: a, b or c (its pod is STORE-COPY-0).
        copy: char,
        /// Don't ask.
        #[arg(long)]
        yes: bool,
        /// Seconds to wait until the new copy has everything; 0: don't.
        #[arg(long, default_value_t = 0)]
        wait: u32,
    },
    /// Bring back what a forced failover left behind, from a file that `mailcluster-node store salvage` wrote on the copy that
    /// kept it.
    ///
    /// Messages that the store does not have come with new UIDs; flags, moves and expunges are taken over where the message
    /// was not touched since; nothing that was changed since is undone, and each such thing is listed. It can be said again at
    /// any time, also after it broke off: nothing is done twice.
    Salvage {
        /// The store.
        store: String,
        /// The file; - is standard input.
        file: PathBuf,
    },
    /// Make a store's Lease anew from what its volumes say: after it was lost or restored from a backup, or when a volume was.
    ///
    /// It is done when nobody renews the Lease and every copy answers, but for those that you leave out. Where the volumes are
    /// older than the Lease (`StaleCopy`) what was accepted since the backup is lost, and so is what only a copy has that is not
    /// there: say it only when nothing newer is left. UIDs that clients may have seen do not come again; a copy that comes
    /// back all the same keeps what only it has.
    RestoreLease {
        /// The store.
        store: String,
        /// A copy that is gone for good, by its letter (a, b or c) or its id, and is not waited for. Its process must not run
        /// any more. Say it for each.
        #[arg(long, value_name = "COPY")]
        without: Vec<String>,
        /// Seconds to wait until the store is served; 0: don't.
        #[arg(long, default_value_t = 0)]
        wait: u32,
    },
}
