use std::{collections::HashMap, sync::OnceLock};

use ring::signature::{ED25519, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};

use super::*;
use crate::{NewKey, generate};

const KINDS: [(KeyAlgorithm, &str); 2] =
    [(KeyAlgorithm::RsaSha256, "one"), (KeyAlgorithm::Ed25519Sha256, "two")];
const MESSAGE: &str = "From: Ann <ann@example.org>\r\nTo: joe@elsewhere.test,\r\n\tjim@elsewhere.test\r\n\
                       Subject:  one   line\r\n  and another\r\nDate: Mon, 23 Nov 2026 00:00:00 +0000\r\n\r\n\
                       Hello  \r\n.\r\n..dots \t at the beginning\r\n\r\n\r\n";

/// RSA keys take long to make.
fn made() -> &'static [NewKey] {
    static MADE: OnceLock<Vec<NewKey>> = OnceLock::new();
    MADE.get_or_init(|| KINDS.iter().map(|(algorithm, _)| generate(*algorithm).unwrap()).collect())
}

fn keys() -> SigningKeys {
    let key = |((algorithm, selector), made): (&(KeyAlgorithm, &str), &NewKey)| SigningKey {
        selector: (*selector).to_owned(),
        algorithm: *algorithm,
        secret: made.secret.clone(),
    };
    SigningKeys { domain: "example.org".into(), keys: KINDS.iter().zip(made()).map(key).collect() }
}

fn hash(body: &str) -> [u8; 32] {
    let mut hash = BodyHash::default();
    body.as_bytes().chunks(7).for_each(|piece| hash.update(piece));
    hash.finish()
}

fn signed(message: &str) -> String {
    let (header, body) = message.split_once("\r\n\r\n").unwrap();
    let header = format!("{header}\r\n");
    let signatures = sign(&keys(), header.as_bytes(), &hash(body), 1_790_000_000).unwrap();
    String::from_utf8(signatures).unwrap() + message
}

/// Is the `n`th signature right, as RFC 6376 section 6.1.3 looks at it?
fn is_right(message: &str, n: usize, public: &[u8]) -> bool {
    let (header, body) = message.split_once("\r\n\r\n").unwrap();
    let header = format!("{header}\r\n");
    let fields = header::fields(header.as_bytes());
    let text = |field: &[u8]| String::from_utf8(field.to_vec()).unwrap();
    let own = fields.iter().filter(|field| text(field).starts_with("DKIM-Signature:")).nth(n).unwrap();
    let own = text(own);
    let bare: String = own["DKIM-Signature:".len()..].split_whitespace().collect();
    let tags: HashMap<&str, &str> = bare.split(';').filter_map(|tag| tag.split_once('=')).collect();
    if tags["bh"] != STANDARD.encode(hash(body)) {
        return false;
    }
    let mut left: Vec<&[u8]> = fields.clone();
    let mut signed = Vec::new();
    for name in tags["h"].split(':') {
        let is_named =
            |field: &&[u8]| text(field).split(':').next().unwrap().trim_end().eq_ignore_ascii_case(name);
        if let Some(at) = left.iter().rposition(is_named) {
            header::relax(left.remove(at), &mut signed);
        }
    }
    let value = own.rfind("b=").unwrap() + 2;
    header::relax(&own.as_bytes()[..value], &mut signed);
    signed.truncate(signed.len() - 2);
    let signature = STANDARD.decode(tags["b"]).unwrap();
    if tags["a"] == "rsa-sha256" {
        return UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, public)
            .verify(&signed, &signature)
            .is_ok();
    }
    let digest = digest(&SHA256, &signed);
    UnparsedPublicKey::new(&ED25519, public).verify(digest.as_ref(), &signature).is_ok()
}

fn verdicts(message: &str) -> [bool; 2] {
    // Of an RSA key, what follows the algorithm's name.
    let publics = made().iter().map(|key| STANDARD.decode(&key.public).unwrap()).collect::<Vec<_>>();
    [is_right(message, 0, &publics[0][24..]), is_right(message, 1, &publics[1])]
}

#[test]
fn a_message_in_memory_is_signed_alike() {
    // Ed25519 signs the same in the same way.
    let keys = SigningKeys { keys: vec![keys().keys.remove(1)], ..keys() };
    let (header, body) = MESSAGE.split_once("\r\n\r\n").unwrap();
    let fields = sign(&keys, format!("{header}\r\n").as_bytes(), &hash(body), 7).unwrap();
    assert_eq!(sign_whole(&keys, MESSAGE.as_bytes(), 7).unwrap(), [&fields[..], MESSAGE.as_bytes()].concat());
    for bare in ["From: a@b\r\n", "From: a@b\r\n\r\n"] {
        let fields = sign(&keys, b"From: a@b\r\n", &hash(""), 7).unwrap();
        assert_eq!(sign_whole(&keys, bare.as_bytes(), 7).unwrap(), [&fields[..], bare.as_bytes()].concat());
    }
}

#[test]
fn the_message_of_rfc_8463_is_right_in_our_eyes() {
    let message = "DKIM-Signature: v=1; a=ed25519-sha256; c=relaxed/relaxed;\r\n d=football.example.com; \
        i=@football.example.com;\r\n q=dns/txt; s=brisbane; t=1528637909; h=from : to :\r\n subject : date : \
        message-id : from : subject : date;\r\n bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;\r\n \
        b=/gCrinpcQOoIfuHNQIbq4pgh9kyIK3AQUdt9OdqQehSwhEIug4D11Bus\r\n \
        Fa3bT3FY5OsU7ZbnKELq+eXdp1Q1Dw==\r\nFrom: Joe SixPack <joe@football.example.com>\r\n\
        To: Suzie Q <suzie@shopping.example.net>\r\nSubject: Is dinner ready?\r\n\
        Date: Fri, 11 Jul 2003 21:00:37 -0700 (PDT)\r\n\
        Message-ID: <20030712040037.46341.5F8J@football.example.com>\r\n\r\n\
        Hi.\r\n\r\nWe lost the game.  Are you hungry yet?\r\n\r\nJoe.\r\n";
    let public = STANDARD.decode("11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=").unwrap();
    assert!(is_right(message, 0, &public));
    assert!(!is_right(&message.replace("dinner", "supper"), 0, &public));
    assert!(!is_right(&message.replace("Joe.", "Jim."), 0, &public));
}

#[test]
fn both_signatures_of_a_message_are_right_and_well_folded() {
    let signed = signed(MESSAGE);
    assert_eq!(verdicts(&signed), [true, true], "{signed}");
    for line in signed.split("\r\n").take_while(|line| !line.starts_with("From")) {
        assert!(line.len() < 78, "{line}");
    }
    assert!(!signed.contains("l="), "all of the body is signed: {signed}");
}

#[test]
fn what_was_not_signed_so_is_wrong() {
    let good = signed(MESSAGE);
    for (what, from, to) in [
        ("the text", "Hello", "Hallo"),
        ("more text", "beginning\r\n", "beginning\r\nand end\r\n"),
        ("a subject", "one   line", "two   line"),
        ("a second From", "\r\nFrom: Ann", "\r\nFrom: eve@example.net\r\nFrom: Ann"),
        ("a Reply-To where there was none", "\r\nTo:", "\r\nReply-To: eve@example.net\r\nTo:"),
        ("a second Subject", "\r\nSubject:", "\r\nSubject: win\r\nSubject:"),
        ("another time", "t=1790000000", "t=1790000001"),
    ] {
        assert!(good.contains(from), "{what}");
        assert_eq!(verdicts(&good.replace(from, to)), [false, false], "{what}");
    }
    // What others do to white space on the way is no harm.
    let folded = good.replace("one   line\r\n  and", "one line and").replace("Hello  \r\n", "Hello\r\n");
    assert_eq!(verdicts(&folded), [true, true]);
    assert_eq!(verdicts(&format!("Received: by x\r\n{good}\r\n\r\n")), [true, true]);
}

#[test]
fn what_cannot_be_signed_says_why() {
    let body = BodyHash::default().finish();
    let none = SigningKeys { domain: "example.org".into(), keys: Vec::new() };
    assert_eq!(sign(&none, b"To: x\r\n", &body, 0), Ok(Vec::new()));
    assert_eq!(sign(&keys(), b"To: x\r\n", &body, 0), Err(SignError::NoFrom));
    let mut broken = keys();
    broken.keys[0].secret = b"no key".to_vec().into();
    assert_eq!(sign(&broken, b"From: x\r\n", &body, 0), Err(SignError::Key));
}
