//! What one large MailCluster costs its operator: at rest, and while a third of its nodes die.

use std::time::{Duration, Instant};

use anyhow::Result;
use mailcluster_lab::{Lab, Options, Owner};
use serde_json::{Value, json};

use super::{
    audit::{Audit, Requests, add, count, is_read},
    fleet::{Fleet, Size, USER, Usage},
};

/// How long it is watched at rest.
const REST: Duration = Duration::from_secs(120);
/// It is at rest when it has written nothing but its own Lease for so long; it is waited for that so many times.
const QUIET: Duration = Duration::from_secs(20);
const PATIENCE: usize = 30;

/// On a lab of its own.
pub fn run(stores: u16, frontends: u16) -> Result<Vec<Value>> {
    let lab = Lab::up(&Options { nodes: 1, api_servers: 1, owner: Owner::Tests, ..Options::default() })?;
    let rows = measure(&lab, Size { stores, frontends });
    lab.shutdown()?;
    rows
}

fn measure(lab: &Lab, size: Size) -> Result<Vec<Value>> {
    println!("{} stores, {} frontends, {} nodes", size.stores, size.frontends, size.nodes());
    let mut audit = Audit::follow(lab.paths().audit_log(1), USER)?;
    let mut fleet = Fleet::start(lab, size)?;
    let mut start = Span::begin(&fleet)?;
    let served = fleet.answer(|| start.look(&mut audit))?;
    let mut rows = vec![start.row("start", size, &fleet, &served)?];
    println!("all serve after {} s; waiting until the operator is at rest", served["served_s"]);
    until_quiet(&mut audit)?;
    let mut rest = Span::begin(&fleet)?;
    while rest.begun.elapsed() < REST {
        std::thread::sleep(Duration::from_secs(1).min(REST.saturating_sub(rest.begun.elapsed())));
        rest.look(&mut audit)?;
    }
    rows.push(rest.row("rest", size, &fleet, &Value::Null)?);
    println!("{} nodes die", size.dying());
    let mut death = Span::begin(&fleet)?;
    fleet.die()?;
    let died = fleet.answer(|| death.look(&mut audit))?;
    println!("{died}");
    rows.push(death.row("nodes die", size, &fleet, &died)?);
    Ok(rows)
}

/// Waits until nothing is written any more but the leader's Lease.
fn until_quiet(audit: &mut Audit) -> Result<()> {
    audit.take()?;
    for _ in 0..PATIENCE {
        std::thread::sleep(QUIET);
        let writes = count(&audit.take()?, |verb, what| !is_read(verb) && what != "leases");
        if writes == 0 {
            return Ok(());
        }
        println!("{writes} writes in {} s", QUIET.as_secs());
    }
    println!("it does not come to rest");
    Ok(())
}

/// A time in which the operator is watched.
struct Span {
    begun: Instant,
    before: Usage,
    requests: Requests,
}

impl Span {
    fn begin(fleet: &Fleet<'_>) -> Result<Self> {
        Ok(Self { begun: Instant::now(), before: fleet.usage()?, requests: Requests::new() })
    }

    fn look(&mut self, audit: &mut Audit) -> Result<()> {
        add(&mut self.requests, audit.take()?);
        Ok(())
    }

    /// Everything in a minute; `told`: what the fleet says of it.
    fn row(self, path: &str, size: Size, fleet: &Fleet<'_>, told: &Value) -> Result<Value> {
        let (seconds, after) = (self.begun.elapsed().as_secs_f64(), fleet.usage()?);
        let minutes = seconds / 60.0;
        let per_minute = |is_one: &dyn Fn(&str, &str) -> bool| count(&self.requests, is_one) as f64 / minutes;
        let verb = |asked: &'static str| per_minute(&|verb, _| verb == asked);
        for ((verb, what), count) in &self.requests {
            println!("{path}: {:>8.1} a minute  {verb} {what}", *count as f64 / minutes);
        }
        Ok(json!({"name": "operator", "stores": size.stores, "frontends": size.frontends, "path": path,
            "ours": (after.cpu - self.before.cpu) / minutes, "peer": Value::Null, "ratio": Value::Null,
            "limit": Value::Null, "rss_mib": after.resident, "peak_mib": after.peak, "seconds": seconds,
            "reads": per_minute(&|verb, _| is_read(verb)),
            "writes": per_minute(&|verb, what| !is_read(verb) && what != "leases"),
            "get": verb("get"), "list": verb("list"), "watch": verb("watch"), "create": verb("create"),
            "update": verb("update"), "patch": verb("patch"), "delete": verb("delete"),
            "lost": told["lost"], "decided_s": told.pointer("/decided/max"),
            "served_s": told.pointer("/served/max").or(told.get("served_s"))}))
    }
}
