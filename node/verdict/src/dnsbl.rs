//! DNS lists of clients (RFC 5782).

use std::net::{IpAddr, Ipv4Addr};

use crate::List;

/// Must be in every list of IPv4 addresses (section 5); asked to see that the list lives.
pub const TEST_LISTED: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));
/// Must not be in any: a list that has everybody is gone, or its domain was sold.
pub const TEST_NOT_LISTED: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// The name to look up, with its last dot.
#[must_use]
pub fn name(address: IpAddr, zone: &str) -> String {
    match address.to_canonical() {
        IpAddr::V4(ip) => {
            let [a, b, c, d] = ip.octets();
            format!("{d}.{c}.{b}.{a}.{zone}.")
        }
        IpAddr::V6(ip) => {
            let nibbles = ip.octets().into_iter().rev().flat_map(|octet| [octet & 15, octet >> 4]);
            let mut name: String = nibbles.map(|nibble| format!("{nibble:x}.")).collect();
            name.push_str(zone);
            name.push('.');
            name
        }
    }
}

/// The answer that makes an address listed. Answers outside of 127.0.0.0/8 come from captive or parked name servers, and
/// 127.255.255.0/24 is how lists say that they did not like the question.
#[must_use]
pub fn counts(list: &List, answers: &[Ipv4Addr]) -> Option<Ipv4Addr> {
    let is_one = |answer: &&Ipv4Addr| match answer.octets() {
        [127, 255, 255, _] => false,
        [127, 0, 0, last] => list.answers.is_empty() || list.answers.contains(&last),
        [127, ..] => list.answers.is_empty(),
        _ => false,
    };
    answers.iter().find(is_one).copied()
}

/// Can a list be asked by what it says of the two test addresses? `None`: it did not answer.
#[must_use]
pub fn is_alive(listed: Option<bool>, not_listed: Option<bool>) -> Option<bool> {
    match (listed, not_listed) {
        (_, Some(true)) => Some(false),
        (Some(listed), Some(false)) => Some(listed),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ListAction;

    #[test]
    fn names_are_the_address_backwards() {
        for (address, expected) in [
            ("192.0.2.99", "99.2.0.192.bad.example.com."),
            ("::ffff:192.0.2.99", "99.2.0.192.bad.example.com."),
            // RFC 5782 section 2.4.
            (
                "2001:db8:1:2:3:4:567:89ab",
                "b.a.9.8.7.6.5.0.4.0.0.0.3.0.0.0.2.0.0.0.1.0.0.0.8.b.d.0.1.0.0.2.bad.example.com.",
            ),
        ] {
            assert_eq!(name(address.parse().unwrap(), "bad.example.com"), expected);
        }
    }

    #[test]
    fn only_answers_that_mean_listed_count() {
        let list = |answers: &[u8]| List {
            zone: "z.example".into(),
            answers: answers.into(),
            action: ListAction::Reject,
        };
        for (wanted, answers, expected) in [
            (&[][..], &["127.0.0.2"][..], true),
            (&[], &["127.0.1.2"], true),
            (&[], &["127.255.255.254"], false),
            (&[], &["192.0.2.1"], false),
            (&[], &[], false),
            (&[2, 3], &["127.0.0.3"], true),
            (&[2, 3], &["127.0.0.10"], false),
            (&[2, 3], &["127.0.1.3"], false),
            (&[2], &["127.0.0.10", "127.0.0.2"], true),
            (&[254], &["127.255.255.254"], false),
        ] {
            let answers: Vec<Ipv4Addr> = answers.iter().map(|a| a.parse().unwrap()).collect();
            assert_eq!(counts(&list(wanted), &answers).is_some(), expected, "{wanted:?} {answers:?}");
        }
    }

    #[test]
    fn a_list_of_everybody_or_nobody_is_dead() {
        for (listed, not_listed, expected) in [
            (Some(true), Some(false), Some(true)),
            (Some(true), Some(true), Some(false)),
            (Some(false), Some(false), Some(false)),
            (Some(false), Some(true), Some(false)),
            (None, Some(true), Some(false)),
            (None, Some(false), None),
            (Some(true), None, None),
            (None, None, None),
        ] {
            assert_eq!(is_alive(listed, not_listed), expected, "{listed:?} {not_listed:?}");
        }
    }
}
