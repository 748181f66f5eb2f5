//! Digests of what an index says, slice by slice: replicas whose indexes have the same batches must have the same rows, but
//! for what is each replica's own.
//!
//! A slice is what follows a key in one table, up to a number of rows and octets: whoever reads the same rows ends at the
//! same one. Rows are read in the order of their keys, and go into a CRC-32C with types and lengths.

use std::path::Path;

use rusqlite::{
    Connection, ToSql,
    config::DbConfig,
    params_from_iter,
    types::{Value, ValueRef},
};

use crate::{batch::Link, error::ReadError, schema};

/// A slice has no more octets than this, but for its last row.
const OCTETS: usize = 1 << 20;
/// Nor more rows, whoever asks.
const ROWS: u32 = 4096;

/// A table of the index, its key, and its other columns without those that are each replica's own.
struct Table {
    name: &'static str,
    key: &'static [&'static str],
    columns: &'static [&'static str],
}

const fn table(name: &'static str, key: &'static [&'static str], columns: &'static [&'static str]) -> Table {
    Table { name, key, columns }
}

/// Their order, and what of them counts, is what [`Slice::VERSION`] stands for.
const TABLES: &[Table] = &[
    table(
        "state",
        &["id"],
        &[
            "version",
            "cluster",
            "epoch",
            "seq",
            "crc",
            "in_sync_version",
            "in_sync",
            "modseq",
            "mailbox",
            "uid_validity",
            "body",
            "history",
            "audit",
            "clock",
            "accounts",
            "octets",
        ],
    ),
    table("epochs", &["epoch"], &["first_seq", "forced"]),
    table(
        "account",
        &["local"],
        &[
            "id",
            "address",
            "domain",
            "store",
            "generation",
            "password_hash",
            "quota",
            "suspended",
            "pending",
            "tombstone",
            "seq",
        ],
    ),
    table("used", &["account"], &["octets", "mailboxes"]),
    table("mailbox", &["id"], &["account", "name", "uid_validity", "special_use"]),
    table(
        "counter",
        &["mailbox"],
        &["uid_next", "modseq", "messages", "unseen", "deleted", "octets", "expunged", "expunge_floor"],
    ),
    table("subscription", &["account", "name"], &[]),
    table(
        "message",
        &["mailbox", "uid"],
        &["modseq", "born", "system", "keywords", "internal_date", "zone", "size", "delivery", "body"],
    ),
    table("body", &["id"], &["len", "crc", "refs", "prefix"]),
    table("expunged", &["mailbox", "modseq", "uid"], &[]),
    table("delivered", &["delivery", "account"], &["at"]),
    table("queue", &["delivery"], &["sender", "queued_at", "size", "body", "params"]),
    table(
        "recipient",
        &["delivery", "address"],
        &[
            "account",
            "store",
            "attempts",
            "next_attempt",
            "last_error",
            "held",
            "noticed",
            "params",
            "returned",
        ],
    ),
    table("queued", &["delivery", "address"], &["at"]),
    table("domain", &["name"], &["generation", "tombstone", "keys", "seq"]),
    table("alias", &["address"], &["accounts", "generation", "tombstone", "seq"]),
    table("history", &["id"], &["at", "delivery", "event", "recipient", "mailbox", "uid", "detail"]),
    table("audit", &["id"], &["at", "who", "what"]),
    table("sieve", &["account", "name"], &["script", "active"]),
    table("seen", &["account", "id"], &["until"]),
    table("gap", &["store"], &[]),
    table("salvaged", &["place", "number", "born"], &[]),
    table(
        "recoverable",
        &["account", "mailbox", "uid"],
        &["at", "name", "system", "keywords", "internal_date", "zone", "size", "delivery", "body"],
    ),
    table("recoverable_sum", &["id"], &["messages", "octets"]),
];

/// A part of an index.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Slice {
    /// Which table.
    pub table: u32,
    /// What follows this key, as [`Sliced::last`] has it; empty: from the first row on.
    pub after: Vec<u8>,
    /// At most so many rows.
    pub rows: u32,
}

impl Slice {
    /// Only digests of the same version, of indexes of the same version, can be compared.
    pub const VERSION: u32 = (schema::VERSION << 8) | 1;

    /// The table's name; `None`: there is no such table, all of them come before.
    #[must_use]
    pub fn name(&self) -> Option<&'static str> {
        self.table().map(|table| table.name)
    }

    fn table(&self) -> Option<&'static Table> {
        TABLES.get(usize::try_from(self.table).ok()?)
    }
}

/// What a slice has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sliced {
    /// Of its rows.
    pub digest: u32,
    /// How many there are.
    pub rows: u32,
    /// The key of the last one; `None`: the table has no more rows.
    pub last: Option<Vec<u8>>,
}

/// An index as it was at one moment.
pub struct IndexMoment {
    conn: Connection,
    at: Link,
}

impl IndexMoment {
    /// The index of the replica in `dir` as it is now. It holds up what the index's write-ahead log could forget: not to be
    /// kept for long.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn now(dir: &Path) -> Result<Self, ReadError> {
        let conn = schema::open_reader(dir)?;
        // Whoever closes the index last writes to it: not this one.
        conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        conn.execute_batch("BEGIN")?;
        let at = conn.query_row("SELECT epoch, seq, crc FROM state", [], |r| {
            Ok(Link { epoch: r.get(0)?, seq: r.get(1)?, crc: r.get(2)? })
        })?;
        Ok(Self { conn, at })
    }

    /// The last batch that it has.
    #[must_use]
    pub fn at(&self) -> Link {
        self.at
    }

    /// Reads a slice.
    ///
    /// # Errors
    /// [`ReadError::NotFound`] when there is no such table or key; else when the index cannot be read.
    pub fn digest(&self, slice: &Slice) -> Result<Sliced, ReadError> {
        let table = slice.table().ok_or(ReadError::NotFound)?;
        let after = decode(&slice.after).ok_or(ReadError::NotFound)?;
        if !after.is_empty() && after.len() != table.key.len() {
            return Err(ReadError::NotFound);
        }
        let limit = slice.rows.clamp(1, ROWS);
        let mut statement = self.conn.prepare(&sql(table, !after.is_empty(), limit))?;
        let mut rows = statement.query(params_from_iter(after.iter().map(|value| value as &dyn ToSql)))?;
        let (mut digest, mut count, mut octets) = (0, 0, 0);
        let (mut encoded, mut key) = (Vec::new(), 0);
        while let Some(row) = rows.next()? {
            encoded.clear();
            for column in 0..table.key.len() + table.columns.len() {
                encode(row.get_ref(column)?, &mut encoded);
                if column + 1 == table.key.len() {
                    key = encoded.len();
                }
            }
            digest = crc32c::crc32c_append(digest, &encoded);
            (count, octets) = (count + 1, octets + encoded.len());
            if octets >= OCTETS {
                break;
            }
        }
        let is_cut = count == limit || octets >= OCTETS;
        Ok(Sliced { digest, rows: count, last: is_cut.then(|| encoded[..key].to_vec()) })
    }
}

fn sql(table: &Table, is_behind_a_key: bool, limit: u32) -> String {
    let key = table.key.join(",");
    let columns = [table.key, table.columns].concat().join(",");
    let places = vec!["?"; table.key.len()].join(",");
    let from = if is_behind_a_key { format!("WHERE ({key})>({places}) ") } else { String::new() };
    format!("SELECT {columns} FROM {} {from}ORDER BY {key} LIMIT {limit}", table.name)
}

fn encode(value: ValueRef<'_>, out: &mut Vec<u8>) {
    let mut octets = |tag: u8, octets: &[u8]| {
        out.push(tag);
        out.extend_from_slice(&u32::try_from(octets.len()).unwrap_or(u32::MAX).to_le_bytes());
        out.extend_from_slice(octets);
    };
    match value {
        ValueRef::Null => octets(0, &[]),
        ValueRef::Integer(number) => octets(1, &number.to_le_bytes()),
        ValueRef::Real(number) => octets(2, &number.to_le_bytes()),
        ValueRef::Text(text) => octets(3, text),
        ValueRef::Blob(blob) => octets(4, blob),
    }
}

/// A key, as it was encoded; `None`: it was not.
fn decode(mut encoded: &[u8]) -> Option<Vec<Value>> {
    let mut key = Vec::new();
    while let Some((tag, rest)) = encoded.split_first() {
        let (length, rest) = rest.split_first_chunk::<4>()?;
        let (octets, rest) = rest.split_at_checked(usize::try_from(u32::from_le_bytes(*length)).ok()?)?;
        key.push(match tag {
            1 => Value::Integer(i64::from_le_bytes(octets.try_into().ok()?)),
            3 => Value::Text(String::from_utf8(octets.to_vec()).ok()?),
            4 => Value::Blob(octets.to_vec()),
            _ => return None,
        });
        encoded = rest;
    }
    Some(key)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// What is each replica's own: whose index it is, and where in its files things lie.
    const OWN: &[(&str, &str)] = &[
        ("state", "replica"),
        ("state", "segment"),
        ("state", "start"),
        ("state", "end"),
        ("body", "segment"),
        ("body", "offset"),
    ];

    #[test]
    fn every_column_counts_but_for_what_is_each_replicas_own() {
        let dir = tempfile::tempdir().unwrap();
        let conn = schema::open_writer(dir.path(), (b"c", b"r")).unwrap();
        let mut all = conn
            .prepare(
                "SELECT t.name, c.name FROM sqlite_master t, pragma_table_info(t.name) c \
                 WHERE t.type='table' AND t.name NOT LIKE 'sqlite_%'",
            )
            .unwrap();
        let all: BTreeSet<(String, String)> =
            all.query_map([], |r| Ok((r.get(0)?, r.get(1)?))).unwrap().map(Result::unwrap).collect();
        let names = |(table, column): (&str, &str)| (table.to_owned(), column.to_owned());
        let own: BTreeSet<_> = OWN.iter().copied().map(names).collect();
        let told = TABLES.iter().flat_map(|table| {
            table.key.iter().chain(table.columns).map(|column| names((table.name, column)))
        });
        let told: BTreeSet<_> = told.collect();
        assert_eq!(told, all.difference(&own).cloned().collect());
    }

    #[test]
    fn a_key_survives_its_way_and_what_is_none_is_refused() {
        let mut encoded = Vec::new();
        let key = [Value::Integer(-5), Value::Text("a'ä".into()), Value::Blob(vec![0, 255])];
        key.iter().for_each(|value| encode(value.into(), &mut encoded));
        assert_eq!(decode(&encoded).as_deref(), Some(&key[..]));
        for length in 1..encoded.len() {
            assert!(decode(&encoded[..length]).is_none_or(|key| key.len() < 3), "{length}");
        }
        assert_eq!(decode(&[9, 0, 0, 0, 0]), None);
        assert_eq!(decode(&[3, 255, 255, 255, 255, 1]), None);
    }

    #[test]
    fn slices_have_every_row_once_and_notice_every_change() {
        let dir = tempfile::tempdir().unwrap();
        let conn = schema::open_writer(dir.path(), (b"c", b"r")).unwrap();
        for n in 0..25 {
            conn.execute("INSERT INTO subscription VALUES(?,?)", (n / 10, format!("box {n}"))).unwrap();
            conn.execute("INSERT INTO history VALUES(?,1,x'00',1,'r',2,3,NULL)", [n]).unwrap();
        }
        let all = |rows| {
            let (now, mut slice) =
                (IndexMoment::now(dir.path()).unwrap(), Slice { rows, ..Slice::default() });
            let (mut digests, mut count) = (Vec::new(), 0);
            while slice.name().is_some() {
                let Sliced { digest, rows, last } = now.digest(&slice).unwrap();
                digests.push(digest);
                count += rows;
                slice.table += u32::from(last.is_none());
                slice.after = last.unwrap_or_default();
            }
            (digests, count)
        };
        let before = all(7);
        assert_eq!(before.1, 52);
        assert_eq!((all(7), all(1).1, all(ROWS).1), (before.clone(), 52, 52));
        for change in [
            "UPDATE history SET detail='' WHERE id=17",
            "UPDATE subscription SET name='box 25' WHERE name='box 24'",
            "DELETE FROM history WHERE id=0",
            "INSERT INTO gap VALUES('demo-1')",
            "UPDATE state SET modseq=modseq+1",
        ] {
            let before = all(7);
            conn.execute(change, []).unwrap();
            assert_ne!(all(7).0, before.0, "{change}");
        }
        let own = all(7);
        conn.execute("UPDATE state SET segment=5, start=6, end=7, replica=x'01'", []).unwrap();
        assert_eq!(all(7), own);
        let now = IndexMoment::now(dir.path()).unwrap();
        let nonsense = Slice { table: 0, after: vec![1, 2], rows: 1 };
        assert_eq!(now.digest(&nonsense), Err(ReadError::NotFound));
        assert_eq!(now.digest(&Slice { table: 99, ..Slice::default() }), Err(ReadError::NotFound));
    }
}
