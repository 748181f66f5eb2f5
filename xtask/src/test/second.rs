//! A scenario on the lab that failed is tried a second time, once for each table and on a new lab, and the summary says so.
//! Not where mail was lost or doubled, or clients were told something wrong: that has happened, whatever a second try
//! shows. See docs/decisions/0031.

use mailcluster_e2e::BROKEN;

use crate::tally::Count;

/// Why the scenarios after a failed one were left out.
const AFTER_IT: &str = " failed before it";

/// The scenario that may be tried again: the only one that failed.
pub fn may_be_tried(first: &Count) -> Option<String> {
    let [failure] = &first.failures[..] else { return None };
    let (name, why) = failure.split_once(": ")?;
    (first.failed == 1 && !why.contains(BROKEN)).then(|| name.to_owned())
}

/// What both tries come to. What failed both times is told with both reasons.
pub fn joined(first: Count, again: Count) -> Count {
    let Count { passed, left_out, failures, .. } = first;
    let mut sum = Count { passed: passed + again.passed, ..again };
    sum.left_out.splice(0..0, left_out.into_iter().filter(|what| !what.ends_with(AFTER_IT)));
    let failed_again =
        |what: &String| sum.failures.iter().any(|other| other.split(": ").next() == what.split(": ").next());
    let (twice, once): (Vec<String>, Vec<String>) = failures.into_iter().partition(failed_again);
    // Where nothing passed the second time, nothing is known of the scenario but its first failure.
    if sum.passed == passed {
        sum.failures.extend(once);
        sum.failed = sum.failed.max(1);
    } else {
        sum.second_tries.extend(once);
    }
    sum.failures.extend(twice.into_iter().map(|what| format!("{what} (the first time)")));
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(passed: u64, failures: &[&str], left_out: &[&str]) -> Count {
        let owned = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect();
        let failed = failures.len() as u64;
        let (left_out, failures) = (owned(left_out), owned(failures));
        Count { passed, failed, left_out, failures, ..Count::default() }
    }

    #[test]
    fn only_one_failure_that_broke_no_promise_may_be_tried_again() {
        let broken = format!("f01: after it: {BROKEN}: 2 lost");
        for (failures, wanted) in [
            (&[][..], None),
            (&["f01: too late: 9 s"], Some("f01")),
            (&["f01: too late", "f02: too late"], None),
            (&[broken.as_str()], None),
            // It did not get to a scenario.
            (&["stores_move"], None),
        ] {
            assert_eq!(may_be_tried(&count(3, failures, &[])).as_deref(), wanted, "{failures:?}");
        }
        let unnamed = Count { failed: 2, ..count(3, &["f01: too late"], &[]) };
        assert_eq!(may_be_tried(&unnamed), None, "something else failed too");
    }

    #[test]
    fn the_summary_tells_both_tries() {
        let first = || count(3, &["b: late: 9 s"], &["x: no lab", "c: b failed before it"]);
        let passed = joined(first(), count(2, &[], &["y: no lab"]));
        assert_eq!((passed.passed, passed.failed), (5, 0));
        assert_eq!(passed.left_out, ["x: no lab", "y: no lab"]);
        assert_eq!((passed.second_tries, passed.failures), (vec!["b: late: 9 s".into()], vec![]));

        let twice = joined(first(), count(0, &["b: worse"], &["c: b failed before it"]));
        assert_eq!((twice.passed, twice.failed, twice.second_tries), (3, 1, vec![]));
        assert_eq!(twice.failures, ["b: worse", "b: late: 9 s (the first time)"]);

        let another = joined(first(), count(1, &["c: late"], &[]));
        assert_eq!((another.failed, another.failures), (1, vec!["c: late".into()]));
        assert_eq!(another.second_tries, ["b: late: 9 s"]);

        let nothing = joined(first(), count(0, &["stores_move"], &[]));
        assert_eq!((nothing.failed, nothing.second_tries.len(), nothing.failures.len()), (1, 0, 2));
        let silent = joined(first(), count(0, &[], &[]));
        assert_eq!((silent.failed, silent.failures), (1, vec!["b: late: 9 s".into()]));
    }
}
