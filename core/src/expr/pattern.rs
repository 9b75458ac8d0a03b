//! Regular expressions of `~~` and `~*`: PCRE's over bytes in APISIX, fancy-regex here.

use fancy_regex::{BytesMode, Regex, RegexBuilder};

use super::pcre;

/// Steps back that one match may take; then it is no match, as at PCRE's own limit.
const BACKTRACK_LIMIT: usize = 100_000;

/// Bytes that a compiled expression may take.
const SIZE_LIMIT: usize = 1 << 20;

/// A compiled regular expression, or one that cannot be compiled and matches nothing.
#[derive(Debug, Clone)]
pub(crate) struct Pattern(Option<Box<Regex>>);

impl Pattern {
    /// Compiles `text`; the error says what is wrong with it.
    pub(crate) fn compile(text: &str, ignore_case: bool) -> Result<Self, String> {
        let translated = pcre::translate(text);
        let build = |mode| {
            RegexBuilder::new(&translated)
                .bytes_mode(mode)
                .case_insensitive(ignore_case)
                .backtrack_limit(BACKTRACK_LIMIT)
                .delegate_size_limit(SIZE_LIMIT)
                .build()
        };
        // APISIX sets no `u`: a byte is a character. Where that cannot be expressed (a class with
        // `é` in it), whole characters are what was meant.
        match build(BytesMode::Ascii).or_else(|_| build(BytesMode::UnicodeBytes)) {
            Ok(regex) => Ok(Self(Some(Box::new(regex)))),
            Err(error) => Err(format!("invalid regular expression '{text}': {error}")),
        }
    }

    /// What APISIX makes of an invalid expression when it matches: an error, thus no match.
    pub(crate) fn invalid() -> Self {
        Self(None)
    }

    /// Whether it is found in `text`.
    pub(crate) fn is_match(&self, text: &[u8]) -> bool {
        self.0.as_ref().is_some_and(|regex| regex.is_match(text).unwrap_or(false))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finds(pattern: &str, text: &[u8]) -> bool {
        Pattern::compile(pattern, false).unwrap().is_match(text)
    }

    #[test]
    fn means_what_pcre_means() {
        for (pattern, text, expected) in [
            ("[a-z]+", "ABC9", false),
            ("[a-z]+", "ABc9", true),
            ("^(?!admin).*$", "admin1", false),
            ("^(?!admin).*$", "user", true),
            (r"(\w)\1", "abba", true),
            (r"(\w)\1", "aba", false),
            (r"(?<=v)\d", "v2", true),
            (r"(?>a+)b", "aab", true),
            (r"a++b", "aab", true),
            (r"^\/api\/v[12]$", "/api/v2", true),
            (r"^\d{1,3}$", "1234", false),
            ("(?i)abc", "ABC", true),
            ("", "", true),
            ("é", "é", true),
            ("[éü]", "ü", true),
            ("[éü]", "e", false),
            (r"\w", "é", false),
            ("^..$", "é", true),
            (r"[[:alpha:]]\h", "a ", true),
            (r"\Aab\z", "ab", true),
            (r"^\H$", "a", true),
            (r"a\Rb\v", "a\r\nb\n", true),
            (r"^\N+$", "a\nb", false),
            (r"^[\h\b]$", "\u{8}", true),
            (r"^[\h\b]$", "\t", true),
            (r"^[\h]$", "f", false),
            ("^[[a]$", "[", true),
            ("^[a&&b]$", "&", true),
            ("^[a&&b]+$", "ab", true),
            ("^[a--]$", "-", true),
            ("^[]a]$", "]", true),
            ("^[^]a]$", "]", false),
            ("^[~~a]$", "~", true),
            (r"^\<a\>$", "<a>", true),
            (r"^\_\-\/\%\ \é$", "_-/% é", true),
            (r"^a{,3}{x}$", "a{,3}{x}", true),
            (r"^a{2}b{1,}c{0,1}$", "aabb", true),
            (r"^\Qa.[b\E.$", "a.[bx", true),
            (r"^\x{41}\x42\0\e$", "AB\0\x1b", true),
            (r"^[\]\\\-.]+$", r"]\-.", true),
            (r"^(a|b)\g{1}$", "bb", true),
            (r"^(?<n>a|b)\k{n}\g{n}\g{-1}$", "bbbb", true),
            ("[[:^digit:]]", "1", false),
            (r"(?#comment)a(?:b)(?i:C)", "abc", true),
            (r"^a.c$", "a\nc", false),
            (r"(?s)^a.c$", "a\nc", true),
            (r"(?m)^b$", "a\nb", true),
            (r"\bfoo\b", "a foo b", true),
            (r"\p{Lu}", "a", false),
            (r"\x41", "A", true),
            (r"(?P<a>x)(?P=a)", "xx", true),
        ] {
            let compiled = Pattern::compile(pattern, false).map_err(|e| panic!("{e}")).unwrap();
            assert_eq!(compiled.is_match(text.as_bytes()), expected, "{pattern} {text}");
        }
        assert!(finds("^.b", b"\xffb"));
        assert!(Pattern::compile("a", true).unwrap().is_match(b"A"));
    }

    #[test]
    fn an_endless_search_ends() {
        let pattern = Pattern::compile(r"^(?=(a+)+$)\1*$", false).unwrap();
        assert!(!pattern.is_match("a".repeat(64).replace("aa", "ab").as_bytes()));
        let nested = Pattern::compile(r"(x+x+)+(?=y)", false).unwrap();
        assert!(!nested.is_match(&[b'x'; 2000]));
    }

    #[test]
    fn an_invalid_one_is_named_and_matches_nothing() {
        let error = Pattern::compile("a(b", false).unwrap_err();
        assert!(error.starts_with("invalid regular expression 'a(b': "), "{error}");
        assert!(!Pattern::invalid().is_match(b"a(b"));
    }
}
