//! The standalone file, `apisix.yaml` (APISIX, deployment-modes.md, "Standalone").

use std::collections::HashMap;

use osmia_core::resource::{Id, Kind, Route, Upstream, Violation};
use osmia_core::router::PathPattern;
use serde_json::{Map, Value};

use crate::env::{self, Lookup, MissingVariable};
use crate::resources::{Located, Problem, Problems, Resources};
use crate::yaml;

/// The last line of a complete file.
const END: &str = "#END";

/// Keys that act on requests by themselves. Without them traffic would pass that they restrict, so
/// a file that has any is refused.
const REFUSED: [&str; 3] = ["global_rules", "stream_routes", "ssls"];

/// Keys that act only through a route's `plugins` or `service_id`, which are refused where they are
/// used. By themselves they are reported and left out.
const IDLE: [&str; 9] = [
    "services",
    "consumers",
    "consumer_groups",
    "credentials",
    "plugin_configs",
    "plugin_metadata",
    "plugins",
    "protos",
    "secrets",
];

/// Why a file cannot be used. Messages do not name the file.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file cannot be read.
    #[error("cannot be read: {0}")]
    Read(#[from] std::io::Error),
    /// The end marker is missing: the file is still being written.
    #[error("not complete yet: the last line must be {END}")]
    Incomplete,
    /// A variable is not set.
    #[error(transparent)]
    Variable(#[from] MissingVariable),
    /// Not valid YAML.
    #[error("not valid YAML: {0}")]
    Syntax(String),
    /// A part of the file is not what it must be.
    #[error("{key}: {reason}")]
    Key {
        /// The top-level key.
        key: String,
        /// What is wrong.
        reason: String,
    },
    /// Some resources are wrong.
    #[error(transparent)]
    Resources(#[from] Problems),
}

/// What a file contains.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Parsed {
    /// The resources.
    pub resources: Resources,
    /// What was left out, one line each.
    pub warnings: Vec<String>,
}

/// Parses and validates the text of a file. References to variables are replaced before YAML is
/// read, so that quotes decide on types, as APISIX does.
pub fn parse(text: &str, env: Lookup<'_>) -> Result<Parsed, LoadError> {
    if !text.trim_end().ends_with(END) {
        return Err(LoadError::Incomplete);
    }
    let text = env::substitute(text, env)?;
    let mut parsed = Parsed::default();
    let document = match yaml::parse(&text).map_err(LoadError::Syntax)? {
        Value::Null => return Ok(parsed),
        Value::Object(document) => document,
        _ => {
            let reason = "expected keys such as routes and upstreams".to_owned();
            return Err(LoadError::Key { key: "top level".to_owned(), reason });
        }
    };
    check_keys(&document, &mut parsed.warnings)?;
    let mut problems = Vec::new();
    let Parsed { resources, warnings } = &mut parsed;
    resources.upstreams = collection(
        &document,
        Kind::Upstream,
        |value| Upstream::from_json(value).map(|upstream| (upstream.meta.id.clone(), upstream)),
        &mut problems,
        warnings,
    )?;
    resources.routes = collection(
        &document,
        Kind::Route,
        |value| Route::from_json(value).map(|route| (route.meta.id.clone(), route)),
        &mut problems,
        warnings,
    )?;
    if !problems.is_empty() {
        return Err(Problems(problems).into());
    }
    for route in &resources.routes {
        let notes = never_matching(&route.value);
        warnings.extend(notes.map(|note| route.problem(Kind::Route, note).to_string()));
    }
    Ok(parsed)
}

/// What no request can match, which is valid but hardly meant.
fn never_matching(route: &Route) -> impl Iterator<Item = String> {
    let with_port = |host: &&String| host.contains(':') && !host.ends_with(']');
    let hosts =
        route.hosts.iter().filter(with_port).map(|host| {
            format!("host \"{host}\" never matches: hosts are compared without the port")
        });
    let relative = |uri: &&str| !uri.starts_with(['/', '*']);
    let uris = route.uris.iter().map(PathPattern::as_str).filter(relative);
    let uris = uris.map(|uri| format!("uri \"{uri}\" never matches: paths start with /"));
    hosts.chain(uris)
}

/// [`parse`] with the variables of the process.
pub fn parse_with_process_env(text: &str) -> Result<Parsed, LoadError> {
    parse(text, &env::process)
}

fn check_keys(document: &Map<String, Value>, warnings: &mut Vec<String>) -> Result<(), LoadError> {
    for (key, value) in document {
        let empty = match value {
            Value::Null => true,
            Value::Array(items) => items.is_empty(),
            Value::Object(map) => map.is_empty(),
            _ => false,
        };
        let name = key.as_str();
        let read = name == Kind::Route.collection() || name == Kind::Upstream.collection();
        if empty || read || name.ends_with("_conf_version") {
            continue;
        }
        if REFUSED.contains(&name) {
            let reason = "not supported yet by this version; remove it".to_owned();
            return Err(LoadError::Key { key: key.clone(), reason });
        }
        warnings.push(if IDLE.contains(&name) {
            format!("{key}: not supported yet by this version, left out")
        } else {
            format!("{key}: unknown key, left out")
        });
    }
    Ok(())
}

/// The validated items of one list. As with APISIX the later of two items with the same id wins, in
/// the place of the earlier.
fn collection<T>(
    document: &Map<String, Value>,
    kind: Kind,
    parse: impl Fn(&Value) -> Result<(Option<Id>, T), Violation>,
    problems: &mut Vec<Problem>,
    warnings: &mut Vec<String>,
) -> Result<Vec<Located<T>>, LoadError> {
    let items = match document.get(kind.collection()) {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::Array(items)) => items,
        Some(_) => {
            let key = kind.collection().to_owned();
            return Err(LoadError::Key { key, reason: "expected a list".to_owned() });
        }
    };
    let mut all: Vec<Located<T>> = Vec::with_capacity(items.len());
    let mut places: HashMap<Id, usize> = HashMap::with_capacity(items.len());
    for (index, item) in items.iter().enumerate() {
        let (id, value) = match parse(item) {
            Ok((id, value)) => (id.unwrap_or_else(|| Id::from_position(index)), value),
            Err(violation) => {
                let (id, reason) = (written_id(item, index), format!("{violation:#}"));
                problems.push(Problem { kind, index, id, reason });
                continue;
            }
        };
        let located = Located { index, id: id.clone(), value };
        if let Some(place) = places.get(&id) {
            let problem = located.problem(kind, "replaces an earlier one with the same id");
            warnings.push(problem.to_string());
            all[*place] = located;
        } else {
            places.insert(id, all.len());
            all.push(located);
        }
    }
    Ok(all)
}

/// The id of an item that is not valid, for the message about it.
fn written_id(item: &Value, index: usize) -> String {
    match item.get("id") {
        Some(Value::String(id)) => id.chars().take(64).collect(),
        Some(id) => id.to_string().chars().take(64).collect(),
        None => Id::from_position(index).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn none(_: &str) -> Option<String> {
        None
    }

    fn error(text: &str) -> String {
        parse(text, &none).unwrap_err().to_string()
    }

    const ROUTE: &str = "  - uri: /a\n    upstream_id: 1\n";

    #[test]
    fn reads_routes_and_upstreams_with_their_ids() {
        let text = "routes:\n  - id: r\n    uri: /a\n    upstream_id: 7\n  - uri: /b\n    \
                    upstream: {nodes: {\"127.0.0.1:80\": 1}}\nupstreams:\n  - id: 7\n    nodes: {}\n\
                    routes_conf_version: 3\nservices: []\n#END\n";
        let parsed = parse(text, &none).unwrap();
        let ids: Vec<&str> = parsed.resources.routes.iter().map(|r| r.id.as_str()).collect();
        assert_eq!(ids, ["r", "arr_2"]);
        assert_eq!(parsed.resources.upstreams[0].id.as_str(), "7");
        assert!(parsed.warnings.is_empty(), "{:?}", parsed.warnings);
    }

    #[test]
    fn needs_the_end_marker() {
        for complete in ["#END", "#END\n", "a:\n#END \n\n", "routes: [] #END\r\n"] {
            assert!(parse(complete, &none).is_ok(), "{complete:?}");
        }
        for partial in ["", "routes: []\n", "#END\nroutes: []\n", "#EN"] {
            assert!(matches!(parse(partial, &none), Err(LoadError::Incomplete)), "{partial:?}");
        }
    }

    #[test]
    fn replaces_variables_before_reading_yaml() {
        let env = |name: &str| (name == "URI").then(|| "/a\n    priority: 3".to_owned());
        let text = "routes:\n  - uri: ${{URI}}\n    upstream_id: '${{ID:=4}}'\n#END";
        let parsed = parse(text, &env).unwrap();
        assert_eq!(parsed.resources.routes[0].value.priority, 3);
        assert!(error("x: ${{NO}}\n#END").contains("NO is not set"));
    }

    #[test]
    fn names_file_position_id_and_field() {
        let text =
            format!("routes:\n{ROUTE}{ROUTE}  - id: 5\n    uri: 3\n    upstream_id: 1\n#END");
        assert_eq!(
            error(&text),
            "routes[2] (id \"5\"): property \"uri\" validation failed: wrong type: expected string, \
             got number"
        );
        let text = format!("routes:\n{ROUTE}  - 1\nupstreams:\n  - nodes: 1\n#END");
        let text = error(&text);
        assert!(text.starts_with("upstreams[0] (id \"arr_1\"): property \"nodes\""), "{text}");
        assert!(text.contains("; routes[1] (id \"arr_2\"): wrong type: expected object"), "{text}");
    }

    #[test]
    fn lists_a_bounded_number_of_problems() {
        let text = format!("routes:\n{}#END", "  - x\n".repeat(25));
        let text = error(&text);
        assert!(text.ends_with("; and 15 more"), "{text}");
        assert_eq!(text.matches("routes[").count(), 10);
    }

    #[test]
    fn refuses_what_acts_by_itself_and_reports_the_rest() {
        for key in REFUSED {
            let text = error(&format!("{key}: [{{id: 1}}]\n#END"));
            assert_eq!(text, format!("{key}: not supported yet by this version; remove it"));
        }
        let parsed = parse("services: [{id: 1}]\nrouets: []\nrouetz: [1]\n#END", &none).unwrap();
        assert_eq!(
            parsed.warnings,
            [
                "rouetz: unknown key, left out",
                "services: not supported yet by this version, left out",
            ]
        );
    }

    #[test]
    fn the_later_of_two_equal_ids_wins() {
        let text = "routes:\n  - {id: 1, uri: /a, upstream_id: 1}\n  - {id: 2, uri: /b, upstream_id: \
                    1}\n  - {id: \"1\", uri: /c, upstream_id: 1}\n#END";
        let parsed = parse(text, &none).unwrap();
        let uris: Vec<&str> =
            parsed.resources.routes.iter().map(|r| r.value.uris[0].as_str()).collect();
        assert_eq!(uris, ["/c", "/b"]);
        assert_eq!(
            parsed.warnings,
            ["routes[2] (id \"1\"): replaces an earlier one with the same id"]
        );
    }

    #[test]
    fn points_out_what_cannot_match() {
        let text = "routes:\n  - id: 1\n    uris: [a, /b, '*']\n    hosts: ['h:80', '[::1]', h]\n    \
                    upstream_id: 1\n#END";
        assert_eq!(
            parse(text, &none).unwrap().warnings,
            [
                "routes[0] (id \"1\"): host \"h:80\" never matches: hosts are compared without the \
                 port",
                "routes[0] (id \"1\"): uri \"a\" never matches: paths start with /",
            ]
        );
    }

    #[test]
    fn refuses_other_shapes() {
        assert_eq!(error("- a\n#END"), "top level: expected keys such as routes and upstreams");
        assert_eq!(error("routes: {a: 1}\n#END"), "routes: expected a list");
        assert!(error("routes: [\n#END").starts_with("not valid YAML: "));
        assert_eq!(parse("#END", &none).unwrap(), Parsed::default());
    }
}
