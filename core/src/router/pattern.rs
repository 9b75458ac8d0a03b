//! Path patterns of `uri` and `uris`.

use std::fmt;

/// A path pattern (router-radixtree.md; lua-resty-radixtree):
///
/// - `/foo` matches that path only;
/// - `/foo*` and `/foo/*` match every path that starts with what is before the `*`;
/// - a segment that starts with `*` takes anything, slashes included, and what comes after it must
///   still match: `/a/*/b`. After such a segment, `:name` takes one non-empty segment;
/// - a `*` further inside a segment ends the pattern: `/a*/b` is `/a*`.
///
/// [`PathPattern::with_parameters`] is the same pattern for a router where `:name` takes one
/// non-empty segment everywhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathPattern {
    text: Box<str>,
    /// Bytes before the first `*` or parameter, or all.
    prefix_len: usize,
    rest: Option<Box<Glob>>,
}

/// A pattern that is valid for APISIX but has no sound meaning.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\": a parameter, or a segment that starts with `*`, after a `*` inside a segment")]
pub struct PatternError(String);

/// The name of what a bare `*` takes.
const UNNAMED: &str = ":ext";

impl PathPattern {
    /// Reads a pattern. Text without `*` is an exact path, whatever it is.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        Self::read(text, false)
    }

    /// The pattern for the router `radixtree_uri_with_parameter`.
    pub fn with_parameters(&self) -> Result<Self, PatternError> {
        Self::read(&self.text, true)
    }

    fn read(text: &str, parameters: bool) -> Result<Self, PatternError> {
        let special = first_special(text.as_bytes(), parameters);
        let rest = match special {
            Some(at) if at + 1 < text.len() => Glob::parse(text, at, parameters)?.map(Box::new),
            _ => None,
        };
        let prefix_len = special.unwrap_or(text.len());
        Ok(Self { text: text.into(), prefix_len, rest })
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
        self.prefix_len == self.text.len()
    }

    /// What must follow the prefix; `None`: anything may.
    pub(super) fn rest(&self) -> Option<&Glob> {
        self.rest.as_deref()
    }

    /// What the parameter `name` took of `path`, which matches the pattern: `:name` one segment,
    /// `*name` as much as it can. What a bare `*` takes is called `:ext`.
    pub fn capture<'p>(&self, name: &str, path: &'p [u8]) -> Option<&'p [u8]> {
        let text = path.get(self.prefix_len..)?;
        if let Some(glob) = &self.rest {
            return glob.capture(name, text);
        }
        let ends_with_segment = self.prefix().is_empty() || self.prefix().ends_with('/');
        let is_bare =
            !self.is_exact() && ends_with_segment && self.text.len() == self.prefix_len + 1;
        (is_bare && name == UNNAMED).then_some(text)
    }
}

/// Where the first `*` is, or the first parameter.
fn first_special(text: &[u8], parameters: bool) -> Option<usize> {
    let begins_segment = |at: usize| at == 0 || text[at - 1] == b'/';
    text.iter().enumerate().position(|(at, byte)| match byte {
        b'*' => true,
        b':' => parameters && begins_segment(at),
        _ => false,
    })
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

/// The part of a pattern from its first `*` or parameter on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Glob {
    prefix_len: usize,
    tokens: Box<[Token]>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    /// These bytes.
    Literal(Box<[u8]>),
    /// `:name`: one non-empty segment. By construction a `/` or the end comes after it.
    Segment(Box<str>),
    /// `*name`: anything.
    Any(Box<str>),
}

impl Glob {
    /// Reads `text` from its first `*` or parameter, at `start`, on. `None`: the rest of the text
    /// has no meaning because that `*` is inside a segment.
    fn parse(text: &str, start: usize, parameters: bool) -> Result<Option<Self>, PatternError> {
        if text.as_bytes()[start] == b'*' && start > 0 && text.as_bytes()[start - 1] != b'/' {
            let has_meaning = |segment: &str| {
                segment.starts_with('*') || (parameters && segment.starts_with(':'))
            };
            let lost = text[start..].split('/').skip(1).any(has_meaning);
            return if lost { Err(PatternError(text.to_owned())) } else { Ok(None) };
        }
        let mut tokens = Vec::new();
        let mut literal = Vec::new();
        for (index, segment) in text[start..].split('/').enumerate() {
            if index > 0 {
                literal.push(b'/');
            }
            let token = match segment.split_at_checked(1) {
                Some(("*", "")) => Token::Any(UNNAMED.into()),
                Some(("*", name)) => Token::Any(name.into()),
                Some((":", name)) => Token::Segment(name.into()),
                _ => {
                    literal.extend_from_slice(segment.as_bytes());
                    continue;
                }
            };
            if !literal.is_empty() {
                tokens.push(Token::Literal(std::mem::take(&mut literal).into()));
            }
            tokens.push(token);
        }
        if !literal.is_empty() {
            tokens.push(Token::Literal(literal.into()));
        }
        Ok(Some(Self { prefix_len: start, tokens: tokens.into() }))
    }

    /// Whether `path`, which starts with the pattern's prefix, matches the rest too.
    pub(super) fn matches(&self, path: &[u8]) -> bool {
        matches(&self.tokens, path.get(self.prefix_len..).unwrap_or_default())
    }

    /// What the parameter `name` takes of `text`, which matches.
    fn capture<'p>(&self, name: &str, text: &'p [u8]) -> Option<&'p [u8]> {
        let mut rest = text;
        let mut found = None;
        for (index, token) in self.tokens.iter().enumerate() {
            let (own, taken) = match token {
                Token::Literal(literal) => ("", literal.len()),
                Token::Segment(own) => (&**own, segment_len(rest)),
                Token::Any(own) => {
                    let after = &self.tokens[index + 1..];
                    // As much as it can, as a greedy expression does.
                    let fits = |end: &usize| matches(after, &rest[*end..]);
                    (&**own, (0..=rest.len()).rev().find(fits)?)
                }
            };
            let (taken, behind) = rest.split_at_checked(taken)?;
            if own == name && !matches!(token, Token::Literal(_)) {
                // Of two with one name the last counts.
                found = Some(taken);
            }
            rest = behind;
        }
        found
    }
}

/// Bytes up to the next slash.
fn segment_len(text: &[u8]) -> usize {
    memchr::memchr(b'/', text).unwrap_or(text.len())
}

/// Whether `tokens` take all of `text`. The earliest place for what follows a `*` leaves the most
/// for the next, so only the last `*` is ever tried again.
fn matches(tokens: &[Token], text: &[u8]) -> bool {
    let (mut next, mut at) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    loop {
        let taken = match tokens.get(next) {
            None if at == text.len() => return true,
            None => None,
            Some(Token::Any(_)) if next + 1 == tokens.len() => return true,
            Some(Token::Any(_)) => {
                star = Some((next + 1, at));
                Some(0)
            }
            Some(Token::Literal(literal)) => {
                text[at..].starts_with(literal).then_some(literal.len())
            }
            Some(Token::Segment(_)) => Some(segment_len(&text[at..])).filter(|len| *len > 0),
        };
        match (taken, star) {
            (Some(taken), _) => (next, at) = (next + 1, at + taken),
            (None, Some((after, from))) if from < text.len() => {
                star = Some((after, from + 1));
                (next, at) = (after, from + 1);
            }
            (None, _) => return false,
        }
    }
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

    #[test]
    fn parameters_take_one_segment_each() {
        let matches = |pattern: &str, path: &str| {
            let pattern = PathPattern::parse(pattern).unwrap().with_parameters().unwrap();
            let rest = || pattern.rest().is_none_or(|rest| rest.matches(path.as_bytes()));
            if pattern.is_exact() {
                path == pattern.prefix()
            } else {
                path.starts_with(pattern.prefix()) && rest()
            }
        };
        assert!(matches("/u/:id", "/u/7") && !matches("/u/:id", "/u/"));
        assert!(!matches("/u/:id", "/u/7/") && !matches("/u/:id", "/u/7/8"));
        assert!(matches("/u/:id/x/:n", "/u/7/x/8") && !matches("/u/:id/x/:n", "/u/7/y/8"));
        assert!(matches("/u/:id/*", "/u/7/") && matches("/u/:id/*", "/u/7/8/9"));
        assert!(!matches("/u/:id/*", "/u/7") && matches("/:a/:b/", "/1/2/"));
        assert!(matches("/u/*/:id", "/u/a/b/7") && matches("/u/7", "/u/7"));
        // Not at the start of a segment, a colon is a colon.
        assert!(matches("/v1/x:go", "/v1/x:go") && !matches("/v1/x:go", "/v1/xy"));
        PathPattern::parse("/a*/:id").unwrap().with_parameters().unwrap_err();
    }

    #[test]
    fn captures_are_greedy() {
        let capture = |pattern: &str, name: &str, path: &'static str| {
            let pattern = PathPattern::parse(pattern).unwrap().with_parameters().unwrap();
            pattern.capture(name, path.as_bytes()).map(|text| str::from_utf8(text).unwrap())
        };
        assert_eq!(capture("/u/:id", "id", "/u/7"), Some("7"));
        assert_eq!(capture("/u/:id", "other", "/u/7"), None);
        assert_eq!(capture("/u/:id/x/:n", "n", "/u/7/x/8"), Some("8"));
        assert_eq!(capture("/u/*", ":ext", "/u/7/8"), Some("7/8"));
        assert_eq!(capture("/u/:id/*", ":ext", "/u/7/8/9"), Some("8/9"));
        assert_eq!(capture("/*a/x/*b", "a", "/1/x/2/x/3"), Some("1/x/2"));
        assert_eq!(capture("/*a/x/*b", "b", "/1/x/2/x/3"), Some("3"));
        assert_eq!(capture("/u*", ":ext", "/u7"), None);
        assert_eq!(capture("/u", ":ext", "/u"), None);
        assert_eq!(capture("/u/:id/:id", "id", "/u/1/2"), Some("2"));
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
