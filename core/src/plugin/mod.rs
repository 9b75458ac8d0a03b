//! Plugins: what the gateway knows of each one.
//!
//! One plugin, one file; the list given to [`Registry::new`] is the only other place that names it.

use std::collections::HashMap;
use std::fmt;

use serde_json::Value;

use crate::schema::{self, Validator};

/// Where a plugin's configuration stands, which decides on its form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// `plugins` of a route, a service, a plugin config, a consumer group or a global rule.
    Http,
    /// `plugins` of a stream route.
    Stream,
    /// `plugins` of a consumer or a credential.
    Consumer,
    /// `plugin_metadata`.
    Metadata,
}

/// What a plugin checks beyond its schema. The error says what is wrong.
pub type Check = fn(&Value, Place) -> Result<(), String>;

/// What the configuration plane needs to know of a plugin.
///
/// The fields that are encrypted at rest are named by `encrypt_fields` in each schema, as in
/// APISIX: paths with dots, through objects and arrays, to texts or lists and maps of texts.
#[derive(Debug, Clone)]
pub struct Descriptor {
    /// Name as in `plugins` of a route.
    pub name: &'static str,
    /// Rank; plugins with a higher one run first.
    pub priority: i32,
    /// Whether it works in stream routes too.
    pub stream: bool,
    /// JSON Schema of its configuration in a route. A [`Registry`] adds `_meta` to it.
    pub schema: Value,
    /// JSON Schema of its configuration in a consumer or credential: authentication plugins.
    pub consumer_schema: Option<Value>,
    /// JSON Schema of its `plugin_metadata`.
    pub metadata_schema: Option<Value>,
    /// What its schemas cannot say.
    pub check: Option<Check>,
}

impl Descriptor {
    /// The schema that holds at `place`: in a consumer a plugin that does not authenticate is
    /// configured as in a route. `None`: the plugin has no metadata.
    pub fn schema_at(&self, place: Place) -> Option<&Value> {
        match place {
            Place::Http | Place::Stream => Some(&self.schema),
            Place::Consumer => Some(self.consumer_schema.as_ref().unwrap_or(&self.schema)),
            Place::Metadata => self.metadata_schema.as_ref(),
        }
    }

    /// The paths of the fields that are encrypted at rest.
    pub fn encrypt_fields(&self, place: Place) -> impl Iterator<Item = &str> {
        let fields = self.schema_at(place).and_then(|schema| schema.get("encrypt_fields"));
        fields.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
    }
}

/// A plugin with its schemas compiled.
struct Plugin {
    descriptor: Descriptor,
    schema: Validator,
    consumer: Option<Validator>,
    metadata: Option<Validator>,
}

/// The plugins of this process, those with a higher priority first.
#[derive(Default)]
pub struct Registry {
    plugins: Vec<Plugin>,
    by_name: HashMap<&'static str, usize>,
}

/// A plugin that cannot be registered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("plugin {name}: {reason}")]
pub struct RegistryError {
    /// Its name.
    pub name: &'static str,
    /// What is wrong with it.
    pub reason: String,
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter().map(|plugin| plugin.name)).finish()
    }
}

impl Registry {
    /// A registry of the given plugins. Fails on a schema that is not valid or forbids `_meta`, and
    /// on a name that is there twice.
    pub fn new(descriptors: Vec<Descriptor>) -> Result<Self, RegistryError> {
        let mut plugins = descriptors.into_iter().map(compile).collect::<Result<Vec<_>, _>>()?;
        plugins.sort_by_key(|plugin| std::cmp::Reverse(plugin.descriptor.priority));
        let mut by_name = HashMap::with_capacity(plugins.len());
        for (index, plugin) in plugins.iter().enumerate() {
            let name = plugin.descriptor.name;
            if by_name.insert(name, index).is_some() {
                return Err(RegistryError { name, reason: "registered twice".to_owned() });
            }
        }
        Ok(Self { plugins, by_name })
    }

    /// A plugin by name.
    pub fn get(&self, name: &str) -> Option<&Descriptor> {
        self.find(name).map(|plugin| &plugin.descriptor)
    }

    /// All plugins, those with a higher priority first.
    pub fn iter(&self) -> impl Iterator<Item = &Descriptor> {
        self.plugins.iter().map(|plugin| &plugin.descriptor)
    }

    /// Fills in the defaults of a plugin's configuration and checks it; metadata of a plugin that
    /// has none may be any object. `None`: there is no such plugin.
    pub fn check(&self, name: &str, place: Place, conf: &mut Value) -> Option<Result<(), String>> {
        Some(self.find(name)?.check(place, conf))
    }

    fn find(&self, name: &str) -> Option<&Plugin> {
        self.plugins.get(*self.by_name.get(name)?)
    }
}

impl Plugin {
    fn check(&self, place: Place, conf: &mut Value) -> Result<(), String> {
        let validator = match place {
            Place::Http | Place::Stream => Some(&self.schema),
            Place::Consumer => Some(self.consumer.as_ref().unwrap_or(&self.schema)),
            Place::Metadata => self.metadata.as_ref(),
        };
        validator.map_or(Ok(()), |validator| validator.check(conf))?;
        self.descriptor.check.map_or(Ok(()), |check| check(conf, place))
    }
}

fn compile(mut descriptor: Descriptor) -> Result<Plugin, RegistryError> {
    let name = descriptor.name;
    let refused = |reason| RegistryError { name, reason };
    if descriptor.schema.pointer("/properties/_meta").is_some() {
        // Every plugin has the gateway's own `_meta`.
        return Err(refused("its schema has a field \"_meta\"".to_owned()));
    }
    descriptor.schema = schema::with_meta(&descriptor.schema);
    let compiled = |schema: &Value| Validator::new(schema).map_err(refused);
    Ok(Plugin {
        schema: compiled(&descriptor.schema)?,
        consumer: descriptor.consumer_schema.as_ref().map(compiled).transpose()?,
        metadata: descriptor.metadata_schema.as_ref().map(compiled).transpose()?,
        descriptor,
    })
}

#[cfg(test)]
pub(crate) mod tests;
