//! A real client's mail: swaks through the frontends' Service, each message written down by what swaks was told.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Result, bail};
use mailcluster_interop::{ClientRoot, Ran};
use mailcluster_test_clients::{Ledger, Outcome, message};

/// The longest that swaks waits for an answer.
const PATIENCE: u32 = 20;
/// So often a message is offered anew while a node is down.
const TRIES: u32 = 10;

/// Sends by swaks.
pub struct Letters {
    root: ClientRoot,
    server: SocketAddr,
}

/// A message that was accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sent {
    /// To whom.
    pub to: String,
    /// The cluster's id of the delivery, from the 250.
    pub id: String,
}

impl Letters {
    /// Sends to this server.
    ///
    /// # Errors
    /// When swaks cannot be had.
    pub fn to(server: SocketAddr) -> Result<Self> {
        Ok(Self { root: ClientRoot::ensure()?, server })
    }

    /// One message; answers its delivery id when it was accepted.
    ///
    /// # Errors
    /// When swaks could not do its part.
    pub fn send(&self, token: &str, to: &str, ledger: &mut Ledger) -> Result<Option<Sent>> {
        let line = format!(
            "swaks --server {} --timeout {PATIENCE} --tls-optional --from joe@elsewhere.test --to {to} --data -",
            self.server
        );
        // swaks ends the last line itself.
        let ran = self.root.shell(&line, message(token, 1024).trim_ascii_end(), 3 * PATIENCE)?;
        let outcome = outcome(&ran)?;
        ledger.record(token, to, outcome);
        let id = delivery_id(&ran.output).filter(|_| outcome == Outcome::Accepted);
        Ok(id.map(|id| Sent { to: to.to_owned(), id }))
    }

    /// A message to each of these, offered until it is accepted, as a mail server would do.
    ///
    /// # Errors
    /// When swaks could not do its part.
    pub fn send_until_accepted(
        &self,
        name: &str,
        to: &[String],
        say: impl Fn(&str),
    ) -> Result<(Ledger, Vec<Sent>)> {
        let (mut ledger, mut sent) = (Ledger::default(), Vec::new());
        for (n, to) in to.iter().enumerate() {
            for tried in 1..=TRIES {
                // A try without an answer may have been accepted: the next one is another message.
                if let Some(letter) = self.send(&format!("{name}-{n}-{tried}"), to, &mut ledger)? {
                    say(&format!("swaks to {to}: accepted as {} at try {tried}", letter.id));
                    sent.push(letter);
                    break;
                }
                say(&format!("swaks to {to}: not accepted at try {tried}"));
                std::thread::sleep(Duration::from_secs(1));
            }
        }
        Ok((ledger, sent))
    }
}

/// What swaks was told, by its exit code (`man swaks`).
fn outcome(ran: &Ran) -> Result<Outcome> {
    match ran.code {
        // 27: only the QUIT went wrong.
        Some(0 | 27) => Ok(Outcome::Accepted),
        // The message itself was not sent.
        Some(2 | 21..=25 | 29) => Ok(Outcome::Refused),
        // Refused after the message, or no answer to it.
        Some(26) if ran.output.lines().any(is_refusal) => Ok(Outcome::Refused),
        // Closed, or not in time.
        Some(6 | 26 | 124) => Ok(Outcome::Ambiguous),
        code => bail!("swaks ended with {code:?}: {}", ran.output),
    }
}

/// `<** 550 …`, inside TLS `<~* 550 …`.
fn is_refusal(line: &str) -> bool {
    let reply = line.strip_prefix("<** ").or_else(|| line.strip_prefix("<~* "));
    reply.is_some_and(|reply| reply.starts_with(['4', '5']))
}

/// `250 2.0.0 accepted id=…`
fn delivery_id(output: &str) -> Option<String> {
    let (_, rest) = output.split_once("accepted id=")?;
    Some(rest.split_whitespace().next()?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_swaks_was_told_is_known() {
        for (code, output, expected) in [
            (0, "<~  250 2.0.0 accepted id=abc", Outcome::Accepted),
            (2, "*** Error connecting to 10.0.0.1:25", Outcome::Refused),
            (24, "<~* 451 4.4.3 try later", Outcome::Refused),
            (26, "<~* 452 4.3.1 full", Outcome::Refused),
            (26, "<** Timeout (20 secs) waiting for server response", Outcome::Ambiguous),
            (6, "*** Remote host closed connection unexpectedly.", Outcome::Ambiguous),
            (124, "", Outcome::Ambiguous),
        ] {
            let ran = Ran { success: code == 0, code: Some(code), output: output.to_owned() };
            assert_eq!(outcome(&ran).unwrap(), expected, "{code} {output}");
        }
        let missing = Ran { success: false, code: Some(127), output: "sh: swaks: not found".to_owned() };
        assert!(outcome(&missing).is_err());
    }

    #[test]
    fn the_delivery_id_stands_in_the_reply() {
        let output = "<~  250 2.0.0 accepted id=0198c0ffee\n ~> QUIT\n";
        assert_eq!(delivery_id(output).as_deref(), Some("0198c0ffee"));
        assert_eq!(delivery_id("<~  250 2.0.0 ok\n"), None);
    }
}
