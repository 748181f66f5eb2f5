//! Sizes and times as people read them.

use jiff::Timestamp;

/// `10G`, `500M`, `64k` or plain octets; each letter is a power of 1024 (`Gi` and `GiB` are the same as `G`); `none` is 0.
///
/// # Errors
/// What is expected.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let expected = || format!("{text:?} is not a size: write 10G, 500M, 64k, a number of octets, or none");
    let lower = text.trim().to_ascii_lowercase();
    if lower == "none" {
        return Ok(0);
    }
    let digits = lower.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let power = match lower[digits.len()..].trim_end_matches('b').trim_end_matches('i') {
        "" => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        _ => return Err(expected()),
    };
    let number: u64 = digits.parse().map_err(|_| expected())?;
    number.checked_mul(1024_u64.pow(power)).ok_or_else(expected)
}

/// `90`, `90s`, `30m`, `12h` or `7d`, in seconds.
///
/// # Errors
/// What is expected.
pub fn parse_duration(text: &str) -> Result<u64, String> {
    let expected = || format!("{text:?} is not a time: write 90 or 90s, 30m, 12h, 7d");
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor = match &text[digits.len()..] {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return Err(expected()),
    };
    let number: u64 = digits.parse().map_err(|_| expected())?;
    number.checked_mul(factor).ok_or_else(expected)
}

/// `2 d 3 h`, `5 min 1 s`, `12 s`: the two largest units.
#[must_use]
pub fn duration(seconds: u64) -> String {
    let units = [
        (seconds / 86_400, "d"),
        (seconds / 3600 % 24, "h"),
        (seconds / 60 % 60, "min"),
        (seconds % 60, "s"),
    ];
    let first = units.iter().position(|(count, _)| *count > 0).unwrap_or(units.len() - 1);
    let shown = units.iter().skip(first).take(2).filter(|(count, _)| *count > 0 || seconds == 0);
    shown.map(|(count, unit)| format!("{count} {unit}")).collect::<Vec<_>>().join(" ")
}

/// `1.5 GiB`.
#[must_use]
pub fn size(octets: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let (mut tenths, mut unit) = (u128::from(octets) * 10, 0);
    while tenths >= 10240 && unit + 1 < UNITS.len() {
        tenths /= 1024;
        unit += 1;
    }
    if unit == 0 { format!("{octets} B") } else { format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit]) }
}

/// A quota: 0 is none.
#[must_use]
pub fn quota(octets: u64) -> String {
    if octets == 0 { "none".to_owned() } else { size(octets) }
}

/// Seconds since 1970 in UTC, `2026-11-23T05:00:00Z`; `-` for 0.
#[must_use]
pub fn time(seconds: i64) -> String {
    match Timestamp::from_second(seconds) {
        Ok(at) if seconds != 0 => at.to_string(),
        _ => "-".to_owned(),
    }
}

/// A time in seconds since 1970: RFC 3339, a day (its beginning in UTC), or so many minutes, hours or days before `now`.
///
/// # Errors
/// What is expected.
pub fn parse_since(text: &str, now: i64) -> Result<i64, String> {
    let expected =
        || format!("{text:?} is not a time: write 2026-11-23T05:00:00Z, 2026-11-23, or 90m, 36h or 3d ago");
    let text = text.trim();
    if let Ok(at) = text.parse::<Timestamp>() {
        return Ok(at.as_second());
    }
    if let Ok(at) = format!("{text}T00:00:00Z").parse::<Timestamp>() {
        return Ok(at.as_second());
    }
    let (unit, seconds) = match text.chars().last() {
        Some(unit @ 'm') => (unit, 60),
        Some(unit @ 'h') => (unit, 3600),
        Some(unit @ 'd') => (unit, 86_400),
        _ => return Err(expected()),
    };
    let number: u32 = text.strip_suffix(unit).unwrap_or_default().parse().map_err(|_| expected())?;
    Ok(now.saturating_sub(i64::from(number) * seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read() {
        for (text, at) in [
            ("1970-01-02T00:00:00Z", 86_400),
            ("1970-01-02T01:00:00+01:00", 86_400),
            ("1970-01-02", 86_400),
            ("90m", 1_000_000 - 5400),
            (" 36h ", 1_000_000 - 129_600),
            ("3d", 1_000_000 - 259_200),
            ("0m", 1_000_000),
        ] {
            assert_eq!(parse_since(text, 1_000_000), Ok(at), "{text}");
        }
        for bad in ["", "d", "-1d", "1.5h", "3w", "yesterday", "1970-13-01", "99999999999d", "3dd", "é"] {
            assert!(parse_since(bad, 1_000_000).is_err(), "{bad}");
        }
    }

    #[test]
    fn durations_are_read_and_written() {
        for (text, seconds, written) in [
            ("0", 0, "0 s"),
            ("90", 90, "1 min 30 s"),
            ("12s", 12, "12 s"),
            ("30m", 1800, "30 min"),
            ("25h", 90_000, "1 d 1 h"),
            ("7d", 604_800, "7 d"),
        ] {
            assert_eq!(parse_duration(text), Ok(seconds), "{text}");
            assert_eq!(duration(seconds), written, "{text}");
        }
        for bad in ["", "d", "1w", "-1", "1.5h", "99999999999999999999", "9999999999999999999d"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn sizes_are_read_and_written() {
        for (text, octets) in [
            ("0", 0),
            ("none", 0),
            ("512", 512),
            ("64k", 65_536),
            ("1KiB", 1024),
            ("10G", 10 << 30),
            ("3Ti", 3 << 40),
            ("5MB", 5 << 20),
        ] {
            assert_eq!(parse_size(text), Ok(octets), "{text}");
        }
        for bad in ["", "x", "-1", "1.5G", "10X", "99999999999999T", "é"] {
            assert!(parse_size(bad).is_err(), "{bad}");
        }
        for (octets, text) in [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (10 << 30, "10.0 GiB")] {
            assert_eq!(size(octets), text);
        }
        assert_eq!(size(u64::MAX), "16777215.9 TiB");
    }
}
