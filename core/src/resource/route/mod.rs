//! Routes: which requests, and where they go (admin-api.md, "Route").

use serde_json::{Map, Value};

use super::fields::{self, Object, Unsupported};
use super::upstream::{Timeout, Upstream};
use super::{Id, Meta, Violation};
use crate::router::{Conditions, METHODS, Mode, PathPattern};

/// Longest `uri`, in characters.
const URI_CHARS: usize = 4096;

/// What this version cannot honour.
const UNSUPPORTED: [Unsupported<Route>; 4] = [
    ("filter_func", |route| fields::unless(route.filter_func.is_some(), "filter_func")),
    ("script", |route| fields::unless(route.script.is_some(), "script")),
    ("script_id", |route| fields::unless(route.script_id.is_some(), "script_id")),
    ("upstream", |route| route.upstream.as_ref().and_then(|upstream| upstream.unmet())),
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
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
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
    pub methods: Vec<&'static str>,
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
    pub upstream: Option<Box<Upstream>>,
    /// `upstream_id`, which wins over `upstream`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream_id: Option<Id>,
    /// `service_id`: what the route does not say itself is taken from this service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_id: Option<Id>,
    /// `plugin_config_id`: plugins that the route does not have itself are taken from there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plugin_config_id: Option<Id>,
    /// `plugins`: configuration by plugin name.
    pub plugins: Map<String, Value>,
    /// `vars`: an expression over variables of the request, as written; empty: always true.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub vars: Vec<Value>,
    /// `remote_addr` or `remote_addrs`: addresses and networks of clients; empty: any.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub remote_addrs: Vec<String>,
    /// `filter_func`: a Lua function.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub filter_func: Option<String>,
    /// `script`: Lua in place of plugins.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub script: Option<String>,
    /// `script_id`, which the dashboard uses.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub script_id: Option<Id>,
}

/// `status`: whether a resource takes part.
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
        let mut route = Self::default();
        fields::each(map, |name, value| route.take(name, value))?;
        check_choices(map)?;
        route.conditions()?;
        Ok(route)
    }

    /// What of this route the version at hand cannot honour, in the form of a validation error;
    /// `None`: it honours all of it. Plugins are not looked at.
    pub fn unsupported(&self) -> Option<String> {
        fields::first_unsupported(&UNSUPPORTED, self).map(|violation| violation.to_string())
    }

    /// `remote_addrs` and `vars` in the form that the router uses.
    pub fn conditions(&self) -> Result<Option<Conditions>, Violation> {
        let compiled = Conditions::compile(&self.remote_addrs, &self.vars);
        compiled.map_err(|error| Violation::Rule(error.to_string()))
    }

    /// Reads `uri` and `uris` as the router in use does. The error names the pattern.
    pub fn for_router(&mut self, mode: Mode) -> Result<(), Violation> {
        if mode == Mode::UriWithParameter {
            for uri in &mut self.uris {
                let read = uri.with_parameters();
                *uri = read.map_err(|error| Violation::Unsupported(error.to_string()).at("uri"))?;
            }
        }
        Ok(())
    }

    fn take(&mut self, name: &str, value: &Value) -> Result<bool, Violation> {
        match name {
            "uri" => self.uris = vec![pattern(fields::bounded(value, 1, URI_CHARS)?)?],
            "uris" => self.uris = uris(value)?,
            "host" => self.hosts = vec![fields::host(value)?.to_ascii_lowercase()],
            "hosts" => self.hosts = fields::hosts(value)?,
            "methods" => {
                let method = |item| fields::one_of(item, &METHODS);
                self.methods = fields::unique_strings(value, 0, method)?;
            }
            "priority" => self.priority = fields::integer(value, i64::MIN, i64::MAX)?,
            "status" => self.status = fields::status(value)?,
            "timeout" => self.timeout = Some(Timeout::from_json(value)?),
            "enable_websocket" => self.enable_websocket = Some(fields::boolean(value)?),
            "upstream" => self.upstream = Some(Box::new(Upstream::from_json(value)?)),
            "upstream_id" => self.upstream_id = Some(Id::from_json(value)?),
            "service_id" => self.service_id = Some(Id::from_json(value)?),
            "plugin_config_id" => self.plugin_config_id = Some(Id::from_json(value)?),
            "plugins" => self.plugins = fields::plugins(value)?,
            _ => return self.take_condition(name, value),
        }
        Ok(true)
    }

    /// The fields that few routes have.
    fn take_condition(&mut self, name: &str, value: &Value) -> Result<bool, Violation> {
        match name {
            "vars" => self.vars = fields::array(value)?.to_vec(),
            "remote_addr" => self.remote_addrs = vec![fields::address(value)?.to_owned()],
            "remote_addrs" => {
                let addresses = fields::unique_strings(value, 1, fields::address)?;
                self.remote_addrs = addresses.into_iter().map(str::to_owned).collect();
            }
            "filter_func" => self.filter_func = Some(filter_func(value)?),
            "script" => self.script = Some(fields::script(value)?),
            "script_id" => self.script_id = Some(Id::from_json(value)?),
            _ => return self.meta.take(name, value),
        }
        Ok(true)
    }
}

/// Fields that need or exclude each other.
fn check_choices(map: &Object) -> Result<(), Violation> {
    let has = |name| map.contains_key(name);
    if has("uri") == has("uris") {
        let fields = ["uri", "uris"];
        return Err(Violation::Exclusive { group: Some(1), fields, both: has("uri") });
    }
    for (one, many) in [("host", "hosts"), ("remote_addr", "remote_addrs")] {
        if has(one) && has(many) {
            return Err(Violation::Rule(format!("only one of {one} or {many} is allowed")));
        }
    }
    if !["plugins", "upstream", "upstream_id", "service_id", "script"].into_iter().any(has) {
        return Err(Violation::NoAlternative { required: &REQUIRED, cause: None });
    }
    // An empty `plugins` beside a script changes nothing.
    let plugins = map.get("plugins").and_then(Value::as_object).is_some_and(|map| !map.is_empty());
    if has("script") && (plugins || has("plugin_config_id")) {
        return Err(Violation::Forbidden("\"script\" besides plugins"));
    }
    Ok(())
}

fields::from_value!(Route);

fn uris(value: &Value) -> Result<Vec<PathPattern>, Violation> {
    let texts = fields::unique_strings(value, 1, fields::string)?;
    let parse = |(index, text)| pattern(text).map_err(|cause| cause.at_item(index));
    texts.into_iter().enumerate().map(parse).collect()
}

fn pattern(text: &str) -> Result<PathPattern, Violation> {
    PathPattern::parse(text).map_err(|error| Violation::Unsupported(error.to_string()))
}

fn filter_func(value: &Value) -> Result<String, Violation> {
    let text = fields::bounded(value, 10, usize::MAX)?;
    if text.starts_with("function") {
        return Ok(text.to_owned());
    }
    Err(Violation::Pattern { pattern: "^function", found: text.to_owned() })
}

#[cfg(test)]
mod tests;
