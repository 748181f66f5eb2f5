//! What an index holds.

use std::path::Path;

use rusqlite::{Connection, types::Value};

use crate::schema;

/// Every row of every table, without the columns of these names.
#[must_use]
pub fn rows(dir: &Path, without: &[&str]) -> Vec<String> {
    rows_of(&schema::open_reader(dir).unwrap(), without)
}

/// The same, by a connection that is there.
#[must_use]
pub fn rows_of(conn: &Connection, without: &[&str]) -> Vec<String> {
    let mut tables = conn
        .prepare(
            "SELECT name FROM sqlite_master WHERE type='table' AND name NOT LIKE 'sqlite_%' ORDER BY name",
        )
        .unwrap();
    let names: Vec<String> = tables.query_map([], |r| r.get(0)).unwrap().map(Result::unwrap).collect();
    let mut all = Vec::new();
    for name in names {
        let mut rows = conn.prepare(&format!("SELECT * FROM {name}")).unwrap();
        let wanted = |c: &usize| !without.contains(&rows.column_name(*c).unwrap());
        let columns: Vec<usize> = (0..rows.column_count()).filter(wanted).collect();
        let read = |r: &rusqlite::Row<'_>| {
            columns.iter().map(|c| r.get::<_, Value>(*c)).collect::<Result<Vec<_>, _>>()
        };
        let lines = rows.query_map([], read).unwrap().map(|row| format!("{name} {:?}", row.unwrap()));
        let mut lines: Vec<String> = lines.collect();
        lines.sort();
        all.extend(lines);
    }
    all
}

/// Changes an index by hand, as no record does; answers how many rows.
#[must_use]
pub fn change(dir: &Path, sql: &str) -> usize {
    let conn = Connection::open(schema::path(dir)).unwrap();
    conn.busy_timeout(std::time::Duration::from_secs(10)).unwrap();
    conn.set_db_config(rusqlite::config::DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).unwrap();
    conn.execute(sql, []).unwrap()
}
