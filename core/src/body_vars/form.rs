//! `application/x-www-form-urlencoded`: fields of a form, and arguments of a query.
//!
//! A look-up is one pass over the bytes, without a table of all fields: a body of fields only
//! would make a table many times its size. Decoded is as nginx's Lua module does it: to bytes, and
//! a field without `=` differs from an empty one, which crates for forms do not tell.

use std::borrow::Cow;

use super::Value;

/// The fields: name, and value unless there is no `=`. Both as they are encoded.
fn fields(form: &[u8]) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> {
    form.split(|byte| *byte == b'&').filter_map(|field| {
        let (name, value) = match memchr::memchr(b'=', field) {
            Some(at) => (&field[..at], Some(&field[at + 1..])),
            None => (field, None),
        };
        (!name.is_empty()).then_some((name, value))
    })
}

/// All values of the field `name`, in order.
pub(super) fn values<'a>(form: &'a [u8], name: &[u8]) -> impl Iterator<Item = Value<'a>> {
    fields(form)
        .filter(move |(key, _)| decoded(key).eq(name.iter().copied()))
        .map(|(_, v)| value(v))
}

/// All fields, decoded.
pub(super) fn all(form: &[u8]) -> impl Iterator<Item = (Cow<'_, [u8]>, Value<'_>)> {
    fields(form).map(|(key, v)| (decode(key), value(v)))
}

fn value(encoded: Option<&[u8]>) -> Value<'_> {
    encoded.map_or(Value::Flag, |encoded| Value::Bytes(decode(encoded)))
}

fn decode(encoded: &[u8]) -> Cow<'_, [u8]> {
    if encoded.iter().any(|byte| matches!(byte, b'%' | b'+')) {
        Cow::Owned(decoded(encoded).collect())
    } else {
        Cow::Borrowed(encoded)
    }
}

/// The bytes that `encoded` stands for; `%` without two digits stands for itself.
fn decoded(mut encoded: &[u8]) -> impl Iterator<Item = u8> {
    std::iter::from_fn(move || {
        let (byte, rest) = match encoded {
            [b'%', high, low, rest @ ..] => match (hex(*high), hex(*low)) {
                (Some(high), Some(low)) => (high << 4 | low, rest),
                _ => (b'%', &encoded[1..]),
            },
            [b'+', rest @ ..] => (b' ', rest),
            [byte, rest @ ..] => (*byte, rest),
            [] => return None,
        };
        encoded = rest;
        Some(byte)
    })
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).map(|digit| digit as u8)
}
