//! The picture for people.

use jiff::Timestamp;
use k8s_openapi::{api::coordination::v1::Lease, apimachinery::pkg::apis::meta::v1::Condition};
use kube::ResourceExt;
use mailcluster_api::{
    MailCluster, MailStore,
    mailstore::{FailoverMode, LastFailover, Salvage},
    names::REPLICAS,
};
use mailcluster_rpc::{admin::v1 as pb, store::v1::GetUsageResponse};

use crate::{copies, failure::Failure, output, units};

/// All that is known.
pub struct Picture<'a> {
    pub cluster: &'a MailCluster,
    pub stores: &'a [MailStore],
    pub leases: &'a [Lease],
    pub directory: &'a Result<pb::Status, Failure>,
}

impl Picture<'_> {
    /// Prints it.
    pub fn print(&self) {
        self.head();
        let rows: Vec<_> = self.stores.iter().map(|s| self.row(s)).collect();
        output::line("");
        output::table(
            &["STORE", "PHASE", "HOST", "EPOCH", "LEASE", "FAILOVER", "ACCOUNTS", "MAIL", "FREE", "QUEUE"],
            &rows,
        );
        self.copies();
        self.failovers();
        self.salvages();
        self.conditions();
        if let Err(error) = self.directory {
            output::line(&format!(
                "\nthe directory could not be asked, so sizes and queues are missing: {error}"
            ));
        }
    }

    fn head(&self) {
        let status = self.cluster.status.clone().unwrap_or_default();
        let ready = status.conditions.iter().find(|c| c.type_ == "Ready");
        let state = match ready {
            Some(c) if c.status == "True" => "ready".to_owned(),
            Some(c) => format!("not ready: {}", c.message),
            None => "the operator has not looked at it yet".to_owned(),
        };
        let name = self.cluster.name_any();
        output::line(&format!("mail cluster {name} ({}): {state}", self.cluster.spec.hostname));
        if self.cluster.spec.paused {
            output::line("paused: the operator changes nothing and moves no store");
        }
        let frontends = status.frontends.unwrap_or_default();
        let addresses =
            if status.addresses.is_empty() { "none yet".into() } else { status.addresses.join(", ") };
        output::line(&format!("frontends: {} ready; addresses: {addresses}", frontends.ready));
        if let Ok(directory) = self.directory {
            output::line(&format!("{} domains, {} accounts", directory.domains, directory.accounts));
        }
    }

    fn usage(&self, store: &str) -> Option<&GetUsageResponse> {
        let directory = self.directory.as_ref().ok()?;
        directory.stores.iter().find(|s| s.store == store)?.usage.as_ref()
    }

    fn row(&self, store: &MailStore) -> Vec<String> {
        let name = store.name_any();
        let status = store.status.clone().unwrap_or_default();
        let usage = self.usage(&name);
        let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
        let epoch = status.serving.as_ref().map(|s| s.epoch).or(status.epoch);
        let accounts = self.directory.as_ref().ok().and_then(|d| d.stores.iter().find(|s| s.store == name));
        let accounts = accounts.map(|s| s.accounts.to_string()).or(status.accounts.map(|n| n.to_string()));
        vec![
            name.clone(),
            status.phase.map_or("-", |p| p.as_str()).to_owned(),
            or_dash(status.host),
            or_dash(epoch.map(|e| e.to_string())),
            self.lease(&name),
            or_dash(status.failover.map(|f| how(f, status.copies.as_deref()))),
            or_dash(accounts),
            or_dash(usage.map(|u| units::size(u.octets))),
            or_dash(usage.map(|u| units::size(u.free_octets))),
            or_dash(usage.map(queue)),
        ]
    }

    fn lease(&self, store: &str) -> String {
        let lease = self.leases.iter().find(|l| l.name_any() == store);
        let spec = lease.and_then(|l| l.spec.as_ref());
        let holder = spec.and_then(|s| s.holder_identity.as_deref()).unwrap_or_default();
        match spec.and_then(|s| s.renew_time.as_ref()) {
            Some(renewed) if !holder.is_empty() => {
                let age = Timestamp::now().as_second() - renewed.0.as_second();
                format!("{} s ago", age.max(0))
            }
            _ => "none".to_owned(),
        }
    }

    /// The copies of stores of which not every copy has everything.
    fn copies(&self) {
        for store in self.stores.iter().filter(|s| s.spec.is_mirrored()) {
            let lease = self.leases.iter().find(|l| l.name_any() == store.name_any());
            let copies: Vec<_> = store.spec.replicas.iter().zip(REPLICAS).collect();
            if copies.iter().all(|(replica, _)| copies::has_everything(lease, &replica.id)) {
                continue;
            }
            output::line(&format!("\ncopies of {}", store.name_any()));
            for (replica, letter) in copies {
                let standing = copies::standing(lease, &replica.id);
                let on_its_way = snapshot(store, &replica.id);
                output::line(&format!("  {letter}  {}  {standing}{on_its_way}", replica.id));
            }
        }
    }

    fn failovers(&self) {
        let lines: Vec<_> = self
            .stores
            .iter()
            .filter_map(|s| Some((s.name_any(), s.status.as_ref()?.last_failover.clone()?)))
            .map(|(name, last)| format!("  {name}: {}", told(&last)))
            .collect();
        if !lines.is_empty() {
            output::line("\nlast failovers");
            lines.iter().for_each(|l| output::line(l));
        }
    }

    fn salvages(&self) {
        let last = |s: &MailStore| Some((s.name_any(), s.status.as_ref()?.last_salvage.clone()?));
        let lines: Vec<_> = self
            .stores
            .iter()
            .filter_map(last)
            .map(|(name, last)| format!("  {name}: {}", brought(&last)))
            .collect();
        if !lines.is_empty() {
            output::line("\nbrought back after forced failovers");
            lines.iter().for_each(|l| output::line(l));
        }
    }

    fn conditions(&self) {
        let of_cluster = self.cluster.status.as_ref().map(|s| s.conditions.as_slice()).unwrap_or_default();
        let of_stores = self.stores.iter().flat_map(|s| {
            let conditions = s.status.as_ref().map(|s| s.conditions.as_slice()).unwrap_or_default();
            conditions.iter().map(move |c| (s.name_any(), c))
        });
        let all = of_cluster.iter().map(|c| (self.cluster.name_any(), c)).chain(of_stores);
        let lines: Vec<_> = all
            .filter(|(_, c)| is_trouble(c))
            .map(|(name, c)| format!("  {name}: {} ({}): {}", c.type_, c.reason, c.message))
            .collect();
        if !lines.is_empty() {
            output::line("\nneeds a look");
            lines.iter().for_each(|l| output::line(l));
        }
    }
}

/// Ready is trouble when it is not so; the others when they are.
fn is_trouble(condition: &Condition) -> bool {
    match condition.type_.as_str() {
        "Ready" => condition.status != "True",
        "Progressing" => false,
        _ => condition.status == "True",
    }
}

/// How far a snapshot has come that this copy takes; empty when it takes none.
fn snapshot(store: &MailStore, id: &str) -> String {
    let all = store.status.iter().flat_map(|status| &status.snapshots);
    let mut own = all.filter(|snapshot| snapshot.id == id);
    own.next().map_or_else(String::new, |s| {
        let size = units::size(u64::try_from(s.bytes).unwrap_or(0));
        format!("; takes a snapshot, {} % of {size}", s.percent)
    })
}

fn queue(usage: &GetUsageResponse) -> String {
    match (usage.queued_messages, usage.held_recipients) {
        (0, _) => "empty".to_owned(),
        (n, 0) => format!("{n} since {}", units::time(usage.oldest_queued)),
        (n, held) => format!("{n} since {} ({held} recipients held)", units::time(usage.oldest_queued)),
    }
}

/// How a store goes on when its node dies, and how many copies have everything.
fn how(mode: FailoverMode, copies: Option<&str>) -> String {
    let mode = format!("{mode:?}").to_lowercase();
    copies.map_or(mode.clone(), |copies| format!("{mode} {copies}"))
}

fn told(last: &LastFailover) -> String {
    let unknown = || "?".to_owned();
    let from = last.from.clone().unwrap_or_else(unknown);
    let to = last.to.clone().unwrap_or_else(unknown);
    let mut text = format!("{from} -> {to}, {}", last.reason);
    if let Some(forced) = &last.forced {
        text.push_str(&format!(
            ": copy {} ended at {}, {} was acknowledged, at least {} changes are missing",
            forced.copy, forced.end, forced.acknowledged, forced.missing_at_least
        ));
        text.push_str(if forced.loss_accepted { "; the loss was accepted" } else { "" });
    }
    if !last.evidence.is_empty() {
        let evidence: Vec<_> = last.evidence.iter().map(|e| format!("{e:?}")).collect();
        text.push_str(&format!("; evidence {}", evidence.join(", ")));
    }
    if let Some(detected) = &last.detected_at {
        text.push_str(&format!("; noticed {}", detected.0));
        let after = |at: &Timestamp| at.as_second() - detected.0.as_second();
        if let Some(fenced) = &last.fenced_at {
            text.push_str(&format!(", evidence after {} s", after(&fenced.0)));
        }
        if let Some(serving) = &last.serving_at {
            text.push_str(&format!(", served again after {} s", after(&serving.0)));
        }
    }
    text
}

fn brought(last: &Salvage) -> String {
    let Salvage { messages, moved, flags, expunged, already, .. } = last;
    let refused = match last.not_taken_over {
        0 => "everything was taken over".to_owned(),
        kept => format!("{kept} things were not taken over"),
    };
    format!(
        "{}: {messages} messages came, {moved} moved, {flags} have other flags, {expunged} went, {already} were there already; {} mailboxes and subscriptions, {} records, {} queued recipients; {refused}",
        last.at.0, last.mailboxes, last.records, last.queued
    )
}

/// A standalone node's.
pub fn directory(status: &pb::Status) {
    output::line(&format!("{} domains, {} accounts", status.domains, status.accounts));
    let rows: Vec<_> = status
        .stores
        .iter()
        .map(|s| {
            let usage = s.usage.as_ref();
            let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
            vec![
                s.store.clone(),
                if s.reachable { "serving" } else { "does not answer" }.to_owned(),
                or_dash(usage.map(|u| u.epoch.to_string())),
                s.accounts.to_string(),
                or_dash(usage.map(|u| units::size(u.octets))),
                or_dash(usage.map(|u| units::size(u.free_octets))),
                or_dash(usage.map(queue)),
            ]
        })
        .collect();
    output::table(&["STORE", "STATE", "EPOCH", "ACCOUNTS", "MAIL", "FREE", "QUEUE"], &rows);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn condition(type_: &str, status: &str) -> Condition {
        Condition {
            type_: type_.into(),
            status: status.into(),
            last_transition_time: k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(Timestamp::UNIX_EPOCH),
            message: String::new(),
            observed_generation: None,
            reason: String::new(),
        }
    }

    #[test]
    fn trouble_is_told_from_good_news() {
        for (type_, status, expected) in [
            ("Ready", "True", false),
            ("Ready", "False", true),
            ("Ready", "Unknown", true),
            ("Progressing", "True", false),
            ("Degraded", "True", true),
            ("FailoverBlocked", "False", false),
        ] {
            assert_eq!(is_trouble(&condition(type_, status)), expected, "{type_}={status}");
        }
    }

    #[test]
    fn a_copy_that_takes_a_snapshot_says_how_far_it_is() {
        let store: MailStore = serde_json::from_value(serde_json::json!({
            "apiVersion": "mailcluster.io/v1alpha1", "kind": "MailStore", "metadata": {"name": "demo-0"},
            "spec": {"kind": "Mail", "cluster": "demo", "replicas": []},
            "status": {"snapshots": [{"id": "bb", "percent": 37, "bytes": 1_610_612_736}]},
        }))
        .unwrap();
        assert_eq!(snapshot(&store, "bb"), "; takes a snapshot, 37 % of 1.5 GiB");
        assert_eq!(snapshot(&store, "aa"), "");
    }

    #[test]
    fn a_salvage_is_told_in_one_line() {
        let status = serde_json::json!({"at": "2026-01-01T00:00:00Z", "messages": 7, "moved": 1, "flags": 2,
            "expunged": 3, "already": 4, "mailboxes": 5, "records": 6, "queued": 8, "notTakenOver": 9});
        let mut last: Salvage = serde_json::from_value(status).unwrap();
        let done = "2026-01-01T00:00:00Z: 7 messages came, 1 moved, 2 have other flags, 3 went, 4 were there already; \
                    5 mailboxes and subscriptions, 6 records, 8 queued recipients; ";
        assert_eq!(brought(&last), format!("{done}9 things were not taken over"));
        last.not_taken_over = 0;
        assert_eq!(brought(&last), format!("{done}everything was taken over"));
    }

    #[test]
    fn a_failover_is_told_in_one_line() {
        let at = |s| {
            Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(Timestamp::from_second(s).unwrap()))
        };
        let last = LastFailover {
            reason: "NodeLost".into(),
            evidence: vec![mailcluster_api::mailstore::EvidenceKind::FenceJob],
            from: Some("node1".into()),
            to: Some("node2".into()),
            detected_at: at(1_000_000_000),
            fenced_at: at(1_000_000_009),
            serving_at: at(1_000_000_014),
            ..LastFailover::default()
        };
        assert_eq!(
            told(&last),
            "node1 -> node2, NodeLost; evidence FenceJob; noticed 2001-09-09T01:46:40Z, evidence after 9 s, served again after 14 s"
        );
        assert_eq!(told(&LastFailover::default()), "? -> ?, ");
    }
}
