//! What a person asks with `kubectl mailcluster store restore-lease`, as it stands on a MailStore.

/// The annotation of a MailStore that says it. Removed by the operator when it is done.
pub const ANNOTATION: &str = "mailcluster.io/restore-lease";

/// Its value when every copy is to be asked.
const ALL: &str = "true";
/// Before the ids of the copies that are left out, with commas between them.
const WITHOUT: &str = "without=";

/// The annotation's value, by the ids of the copies that are not to be waited for.
#[must_use]
pub fn value(without: &[String]) -> String {
    if without.is_empty() { ALL.to_owned() } else { format!("{WITHOUT}{}", without.join(",")) }
}

/// The ids of the copies that are not to be waited for; `None`: the value is not understood, and asks for nothing.
#[must_use]
pub fn without(value: &str) -> Option<Vec<String>> {
    if value == ALL {
        return Some(Vec::new());
    }
    let ids: Vec<String> = value.strip_prefix(WITHOUT)?.split(',').map(str::to_owned).collect();
    ids.iter().all(|id| !id.is_empty()).then_some(ids)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_read_as_it_was_written() {
        for ids in [vec![], vec!["aa"], vec!["aa", "bb"]] {
            let ids: Vec<String> = ids.into_iter().map(str::to_owned).collect();
            assert_eq!(without(&value(&ids)), Some(ids));
        }
        for other in ["", "yes", "aa", "without=", "without=aa,", "true,aa"] {
            assert_eq!(without(other), None, "{other}");
        }
    }
}
