//! A message's header, with bounds on what its signatures may cost.

use mail_auth::{
    AuthenticatedMessage, DkimOutput, DkimResult, Error,
    common::crypto::Algorithm,
    dkim::{self, DkimError},
};

use crate::results::{Outcome, Signature};

/// Signatures that are verified.
const MAX_SIGNATURES: usize = 8;
/// Sets of ARC fields; each costs a look-up and a verification.
const MAX_SETS: usize = 10;
/// Fields of a header whose signatures are verified: each signature looks for each of its fields among all of them.
const MAX_FIELDS: usize = 2000;
/// Fields that one signature may name.
const MAX_SIGNED: usize = 200;

/// A parsed header.
pub(crate) struct Header<'a> {
    /// What is left to be verified, and nothing that costs too much.
    pub(crate) message: AuthenticatedMessage<'a>,
    /// From fields.
    pub(crate) from_fields: usize,
    /// Signatures that are not verified, with the reason.
    pub(crate) refused: Vec<Signature>,
    /// The ARC fields are not verified, for they are too many.
    pub(crate) too_many_sets: bool,
}

impl<'a> Header<'a> {
    /// Reads a header section with the empty line behind it.
    pub(crate) fn parse(section: &'a [u8]) -> Self {
        let mut message = AuthenticatedMessage::parse(section).unwrap_or_default();
        let is_from = |name: &[u8]| name.trim_ascii().eq_ignore_ascii_case(b"From");
        let from_fields = message.headers.iter().filter(|(name, _)| is_from(name)).count();
        let mut refused = Vec::new();
        for error in message.errors.iter().filter(|field| {
            matches!(
                field.header,
                Error::Dkim(_) | Error::ParseError | Error::Base64 | Error::MissingParameters
            )
        }) {
            if is_signature(error.name) && refused.len() < MAX_SIGNATURES {
                refused.push(unreadable(&error.header));
            }
        }
        let too_many_fields = message.headers.len() > MAX_FIELDS;
        let mut kept = 0;
        message.dkim_headers.retain_mut(|field| {
            let signature = &mut field.header;
            // Reports to whoever asks (RFC 6651) and third parties (RFC 6541) cost look-ups, and are not used.
            (signature.r, signature.atps) = (false, None);
            let why = if kept >= MAX_SIGNATURES {
                "too many signatures"
            } else {
                too_costly(signature, too_many_fields).unwrap_or_default()
            };
            if why.is_empty() {
                kept += 1;
            } else if refused.len() < MAX_SIGNATURES {
                refused.push(named(signature, (outcome_of(why), why)));
            }
            why.is_empty()
        });
        let sets = message.ams_headers.len().max(message.as_headers.len());
        let signs_much = message.ams_headers.iter().any(|field| field.header.h.len() > MAX_SIGNED);
        let too_many_sets = sets > MAX_SETS || (sets > 0 && (too_many_fields || signs_much));
        Self { message, from_fields, refused, too_many_sets }
    }

    /// The same with one signature alone, so that each takes the time that it takes and no other's.
    pub(crate) fn with_signature(&self, at: usize) -> AuthenticatedMessage<'a> {
        AuthenticatedMessage {
            headers: self.message.headers.clone(),
            from: self.message.from.clone(),
            raw_message: self.message.raw_message,
            body_offset: self.message.body_offset,
            body_hashes: self.message.body_hashes.clone(),
            dkim_headers: self.message.dkim_headers.get(at).cloned().into_iter().collect(),
            ..AuthenticatedMessage::default()
        }
    }
}

fn is_signature(name: &[u8]) -> bool {
    name.trim_ascii().eq_ignore_ascii_case(b"DKIM-Signature")
}

const SHA1: &str = "rsa-sha1";

fn too_costly(signature: &dkim::Signature, too_many_fields: bool) -> Option<&'static str> {
    if signature.a == Algorithm::RsaSha1 {
        // RFC 8301 section 3.1.
        return Some(SHA1);
    }
    if too_many_fields {
        return Some("too many fields");
    }
    if signature.h.len() > MAX_SIGNED {
        return Some("signs too many fields");
    }
    // RFC 6376 section 5.4; one that does not is no signature (section 6.1.1).
    (!signature.h.iter().any(|name| name.trim().eq_ignore_ascii_case("From"))).then_some("does not sign From")
}

fn outcome_of(why: &str) -> Outcome {
    if why == SHA1 { Outcome::Policy } else { Outcome::PermError }
}

fn unreadable(error: &Error) -> Signature {
    let (outcome, why) = match error {
        Error::Dkim(DkimError::SignatureLength) => (Outcome::Policy, "signs a part of the body (l=)"),
        _ => (Outcome::Neutral, "cannot be read"),
    };
    Signature { outcome, domain: String::new(), selector: String::new(), why }
}

fn named(signature: &dkim::Signature, (outcome, why): (Outcome, &'static str)) -> Signature {
    Signature { outcome, domain: signature.d.clone(), selector: signature.s.clone(), why }
}

/// In our words.
pub(crate) fn verified(output: &DkimOutput<'_>) -> Option<Signature> {
    let found = match output.result() {
        DkimResult::Pass => (Outcome::Pass, ""),
        DkimResult::Neutral(error) | DkimResult::Fail(error) => match error {
            Error::Dkim(DkimError::FailedBodyHashMatch) => (Outcome::Fail, "the body was changed"),
            Error::Dkim(DkimError::SignatureExpired) => (Outcome::Fail, "expired"),
            Error::Dkim(DkimError::FailedAuidMatch) => (Outcome::PermError, "i= is not of d="),
            Error::Crypto(_) => (Outcome::Fail, "the signature does not hold"),
            _ => (Outcome::Neutral, "cannot be verified"),
        },
        DkimResult::PermError(error) => match error {
            Error::Dkim(DkimError::RevokedPublicKey) => (Outcome::PermError, "the key was revoked"),
            Error::Dns(_) => (Outcome::PermError, "no key"),
            _ => (Outcome::PermError, "the key cannot be used"),
        },
        DkimResult::TempError(_) => (Outcome::TempError, "no answer from the DNS"),
        DkimResult::None => return None,
    };
    Some(named(output.signature()?, found))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signature(algorithm: &str, signed: &str) -> String {
        format!(
            "DKIM-Signature: v=1; a={algorithm}; c=relaxed/relaxed; d=b.c; s=s; h={signed}; bh=AAAA; b=AAAA\r\n"
        )
    }

    #[test]
    fn what_costs_too_much_is_not_verified() {
        let many = format!("from:{}", vec!["x"; MAX_SIGNED].join(":"));
        let fields: String = (0..MAX_FIELDS).map(|n| format!("X-{n}: y\r\n")).collect();
        for (header, verified, refused) in [
            (signature("rsa-sha256", "from:to"), 1, &[][..]),
            (signature("rsa-sha256", "to:FROM"), 1, &[]),
            (signature("rsa-sha256", "to"), 0, &["does not sign From"]),
            (signature("rsa-sha1", "from"), 0, &[SHA1]),
            (signature("rsa-sha256", &many), 0, &["signs too many fields"]),
            (signature("rsa-sha256", "from") + &fields, 0, &["too many fields"]),
            (signature("rsa-sha256", "from; l=5"), 0, &["signs a part of the body (l=)"]),
            ("DKIM-Signature: nonsense\r\n".into(), 0, &["cannot be read"]),
        ] {
            let section = format!("{header}From: a@b.c\r\n\r\n");
            let parsed = Header::parse(section.as_bytes());
            let why: Vec<&str> = parsed.refused.iter().map(|s| s.why).collect();
            assert_eq!(
                (parsed.message.dkim_headers.len(), why),
                (verified, refused.to_vec()),
                "{header:.80}"
            );
            assert!(parsed.refused.iter().all(|s| s.outcome != Outcome::Pass));
        }
        let bomb = signature("rsa-sha256", "from").repeat(500) + &"DKIM-Signature: x\r\n".repeat(500);
        let section = format!("{bomb}\r\n");
        let parsed = Header::parse(section.as_bytes());
        assert_eq!(
            (parsed.message.dkim_headers.len(), parsed.refused.len()),
            (MAX_SIGNATURES, MAX_SIGNATURES)
        );
        assert_eq!(parsed.with_signature(3).dkim_headers.len(), 1);
    }

    #[test]
    fn from_fields_are_counted_however_they_are_written() {
        for (section, fields, addresses) in [
            ("From: a@b.c\r\n\r\n", 1, 1),
            ("From: a@b.c, d@e.f\r\n\r\n", 1, 2),
            ("From: a@b.c\r\nX: y\r\nFROM: d@e.f\r\n\r\n", 2, 2),
            ("From: a@b.c\r\nFrom : d@e.f\r\n\r\n", 2, 1),
            ("X-From: a@b.c\r\n\r\n", 0, 0),
            ("\r\n", 0, 0),
        ] {
            let parsed = Header::parse(section.as_bytes());
            assert_eq!(parsed.from_fields, fields, "{section:?}");
            assert!(parsed.message.from.len() >= addresses, "{section:?} {:?}", parsed.message.from);
        }
    }

    #[test]
    fn chains_of_arc_have_an_end() {
        let set = |n: usize| {
            format!(
                "ARC-Seal: i={n}; a=rsa-sha256; cv=pass; d=b.c; s=s; b=AAAA\r\n\
                 ARC-Message-Signature: i={n}; a=rsa-sha256; c=relaxed/relaxed; d=b.c; s=s; h=from; bh=AAAA; b=AAAA\r\n\
                 ARC-Authentication-Results: i={n}; b.c; none\r\n"
            )
        };
        for (count, too_many) in [(0, false), (MAX_SETS, false), (MAX_SETS + 1, true)] {
            let section: String = (1..=count).map(set).collect::<String>() + "From: a@b.c\r\n\r\n";
            assert_eq!(Header::parse(section.as_bytes()).too_many_sets, too_many, "{count}");
        }
    }
}
