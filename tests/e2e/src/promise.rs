//! How a failed scenario tells what no second try may excuse.

/// What a failure begins with that is about mail or about what clients were told: lost, twice, or against IMAP's rules.
pub const BROKEN: &str = "a promise is broken";
