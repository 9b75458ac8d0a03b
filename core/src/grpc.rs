//! What the gateway looks at in calls of gRPC (gRPC, "PROTOCOL-HTTP2").

use std::time::Duration;

/// Whether a `Content-Type` is one of gRPC.
pub fn is_media_type(value: &[u8]) -> bool {
    value.starts_with(b"application/grpc")
}

/// How long a call may take by its `grpc-timeout`: one to eight digits and a unit. `None`: that is
/// not what the field says.
pub fn timeout(value: &[u8]) -> Option<Duration> {
    let (unit, digits) = value.split_last()?;
    if !(1..=8).contains(&digits.len()) || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let count = digits.iter().fold(0, |count, digit| count * 10 + u64::from(digit - b'0'));
    Some(match unit {
        b'H' => Duration::from_secs(count * 3600),
        b'M' => Duration::from_secs(count * 60),
        b'S' => Duration::from_secs(count),
        b'm' => Duration::from_millis(count),
        b'u' => Duration::from_micros(count),
        b'n' => Duration::from_nanos(count),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn units() {
        let cases: [(&[u8], _); 6] = [
            (b"99999999H", Duration::from_secs(99_999_999 * 3600)),
            (b"2M", Duration::from_secs(120)),
            (b"00000003S", Duration::from_secs(3)),
            (b"250m", Duration::from_millis(250)),
            (b"1u", Duration::from_micros(1)),
            (b"0n", Duration::ZERO),
        ];
        for (value, expected) in cases {
            assert_eq!(timeout(value), Some(expected), "{value:?}");
        }
        for value in [&b""[..], b"S", b"1", b"123456789S", b"1s", b"-1S", b"1.5S", b" 1S", b"1S "] {
            assert_eq!(timeout(value), None, "{value:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_timeout_or_not(value in proptest::collection::vec(any::<u8>(), 0..12)) {
            let is_form = (2..=9).contains(&value.len())
                && value[..value.len() - 1].iter().all(u8::is_ascii_digit)
                && b"HMSmun".contains(&value[value.len() - 1]);
            prop_assert_eq!(timeout(&value).is_some(), is_form);
        }
    }
}
