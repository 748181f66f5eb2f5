//! Accounts that only have to be there: they have a hash from elsewhere, and nobody logs in with it.

use std::{fmt::Write, ops::Range};

use anyhow::Result;

const HASH: &str = "{SSHA}5pcxo13YdJml98eQSIlT3FMEBMMBAgME";

/// An account's address.
pub fn address(n: usize, domain: &str) -> String {
    format!("user{n:07}@{domain}")
}

/// What `account import` reads.
pub fn csv(numbers: Range<usize>, domain: &str) -> Result<String> {
    let mut text = String::from("address,password,quota_octets\n");
    for n in numbers {
        writeln!(text, "{},{HASH},1000000000", address(n, domain))?;
    }
    Ok(text)
}
