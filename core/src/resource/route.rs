//! Routes: which requests, and where they go (admin-api.md, "Route").

use serde_json::Value;

use super::fields;
use super::upstream::{Timeout, Upstream};
use super::{Id, Meta, Violation};
use crate::router::{METHODS, PathPattern};

/// Longest `uri`, in characters.
const URI_CHARS: usize = 4096;

/// Fields of APISIX's route that this version cannot honour.
const UNSUPPORTED: [&str; 9] = [
    "plugins",
    "plugin_config_id",
    "service_id",
    "vars",
    "filter_func",
    "script",
    "script_id",
    "remote_addr",
    "remote_addrs",
];

/// Fields read below, besides [`Meta::FIELDS`].
const SUPPORTED: [&str; 11] = [
    "uri",
    "uris",
    "host",
    "hosts",
    "methods",
    "priority",
    "status",
    "timeout",
    "enable_websocket",
    "upstream",
    "upstream_id",
];

/// One of these sets is required.
const REQUIRED: [&[&str]; 10] = [
    &["plugins", "uri"],
    &["upstream", "uri"],
    &["upstream_id", "uri"],
    &["service_id", "uri"],
    &["plugins", "uris"],
    &["upstream", "uris"],
    &["upstream_id", "uris"],
    &["service_id", "uris"],
    &["script", "uri"],
    &["script", "uris"],
];

/// A route as configured.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "Value")]
pub struct Route {
    /// Id, name, description, labels, times.
    #[serde(flatten)]
    pub meta: Meta,
    /// `uri` or `uris`: at least one.
    pub uris: Vec<PathPattern>,
    /// `host` or `hosts`, lower-cased; empty: any host.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<String>,
    /// `methods`; empty: any method.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub methods: Vec<String>,
    /// `priority` among routes with the same path; the higher one is tried first.
    pub priority: i64,
    /// `status`.
    pub status: Status,
    /// `timeout`, which wins over the upstream's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Timeout>,
    /// `enable_websocket`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enable_websocket: Option<bool>,
    /// `upstream`, written inline.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream: Option<Upstream>,
    /// `upstream_id`, which wins over `upstream`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream_id: Option<Id>,
}

/// `status`: whether a route takes part in matching.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Status {
    /// 1
    #[default]
    Enabled,
    /// 0
    Disabled,
}

impl serde::Serialize for Status {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u8(u8::from(*self == Self::Enabled))
    }
}

impl Route {
    /// Checks a JSON object and takes the route from it.
    pub fn from_json(value: &Value) -> Result<Self, Violation> {
        let map = fields::object(value)?;
        fields::known(map, &[&SUPPORTED[..], &Meta::FIELDS].concat(), &UNSUPPORTED)?;
        let route = Self {
            meta: Meta::from_object(map)?,
            uris: uris(map)?,
            hosts: hosts(map)?,
            methods: fields::optional(map, "methods", |value| {
                fields::unique_strings(value, 0, |item| fields::one_of(item, &METHODS))
            })?
            .unwrap_or_default(),
            priority: fields::optional(map, "priority", |v| {
                fields::integer(v, i64::MIN, i64::MAX)
            })?
            .unwrap_or(0),
            status: fields::optional(map, "status", status)?.unwrap_or_default(),
            timeout: fields::optional(map, "timeout", Timeout::from_json)?,
            enable_websocket: fields::optional(map, "enable_websocket", fields::boolean)?,
            upstream: fields::optional(map, "upstream", Upstream::from_json)?,
            upstream_id: fields::optional(map, "upstream_id", Id::from_json)?,
        };
        if route.upstream.is_none() && route.upstream_id.is_none() {
            return Err(Violation::NoAlternative { required: &REQUIRED, cause: None });
        }
        Ok(route)
    }
}

impl TryFrom<Value> for Route {
    type Error = Violation;

    fn try_from(value: Value) -> Result<Self, Violation> {
        Self::from_json(&value)
    }
}

fn uris(map: &fields::Object) -> Result<Vec<PathPattern>, Violation> {
    let one = fields::optional(map, "uri", |value| {
        pattern(fields::bounded(value, 1, URI_CHARS)?).map(|uri| vec![uri])
    })?;
    let many = fields::optional(map, "uris", |value| {
        let texts = fields::unique_strings(value, 1, fields::string)?;
        let parse = |(index, text): (_, &String)| pattern(text).map_err(|v| v.at_item(index));
        texts.iter().enumerate().map(parse).collect::<Result<Vec<_>, _>>()
    })?;
    match (one, many) {
        (Some(uris), None) | (None, Some(uris)) => Ok(uris),
        (one, _) => Err(Violation::Exclusive {
            group: Some(1),
            fields: ["uri", "uris"],
            both: one.is_some(),
        }),
    }
}

fn pattern(text: &str) -> Result<PathPattern, Violation> {
    PathPattern::parse(text).map_err(|error| Violation::Unsupported(error.to_string()))
}

fn hosts(map: &fields::Object) -> Result<Vec<String>, Violation> {
    let one = fields::optional(map, "host", fields::host)?;
    let many = fields::optional(map, "hosts", |v| fields::unique_strings(v, 1, fields::host))?;
    let hosts = match (one, many) {
        (Some(_), Some(_)) => {
            return Err(Violation::Rule("only one of host or hosts is allowed".to_owned()));
        }
        (Some(host), None) => vec![host.to_owned()],
        (None, hosts) => hosts.unwrap_or_default(),
    };
    Ok(hosts.into_iter().map(|host| host.to_ascii_lowercase()).collect())
}

fn status(value: &Value) -> Result<Status, Violation> {
    match value.as_f64() {
        Some(1.0) => Ok(Status::Enabled),
        Some(0.0) => Ok(Status::Disabled),
        Some(_) => Err(Violation::NotInEnum { allowed: &["0", "1"], found: value.to_string() }),
        None => fields::integer(value, 0, 1).map(|_| Status::Enabled),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn error(value: &Value) -> String {
        Route::from_json(value).unwrap_err().to_string()
    }

    /// A valid route with the fields of `extra` over it.
    fn with(extra: Value) -> Value {
        let mut route = json!({"uri": "/a", "upstream_id": 1});
        let Value::Object(extra) = extra else { panic!("not an object") };
        route.as_object_mut().unwrap().extend(extra);
        route
    }

    #[test]
    fn takes_every_supported_field() {
        let route = Route::from_json(&json!({
            "id": 5, "name": "n", "desc": "", "labels": {"team": "a"}, "create_time": 1,
            "update_time": 2, "uris": ["/a/*", "/b"], "hosts": ["Foo.com", "*.BAR.com"],
            "methods": ["GET", "PURGE"], "priority": -3, "status": 0,
            "timeout": {"connect": 1, "send": 0.5, "read": 3}, "enable_websocket": true,
            "upstream": {"nodes": {"127.0.0.1:80": 1}}, "plugins": {}, "vars": [],
        }))
        .unwrap();
        assert_eq!(route.meta.id.as_ref().unwrap().as_str(), "5");
        assert_eq!(route.hosts, ["foo.com", "*.bar.com"]);
        assert_eq!(route.methods, ["GET", "PURGE"]);
        assert_eq!((route.priority, route.status), (-3, Status::Disabled));
        let send = route.timeout.unwrap().compile().send;
        assert_eq!(send, std::time::Duration::from_millis(500));
        assert_eq!(route.enable_websocket, Some(true));
        assert_eq!(route.uris.len(), 2);
    }

    #[test]
    fn survives_a_round_trip_through_json() {
        let route = Route::from_json(&with(json!({"host": "a.com", "priority": 2}))).unwrap();
        let json = serde_json::to_value(&route).unwrap();
        assert_eq!(serde_json::from_value::<Route>(json).unwrap(), route);
    }

    #[test]
    fn refuses_what_it_cannot_honour() {
        let some = json!({"plugins": {"key-auth": {}}, "plugin_config_id": 1, "service_id": 1,
            "vars": [["arg_a", "==", "1"]], "filter_func": "function() end", "script": "return {}",
            "script_id": 1, "remote_addr": "10.0.0.1", "remote_addrs": ["10.0.0.1"]});
        for (name, value) in some.as_object().unwrap() {
            let expected = format!(
                "property \"{name}\" validation failed: \"{name}\" is not supported yet by this version"
            );
            assert_eq!(error(&with(json!({name: value}))), expected);
        }
        assert_eq!(some.as_object().unwrap().len(), UNSUPPORTED.len());
    }

    #[test]
    fn refuses_in_the_words_of_apisix() {
        let cases = [
            (json!({"nope": 1}), "additional properties forbidden, found nope"),
            (
                json!({"uri": ""}),
                "property \"uri\" validation failed: string too short, expected at least 1, got 0",
            ),
            (
                json!({"uri": 1}),
                "property \"uri\" validation failed: wrong type: expected string, got number",
            ),
            (
                json!({"name": "x".repeat(257)}),
                "property \"name\" validation failed: string too long, expected at most 256, got 257",
            ),
            (
                json!({"labels": "a"}),
                "property \"labels\" validation failed: wrong type: expected object, got string",
            ),
            (
                json!({"labels": {"env": ["a"]}}),
                "property \"labels\" validation failed: failed to validate env (matching \".*\"): \
                 wrong type: expected string, got table",
            ),
            (
                json!({"methods": ["get"]}),
                "property \"methods\" validation failed: failed to validate item 1: matches none of \
                 the enum values",
            ),
            (
                json!({"hosts": []}),
                "property \"hosts\" validation failed: expect array to have at least 1 items",
            ),
            (
                json!({"hosts": ["a", "b", "a"]}),
                "property \"hosts\" validation failed: expected unique items but items 1 and 3 are \
                 equal",
            ),
            (
                json!({"host": "a b"}),
                "property \"host\" validation failed: failed to match pattern \
                 \"^\\*$|^\\*?[0-9a-zA-Z-._\\[\\]:]+$\" with \"a b\"",
            ),
            (json!({"host": "a", "hosts": ["b"]}), "only one of host or hosts is allowed"),
            (
                json!({"status": 2}),
                "property \"status\" validation failed: matches none of the enum values",
            ),
            (
                json!({"priority": "1"}),
                "property \"priority\" validation failed: wrong type: expected integer, got string",
            ),
            (
                json!({"timeout": {"connect": 0, "send": 1, "read": 1}}),
                "property \"timeout\" validation failed: property \"connect\" validation failed: \
                 expected 0 to be greater than 0",
            ),
            (
                json!({"uris": ["/b"]}),
                "allOf 1 failed: value should match only one schema, but matches both schemas 1 and 2",
            ),
            (
                json!({"upstream_id": "a/b"}),
                "property \"upstream_id\" validation failed: object matches none of the required",
            ),
        ];
        for (extra, expected) in cases {
            assert_eq!(error(&with(extra)), expected);
        }
        let none = "allOf 1 failed: value should match only one schema, but matches none";
        assert_eq!(error(&json!({"upstream_id": 1})), none);
        assert_eq!(error(&json!([])), "wrong type: expected object, got table");
    }

    #[test]
    fn requires_a_place_to_go() {
        let text = error(&json!({"uri": "/a"}));
        assert!(
            text.starts_with(
                "object matches none of the required: [\"plugins\",\"uri\"] or [\"upstream\",\"uri\"]"
            ),
            "{text}"
        );
    }
}
