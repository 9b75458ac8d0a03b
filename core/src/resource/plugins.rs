//! Resources that hold plugins and little else: global rules, plugin configs, plugin metadata, the
//! list of plugins (admin-api.md, "Global rule", "Plugin config", "Plugin metadata", "Plugin").

use serde_json::{Map, Value};

use super::fields;
use super::{Meta, Violation};

/// A global rule: plugins that run for every request.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "Value")]
pub struct GlobalRule {
    /// Id and times only.
    #[serde(flatten)]
    pub meta: Meta,
    /// `plugins`: configuration by plugin name.
    pub plugins: Map<String, Value>,
}

/// A plugin config: plugins that several routes share.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "Value")]
pub struct PluginConfig {
    /// Id, name of any length, description, labels, times.
    #[serde(flatten)]
    pub meta: Meta,
    /// `plugins`: configuration by plugin name.
    pub plugins: Map<String, Value>,
}

/// What a plugin is told once for all of its uses. The fields are the plugin's.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "Value")]
pub struct PluginMetadata {
    /// `id`: the plugin's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// All other fields.
    #[serde(flatten)]
    pub fields: Map<String, Value>,
}

/// The list of plugins that are enabled, in place of the settings' one.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "Value")]
pub struct PluginList(pub Vec<ListedPlugin>);

/// An entry of the [`PluginList`].
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct ListedPlugin {
    /// `name`.
    pub name: String,
    /// `stream`: whether it is meant for stream routes.
    pub stream: bool,
}

fields::from_value!(GlobalRule, PluginConfig, PluginMetadata, PluginList);

/// Takes `plugins`, which are required, and what `take` knows of the rest.
pub(super) fn holder(
    value: &Value,
    take: impl Fn(&mut Meta, &str, &Value) -> Result<bool, Violation>,
) -> Result<(Meta, Map<String, Value>), Violation> {
    let mut meta = Meta::default();
    let mut plugins = None;
    fields::each(fields::object(value)?, |name, value| match name {
        "plugins" => {
            plugins = Some(fields::plugins(value)?);
            Ok(true)
        }
        _ => take(&mut meta, name, value),
    })?;
    Ok((meta, plugins.ok_or(Violation::Missing("plugins"))?))
}

impl GlobalRule {
    /// Checks a JSON object and takes the rule from it.
    pub fn from_json(value: &Value) -> Result<Self, Violation> {
        let (meta, plugins) = holder(value, |meta, name, value| match name {
            "name" | "desc" | "labels" => Ok(false),
            _ => meta.take(name, value),
        })?;
        Ok(Self { meta, plugins })
    }
}

impl PluginConfig {
    /// Checks a JSON object and takes the plugin config from it.
    pub fn from_json(value: &Value) -> Result<Self, Violation> {
        let (meta, plugins) = holder(value, |meta, name, value| match name {
            "name" => {
                meta.name = Some(fields::text(value)?);
                Ok(true)
            }
            _ => meta.take(name, value),
        })?;
        Ok(Self { meta, plugins })
    }
}

impl PluginMetadata {
    /// Checks a JSON object and takes the metadata from it.
    pub fn from_json(value: &Value) -> Result<Self, Violation> {
        let mut fields = fields::object(value)?.clone();
        let id = match fields.remove("id") {
            Some(id) => Some(fields::text(&id).map_err(|cause| cause.at("id"))?),
            None => None,
        };
        Ok(Self { id, fields })
    }
}

impl PluginList {
    /// Checks a JSON array and takes the list from it.
    pub fn from_json(value: &Value) -> Result<Self, Violation> {
        let entry = |value| {
            let map = fields::object(value)?;
            let name = |value| fields::bounded(value, 1, usize::MAX).map(str::to_owned);
            Ok(ListedPlugin {
                name: fields::required(map, "name", name)?,
                stream: fields::optional(map, "stream", fields::boolean)?.unwrap_or(false),
            })
        };
        Ok(Self(fields::items(fields::array(value)?, entry)?))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::resource::ConsumerGroup;

    #[test]
    fn plugins_are_required_and_kept() {
        let plugins = json!({"limit-count": {"count": 2}});
        let value = json!({"id": "1", "plugins": plugins, "create_time": 1, "update_time": 2});
        assert_eq!(Value::Object(GlobalRule::from_json(&value).unwrap().plugins), plugins);
        assert_eq!(Value::Object(PluginConfig::from_json(&value).unwrap().plugins), plugins);
        assert_eq!(Value::Object(ConsumerGroup::from_json(&value).unwrap().plugins), plugins);
        let none = json!({"id": 1});
        for error in [
            GlobalRule::from_json(&none).unwrap_err(),
            PluginConfig::from_json(&none).unwrap_err(),
            ConsumerGroup::from_json(&none).unwrap_err(),
        ] {
            assert_eq!(error.to_string(), "property \"plugins\" is required");
        }
    }

    #[test]
    fn each_kind_has_its_own_further_fields() {
        let named = json!({"id": 1, "plugins": {}, "name": "x".repeat(300)});
        assert!(PluginConfig::from_json(&named).is_ok());
        let found = "additional properties forbidden, found name";
        assert_eq!(GlobalRule::from_json(&named).unwrap_err().to_string(), found);
        assert!(ConsumerGroup::from_json(&named).unwrap_err().to_string().contains("too long"));
        let labelled = json!({"id": 1, "plugins": {}, "labels": {"a": "b"}, "desc": "d"});
        assert!(ConsumerGroup::from_json(&labelled).is_ok());
        assert!(GlobalRule::from_json(&labelled).is_err());
    }

    #[test]
    fn metadata_keeps_every_field() {
        let value = json!({"id": "http-logger", "log_format": {"a": "$host"}});
        let metadata = PluginMetadata::from_json(&value).unwrap();
        assert_eq!(metadata.id.as_deref(), Some("http-logger"));
        assert_eq!(serde_json::to_value(metadata).unwrap(), value);
        assert!(PluginMetadata::from_json(&json!({"id": 1})).is_err());
    }

    #[test]
    fn the_list_names_plugins() {
        let list = PluginList::from_json(&json!([{"name": "a"}, {"name": "b", "stream": true}]));
        let list = list.unwrap().0;
        assert_eq!((list[0].name.as_str(), list[0].stream, list[1].stream), ("a", false, true));
        assert_eq!(
            PluginList::from_json(&json!([{"stream": true}])).unwrap_err().to_string(),
            "failed to validate item 1: property \"name\" is required"
        );
    }
}
