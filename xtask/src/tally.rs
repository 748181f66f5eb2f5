//! Counting what test programs print: Rust's own summaries, and the lines with which ours name what one `#[test]` has
//! tried (`e2e NAME ... ok`) or what was not tried (`left out NAME: WHY`).

/// How many tests ran.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Count {
    /// Passed.
    pub passed: u64,
    /// Failed.
    pub failed: u64,
    /// What was not run, each with the reason.
    pub left_out: Vec<String>,
    /// What failed, with the reason where the test's line says it.
    pub failures: Vec<String>,
    /// What passed at the second try only, with the reason of the first one's failure.
    pub second_tries: Vec<String>,
}

impl Count {
    /// As many passed, and nothing else.
    pub fn of(passed: u64) -> Self {
        Self { passed, ..Self::default() }
    }
}

impl std::ops::AddAssign for Count {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.left_out.extend(other.left_out);
        self.failures.extend(other.failures);
        self.second_tries.extend(other.second_tries);
    }
}

/// Reads the output of `cargo test`, line by line.
#[derive(Debug, Default)]
pub struct Tally {
    total: Count,
    /// What the program that runs now has named.
    named: Count,
}

impl Tally {
    /// The next line.
    pub fn read(&mut self, line: &str) {
        // Where tests run one by one, the first line of a test stands behind its name.
        let line = match line.strip_prefix("test ").and_then(|rest| rest.split_once(" ... ")) {
            Some((_, said)) if said.starts_with("e2e ") || said.starts_with("left out ") => said,
            _ => line,
        };
        if let Some(rest) = line.strip_prefix("e2e ") {
            let end = rest.split_once(" ... ").map_or("", |(_, end)| end);
            self.named.passed += u64::from(end.starts_with("ok"));
            if end.starts_with("FAILED") {
                self.named.failed += 1;
                self.named.failures.push(rest.replacen(" ... FAILED", "", 1));
            }
        } else if let Some(what) = line.strip_prefix("left out ") {
            self.named.left_out.push(what.to_owned());
        } else if let Some(name) =
            line.strip_prefix("test ").and_then(|rest| rest.strip_suffix(" ... FAILED"))
        {
            self.total.failures.push(name.to_owned());
        } else if let Some(summary) = summary(line) {
            let named = std::mem::take(&mut self.named);
            self.total += settle(summary, named);
        }
    }

    /// All of it.
    pub fn finish(self) -> Count {
        self.total
    }
}

/// A `#[test]` that names what it tries doesn't count itself; nor does one that tries nothing.
fn settle(summary: Count, named: Count) -> Count {
    if named == Count::default() {
        return summary;
    }
    let carrier = u64::from(summary.failed == 0);
    Count {
        passed: summary.passed.saturating_sub(carrier) + named.passed,
        // It may have failed before or after what it names.
        failed: summary.failed.max(named.failed),
        left_out: named.left_out,
        failures: named.failures,
        second_tries: Vec::new(),
    }
}

/// `test result: ok. 12 passed; 0 failed; …`
fn summary(line: &str) -> Option<Count> {
    let rest = line.strip_prefix("test result: ")?;
    let number = |what: &str| {
        rest.split([';', '.'])
            .find_map(|part| part.trim().strip_suffix(what)?.trim().parse().ok())
            .unwrap_or(0)
    };
    Some(Count { passed: number("passed"), failed: number("failed"), ..Count::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(text: &str) -> (u64, u64, usize) {
        let mut tally = Tally::default();
        text.lines().for_each(|line| tally.read(line));
        let count = tally.finish();
        (count.passed, count.failed, count.left_out.len())
    }

    #[test]
    fn what_failed_is_named() {
        let mut tally = Tally::default();
        for line in [
            "test a::b ... FAILED",
            "test c ... ok",
            "test result: FAILED. 1 passed; 1 failed; 0 ignored",
            "e2e d ... ok, 3 s",
            "e2e e ... FAILED: too late: 7 s",
            "test on_the_lab ... FAILED",
            "test result: FAILED. 0 passed; 1 failed; 0 ignored",
        ] {
            tally.read(line);
        }
        assert_eq!(tally.finish().failures, ["a::b", "on_the_lab", "e: too late: 7 s"]);
    }

    #[test]
    fn summaries_and_named_lines_are_counted() {
        let good =
            "test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 9.00s";
        let bad = "test result: FAILED. 0 passed; 1 failed; 0 ignored; 0 measured";
        for (text, expected) in [
            ("test foo ... ok\n".to_owned(), (0, 0, 0)),
            ("test result: FAILED. 12 passed; 3 failed; 0 ignored".to_owned(), (12, 3, 0)),
            (format!("e2e a ...\ne2e a ... ok, 3 s\ne2e b ...\ne2e b ... ok, 4 s\n{good}"), (2, 0, 0)),
            // The first of them fails, the others are not tried.
            (
                format!("e2e a ...\ne2e a ... FAILED\nleft out b: a failed\nleft out c: a failed\n{bad}"),
                (0, 1, 2),
            ),
            (format!("e2e a ...\ne2e a ... FAILED: too late\n{bad}"), (0, 1, 0)),
            // It did not get to the first.
            (bad.to_owned(), (0, 1, 0)),
            // It failed at the end of all.
            (format!("e2e a ... ok, 3 s\n{bad}"), (1, 1, 0)),
            (format!("test x ... left out x: no lab\nok\n{good}"), (0, 0, 1)),
            // Two programs: what one names does not change the other's.
            (format!("left out x: no lab\n{good}\n{good}"), (1, 0, 1)),
        ] {
            assert_eq!(counted(&text), expected, "{text}");
        }
    }
}
