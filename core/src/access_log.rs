//! Access log lines: the format string compiled once, written without allocating.
//!
//! Follows nginx's `log_format` (`ngx_http_log_module`): the syntax of the string, which escapes
//! apply to which bytes, and what an unset variable looks like. Two deliberate differences: an
//! empty format is refused, and line ends at the end of the format are cut off, because a YAML
//! block (`|`) always brings one and every second line of the log would be empty.
//!
//! **Invariant:** with the escapes `default` and `json`, no value can end a line or leave a quoted
//! field. This module knows neither the time nor the request; it asks a [`VariableSource`].

use crate::settings::Escape;
use crate::vars::{Variable, VariableSource};

/// A compiled log format.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Format {
    parts: Box<[Part]>,
    escape: Escape,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(Box<[u8]>),
    Variable { variable: Variable, escape: bool },
}

/// Why a log format is refused. Positions count bytes from 0.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// Nothing would be written.
    #[error("the format is empty; to switch the log off, set enable_access_log to false")]
    Empty,
    /// There is no such variable.
    #[error("unknown variable \"${name}\" at position {at}")]
    UnknownVariable {
        /// Name without `$`.
        name: String,
        /// Where its `$` is.
        at: usize,
    },
    /// A `$` that no name follows. nginx has no way to write a literal `$` either.
    #[error("no variable name after the \"$\" at position {at}")]
    MissingName {
        /// Where the `$` is.
        at: usize,
    },
    /// `${` without `}`.
    #[error("the closing brace of \"${{{name}\" at position {at} is missing")]
    UnclosedBrace {
        /// Name without `$`.
        name: String,
        /// Where its `$` is.
        at: usize,
    },
}

impl Format {
    /// Compiles `format`: literal text with `$name` and `${name}`; names consist of letters, digits
    /// and `_`.
    pub fn parse(format: &str, escape: Escape) -> Result<Self, FormatError> {
        let format = format.trim_end_matches(['\r', '\n']);
        if format.is_empty() {
            return Err(FormatError::Empty);
        }
        let mut parts = Vec::new();
        let mut at = 0;
        while let Some(dollar) = format[at..].find('$').map(|i| at + i) {
            push_text(&mut parts, &format[at..dollar]);
            let (name, end) = read_name(format, dollar)?;
            let variable = Variable::parse(name).ok_or_else(|| FormatError::UnknownVariable {
                name: name.to_owned(),
                at: dollar,
            })?;
            let escape = escape != Escape::None && !variable.is_clean();
            parts.push(Part::Variable { variable, escape });
            at = end;
        }
        push_text(&mut parts, &format[at..]);
        Ok(Self { parts: parts.into(), escape })
    }

    /// The variables the format uses, in order: lets the data plane skip what nobody will ask for.
    pub fn variables(&self) -> impl Iterator<Item = &Variable> {
        self.parts.iter().filter_map(|part| match part {
            Part::Variable { variable, .. } => Some(variable),
            Part::Text(_) => None,
        })
    }

    /// Appends one line with its `\n` to `out`. Allocates only when `out` has to grow.
    pub fn write_line<S: VariableSource + ?Sized>(&self, source: &S, out: &mut Vec<u8>) {
        for part in &self.parts {
            match part {
                Part::Text(text) => out.extend_from_slice(text),
                Part::Variable { variable, escape } => {
                    let start = out.len();
                    if !source.append(variable, out) {
                        out.truncate(start);
                        if self.escape == Escape::Default {
                            out.push(b'-');
                        }
                    } else if *escape {
                        self.escape_from(start, out);
                    }
                }
            }
        }
        out.push(b'\n');
    }

    fn escape_from(&self, start: usize, out: &mut Vec<u8>) {
        match self.escape {
            Escape::Default if any_word(&out[start..], default_unsafe) => {
                escape_in_place(out, start, is_default_unsafe, default_escape);
            }
            Escape::Json if any_word(&out[start..], json_unsafe) => {
                escape_in_place(out, start, is_json_unsafe, json_escape);
            }
            _ => {}
        }
    }
}

fn push_text(parts: &mut Vec<Part>, text: &str) {
    if !text.is_empty() {
        parts.push(Part::Text(text.as_bytes().into()));
    }
}

/// The name behind the `$` at `dollar`, and the position after it.
fn read_name(format: &str, dollar: usize) -> Result<(&str, usize), FormatError> {
    let rest = &format[dollar + 1..];
    let (rest, braced) = match rest.strip_prefix('{') {
        Some(inner) => (inner, true),
        None => (rest, false),
    };
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let (name, after) = rest.split_at(rest.find(|c| !is_name(c)).unwrap_or(rest.len()));
    if braced && !after.starts_with('}') && !(name.is_empty() && after.is_empty()) {
        return Err(FormatError::UnclosedBrace { name: name.to_owned(), at: dollar });
    }
    if name.is_empty() {
        return Err(FormatError::MissingName { at: dollar });
    }
    let end = dollar + 1 + name.len() + if braced { 2 } else { 0 };
    Ok((name, end))
}

/// Longest replacement of one byte: JSON's `\u00XX`.
const ESCAPE_LEN_MAX: usize = 6;
/// Bytes that are looked at together.
const WORD: usize = size_of::<u64>();

/// The replacement of one byte and how much of it counts.
type Replacement = ([u8; ESCAPE_LEN_MAX], usize);

/// Replaces the unsafe bytes of `out[start..]`, growing `out` to the right.
fn escape_in_place(
    out: &mut Vec<u8>,
    start: usize,
    is_unsafe: impl Fn(u8) -> bool + Copy,
    escape: impl Fn(u8) -> Replacement,
) {
    let growth: usize =
        out[start..].iter().filter(|&&b| is_unsafe(b)).map(|&b| escape(b).1 - 1).sum();
    let mut read = out.len();
    out.resize(read + growth, 0);
    let mut write = out.len();
    // From the end, so that nothing is overwritten before it was read.
    while read > start && write > read {
        read -= 1;
        let byte = out[read];
        if is_unsafe(byte) {
            let (text, len) = escape(byte);
            write -= len;
            out[write..write + len].copy_from_slice(&text[..len]);
        } else {
            write -= 1;
            out[write] = byte;
        }
    }
}

/// Whether `test` finds something in any word of `bytes`. Nearly every value is clean, so this is
/// what escaping costs: eight bytes at a time, as the compiler does not vectorise it by itself.
#[inline]
fn any_word(bytes: &[u8], test: impl Fn(u64) -> u64) -> bool {
    let (words, rest) = bytes.as_chunks::<WORD>();
    if words.iter().any(|word| test(u64::from_ne_bytes(*word)) != 0) {
        return true;
    }
    let tail = bytes.last_chunk::<WORD>().copied().unwrap_or_else(|| {
        let mut padded = [b' '; WORD];
        padded[..rest.len()].copy_from_slice(rest);
        padded
    });
    test(u64::from_ne_bytes(tail)) != 0
}

/// `byte` in each byte of a word.
const fn splat(byte: u8) -> u64 {
    u64::from_ne_bytes([byte; WORD])
}

/// Non-zero if some byte of `word` is below `limit` (at most 0x80). Bits beyond the lowest such
/// byte may be wrong, which does not matter for yes or no.
#[inline]
const fn below(word: u64, limit: u8) -> u64 {
    word.wrapping_sub(splat(limit)) & !word & splat(0x80)
}

/// nginx: `"`, `\`, control bytes and everything from 0x7F.
fn is_default_unsafe(byte: u8) -> bool {
    matches!(byte, 0..=0x1f | b'"' | b'\\' | 0x7f..)
}

/// [`is_default_unsafe`] for eight bytes.
#[inline]
fn default_unsafe(word: u64) -> u64 {
    let from_7f = (word & splat(0x7f)).wrapping_add(splat(1)) | word;
    json_unsafe(word) | from_7f & splat(0x80)
}

/// RFC 8259, section 7: `"`, `\` and control bytes. Others pass, valid UTF-8 or not, as in nginx.
fn is_json_unsafe(byte: u8) -> bool {
    matches!(byte, 0..=0x1f | b'"' | b'\\')
}

/// [`is_json_unsafe`] for eight bytes.
#[inline]
fn json_unsafe(word: u64) -> u64 {
    below(word, 0x20) | below(word ^ splat(b'"'), 1) | below(word ^ splat(b'\\'), 1)
}

fn default_escape(byte: u8) -> Replacement {
    let [high, low] = hex(byte);
    ([b'\\', b'x', high, low, 0, 0], 4)
}

fn json_escape(byte: u8) -> Replacement {
    let short = match byte {
        b'\n' => b'n',
        b'\r' => b'r',
        b'\t' => b't',
        0x08 => b'b',
        0x0c => b'f',
        b'"' | b'\\' => byte,
        _ => {
            let [high, low] = hex(byte);
            return ([b'\\', b'u', b'0', b'0', high, low], 6);
        }
    };
    ([b'\\', short, 0, 0, 0, 0], 2)
}

fn hex(byte: u8) -> [u8; 2] {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    /// A source with fixed values, by variable name.
    #[derive(Default)]
    struct Values(HashMap<String, Vec<u8>>);

    impl Values {
        fn of(pairs: &[(&str, &[u8])]) -> Self {
            Self(pairs.iter().map(|(k, v)| ((*k).to_owned(), v.to_vec())).collect())
        }
    }

    impl VariableSource for Values {
        fn append(&self, variable: &Variable, out: &mut Vec<u8>) -> bool {
            self.0.get(&variable.to_string()).is_some_and(|value| {
                out.extend_from_slice(value);
                true
            })
        }
    }

    fn line(format: &str, escape: Escape, values: &Values) -> Vec<u8> {
        let mut out = Vec::new();
        Format::parse(format, escape).unwrap().write_line(values, &mut out);
        out
    }

    /// APISIX's default `access_log_format`.
    const APISIX_DEFAULT: &str = "$remote_addr - $remote_user [$time_local] $http_host \
        \"$request\" $status $body_bytes_sent $request_time \"$http_referer\" \
        \"$http_user_agent\" $upstream_addr $upstream_status $upstream_response_time \
        \"$upstream_scheme://$upstream_host$upstream_uri\" \"$apisix_request_id\"";

    #[test]
    fn apisix_default_format() {
        let values = Values::of(&[
            ("remote_addr", b"192.0.2.1"),
            ("time_local", b"02/Jan/2006:15:04:05 +0000"),
            ("http_host", b"a.example"),
            ("request", b"GET /x HTTP/1.1"),
            ("status", b"200"),
            ("body_bytes_sent", b"12"),
            ("request_time", b"0.003"),
            ("http_user_agent", b"say \"hi\""),
            ("upstream_scheme", b"http"),
            ("upstream_host", b"a.example"),
            ("upstream_uri", b""),
            ("request_id", b"00112233445566778899aabbccddeeff"),
        ]);
        assert_eq!(
            String::from_utf8(line(APISIX_DEFAULT, Escape::Default, &values)).unwrap(),
            "192.0.2.1 - - [02/Jan/2006:15:04:05 +0000] a.example \"GET /x HTTP/1.1\" 200 12 0.003 \
             \"-\" \"say \\x22hi\\x22\" - - - \"http://a.example\" \
             \"00112233445566778899aabbccddeeff\"\n"
        );
    }

    /// Lines as nginx 1.22.1 wrote them for these header values.
    #[test]
    fn escapes_are_nginx_s() {
        let values = Values::of(&[
            ("http_foo", b"a\"b\\c\x80\xffd\x7fe\te~"),
            ("http_bar", b""),
            ("uri", b"/a\x01\x08\x0c\x1f\"\n"),
        ]);
        let format = "$http_foo|$http_bar|$http_none|$uri";
        assert_eq!(
            line(format, Escape::Default, &values),
            br"a\x22b\x5Cc\x80\xFFd\x7Fe\x09e~||-|/a\x01\x08\x0C\x1F\x22\x0A".to_vec().plus(b"\n")
        );
        assert_eq!(
            line(format, Escape::Json, &values),
            b"a\\\"b\\\\c\x80\xffd\x7fe\\te~|||/a\\u0001\\b\\f\\u001F\\\"\\n\n"
        );
        assert_eq!(
            line(format, Escape::None, &values),
            b"a\"b\\c\x80\xffd\x7fe\te~|||/a\x01\x08\x0c\x1f\"\n\n"
        );
    }

    trait Concat {
        fn plus(self, more: &[u8]) -> Vec<u8>;
    }

    impl Concat for Vec<u8> {
        fn plus(mut self, more: &[u8]) -> Vec<u8> {
            self.extend_from_slice(more);
            self
        }
    }

    #[test]
    fn names_end_where_nginx_ends_them() {
        let values = Values::of(&[("uri", b"/u"), ("args", b"a=1"), ("arg_a", b"1")]);
        assert_eq!(line("${uri}x", Escape::Default, &values), b"/ux\n");
        assert_eq!(line("$uri-$args", Escape::Default, &values), b"/u-a=1\n");
        assert_eq!(line("$uri$args", Escape::Default, &values), b"/ua=1\n");
        assert_eq!(line("é$arg_a}", Escape::Default, &values), "é1}\n".as_bytes());
        assert_eq!(line("no variable", Escape::Default, &values), b"no variable\n");
    }

    #[test]
    fn a_trailing_line_end_is_cut_off() {
        assert_eq!(line("x\r\n\n", Escape::Default, &Values::default()), b"x\n");
    }

    #[test]
    fn bad_formats_are_refused_with_the_reason() {
        let missing = |at| FormatError::MissingName { at };
        let unknown = |name: &str, at| FormatError::UnknownVariable { name: name.to_owned(), at };
        let unclosed = |name: &str, at| FormatError::UnclosedBrace { name: name.to_owned(), at };
        for (format, want) in [
            ("", FormatError::Empty),
            ("\n", FormatError::Empty),
            ("a $$ b", missing(2)),
            ("x$", missing(1)),
            ("x${", missing(1)),
            ("${}", missing(0)),
            ("$é", missing(0)),
            ("$uri ${abc", unclosed("abc", 5)),
            ("${uri-}", unclosed("uri", 0)),
            ("$uri $nosuch", unknown("nosuch", 5)),
            ("$http_", unknown("http_", 0)),
        ] {
            assert_eq!(Format::parse(format, Escape::Default), Err(want), "{format:?}");
        }
    }

    #[test]
    fn errors_name_what_is_wrong() {
        let message = |format| Format::parse(format, Escape::Json).unwrap_err().to_string();
        assert_eq!(message("$uri $foo_x"), "unknown variable \"$foo_x\" at position 5");
        assert_eq!(message("${foo"), "the closing brace of \"${foo\" at position 0 is missing");
    }

    /// Each byte at each place of a word, so that no carry hides one or invents one.
    #[test]
    fn words_are_judged_as_their_bytes() {
        for around in [0x20, 0x21, 0x23, 0x5b, 0x5d, 0x7e] {
            for place in 0..WORD {
                for byte in 0..=u8::MAX {
                    let mut word = [around; WORD];
                    word[place] = byte;
                    let (default, json) =
                        (any_word(&word, default_unsafe), any_word(&word, json_unsafe));
                    assert_eq!(default, is_default_unsafe(byte), "{word:x?}");
                    assert_eq!(json, is_json_unsafe(byte), "{word:x?}");
                }
            }
        }
        assert!(!any_word(b"", default_unsafe));
        assert!(!any_word(b"clean text of seventeen", default_unsafe));
        assert!(any_word(b"clean text with an end\n", json_unsafe));
        assert!(any_word(b"\n", json_unsafe));
    }

    #[test]
    fn variables_are_listed() {
        let format = Format::parse("$uri [$time_local] $arg_x", Escape::Default).unwrap();
        let names: Vec<_> = format.variables().map(ToString::to_string).collect();
        assert_eq!(names, ["uri", "time_local", "arg_x"]);
    }

    /// A source that breaks its contract must not leave its bytes in the line.
    #[test]
    fn bytes_of_an_unset_variable_are_taken_back() {
        struct Liar;
        impl VariableSource for Liar {
            fn append(&self, _: &Variable, out: &mut Vec<u8>) -> bool {
                out.extend_from_slice(b"garbage");
                false
            }
        }
        let mut out = b"kept ".to_vec();
        Format::parse("[$uri]", Escape::Default).unwrap().write_line(&Liar, &mut out);
        assert_eq!(out, b"kept [-]\n");
    }

    /// The plain way to escape: byte by byte into another buffer.
    fn reference(value: &[u8], escape: Escape) -> Vec<u8> {
        let mut out = Vec::new();
        for &byte in value {
            let (text, len) = match escape {
                Escape::Default if is_default_unsafe(byte) => default_escape(byte),
                Escape::Json if is_json_unsafe(byte) => json_escape(byte),
                _ => ([byte, 0, 0, 0, 0, 0], 1),
            };
            out.extend_from_slice(&text[..len]);
        }
        out
    }

    fn value() -> impl Strategy<Value = Vec<u8>> {
        let nasty = prop::sample::select(&b"\n\r\"\\\0\x7f\x80ab\x1f "[..]);
        prop_oneof![
            prop::collection::vec(any::<u8>(), 0..80),
            prop::collection::vec(nasty, 0..80),
            prop::collection::vec(prop::sample::select(&b"abcxyz/?="[..]), 0..80),
        ]
    }

    proptest! {
        #[test]
        fn no_value_can_end_a_line_or_a_quoted_field(
            foo in value(),
            bar in value(),
            escape in prop::sample::select(&[Escape::Default, Escape::Json][..]),
        ) {
            let values = Values::of(&[("http_foo", &foo), ("uri", &bar)]);
            let line = line("<\"$http_foo\" \"$uri\">", escape, &values);
            prop_assert_eq!(line.last(), Some(&b'\n'));
            prop_assert!(!line[..line.len() - 1].iter().any(|&b| b < 0x20));
            // Quotes that no backslash precedes are the format's own four.
            let mut quotes = 0;
            let mut bytes = line.iter();
            while let Some(&byte) = bytes.next() {
                match byte {
                    b'\\' => drop(bytes.next()),
                    b'"' => quotes += 1,
                    _ => {}
                }
            }
            prop_assert_eq!(quotes, 4);
        }

        #[test]
        fn escaping_in_place_equals_the_plain_way(
            before in value(),
            foo in value(),
            escape in prop::sample::select(&[Escape::Default, Escape::Json, Escape::None][..]),
        ) {
            let values = Values::of(&[("http_foo", &foo)]);
            let mut out = before.clone();
            Format::parse("$http_foo", escape).unwrap().write_line(&values, &mut out);
            let want = before.plus(&reference(&foo, escape)).plus(b"\n");
            prop_assert_eq!(out, want);
        }

        #[test]
        fn json_lines_parse_back(foo in ".{0,60}", uri in ".{0,60}") {
            let values = Values::of(&[("http_foo", foo.as_bytes()), ("uri", uri.as_bytes())]);
            let line = line("{\"foo\":\"$http_foo\",\"uri\":\"$uri\"}", Escape::Json, &values);
            let json: serde_json::Value = serde_json::from_slice(&line).unwrap();
            prop_assert_eq!(json["foo"].as_str(), Some(foo.as_str()));
            prop_assert_eq!(json["uri"].as_str(), Some(uri.as_str()));
        }

        #[test]
        fn parsing_any_format_never_panics(format in ".{0,40}") {
            let _ = Format::parse(&format, Escape::Default);
        }
    }
}
