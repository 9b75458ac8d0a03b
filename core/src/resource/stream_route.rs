//! Stream routes: TCP and UDP (admin-api.md, "Stream Route").

use serde_json::{Map, Value};

use super::fields;
use super::upstream::Upstream;
use super::{Id, Meta, Violation};

/// A stream route as configured.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "Value")]
pub struct StreamRoute {
    /// Id, name, description, labels, times.
    #[serde(flatten)]
    pub meta: Meta,
    /// `remote_addr`: address or network of clients.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remote_addr: Option<String>,
    /// `server_addr`: address or network that the client connected to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_addr: Option<String>,
    /// `server_port` that the client connected to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_port: Option<u16>,
    /// `sni`, lower-cased.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sni: Option<String>,
    /// `upstream`, written inline.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream: Option<Box<Upstream>>,
    /// `upstream_id`, which wins over `upstream`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream_id: Option<Id>,
    /// `service_id`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_id: Option<Id>,
    /// `plugins`: configuration by plugin name.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub plugins: Map<String, Value>,
    /// `protocol`: an xRPC protocol.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol: Option<Protocol>,
}

/// `protocol` of a stream route.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize)]
pub struct Protocol {
    /// `name`.
    pub name: String,
    /// `superior_id`: the stream route that this one is a part of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub superior_id: Option<Id>,
    /// `conf`: the protocol's own.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub conf: Map<String, Value>,
    /// `logger`: plugins that log each request.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub logger: Vec<Value>,
}

fields::from_value!(StreamRoute);

impl StreamRoute {
    /// Checks a JSON object and takes the stream route from it.
    pub fn from_json(value: &Value) -> Result<Self, Violation> {
        let map = fields::object(value)?;
        let mut route = Self::default();
        fields::each(map, |name, value| route.take(name, value))?;
        Ok(route)
    }

    fn take(&mut self, name: &str, value: &Value) -> Result<bool, Violation> {
        match name {
            "remote_addr" => self.remote_addr = Some(fields::address(value)?.to_owned()),
            "server_addr" => self.server_addr = Some(fields::address(value)?.to_owned()),
            "server_port" => self.server_port = Some(fields::integer(value, 1, 65535)? as u16),
            "sni" => self.sni = Some(fields::host(value)?.to_ascii_lowercase()),
            "upstream" => self.upstream = Some(Box::new(Upstream::from_json(value)?)),
            "upstream_id" => self.upstream_id = Some(Id::from_json(value)?),
            "service_id" => self.service_id = Some(Id::from_json(value)?),
            "plugins" => self.plugins = fields::plugins(value)?,
            "protocol" => self.protocol = Some(Protocol::from_json(value)?),
            _ => return self.meta.take(name, value),
        }
        Ok(true)
    }
}

impl Protocol {
    fn from_json(value: &Value) -> Result<Self, Violation> {
        let map = fields::object(value)?;
        Ok(Self {
            name: fields::required(map, "name", fields::text)?,
            superior_id: fields::optional(map, "superior_id", Id::from_json)?,
            conf: fields::optional(map, "conf", fields::plugins)?.unwrap_or_default(),
            logger: fields::optional(map, "logger", loggers)?.unwrap_or_default(),
        })
    }
}

fn loggers(value: &Value) -> Result<Vec<Value>, Violation> {
    fields::items(fields::array(value)?, |item| {
        let map = fields::object(item)?;
        fields::each(map, |name, value| {
            match name {
                "name" => fields::string(value).map(drop)?,
                "filter" => fields::array(value).map(drop)?,
                "conf" => fields::object(value).map(drop)?,
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        if map.contains_key("name") && !map.contains_key("conf") {
            let cause = Box::new(Violation::Missing("conf"));
            return Err(Violation::Dependent { name: "name".to_owned(), cause });
        }
        Ok(item.clone())
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn takes_every_field() {
        let value = json!({
            "id": 1, "name": "n", "desc": "d", "remote_addr": "127.0.0.1",
            "server_addr": "10.0.0.0/8", "server_port": 2000, "sni": "A.com", "service_id": 2,
            "upstream": {"nodes": {"a:80": 1}}, "plugins": {"mqtt-proxy": {}},
            "protocol": {"name": "redis", "superior_id": 3, "conf": {"a": 1},
                         "logger": [{"name": "x", "conf": {}, "filter": []}]},
        });
        let route = StreamRoute::from_json(&value).unwrap();
        assert_eq!((route.server_port, route.sni.as_deref()), (Some(2000), Some("a.com")));
        assert_eq!(route.protocol.as_ref().unwrap().superior_id.as_ref().unwrap().as_str(), "3");
        let written = serde_json::to_value(&route).unwrap();
        assert_eq!(StreamRoute::from_json(&written).unwrap(), route);
        assert_eq!(StreamRoute::from_json(&json!({})).unwrap(), StreamRoute::default());
    }

    #[test]
    fn refuses_in_the_words_of_apisix() {
        let cases = [
            (
                json!({"remote_addr": "127.0.0"}),
                "property \"remote_addr\" validation failed: object matches none of the required",
            ),
            (
                json!({"server_port": 0}),
                "property \"server_port\" validation failed: expected 0 to be at least 1",
            ),
            (
                json!({"protocol": {}}),
                "property \"protocol\" validation failed: property \"name\" is required",
            ),
            (json!({"uri": "/a"}), "additional properties forbidden, found uri"),
        ];
        for (value, expected) in cases {
            assert_eq!(StreamRoute::from_json(&value).unwrap_err().to_string(), expected);
        }
        let logger = json!({"protocol": {"name": "a", "logger": [{"name": "x"}]}});
        assert!(StreamRoute::from_json(&logger).is_err());
    }
}
