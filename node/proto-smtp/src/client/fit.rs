//! What a message needs of a server, and what is to be done where the server lacks it.

use super::Extensions;
use crate::Body;

/// Where a message has UTF-8 outside of bodies (RFC 6531).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Utf8 {
    /// Nowhere.
    #[default]
    Nowhere,
    /// In header fields.
    Headers,
    /// In the envelope's addresses.
    Addresses,
}

/// What a message needs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Needs {
    /// Its octets.
    pub size: u64,
    /// It has octets above 127.
    pub eight_bit: bool,
    /// It has UTF-8 outside of bodies.
    pub utf8: Utf8,
    /// Its sender demands TLS all the way (RFC 8689).
    pub require_tls: bool,
}

/// Why this server cannot be given this message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Misfit {
    /// It is larger than the server takes (RFC 1870 section 6.1): told before anything is sent.
    #[error("the message has more octets than the {limit} that the server takes")]
    TooLarge {
        /// What the server takes.
        limit: u64,
    },
    /// Header fields in UTF-8, and no SMTPUTF8.
    #[error("the message's header needs SMTPUTF8, which the server does not offer")]
    Utf8Headers,
    /// Addresses in UTF-8, and no SMTPUTF8.
    #[error("an address needs SMTPUTF8, which the server does not offer")]
    Utf8Addresses,
    /// Octets above 127, and no 8BITMIME: to be converted to 7 bits (RFC 6152 section 3), or else sent back.
    #[error("the message needs 8BITMIME, which the server does not offer")]
    EightBit,
    /// REQUIRETLS is not offered, or not under TLS.
    #[error("the sender requires TLS, which the server does not offer to require")]
    RequireTls,
}

impl Misfit {
    /// The status (RFC 3463, RFC 6531 section 3.5, RFC 8689 section 5) of recipients that are given up for it.
    #[must_use]
    pub fn status(self) -> &'static str {
        match self {
            Self::TooLarge { .. } => "5.3.4",
            Self::Utf8Headers => "5.6.9",
            Self::Utf8Addresses => "5.6.7",
            Self::EightBit => "5.6.3",
            Self::RequireTls => "5.7.30",
        }
    }
}

/// What is said in MAIL and RCPT to a server that can be given the message.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Terms {
    /// `SIZE=`
    pub size: Option<u64>,
    /// `BODY=`
    pub body: Option<Body>,
    /// `SMTPUTF8`
    pub utf8: bool,
    /// `REQUIRETLS`
    pub require_tls: bool,
    /// The DSN parameters are passed on. When they are not, and the sender asked to hear of success, it is told that
    /// its mail was relayed to where none will report (RFC 3461 section 5.2.2).
    pub dsn: bool,
}

/// Can a server with these offers be given the message?
///
/// # Errors
/// The first [`Misfit`]; one that conversion could cure comes last.
pub fn fit(needs: &Needs, offers: &Extensions, over_tls: bool) -> Result<Terms, Misfit> {
    if let Some(limit) = offers.max_size.filter(|limit| needs.size > *limit) {
        return Err(Misfit::TooLarge { limit });
    }
    match needs.utf8 {
        Utf8::Headers if !offers.utf8 => return Err(Misfit::Utf8Headers),
        Utf8::Addresses if !offers.utf8 => return Err(Misfit::Utf8Addresses),
        _ => {}
    }
    if needs.require_tls && !(over_tls && offers.require_tls) {
        return Err(Misfit::RequireTls);
    }
    if needs.eight_bit && !offers.eight_bit {
        return Err(Misfit::EightBit);
    }
    Ok(Terms {
        size: offers.size.then_some(needs.size),
        body: needs.eight_bit.then_some(Body::EightBitMime),
        utf8: needs.utf8 > Utf8::Nowhere,
        require_tls: needs.require_tls,
        dsn: offers.dsn,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lacking_extension_is_told_before_anything_is_sent() {
        let all = Extensions {
            size: true,
            max_size: Some(1000),
            eight_bit: true,
            utf8: true,
            dsn: true,
            require_tls: true,
            ..Extensions::default()
        };
        let none = Extensions::default();
        let plain = Needs { size: 1000, ..Needs::default() };
        let eight = Needs { eight_bit: true, ..plain };
        let headers = Needs { utf8: Utf8::Headers, ..eight };
        let addresses = Needs { utf8: Utf8::Addresses, ..eight };
        let strict = Needs { require_tls: true, ..plain };
        let terms = Terms { size: Some(1000), dsn: true, ..Terms::default() };
        let body = Some(Body::EightBitMime);
        for (needs, offers, over_tls, expected) in [
            (plain, &all, false, Ok(terms)),
            (plain, &none, false, Ok(Terms::default())),
            (Needs { size: 1001, ..plain }, &all, false, Err(Misfit::TooLarge { limit: 1000 })),
            (Needs { size: u64::MAX, ..plain }, &none, false, Ok(Terms::default())),
            (eight, &all, false, Ok(Terms { body, ..terms })),
            (eight, &none, false, Err(Misfit::EightBit)),
            (headers, &all, false, Ok(Terms { body, utf8: true, ..terms })),
            (headers, &none, false, Err(Misfit::Utf8Headers)),
            (addresses, &none, false, Err(Misfit::Utf8Addresses)),
            (addresses, &all, false, Ok(Terms { body, utf8: true, ..terms })),
            (strict, &all, true, Ok(Terms { require_tls: true, ..terms })),
            (strict, &all, false, Err(Misfit::RequireTls)),
            (strict, &none, true, Err(Misfit::RequireTls)),
        ] {
            assert_eq!(fit(&needs, offers, over_tls), expected, "{needs:?} {offers:?}");
        }
    }

    #[test]
    fn each_misfit_has_its_status() {
        for (misfit, status) in [
            (Misfit::TooLarge { limit: 1 }, "5.3.4"),
            (Misfit::Utf8Headers, "5.6.9"),
            (Misfit::Utf8Addresses, "5.6.7"),
            (Misfit::EightBit, "5.6.3"),
            (Misfit::RequireTls, "5.7.30"),
        ] {
            assert_eq!(misfit.status(), status);
        }
    }
}
