//! Path patterns of `uri` and `uris`.

use std::fmt;

/// A path pattern (router-radixtree.md; lua-resty-radixtree):
///
/// - `/foo` matches that path only;
/// - `/foo*` and `/foo/*` match every path that starts with what is before the `*`;
/// - a segment that starts with `*` takes anything, slashes included, and what comes after it must
///   still match: `/a/*/b`. After such a segment, `:name` takes one non-empty segment;
/// - a `*` further inside a segment ends the pattern: `/a*/b` is `/a*`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathPattern {
    text: Box<str>,
    /// Bytes before the first `*`, or all.
    prefix_len: usize,
    exact: bool,
    rest: Option<Box<Glob>>,
}

/// A pattern that is valid for APISIX but has no sound meaning.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\": a segment that starts with `*` after a `*` inside a segment")]
pub struct PatternError(String);

impl PathPattern {
    /// Reads a pattern. Text without `*` is an exact path, whatever it is.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        let star = text.find('*');
        let prefix_len = star.unwrap_or(text.len());
        let rest = match star {
            Some(star) if star + 1 < text.len() => Glob::parse(text, star)?.map(Box::new),
            _ => None,
        };
        Ok(Self { text: text.into(), prefix_len, exact: star.is_none(), rest })
    }

    /// The pattern as written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The whole path when [`Self::is_exact`], otherwise what a path must start with.
    pub fn prefix(&self) -> &str {
        &self.text[..self.prefix_len]
    }

    /// Whether the pattern is a plain path.
    pub fn is_exact(&self) -> bool {
        self.exact
    }

    /// What must follow the prefix; `None`: anything may.
    pub(super) fn rest(&self) -> Option<&Glob> {
        self.rest.as_deref()
    }
}

impl fmt::Display for PathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl serde::Serialize for PathPattern {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

/// The part of a pattern from its first `*` segment on, cut at the `*` segments: between two
/// pieces, and before the first, anything may stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Glob {
    prefix_len: usize,
    pieces: Box<[Piece]>,
    /// Whether the last segment is a `*`, so that anything may follow the last piece.
    open: bool,
}

/// What stands between two `*` segments: a run of `/literal` and `/:name`.
type Piece = Box<[Part]>;

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    /// These bytes.
    Literal(Box<[u8]>),
    /// One non-empty segment.
    Segment,
}

impl Glob {
    /// Cuts `text` from its first `*`, at `star`, on. `None`: the rest of the text has no meaning
    /// because that `*` is inside a segment.
    fn parse(text: &str, star: usize) -> Result<Option<Self>, PatternError> {
        let begins_segment = star == 0 || text.as_bytes()[star - 1] == b'/';
        let mut segments = text[star..].split('/').skip(1);
        if !begins_segment {
            let lost = segments.any(|segment| segment.starts_with('*'));
            return if lost { Err(PatternError(text.to_owned())) } else { Ok(None) };
        }
        let mut pieces = Vec::new();
        let mut literal = Vec::new();
        let mut parts = Vec::new();
        let mut open = true;
        let flush = |literal: &mut Vec<u8>, parts: &mut Vec<Part>| {
            if !literal.is_empty() {
                parts.push(Part::Literal(std::mem::take(literal).into()));
            }
        };
        for segment in segments {
            literal.push(b'/');
            open = segment.starts_with('*');
            if open || segment.starts_with(':') {
                flush(&mut literal, &mut parts);
            } else {
                literal.extend_from_slice(segment.as_bytes());
            }
            if open {
                pieces.push(std::mem::take(&mut parts).into());
            } else if segment.starts_with(':') {
                parts.push(Part::Segment);
            }
        }
        flush(&mut literal, &mut parts);
        if !parts.is_empty() {
            pieces.push(parts.into());
        }
        let glob = Self { prefix_len: star, pieces: pieces.into(), open };
        Ok((!glob.pieces.is_empty()).then_some(glob))
    }

    /// Whether `path`, which starts with the pattern's prefix, matches the rest too.
    pub(super) fn matches(&self, path: &[u8]) -> bool {
        let mut rest = path.get(self.prefix_len..).unwrap_or_default();
        let (inner, last) = match self.pieces.split_last() {
            Some((last, inner)) if !self.open => (inner, Some(last)),
            _ => (&self.pieces[..], None),
        };
        // The earliest place for each piece leaves the most for those after it.
        for piece in inner {
            let Some(end) =
                (0..rest.len()).find_map(|at| Some(at + piece_len(piece, &rest[at..])?))
            else {
                return false;
            };
            rest = &rest[end..];
        }
        last.is_none_or(|piece| {
            (0..rest.len()).any(|at| piece_len(piece, &rest[at..]) == Some(rest.len() - at))
        })
    }
}

/// The length of `piece` at the start of `text`, when it stands there.
fn piece_len(piece: &[Part], text: &[u8]) -> Option<usize> {
    let mut at = 0;
    for part in piece {
        let rest = &text[at..];
        at += match part {
            Part::Literal(literal) => rest.starts_with(literal).then_some(literal.len())?,
            Part::Segment => {
                let len = memchr::memchr(b'/', rest).unwrap_or(rest.len());
                (len > 0).then_some(len)?
            }
        };
    }
    Some(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether `path` matches `pattern`, as the router combines prefix and rest.
    fn matches(pattern: &str, path: &str) -> bool {
        let pattern = PathPattern::parse(pattern).unwrap();
        if pattern.is_exact() {
            return path == pattern.prefix();
        }
        path.starts_with(pattern.prefix())
            && pattern.rest().is_none_or(|rest| rest.matches(path.as_bytes()))
    }

    #[test]
    fn plain_paths_and_prefixes() {
        assert!(matches("/a", "/a") && !matches("/a", "/a/") && !matches("/a", "/"));
        assert!(matches("/a/:id", "/a/:id") && !matches("/a/:id", "/a/1"));
        assert!(matches("/a/*", "/a/") && matches("/a/*", "/a/b/c") && !matches("/a/*", "/a"));
        assert!(matches("/a*", "/a") && matches("/a*", "/abc/d") && !matches("/a*", "/b"));
        assert!(matches("/*", "/") && matches("*", "/x"));
        assert!(matches("/a/*rest", "/a/b/c"));
    }

    #[test]
    fn a_star_inside_a_segment_ends_the_pattern() {
        assert!(matches("/a*/b", "/ax/c") && matches("/a*/b", "/a"));
        let error = PathPattern::parse("/a*/*/b").unwrap_err();
        assert_eq!(error, PatternError("/a*/*/b".to_owned()));
    }

    #[test]
    fn segments_after_a_star_must_match() {
        assert!(matches("/a/*/b", "/a/x/b") && matches("/a/*/b", "/a/x/y/b"));
        assert!(matches("/a/*/b", "/a//b") && matches("/a/*/b", "/a/x/b/b"));
        assert!(!matches("/a/*/b", "/a/b") && !matches("/a/*/b", "/a/x/bc"));
        assert!(!matches("/a/*/b", "/a/x/b/") && !matches("/a/*/b", "/a/x/b/c"));
        assert!(matches("/a/*/b/", "/a/x/b/") && !matches("/a/*/b/", "/a/x/b"));
        assert!(matches("/*/b/*/d", "/1/b/2/d") && matches("/*/b/*/d", "/1/b/b/c/d"));
        assert!(!matches("/*/b/*/d", "/1/b/d"));
        assert!(matches("/*/b/*", "/1/b/") && !matches("/*/b/*", "/1/b"));
    }

    #[test]
    fn a_name_after_a_star_takes_one_segment() {
        assert!(matches("/a/*/:id", "/a/x/1") && matches("/a/*/:id", "/a/x/y/1"));
        assert!(!matches("/a/*/:id", "/a/x/") && !matches("/a/*/:id", "/a/x"));
        assert!(matches("/a/*/u/:id/e", "/a/x/u/7/e") && !matches("/a/*/u/:id/e", "/a/x/u/7/8/e"));
        assert!(matches("/a/*/u/:id/e", "/a/x/u/1/f/u/2/e"));
    }

    mod properties {
        use proptest::prelude::*;

        use super::*;

        /// The same rules, by plain recursion over segments after the prefix.
        fn naive(pattern: &[char], text: &[char]) -> bool {
            match pattern {
                [] => text.is_empty(),
                ['*', rest @ ..] => (0..=text.len()).any(|n| naive(rest, &text[n..])),
                [':', rest @ ..] => {
                    let run = text.iter().take_while(|c| **c != '/').count();
                    (1..=run).any(|n| naive(rest, &text[n..]))
                }
                [c, rest @ ..] => text.first() == Some(c) && naive(rest, &text[1..]),
            }
        }

        proptest! {
            #[test]
            fn globs_agree_with_the_naive_matcher(
                pattern in proptest::collection::vec(prop_oneof!["a", "b", r"\*", ":"], 1..6),
                path in "(/[ab]{0,2}){1,6}",
            ) {
                // Names before the first star are literal text.
                let pattern = format!("/*/{}", pattern.join("/"));
                let chars: Vec<char> = pattern.chars().collect();
                let text: Vec<char> = path.chars().collect();
                prop_assert_eq!(matches(&pattern, &path), naive(&chars, &text));
            }
        }
    }
}
