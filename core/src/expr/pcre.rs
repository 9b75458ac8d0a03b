//! From PCRE's syntax to that of fancy-regex, where the same text means something else there.
//!
//! Left out is what hardly occurs: `$` before a line end that ends the text, comments of `(?x)`.

use std::fmt::Write as _;

/// White space within a line, and line ends, for use in a class.
const HORIZONTAL: &str = r"\t ";
const VERTICAL: &str = r"\n\x0b\x0c\r";

/// `pattern` as fancy-regex has to have it.
pub(super) fn translate(pattern: &str) -> String {
    let mut out = String::with_capacity(pattern.len() + 8);
    let mut rest = pattern;
    while let Some(c) = rest.chars().next() {
        let after = &rest[c.len_utf8()..];
        rest = match c {
            '\\' => escape(after, &mut out),
            '[' => class(after, &mut out),
            '{' if !is_quantifier(after) => {
                out.push_str(r"\{");
                after
            }
            _ => {
                out.push(c);
                after
            }
        };
    }
    out
}

/// Whether a quantifier begins before `text`: `n}`, `n,}` or `n,m}`. A brace in `\x{..}` or
/// `\p{..}` does not come here.
fn is_quantifier(text: &str) -> bool {
    let Some((inner, _)) = text.split_once('}') else { return false };
    let (least, most) = inner.split_once(',').unwrap_or((inner, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    !least.is_empty() && digits(least) && digits(most)
}

/// Writes what a backslash and `text` mean outside a class; returns what follows.
fn escape<'a>(text: &'a str, out: &mut String) -> &'a str {
    let Some(c) = text.chars().next() else {
        out.push('\\');
        return text;
    };
    let after = &text[c.len_utf8()..];
    match c {
        'h' => in_class(out, "", HORIZONTAL),
        'H' => in_class(out, "^", HORIZONTAL),
        'v' => in_class(out, "", VERTICAL),
        'V' => in_class(out, "^", VERTICAL),
        'N' => out.push_str(r"[^\n]"),
        'R' => {
            out.push_str(r"(?>\r\n|");
            in_class(out, "", VERTICAL);
            out.push(')');
        }
        'Q' => {
            let (quoted, after) = text[1..].split_once("\\E").unwrap_or((&text[1..], ""));
            quoted.chars().for_each(|c| literal(c, out));
            return after;
        }
        'g' | 'k' if after.starts_with('{') && after.contains('}') => {
            let (group, after) = after[1..].split_once('}').unwrap_or((after, ""));
            let is_number = group.bytes().all(|byte| byte.is_ascii_digit());
            let (open, close) = if is_number { (r"(?:\", ")") } else { (r"\k<", ">") };
            let _ = write!(out, "{open}{group}{close}");
            return after;
        }
        // Braces of `\x{41}` and `\p{L}` are not quantifiers.
        'x' | 'p' | 'P' | 'o' if after.starts_with('{') => {
            let end = after.find('}').map_or(after.len(), |end| end + 1);
            let _ = write!(out, "\\{c}{}", &after[..end]);
            return &after[end..];
        }
        _ => return plain_escape(c, after, out),
    }
    after
}

/// Escapes that mean the same inside and outside a class.
fn plain_escape<'a>(c: char, after: &'a str, out: &mut String) -> &'a str {
    match c {
        'e' => out.push_str(r"\x1b"),
        '0' => {
            let octal = |byte: &u8| matches!(byte, b'0'..=b'7');
            let digits = after.bytes().take(2).take_while(octal).count();
            let code = u8::from_str_radix(&after[..digits], 8).unwrap_or_default();
            let _ = write!(out, "\\x{code:02x}");
            return &after[digits..];
        }
        _ if c.is_ascii_alphanumeric() => {
            out.push('\\');
            out.push(c);
        }
        _ => literal(c, out),
    }
    after
}

/// Writes a character that stands for itself.
fn literal(c: char, out: &mut String) {
    if c.is_ascii() && !c.is_ascii_alphanumeric() {
        let _ = write!(out, "\\x{:02x}", u32::from(c));
    } else {
        out.push(c);
    }
}

fn in_class(out: &mut String, negation: &str, inner: &str) {
    let _ = write!(out, "[{negation}{inner}]");
}

/// Writes the class that begins before `text`; returns what follows. In PCRE a class has no
/// classes in it but those with a name, and no operators such as `&&`.
fn class<'a>(text: &'a str, out: &mut String) -> &'a str {
    out.push('[');
    let mut rest = text;
    if let Some(after) = rest.strip_prefix('^') {
        out.push('^');
        rest = after;
    }
    if let Some(after) = rest.strip_prefix(']') {
        out.push_str(r"\]");
        rest = after;
    }
    while let Some(c) = rest.chars().next() {
        let after = &rest[c.len_utf8()..];
        rest = match c {
            ']' => {
                out.push(']');
                return after;
            }
            '[' => match named_class(after) {
                Some(end) => {
                    out.push_str(&rest[..=end]);
                    &after[end..]
                }
                None => {
                    out.push_str(r"\[");
                    after
                }
            },
            '\\' => class_escape(after, out),
            '-' if after.starts_with('-') => {
                out.push_str(r"\-");
                after
            }
            '&' | '~' => {
                literal(c, out);
                after
            }
            _ => {
                out.push(c);
                after
            }
        };
    }
    rest
}

/// The length of `:alpha:]`, if `text` begins with such a thing.
fn named_class(text: &str) -> Option<usize> {
    let name = text.strip_prefix(':')?;
    let end = name.find(":]")?;
    let bare = name[..end].strip_prefix('^').unwrap_or(&name[..end]);
    bare.bytes().all(|byte| byte.is_ascii_lowercase()).then_some(end + 3)
}

fn class_escape<'a>(text: &'a str, out: &mut String) -> &'a str {
    let Some(c) = text.chars().next() else {
        out.push('\\');
        return text;
    };
    let after = &text[c.len_utf8()..];
    match c {
        'h' => out.push_str(HORIZONTAL),
        'v' => out.push_str(VERTICAL),
        'b' => out.push_str(r"\x08"),
        // `\H` would be no hexadecimal digit, and `\R` and `\N` are errors in PCRE too: an escape
        // that does not exist makes the whole invalid.
        'H' | 'V' | 'R' | 'N' => out.push_str(r"\i"),
        _ => return plain_escape(c, after, out),
    }
    after
}
