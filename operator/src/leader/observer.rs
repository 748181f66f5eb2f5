//! When has another leader gone silent? Pure.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;

use super::{DURATION, PERIOD};

/// A lease whose changes the watch shows is not read while it has stood still for less than this: two renewals.
const CALM: Duration = Duration::from_secs(3);

/// What was seen of another's lease, and when this replica first saw it so.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Observed {
    holder: String,
    version: String,
    at: Duration,
    by: Source,
}

/// Who told of a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    Watch,
    Read,
}

/// What to do about a Lease that was just read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Decision {
    /// It is ours: renew it.
    Renew,
    /// Nobody has it, or its holder was silent for its whole length: replace it.
    Take,
    /// Look again later.
    Wait,
}

/// Remembers what was seen, to tell when a holder has gone silent.
#[derive(Debug, Default)]
pub(super) struct Observer {
    seen: Option<Observed>,
    /// Our own lease as we wrote it last: it is renewed without being read again.
    pub held: Option<Lease>,
}

impl Observer {
    /// What follows from a lease that was just read.
    pub fn decide(&mut self, me: &str, holder: &str, version: &str, now: Duration) -> Decision {
        if holder == me {
            return Decision::Renew;
        }
        if holder.is_empty() {
            return Decision::Take;
        }
        match &self.seen {
            Some(seen) if seen.holder == holder && seen.version == version => {
                if now.saturating_sub(seen.at) >= DURATION { Decision::Take } else { Decision::Wait }
            }
            _ => {
                self.see(holder, version, now, Source::Read);
                Decision::Wait
            }
        }
    }

    /// What the watch shows counts as written when it was shown; that a version stood still is believed of reads only.
    pub fn shown(&mut self, holder: &str, version: &str, now: Duration) {
        match &mut self.seen {
            Some(seen) if seen.holder == holder && seen.version == version => seen.by = Source::Watch,
            _ => self.see(holder, version, now, Source::Watch),
        }
    }

    fn see(&mut self, holder: &str, version: &str, at: Duration, by: Source) {
        self.seen = Some(Observed { holder: holder.into(), version: version.into(), at, by });
    }

    /// When a standby that looked last at `looked` reads the lease: while the watch shows renewals, not at all; once it
    /// has stood still, every [`PERIOD`]; at once when nobody holds it, and when it runs out.
    pub fn due(&self, looked: Duration) -> Duration {
        let look = looked + PERIOD;
        let Some(seen) = &self.seen else { return look };
        if seen.holder.is_empty() && seen.at > looked {
            return seen.at;
        }
        let look = if seen.by == Source::Watch { look.max(seen.at + CALM) } else { look };
        let ends = seen.at + DURATION;
        if ends > looked { look.min(ends) } else { look }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_is_taken_only_after_its_record_stood_still() {
        let s = Duration::from_secs;
        let mut o = Observer::default();
        for (name, holder, version, now, expected) in [
            ("own lease", "me", "1", 0, Decision::Renew),
            ("nobody's", "", "1", 0, Decision::Take),
            ("first sight", "other", "2", 100, Decision::Wait),
            ("not long enough", "other", "2", 105, Decision::Wait),
            ("renewed", "other", "3", 106, Decision::Wait),
            ("counted anew", "other", "3", 111, Decision::Wait),
            ("silent", "other", "3", 112, Decision::Take),
            ("another holder", "third", "4", 113, Decision::Wait),
        ] {
            assert_eq!(o.decide("me", holder, version, s(now)), expected, "{name}");
        }
    }

    #[test]
    fn a_version_counts_from_when_it_was_first_seen_whoever_showed_it() {
        let s = Duration::from_secs;
        let mut o = Observer::default();
        o.shown("other", "2", s(100));
        assert_eq!(o.decide("me", "other", "2", s(105)), Decision::Wait);
        o.shown("other", "2", s(105));
        assert_eq!(o.decide("me", "other", "2", s(106)), Decision::Take, "shown once more is no renewal");
        o.shown("other", "3", s(106));
        assert_eq!(o.decide("me", "other", "3", s(111)), Decision::Wait);
    }

    #[test]
    fn the_lease_is_read_only_when_the_watch_shows_no_renewals() {
        let ms = Duration::from_millis;
        let seen = |holder: &str, at: u64, by: Source| Observer {
            seen: Some(Observed { holder: holder.into(), version: "1".into(), at: ms(at), by }),
            held: None,
        };
        for (name, observer, looked, due) in [
            ("nothing seen yet", Observer::default(), 10_000, 11_500),
            ("renewed a moment ago", seen("other", 20_000, Source::Watch), 10_000, 23_000),
            ("still for three seconds", seen("other", 20_000, Source::Watch), 23_000, 24_500),
            ("it runs out before the next look", seen("other", 20_000, Source::Watch), 25_500, 26_000),
            ("it has run out", seen("other", 20_000, Source::Watch), 27_000, 28_500),
            ("no watch: read all the time", seen("other", 20_000, Source::Read), 20_000, 21_500),
            ("given up", seen("", 20_500, Source::Watch), 20_000, 20_500),
            ("given up, and not got", seen("", 20_500, Source::Watch), 20_600, 23_500),
        ] {
            assert_eq!(observer.due(ms(looked)), ms(due), "{name}");
        }
    }
}
