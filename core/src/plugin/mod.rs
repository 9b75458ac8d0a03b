//! Plugins: what the gateway knows of each one.
//!
//! One plugin, one file; this list is the only other place that names it.

use serde_json::Value;

/// What the configuration plane needs to know of a plugin.
#[derive(Debug, Clone)]
pub struct Descriptor {
    /// Name as in `plugins` of a route.
    pub name: &'static str,
    /// Rank; plugins with a higher one run first.
    pub priority: i32,
    /// JSON Schema of its configuration in a route.
    pub schema: Value,
    /// JSON Schema of its configuration in a consumer or credential: authentication plugins.
    pub consumer_schema: Option<Value>,
    /// JSON Schema of its `plugin_metadata`.
    pub metadata_schema: Option<Value>,
    /// Fields of its configuration that are encrypted at rest.
    pub encrypt_fields: &'static [&'static str],
}

/// The plugins of this process.
#[derive(Debug, Clone, Default)]
pub struct Registry {
    plugins: Vec<Descriptor>,
}

impl Registry {
    /// A registry of the given plugins.
    pub fn new(plugins: Vec<Descriptor>) -> Self {
        Self { plugins }
    }

    /// A plugin by name.
    pub fn get(&self, name: &str) -> Option<&Descriptor> {
        self.plugins.iter().find(|plugin| plugin.name == name)
    }

    /// All plugins.
    pub fn iter(&self) -> impl Iterator<Item = &Descriptor> {
        self.plugins.iter()
    }
}
