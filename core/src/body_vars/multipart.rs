//! `multipart/form-data` (RFC 7578): the parts with a name.
//!
//! A small parser of its own, because the crates for it read from streams. Like the Lua library in
//! APISIX it takes line ends without a carriage return, and a last part without its end.

use std::borrow::Cow;
use std::ops::Range;

/// Parts that are read; what follows is as if it were not there.
const PARTS_MAX: usize = 10_000;

/// A part: its name, and where its content is in the body.
pub(super) type Part = (Box<[u8]>, Range<usize>);

/// The boundary that `content_type` names.
pub(super) fn boundary(content_type: &[u8]) -> Option<Cow<'_, [u8]>> {
    parameter(content_type, b"boundary").filter(|boundary| !boundary.is_empty())
}

/// The parts of `body` that have a name.
pub(super) fn parts(body: &[u8], boundary: &[u8]) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut start = None;
    for (line, is_last) in delimiters(body, boundary) {
        if let Some(from) = start.replace(line.end) {
            parts.extend(part(body, from..line_end(body, from, line.start)));
        }
        if is_last {
            return parts;
        }
        if parts.len() >= PARTS_MAX {
            return parts;
        }
    }
    parts.extend(start.and_then(|from| part(body, from..body.len())));
    parts
}

/// The lines of the boundary with their line ends, and whether each is the closing one.
fn delimiters<'a>(
    body: &'a [u8],
    boundary: &'a [u8],
) -> impl Iterator<Item = (Range<usize>, bool)> + 'a {
    let mut at = 0;
    std::iter::from_fn(move || {
        while at < body.len() {
            let start = at;
            let end = memchr::memchr(b'\n', &body[at..]).map_or(body.len(), |len| at + len + 1);
            at = end;
            let Some(rest) = body[start..end].strip_prefix(b"--") else { continue };
            let Some(rest) = rest.strip_prefix(boundary) else { continue };
            match rest.trim_ascii() {
                b"" => return Some((start..end, false)),
                b"--" => return Some((start..end, true)),
                _ => {}
            }
        }
        None
    })
}

/// Where the content that begins at `from` ends: the line end before the boundary is not its.
fn line_end(body: &[u8], from: usize, boundary: usize) -> usize {
    let content = &body[from..boundary];
    let content = content.strip_suffix(b"\n").unwrap_or(content);
    from + content.strip_suffix(b"\r").unwrap_or(content).len()
}

/// Reads the head of a part.
fn part(body: &[u8], range: Range<usize>) -> Option<Part> {
    let mut name = None;
    let mut at = range.start;
    while at < range.end {
        let rest = &body[at..range.end];
        let end = memchr::memchr(b'\n', rest).map_or(rest.len(), |end| end + 1);
        let line = rest[..end].trim_ascii();
        at += end;
        if line.is_empty() {
            return name.map(|name| (name, at..range.end));
        }
        name = name.or_else(|| name_of(line));
    }
    None
}

fn name_of(line: &[u8]) -> Option<Box<[u8]>> {
    let colon = memchr::memchr(b':', line)?;
    let (field, value) = (&line[..colon], &line[colon + 1..]);
    field.trim_ascii().eq_ignore_ascii_case(b"content-disposition").then_some(())?;
    parameter(value, b"name").map(|name| name.into_owned().into())
}

/// The parameter `name` of a field value such as `form-data; name="a"`.
fn parameter<'a>(value: &'a [u8], name: &[u8]) -> Option<Cow<'a, [u8]>> {
    let mut rest = &value[memchr::memchr(b';', value)? + 1..];
    loop {
        let key_end = rest.iter().position(|byte| matches!(byte, b'=' | b';'))?;
        let key = rest[..key_end].trim_ascii();
        if rest[key_end] == b';' {
            rest = &rest[key_end + 1..];
            continue;
        }
        let (text, after) = parameter_value(rest[key_end + 1..].trim_ascii_start());
        if key.eq_ignore_ascii_case(name) {
            return Some(text);
        }
        rest = &after[memchr::memchr(b';', after)? + 1..];
    }
}

/// A token or a quoted text at the start of `text`, and what follows it.
fn parameter_value(text: &[u8]) -> (Cow<'_, [u8]>, &[u8]) {
    let Some(quoted) = text.strip_prefix(b"\"") else {
        let end = memchr::memchr(b';', text).unwrap_or(text.len());
        return (Cow::Borrowed(text[..end].trim_ascii_end()), &text[end..]);
    };
    let mut end = 0;
    while end < quoted.len() && quoted[end] != b'"' {
        end += if quoted[end] == b'\\' { 2 } else { 1 };
    }
    let end = end.min(quoted.len());
    let inner = &quoted[..end];
    let after = quoted.get(end + 1..).unwrap_or_default();
    if !inner.contains(&b'\\') {
        return (Cow::Borrowed(inner), after);
    }
    let mut is_escaped = false;
    let unescaped = inner.iter().copied().filter(|byte| {
        is_escaped = *byte == b'\\' && !is_escaped;
        !is_escaped
    });
    (Cow::Owned(unescaped.collect()), after)
}
