//! What a script wants, as a part of the delivery.

use bytes::Bytes;
use mailcluster_message::{Message, header_fields, unfold};
use mailcluster_proto_smtp::{Reply, rfc5322_date};
use mailcluster_sieve::{Action, Notify, Outcome, Planned, Vacation};
use mailcluster_store::{Enqueue, Filing, Flags, InMailbox, QueueRecipient, ScriptMail, SeenId, SystemFlag};
use mailcluster_types::{AccountId, Address, DeliveryId, StoreName, Unavailable};

use super::{
    Ran, Sending,
    answer::{self, Head},
    ids::{self, Kind},
    leads::{Leads, leads},
};

/// Marks what a script has sent on, with the recipient that it was for.
const SENT_ON: &str = "X-Sieve-Redirected-From";
/// A message that scripts have sent on so often is not sent on once more.
const MAX_SENT_ON: usize = 10;
/// Nor is one with more Received fields: frontends take it for a loop soon.
const MAX_RECEIVED: usize = 40;
/// Octets of a message that is sent on: it stands in the batch twice.
const MAX_REDIRECT: usize = 64 << 20;
/// Lines and octets of a line of a reason that SMTP tells.
const REASON: (usize, usize) = (10, 400);
/// A user is told of a script that fails once in so many seconds.
const TOLD_AGAIN: i64 = 86_400;

/// What the delivery is about.
pub(crate) struct About<'a> {
    pub(crate) delivery: DeliveryId,
    pub(crate) account: AccountId,
    /// This store.
    pub(crate) store: &'a StoreName,
    pub(crate) sender: &'a str,
    pub(crate) recipient: &'a str,
    /// The mailbox for what is kept: INBOX, but for what checks think little of.
    pub(crate) kept_in: &'a str,
    /// Addresses or headers may be UTF-8.
    pub(crate) utf8: bool,
    pub(crate) at: i64,
    pub(crate) hostname: &'a str,
    pub(crate) message: &'a Message,
    pub(crate) sending: &'a Sending,
}

/// What an account's mail becomes.
#[derive(Debug)]
pub(crate) enum Wish {
    /// One copy, where mail goes without a script.
    Plain,
    /// What the script says.
    Filed(Box<Filing>),
    /// Refused, as the script says.
    Rejected(Reply),
    /// It cannot be decided now.
    Later,
}

/// Turns what came of a run into a part of the delivery.
pub(crate) async fn wish(about: &About<'_>, ran: Ran) -> Wish {
    let wished = match ran {
        Ran::Not => return Wish::Plain,
        Ran::Broken { own, script, why } => Ok(failed(about, &own, (&script, &why))),
        Ran::Through { own, script, outcome } => {
            log(about, &script, &outcome);
            match (&outcome.error, rejected(&outcome)) {
                (Some(error), _) => Ok(failed(about, &own, (&script, &error.to_string()))),
                (None, Some(reply)) => return Wish::Rejected(reply),
                (None, None) => file(about, &own, *outcome).await,
            }
        }
    };
    match wished {
        Ok(filing) => Wish::Filed(Box::new(filing)),
        Err(unavailable) => {
            tracing::warn!(id = %about.delivery, error = %unavailable, "a script's mail waits for the directory");
            Wish::Later
        }
    }
}

fn log(about: &About<'_>, script: &str, outcome: &Outcome) {
    let (id, rcpt, work) = (about.delivery, about.recipient, outcome.work);
    for skipped in &outcome.skipped {
        tracing::info!(%id, %rcpt, script, at = %skipped.at, why = skipped.why, "sieve: left out");
    }
    tracing::debug!(%id, %rcpt, script, work, actions = outcome.actions.len(), "sieve");
}

/// A refusal in the protocol, for `reject` as for `ereject`: whoever sends the mail tells its sender.
fn rejected(outcome: &Outcome) -> Option<Reply> {
    let reason = outcome.actions.iter().find_map(|planned| match &planned.action {
        Action::Reject { reason, .. } => Some(reason),
        _ => None,
    })?;
    let (most, longest) = REASON;
    let plain = |c: char| if c.is_ascii() && !c.is_ascii_control() { c } else { '?' };
    let lines = reason.lines().map(|line| line.chars().take(longest).map(plain).collect::<String>());
    let lines: Vec<String> = lines.take(most).map(|line| format!("5.7.1 {line}")).collect();
    let text = if lines.is_empty() { "5.7.1 refused by the recipient".to_owned() } else { lines.join("\n") };
    Some(Reply::with(550, text))
}

/// The message is kept, and the user told.
fn failed(about: &About<'_>, own: &str, (script, why): (&str, &str)) -> Filing {
    tracing::warn!(id = %about.delivery, rcpt = about.recipient, script, why, "a sieve script failed");
    let mut filing = Filing { into: vec![kept(about, Flags::default())], ..Filing::default() };
    let id = ids::derived(about.delivery, about.account, Kind::Failure);
    let from = format!("Mail delivery <postmaster@{}>", about.hostname);
    let head = Head { id, hostname: about.hostname, at: about.at, from: &from };
    let recipient = QueueRecipient {
        account: Some(about.account),
        store: Some(about.store.clone()),
        ..QueueRecipient::new(own.to_owned(), about.at)
    };
    filing.sends.push(ScriptMail {
        message: enqueue(about, id, vec![recipient], answer::failure(&head, own, (script, why))),
        unless: Some(SeenId { id: ids::told(), until: about.at.saturating_add(TOLD_AGAIN) }),
    });
    filing.detail = "its Sieve script failed".to_owned();
    filing
}

fn kept(about: &About<'_>, flags: Flags) -> InMailbox {
    InMailbox { mailbox: about.kept_in.to_owned(), create: false, flags }
}

/// From the null sender.
fn enqueue(about: &About<'_>, id: DeliveryId, recipients: Vec<QueueRecipient>, body: Bytes) -> Enqueue {
    let utf8 = recipients.iter().any(|recipient| !recipient.address.is_ascii());
    Enqueue {
        delivery: id,
        sender: String::new(),
        at: about.at,
        params: if utf8 { "SMTPUTF8".to_owned() } else { String::new() },
        recipients,
        body,
    }
}

async fn file(about: &About<'_>, own: &str, outcome: Outcome) -> Result<Filing, Unavailable> {
    let mut filing = Filing::default();
    let mut details = Vec::new();
    let (mut sent_on, mut kept_instead, mut notifications) = (Vec::new(), None, 0);
    for Planned { action, .. } in outcome.actions {
        match action {
            Action::Keep { flags } => filing.into.push(kept(about, flags_of(&flags))),
            Action::FileInto(into) => filing.into.push(InMailbox {
                mailbox: into.mailbox,
                create: into.create,
                flags: flags_of(&into.flags),
            }),
            Action::Redirect { address, .. } => match redirect_to(about, &address).await? {
                Leads::To(recipients) => sent_on.extend(recipients),
                Leads::Nowhere(why) => {
                    tracing::warn!(id = %about.delivery, rcpt = about.recipient, address, why, "sieve: not redirected");
                    details.push(format!("not redirected to {address}: {why}"));
                    kept_instead = Some(kept(about, Flags::default()));
                }
            },
            Action::Vacation(vacation) => {
                if let Some(mail) = answered(about, own, &vacation).await? {
                    details.push(format!("answered as {}, unless it was before", mail.message.delivery));
                    filing.sends.push(mail);
                }
            }
            Action::Notify(notify) => {
                if let Some(mail) = notified(about, own, (&notify, notifications)).await? {
                    details.push(format!("notified as {}", mail.message.delivery));
                    filing.sends.push(mail);
                }
                notifications += 1;
            }
            Action::Discard | Action::Reject { .. } => {}
        }
    }
    filing.into.extend(kept_instead);
    if !sent_on.is_empty() {
        let mail = redirected(about, sent_on);
        details.push(format!("redirected as {}", mail.message.delivery));
        filing.sends.push(mail);
    }
    filing.seen = outcome
        .seen
        .iter()
        .map(|seen| seen_id(ids::duplicate(&seen.handle, &seen.id), (about.at, seen.seconds)))
        .collect();
    filing.detail = details.join("; ");
    Ok(filing)
}

fn seen_id(id: [u8; 16], (at, seconds): (i64, u64)) -> SeenId {
    SeenId { id, until: at.saturating_add(i64::try_from(seconds).unwrap_or(i64::MAX)) }
}

fn flags_of(words: &[String]) -> Flags {
    let mut flags = Flags::default();
    for word in words {
        let system = match word.to_ascii_lowercase().as_str() {
            "\\seen" => Some(SystemFlag::Seen),
            "\\answered" => Some(SystemFlag::Answered),
            "\\flagged" => Some(SystemFlag::Flagged),
            "\\deleted" => Some(SystemFlag::Deleted),
            "\\draft" => Some(SystemFlag::Draft),
            _ => None,
        };
        match system {
            Some(flag) => flags = flags.with(flag),
            None if !word.starts_with('\\') => _ = flags.keywords.insert(word.clone()),
            None => {}
        }
    }
    flags
}

/// Where a message may be sent on to.
async fn redirect_to(about: &About<'_>, address: &str) -> Result<Leads, Unavailable> {
    match loops(about.message, about.recipient) {
        Some(why) => Ok(Leads::Nowhere(why)),
        None => leads(about.sending, address, about.at).await,
    }
}

/// Why a message is not sent on by scripts.
fn loops(message: &Message, recipient: &str) -> Option<&'static str> {
    if message.raw().len() > MAX_REDIRECT {
        return Some("the message is too large");
    }
    let header = message.raw().get(message.root().header.clone()).unwrap_or_default();
    let (mut received, mut sent_on) = (0, 0);
    for field in header_fields(header) {
        received += usize::from(field.is(b"received"));
        if field.is(SENT_ON.as_bytes()) {
            sent_on += 1;
            if unfold(field.value).eq_ignore_ascii_case(recipient.as_bytes()) {
                return Some("it was redirected from here before");
            }
        }
    }
    (sent_on >= MAX_SENT_ON || received > MAX_RECEIVED).then_some("it has come too long a way")
}

/// The message, sent on once to all: with its sender, as it came but for a line that says so.
fn redirected(about: &About<'_>, recipients: Vec<QueueRecipient>) -> ScriptMail {
    let id = ids::derived(about.delivery, about.account, Kind::Redirect);
    let (hostname, date, recipient) = (about.hostname, rfc5322_date(about.at), about.recipient);
    let trace = format!("Received: by {hostname} (Sieve) id {id};\r\n\t{date}\r\n{SENT_ON}: {recipient}\r\n");
    let body: Bytes = [trace.as_bytes(), about.message.raw()].concat().into();
    let mut message = Enqueue { sender: about.sender.to_owned(), ..enqueue(about, id, recipients, body) };
    if about.utf8 {
        "SMTPUTF8".clone_into(&mut message.params);
    }
    ScriptMail { message, unless: None }
}

/// The answer of `vacation`, if there is a way to its sender.
async fn answered(
    about: &About<'_>,
    own: &str,
    vacation: &Vacation,
) -> Result<Option<ScriptMail>, Unavailable> {
    let recipients = match leads(about.sending, &vacation.to, about.at).await? {
        Leads::To(recipients) => recipients,
        Leads::Nowhere(why) => {
            tracing::info!(id = %about.delivery, rcpt = about.recipient, why, "sieve: no answer");
            return Ok(None);
        }
    };
    let id = ids::derived(about.delivery, about.account, Kind::Vacation);
    let from = own_sender(about, own, vacation.from.as_deref()).await?;
    let head = Head { id, hostname: about.hostname, at: about.at, from: &from };
    let body = signed(about, &from, answer::vacation(&head, vacation, about.message)).await?;
    let track = ids::answered(&vacation.track, &vacation.to);
    let unless = (vacation.seconds > 0).then(|| seen_id(track, (about.at, vacation.seconds)));
    Ok(Some(ScriptMail { message: enqueue(about, id, recipients, body), unless }))
}

async fn notified(
    about: &About<'_>,
    own: &str,
    (notify, number): (&Notify, u8),
) -> Result<Option<ScriptMail>, Unavailable> {
    let mut recipients: Vec<QueueRecipient> = Vec::new();
    for address in notify.to.iter().chain(&notify.cc) {
        match leads(about.sending, address, about.at).await? {
            Leads::To(found) => recipients.extend(found),
            Leads::Nowhere(why) => {
                tracing::info!(id = %about.delivery, rcpt = about.recipient, address, why, "sieve: not notified");
            }
        }
    }
    if recipients.is_empty() {
        return Ok(None);
    }
    let id = ids::derived(about.delivery, about.account, Kind::Notify(number));
    let from = own_sender(about, own, notify.from.as_deref()).await?;
    let head = Head { id, hostname: about.hostname, at: about.at, from: &from };
    let body = signed(about, &from, answer::notification(&head, notify)).await?;
    Ok(Some(ScriptMail { message: enqueue(about, id, recipients, body), unless: None }))
}

/// What stands in From: what the script says where the account may send as that, else its own address.
async fn own_sender(about: &About<'_>, own: &str, from: Option<&str>) -> Result<String, Unavailable> {
    let (Some(from), Some(directory)) = (from, &about.sending.directory) else { return Ok(own.to_owned()) };
    let Ok(address) = answer::name_and_address(from).1.parse::<Address>() else { return Ok(own.to_owned()) };
    let may = address.key() == own || directory.may_send_as(about.account, &address).await?;
    Ok(if may { from.to_owned() } else { own.to_owned() })
}

/// Signed like any mail of the domain that it comes from, where that has keys.
async fn signed(about: &About<'_>, from: &str, message: Bytes) -> Result<Bytes, Unavailable> {
    let Some(directory) = &about.sending.directory else { return Ok(message) };
    let address = answer::name_and_address(from).1;
    let domain = address.rsplit_once('@').map_or("", |(_, domain)| domain);
    let keys = directory.signing_keys(domain).await?;
    Ok(mailcluster_dkim::sign_whole(&keys, &message, about.at).map_or_else(
        |error| {
            // An answer that others may not believe is better than none.
            tracing::error!(id = %about.delivery, %error, "sieve: an answer goes unsigned");
            message
        },
        Bytes::from,
    ))
}

#[cfg(test)]
mod tests {
    use mailcluster_sieve::Position;

    use super::*;

    fn message(header: &str) -> Message {
        Message::parse(Bytes::from(format!("{header}\r\nbody\r\n")))
    }

    #[test]
    fn loops_end() {
        let from = |address: &str| format!("{SENT_ON}: {address}\r\n");
        let others: String = (0..MAX_SENT_ON).map(|n| from(&format!("user{n}@x"))).collect();
        let received = "Received: x\r\n".repeat(MAX_RECEIVED + 1);
        for (header, expected) in [
            (String::new(), None),
            (from("bob@x"), None),
            (from("Ann@X"), Some("it was redirected from here before")),
            (others, Some("it has come too long a way")),
            (received, Some("it has come too long a way")),
        ] {
            assert_eq!(loops(&message(&header), "ann@x"), expected, "{header}");
        }
    }

    #[test]
    fn flags_are_bits_and_keywords() {
        let words = ["\\Seen", "\\FLAGGED", "$Junk", "\\Recent"].map(str::to_owned);
        let flags = flags_of(&words);
        assert_eq!(flags.system, SystemFlag::Seen as u8 | SystemFlag::Flagged as u8);
        assert_eq!(flags.keywords.iter().map(String::as_str).collect::<Vec<_>>(), ["$Junk"]);
    }

    #[test]
    fn a_reason_is_told_in_the_protocol_and_harms_nobody() {
        let reject = |reason: &str| {
            let action = Action::Reject { reason: reason.into(), in_protocol: false };
            let planned = Planned { at: Some(Position { line: 1, column: 1 }), action };
            let outcome = Outcome {
                actions: vec![planned],
                implicit_keep: false,
                seen: Vec::new(),
                skipped: Vec::new(),
                error: None,
                work: 0,
            };
            rejected(&outcome).unwrap()
        };
        assert_eq!(reject("not\r\nyou, J\u{f6}rg").text, "5.7.1 not\n5.7.1 you, J?rg");
        assert_eq!(reject("").text, "5.7.1 refused by the recipient");
        let long = reject(&"x\r\n".repeat(1000));
        assert_eq!((long.code, long.text.lines().count()), (550, REASON.0));
        assert!(reject(&"x".repeat(5000)).text.len() < 500);
    }
}
