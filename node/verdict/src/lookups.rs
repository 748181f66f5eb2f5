//! A bound on look-ups. `mail-auth` asks its cache before every one of them: this cache knows nothing, counts, and says
//! no when there were enough.

use std::{
    borrow::Borrow,
    hash::Hash,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use mail_auth::{DnsError, DnssecStatus, Error, MX, Parameters, RecordSet, ResolverCache, Txt};

/// Look-ups that find nothing in one SPF evaluation (RFC 7208 section 4.6.4).
const MAX_VOID: u32 = 2;

/// Counts the look-ups of one evaluation.
#[derive(Debug)]
pub(crate) struct Lookups(Mutex<State>);

#[derive(Debug)]
struct State {
    left: u32,
    refused: bool,
    void: u32,
    asked: Asked,
}

/// The last look-up, as long as no answer to it was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    Nothing,
    V4,
    /// Both kinds of address, one after the other: `exists`, whose answer is never shown to the cache.
    Exists,
    Other,
}

impl Lookups {
    /// At most so many.
    pub(crate) fn new(most: u32) -> Self {
        Self(Mutex::new(State { left: most, refused: false, void: 0, asked: Asked::Nothing }))
    }

    /// More were wanted than are allowed, or too many found nothing.
    pub(crate) fn are_too_many(&self) -> bool {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // What `exists` asked last, it may have found.
        let last = u32::from(matches!(state.asked, Asked::V4 | Asked::Other));
        state.refused || state.void + last > MAX_VOID
    }

    /// May one more be made?
    fn ask(&self, asked: Asked) -> bool {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if state.asked == Asked::V4 && asked == Asked::Exists {
            state.asked = Asked::Exists;
            return !state.refused;
        }
        state.void += u32::from(state.asked != Asked::Nothing);
        state.asked = match asked {
            Asked::Exists => Asked::Other,
            asked => asked,
        };
        if state.left == 0 || state.void > MAX_VOID {
            state.refused = true;
        }
        state.left = state.left.saturating_sub(1);
        !state.refused
    }

    fn found(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).asked = Asked::Nothing;
    }

    /// Parameters that are counted here.
    #[allow(clippy::type_complexity, reason = "as mail-auth has it")]
    pub(crate) fn of<P>(&self, params: P) -> Parameters<'_, P, Self, Self, Self, Self, Self> {
        Parameters {
            params,
            cache_txt: Some(self),
            cache_mx: Some(self),
            cache_ptr: Some(self),
            cache_ipv4: Some(self),
            cache_ipv6: Some(self),
        }
    }
}

/// What a look-up that is not made answers.
fn empty<T>(allowed: bool) -> Option<RecordSet<T>> {
    let none = || RecordSet { rrset: Arc::from(Vec::new()), dnssec_status: DnssecStatus::Indeterminate };
    (!allowed).then(none)
}

macro_rules! counted {
    ($key:ty, $value:ty, $asked:expr, $answer:expr) => {
        impl ResolverCache<$key, $value> for Lookups {
            fn get<Q>(&self, _: &Q) -> Option<$value>
            where
                $key: Borrow<Q>,
                Q: Hash + Eq + ?Sized,
            {
                ($answer)(self.ask($asked))
            }

            fn remove<Q>(&self, _: &Q) -> Option<$value>
            where
                $key: Borrow<Q>,
                Q: Hash + Eq + ?Sized,
            {
                None
            }

            fn insert(&self, _: $key, _: $value, _: Instant) {
                self.found();
            }
        }
    };
}

counted!(Box<str>, RecordSet<Ipv4Addr>, Asked::V4, empty);
counted!(Box<str>, RecordSet<Ipv6Addr>, Asked::Exists, empty);
counted!(Box<str>, RecordSet<MX>, Asked::Other, empty);
counted!(IpAddr, RecordSet<Box<str>>, Asked::Other, empty);
// A policy that is not there ends an evaluation, or is looked for in the next place: it is not void.
counted!(Box<str>, Txt, Asked::Nothing, |allowed: bool| {
    (!allowed).then(|| Txt::Error(Error::Dns(DnsError::Resolver("too many look-ups".to_owned()))))
});

#[cfg(test)]
mod tests {
    use super::*;

    /// A look-up for `kind`, which finds something or not.
    fn look(lookups: &Lookups, kind: Asked, finds: bool) -> bool {
        let allowed = lookups.ask(kind);
        if finds {
            lookups.found();
        }
        allowed
    }

    #[test]
    fn a_budget_ends() {
        let lookups = Lookups::new(3);
        for _ in 0..3 {
            assert!(look(&lookups, Asked::V4, true) && !lookups.are_too_many());
        }
        assert!(!look(&lookups, Asked::V4, true) && lookups.are_too_many());
    }

    #[test]
    fn the_third_that_finds_nothing_is_one_too_many() {
        for kind in [Asked::V4, Asked::Other] {
            let lookups = Lookups::new(100);
            for _ in 0..2 {
                look(&lookups, Asked::Nothing, true);
                look(&lookups, kind, false);
                look(&lookups, kind, true);
            }
            assert!(!lookups.are_too_many(), "{kind:?}");
            look(&lookups, kind, false);
            assert!(lookups.are_too_many(), "{kind:?}");
            assert!(!look(&lookups, kind, true), "and none is made any more");
        }
    }

    #[test]
    fn addresses_of_both_kinds_are_one_question() {
        let lookups = Lookups::new(100);
        for _ in 0..3 {
            look(&lookups, Asked::V4, false);
            look(&lookups, Asked::Exists, false);
        }
        assert!(!lookups.are_too_many(), "the last may have found something");
        assert!(!look(&lookups, Asked::Nothing, true), "it had not");
        assert!(lookups.are_too_many());
        let v6 = Lookups::new(100);
        (0..3).for_each(|_| assert!(look(&v6, Asked::Exists, false)));
        assert!(v6.are_too_many());
    }
}
