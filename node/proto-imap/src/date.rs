//! Dates on the wire and as numbers (RFC 3501 section 9, `date` and `date-time`). No clock is read here.

use crate::{cursor::Cursor, error::SyntaxError};

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
const DAY_SECONDS: i64 = 86_400;

/// Days since 1970-01-01 in the proleptic Gregorian calendar.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Day(pub i64);

impl Day {
    /// The day with this date; `month` and `day` from 1.
    #[must_use]
    pub fn from_date(year: i64, month: u32, day: u32) -> Self {
        // Howard Hinnant's days_from_civil: years begin in March so that the leap day is the last.
        let year = if month <= 2 { year - 1 } else { year };
        let era = year.div_euclid(400);
        let of_era = year.rem_euclid(400);
        let of_year = (153 * ((i64::from(month) + 9) % 12) + 2) / 5 + i64::from(day) - 1;
        Self(era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468)
    }

    /// The day on which this instant falls in a zone so many minutes east of UTC.
    #[must_use]
    pub fn of(unix: i64, zone_minutes: i16) -> Self {
        Self(unix.saturating_add(i64::from(zone_minutes) * 60).div_euclid(DAY_SECONDS))
    }

    /// Year, month and day, the latter from 1.
    #[must_use]
    pub fn date(self) -> (i64, i64, i64) {
        let days = self.0 + 719_468;
        let era = days.div_euclid(146_097);
        let of_era = days.rem_euclid(146_097);
        let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted = (5 * of_year + 2) / 153;
        let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
        let year = year_of_era + era * 400 + i64::from(month <= 2);
        (year, month, of_year - (153 * shifted + 2) / 5 + 1)
    }
}

/// `date-time` without its quotes: `17-Jul-1996 02:44:25 -0700`.
#[must_use]
pub fn format_date_time(unix: i64, zone_minutes: i16) -> String {
    let (year, month, day) = Day::of(unix, zone_minutes).date();
    let seconds = unix.saturating_add(i64::from(zone_minutes) * 60).rem_euclid(DAY_SECONDS);
    let month = MONTHS[usize::try_from(month - 1).unwrap_or(0).min(11)];
    let (sign, zone) = (if zone_minutes < 0 { '-' } else { '+' }, zone_minutes.unsigned_abs());
    format!(
        "{day:2}-{month}-{year:04} {:02}:{:02}:{:02} {sign}{:02}{:02}",
        seconds / 3600,
        seconds / 60 % 60,
        seconds % 60,
        zone / 60,
        zone % 60
    )
}

fn month(cursor: &mut Cursor<'_>) -> Result<u32, SyntaxError> {
    for (number, name) in (1..).zip(MONTHS) {
        if cursor.eat_word(name) {
            return Ok(number);
        }
    }
    cursor.fail("a month (Jan to Dec)")
}

fn day_of(cursor: &Cursor<'_>, year: u32, month: u32, day: u32) -> Result<Day, SyntaxError> {
    let days = match month {
        2 if year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400)) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    };
    if (1..=days).contains(&day) && (1..=9999).contains(&year) {
        Ok(Day::from_date(i64::from(year), month, day))
    } else {
        cursor.fail("a day that exists")
    }
}

/// ```text
/// date      = date-text / DQUOTE date-text DQUOTE
/// date-text = date-day "-" date-month "-" date-year
/// ```
pub(crate) fn date(cursor: &mut Cursor<'_>) -> Result<Day, SyntaxError> {
    let quoted = cursor.eat(b'"');
    let day = cursor.number("a day of the month")?;
    cursor.expect(b'-', "-")?;
    let month = month(cursor)?;
    cursor.expect(b'-', "-")?;
    let year = cursor.number("a year")?;
    if quoted {
        cursor.expect(b'"', "a closing quote")?;
    }
    day_of(cursor, year, month, day)
}

/// ```text
/// date-time = DQUOTE date-day-fixed "-" date-month "-" date-year SP time SP zone DQUOTE
/// time      = 2DIGIT ":" 2DIGIT ":" 2DIGIT
/// zone      = ("+" / "-") 4DIGIT
/// ```
/// Answers seconds since 1970 and minutes east of UTC.
pub(crate) fn date_time(cursor: &mut Cursor<'_>) -> Result<(i64, i16), SyntaxError> {
    cursor.expect(b'"', "a date in quotes")?;
    cursor.eat(b' ');
    let day = cursor.number("a day of the month")?;
    cursor.expect(b'-', "-")?;
    let month = month(cursor)?;
    cursor.expect(b'-', "-")?;
    let year = cursor.number("a year")?;
    cursor.space()?;
    let hour = cursor.number("an hour")?;
    cursor.expect(b':', ":")?;
    let minute = cursor.number("a minute")?;
    cursor.expect(b':', ":")?;
    let second = cursor.number("a second")?;
    if hour > 23 || minute > 59 || second > 60 {
        return cursor.fail("a time of day");
    }
    cursor.space()?;
    let west = match cursor.peek() {
        Some(b'-') => true,
        Some(b'+') => false,
        _ => return cursor.fail("a zone such as +0000"),
    };
    cursor.eat(if west { b'-' } else { b'+' });
    let zone = cursor.number("a zone such as +0000")?;
    if zone > 2359 || zone % 100 > 59 {
        return cursor.fail("a zone such as +0000");
    }
    cursor.expect(b'"', "a closing quote")?;
    let minutes = i16::try_from(zone / 100 * 60 + zone % 100).unwrap_or(0);
    let minutes = if west { -minutes } else { minutes };
    let day = day_of(cursor, year, month, day)?;
    let seconds = i64::from(hour * 3600 + minute * 60 + second.min(59));
    Ok((day.0 * DAY_SECONDS + seconds - i64::from(minutes) * 60, minutes))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_date_of_the_rfc() {
        let mut cursor = Cursor::new(b"\"17-Jul-1996 02:44:25 -0700\"");
        let (unix, zone) = date_time(&mut cursor).unwrap();
        assert_eq!((unix, zone), (837_596_665, -420));
        assert_eq!(format_date_time(unix, zone), "17-Jul-1996 02:44:25 -0700");
        assert_eq!(date(&mut Cursor::new(b"1-feb-1994")), Ok(Day::from_date(1994, 2, 1)));
        assert_eq!(Day::from_date(1970, 1, 1), Day(0));
        for bad in ["30-Feb-2024", "0-Jan-2024", "1-Foo-2024", "1-Jan-0", "1-Jan-99999999999"] {
            assert!(date(&mut Cursor::new(bad.as_bytes())).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn round_trip(unix in -60_000_000_000_i64..250_000_000_000, zone in -1439_i16..1440) {
            let text = format!("\"{}\"", format_date_time(unix, zone));
            prop_assert_eq!(date_time(&mut Cursor::new(text.as_bytes())), Ok((unix, zone)));
        }
    }
}
