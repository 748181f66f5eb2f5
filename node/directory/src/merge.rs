//! Making one directory out of many volumes' records: a pure decision.

use std::collections::{BTreeMap, HashMap, hash_map::Entry};

use mailcluster_store::{Account, Alias, DirectoryRecord, Domain, Sealed};
use mailcluster_types::AccountId;

use crate::names;

/// What a rebuild puts, in this order: an address must not be unknown in a domain that is known already.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Merged {
    /// Accounts, tombstones too, ascending by id.
    pub accounts: Vec<Account>,
    /// Aliases, tombstones too, by address.
    pub aliases: Vec<Alias>,
    /// Domains, tombstones too, by name. Domains that only accounts tell of are added.
    pub domains: Vec<Domain>,
    /// For people: what was left out, and why.
    pub conflicts: Vec<String>,
}

/// The newest of each record. Between equal generations that differ, what is here (`own`) stays, then the first one
/// told. Of two live accounts with one address the directory's own is kept, else the newer one; the other is
/// named and left out.
#[must_use]
pub fn merge(
    own: impl IntoIterator<Item = DirectoryRecord>,
    others: impl IntoIterator<Item = DirectoryRecord>,
) -> Merged {
    let mut accounts: HashMap<AccountId, (Account, bool)> = HashMap::new();
    let mut aliases: BTreeMap<String, Alias> = BTreeMap::new();
    let mut domains: BTreeMap<String, Domain> = BTreeMap::new();
    let mut conflicts = Vec::new();
    let own = own.into_iter().map(|r| (r, true));
    for (record, is_own) in own.chain(others.into_iter().map(|r| (r, false))) {
        match record {
            DirectoryRecord::Account(account) => {
                take_account(
                    &mut accounts,
                    Account { pending: false, used_octets: 0, ..account },
                    is_own,
                    &mut conflicts,
                );
            }
            DirectoryRecord::Alias(alias) => {
                if aliases.get(&alias.address).is_none_or(|held| alias.generation > held.generation) {
                    aliases.insert(alias.address.clone(), alias);
                }
            }
            DirectoryRecord::Domain(domain) => {
                if domains.get(&domain.name).is_none_or(|held| domain.generation > held.generation) {
                    domains.insert(domain.name.clone(), domain);
                }
            }
        }
    }
    let accounts = one_for_each_address(accounts, &mut conflicts);
    for account in accounts.iter().filter(|a| !a.tombstone) {
        let name = names::domain_of(&account.address);
        domains.entry(name.to_owned()).or_insert_with(|| Domain {
            name: name.to_owned(),
            generation: 1,
            tombstone: false,
            keys: Sealed::default(),
        });
    }
    Merged {
        accounts,
        aliases: aliases.into_values().collect(),
        domains: domains.into_values().collect(),
        conflicts,
    }
}

fn take_account(
    accounts: &mut HashMap<AccountId, (Account, bool)>,
    account: Account,
    is_own: bool,
    conflicts: &mut Vec<String>,
) {
    match accounts.entry(account.id) {
        Entry::Vacant(place) => {
            place.insert((account, is_own));
        }
        Entry::Occupied(mut place) => {
            let (held, held_is_own) = place.get();
            if account.generation > held.generation {
                let is_own = is_own || *held_is_own;
                place.insert((account, is_own));
            } else if account.generation == held.generation && account.store != held.store {
                conflicts.push(format!(
                    "account {} ({}) is claimed by {} and {}; kept on {}",
                    held.id, held.address, held.store, account.store, held.store
                ));
            }
        }
    }
}

fn one_for_each_address(
    accounts: HashMap<AccountId, (Account, bool)>,
    conflicts: &mut Vec<String>,
) -> Vec<Account> {
    let mut all: Vec<(Account, bool)> = accounts.into_values().collect();
    // The one to keep of each address first: own before others, newer before older; the id decides at last.
    all.sort_by(|(a, a_own), (b, b_own)| (b_own, b.generation, b.id).cmp(&(a_own, a.generation, a.id)));
    let mut holders: HashMap<String, AccountId> = HashMap::new();
    let mut kept = Vec::with_capacity(all.len());
    for (account, _) in all {
        if !account.tombstone {
            match holders.entry(account.address.clone()) {
                Entry::Occupied(holder) => {
                    conflicts.push(format!(
                        "{} belongs to accounts {} and {} (on {}); the second was left out",
                        account.address,
                        holder.get(),
                        account.id,
                        account.store
                    ));
                    continue;
                }
                Entry::Vacant(place) => {
                    place.insert(account.id);
                }
            }
        }
        kept.push(account);
    }
    kept.sort_by_key(|a| a.id);
    kept
}

#[cfg(test)]
mod tests;
