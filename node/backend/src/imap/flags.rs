//! Flags between the wire and the store.

use mailcluster_proto_imap::Flag;
use mailcluster_store::{Flags, SystemFlag};

use super::reply::Fail;

/// Most keywords of a message (the store's bound).
const MAX_KEYWORDS: usize = 64;
/// Longest keyword in octets (the store's bound).
const MAX_KEYWORD: usize = 64;

/// System flags with their names, in the order they are told.
const NAMES: [(SystemFlag, &str); 5] = [
    (SystemFlag::Answered, "\\Answered"),
    (SystemFlag::Flagged, "\\Flagged"),
    (SystemFlag::Deleted, "\\Deleted"),
    (SystemFlag::Seen, "\\Seen"),
    (SystemFlag::Draft, "\\Draft"),
];

/// What SELECT tells: every system flag and the keywords that clients look for (IANA's registry); others may be set.
pub(super) const OFFERED: &str =
    "\\Answered \\Flagged \\Deleted \\Seen \\Draft $Forwarded $MDNSent $Junk $NotJunk $Phishing";

/// The store's flag for one on the wire; `None` for a keyword.
pub(super) fn system(flag: &Flag) -> Option<SystemFlag> {
    Some(match flag {
        Flag::Seen => SystemFlag::Seen,
        Flag::Answered => SystemFlag::Answered,
        Flag::Flagged => SystemFlag::Flagged,
        Flag::Deleted => SystemFlag::Deleted,
        Flag::Draft => SystemFlag::Draft,
        Flag::Keyword(_) => return None,
    })
}

/// Flags for the store.
pub(super) fn for_store(flags: &[Flag]) -> Result<Flags, Fail> {
    let mut out = Flags::default();
    for flag in flags {
        match (system(flag), flag) {
            (Some(system), _) => out.system |= system as u8,
            (None, Flag::Keyword(keyword)) if keyword.len() <= MAX_KEYWORD => {
                out.keywords.insert(keyword.clone());
            }
            _ => return Err(Fail::no("LIMIT", "a keyword has at most 64 octets")),
        }
    }
    if out.keywords.len() > MAX_KEYWORDS {
        return Err(Fail::no("LIMIT", "a message has at most 64 keywords"));
    }
    Ok(out)
}

/// `(\Seen Work)`
pub(super) fn write(out: &mut Vec<u8>, flags: &Flags) {
    let system = NAMES.iter().filter(|(flag, _)| flags.has(*flag)).map(|(_, name)| *name);
    let names: Vec<&str> = system.chain(flags.keywords.iter().map(String::as_str)).collect();
    out.push(b'(');
    out.extend_from_slice(names.join(" ").as_bytes());
    out.push(b')');
}
