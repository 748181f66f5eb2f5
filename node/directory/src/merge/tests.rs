use super::*;

fn account(id: u128, address: &str, store: &str, generation: u64) -> Account {
    Account {
        id: AccountId(id),
        address: address.into(),
        store: store.into(),
        generation,
        password_hash: format!("hash{generation}"),
        quota_octets: 0,
        used_octets: 7,
        suspended: false,
        pending: true,
        tombstone: false,
    }
}

fn records(accounts: &[Account]) -> Vec<DirectoryRecord> {
    accounts.iter().cloned().map(DirectoryRecord::Account).collect()
}

fn summary(merged: &Merged) -> Vec<(u128, String, u64, bool)> {
    merged.accounts.iter().map(|a| (a.id.0, a.store.to_string(), a.generation, a.tombstone)).collect()
}

#[test]
fn the_newer_record_wins_wherever_it_stands() {
    let old = account(1, "a@b.c", "s-0", 3);
    let new = account(1, "a@b.c", "s-1", 4);
    for (own, others) in [
        (vec![], vec![old.clone(), new.clone()]),
        (vec![], vec![new.clone(), old.clone()]),
        (vec![old.clone()], vec![new.clone()]),
        (vec![new.clone()], vec![old.clone()]),
    ] {
        let merged = merge(records(&own), records(&others));
        assert_eq!(summary(&merged), [(1, "s-1".into(), 4, false)]);
        assert!(merged.conflicts.is_empty());
        assert!(!merged.accounts[0].pending, "a store carries it");
    }
}

#[test]
fn a_tombstone_keeps_an_older_record_away() {
    let dead = Account { tombstone: true, ..account(1, "a@b.c", "s-0", 5) };
    let merged = merge([], records(&[account(1, "a@b.c", "s-0", 4), dead, account(2, "a@b.c", "s-0", 6)]));
    assert_eq!(summary(&merged), [(1, "s-0".into(), 5, true), (2, "s-0".into(), 6, false)]);
    assert!(merged.conflicts.is_empty());
}

#[test]
fn two_accounts_with_one_address_are_told_of() {
    let (first, second) = (account(1, "a@b.c", "s-0", 4), account(2, "a@b.c", "s-1", 5));
    let merged = merge([], records(&[first.clone(), second.clone()]));
    assert_eq!(summary(&merged), [(2, "s-1".into(), 5, false)]);
    assert_eq!(merged.conflicts.len(), 1);
    let merged = merge(records(&[first]), records(&[second]));
    assert_eq!(summary(&merged), [(1, "s-0".into(), 4, false)], "the directory's own stays");
    let (here, there) = (account(1, "a@b.c", "s-0", 4), account(1, "a@b.c", "s-1", 4));
    let merged = merge([], records(&[here, there]));
    assert_eq!((summary(&merged).len(), merged.conflicts.len()), (1, 1));
}

#[test]
fn domains_come_from_records_or_else_from_accounts() {
    let domain = |name: &str, generation, tombstone| Domain {
        name: name.into(),
        generation,
        tombstone,
        keys: mailcluster_store::Sealed::default(),
    };
    let mut all = records(&[account(1, "a@told.org", "s-0", 1), account(2, "a@untold.org", "s-0", 1)]);
    all.push(DirectoryRecord::Domain(domain("told.org", 2, false)));
    all.push(DirectoryRecord::Domain(domain("told.org", 1, true)));
    all.push(DirectoryRecord::Domain(domain("gone.org", 9, true)));
    let merged = merge([], all);
    assert_eq!(
        merged.domains,
        [domain("gone.org", 9, true), domain("told.org", 2, false), domain("untold.org", 1, false)]
    );
}

#[test]
fn the_newest_alias_wins() {
    let alias = |generation, accounts: &[u128]| {
        DirectoryRecord::Alias(Alias {
            address: "all@b.c".into(),
            accounts: accounts.iter().map(|id| AccountId(*id)).collect(),
            generation,
            tombstone: false,
        })
    };
    let merged = merge([], [alias(1, &[1]), alias(3, &[1, 2]), alias(2, &[2])]);
    assert_eq!(merged.aliases.len(), 1);
    assert_eq!(merged.aliases[0].accounts, [AccountId(1), AccountId(2)]);
}
