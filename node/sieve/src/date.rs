//! Dates of header fields, and their parts (RFC 5322 section 3.3 and 4.3, RFC 5260 section 4).

use std::fmt::Write as _;

/// A point in time with the offset that it was written with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// Seconds since 1970, UTC.
    pub unix: i64,
    /// Minutes east of UTC.
    pub offset: i32,
    /// The second was written as 60.
    pub leap: bool,
}

/// A part of a date that a test can ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DatePart {
    Year,
    Month,
    Day,
    Date,
    Julian,
    Hour,
    Minute,
    Second,
    Time,
    Iso8601,
    Std11,
    Zone,
    Weekday,
}

const PARTS: &[(&str, DatePart)] = &[
    ("year", DatePart::Year),
    ("month", DatePart::Month),
    ("day", DatePart::Day),
    ("date", DatePart::Date),
    ("julian", DatePart::Julian),
    ("hour", DatePart::Hour),
    ("minute", DatePart::Minute),
    ("second", DatePart::Second),
    ("time", DatePart::Time),
    ("iso8601", DatePart::Iso8601),
    ("std11", DatePart::Std11),
    ("zone", DatePart::Zone),
    ("weekday", DatePart::Weekday),
];

const DAYS: [&str; 7] = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];
const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// Zones that RFC 5322 section 4.3 knows by name, in hours. All other names mean that nothing is known: UTC.
const ZONES: &[(&str, i32)] =
    &[("EDT", -4), ("EST", -5), ("CDT", -5), ("CST", -6), ("MDT", -6), ("MST", -7), ("PDT", -7), ("PST", -8)];

impl DatePart {
    pub fn from_name(name: &[u8]) -> Option<Self> {
        PARTS.iter().find(|(known, _)| known.as_bytes().eq_ignore_ascii_case(name)).map(|(_, part)| *part)
    }
}

impl Stamp {
    /// The date that a field consists of, or that follows its last semicolon.
    pub fn parse(field: &[u8]) -> Option<Self> {
        let text = without_comments(field);
        let date = text.rsplit(|octet| *octet == b';').next()?;
        Scanner(date).date()
    }

    /// The same time as it is written elsewhere.
    pub fn at_offset(self, offset: i32) -> Self {
        Self { offset, ..self }
    }

    /// A part of it; `None` outside of the years 0 to 9999.
    pub fn part(self, part: DatePart) -> Option<String> {
        let local = self.unix.checked_add(i64::from(self.offset) * 60)?;
        let (days, seconds) = (local.div_euclid(86_400), local.rem_euclid(86_400));
        let (year, month, day) = civil(days)?;
        let (hour, minute) = (seconds / 3600, seconds / 60 % 60);
        let second = if self.leap { 60 } else { seconds % 60 };
        let weekday = usize::try_from((days + 4).rem_euclid(7)).ok()?;
        let date = format!("{year:04}-{month:02}-{day:02}");
        let time = format!("{hour:02}:{minute:02}:{second:02}");
        Some(match part {
            DatePart::Year => format!("{year:04}"),
            DatePart::Month => format!("{month:02}"),
            DatePart::Day => format!("{day:02}"),
            DatePart::Date => date,
            // The Modified Julian Day of 1970-01-01 is 40587.
            DatePart::Julian => (days + 40_587).to_string(),
            DatePart::Hour => format!("{hour:02}"),
            DatePart::Minute => format!("{minute:02}"),
            DatePart::Second => format!("{second:02}"),
            DatePart::Time => time,
            DatePart::Iso8601 if self.offset == 0 => format!("{date}T{time}Z"),
            DatePart::Iso8601 => format!("{date}T{time}{}", self.zone(":")),
            DatePart::Std11 => {
                let month = MONTHS.get(usize::try_from(month - 1).ok()?)?;
                format!("{}, {day:02} {month} {year:04} {time} {}", DAYS[weekday], self.zone(""))
            }
            DatePart::Zone => self.zone(""),
            DatePart::Weekday => weekday.to_string(),
        })
    }

    fn zone(self, colon: &str) -> String {
        let sign = if self.offset < 0 { '-' } else { '+' };
        let minutes = self.offset.unsigned_abs();
        let mut zone = String::new();
        // Writing to a string does not fail.
        let _ = write!(zone, "{sign}{:02}{colon}{:02}", minutes / 60, minutes % 60);
        zone
    }
}

/// `time-zone = ( "+" / "-" ) 4DIGIT`, in minutes.
pub fn zone(text: &[u8]) -> Option<i32> {
    let (sign, digits) = text.split_first()?;
    let [h1, h2, m1, m2] = digits else { return None };
    if !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let digit = |octet: &u8| i32::from(*octet - b'0');
    let (hours, minutes) = (digit(h1) * 10 + digit(h2), digit(m1) * 10 + digit(m2));
    if minutes > 59 {
        return None;
    }
    match sign {
        b'+' => Some(hours * 60 + minutes),
        b'-' => Some(-(hours * 60 + minutes)),
        _ => None,
    }
}

/// Days since 1970-01-01 of a day of the Gregorian calendar.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + (month * 153 + 2) / 5 + day - 1 - 719_468
}

/// The day of so many days since 1970-01-01, in the years 0 to 9999.
fn civil(since_1970: i64) -> Option<(i64, i64, i64)> {
    if !(days(0, 1, 1)..=days(9999, 12, 31)).contains(&since_1970) {
        return None;
    }
    let shifted = since_1970 + 719_468;
    let (era, of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let (year, month) = if month < 10 { (year, month + 3) } else { (year + 1, month - 9) };
    Some((year + era * 400, month, day))
}

/// A field without its comments, which may be nested and may stand between any two tokens.
fn without_comments(field: &[u8]) -> Vec<u8> {
    let mut text = Vec::with_capacity(field.len());
    let mut depth = 0_usize;
    let mut octets = field.iter().copied();
    while let Some(octet) = octets.next() {
        match octet {
            b'(' => depth += 1,
            b')' if depth > 0 => depth -= 1,
            b'\\' if depth > 0 => {
                octets.next();
            }
            _ if depth > 0 => continue,
            octet => text.push(octet),
        }
        if depth > 0 || octet == b')' {
            text.push(b' ');
        }
    }
    text
}

struct Scanner<'a>(&'a [u8]);

impl Scanner<'_> {
    /// `[day-name ","] day month year hour ":" minute [":" second] zone`
    fn date(mut self) -> Option<Stamp> {
        if let Some(name) = self.word() {
            DAYS.iter().find(|day| day.as_bytes().eq_ignore_ascii_case(&name))?;
            self.punctuation(b',').then_some(())?;
        }
        let day = self.number(1, 2)?.0;
        let name = self.word()?;
        let month = MONTHS.iter().position(|month| month.as_bytes().eq_ignore_ascii_case(&name))?;
        let month = i64::try_from(month).ok()? + 1;
        // Years of two and three digits are from before 2000 or a little later (RFC 5322 section 4.3).
        let year = match self.number(2, 4)? {
            (year, 2) if year < 50 => year + 2000,
            (year, 2 | 3) => year + 1900,
            (year, _) => year,
        };
        let hour = self.number(1, 2)?.0;
        self.punctuation(b':').then_some(())?;
        let minute = self.number(1, 2)?.0;
        let second = if self.punctuation(b':') { self.number(1, 2)?.0 } else { 0 };
        let offset = self.zone()?;
        self.skip();
        let whole = self.0.is_empty() && hour < 24 && minute < 60 && second <= 60;
        let date = days(year, month, day);
        if !whole || civil(date)? != (year, month, day) {
            return None;
        }
        let of_day = hour * 3600 + minute * 60 + second.min(59);
        let unix = date * 86_400 + of_day - i64::from(offset) * 60;
        Some(Stamp { unix, offset, leap: second == 60 })
    }

    fn skip(&mut self) {
        self.0 = self.0.trim_ascii_start();
    }

    fn word(&mut self) -> Option<Vec<u8>> {
        self.skip();
        let length = self.0.iter().take_while(|octet| octet.is_ascii_alphabetic()).count();
        let (word, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        (length > 0).then(|| word.to_vec())
    }

    /// A number and how many digits it has.
    fn number(&mut self, least: usize, most: usize) -> Option<(i64, usize)> {
        self.skip();
        let length = self.0.iter().take_while(|octet| octet.is_ascii_digit()).count();
        let (digits, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        if !(least..=most).contains(&length) {
            return None;
        }
        Some((digits.iter().fold(0, |number, digit| number * 10 + i64::from(*digit - b'0')), length))
    }

    fn punctuation(&mut self, octet: u8) -> bool {
        self.skip();
        let found = self.0.first() == Some(&octet);
        self.0 = &self.0[usize::from(found)..];
        found
    }

    fn zone(&mut self) -> Option<i32> {
        if let Some(name) = self.word() {
            let known = ZONES.iter().find(|(zone, _)| zone.as_bytes().eq_ignore_ascii_case(&name));
            return Some(known.map_or(0, |(_, hours)| hours * 60));
        }
        let (text, rest) = self.0.split_at_checked(5)?;
        self.0 = rest;
        zone(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_read_and_written() {
        for (field, iso) in [
            ("Tue, 1 Apr 1997 09:06:31 -0800 (PST)", Some("1997-04-01T09:06:31-08:00")),
            ("1 Apr 97 9:06 GMT", Some("1997-04-01T09:06:00Z")),
            ("1 Apr 07 9:06 EST", Some("2007-04-01T09:06:00-05:00")),
            ("from a (b; c) by d; Wed, 7 Dec 2005 05:08:02 -0500", Some("2005-12-07T05:08:02-05:00")),
            ("Mon (a (nested\\) one)), 31 Mar 1997 18 : 26 : 10 z", Some("1997-03-31T18:26:10Z")),
            ("Thu, 29 Feb 2024 00:00:00 +0000", Some("2024-02-29T00:00:00Z")),
            ("Sat, 31 Dec 2016 23:59:60 +0000", Some("2016-12-31T23:59:60Z")),
            ("Wed, 29 Feb 2023 00:00:00 +0000", None),
            ("32 Jan 2023 00:00:00 +0000", None),
            ("1 Jan 2023 24:00:00 +0000", None),
            ("1 Jan 2023 00:00:00", None),
            ("1 Jan 2023 00:00:00 +0060", None),
            ("1 Jan 2023 00:00:00 +0000 and more", None),
            ("Noday, 1 Jan 2023 00:00:00 +0000", None),
            ("", None),
            (";", None),
        ] {
            let found = Stamp::parse(field.as_bytes()).and_then(|stamp| stamp.part(DatePart::Iso8601));
            assert_eq!(found.as_deref(), iso, "{field}");
        }
    }

    #[test]
    fn each_part() {
        let stamp = Stamp::parse(b"Fri, 04 Jul 2008 23:30:05 -0230").unwrap();
        for (name, part) in [
            ("year", "2008"),
            ("month", "07"),
            ("day", "04"),
            ("date", "2008-07-04"),
            ("julian", "54651"),
            ("hour", "23"),
            ("minute", "30"),
            ("second", "05"),
            ("time", "23:30:05"),
            ("iso8601", "2008-07-04T23:30:05-02:30"),
            ("std11", "Fri, 04 Jul 2008 23:30:05 -0230"),
            ("ZONE", "-0230"),
            ("weekday", "5"),
        ] {
            let asked = DatePart::from_name(name.as_bytes()).unwrap();
            assert_eq!(stamp.part(asked).as_deref(), Some(part), "{name}");
        }
        assert_eq!(stamp.at_offset(0).part(DatePart::Std11).unwrap(), "Sat, 05 Jul 2008 02:00:05 +0000");
        assert_eq!(DatePart::from_name(b"century"), None);
    }

    #[test]
    fn days_and_back() {
        for day in (days(0, 1, 1)..days(9999, 12, 31)).step_by(13) {
            let (y, m, d) = civil(day).unwrap();
            assert_eq!(days(y, m, d), day);
        }
        assert_eq!(civil(days(0, 1, 1) - 1), None);
        assert_eq!(civil(i64::MAX - 719_468), None);
        assert_eq!(Stamp { unix: i64::MAX, offset: 1, leap: false }.part(DatePart::Year), None);
    }
}
