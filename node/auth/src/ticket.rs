//! Tickets: what an administrator's tool logs in with to act for an account whose password it does not know. A ticket
//! is sealed with a key of this process and ends by itself, so nothing is kept of it anywhere.

use std::time::{Duration, Instant};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use mailcluster_types::AccountId;
use ring::hmac;

/// What every ticket starts with, so that no cache of passwords keeps one beyond its end.
const PREFIX: &str = "mcticket1.";

/// Makes tickets and knows its own again.
pub struct Tickets {
    key: hmac::Key,
    started: Instant,
}

impl Tickets {
    /// Under a fresh random key.
    ///
    /// # Errors
    /// When the operating system has no randomness to give.
    pub fn new(started: Instant) -> std::io::Result<Self> {
        let mut secret = [0; 32];
        getrandom::fill(&mut secret).map_err(std::io::Error::from)?;
        Ok(Self { key: hmac::Key::new(hmac::HMAC_SHA256, &secret), started })
    }

    /// A ticket for this account that can be used for `valid`.
    #[must_use]
    pub fn issue(&self, now: Instant, account: AccountId, valid: Duration) -> String {
        let ends = self.millis(now + valid);
        let seal = URL_SAFE_NO_PAD.encode(hmac::sign(&self.key, &sealed(account, ends)));
        format!("{PREFIX}{ends}.{seal}")
    }

    /// Is this a ticket of ours for this account that has not ended?
    #[must_use]
    pub fn admits(&self, now: Instant, account: AccountId, ticket: &str) -> bool {
        let Some((ends, seal)) = ticket.strip_prefix(PREFIX).and_then(|rest| rest.split_once('.')) else {
            return false;
        };
        let (Ok(ends), Ok(seal)) = (ends.parse(), URL_SAFE_NO_PAD.decode(seal)) else { return false };
        self.millis(now) < ends && hmac::verify(&self.key, &sealed(account, ends), &seal).is_ok()
    }

    fn millis(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.started).as_millis()).unwrap_or(u64::MAX)
    }
}

/// Has this the shape of a ticket? Whether it is one, only the directory that made it can say.
#[must_use]
pub fn is_ticket(password: &str) -> bool {
    password.starts_with(PREFIX)
}

fn sealed(account: AccountId, ends: u64) -> Vec<u8> {
    [account.to_bytes().as_slice(), &ends.to_be_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_is_for_one_account_one_process_and_one_while() {
        let start = Instant::now();
        let valid = Duration::from_secs(60);
        let (tickets, others) = (Tickets::new(start).unwrap(), Tickets::new(start).unwrap());
        let (ann, bob) = (AccountId(1), AccountId(2));
        let ticket = tickets.issue(start + Duration::from_secs(5), ann, valid);
        let at = |seconds| start + Duration::from_secs(seconds);
        assert!(is_ticket(&ticket) && ticket.len() < crate::MAX_PASSWORD);
        let later = ticket.replacen("65000", "99000", 1);
        assert_ne!(later, ticket);
        for (what, tickets, now, account, ticket, admitted) in [
            ("ours", &tickets, at(6), ann, ticket.as_str(), true),
            ("another account's", &tickets, at(6), bob, &ticket, false),
            ("another process's", &others, at(6), ann, &ticket, false),
            ("just before its end", &tickets, at(64), ann, &ticket, true),
            ("at its end", &tickets, at(65), ann, &ticket, false),
            ("with another end", &tickets, at(6), ann, &later, false),
            ("cut short", &tickets, at(6), ann, &ticket[..ticket.len() - 2], false),
            ("a password", &tickets, at(6), ann, "correct horse", false),
            ("nothing", &tickets, at(6), ann, "", false),
            ("a prefix", &tickets, at(6), ann, PREFIX, false),
        ] {
            assert_eq!(tickets.admits(now, account, ticket), admitted, "{what}");
        }
    }
}
