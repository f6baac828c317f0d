//! Figures as people read them: sizes, durations, times, digests. JSON never passes here.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Unix milliseconds as the protocol has them; 0 and below mean "not yet".
pub(crate) fn time_of_ms(ms: i64) -> Option<SystemTime> {
    u64::try_from(ms).ok().filter(|ms| *ms > 0).map(|ms| UNIX_EPOCH + Duration::from_millis(ms))
}

/// RFC 3339 in UTC with milliseconds, or nothing for "not yet".
pub(crate) fn rfc3339(ms: i64) -> Option<String> {
    time_of_ms(ms).map(|time| humantime::format_rfc3339_millis(time).to_string())
}

/// Time of day in UTC, `14:03:07.250`.
pub(crate) fn clock(ms: i64) -> String {
    rfc3339(ms).map_or_else(|| "-".to_owned(), |text| text[11..23].to_owned())
}

/// `12 s ago`, `3 min ago`, one unit; `-` for "not yet".
pub(crate) fn ago(ms: i64, now: SystemTime) -> String {
    match time_of_ms(ms) {
        None => "-".to_owned(),
        Some(time) => match now.duration_since(time).unwrap_or_default() {
            passed if passed < Duration::from_secs(1) => "just now".to_owned(),
            _ => format!("{} ago", age(ms, now)),
        },
    }
}

/// `12 s`, `3 min`, one unit; `-` for "not yet". A clock that is behind makes it 0.
pub(crate) fn age(ms: i64, now: SystemTime) -> String {
    let Some(time) = time_of_ms(ms) else { return "-".to_owned() };
    let passed = now.duration_since(time).unwrap_or_default().as_secs();
    let unit = [86_400, 3_600, 60].into_iter().find(|unit| passed >= *unit).unwrap_or(1);
    match passed {
        0 => "0 s".to_owned(),
        _ => duration(Duration::from_secs(passed / unit * unit)),
    }
}

/// Two units at most: `850 ms`, `7.4 s`, `42 s`, `3 min 20 s`, `2 h 5 min`, `4 d 3 h`.
pub(crate) fn duration(time: Duration) -> String {
    let seconds = time.as_secs();
    let pair = |big: u64, big_unit: &str, small: u64, small_unit: &str| {
        if small == 0 { format!("{big} {big_unit}") } else { format!("{big} {big_unit} {small} {small_unit}") }
    };
    match seconds {
        0 => format!("{} ms", time.as_millis()),
        1..10 if time.subsec_millis() >= 50 => format!("{:.1} s", time.as_secs_f64()),
        1..60 => format!("{seconds} s"),
        60..3_600 => pair(seconds / 60, "min", seconds % 60, "s"),
        3_600..86_400 => pair(seconds / 3_600, "h", seconds % 3_600 / 60, "min"),
        _ => pair(seconds / 86_400, "d", seconds % 86_400 / 3_600, "h"),
    }
}

/// A duration given in milliseconds, which may be a fraction; not a number or negative reads as 0.
pub(crate) fn duration_ms(ms: f64) -> String {
    duration(Duration::try_from_secs_f64(ms / 1e3).unwrap_or_default())
}

/// A measured time, to two digits or so: `0.42 ms`, `7.5 ms`, `40 ms`, `1.5 s`.
pub(crate) fn span(seconds: f64) -> String {
    match seconds * 1e3 {
        ms if ms < 1.0 => format!("{ms:.2} ms"),
        ms if ms < 10.0 => format!("{ms:.1} ms"),
        ms if ms < 1_000.0 => format!("{ms:.0} ms"),
        _ => format!("{seconds:.1} s"),
    }
}

/// `$12.30`, `$0.52`, and two digits of what is less: `$0.0042`.
pub(crate) fn money(usd: f64) -> String {
    let size = usd.abs();
    let decimals = if (1e-9..0.095).contains(&size) { (1.0 - size.log10().floor()) as usize } else { 2 };
    let sign = if usd < 0.0 { "-" } else { "" };
    format!("{sign}${:.decimals$}", usd.abs())
}

/// Binary units: `512 B`, `1.4 KiB`, `95.4 MiB`.
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if count < 1024 {
        return format!("{count} B");
    }
    let mut scaled = count as f64 / 1024.0;
    let mut unit = 0;
    while scaled >= 1023.95 && unit + 1 < UNITS.len() {
        scaled /= 1024.0;
        unit += 1;
    }
    format!("{scaled:.1} {}", UNITS[unit])
}

/// `blake3:0123456789ab`: enough to tell two apart by eye. Shorter texts stay as they are.
pub(crate) fn short_digest(digest: &str) -> &str {
    match digest.split_once(':') {
        Some((kind, hex)) if hex.len() > 12 && hex.is_char_boundary(12) => &digest[..kind.len() + 1 + 12],
        _ => digest,
    }
}

/// A loss or another small figure, four significant digits: `0.03125`, `2.314`, `1.2e-7`.
pub(crate) fn figure(value: f64) -> String {
    let size = value.abs();
    if value == 0.0 {
        "0".to_owned()
    } else if !(1e-4..1e6).contains(&size) {
        format!("{value:.2e}")
    } else {
        let decimals = (3 - size.log10().floor() as i32).clamp(0, 7) as usize;
        format!("{value:.decimals$}")
    }
}

/// A rate, three significant digits: `840/s` becomes `840`, 12 430 becomes `12.4k`.
pub(crate) fn rate(per_s: f64) -> String {
    match per_s {
        r if r >= 999_500.0 => format!("{:.1}M", r / 1e6),
        r if r >= 99_950.0 => format!("{:.0}k", r / 1e3),
        r if r >= 9_950.0 => format!("{:.1}k", r / 1e3),
        r if r >= 100.0 => format!("{r:.0}"),
        r => format!("{r:.1}"),
    }
}

/// `1 parameter`, `25,450 parameters`.
pub(crate) fn grouped(n: u64, one: &str) -> String {
    let digits = n.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    if n == 1 { format!("{text} {one}") } else { format!("{text} {one}s") }
}

/// `1 worker`, `2 workers`.
pub(crate) fn count(n: u64, one: &str) -> String {
    if n == 1 { format!("1 {one}") } else { format!("{n} {one}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_two_units_at_most() {
        let cases = [
            (0, "0 ms"),
            (850, "850 ms"),
            (1_000, "1 s"),
            (7_400, "7.4 s"),
            (42_300, "42 s"),
            (200_000, "3 min 20 s"),
            (3_600_000, "1 h"),
            (7_500_000, "2 h 5 min"),
            (356_400_000, "4 d 3 h"),
        ];
        for (ms, text) in cases {
            assert_eq!(duration(Duration::from_millis(ms)), text);
        }
        assert_eq!(duration_ms(f64::NAN), "0 ms");
    }

    #[test]
    fn long_numbers_are_in_groups_of_three_digits() {
        for (n, text) in [(0, "0 bytes"), (1, "1 byte"), (999, "999 bytes"), (1_000, "1,000 bytes")] {
            assert_eq!(grouped(n, "byte"), text);
        }
        assert_eq!(grouped(16_777_216, "step"), "16,777,216 steps");
    }

    #[test]
    fn sizes_use_binary_units() {
        for (count, text) in
            [(0, "0 B"), (1023, "1023 B"), (1434, "1.4 KiB"), (1 << 20, "1.0 MiB"), (u64::MAX, "16777216.0 TiB")]
        {
            assert_eq!(bytes(count), text);
        }
    }

    #[test]
    fn times_are_relative_or_rfc_3339() {
        let ms = 1_700_000_000_250;
        assert_eq!(rfc3339(ms).as_deref(), Some("2023-11-14T22:13:20.250Z"));
        assert_eq!(clock(ms), "22:13:20.250");
        assert_eq!(rfc3339(0), None);
        let now = time_of_ms(ms).unwrap();
        assert_eq!(ago(ms, now + Duration::from_millis(200_700)), "3 min ago");
        assert_eq!(ago(ms, now - Duration::from_secs(5)), "just now");
        assert_eq!(ago(0, now), "-");
    }

    #[test]
    fn figures_keep_four_digits() {
        for (value, text) in
            [(0.0, "0"), (0.031_25, "0.03125"), (2.314_15, "2.314"), (1.2e-7, "1.20e-7"), (123_456.0, "123456")]
        {
            assert_eq!(figure(value), text);
        }
        for (value, text) in
            [(84.25, "84.2"), (840.4, "840"), (12_430.0, "12.4k"), (152_000.0, "152k"), (2_500_000.0, "2.5M")]
        {
            assert_eq!(rate(value), text);
        }
    }

    #[test]
    fn digests_are_cut_for_tables_only_when_long() {
        assert_eq!(short_digest("blake3:0123456789abcdef"), "blake3:0123456789ab");
        assert_eq!(short_digest("blake3:0123"), "blake3:0123");
        assert_eq!(short_digest(""), "");
    }
}
