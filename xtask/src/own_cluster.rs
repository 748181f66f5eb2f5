//! The options `--context NAME …`: a cluster of the user's own instead of the lab. Nothing is done to it before its
//! server was shown and its user agreed; which one it is never comes from the environment.

use std::{
    io::{BufRead, Write},
    path::PathBuf,
};

use anyhow::{Context, Result, bail};
use mailcluster_e2e::{NAMESPACE, OwnCluster, SYSTEM};

/// Which cluster.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Choice {
    /// A cluster of your own instead of the lab: the kubeconfig's context of this name
    #[arg(long, value_name = "NAME")]
    context: Option<String>,
    /// The kubeconfig that has the context, instead of ~/.kube/config
    #[arg(long, value_name = "FILE", requires = "context")]
    kubeconfig: Option<PathBuf>,
    /// Where its nodes pull the images from; `cargo xtask images push REGISTRY` brings them there
    #[arg(long, requires = "context")]
    registry: Option<String>,
    /// The StorageClass of the volumes, instead of the cluster's default
    #[arg(long, value_name = "NAME", requires = "context")]
    storage_class: Option<String>,
    /// Don't ask before something is made or removed there
    #[arg(long, requires = "context")]
    yes: bool,
}

/// What is about to be done there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Intent {
    /// Install the chart and a MailCluster.
    Make,
    /// Remove both, with the mail.
    Remove,
}

impl Choice {
    /// The cluster that is named, once its user has agreed; `None` when the lab is meant.
    pub fn agreed(&self, intent: Intent) -> Result<Option<OwnCluster>> {
        let Some(own) = self.named(intent, std::env::home_dir())? else { return Ok(None) };
        println!("context {} of {}: {}", own.context, own.kubeconfig.display(), own.server()?);
        let occupied = own.occupied()?;
        println!("{}", told(intent, &occupied)?);
        if !self.yes {
            let answer = ask(&own.context)?;
            if answer != own.context {
                bail!("nothing was done: {answer:?} is not the context's name");
            }
        }
        Ok(Some(own))
    }

    fn named(&self, intent: Intent, home: Option<PathBuf>) -> Result<Option<OwnCluster>> {
        let Some(context) = self.context.clone() else { return Ok(None) };
        let of_home = || home.map(|home| home.join(".kube/config"));
        let kubeconfig =
            self.kubeconfig.clone().or_else(of_home).context("--kubeconfig: no home is known")?;
        if !kubeconfig.is_file() {
            bail!("{} is no file: --kubeconfig names another", kubeconfig.display());
        }
        let registry = match (&self.registry, intent) {
            (Some(registry), _) => registry.trim_end_matches('/').to_owned(),
            (None, Intent::Remove) => String::new(),
            (None, Intent::Make) => bail!(
                "--registry is missing: where do the cluster's nodes pull the images from? \
                 `cargo xtask images push REGISTRY` brings them there"
            ),
        };
        Ok(Some(OwnCluster { kubeconfig, context, registry, storage_class: self.storage_class.clone() }))
    }
}

/// What will be done; an error when it would meet what is somebody's.
fn told(intent: Intent, occupied: &[String]) -> Result<String> {
    match (intent, occupied) {
        (Intent::Make, []) => Ok(format!(
            "there will be made: the namespaces {SYSTEM} and {NAMESPACE}, the chart with its kinds and cluster roles, \
             a MailCluster with volumes and a Service of type LoadBalancer"
        )),
        (Intent::Make, there) => bail!(
            "{} are there already, and what is in them is not touched: `cargo xtask demo --down --context …` removes \
             what an earlier run has left",
            there.join(", ")
        ),
        (Intent::Remove, []) => bail!("nothing of ours is there"),
        (Intent::Remove, there) => {
            Ok(format!("there will be removed, WITH ALL MAIL AND VOLUMES IN THEM: {}", there.join(", ")))
        }
    }
}

fn ask(context: &str) -> Result<String> {
    print!("type the context's name ({context}) to go on: ");
    std::io::stdout().flush()?;
    let mut answer = String::new();
    if std::io::stdin().lock().read_line(&mut answer)? == 0 {
        bail!("nobody answers: --yes goes on without asking");
    }
    Ok(answer.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_already_is_not_touched() {
        let there = [format!("namespace/{NAMESPACE}")];
        for (intent, occupied, expected) in [
            (Intent::Make, &[][..], Ok("LoadBalancer")),
            (Intent::Make, &there[..], Err("namespace/mail are there already")),
            (Intent::Remove, &[][..], Err("nothing of ours")),
            (Intent::Remove, &there[..], Ok("WITH ALL MAIL")),
        ] {
            match (told(intent, occupied), expected) {
                (Ok(said), Ok(part)) => assert!(said.contains(part), "{said}"),
                (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{error}"),
                (got, expected) => panic!("{intent:?} {occupied:?}: {got:?}, not {expected:?}"),
            }
        }
    }

    #[test]
    fn the_file_is_named_or_the_home_s() {
        let home = std::env::temp_dir().join(format!("mailcluster-own-{}", std::process::id()));
        std::fs::create_dir_all(home.join(".kube")).unwrap();
        std::fs::write(home.join(".kube/config"), "").unwrap();
        let mut options = Choice { registry: Some("r.example.org/".to_owned()), ..Choice::default() };
        assert!(options.named(Intent::Make, Some(home.clone())).unwrap().is_none());
        options.context = Some("mine".to_owned());
        let own = options.named(Intent::Make, Some(home.clone())).unwrap().unwrap();
        assert_eq!((own.kubeconfig, own.registry.as_str()), (home.join(".kube/config"), "r.example.org"));
        options.kubeconfig = Some(home.join("other"));
        assert!(options.named(Intent::Make, Some(home.clone())).is_err());
        options = Choice { context: Some("mine".to_owned()), ..Choice::default() };
        assert!(
            options.named(Intent::Make, Some(home.clone())).unwrap_err().to_string().contains("--registry")
        );
        assert!(options.named(Intent::Remove, Some(home.clone())).is_ok());
        std::fs::remove_dir_all(&home).unwrap();
    }
}
