//! Messages that are here: flags, expunging, copying.

use std::collections::{BTreeMap, BTreeSet};

use mailcluster_types::Uid;
use rusqlite::{OptionalExtension, params};

use super::{Plan, PlanError, Planned, Value, take_uids, undelete};
use crate::{
    error::Refusal,
    model::{Flags, SystemFlag},
    ops::{Copied, CopyKind, Expunge, FlagChange, FlagOp, FlagsChanged},
    record::{self, FlagGroup, SetFlags},
};

const MAX_KEYWORDS: usize = 64;
const MAX_KEYWORD: usize = 64;

/// Refuses keywords that IMAP could not have sent, and too many of them.
pub fn check_keywords(keywords: &BTreeSet<String>) -> Result<(), Refusal> {
    if keywords.len() > MAX_KEYWORDS {
        return Err(Refusal::NotAllowed("a message has at most 64 keywords"));
    }
    let bad = |k: &String| {
        k.is_empty() || k.len() > MAX_KEYWORD || k.chars().any(|c| c.is_whitespace() || c.is_control())
    };
    if keywords.iter().any(bad) {
        return Err(Refusal::NotAllowed("a keyword has 1 to 64 octets and no blanks"));
    }
    Ok(())
}

/// Reads the column that [`crate::apply`] writes.
pub fn parse_keywords(column: Option<String>) -> BTreeSet<String> {
    column.map(|c| c.split(' ').map(str::to_owned).collect()).unwrap_or_default()
}

/// The flags after a STORE. Keywords are compared without case and keep their first spelling.
pub fn change(old: &Flags, op: FlagOp, by: &Flags) -> Flags {
    let same = |a: &str, b: &str| a.eq_ignore_ascii_case(b);
    let in_set = |set: &BTreeSet<String>, k: &str| set.iter().any(|other| same(other, k));
    match op {
        FlagOp::Replace => {
            let kept = old.keywords.iter().filter(|k| in_set(&by.keywords, k)).cloned();
            let new = by.keywords.iter().filter(|k| !in_set(&old.keywords, k)).cloned();
            Flags { system: by.system, keywords: kept.chain(new).collect() }
        }
        FlagOp::Add => {
            let new = by.keywords.iter().filter(|k| !in_set(&old.keywords, k)).cloned();
            Flags {
                system: old.system | by.system,
                keywords: old.keywords.iter().cloned().chain(new).collect(),
            }
        }
        FlagOp::Remove => Flags {
            system: old.system & !by.system,
            keywords: old.keywords.iter().filter(|k| !in_set(&by.keywords, k)).cloned().collect(),
        },
    }
}

fn sorted(mut uids: Vec<Uid>) -> Vec<Uid> {
    uids.sort_unstable();
    uids.dedup();
    uids
}

pub fn set_flags(cx: &mut Plan<'_>, request: FlagChange) -> Result<Planned, PlanError> {
    let mailbox = cx.mailbox(request.mailbox)?;
    check_keywords(&request.flags.keywords)?;
    let modseq = cx.next.next_modseq(cx.epoch);
    let mut answer = FlagsChanged::default();
    let mut groups: BTreeMap<(u8, BTreeSet<String>), Vec<Uid>> = BTreeMap::new();
    let mut select =
        cx.conn.prepare_cached("SELECT modseq, system, keywords FROM message WHERE mailbox=? AND uid=?")?;
    for uid in sorted(request.uids) {
        let row = select
            .query_row(params![mailbox.id, uid], |r| {
                let old = Flags { system: r.get(1)?, keywords: parse_keywords(r.get(2)?) };
                Ok((r.get::<_, u64>(0)?, old))
            })
            .optional()?;
        let Some((was, old)) = row else { continue };
        if request.unchanged_since.is_some_and(|since| was > since) {
            answer.modified.push(uid);
            continue;
        }
        let new = change(&old, request.op, &request.flags);
        check_keywords(&new.keywords)?;
        if new == old {
            answer.now.push((uid, was, old));
            continue;
        }
        groups.entry((new.system, new.keywords.clone())).or_default().push(uid);
        answer.now.push((uid, modseq, new));
    }
    if groups.is_empty() {
        return Ok(Planned::nothing(Value::Flags(answer)));
    }
    let groups = groups
        .into_iter()
        .map(|((system, keywords), uids)| FlagGroup {
            system: system.into(),
            keywords: keywords.into_iter().collect(),
            uids,
        })
        .collect();
    Ok(Planned::one(SetFlags { mailbox: mailbox.id, modseq, groups }, Value::Flags(answer)))
}

pub fn expunge(cx: &mut Plan<'_>, mailbox: u64, which: Expunge) -> Result<Planned, PlanError> {
    let mailbox = cx.mailbox(mailbox)?;
    let uids = match which {
        Expunge::AllDeleted => cx
            .conn
            .prepare_cached("SELECT uid FROM message WHERE mailbox=? AND (system & 8) <> 0 ORDER BY uid")?
            .query_map([mailbox.id], |r| r.get(0))?
            .collect::<Result<Vec<Uid>, _>>()?,
        Expunge::Deleted(uids) => present(cx, mailbox.id, uids)?
            .into_iter()
            .filter(|m| m.system & SystemFlag::Deleted as u8 != 0)
            .map(|m| m.uid)
            .collect(),
        Expunge::These(uids) => present(cx, mailbox.id, uids)?.into_iter().map(|m| m.uid).collect(),
    };
    if uids.is_empty() {
        return Ok(Planned::nothing(Value::Expunged(uids)));
    }
    let record = undelete::gone(cx, mailbox.id, uids.clone());
    Ok(Planned::one(record, Value::Expunged(uids)))
}

struct Present {
    uid: Uid,
    system: u8,
    size: u64,
}

/// Those that exist, ascending.
fn present(cx: &Plan<'_>, mailbox: u64, uids: Vec<Uid>) -> Result<Vec<Present>, PlanError> {
    let mut select = cx.conn.prepare_cached("SELECT system, size FROM message WHERE mailbox=? AND uid=?")?;
    let mut found = Vec::new();
    for uid in sorted(uids) {
        let row = select
            .query_row(params![mailbox, uid], |r| Ok(Present { uid, system: r.get(0)?, size: r.get(1)? }))
            .optional()?;
        found.extend(row);
    }
    Ok(found)
}

pub fn copy(
    cx: &mut Plan<'_>,
    (from, to): (u64, u64),
    uids: Vec<Uid>,
    kind: CopyKind,
) -> Result<Planned, PlanError> {
    let (source, target) = (cx.mailbox(from)?, cx.mailbox(to)?);
    let found = present(cx, source.id, uids)?;
    let uid_validity = target.uid_validity;
    if found.is_empty() {
        return Ok(Planned::nothing(Value::Copied(Copied { uid_validity, pairs: Vec::new() })));
    }
    if kind == CopyKind::Copy || source.account != target.account {
        cx.check_quota(target.account, found.iter().map(|m| m.size).sum())?;
    }
    let first_uid = take_uids(target.uid_next, found.len())?;
    let modseq = cx.next.next_modseq(cx.epoch);
    let moved_modseq = if kind == CopyKind::Move { cx.next.next_modseq(cx.epoch) } else { 0 };
    let uids: Vec<Uid> = found.iter().map(|m| m.uid).collect();
    let pairs = uids.iter().copied().zip(first_uid..).collect();
    let record =
        record::Copy { from: source.id, to: target.id, uids, first_uid, modseq, moved_modseq, at: cx.now };
    Ok(Planned::one(record, Value::Copied(Copied { uid_validity, pairs })))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags(system: u8, keywords: &[&str]) -> Flags {
        Flags { system, keywords: keywords.iter().map(|k| (*k).to_owned()).collect() }
    }

    #[test]
    fn store_changes_flags_and_keeps_spellings() {
        use FlagOp::{Add, Remove, Replace};
        let table = [
            (flags(1, &["Work"]), Add, flags(4, &["work", "$Junk"]), flags(5, &["$Junk", "Work"])),
            (flags(5, &["Work", "x"]), Remove, flags(4, &["WORK"]), flags(1, &["x"])),
            (flags(5, &["Work", "x"]), Replace, flags(2, &["work"]), flags(2, &["Work"])),
            (flags(0, &[]), Replace, flags(0, &["a"]), flags(0, &["a"])),
        ];
        for (old, op, by, new) in table {
            assert_eq!(change(&old, op, &by), new, "{old:?} {op:?} {by:?}");
        }
    }

    #[test]
    fn keywords_are_bounded() {
        let set = |k: &[String]| k.iter().cloned().collect::<BTreeSet<_>>();
        assert!(check_keywords(&set(&["$Forwarded".into()])).is_ok());
        assert!(check_keywords(&set(&["a b".into()])).is_err());
        assert!(check_keywords(&set(&[String::new()])).is_err());
        assert!(check_keywords(&set(&["x".repeat(65)])).is_err());
        assert!(check_keywords(&(0..65).map(|n| n.to_string()).collect()).is_err());
    }
}
