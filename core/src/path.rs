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
    /// A segment whose `;parameters` would hide what it is from the rules
    /// (`normalize_uri_like_servlet`).
    #[error("dot or empty segment with parameters in the path")]
    Servlet,
}

/// Options of APISIX on the path that routes and `$uri` see (`conf/config.yaml`, `apisix`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PathOptions {
    /// `delete_uri_tail_slash`: `/a/` is taken for `/a`.
    pub delete_tail_slash: bool,
    /// `normalize_uri_like_servlet`: `;parameters` of segments are not part of the path.
    pub servlet: bool,
    /// `match_uri_encoded_slash`: routes see `%2F` for an encoded slash, which is none then.
    pub encoded_slash: bool,
}

/// A request's path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Normalized<'a> {
    /// `$uri`.
    pub uri: Cow<'a, [u8]>,
    /// What routes see when it is not that.
    for_routes: Option<Vec<u8>>,
}

impl Normalized<'_> {
    /// What routes see.
    pub fn for_routes(&self) -> &[u8] {
        self.for_routes.as_deref().unwrap_or(&self.uri)
    }
}

impl PathOptions {
    /// Normalises `path`, which is the target without arguments; `*` and an empty path are allowed.
    #[inline]
    pub fn normalize<'a>(&self, path: &'a [u8]) -> Result<Normalized<'a>, PathError> {
        if *self == Self::default() && is_normal(path) {
            return Ok(Normalized { uri: path.into(), for_routes: None });
        }
        self.normalize_odd(path)
    }

    fn normalize_odd(self, path: &[u8]) -> Result<Normalized<'_>, PathError> {
        if path.is_empty() || path == b"*" {
            let uri = if path.is_empty() { b"/" } else { path };
            return Ok(Normalized { uri: uri.into(), for_routes: None });
        }
        let mut uri = normalize(path)?;
        if self.servlet && uri.contains(&b';') {
            uri = without_parameters(&uri)?.into();
        }
        if self.delete_tail_slash && uri.len() > 1 && uri.ends_with(b"/") {
            uri = match uri {
                Cow::Borrowed(uri) => Cow::Borrowed(&uri[..uri.len() - 1]),
                Cow::Owned(mut uri) => {
                    uri.pop();
                    Cow::Owned(uri)
                }
            };
        }
        let for_routes = if self.encoded_slash { keep_encoded_slash(path, &uri) } else { None };
        Ok(Normalized { uri, for_routes })
    }
}

/// The path without what follows a `;` in its segments. A segment that only its parameters keep
/// from being `.`, `..` or nothing is refused: what stands behind would read it otherwise.
fn without_parameters(path: &[u8]) -> Result<Vec<u8>, PathError> {
    let mut out = Vec::with_capacity(path.len());
    let mut segments = path.split(|byte| *byte == b'/').peekable();
    while let Some(segment) = segments.next() {
        let cut = memchr::memchr(b';', segment);
        let bare = &segment[..cut.unwrap_or(segment.len())];
        let is_dots =
            matches!(bare.to_ascii_lowercase().as_slice(), b"." | b".." | b"%2e" | b"%2e%2e");
        let is_empty = bare.is_empty() && segments.peek().is_some();
        if cut.is_some() && (is_dots || is_empty) {
            return Err(PathError::Servlet);
        }
        out.extend_from_slice(bare);
        if segments.peek().is_some() {
            out.push(b'/');
        }
    }
    Ok(out)
}

/// The path with its encoded slashes as `%2F`, if decoding is all that normalisation did to it:
/// otherwise they could lead past a rule.
fn keep_encoded_slash(path: &[u8], uri: &[u8]) -> Option<Vec<u8>> {
    let is_slash = |code: &[u8]| code.eq_ignore_ascii_case(b"%2f");
    if !path.windows(3).any(is_slash) || *decode(path).ok()? != *uri {
        return None;
    }
    let mut out = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some(at) = rest.windows(3).position(is_slash) {
        out.extend_from_slice(&decode(&rest[..at]).ok()?);
        out.extend_from_slice(b"%2F");
        rest = &rest[at + 3..];
    }
    out.extend_from_slice(&decode(rest).ok()?);
    Some(out)
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

    #[test]
    fn options_change_what_routes_see() {
        let all = |path: &str, options: PathOptions| {
            let path = options.normalize(path.as_bytes())?;
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            Ok((text(&path.uri), text(path.for_routes())))
        };
        let same = |path: &str| Ok((path.to_owned(), path.to_owned()));
        let none = PathOptions::default();
        assert_eq!(all("", none), same("/"));
        assert_eq!(all("*", none), same("*"));
        assert_eq!(all("/a/;b/", none), same("/a/;b/"));

        let tail = PathOptions { delete_tail_slash: true, ..none };
        for (path, uri) in
            [("/a/", "/a"), ("/a", "/a"), ("/", "/"), ("/a//", "/a"), ("/a%2f", "/a")]
        {
            assert_eq!(all(path, tail), same(uri), "{path}");
        }

        let servlet = PathOptions { servlet: true, ..none };
        for (path, uri) in
            [("/a;x/b;y=1", "/a/b"), ("/a/;x", "/a/"), ("/a%3Bx", "/a"), ("/a/", "/a/")]
        {
            assert_eq!(all(path, servlet), same(uri), "{path}");
        }
        for path in ["/a/..;/b", "/.;x/a", "/;x/a", "/%252e;x/a", "/a/%252E%252e;/b"] {
            assert_eq!(all(path, servlet), Err(PathError::Servlet), "{path}");
        }

        let slash = PathOptions { encoded_slash: true, ..none };
        let two = |uri: &str, routes: &str| Ok((uri.to_owned(), routes.to_owned()));
        assert_eq!(all("/a%2fb/c", slash), two("/a/b/c", "/a%2Fb/c"));
        assert_eq!(all("/%41%2Fb%2Fc", slash), two("/A/b/c", "/A%2Fb%2Fc"));
        // More than decoding was done: routes see what everybody sees.
        for (path, uri) in [("/a%2Fb/../c", "/a/c"), ("/a%2F/b", "/a/b"), ("/a%2F%2e%2e", "/")] {
            assert_eq!(all(path, slash), same(uri), "{path}");
        }
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
