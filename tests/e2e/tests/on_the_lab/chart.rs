//! The chart: checked, upgraded, uninstalled and installed again over a cluster that serves.

use anyhow::{Result, ensure};
use mailcluster_e2e::{NAMESPACE, SYSTEM, wait_for};
use mailcluster_test_clients::Ledger;

use crate::stage::{LIMIT, Stage, plan, say};

/// Values that the schema must refuse, and a word of what it says.
const REFUSED: [(&str, &str); 4] = [
    ("operator.replicas=0", "replicas"),
    ("image.node.digest=nonsense", "digest"),
    ("certificates.leafSeconds=5", "leafSeconds"),
    ("noSuchValue=1", "noSuchValue"),
];

/// `helm lint`, and values that cannot work are refused with their name.
pub fn checked(stage: &Stage) -> Result<Ledger> {
    let kubernetes = &stage.site.kubernetes;
    let plan = plan(&stage.site.binaries)?;
    kubernetes.helm(&["lint", &plan.chart()])?;
    for (value, word) in REFUSED {
        let answer = kubernetes.helm(&["template", &plan.chart(), "--set", value]);
        let told = answer.err().map(|error| format!("{error:#}")).unwrap_or_default();
        ensure!(told.contains(word), "--set {value} was not refused by name: {told}");
    }
    Ok(Ledger::default())
}

/// An upgrade of the operator restarts no mail pod and moves no image.
pub fn upgraded(stage: &Stage) -> Result<Ledger> {
    let site = &stage.site;
    let before = (mail_pods(stage)?, image(stage)?);
    let old = operators(stage)?;
    let ledger = stage.sending("upgraded", || {
        let chart = plan(&site.binaries)?.chart();
        site.kubernetes.helm(&[
            "upgrade",
            "mailcluster",
            &chart,
            "--namespace",
            SYSTEM,
            "--reuse-values",
            "--set",
            "operator.logLevel=debug",
        ])?;
        rolled(stage, &old)?;
        site.wait_ready(LIMIT)
    })?;
    ensure!(before == (mail_pods(stage)?, image(stage)?), "the upgrade touched mail pods: {before:?}");
    Ok(ledger)
}

/// `helm uninstall` leaves the mail cluster serving; installed again, the operator takes it up as it is.
pub fn uninstalled(stage: &Stage) -> Result<Ledger> {
    let site = &stage.site;
    let before = mail_pods(stage)?;
    let ledger = stage.sending("uninstalled", || {
        site.kubernetes.helm(&["uninstall", "mailcluster", "--namespace", SYSTEM, "--wait"])?;
        wait_for("the operator is gone", LIMIT, || Ok(operators(stage)?.is_empty().then_some(())))?;
        stage.all_can_read_for(std::time::Duration::from_secs(5))?;
        ensure!(
            stage.kubectl(&["get", "mailcluster", "demo"]).is_ok(),
            "the MailCluster went with the chart"
        );
        plan(&site.binaries)?.install_chart(&site.kubernetes)?;
        wait_for("an operator leads", LIMIT, || site.leader().map(Some))?;
        site.wait_ready(LIMIT)
    })?;
    ensure!(before == mail_pods(stage)?, "the new operator restarted mail pods");
    Ok(ledger)
}

/// UIDs and restarts of all mail pods, by name.
pub fn mail_pods(stage: &Stage) -> Result<Vec<String>> {
    let path = "{range .items[*]}{.metadata.name} {.metadata.uid} {.status.containerStatuses[*].restartCount}{\"\\n\"}{end}";
    let text = stage.kubectl(&[
        "get",
        "pods",
        "-l",
        "app.kubernetes.io/name=mailcluster",
        "-o",
        &format!("jsonpath={path}"),
    ])?;
    let mut pods: Vec<String> = text.lines().map(str::to_owned).collect();
    pods.sort();
    ensure!(!pods.is_empty(), "no mail pods in {NAMESPACE}");
    Ok(pods)
}

fn image(stage: &Stage) -> Result<String> {
    stage.kubectl(&["get", "mailcluster", "demo", "-o", "jsonpath={.status.image}"])
}

pub fn operators(stage: &Stage) -> Result<Vec<String>> {
    let text = stage.site.kubernetes.kubectl(&["-n", SYSTEM, "get", "pods", "-o", "name"])?;
    Ok(text.lines().map(str::to_owned).collect())
}

/// Waits until none of the old operator's pods is left and a new one leads.
pub fn rolled(stage: &Stage, old: &[String]) -> Result<()> {
    wait_for("the operator's pods are new", LIMIT, || {
        let now = operators(stage)?;
        Ok((!now.is_empty() && now.iter().all(|pod| !old.contains(pod))).then_some(()))
    })?;
    let leader = wait_for("a new operator leads", LIMIT, || {
        let leader = stage.site.leader()?;
        Ok((!old.iter().any(|pod| pod.ends_with(&leader))).then_some(leader))
    })?;
    say(&format!("{leader} leads"));
    Ok(())
}
