//! Path normalisation for matching, as nginx does it for `$uri`.
//!
//! Percent-decoding, removal of dot segments, and merging of slashes. The original target is what
//! is forwarded; the normalised path is what routes and `$uri` see.

use std::borrow::Cow;

use thiserror::Error;

/// A path that nginx answers with 400.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum PathError {
    /// `%` without two hexadecimal digits.
    #[error("malformed percent-encoding in the path")]
    Percent,
    /// `%00`.
    #[error("NUL in the path")]
    Nul,
    /// More `..` than segments.
    #[error("path leads above the root")]
    AboveRoot,
}

/// Splits a target into path and query (without `?`); a fragment is cut off.
pub fn split_query(target: &[u8]) -> (&[u8], Option<&[u8]>) {
    let target = &target[..memchr::memchr(b'#', target).unwrap_or(target.len())];
    match memchr::memchr(b'?', target) {
        Some(at) => (&target[..at], Some(&target[at + 1..])),
        None => (target, None),
    }
}

/// The normalised form of `path`, which begins with `/`. Borrowed if it already is.
pub fn normalize(path: &[u8]) -> Result<Cow<'_, [u8]>, PathError> {
    if is_normal(path) {
        return Ok(Cow::Borrowed(path));
    }
    let decoded = decode(path)?;
    let mut out: Vec<u8> = Vec::with_capacity(decoded.len() + 1);
    let mut segments = decoded.split(|byte| *byte == b'/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let is_last = segments.peek().is_none();
        match segment {
            b"" | b"." => {}
            b".." => {
                let parent = out.iter().rposition(|b| *b == b'/').ok_or(PathError::AboveRoot)?;
                out.truncate(parent);
            }
            _ => {
                out.push(b'/');
                out.extend_from_slice(segment);
            }
        }
        if is_last && matches!(segment, b"" | b"." | b"..") {
            out.push(b'/');
        }
    }
    if out.is_empty() {
        out.push(b'/');
    }
    Ok(Cow::Owned(out))
}

/// No escapes, no empty segment, no segment that begins with a dot.
fn is_normal(path: &[u8]) -> bool {
    let mut after_slash = false;
    for byte in path {
        match byte {
            b'%' => return false,
            b'/' | b'.' if after_slash => return false,
            _ => after_slash = *byte == b'/',
        }
    }
    path.first() == Some(&b'/')
}

fn decode(path: &[u8]) -> Result<Cow<'_, [u8]>, PathError> {
    if !path.contains(&b'%') {
        return Ok(Cow::Borrowed(path));
    }
    let mut out = Vec::with_capacity(path.len());
    let mut rest = path.iter();
    while let Some(byte) = rest.next() {
        if *byte != b'%' {
            out.push(*byte);
            continue;
        }
        let digit = |byte: Option<&u8>| byte.and_then(|b| char::from(*b).to_digit(16));
        match (digit(rest.next()), digit(rest.next())) {
            (Some(0), Some(0)) => return Err(PathError::Nul),
            (Some(high), Some(low)) => out.push((high * 16 + low) as u8),
            _ => return Err(PathError::Percent),
        }
    }
    Ok(Cow::Owned(out))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn normal(path: &str) -> String {
        String::from_utf8_lossy(&normalize(path.as_bytes()).unwrap()).into_owned()
    }

    #[test]
    fn follows_nginx() {
        for (path, expected) in [
            ("/", "/"),
            ("/a/b", "/a/b"),
            ("/a/b/", "/a/b/"),
            ("//", "/"),
            ("/a//b///c", "/a/b/c"),
            ("/a/./b", "/a/b"),
            ("/a/.", "/a/"),
            ("/a/../b", "/b"),
            ("/a/b/..", "/a/"),
            ("/a/..", "/"),
            ("/a/%2e%2e/b", "/b"),
            ("/%61", "/a"),
            ("/a%2Fb", "/a/b"),
            ("/a%2f%2fb", "/a/b"),
            ("/a%20b", "/a b"),
            ("/.hidden", "/.hidden"),
            ("/..a/...", "/..a/..."),
            ("/%25", "/%"),
        ] {
            assert_eq!(normal(path), expected, "{path}");
        }
    }

    #[test]
    fn refuses_what_nginx_refuses() {
        for (path, error) in [
            ("/..", PathError::AboveRoot),
            ("/a/../../b", PathError::AboveRoot),
            ("/%2e%2e/", PathError::AboveRoot),
            ("/%", PathError::Percent),
            ("/%4", PathError::Percent),
            ("/%zz", PathError::Percent),
            ("/%00", PathError::Nul),
        ] {
            assert_eq!(normalize(path.as_bytes()), Err(error), "{path}");
        }
    }

    #[test]
    fn splits_query_and_fragment() {
        assert_eq!(split_query(b"/a?b=c?d"), (&b"/a"[..], Some(&b"b=c?d"[..])));
        assert_eq!(split_query(b"/a#b?c"), (&b"/a"[..], None));
        assert_eq!(split_query(b"/a?b#c"), (&b"/a"[..], Some(&b"b"[..])));
    }

    proptest! {
        #[test]
        fn the_result_has_nothing_left_to_normalise(path in "/[a-c./%2eE25]{0,40}") {
            if let Ok(normal) = normalize(path.as_bytes()) {
                prop_assert_eq!(normal.first(), Some(&b'/'));
                let slashes = normal.windows(2).any(|pair| pair == b"//");
                prop_assert!(!slashes);
                for segment in normal.split(|b| *b == b'/') {
                    prop_assert!(segment != b"." && segment != b"..");
                }
            }
        }

        #[test]
        fn never_panics(path in prop::collection::vec(any::<u8>(), 0..60)) {
            let _ = normalize(&path);
        }
    }
}
