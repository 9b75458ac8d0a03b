//! Numbers as Lua has them: what `tonumber` reads and what `tostring` writes (`LuaJIT` 2.1).

/// White space around a number.
fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r')
}

/// The number that `text` is: decimal, hexadecimal (`0x1F.8p1`), binary (`0b101`), `inf` or `nan`.
pub(crate) fn parse(text: &[u8]) -> Option<f64> {
    let start = text.iter().position(|byte| !is_space(*byte))?;
    let end = text.iter().rposition(|byte| !is_space(*byte))?;
    let text = &text[start..=end];
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] | rest => (false, rest),
    };
    let number = match digits {
        [b'0', b'x' | b'X', rest @ ..] => hexadecimal(rest)?,
        [b'0', b'b' | b'B', rest @ ..] => binary(rest)?,
        // Of what begins so, Rust reads the same as Lua, and of words `inf`, `infinity` and `nan`.
        [b'0'..=b'9' | b'.' | b'a'..=b'z' | b'A'..=b'Z', ..] => {
            std::str::from_utf8(digits).ok()?.parse().ok()?
        }
        _ => return None,
    };
    Some(if negative { -number } else { number })
}

fn hexadecimal(text: &[u8]) -> Option<f64> {
    let (mantissa, exponent) = match text.iter().position(|byte| matches!(byte, b'p' | b'P')) {
        Some(at) => (&text[..at], exponent(&text[at + 1..])?),
        None => (text, 0),
    };
    let (mut value, mut scale, mut digits) = (0.0, 0i32, 0);
    let mut in_fraction = false;
    for byte in mantissa {
        if *byte == b'.' && !in_fraction {
            in_fraction = true;
            continue;
        }
        value = value * 16.0 + f64::from(char::from(*byte).to_digit(16)?);
        digits += 1;
        scale = if in_fraction { scale.saturating_sub(4) } else { scale };
    }
    (digits > 0).then(|| value * f64::powi(2.0, scale.saturating_add(exponent)))
}

/// A decimal exponent with or without sign; beyond all numbers it does not matter how far.
fn exponent(text: &[u8]) -> Option<i32> {
    let digits = text.strip_prefix(b"-").or_else(|| text.strip_prefix(b"+")).unwrap_or(text);
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let value = digits.iter().fold(0i32, |value, digit| {
        value.saturating_mul(10).saturating_add(i32::from(digit - b'0')).min(9999)
    });
    Some(if text.starts_with(b"-") { -value } else { value })
}

fn binary(text: &[u8]) -> Option<f64> {
    if text.is_empty() || text.len() > 64 {
        return None;
    }
    text.iter().try_fold(0.0, |value, byte| match byte {
        b'0' | b'1' => Some(value * 2.0 + f64::from(byte - b'0')),
        _ => None,
    })
}

/// Digits that Lua writes of a number (`%.14g`).
const DIGITS: i32 = 14;

/// `number` as Lua writes it.
pub(crate) fn text(number: f64) -> String {
    if !number.is_finite() {
        let words = if number.is_nan() { "nan" } else { "inf" };
        return if number < 0.0 { format!("-{words}") } else { words.to_owned() };
    }
    let scientific = format!("{number:.*e}", (DIGITS - 1) as usize);
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or_default();
    if (-4..DIGITS).contains(&exponent) {
        return without_zeros(&format!("{number:.*}", (DIGITS - 1 - exponent) as usize)).to_owned();
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{}e{sign}{:02}", without_zeros(mantissa), exponent.abs())
}

fn without_zeros(digits: &str) -> &str {
    if digits.contains('.') { digits.trim_end_matches('0').trim_end_matches('.') } else { digits }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `LuaJIT` 2.1 says to `tonumber`.
    #[test]
    #[allow(clippy::float_cmp, reason = "they are the same or wrong")]
    fn reads_what_lua_reads() {
        for (text, expected) in [
            ("10", 10.0),
            (" 10\t", 10.0),
            ("\u{b}1\u{c}", 1.0),
            ("0x10", 16.0),
            ("0X1F.8p1", 63.0),
            ("0x.8", 0.5),
            ("0x1p-1", 0.5),
            ("0x1e3", 483.0),
            ("+0x10", 16.0),
            ("0b101", 5.0),
            ("1e3", 1000.0),
            ("1e5 ", 100_000.0),
            ("5.", 5.0),
            (".5", 0.5),
            ("-1", -1.0),
            ("+1", 1.0),
            ("inf", f64::INFINITY),
            ("-INF", f64::NEG_INFINITY),
            ("infinity", f64::INFINITY),
            ("0777", 777.0),
            ("1e400", f64::INFINITY),
            ("0x1p99999999999", f64::INFINITY),
        ] {
            assert_eq!(parse(text.as_bytes()), Some(expected), "{text:?}");
        }
        assert!(parse(b"nan").is_some_and(f64::is_nan));
        for text in [
            "", " ", "1e", ".", "- 1", "na", "1_0", "0x", "0b", "0b2", "1 2", "1\0", "--1", "+-1",
            "1f", "1ULL", "0xp1", "x", "1e+", "infi", "0b1.1", "0b101e1", "1d", "A", "~",
            "0x1.2.3",
        ] {
            assert_eq!(parse(text.as_bytes()), None, "{text:?}");
        }
        assert_eq!(parse(b"\xff"), None);
    }

    /// What `LuaJIT` 2.1 says to `tostring`.
    #[test]
    fn writes_what_lua_writes() {
        for (number, expected) in [
            (1.0, "1"),
            (1.5, "1.5"),
            (1e13, "10000000000000"),
            (1e14, "1e+14"),
            (123_456_789_012_345.0, "1.2345678901234e+14"),
            (0.1, "0.1"),
            (1e100, "1e+100"),
            (-0.0, "-0"),
            (1.0 / 3.0, "0.33333333333333"),
            (1e-5, "1e-05"),
            (0.0001, "0.0001"),
            (100.0, "100"),
            (f64::NEG_INFINITY, "-inf"),
        ] {
            assert_eq!(text(number), expected);
        }
    }
}
