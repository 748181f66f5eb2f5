//! The lab of a demo: whose it is, and what can be done in it afterwards.

use anyhow::{Result, bail};
use mailcluster_e2e::{NAMESPACE, PASSWORD, Placed, Site};
use mailcluster_lab::{Lab, Owner};

use super::letters::Sent;

/// What is done with a lab that is up, or that one has left behind.
#[derive(Debug, PartialEq, Eq)]
enum Found {
    /// There is none, or nothing that runs: bringing one up clears it.
    Nothing,
    /// A demo's.
    Ours,
    /// Somebody's.
    Foreign(Owner),
}

/// `runs`: it has come up and has not gone down.
fn judge(owner: Option<Owner>, runs: bool) -> Found {
    match owner {
        Some(Owner::Demo) => Found::Ours,
        Some(owner) if runs => Found::Foreign(owner),
        _ => Found::Nothing,
    }
}

fn look() -> Result<Found> {
    Ok(judge(Lab::owner()?, Lab::attach().is_ok()))
}

/// Makes room for a demo: an earlier demo's lab is taken down, somebody else's is not touched.
pub fn make_room() -> Result<()> {
    match look()? {
        Found::Nothing => Ok(()),
        Found::Ours => {
            println!("taking down the lab of an earlier demo");
            Lab::down()
        }
        Found::Foreign(owner) => bail!("{}", owner.described()),
    }
}

/// Takes down what a demo has left up, and nothing else.
pub fn take_down() -> Result<()> {
    match look()? {
        Found::Nothing => {
            println!("no demo's lab is up");
            Ok(())
        }
        Found::Ours => Lab::down(),
        Found::Foreign(owner) => bail!("this is no demo's: {}", owner.described()),
    }
}

/// What to type next.
pub fn hints(site: &Site, accounts: &[Placed], handed_off: Option<&Sent>) -> Result<String> {
    let cli = site.binaries.join("kubectl-mailcluster");
    site.lab()?.offer(&cli)?;
    let address = site.address()?;
    let user = accounts.first().map_or("user0@example.test", |account| account.address.as_str());
    let trace = handed_off.map_or_else(|| format!("--rcpt {user}"), |sent| sent.id.clone());
    Ok(format!(
        "
the cluster is up; to play on:
  eval \"$(cargo xtask lab env)\"
  kubectl -n {NAMESPACE} get mailclusters,mailstores -o wide
  kubectl mailcluster -n {NAMESPACE} status
  kubectl mailcluster -n {NAMESPACE} trace {trace}
  kubectl mailcluster -n {NAMESPACE} failover STORE
mail: {address}, ports 25 465 587 143 993 110 995; account {user}, password '{PASSWORD}'; for example
  swaks --server {address}:25 --from me@elsewhere.test --to {user}
  curl --insecure --user '{user}:{PASSWORD}' 'imaps://{address}/INBOX;MAILINDEX=1'
faults:
  cargo xtask lab power-on NODE; cargo xtask lab partition NODE; cargo xtask lab kill-pod -n {NAMESPACE} POD
the end:
  cargo xtask demo --down"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_demos_lab_is_taken_down() {
        for (owner, runs, expected) in [
            (None, false, Found::Nothing),
            (Some(Owner::Demo), true, Found::Ours),
            // Killed half way: there is something to be removed.
            (Some(Owner::Demo), false, Found::Ours),
            (Some(Owner::Person), true, Found::Foreign(Owner::Person)),
            (Some(Owner::Tests), true, Found::Foreign(Owner::Tests)),
            (Some(Owner::Tests), false, Found::Nothing),
        ] {
            assert_eq!(judge(owner, runs), expected, "{owner:?} {runs}");
        }
    }
}
