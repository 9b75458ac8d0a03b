//! `plugins` against the registry (`apisix/plugin.lua`, `check_schema`).

use serde_json::Value;

use super::{Checker, by_schema, expr, invalid};
use crate::plugin::Place;
use crate::resource::Kind;
use crate::schema;

impl Checker<'_> {
    /// Checks the configuration of each plugin in `plugins` of a resource, if there are any.
    pub(super) fn plugins_of(&self, value: &mut Value, place: Place) -> Result<(), String> {
        let plugins = value.get_mut("plugins").and_then(Value::as_object_mut);
        for (name, conf) in plugins.into_iter().flatten() {
            self.plugin(name, conf, place)?;
        }
        Ok(())
    }

    fn plugin(&self, name: &str, conf: &mut Value, place: Place) -> Result<(), String> {
        if !conf.is_object() && !conf.is_array() {
            return Err(format!("invalid plugin conf {conf} for plugin [{name}]"));
        }
        let registry = &self.rules.plugins;
        let usable = |stream: bool| stream || place != Place::Stream;
        let Some(plugin) = registry.get(name).filter(|plugin| usable(plugin.stream)) else {
            let passed = self.stored || self.rules.unknown.skips(name);
            return if passed { Ok(()) } else { Err(format!("unknown plugin [{name}]")) };
        };
        // A plugin that is switched off may stay as it is: what it lacks may be the node's fault.
        let disabled = conf.pointer("/_meta/disable") == Some(&Value::Bool(true));
        match registry.check(plugin.name, place, conf) {
            Some(Err(error)) if !disabled => {
                return Err(if place == Place::Stream {
                    format!("failed to check the configuration of stream plugin [{name}]: {error}")
                } else {
                    format!("failed to check the configuration of plugin {name} err: {error}")
                });
            }
            _ => {}
        }
        self.meta(name, conf)
    }

    fn meta(&self, name: &str, conf: &Value) -> Result<(), String> {
        if let Some(filter) = conf.pointer("/_meta/filter") {
            expr::check(filter)
                .map_err(|error| format!("failed to validate the 'vars' expression: {error}"))?;
        }
        if conf.pointer("/_meta/pre_function").is_some() && !self.stored {
            return Err(format!(
                "failed to load _meta.pre_function in plugin {name}: Lua is not supported yet by \
                 this version"
            ));
        }
        Ok(())
    }

    /// `plugin_metadata`: an object whose `id` is the plugin's name. The plugin's schema does not
    /// see the `id`.
    pub(super) fn metadata(&self, value: &mut Value) -> Result<(), String> {
        by_schema(schema::validator(Kind::PluginMetadata), value)?;
        let Value::Object(map) = value else { return Ok(()) };
        let Some(id) = map.remove("id") else { return Err("missing plugin name".to_owned()) };
        let name = id.as_str().unwrap_or_default().to_owned();
        let outcome = self.rules.plugins.check(&name, Place::Metadata, value);
        if let Value::Object(map) = value {
            map.insert("id".to_owned(), id);
        }
        match outcome {
            Some(outcome) => outcome.map_err(invalid),
            // It takes effect when a version has the plugin.
            None if self.stored || self.rules.unknown.skips(&name) => Ok(()),
            None => Err("invalid plugin name".to_owned()),
        }
    }
}
