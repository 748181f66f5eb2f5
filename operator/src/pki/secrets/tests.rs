//! A CA's life, step by step.

use std::time::Duration;

use mailcluster_api::roles::Role;

use super::*;

const L: Lifetimes = Lifetimes {
    leaf: Duration::from_secs(120),
    ca: Duration::from_secs(900),
    overlap: Duration::from_secs(60),
};
const T: i64 = 1_700_000_000;

fn someone() -> Identity {
    Identity { cluster_id: "0".repeat(32), role: Role::Frontend, store: None, replica: None }
}

fn trusts(bundle: &[u8], pair: &Data) -> bool {
    let bundle = std::str::from_utf8(bundle).unwrap();
    let leaf = issue::facts(&text(pair, CERTIFICATE).unwrap()).unwrap();
    issue::all_facts(bundle).unwrap().iter().any(|ca| ca.subject == leaf.issuer)
}

#[test]
fn at_rest_nothing_changes() {
    let first = Authority::next(&Data::new(), &[], "c", T, &L).unwrap();
    let again = Authority::next(&first.to_data(), &[], "c", T + 100, &L).unwrap();
    assert!(first == again);
    let (leaf, due) = identity(&Data::new(), &first, &someone(), T, &L).unwrap();
    assert_eq!(due, T + 40);
    assert!(identity(&leaf, &again, &someone(), T + 39, &L).unwrap().0 == leaf);
    assert!(identity(&leaf, &again, &someone(), T + 40, &L).unwrap().0 != leaf);
}

/// Through three lives of a CA and two losses of it, looking every 10 s: whatever leaf was handed out within the last 60 s is trusted by
/// whatever bundle was handed out within the last 60 s, however late a pod reads either.
#[test]
fn rotation_never_breaks_trust() {
    let (mut ca, mut leaf) = (Data::new(), Data::new());
    let mut history: Vec<Data> = Vec::new();
    let mut issuers = std::collections::BTreeSet::new();
    for step in 0..270 {
        let now = T + step * 10;
        // Twice the CA is lost as a whole.
        if step == 37 || step == 155 {
            ca = Data::new();
        }
        let authority = Authority::next(&ca, &[&leaf], "c", now, &L).unwrap();
        ca = authority.to_data();
        leaf = identity(&leaf, &authority, &someone(), now, &L).unwrap().0;
        issuers.insert(issue::facts(&text(&leaf, CERTIFICATE).unwrap()).unwrap().issuer);
        history.push(leaf.clone());
        for old in history.iter().rev().take(6) {
            assert!(trusts(&old[BUNDLE], &leaf) && trusts(&leaf[BUNDLE], old), "at {}", now - T);
        }
    }
    assert!(issuers.len() >= 4, "{} authorities signed", issuers.len());
    assert!(issue::all_facts(std::str::from_utf8(&leaf[BUNDLE]).unwrap()).unwrap().len() <= 4);
}

#[test]
fn damage_is_mended() {
    let mut data = Authority::next(&Data::new(), &[], "c", T, &L).unwrap().to_data();
    data.insert(CERTIFICATE.into(), b"garbage".to_vec());
    let mended = Authority::next(&data, &[], "c", T + 1, &L).unwrap();
    let (leaf, _) = identity(&Data::new(), &mended, &someone(), T + 1, &L).unwrap();
    assert!(trusts(mended.bundle.as_bytes(), &leaf));

    // A key that belongs to another certificate.
    let mut leaf = leaf;
    leaf.insert(KEY.into(), issue::self_signed("x.example", T, 100).unwrap().key.into_bytes());
    let (again, _) = identity(&leaf, &mended, &someone(), T + 1, &L).unwrap();
    assert_ne!(again[KEY], leaf[KEY]);
    let mut data = mended.to_data();
    data.insert(KEY.into(), b"x".to_vec());
    assert!(Authority::next(&data, &[], "c", T + 2, &L).unwrap().current != mended.current);
}
