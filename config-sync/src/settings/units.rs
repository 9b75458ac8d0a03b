//! nginx's notations of sizes and times (nginx, "Configuration file measurement units").

use std::time::Duration;

/// Longest time that can be configured: about 31 years.
const SECONDS_MAX: f64 = 1e9;

/// A size in bytes: digits and an optional `k`, `m` or `g`.
pub(super) fn size(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor = match text[digits.len()..].to_ascii_lowercase().as_str() {
        "" => 1,
        "k" => 1 << 10,
        "m" => 1 << 20,
        "g" => 1 << 30,
        _ => return None,
    };
    decimal(digits)?.checked_mul(factor)
}

/// A time: one or more parts of digits and a unit, the largest unit first, such as `60s`, `500ms`
/// or `1h 30m`; the last part may go without a unit and is then in seconds.
pub(super) fn duration(text: &str) -> Option<Duration> {
    let mut total = 0f64;
    let mut rest = text.trim();
    let mut smallest = f64::INFINITY;
    while !rest.is_empty() {
        let unit_at = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let (digits, tail) = rest.split_at(unit_at);
        let end = tail.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(end);
        let tail = tail.trim_start();
        let seconds = match unit {
            "ms" => 0.001,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            "d" => 86_400.0,
            "w" => 604_800.0,
            "M" => 2_592_000.0,
            "y" => 31_536_000.0,
            "" if tail.is_empty() => 1.0,
            _ => return None,
        };
        if seconds >= smallest {
            return None;
        }
        smallest = seconds;
        total += decimal(digits)? as f64 * seconds;
        rest = tail;
    }
    (smallest.is_finite() && total <= SECONDS_MAX).then(|| Duration::from_secs_f64(total))
}

/// A number of seconds.
pub(super) fn seconds(number: f64) -> Option<Duration> {
    (0.0..=SECONDS_MAX).contains(&number).then(|| Duration::from_secs_f64(number))
}

fn decimal(digits: &str) -> Option<u64> {
    let only_digits = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    if only_digits { digits.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        assert_eq!(size("0"), Some(0));
        assert_eq!(size("16k"), Some(16384));
        assert_eq!(size("1M"), Some(1 << 20));
        assert_eq!(size("2g"), Some(2 << 30));
        for bad in ["", "k", "1t", "-1", "1 k", "1.5m", "+1", "99999999999g", "1kk"] {
            assert_eq!(size(bad), None, "{bad}");
        }
    }

    #[test]
    fn durations() {
        let ms = |n| Some(Duration::from_millis(n));
        for (text, expected) in [
            ("60s", ms(60_000)),
            ("500ms", ms(500)),
            ("1m", ms(60_000)),
            ("1h 30m", ms(5_400_000)),
            ("1m30s", ms(90_000)),
            ("1m 30", ms(90_000)),
            ("60", ms(60_000)),
            ("0", ms(0)),
            ("2d", ms(172_800_000)),
            (" 5s ", ms(5_000)),
        ] {
            assert_eq!(duration(text), expected, "{text}");
        }
        for bad in ["", "s", "1x", "1s 1m", "1s1s", "-1s", "1.5s", "30 1m", "99999999999y", "1 s"] {
            assert_eq!(duration(bad), None, "{bad}");
        }
    }

    #[test]
    fn plain_numbers_are_seconds() {
        assert_eq!(seconds(1.5), Some(Duration::from_millis(1500)));
        assert_eq!((seconds(-1.0), seconds(f64::NAN), seconds(1e300)), (None, None, None));
    }
}
