//! Hashes of a body that goes by in pieces: nothing of it is held.

use mail_auth::{
    AuthenticatedMessage,
    common::crypto::{HashAlgorithm, HashContext, HashImpl, Sha256},
    dkim::{Canonicalization, canonicalize::BodyHasher},
};

type Hasher = BodyHasher<<Sha256 as HashImpl>::Context>;

/// One for each canonicalization that a signature names. Only SHA-256 counts (RFC 8301).
pub(crate) struct BodyHashes(Vec<(Canonicalization, Hasher)>);

impl BodyHashes {
    /// Those that this message's signatures need.
    pub(crate) fn new(message: &AuthenticatedMessage<'_>) -> Self {
        let mut hashers: Vec<(Canonicalization, Hasher)> = Vec::new();
        for (canonicalization, algorithm, length, _) in &message.body_hashes {
            if *algorithm == HashAlgorithm::Sha256
                && *length == 0
                && !hashers.iter().any(|(known, _)| known == canonicalization)
            {
                hashers.push((*canonicalization, BodyHasher::new(Sha256::hasher(), *canonicalization, 0)));
            }
        }
        Self(hashers)
    }

    /// None is needed.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The next piece.
    pub(crate) fn write(&mut self, piece: &[u8]) {
        self.0.iter_mut().for_each(|(_, hasher)| hasher.write(piece));
    }

    /// Puts the hashes into the message, in place of those of a body that it was parsed without.
    pub(crate) fn finish(self, message: &mut AuthenticatedMessage<'_>) {
        for (canonicalization, hasher) in self.0 {
            let hash = hasher.finish().0.complete();
            for (of, algorithm, length, value) in &mut message.body_hashes {
                if *of == canonicalization && *algorithm == HashAlgorithm::Sha256 && *length == 0 {
                    *value = hash.as_ref().to_vec();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str = "From: a@b.c\r\n\
        DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed; d=b.c; s=s; h=from; bh=AAAA; b=AAAA\r\n\
        DKIM-Signature: v=1; a=rsa-sha256; c=simple/simple; d=b.c; s=s; h=from; bh=AAAA; b=AAAA\r\n\r\n";

    #[test]
    fn pieces_hash_like_the_whole() {
        for body in [
            "",
            "\r\n",
            "\r\n\r\n\r\n",
            "text\r\n",
            "text",
            "two  blanks \t here \r\n\r\n end \r\n\r\n\r\n",
            " \r\n \t\r\nx\r\n",
        ] {
            let whole = format!("{HEADER}{body}");
            let expected = AuthenticatedMessage::parse(whole.as_bytes()).unwrap().body_hashes;
            assert_eq!(expected.len(), 2);
            for size in [1, 2, 3, 7, 1000] {
                let mut message = AuthenticatedMessage::parse(HEADER.as_bytes()).unwrap();
                let mut hashes = BodyHashes::new(&message);
                body.as_bytes().chunks(size).for_each(|piece| hashes.write(piece));
                hashes.finish(&mut message);
                assert_eq!(message.body_hashes, expected, "{body:?} in pieces of {size}");
            }
        }
    }
}
