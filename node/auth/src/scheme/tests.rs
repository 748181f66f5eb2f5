//! The vectors were made with libxcrypt and Python's hashlib.
#![allow(clippy::panic, reason = "tests")]

use super::*;

const PASSWORD: &str = "correct horse";
const SHA512: &str =
    "$6$saltsalt$hRM5XZ86KXEw9UOmjigeVqFgULtFB2sgpC9lXQDfMib3Zgw7mEiUvBJI2EplzfAqxL5Vvwp2scFtv/uamSo5z0";
const SHA512_ROUNDS: &str = "$6$rounds=1000$saltsalt$4GMtaIz3E1AdDi2SmCokEW0ehi.HdxNDcL3fGE1XXuzvo6kbx7UOloZKONqEk5H3JrQA4NOfU8BmqFPrpGqwA1";
const SHA256: &str = "$5$saltsalt$myjXcpMpE2Ofk7fj9hqyNYSn6lmWG4Mqnjx.KIRRr4/";
const BCRYPT: &str = "$2y$04$abcdefghijklmnopqrstuujydOTSfIH/d5oUHpsygqV5X9xJLQc6e";
const SSHA: &str = "5pcxo13YdJml98eQSIlT3FMEBMMBAgME";
const PBKDF2: &str = "$1$NaCl$1000$c138a3032a5c7a14dbf376b1de4911fde1c22e0d";

#[test]
fn every_scheme_verifies_the_right_password_alone() {
    for (text, scheme) in [
        (SHA512.to_owned(), "SHA512-CRYPT"),
        (format!("{{SHA512-CRYPT}}{SHA512_ROUNDS}"), "SHA512-CRYPT"),
        (SHA256.to_owned(), "SHA256-CRYPT"),
        (format!("{{sha256-crypt}}{SHA256}"), "SHA256-CRYPT"),
        (BCRYPT.to_owned(), "BLF-CRYPT"),
        (format!("{{BLF-CRYPT}}{BCRYPT}"), "BLF-CRYPT"),
        (format!("{{SSHA}}{SSHA}"), "SSHA"),
        (format!("{{PBKDF2}}{PBKDF2}"), "PBKDF2"),
    ] {
        assert!(StoredHash::looks_like(&text), "{text}");
        let hash = StoredHash::parse(&text).unwrap_or_else(|e| panic!("{text}: {e}"));
        assert_eq!(hash.scheme(), scheme);
        assert!(hash.verify(PASSWORD), "{text}");
        for wrong in ["", "correct hors", "correct horse ", "Correct horse", "\0", "correct horse\0"] {
            assert!(!hash.verify(wrong), "{text} {wrong:?}");
        }
    }
}

#[test]
fn argon2id_is_read_with_and_without_its_name() {
    let hasher = crate::Hasher::new(crate::HashCost::cheapest()).unwrap();
    let text = hasher.hash(PASSWORD).unwrap();
    for text in [text.clone(), format!("{{ARGON2ID}}{text}")] {
        assert!(StoredHash::parse(&text).unwrap().verify(PASSWORD));
        assert!(!StoredHash::parse(&text).unwrap().verify("wrong"));
    }
}

#[test]
fn what_is_no_hash_is_refused_with_the_reason() {
    use BadHash::{Malformed, Scheme, TooCostly};
    let cases: &[(&str, BadHash)] = &[
        ("", Scheme),
        ("password", Scheme),
        ("{", Scheme),
        ("{MD5}xyz", Scheme),
        ("{PLAIN}xyz", Scheme),
        ("$1$salt$xyz", Scheme),
        ("$argon2i$v=19$m=8,t=1,p=1$c2FsdHNhbHQ$c2FsdHNhbHRzYWx0c2FsdA", Scheme),
        ("{ARGON2ID}", Malformed("ARGON2ID")),
        ("{ARGON2ID}$argon2i$v=19$m=8,t=1,p=1$c2FsdHNhbHQ$c2FsdHNhbHRzYWx0c2FsdA", Malformed("ARGON2ID")),
        ("$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHQ", Malformed("ARGON2ID")),
        ("$argon2id$v=19$m=4194304,t=1,p=1$c2FsdHNhbHQ$c2FsdHNhbHRzYWx0c2FsdA", TooCostly("ARGON2ID")),
        ("$argon2id$v=19$m=8,t=9999,p=1$c2FsdHNhbHQ$c2FsdHNhbHRzYWx0c2FsdA", TooCostly("ARGON2ID")),
        ("$2y$31$abcdefghijklmnopqrstuujydOTSfIH/d5oUHpsygqV5X9xJLQc6e", TooCostly("BLF-CRYPT")),
        ("$2y$04$short", Malformed("BLF-CRYPT")),
        ("$2y$4$abcdefghijklmnopqrstuujydOTSfIH/d5oUHpsygqV5X9xJLQc6e", Malformed("BLF-CRYPT")),
        ("$6$rounds=999999999$saltsalt$x", TooCostly("SHA512-CRYPT")),
        ("$6$rounds=1$saltsalt$x", Malformed("SHA512-CRYPT")),
        ("$6$saltsalt", Malformed("SHA512-CRYPT")),
        ("$5$saltsalt$tooshort", Malformed("SHA256-CRYPT")),
        ("{SSHA}????", Malformed("SSHA")),
        ("{SSHA}5pcxo13YdJml98eQSIlT3FMEBMM=", Malformed("SSHA")),
        ("{PBKDF2}$1$NaCl$0$c138a3032a5c7a14dbf376b1de4911fde1c22e0d", Malformed("PBKDF2")),
        ("{PBKDF2}$1$NaCl$99999999$c138a3032a5c7a14dbf376b1de4911fde1c22e0d", TooCostly("PBKDF2")),
        ("{PBKDF2}$1$NaCl$1000$c138", Malformed("PBKDF2")),
        ("{PBKDF2}$1$NaCl$1000$c138a3032a5c7a14dbf376b1de4911fde1c22e0d$", Malformed("PBKDF2")),
    ];
    for (text, expected) in cases {
        assert_eq!(StoredHash::parse(text).err(), Some(*expected), "{text}");
    }
    assert_eq!(StoredHash::parse(&"$6$".repeat(1000)).err(), Some(Malformed("overlong")));
}

#[test]
fn passwords_in_clear_do_not_look_like_hashes() {
    for clear in ["", "hunter2", "$ecret", "{curly", "{}x", "{a b}c", "$1$x"] {
        assert!(!StoredHash::looks_like(clear), "{clear}");
    }
    assert!(StoredHash::looks_like("{MD5}x"), "an unknown scheme is an error, not a password");
}

#[test]
fn parsed_damage_never_panics() {
    for text in [SHA512, SHA512_ROUNDS, SHA256, BCRYPT, "{SSHA}5pcxo13YdJml98eQSIlT3FMEBMMBAgME"] {
        for at in 0..text.len() {
            let cut = &text[..at];
            let mut flipped = text.as_bytes().to_vec();
            flipped[at] ^= 0x15;
            for damaged in [cut.to_owned(), String::from_utf8_lossy(&flipped).into_owned()] {
                if let Ok(hash) = StoredHash::parse(&damaged)
                    && !damaged.starts_with("$6$rounds=")
                {
                    let _ = hash.verify("x");
                }
            }
        }
    }
}
