//! What the API servers' audit logs show of our service accounts.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::site::{NAMESPACE, SYSTEM, Site};

/// Requests by (service account, verb, resource).
pub type Requests = BTreeMap<(String, String, String), usize>;

/// How far each audit log has been written.
#[derive(Debug)]
pub struct Mark(Vec<(PathBuf, u64)>);

impl Site {
    /// Where the audit logs end now.
    ///
    /// # Errors
    /// When the lab is gone.
    pub fn audit_mark(&self) -> Result<Mark> {
        let lab = self.lab()?;
        let servers = lab.state()?.api_servers;
        let logs = servers.iter().map(|server| lab.paths().audit_log(server.index));
        Ok(Mark(logs.map(|log| (log.clone(), std::fs::metadata(&log).map_or(0, |m| m.len()))).collect()))
    }

    /// What our service accounts have asked for since then.
    ///
    /// # Errors
    /// When a log cannot be read.
    pub fn audited_since(&self, mark: &Mark) -> Result<Requests> {
        let mut requests = Requests::new();
        for (log, from) in &mark.0 {
            let text = std::fs::read(log).with_context(|| log.display().to_string())?;
            let from = usize::try_from(*from).unwrap_or(usize::MAX).min(text.len());
            count(&String::from_utf8_lossy(&text[from..]), &mut requests);
        }
        Ok(requests)
    }
}

/// A watch has a line at its start and one at its end: it is one request.
fn count(text: &str, requests: &mut Requests) {
    let ours = [NAMESPACE, SYSTEM].map(|namespace| format!("system:serviceaccount:{namespace}:"));
    let mut seen = BTreeSet::new();
    for event in text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()) {
        let word =
            |pointer: &str| event.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
        let user = word("/user/username");
        if !ours.iter().any(|prefix| user.starts_with(prefix)) || !seen.insert(word("/auditID")) {
            continue;
        }
        let account = user.rsplit(':').next().unwrap_or_default().to_owned();
        *requests.entry((account, word("/verb"), word("/objectRef/resource"))).or_default() += 1;
    }
}

/// The reads among them.
#[must_use]
pub fn reads(requests: &Requests) -> usize {
    requests.iter().filter(|((_, verb, _), _)| is_read(verb)).map(|(_, count)| count).sum()
}

/// The writes among them that are no renewals of leases.
#[must_use]
pub fn writes_but_leases(requests: &Requests) -> Requests {
    let kept = requests.iter().filter(|((_, verb, resource), _)| !is_read(verb) && resource != "leases");
    kept.map(|(request, count)| (request.clone(), *count)).collect()
}

fn is_read(verb: &str) -> bool {
    ["get", "list", "watch"].contains(&verb)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_counted_once_and_only_ours() {
        let line = |id: &str, user: &str, verb: &str, resource: &str| {
            format!(
                r#"{{"auditID":"{id}","user":{{"username":"{user}"}},"verb":"{verb}","objectRef":{{"resource":"{resource}"}}}}"#
            )
        };
        let (mail, system) =
            ("system:serviceaccount:mail:demo-0", "system:serviceaccount:mailcluster-system:op");
        let text = [
            line("1", mail, "watch", "mailstores"),
            line("1", mail, "watch", "mailstores"),
            line("2", mail, "update", "leases"),
            line("3", system, "patch", "services"),
            line("4", "system:serviceaccount:kube-system:x", "patch", "pods"),
        ];
        let mut requests = Requests::new();
        count(&text.join("\n"), &mut requests);
        assert_eq!(reads(&requests), 1);
        let writes = writes_but_leases(&requests);
        assert_eq!(
            writes.keys().map(|(_, verb, what)| (verb.as_str(), what.as_str())).collect::<Vec<_>>(),
            [("patch", "services")]
        );
    }
}
