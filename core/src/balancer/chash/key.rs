//! What a `chash` upstream hashes.

use crate::resource::{HashOn, Violation};
use crate::vars::{Variable, VariableSource};

/// APISIX, `apisix/schema_def.lua`: variables that `hash_on: vars` takes.
const VARS_PATTERN: &str = "^((uri|server_name|server_addr|request_uri|remote_port|remote_addr\
    |query_string|host|hostname|mqtt_client_id)|arg_[0-9a-zA-z_-]+)$";
const VARS: [&str; 9] = [
    "uri",
    "server_name",
    "server_addr",
    "request_uri",
    "remote_port",
    "remote_addr",
    "query_string",
    "host",
    "hostname",
];

/// APISIX, `apisix/schema_def.lua`: names that `hash_on: header` and `cookie` take.
const NAME_PATTERN: &str = "^[a-zA-Z0-9-_]+$";

/// Where the key of a `chash` upstream comes from (`hash_on` and `key`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChashKey(Source);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Source {
    /// `vars`, `header`, `cookie` and `consumer`: the value of one variable.
    Variable(Variable),
    /// `vars_combinations`.
    Template(Box<[Part]>),
}

/// A piece of a template.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(Box<str>),
    Variable {
        variable: Variable,
        /// What stands for it when it is not set (`${name ?? default}`).
        default: Option<Box<str>>,
    },
}

impl ChashKey {
    /// Checks `hash_on` and `key` by APISIX's rules (`apisix/upstream.lua`).
    ///
    /// Beyond them, variables that do not exist are refused in `vars_combinations`, where they
    /// would be empty with each request; the violation names the field.
    pub fn parse(hash_on: HashOn, key: Option<&str>) -> Result<Self, Violation> {
        if hash_on == HashOn::Consumer {
            return Ok(Self(Source::Variable(Variable::ConsumerName)));
        }
        let key = key.ok_or(Violation::Missing("key"))?;
        let variable = match hash_on {
            HashOn::Header | HashOn::Cookie => named(hash_on, key),
            HashOn::VarsCombinations => {
                return template(key)
                    .map(|parts| Self(Source::Template(parts.into())))
                    .map_err(|violation| violation.at("key"));
            }
            _ => var(key),
        };
        variable.map(|v| Self(Source::Variable(v))).map_err(|violation| violation.at("key"))
    }

    /// Appends the key of a request to `out`.
    ///
    /// A value that is not set leaves it to the client's address, as does a template none of whose
    /// variables is set and has no default; a value that is set but empty is a key (APISIX,
    /// `apisix/balancer/chash.lua` and `resolve_var` of `apisix/core/utils.lua`).
    pub fn append<S: VariableSource + ?Sized>(&self, source: &S, out: &mut Vec<u8>) {
        let start = out.len();
        let found = match &self.0 {
            Source::Variable(variable) => source.append(variable, out),
            Source::Template(parts) => fill(parts, source, out),
        };
        if !found {
            out.truncate(start);
            if !source.append(&Variable::RemoteAddr, out) {
                out.truncate(start);
            }
        }
    }
}

fn var(key: &str) -> Result<Variable, Violation> {
    let is_arg = |name: &str| {
        // The range `A-z` of APISIX's pattern has some punctuation in it.
        let letter = |b: u8| b.is_ascii_digit() || (b'A'..=b'z').contains(&b) || b == b'-';
        !name.is_empty() && name.bytes().all(letter)
    };
    if key == "mqtt_client_id" {
        return Err(Violation::Unsupported(key.to_owned()));
    }
    let known = VARS.contains(&key) || key.strip_prefix("arg_").is_some_and(is_arg);
    known.then(|| Variable::parse(key)).flatten().ok_or_else(|| unmatched(VARS_PATTERN, key))
}

fn named(hash_on: HashOn, key: &str) -> Result<Variable, Violation> {
    let valid = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    if key.is_empty() || !key.bytes().all(valid) {
        return Err(unmatched(NAME_PATTERN, key));
    }
    Ok(match hash_on {
        HashOn::Cookie => Variable::Cookie(key.into()),
        _ => Variable::Header(key.to_ascii_lowercase().replace('_', "-").into()),
    })
}

fn unmatched(pattern: &'static str, key: &str) -> Violation {
    Violation::Pattern { pattern, found: key.to_owned() }
}

/// Splits a text with `$name`, `${name}` and `${name ?? default}`. A `$` behind a backslash, or
/// with no name behind it, is text.
fn template(text: &str) -> Result<Vec<Part>, Violation> {
    let mut parts = Vec::new();
    let (mut done, mut from) = (0, 0);
    while let Some(dollar) = text[from..].find('$').map(|at| from + at) {
        from = dollar + 1;
        if text[..dollar].ends_with('\\') {
            continue;
        }
        let Some((name, length)) = reference(&text[from..]) else { continue };
        push_text(&mut parts, &text[done..dollar]);
        parts.push(part(name)?);
        from += length;
        done = from;
    }
    push_text(&mut parts, &text[done..]);
    Ok(parts)
}

/// What a `$` before `rest` names, and how much of `rest` that takes.
fn reference(rest: &str) -> Option<(&str, usize)> {
    if let Some(inner) = rest.strip_prefix('{') {
        let end = inner.find('}').filter(|end| *end > 0)?;
        return Some((&inner[..end], end + 2));
    }
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.';
    let end = rest.find(|c| !is_name(c)).unwrap_or(rest.len());
    (end > 0).then(|| (&rest[..end], end))
}

fn part(reference: &str) -> Result<Part, Violation> {
    let mut pieces = reference.split("??").map(str::trim);
    let name = pieces.next().unwrap_or_default();
    let default = pieces.next().map(Into::into);
    let variable = Variable::parse(name)
        .ok_or_else(|| Violation::Rule(format!("there is no variable \"${name}\"")))?;
    Ok(Part::Variable { variable, default })
}

fn push_text(parts: &mut Vec<Part>, text: &str) {
    if !text.is_empty() {
        parts.push(Part::Text(text.into()));
    }
}

/// Fills a template; `false` when not one variable had a value or a default.
fn fill<S: VariableSource + ?Sized>(parts: &[Part], source: &S, out: &mut Vec<u8>) -> bool {
    let mut found = false;
    for part in parts {
        match part {
            Part::Text(text) => out.extend_from_slice(text.as_bytes()),
            Part::Variable { variable, default } => {
                let start = out.len();
                if source.append(variable, out) {
                    found = true;
                    continue;
                }
                out.truncate(start);
                if let Some(default) = default {
                    found = true;
                    out.extend_from_slice(default.as_bytes());
                }
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    struct Values(&'static [(&'static str, &'static str)]);

    impl VariableSource for Values {
        fn append(&self, variable: &Variable, out: &mut Vec<u8>) -> bool {
            let name = variable.to_string();
            self.0.iter().find(|(known, _)| *known == name).is_some_and(|(_, value)| {
                out.extend_from_slice(value.as_bytes());
                true
            })
        }
    }

    const VALUES: Values = Values(&[
        ("remote_addr", "192.0.2.1"),
        ("uri", "/a"),
        ("arg_id", "7"),
        ("http_x_user", "jo"),
        ("http_empty", ""),
        ("cookie_Sid", "c1"),
        ("consumer_name", "jack"),
    ]);

    fn key_of(hash_on: HashOn, key: &str, values: &Values) -> String {
        let mut out = b"kept ".to_vec();
        ChashKey::parse(hash_on, Some(key)).unwrap().append(values, &mut out);
        String::from_utf8(out.split_off("kept ".len())).unwrap()
    }

    #[test]
    fn keys_come_from_where_they_should() {
        for (hash_on, key, want) in [
            (HashOn::Vars, "uri", "/a"),
            (HashOn::Vars, "arg_id", "7"),
            (HashOn::Header, "X-User", "jo"),
            (HashOn::Header, "x_user", "jo"),
            (HashOn::Cookie, "Sid", "c1"),
            (HashOn::Consumer, "anything", "jack"),
            (HashOn::VarsCombinations, "$uri$remote_addr", "/a192.0.2.1"),
            (HashOn::VarsCombinations, "<$uri>${ arg_id }-$arg_no-$", "</a>7--$"),
            (HashOn::VarsCombinations, "${arg_no ?? none}!", "none!"),
            (HashOn::VarsCombinations, "${arg_id??none}", "7"),
            (HashOn::VarsCombinations, r"\$uri $uri ${} ${", r"\$uri /a ${} ${"),
        ] {
            assert_eq!(key_of(hash_on, key, &VALUES), want, "{key}");
        }
    }

    #[test]
    fn the_address_stands_for_what_is_not_set() {
        for (hash_on, key) in [
            (HashOn::Vars, "host"),
            (HashOn::Header, "x-other"),
            (HashOn::Cookie, "sid"),
            (HashOn::VarsCombinations, "a$arg_no"),
            (HashOn::VarsCombinations, "no variable"),
            (HashOn::VarsCombinations, ""),
        ] {
            assert_eq!(key_of(hash_on, key, &VALUES), "192.0.2.1", "{key}");
        }
        // Set but empty is a key, and so is the literal part of a template.
        assert_eq!(key_of(HashOn::Header, "empty", &VALUES), "");
        assert_eq!(key_of(HashOn::VarsCombinations, "a$http_empty", &VALUES), "a");
        let nobody = Values(&[]);
        assert_eq!(key_of(HashOn::Consumer, "", &nobody), "");
    }

    #[test]
    fn wrong_keys_are_refused_with_the_field() {
        for (hash_on, key, reason) in [
            (HashOn::Vars, "http_x", "failed to match pattern \"^((uri|"),
            (HashOn::Vars, "arg_", "failed to match pattern"),
            (HashOn::Vars, "URI", "failed to match pattern"),
            (HashOn::Vars, "mqtt_client_id", "mqtt_client_id is not supported"),
            (HashOn::Header, "a b", "failed to match pattern \"^[a-zA-Z0-9-_]+$\""),
            (HashOn::Cookie, "", "failed to match pattern"),
            (HashOn::VarsCombinations, "$uri$nope", "there is no variable \"$nope\""),
            (HashOn::VarsCombinations, "${ }", "there is no variable"),
        ] {
            let message = ChashKey::parse(hash_on, Some(key)).unwrap_err().to_string();
            assert!(message.contains("\"key\"") && message.contains(reason), "{key}: {message}");
        }
        for hash_on in [HashOn::Vars, HashOn::Header, HashOn::Cookie, HashOn::VarsCombinations] {
            let message = ChashKey::parse(hash_on, None).unwrap_err().to_string();
            assert!(message.contains("\"key\""), "{message}");
        }
        assert!(ChashKey::parse(HashOn::Consumer, None).is_ok());
    }

    proptest! {
        #[test]
        fn any_template_is_parsed_or_refused(text in r"[a$\\{}? .é_]{0,20}") {
            if let Ok(key) = ChashKey::parse(HashOn::VarsCombinations, Some(&text)) {
                key.append(&VALUES, &mut Vec::new());
            }
        }
    }
}
