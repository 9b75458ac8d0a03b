//! The grammar of `JSONPath` in `post_arg.<path>`; what it accepts is a subset of what
//! `rules::json_path` lets pass, which checks the form only.
//!
//! Scripts (`[(@.length-1)]`), and filters other than comparisons of a field of the item with a
//! constant, joined by `&&` and `||`, are not understood.

use super::path::{Compare, Literal, Selector, Step, Test};

/// The steps of a path without `$.` in front.
pub(super) fn steps(path: &str) -> Option<Vec<Step>> {
    let (first, mut rest) = member(path)?;
    let mut steps = vec![Step { deep: false, selectors: vec![first] }];
    while !rest.is_empty() {
        let (deep, after) = match rest.strip_prefix("..") {
            Some(after) => (true, after),
            None => (false, rest.strip_prefix('.').unwrap_or(rest)),
        };
        let (selectors, after) = if let Some(inner) = after.strip_prefix('[') {
            // A single dot does not go before brackets.
            (deep || rest.starts_with('[')).then_some(())?;
            let (inner, after) = split_bracket(inner)?;
            (subscript(inner.trim())?, after)
        } else {
            rest.starts_with('.').then_some(())?;
            let (selector, after) = member(after)?;
            (vec![selector], after)
        };
        steps.push(Step { deep, selectors });
        rest = after;
    }
    Some(steps)
}

/// A name or `*` at the start of `text`, and what follows it.
fn member(text: &str) -> Option<(Selector, &str)> {
    let is_name = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-');
    match text.find(|c| !is_name(c)).unwrap_or(text.len()) {
        0 => text.strip_prefix('*').map(|rest| (Selector::All, rest)),
        end => Some((Selector::Name(text[..end].to_owned()), &text[end..])),
    }
}

/// What is between brackets.
fn subscript(inner: &str) -> Option<Vec<Selector>> {
    if inner == "*" {
        return Some(vec![Selector::All]);
    }
    if let Some(filter) = inner.strip_prefix('?') {
        let tests = filter.strip_prefix('(')?.strip_suffix(')')?;
        let any: Option<Vec<_>> = split_all(tests, "||").into_iter().map(all_of).collect();
        return any.map(|any| vec![Selector::Filter(any)]);
    }
    split_all(inner, ",").into_iter().map(|part| position(part.trim())).collect()
}

fn position(part: &str) -> Option<Selector> {
    if let Some(name) = quoted(part) {
        return Some(Selector::Name(name));
    }
    let mut bounds = part.split(':').map(str::trim);
    let bound = |text: Option<&str>| match text {
        None | Some("") => Some(None),
        Some(text) => text.parse::<i64>().ok().map(Some),
    };
    if !part.contains(':') {
        return part.parse().ok().map(Selector::Index);
    }
    let (start, end) = (bound(bounds.next())?, bound(bounds.next())?);
    let step = bound(bounds.next())?.unwrap_or(1);
    bounds.next().is_none().then_some(Selector::Slice { start, end, step })
}

/// The text between quotes of one kind.
fn quoted(text: &str) -> Option<String> {
    let quote = text.chars().next().filter(|c| matches!(c, '\'' | '"'))?;
    let inner = text[1..].strip_suffix(quote)?;
    (!inner.contains(quote)).then(|| inner.to_owned())
}

fn all_of(tests: &str) -> Option<Vec<Test>> {
    split_all(tests, "&&").into_iter().map(|one| test(one.trim())).collect()
}

fn test(text: &str) -> Option<Test> {
    const OPERATORS: [(&str, Compare); 7] = [
        ("==", Compare::Equal),
        ("!=", Compare::NotEqual),
        ("<>", Compare::NotEqual),
        ("<=", Compare::LessOrEqual),
        (">=", Compare::GreaterOrEqual),
        ("<", Compare::Less),
        (">", Compare::Greater),
    ];
    let end = text.find(['=', '!', '<', '>']).unwrap_or(text.len());
    let (path, rest) = (text[..end].trim_end(), &text[end..]);
    let path = path.strip_prefix('@')?;
    let names = path.split('.').skip(1).map(|name| match member(name) {
        Some((Selector::Name(name), "")) => Some(name),
        _ => None,
    });
    let path: Vec<String> = match path {
        "" => Vec::new(),
        _ if path.starts_with('.') => names.collect::<Option<_>>()?,
        _ => return None,
    };
    let compare = match OPERATORS.iter().find(|(sign, _)| rest.starts_with(sign)) {
        Some((sign, compare)) => Some((*compare, literal(rest[sign.len()..].trim())?)),
        None if rest.is_empty() => None,
        None => return None,
    };
    Some(Test { path, compare })
}

fn literal(text: &str) -> Option<Literal> {
    match text {
        "true" => Some(Literal::Bool(true)),
        "false" => Some(Literal::Bool(false)),
        "null" => Some(Literal::Null),
        _ => match quoted(text) {
            Some(text) => Some(Literal::Text(text)),
            None => text.parse().ok().map(|number: f64| Literal::Number(number.to_bits())),
        },
    }
}

/// The characters of `text` that are not within quotes, with their positions.
fn unquoted(text: &str) -> impl Iterator<Item = (usize, char)> {
    let mut quote = None;
    text.char_indices().filter(move |(_, c)| {
        let is_quote = matches!(c, '\'' | '"');
        match quote {
            Some(open) => quote = Some(open).filter(|open| open != c),
            None if is_quote => quote = Some(*c),
            None => return true,
        }
        false
    })
}

/// `text` split at `separator`, but not within quotes.
fn split_all<'a>(text: &'a str, separator: &str) -> Vec<&'a str> {
    let mut parts = Vec::new();
    let mut start = 0;
    for (at, _) in unquoted(text) {
        if at >= start && text[at..].starts_with(separator) {
            parts.push(&text[start..at]);
            start = at + separator.len();
        }
    }
    parts.push(&text[start..]);
    parts
}

/// What is before and after the first bracket that closes and is not within quotes.
fn split_bracket(text: &str) -> Option<(&str, &str)> {
    let (at, _) = unquoted(text).find(|(_, c)| *c == ']')?;
    Some((&text[..at], &text[at + 1..]))
}
