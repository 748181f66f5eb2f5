//! Accounts, domains, aliases.

use mailcluster_types::{AccountId, Seq, StoreName};
use rusqlite::{Row, params};

use super::{View, account_id, limit};
use crate::{
    error::ReadError,
    model::{Account, Alias, Domain, Sealed},
};

/// One record of the directory's history of changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DirectoryRecord {
    /// An account's newest state.
    Account(Account),
    /// A domain's newest state.
    Domain(Domain),
    /// An alias's newest state.
    Alias(Alias),
}

/// What [`account`] reads, in its order.
macro_rules! accounts {
    ($rest:literal) => {
        concat!(
            "SELECT a.id, a.address, a.store, a.generation, a.password_hash, a.quota, u.octets, a.suspended, \
             a.pending, a.tombstone, a.seq FROM account a JOIN used u ON u.account=a.local ",
            $rest
        )
    };
}

fn account(r: &Row<'_>) -> rusqlite::Result<Account> {
    Ok(Account {
        id: account_id(r, 0)?,
        address: r.get(1)?,
        store: StoreName::from(r.get::<_, String>(2)?),
        generation: r.get(3)?,
        password_hash: r.get(4)?,
        quota_octets: r.get(5)?,
        used_octets: r.get(6)?,
        suspended: r.get(7)?,
        pending: r.get(8)?,
        tombstone: r.get(9)?,
    })
}

fn domain(r: &Row<'_>) -> rusqlite::Result<Domain> {
    Ok(Domain { name: r.get(0)?, generation: r.get(1)?, tombstone: r.get(2)?, keys: Sealed(r.get(3)?) })
}

fn alias(r: &Row<'_>) -> rusqlite::Result<Alias> {
    let accounts: Vec<u8> = r.get(1)?;
    Ok(Alias {
        address: r.get(0)?,
        accounts: accounts.chunks(16).filter_map(AccountId::from_slice).collect(),
        generation: r.get(2)?,
        tombstone: r.get(3)?,
    })
}

#[allow(clippy::missing_errors_doc, reason = "every read fails only as ReadError says")]
impl View {
    /// An account that is on this store (not a tombstone).
    pub fn account(&self, id: AccountId) -> Result<Option<Account>, ReadError> {
        let id = id.to_bytes();
        self.one(accounts!("WHERE a.id=? AND a.tombstone=0"), [&id[..]], account)
    }

    /// An account's newest record, a tombstone too.
    pub fn account_record(&self, id: AccountId) -> Result<Option<Account>, ReadError> {
        let id = id.to_bytes();
        self.one(accounts!("WHERE a.id=?"), [&id[..]], account)
    }

    /// An account by its primary address key.
    pub fn account_by_address(&self, key: &str) -> Result<Option<Account>, ReadError> {
        self.one(accounts!("WHERE a.address=? AND a.tombstone=0"), [key], account)
    }

    /// Accounts with ids above `after`, tombstones too, at most `limit`, ascending by id.
    pub fn accounts(&self, after: Option<AccountId>, max: usize) -> Result<Vec<Account>, ReadError> {
        let after = after.map(|id| id.to_bytes().to_vec()).unwrap_or_default();
        self.all(accounts!("WHERE a.id>? ORDER BY a.id LIMIT ?"), params![after, limit(max)], account)
    }

    /// Accounts whose address key starts after `after` in the domain (or all domains), live only, ascending.
    pub fn accounts_by_address(
        &self,
        domain: Option<&str>,
        after: &str,
        max: usize,
    ) -> Result<Vec<Account>, ReadError> {
        match domain {
            Some(domain) => self.all(
                accounts!("WHERE a.domain=? AND a.address>? AND a.tombstone=0 ORDER BY a.address LIMIT ?"),
                params![domain, after, limit(max)],
                account,
            ),
            None => self.all(
                accounts!("WHERE a.address>? AND a.tombstone=0 ORDER BY a.address LIMIT ?"),
                params![after, limit(max)],
                account,
            ),
        }
    }

    /// Account, domain and alias records changed after this sequence, oldest first, at most `limit`; with the
    /// sequence that the answer reaches. Stores watch their own accounts with it.
    pub fn directory_changes(
        &self,
        after: Seq,
        max: usize,
    ) -> Result<(Vec<(Seq, DirectoryRecord)>, Seq), ReadError> {
        let n = limit(max);
        let mut changes: Vec<(Seq, DirectoryRecord)> =
            self.all(accounts!("WHERE a.seq>? ORDER BY a.seq LIMIT ?"), params![after, n], |r| {
                Ok((r.get(10)?, DirectoryRecord::Account(account(r)?)))
            })?;
        changes.extend(self.all(
            "SELECT name, generation, tombstone, keys, seq FROM domain WHERE seq>? ORDER BY seq LIMIT ?",
            params![after, n],
            |r| Ok((r.get(4)?, DirectoryRecord::Domain(domain(r)?))),
        )?);
        changes.extend(self.all(
            "SELECT address, accounts, generation, tombstone, seq FROM alias WHERE seq>? ORDER BY seq LIMIT ?",
            params![after, n],
            |r| Ok((r.get(4)?, DirectoryRecord::Alias(alias(r)?))),
        )?);
        changes.sort_by_key(|(seq, _)| *seq);
        let cut = changes.len() > max;
        changes.truncate(max);
        let end: Seq = self.one("SELECT seq FROM state", [], |r| r.get(0))?.unwrap_or(0);
        let full = cut || changes.len() == max;
        let reached = changes.last().filter(|_| full).map_or(end.max(after), |(seq, _)| *seq);
        Ok((changes, reached))
    }

    /// A domain (not a tombstone).
    pub fn domain(&self, name: &str) -> Result<Option<Domain>, ReadError> {
        self.one(
            "SELECT name, generation, tombstone, keys FROM domain WHERE name=? AND tombstone=0",
            [name],
            domain,
        )
    }

    /// A domain's newest record, a tombstone too.
    pub fn domain_record(&self, name: &str) -> Result<Option<Domain>, ReadError> {
        self.one("SELECT name, generation, tombstone, keys FROM domain WHERE name=?", [name], domain)
    }

    /// The names of live domains, ascending.
    pub fn domain_names(&self) -> Result<Vec<String>, ReadError> {
        self.all("SELECT name FROM domain WHERE tombstone=0 ORDER BY name", [], |r| r.get(0))
    }

    /// Live domains with keys and names above `after`, at most `limit`, ascending.
    pub fn domains_with_keys(&self, after: &str, max: usize) -> Result<Vec<Domain>, ReadError> {
        self.all(
            "SELECT name, generation, tombstone, keys FROM domain \
             WHERE name>? AND tombstone=0 AND length(keys)>0 ORDER BY name LIMIT ?",
            params![after, limit(max)],
            domain,
        )
    }

    /// All domains, tombstones too.
    pub fn domains(&self) -> Result<Vec<Domain>, ReadError> {
        self.all("SELECT name, generation, tombstone, keys FROM domain ORDER BY name", [], domain)
    }

    /// An alias by its address key (not a tombstone).
    pub fn alias(&self, key: &str) -> Result<Option<Alias>, ReadError> {
        self.one(
            "SELECT address, accounts, generation, tombstone FROM alias WHERE address=? AND tombstone=0",
            [key],
            alias,
        )
    }

    /// Aliases with keys above `after`, tombstones too, at most `limit`.
    pub fn aliases(&self, after: &str, max: usize) -> Result<Vec<Alias>, ReadError> {
        self.all(
            "SELECT address, accounts, generation, tombstone FROM alias WHERE address>? ORDER BY address LIMIT ?",
            params![after, limit(max)],
            alias,
        )
    }

    /// Stores whose records a rebuild had to leave out: what they alone tell of is unknown here.
    pub fn gaps(&self) -> Result<Vec<StoreName>, ReadError> {
        self.all("SELECT store FROM gap ORDER BY store", [], |r| Ok(StoreName::from(r.get::<_, String>(0)?)))
    }

    /// Number of live accounts per store, by name of the store.
    pub fn accounts_per_store(&self) -> Result<Vec<(StoreName, u64)>, ReadError> {
        self.all(
            "SELECT store, count(*) FROM account WHERE tombstone=0 GROUP BY store ORDER BY store",
            [],
            |r| Ok((StoreName::from(r.get::<_, String>(0)?), r.get(1)?)),
        )
    }
}
