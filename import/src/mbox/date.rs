//! The date of a `From ` line: `From SENDER Fri Nov 17 09:05:01 2023`, perhaps with seconds left out, a zone before or
//! after the year, or more words behind.

use jiff::{
    civil,
    tz::{Offset, TimeZone},
};

const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
/// Words of a line that are looked at.
const WORDS: usize = 32;

/// Seconds since 1970; `None`: no date, so no such line. `zone` is for dates that name none.
pub(super) fn of_from_line(line: &str, zone: &TimeZone) -> Option<i64> {
    let words: Vec<&str> = line.split_ascii_whitespace().take(WORDS).collect();
    // A sender may look like a day, too: the last place that makes a date of the rest counts.
    (1..words.len()).rev().find_map(|at| date(words.get(at..)?, zone))
}

fn date(words: &[&str], zone: &TimeZone) -> Option<i64> {
    let [day, month, date, time, rest @ ..] = words else { return None };
    if !DAYS.contains(day) {
        return None;
    }
    let month = i8::try_from(MONTHS.iter().position(|m| m == month)? + 1).ok()?;
    let date = date.parse().ok()?;
    let (hour, minute, second) = clock(time)?;
    let (year, named) = match rest {
        [year, zone, ..] if is_year(year) => (year, offset(zone)),
        [year] if is_year(year) => (year, None),
        [zone, year, ..] if is_year(year) => (year, offset(zone)),
        _ => return None,
    };
    let at = civil::Date::new(year.parse().ok()?, month, date).ok()?.at(hour, minute, second, 0);
    let zone = named.map_or_else(|| zone.clone(), TimeZone::fixed);
    Some(zone.to_timestamp(at).ok()?.as_second())
}

fn is_year(word: &str) -> bool {
    word.len() == 4 && word.bytes().all(|b| b.is_ascii_digit())
}

fn clock(word: &str) -> Option<(i8, i8, i8)> {
    let mut parts = word.split(':');
    let (hour, minute) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    let second: i8 = parts.next().map_or(Some(0), |text| text.parse().ok())?;
    let is_time = (0..24).contains(&hour) && (0..60).contains(&minute) && (0..=60).contains(&second);
    (is_time && parts.next().is_none()).then_some((hour, minute, second.min(59)))
}

/// `+0200`, `GMT`, `UTC`. Other names mean different things in different places.
fn offset(word: &str) -> Option<Offset> {
    if matches!(word, "GMT" | "UTC" | "UT" | "Z") {
        return Some(Offset::UTC);
    }
    let digits = word.strip_prefix(['+', '-'])?;
    if digits.len() != 4 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let number: i32 = digits.parse().ok()?;
    let seconds = (number / 100 * 60 + number % 100) * 60;
    Offset::from_seconds(if word.starts_with('-') { -seconds } else { seconds }).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_as_programs_write_them() {
        let zone = TimeZone::fixed(Offset::from_hours(2).unwrap());
        let utc = 1_700_211_901;
        for (line, expected) in [
            ("From ann@example.org Fri Nov 17 11:05:01 2023\n", Some(utc)),
            ("From ann@example.org  Fri Nov 17 11:05 2023", Some(utc - 1)),
            ("From MAILER-DAEMON Fri Nov 17 09:05:01 2023 +0000", Some(utc)),
            ("From ann Fri Nov 17 04:05:01 -0500 2023", Some(utc)),
            ("From ann Fri Nov 17 09:05:01 GMT 2023", Some(utc)),
            ("From ann Fri Nov 17 11:05:01 CEST 2023", Some(utc)),
            ("From ann Fri Nov 17 11:05:01 2023 remote from host", Some(utc)),
            ("From \"a b\"@example.org Fri Nov 17 11:05:01 2023", Some(utc)),
            ("From Mon Jan Fri Nov 17 11:05:01 2023", Some(utc)),
            ("From Fri Nov 17 11:05:01 2023", Some(utc)),
            ("From here on, all was well", None),
            ("From ann Fri Nov 31 11:05:01 2023", None),
            ("From ann Fri Nov 17 24:05:01 2023", None),
            ("From ann Fri Nov 17 11:05:01 23", None),
            ("From ann Xxx Nov 17 11:05:01 2023", None),
            ("From ann 2023-11-17", None),
            ("From ", None),
        ] {
            assert_eq!(of_from_line(line, &zone), expected, "{line}");
        }
    }
}
