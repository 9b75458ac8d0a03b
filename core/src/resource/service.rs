//! Services: what several routes have in common (admin-api.md, "Service").

use serde_json::{Map, Value};

use super::fields::{self, Unsupported};
use super::upstream::Upstream;
use super::{Id, Meta, Violation};

/// What this version cannot honour.
const UNSUPPORTED: [Unsupported<Service>; 2] = [
    ("script", |service| fields::unless(service.script.is_some(), "script")),
    ("upstream", |service| service.upstream.as_ref().and_then(|upstream| upstream.unmet())),
];

/// A service as configured.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "Value")]
pub struct Service {
    /// Id, name, description, labels, times.
    #[serde(flatten)]
    pub meta: Meta,
    /// `hosts`, lower-cased, of routes that have none themselves.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<String>,
    /// `upstream`, written inline.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream: Option<Box<Upstream>>,
    /// `upstream_id`, which wins over `upstream`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream_id: Option<Id>,
    /// `plugins`: configuration by plugin name.
    pub plugins: Map<String, Value>,
    /// `script`: Lua in place of plugins.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub script: Option<String>,
    /// `enable_websocket`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enable_websocket: Option<bool>,
}

impl Service {
    /// Checks a JSON object and takes the service from it.
    pub fn from_json(value: &Value) -> Result<Self, Violation> {
        let map = fields::object(value)?;
        let mut service = Self::default();
        fields::each(map, |name, value| service.take(name, value))?;
        Ok(service)
    }

    /// What of this service the version at hand cannot honour, in the form of a validation error;
    /// `None`: it honours all of it. Plugins are not looked at.
    pub fn unsupported(&self) -> Option<String> {
        fields::first_unsupported(&UNSUPPORTED, self).map(|violation| violation.to_string())
    }

    fn take(&mut self, name: &str, value: &Value) -> Result<bool, Violation> {
        match name {
            "hosts" => self.hosts = fields::hosts(value)?,
            "upstream" => self.upstream = Some(Box::new(Upstream::from_json(value)?)),
            "upstream_id" => self.upstream_id = Some(Id::from_json(value)?),
            "plugins" => self.plugins = fields::plugins(value)?,
            "script" => self.script = Some(fields::script(value)?),
            "enable_websocket" => self.enable_websocket = Some(fields::boolean(value)?),
            _ => return self.meta.take(name, value),
        }
        Ok(true)
    }
}

fields::from_value!(Service);
