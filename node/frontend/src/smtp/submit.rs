//! Whose a submitted message is (RFC 6409 section 6.1), and its signature.

use std::sync::Arc;

use bytes::Bytes;
use mailcluster_dkim::SignError;
use mailcluster_message::addresses;
use mailcluster_proto_smtp::Reply;
use mailcluster_types::{Address, Allowance, Resolution, ResolvedAccount, SigningKeys, Unavailable};

use super::{
    deliver::Item,
    envelope::{Refused, TRY_AGAIN},
    header::Header,
    session::Session,
};

/// Most addresses of a From field: each is a question to the directory.
const MAX_AUTHORS: usize = 10;

/// What is to be made of an address in From.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Author {
    /// The account's own.
    Own,
    /// Somebody else's in a domain of ours.
    Another,
    /// At another site, which says itself whom to believe.
    Foreign,
}

/// The domain that answers for a message by its authors: From's when all of it is the account's, the envelope's, which is
/// the account's always, when From is of other sites; none when it names somebody else of ours.
fn domain_of<'a>(authors: &[(&'a str, Author)], envelope: &'a str) -> Option<&'a str> {
    if authors.iter().any(|(_, author)| *author == Author::Another) {
        return None;
    }
    match authors.first() {
        Some((domain, _)) if authors.iter().all(|(_, author)| *author == Author::Own) => Some(domain),
        _ => Some(envelope),
    }
}

/// The addresses of From; an error says what is wrong with it.
fn authors(header: &Header<'_>) -> Result<Vec<Address>, &'static str> {
    let fields: Vec<_> = header.values("From").collect();
    let value = match fields.as_slice() {
        [] => return Ok(Vec::new()),
        [one] => one,
        _ => return Err("5.6.0 more than one From field"),
    };
    let mut found = Vec::new();
    for address in addresses(value) {
        // A group's name and its end are no addresses.
        let Some(host) = address.host else { continue };
        let local = address.mailbox.unwrap_or_default();
        let text = [&local[..], b"@", &host].concat();
        let parsed = std::str::from_utf8(&text).ok().and_then(|text| text.parse().ok());
        found.push(parsed.ok_or("5.6.0 From has something that is no address")?);
    }
    if found.is_empty() || found.len() > MAX_AUTHORS {
        return Err("5.6.0 From names nobody, or too many");
    }
    Ok(found)
}

impl Session {
    /// The domain that answers for a message from this account.
    pub(super) async fn answerable(
        &self,
        account: &ResolvedAccount,
        header: &Header<'_>,
        sender: &str,
    ) -> Result<String, Refused> {
        let addresses = authors(header).map_err(|text| (Reply::new(550, text), "malformed"))?;
        let mut authors = Vec::with_capacity(addresses.len());
        for address in &addresses {
            let author = self.author(account, address).await.map_err(|error| {
                tracing::warn!(session = %self.client.session, %error, "author could not be checked");
                (TRY_AGAIN, "unavailable")
            })?;
            authors.push((address.domain(), author));
        }
        let envelope = sender.rsplit_once('@').map_or("", |(_, domain)| domain);
        match domain_of(&authors, envelope) {
            Some(domain) => Ok(domain.to_owned()),
            None => Err((Reply::new(550, "5.7.1 the address in From is not yours"), "sender")),
        }
    }

    /// Counts a message for other sites against what its account may send.
    pub(super) async fn count(&self, account: &ResolvedAccount, items: &[Item]) -> Result<(), Refused> {
        let out = items.iter().filter(|item| matches!(item, Item::Out { .. })).count();
        let Ok(recipients @ 1..) = u32::try_from(out) else { return Ok(()) };
        match self.context.directory.count_sent(account.id, recipients).await {
            Ok(Allowance::Granted) => Ok(()),
            Ok(Allowance::Wait(seconds)) => {
                let text = format!("4.7.1 this account has sent what it may for now, wait {seconds} seconds");
                Err((Reply::with(450, text), "sending_limit"))
            }
            Ok(Allowance::Never) => {
                let text = "5.7.1 more recipients than this account may send to";
                Err((Reply::new(550, text), "sending_limit"))
            }
            Err(error) => {
                tracing::warn!(session = %self.client.session, %error, "message could not be counted");
                Err((TRY_AGAIN, "unavailable"))
            }
        }
    }

    async fn author(&self, account: &ResolvedAccount, address: &Address) -> Result<Author, Unavailable> {
        if self.context.directory.may_send_as(account.id, address).await? {
            return Ok(Author::Own);
        }
        Ok(match self.context.directory.resolve(address).await? {
            Resolution::NotLocal => Author::Foreign,
            Resolution::Accounts(_) | Resolution::NoSuchMailbox => Author::Another,
        })
    }

    /// What goes before `head`: its signatures, where `domain` has keys. Unsigned mail of a domain that signs is taken for
    /// forged by others: when it is not known whether there are keys, the client comes again.
    pub(super) async fn signatures(
        &self,
        domain: &str,
        head: Bytes,
        (body, at): ([u8; 32], i64),
    ) -> Result<Vec<u8>, Refused> {
        let keys = self.context.directory.signing_keys(domain).await.map_err(|error| {
            tracing::warn!(session = %self.client.session, %error, "keys could not be had");
            (TRY_AGAIN, "unavailable")
        })?;
        if keys.keys.is_empty() {
            return Ok(Vec::new());
        }
        sign(keys, head, body, at).await.map_err(|error| {
            tracing::warn!(session = %self.client.session, %error, domain, "message could not be signed");
            match error {
                SignError::Key => (TRY_AGAIN, "unavailable"),
                malformed => (Reply::with(550, format!("5.6.0 {malformed}")), "malformed"),
            }
        })
    }
}

/// On a thread where it may take milliseconds.
async fn sign(keys: Arc<SigningKeys>, head: Bytes, body: [u8; 32], at: i64) -> Result<Vec<u8>, SignError> {
    let signing = tokio::task::spawn_blocking(move || mailcluster_dkim::sign(&keys, &head, &body, at));
    signing.await.map_err(|_| SignError::Key)?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_domain_answers_for_its_own_people_only() {
        use Author::{Another, Foreign, Own};
        for (authors, expected) in [
            (&[("a.org", Own)][..], Some("a.org")),
            (&[("a.org", Own), ("b.org", Own)], Some("a.org")),
            (&[("a.org", Own), ("x.net", Foreign)], Some("envelope.org")),
            (&[("x.net", Foreign)], Some("envelope.org")),
            (&[("b.org", Another)], None),
            (&[("a.org", Own), ("b.org", Another)], None),
            (&[], Some("envelope.org")),
        ] {
            assert_eq!(domain_of(authors, "envelope.org"), expected, "{authors:?}");
        }
    }

    #[test]
    fn from_is_one_field_of_addresses() {
        for (header, expected) in [
            ("From: Ann <ann@a.org>\r\n", Ok(vec!["ann@a.org"])),
            ("from: \"x@y\" <ann@a.org>,\r\n b@b.org\r\n", Ok(vec!["ann@a.org", "b@b.org"])),
            ("From: staff: ann@a.org, b@b.org;\r\n", Ok(vec!["ann@a.org", "b@b.org"])),
            ("To: x\r\n", Ok(vec![])),
            ("From: a@b.c\r\nFrom: d@e.f\r\n", Err("5.6.0 more than one From field")),
            ("From: Ann\r\n", Err("5.6.0 From has something that is no address")),
            ("From: \r\n", Err("5.6.0 From names nobody, or too many")),
        ] {
            let header = Header::parse(header.as_bytes());
            let found = authors(&header).map(|all| all.iter().map(ToString::to_string).collect::<Vec<_>>());
            assert_eq!(found, expected.map(|all| all.into_iter().map(str::to_owned).collect()));
        }
    }
}
