//! Sieve scripts: put, activated, deleted, renamed. That a script compiles is for who puts it.

use bytes::Bytes;
use mailcluster_types::AccountId;
use rusqlite::{OptionalExtension, params};

use super::{Plan, PlanError, Planned, Value};
use crate::{error::Refusal, ops::ScriptChange, record::PutSieve};

/// Most octets of a script.
pub const MAX_SCRIPT: usize = 128 << 10;
/// Most scripts of one account.
pub const MAX_SCRIPTS: u64 = 32;
/// Most octets of a name: 128 characters (RFC 5804 section 1.6) of four octets.
const MAX_NAME: usize = 512;

struct Held {
    text: Bytes,
    active: bool,
}

pub fn change(cx: &mut Plan<'_>, account: AccountId, change: ScriptChange) -> Result<Planned, PlanError> {
    let local = cx.own_account(account)?;
    let owner = account.to_bytes().to_vec();
    let put = |name: String, script: Option<Bytes>, active| PutSieve {
        account: owner.clone(),
        name,
        script,
        active,
    };
    let records = match change {
        ScriptChange::Put { name, text } => {
            let held = find(cx, local, check_name(&name)?)?;
            check_room(cx, local, text.len(), held.is_none())?;
            vec![put(name, Some(text), held.is_some_and(|held| held.active))]
        }
        ScriptChange::Activate(Some(name)) => {
            let held = find(cx, local, &name)?.ok_or(Refusal::NoSuchScript)?;
            if held.active { Vec::new() } else { vec![put(name, Some(held.text), true)] }
        }
        ScriptChange::Activate(None) => {
            let active = active(cx, local)?;
            active.into_iter().map(|(name, text)| put(name, Some(text), false)).collect()
        }
        ScriptChange::Delete(name) => {
            let held = find(cx, local, &name)?.ok_or(Refusal::NoSuchScript)?;
            if held.active {
                return Err(Refusal::ScriptIsActive.into());
            }
            vec![put(name, None, false)]
        }
        ScriptChange::Rename { from, to } => {
            let held = find(cx, local, &from)?.ok_or(Refusal::NoSuchScript)?;
            if from == to {
                return Ok(Planned::nothing(Value::Done));
            }
            if find(cx, local, check_name(&to)?)?.is_some() {
                return Err(Refusal::AlreadyExists.into());
            }
            vec![put(from, None, false), put(to, Some(held.text), held.active)]
        }
    };
    let records = records.into_iter().map(|record| (record.into(), Bytes::new())).collect();
    Ok(Planned { records, value: Value::Done })
}

/// RFC 5804 section 1.6: Net-Unicode without control characters and line separators.
fn check_name(name: &str) -> Result<&str, Refusal> {
    let is_forbidden = |c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}');
    if name.is_empty() || name.len() > MAX_NAME {
        return Err(Refusal::BadName("a script's name has 1 to 512 octets"));
    }
    if name.chars().any(is_forbidden) {
        return Err(Refusal::BadName("a script's name has no control characters"));
    }
    Ok(name)
}

fn check_room(cx: &Plan<'_>, account: i64, octets: usize, is_new: bool) -> Result<(), PlanError> {
    if octets > MAX_SCRIPT {
        return Err(Refusal::TooLarge { limit: MAX_SCRIPT as u64 }.into());
    }
    let count: u64 = cx
        .conn
        .prepare_cached("SELECT count(*) FROM sieve WHERE account=?")?
        .query_row([account], |r| r.get(0))?;
    if is_new && count >= MAX_SCRIPTS {
        return Err(Refusal::TooManyScripts { limit: MAX_SCRIPTS }.into());
    }
    Ok(())
}

fn find(cx: &Plan<'_>, account: i64, name: &str) -> Result<Option<Held>, PlanError> {
    Ok(cx
        .conn
        .prepare_cached("SELECT script, active FROM sieve WHERE account=? AND name=?")?
        .query_row(params![account, name], |r| {
            Ok(Held { text: r.get::<_, Vec<u8>>(0)?.into(), active: r.get(1)? })
        })
        .optional()?)
}

fn active(cx: &Plan<'_>, account: i64) -> Result<Option<(String, Bytes)>, PlanError> {
    Ok(cx
        .conn
        .prepare_cached("SELECT name, script FROM sieve WHERE account=? AND active<>0")?
        .query_row([account], |r| Ok((r.get(0)?, r.get::<_, Vec<u8>>(1)?.into())))
        .optional()?)
}
