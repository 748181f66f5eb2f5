//! The cluster that the scenarios share, and what most of them do with it.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use mailcluster_e2e::{Kubernetes, OwnCluster, Placed, Plan, PullPolicy, SYSTEM, Site, reads, wait_for};
use mailcluster_test_clients::Ledger;

/// Longer than anything here may take; a deadline, not an expectation.
pub const LIMIT: Duration = Duration::from_secs(240);

/// The tag of the last release's images on the lab.
const RELEASED: &str = "released";

/// A MailCluster that serves, with accounts on every store.
pub struct Stage {
    pub site: Site,
    pub accounts: Vec<Placed>,
    pub addresses: Vec<String>,
    /// IMAP over TLS at the Service: known when the API is not there to be asked.
    imap: SocketAddr,
}

/// Says what goes on, below the scenario's name.
pub fn say(what: &str) {
    println!("    {what}");
}

/// The short form of a time in ordinary runs, the stated one in long runs.
pub fn length(short: u64, stated: u64) -> Duration {
    let long = std::env::var("MAILCLUSTER_LONG").is_ok_and(|value| !value.is_empty());
    Duration::from_secs(if long { stated } else { short })
}

/// What is installed: the working tree, with the images that the lab has loaded, or those of an own cluster's registry.
pub fn plan(binaries: &Path) -> Result<Plan<'_>> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).context("no workspace")?;
    let (registry, pull) = match OwnCluster::from_environment() {
        Some(own) => (own.registry, PullPolicy::IfNotPresent),
        None => ("localhost".to_owned(), PullPolicy::Never),
    };
    Ok(Plan { workspace, binaries, registry, tag: env!("CARGO_PKG_VERSION"), pull })
}

/// What a cluster begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum From {
    /// The working tree.
    Today,
    /// The last release, where there is one to be had: on the lab.
    LastRelease,
}

impl Stage {
    /// Installs the chart and the quickstart; goes on with those that an earlier run left there when
    /// `MAILCLUSTER_E2E_ATTACH` says so.
    pub fn set(from: From) -> Result<Self> {
        let binaries = PathBuf::from(std::env::var("MAILCLUSTER_BIN").context("MAILCLUSTER_BIN")?);
        let released = std::env::var("MAILCLUSTER_RELEASED").map(PathBuf::from);
        let plan = match &released {
            Ok(source) if from == From::LastRelease => {
                Plan { workspace: source, tag: RELEASED, ..plan(&binaries)? }
            }
            _ => plan(&binaries)?,
        };
        if std::env::var_os("MAILCLUSTER_E2E_ATTACH").is_some() {
            let site = Site::new(Kubernetes::of_test()?, "demo", plan.binaries.to_owned());
            site.wait_ready(LIMIT)?;
            let accounts = site.known_accounts()?;
            let stage = Self::of(site, accounts)?;
            stage.site.empty_mailboxes(&stage.addresses)?;
            return Ok(stage);
        }
        let (site, first) = plan.install(Kubernetes::of_test()?, "demo")?;
        let manifest = std::fs::read_to_string(plan.workspace.join("docs/examples/quickstart.yaml"))?;
        if let Kubernetes::Own(own) = &site.kubernetes {
            own.apply(&manifest)?;
        } else {
            let others = site.other_nodes(&first)?;
            site.volumes(&first, &others[0], &others[1])?;
            site.bmc_secret()?;
            site.apply_on(&first, &manifest)?;
        }
        site.wait_ready(LIMIT)?;
        wait_for("the Service has an address", LIMIT, || site.address().map(Some))?;
        let accounts = site.make_accounts(&say)?;
        Self::of(site, accounts)
    }

    /// This cluster with these accounts.
    pub fn of(site: Site, accounts: Vec<Placed>) -> Result<Self> {
        let imap = site.port(993)?;
        let addresses = accounts.iter().map(|account| account.address.clone()).collect();
        Ok(Self { site, accounts, addresses, imap })
    }

    /// Sends for as long as `during` takes, and a little longer.
    pub fn sending(&self, name: &str, during: impl FnOnce() -> Result<()>) -> Result<Ledger> {
        // No other run's tokens.
        let load = self.site.load(&format!("{name}-{}", std::process::id()), &self.addresses)?;
        wait_for("mail flows", LIMIT, || Ok((load.accepted() >= 20).then_some(())))?;
        let outcome = during();
        let before = load.accepted();
        let after = wait_for("mail flows on", LIMIT, || Ok((load.accepted() >= before + 20).then_some(())));
        say(&format!("longest time without an accepted message: {:.1} s", load.longest_gap().as_secs_f64()));
        let ledger = load.finish();
        outcome.and(after)?;
        Ok(ledger)
    }

    /// Waits until all is well again and nothing is queued.
    pub fn settle(&self) -> Result<()> {
        self.site.wait_ready(LIMIT)?;
        self.site.drain_queues(&say)
    }

    /// Waits until a store serves at a higher epoch than `before`, and its users can read; answers it.
    pub fn serves_again(&self, store: &str, before: u64) -> Result<mailcluster_e2e::StoreView> {
        let user = self.user_of(store)?;
        wait_for(&format!("{store} serves again"), LIMIT, || {
            let view = self.site.store(store)?;
            if view.epoch <= before || view.phase != "Serving" {
                bail!("{view:?}");
            }
            Ok(reads(self.imap, &user).then_some(view))
        })
    }

    /// An account on this store.
    pub fn user_of(&self, store: &str) -> Result<String> {
        let user = self.accounts.iter().find(|account| account.store == store);
        Ok(user.with_context(|| format!("no account on {store}"))?.address.clone())
    }

    /// Can this user read now? Needs no API.
    pub fn reads(&self, address: &str) -> bool {
        reads(self.imap, address)
    }

    /// Fails when somebody cannot read for `time`, tried each second.
    pub fn all_can_read_for(&self, time: Duration) -> Result<()> {
        let until = std::time::Instant::now() + time;
        while std::time::Instant::now() < until {
            for address in &self.addresses {
                ensure!(reads(self.imap, address), "{address} cannot read");
            }
            std::thread::sleep(Duration::from_secs(1));
        }
        Ok(())
    }

    /// A mail store that is not the first account's.
    pub fn other_store(&self) -> Result<String> {
        let first = &self.accounts.first().context("no accounts")?.store;
        let other = self.accounts.iter().find(|account| account.store != *first);
        Ok(other.context("only one store has accounts")?.store.clone())
    }

    /// The epochs of all stores.
    pub fn epochs(&self) -> Result<Vec<(String, u64)>> {
        Ok(self.site.stores()?.into_iter().map(|store| (store.name, store.epoch)).collect())
    }

    /// A process that was frozen goes on, unless somebody has ended it.
    pub fn thaw(&self, pod: &str) -> Result<()> {
        if let Err(error) = self.site.lab()?.resume_pod(&self.site.namespace, pod) {
            say(&format!("the frozen process is gone: {error}"));
        }
        Ok(())
    }

    /// Scales the operator.
    pub fn scale_operator(&self, count: u32) -> Result<()> {
        let replicas = format!("--replicas={count}");
        self.site.kubernetes.kubectl(&[
            "-n",
            SYSTEM,
            "scale",
            "deployment",
            "mailcluster-operator",
            &replicas,
        ])?;
        Ok(())
    }

    /// `kubectl -n mail …`.
    pub fn kubectl(&self, args: &[&str]) -> Result<String> {
        let mut words = vec!["-n", self.site.namespace.as_str()];
        words.extend(args);
        self.site.kubernetes.kubectl(&words)
    }
}

/// The pod of a store's only replica.
pub fn pod_of(store: &str) -> String {
    format!("{store}-a-0")
}
