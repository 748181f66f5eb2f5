use mailcluster_failover::{LeaseRecord, Position, ReplicaView, TargetKind, VolumeAccount, next_step};

use super::{
    super::{
        observe::tests::{frozen, observed},
        report,
    },
    *,
};

fn copy(id: &str, state: PodState, end: Option<u64>) -> ReplicaView {
    let o = observed(&frozen());
    let pod = mailcluster_failover::PodView { state, terminating: false, ..o.pod.unwrap() };
    let account = |seq| VolumeAccount {
        end: Position { epoch: 5, seq },
        last_epoch: 5,
        promise: 5,
        in_sync_version: 1,
        newest: 1_700_000_000,
    };
    ReplicaView {
        id: id.into(),
        pod: Some(pod),
        volume: end.map(account),
        in_sync: vec!["aa".into()],
        outdated: false,
        replaced: false,
        was_open: true,
        away_ms: 0,
    }
}

/// Copy `aa` was the last member, and is gone; `bb` is behind.
fn lost() -> Observation {
    let mut o = observed(&frozen());
    o.replicas = vec![copy("aa", PodState::Silent, None), copy("bb", PodState::Standby, Some(90))];
    o.pod.as_mut().unwrap().state = PodState::Silent;
    let lease = o.lease.as_mut().unwrap();
    let holder = lease.record.holder.clone();
    lease.record = LeaseRecord { holder, epoch: 5, ..LeaseRecord::initial(vec!["aa".into()], 1) };
    lease.record.replica = Some("aa".into());
    lease.record.position = Position { epoch: 5, seq: 118 };
    o.reach = mailcluster_failover::Reach { frontends: 2, answered: 2, reach: 0, pending: 0 };
    o
}

fn now() -> Timestamp {
    Timestamp::from_second(1_800_000_000).unwrap()
}

fn annotated(text: &str) -> MailStore {
    serde_json::from_value(json!({
        "apiVersion": "mailcluster.io/v1alpha1", "kind": "MailStore",
        "metadata": {"name": "demo-0", "annotations": {force::ANNOTATION: text}},
        "spec": {"kind": "Mail", "cluster": "demo", "replicas": []},
    }))
    .unwrap()
}

#[test]
fn an_order_is_read_or_said_to_be_unreadable() {
    let wanted = ForceRequest { copy: "bb".into(), epoch: 5, accept_loss: false };
    assert_eq!(order(&annotated(r#"{"copy":"bb","epoch":5}"#)), Some(Ok(wanted.clone())));
    let accepted = r#"{"copy":"bb","epoch":5,"acceptLoss":true}"#;
    assert_eq!(order(&annotated(accepted)), Some(Ok(ForceRequest { accept_loss: true, ..wanted })));
    for text in
        ["", "bb", r#"{"copy":"bb"}"#, r#"{"copy":"bb","epoch":-1}"#, r#"{"copy":"bb","epoch":5,"x":1}"#]
    {
        assert!(matches!(order(&annotated(text)), Some(Err(_))), "{text}");
    }
}

#[test]
fn who_decides_sees_every_copy_and_how_far_it_is() {
    let mut o = lost();
    let decision = next_step(&o);
    assert!(matches!(decision.step, Step::Block(Blocked::NoCopy(_))), "{decision:?}");
    let (part, _) = report::next(("demo-0", &Part::default()), &o, &decision, None, now());
    let told: Vec<_> =
        part.survivors.iter().map(|s| (s.id.as_str(), s.state.as_str(), s.end.as_deref())).collect();
    assert_eq!(told, [("aa", "does not answer", None), ("bb", "stands by", Some("5/90"))]);
    assert_eq!(part.survivors[1].newest.as_ref().map(|t| t.0.as_second()), Some(1_700_000_000));
    let patch = part.patch(None);
    assert_eq!(patch["status"]["survivors"][1]["end"], "5/90");
    // Nothing of that is left when it serves.
    o.lease.as_mut().unwrap().unchanged_for = Some(100);
    let serving = Decision { phase: Phase::Serving, step: Step::Idle };
    assert!(report::next(("demo-0", &part), &o, &serving, None, now()).0.survivors.is_empty());
}

#[test]
fn what_is_known_to_be_missing_stands_in_the_status() {
    let mut o = lost();
    o.force = Some(Ok(ForceRequest { copy: "bb".into(), epoch: 5, accept_loss: true }));
    let decision = next_step(&o);
    assert_eq!(decision.step, Step::Promote("bb".into(), TargetKind::Forced));
    let (mut part, _) = report::next(("demo-0", &Part::default()), &o, &decision, None, now());
    assert_eq!(part.last_failover.as_ref().map(|last| last.reason.as_str()), Some("Forced"));
    let record = record(&o, "bb");
    let wanted = Forced {
        copy: "bb".into(),
        epoch: Some(6),
        end: "5/90".into(),
        acknowledged: "5/118".into(),
        missing_at_least: 28,
        loss_accepted: true,
    };
    assert_eq!(record, wanted);
    part.last_failover.as_mut().unwrap().forced = Some(record);
    assert!(part.forced.is_none(), "it is not done yet");
    // It is done; then the old copy comes back with its own line.
    let lease = o.lease.as_mut().unwrap();
    (lease.record.forced, lease.record.epoch, lease.record.in_sync) = (Some(6), 6, vec!["bb".into()]);
    let said = condition("demo-0", &o, &part, now()).unwrap();
    assert_eq!((said.status.as_str(), said.reason.as_str()), ("True", "CopiesMissing"));
    assert!(said.message.contains("epoch 6") && said.message.contains("at least 28"), "{}", said.message);
    o.replicas[0] = copy("aa", PodState::Forked("3/120".into()), Some(131));
    let said = condition("demo-0", &o, &part, now()).unwrap();
    assert_eq!((said.status.as_str(), said.reason.as_str()), ("True", "ForkKept"));
    assert!(said.message.contains("replace-replica demo-0 a"), "{}", said.message);
    assert!(said.message.contains("up to 5/131"), "{}", said.message);
    o.lease.as_mut().unwrap().record.in_sync.push("aa".into());
    let said = condition("demo-0", &o, &part, now()).unwrap();
    assert_eq!((said.status.as_str(), said.reason.as_str()), ("False", "EveryCopyFollows"));
}

#[test]
fn a_copy_that_has_all_that_was_known_misses_nothing_known() {
    let mut o = lost();
    o.replicas[1] = copy("bb", PodState::Standby, Some(118));
    let forced = record(&o, "bb");
    assert_eq!((forced.missing_at_least, forced.loss_accepted), (0, false));
    assert!(told(&forced).contains("nothing is known to be missing"), "{}", told(&forced));
}
