//! Tests against values: match types, comparators, address parts, which field, which zone.

use crate::holds;

const ALL: &str = r#"require ["relational", "comparator-i;ascii-numeric", "subaddress", "envelope", "index", "date", "variables"];"#;

#[test]
fn match_types() {
    for (kind, value, key, expected) in [
        (":is", "frobnitzm", "frobnitzm", true),
        (":is", "frobnitzm", "frob", false),
        (":is", "", "", true),
        (":contains", "frobnitzm", "frob", true),
        (":contains", "frobnitzm", "nit", true),
        (":contains", "frobnitzm", "fbm", false),
        (":contains", "frobnitzm", "", true),
        (":matches", "frobnitzm", "frob*", true),
        (":matches", "frobnitzm", "*nit*", true),
        (":matches", "frobnitzm", "frob?itzm", true),
        (":matches", "frobnitzm", "frob", false),
        (":matches", "frobnitzm", "*frob", false),
        (":matches", "frobnitzm", "frobnitzm?", false),
        (":matches", "", "", true),
        (":matches", "", "*", true),
        (":matches", "", "?", false),
        (":matches", "abab", "*ab", true),
        (":matches", "aab", "a*ab", true),
        (":matches", "ab", "ab*ab", false),
        (":matches", "a*b", r"a\\*b", true),
        (":matches", "axb", r"a\\*b", false),
        (":matches", "a?b", r"a\\?b", true),
        (":matches", "axb", r"a\\?b", false),
        (":matches", r"a\\b", r"a\\\\b", true),
        (":matches", r"a\\", r"a\\", true),
        (":matches", "é", "?", false),
        (":matches", "é", "??", true),
        (":value \\\"gt\\\"", "b", "a", true),
        (":value \\\"lt\\\"", "b", "a", false),
        (":value \\\"ne\\\"", "b", "B", false),
        (":value \\\"ge\\\"", "b", "B", true),
        // Letters are compared as capitals, which `_` is behind.
        (":value \\\"lt\\\"", "a", "_", true),
    ] {
        let kind = kind.replace('\\', "");
        let test = format!("string {kind} \"{value}\" \"{key}\"");
        assert_eq!(holds(ALL, &test, ""), expected, "{test}");
    }
}

#[test]
fn comparators() {
    for (comparator, kind, value, key, expected) in [
        ("i;octet", ":is", "Abc", "abc", false),
        ("i;octet", ":contains", "Abc", "bc", true),
        ("i;octet", ":matches", "Abc", "a*", false),
        ("i;octet", ":value \"lt\"", "Z", "a", true),
        ("i;ascii-casemap", ":is", "Abc", "aBC", true),
        ("i;ascii-casemap", ":contains", "xAbCx", "aBc", true),
        ("i;ascii-casemap", ":matches", "xAbCx", "?aBc?", true),
        ("i;ascii-casemap", ":is", "É", "é", false),
        ("i;ascii-casemap", ":value \"lt\"", "Z", "a", false),
        // RFC 4790 section 9.1
        ("i;ascii-numeric", ":value \"lt\"", "0", "1", true),
        ("i;ascii-numeric", ":value \"lt\"", "1", "4294967298", true),
        ("i;ascii-numeric", ":is", "4294967298", "04294967298", true),
        ("i;ascii-numeric", ":is", "4294967298", "4294967298b", true),
        ("i;ascii-numeric", ":value \"lt\"", "04294967298", "", true),
        ("i;ascii-numeric", ":is", "", "x", true),
        ("i;ascii-numeric", ":is", "x", "y", true),
        ("i;ascii-numeric", ":is", "0", "00", true),
        ("i;ascii-numeric", ":is", "10", "1", false),
        ("i;ascii-numeric", ":value \"gt\"", "99999999999999999999999", "9999999999999999999999", true),
    ] {
        let test = format!("string {kind} :comparator \"{comparator}\" \"{value}\" \"{key}\"");
        assert_eq!(holds(ALL, &test, ""), expected, "{test}");
    }
}

const MAIL: &str = "From: \"The Boss, really\" <Boss+list@Example.ORG> (not him)
To: friends: ann@a.example, \"Bob\" <bob@b.example>;
Cc: undisclosed
Cc: carl@c.example
Sender:
Subject: =?ISO-8859-1?Q?gr=FCn?= und
  =?utf-8?B?YmxhdQ==?=
X-Folded: one
\ttwo
X-Space :  padded \t
X-Twice: first
X-Twice: second
X-Twice: third
Received: from a by b; Fri, 04 Jul 2008 23:30:05 -0230
Received: from c by d; Thu, 03 Jul 2008 10:00:00 +0000
Date: Fri, 04 Jul 2008 23:30:05 -0230

Text.
";

#[test]
fn header_fields() {
    for (test, expected) in [
        (r#"header "subject" "grün und  blau""#, true),
        (r#"header :contains "SUBJECT" "GRüN""#, true),
        (r#"header "x-folded" "one	two""#, true),
        (r#"header "x-space" "padded""#, true),
        (r#"header "x-space:" "padded""#, false),
        (r#"header :contains "not a name" """#, false),
        (r#"header :contains "" """#, false),
        (r#"header ["x-none", "x-twice"] ["none", "third"]"#, true),
        (r#"header :index 2 "x-twice" "second""#, true),
        (r#"header :index 2 "x-twice" "first""#, false),
        (r#"header :index 1 :last "x-twice" "third""#, true),
        (r#"header :last :index 3 "x-twice" "first""#, true),
        (r#"header :index 4 "x-twice" ["first", "second", "third"]"#, false),
        (r#"header :index 4 :last "x-twice" ["first", "second", "third"]"#, false),
        (r#"header :index 2 ["x-space", "x-twice"] "first""#, true),
        (r#"header :index 99999999999 :contains "x-twice" """#, false),
        (r#"header :count "eq" "x-twice" "3""#, true),
        (r#"header :count "eq" :index 2 "x-twice" "1""#, true),
        (r#"header :count "eq" "x-none" "0""#, true),
        (r#"exists ["from", "to", "sender"]"#, true),
        (r#"exists ["from", "x-none"]"#, false),
        (r#"exists "from:""#, false),
    ] {
        assert_eq!(holds(ALL, test, MAIL), expected, "{test}");
    }
}

#[test]
fn address_parts() {
    for (test, expected) in [
        (r#"address "from" "boss+list@example.org""#, true),
        (r#"address :all :comparator "i;octet" "from" "Boss+list@Example.ORG""#, true),
        (r#"address :contains "from" "really""#, false),
        (r#"address :localpart "from" "boss+list""#, true),
        (r#"address :domain "from" "example.org""#, true),
        (r#"address :user "from" "boss""#, true),
        (r#"address :detail "from" "list""#, true),
        (r#"address :detail :contains "to" """#, false),
        (r#"address :domain ["from", "to"] "b.example""#, true),
        (r#"address :contains "to" "friends""#, false),
        (r#"address "cc" "undisclosed""#, true),
        (r#"address :localpart "cc" "undisclosed""#, false),
        (r#"address :index 1 "cc" "carl@c.example""#, false),
        (r#"address :index 2 "cc" "carl@c.example""#, true),
        (r#"address :index 1 :last "cc" "carl@c.example""#, true),
        (r#"address :contains "sender" """#, false),
        (r#"address :count "eq" ["to", "cc"] "3""#, true),
        (r#"address :contains "x-none" """#, false),
        (r#"address :contains "no name:" """#, false),
        (r#"envelope "from" "TIM@example.com""#, true),
        (r#"envelope :domain ["from", "TO"] "example.org""#, true),
        (r#"envelope :count "eq" ["from", "to"] "2""#, true),
    ] {
        assert_eq!(holds(ALL, test, MAIL), expected, "{test}");
    }
}

#[test]
fn the_null_sender_is_the_empty_string() {
    use crate::{mail, run_with, tell};
    let context = mailcluster_sieve::Context { sender: "", ..mail::context(mail::ACCOUNT) };
    for (test, expected) in [
        (r#"envelope "from" """#, true),
        (r#"envelope :domain "from" """#, true),
        (r#"envelope :localpart :contains "from" """#, true),
        (r#"envelope :matches "from" "?*""#, false),
        (r#"envelope :count "eq" "from" "0""#, true),
    ] {
        let script = format!("{ALL} if {test} {{ discard; }}");
        assert_eq!(tell(&run_with(&script, MAIL, &context)) == "discard", expected, "{test}");
    }
}

#[test]
fn date_parts() {
    for (test, expected) in [
        (r#"date :originalzone "date" "date" "2008-07-04""#, true),
        (r#"date :zone "+0000" "date" "date" "2008-07-05""#, true),
        (r#"date "date" "date" "2008-07-04""#, true),
        (r#"date "date" "zone" "-0500""#, true),
        (r#"date "date" "hour" "21""#, true),
        (r#"date :originalzone "date" "ZONE" "-0230""#, true),
        (r#"date :zone "+0530" "date" "zone" "+0530""#, true),
        (r#"date :zone "+0000" "date" "iso8601" "2008-07-05t02:00:05z""#, true),
        (r#"date :originalzone "date" "std11" "Fri, 04 Jul 2008 23:30:05 -0230""#, true),
        (r#"date :originalzone :comparator "i;ascii-numeric" "date" "julian" "54651""#, true),
        (r#"date :originalzone "date" "weekday" "5""#, true),
        (r#"date :originalzone "received" "day" "04""#, true),
        (r#"date :originalzone :index 2 "received" "day" "03""#, true),
        (r#"date :originalzone :index 1 :last "received" "day" "03""#, true),
        (r#"date :contains :index 3 "received" "day" """#, false),
        (r#"date :contains "subject" "day" """#, false),
        (r#"date :contains "x-none" "day" """#, false),
        (r#"date :count "eq" "date" "day" "1""#, true),
        (r#"date :count "eq" "subject" "day" "0""#, true),
        (r#"currentdate "date" "2026-07-04""#, true),
        (r#"currentdate :zone "+0300" "date" "2026-07-05""#, true),
        (r#"currentdate "zone" "-0500""#, true),
        (r#"currentdate :count "eq" "date" "1""#, true),
    ] {
        assert_eq!(holds(ALL, test, MAIL), expected, "{test}");
    }
}

#[test]
fn sizes() {
    let mail = format!("X: y\n\n{}", "x".repeat(3992));
    for (test, expected) in [
        ("size :over 4000", false),
        ("size :under 4000", false),
        ("size :over 3999", true),
        ("size :under 4001", true),
        ("size :under 4K", true),
        ("size :over 4k", false),
        ("size :under 1G", true),
        ("size :over 2147483647", false),
    ] {
        assert_eq!(holds("", test, &mail), expected, "{test}");
    }
}
