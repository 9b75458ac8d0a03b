//! What a resource must fulfil by itself before it is stored: schema, cross-field rules, plugins.
//!
//! One function per kind, in the order in which APISIX checks (`apisix/admin/*.lua`), so that the
//! same resource is refused for the same reason. What needs another resource (references, names
//! that must be unique) is the Admin API's business.

mod certificate;
mod encrypt;
mod expr;
mod json_path;
mod plugins;
mod proto;
mod upstream;

use std::sync::Arc;

use serde_json::Value;

use crate::keyring::Keyring;
use crate::plugin::{Place, Registry};
use crate::resource::{self, Kind, Violation};
use crate::schema::{self, Validator};

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

impl UnknownPlugins {
    /// Whether the plugin `name` is left out when this version does not have it.
    pub fn skips(&self, name: &str) -> bool {
        match self {
            Self::Refuse => false,
            Self::Skip => true,
            Self::SkipNamed(names) => names.iter().any(|skipped| skipped == name),
        }
    }
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
    /// Whether the `encrypt_fields` of plugins are encrypted as well as private keys
    /// (`apisix.data_encryption.enable_encrypt_fields`).
    pub encrypt_fields: bool,
    /// Whether `apisix.proxy_mode` includes `stream`.
    pub stream: bool,
    /// How routes are matched, which decides what their paths may be.
    pub router: crate::router::Mode,
    /// The values of `discovery_type` that `config.yaml` has a discovery for.
    pub discovery: Vec<&'static str>,
}

impl Rules {
    /// What this process lacks to discover the nodes of an upstream that is written alone, or in
    /// another resource (`inline`).
    pub fn undiscoverable(
        &self,
        upstream: Option<&resource::Upstream>,
        inline: bool,
    ) -> Option<String> {
        let violation = upstream?.undiscoverable(&self.discovery)?;
        Some(if inline { violation.at("upstream") } else { violation }.to_string())
    }

    /// Checks everything about what is to be stored that needs no other resource, and fills in the
    /// schema's defaults (even when it fails). The error is APISIX's whole `error_msg`, with
    /// `invalid configuration: ` where APISIX has that.
    ///
    /// Credentials and the like need their `id` in `value` where their schema requires it; a
    /// secret's is `{manager}/{id}`, that of plugin metadata the plugin's name.
    pub fn check(&self, kind: Kind, value: &mut Value) -> Result<(), String> {
        Checker { rules: self, stored: false }.check(kind, value)
    }

    /// Checks what a store holds, decrypted before: [`Self::check`], except that it may have what
    /// this version cannot honour, and plugins that it does not have. Those do not make the
    /// resource wrong; who uses it decides.
    pub fn check_stored(&self, kind: Kind, value: &Value) -> Result<(), String> {
        let mut copy = value.clone();
        self.decrypt(kind, &mut copy);
        Checker { rules: self, stored: true }.check(kind, &mut copy)
    }
}

/// One check.
struct Checker<'r> {
    rules: &'r Rules,
    /// Whether the value comes from a store.
    stored: bool,
}

fn invalid(reason: impl std::fmt::Display) -> String {
    format!("invalid configuration: {reason}")
}

/// Reads `value` as a resource, which may have limits that the schema does not state.
fn typed<T>(value: &Value, read: fn(&Value) -> Result<T, Violation>) -> Result<T, String> {
    read(value).map_err(|violation| invalid(format_args!("{violation:#}")))
}

impl Checker<'_> {
    fn check(&self, kind: Kind, value: &mut Value) -> Result<(), String> {
        use resource as r;
        match kind {
            Kind::Route => self.route(value),
            Kind::Service => self.service(value),
            Kind::Upstream => self.upstream_alone(value),
            Kind::Consumer => self.consumer(value),
            Kind::Credential => self.credential(value),
            Kind::ConsumerGroup => self.holder(kind, value, r::ConsumerGroup::from_json),
            Kind::GlobalRule => self.holder(kind, value, r::GlobalRule::from_json),
            Kind::PluginConfig => self.holder(kind, value, r::PluginConfig::from_json),
            Kind::PluginMetadata => self.metadata(value),
            Kind::Plugins => plain(kind, value, r::PluginList::from_json).map(drop),
            Kind::Proto => proto::compile(&plain(kind, value, r::Proto::from_json)?.content),
            Kind::Ssl => self.ssl(value),
            Kind::StreamRoute => self.stream_route(value),
            Kind::Secret => secret(value),
            Kind::GraphqlCost => plain(kind, value, r::GraphqlCost::from_json).map(drop),
        }
    }

    fn route(&self, value: &mut Value) -> Result<(), String> {
        for (one, many) in [("host", "hosts"), ("remote_addr", "remote_addrs")] {
            if value.get(one).is_some() && value.get(many).is_some() {
                return Err(format!("only one of {one} or {many} is allowed"));
            }
        }
        by_schema_of(Kind::Route, value, resource::Route::from_json)?;
        if let Some(upstream) = value.get_mut("upstream") {
            self.upstream(upstream)?;
        }
        self.plugins_of(value, Place::Http)?;
        if let Some(vars) = value.get("vars") {
            let failed = |error| format!("failed to validate the 'vars' expression: {error}");
            expr::check(vars).map_err(failed)?;
            json_path::check_post_args(vars).map_err(failed)?;
        }
        let mut route = typed(value, resource::Route::from_json)?;
        route.for_router(self.rules.router).map_err(|error| invalid(format_args!("{error:#}")))?;
        let lacking = || self.rules.undiscoverable(route.upstream.as_deref(), true);
        self.honoured(route.unsupported().or_else(lacking))
    }

    fn service(&self, value: &mut Value) -> Result<(), String> {
        by_schema_of(Kind::Service, value, resource::Service::from_json)?;
        if let Some(upstream) = value.get_mut("upstream") {
            self.upstream(upstream)?;
        }
        self.plugins_of(value, Place::Http)?;
        let service = typed(value, resource::Service::from_json)?;
        let lacking = || self.rules.undiscoverable(service.upstream.as_deref(), true);
        self.honoured(service.unsupported().or_else(lacking))
    }

    fn upstream_alone(&self, value: &mut Value) -> Result<(), String> {
        self.upstream(value)?;
        let upstream = typed(value, resource::Upstream::from_json)?;
        let lacking = || self.rules.undiscoverable(Some(&upstream), false);
        self.honoured(upstream.unsupported().or_else(lacking))
    }

    /// What is not honoured must not be accepted: it would be taken for being in force.
    fn honoured(&self, unsupported: Option<String>) -> Result<(), String> {
        match unsupported.filter(|_| !self.stored) {
            Some(reason) => Err(invalid(reason)),
            None => Ok(()),
        }
    }

    fn consumer(&self, value: &mut Value) -> Result<(), String> {
        by_schema(schema::validator(Kind::Consumer), value)?;
        self.plugins_of(value, Place::Consumer)
            .map_err(|error| format!("invalid plugins configuration: {error}"))?;
        typed(value, resource::Consumer::from_json).map(drop)
    }

    fn credential(&self, value: &mut Value) -> Result<(), String> {
        by_schema(schema::validator(Kind::Credential), value)?;
        self.plugins_of(value, Place::Consumer)
            .map_err(|error| format!("invalid plugins configuration: {error}"))?;
        let credential = typed(value, resource::Credential::from_json)?;
        let mut known = credential.plugins.keys().filter_map(|name| self.rules.plugins.get(name));
        if known.any(|plugin| plugin.consumer_schema.is_none()) {
            return Err("only supports auth type plugins in consumer credential".to_owned());
        }
        Ok(())
    }

    /// A kind that is little more than its plugins.
    fn holder<T>(
        &self,
        kind: Kind,
        value: &mut Value,
        read: fn(&Value) -> Result<T, Violation>,
    ) -> Result<(), String> {
        by_schema(schema::validator(kind), value)?;
        self.plugins_of(value, Place::Http)?;
        typed(value, read).map(drop)
    }

    fn ssl(&self, value: &mut Value) -> Result<(), String> {
        let ssl = plain(Kind::Ssl, value, resource::Ssl::from_json)?;
        certificate::check_ssl(&self.rules.keyring, &ssl)
    }

    fn stream_route(&self, value: &mut Value) -> Result<(), String> {
        by_schema(schema::validator(Kind::StreamRoute), value)?;
        self.plugins_of(value, Place::Stream)?;
        let route = typed(value, resource::StreamRoute::from_json)?;
        match route.protocol {
            // No xRPC protocol exists in this version.
            Some(protocol) if !self.stored => Err(format!("unknown protocol [{}]", protocol.name)),
            _ => Ok(()),
        }
    }
}

/// Checks `value` against a schema, and fills in its defaults.
fn by_schema(validator: &Validator, value: &mut Value) -> Result<(), String> {
    validator.check(value).map_err(invalid)
}

/// The same for a kind with fields that exclude each other: the validator does not name them.
fn by_schema_of<T>(
    kind: Kind,
    value: &mut Value,
    read: fn(&Value) -> Result<T, Violation>,
) -> Result<(), String> {
    schema::validator(kind).check(value).map_err(|reason| match read(value) {
        Err(found) if found.is_about_exclusion() && found.to_string() == reason => {
            invalid(format_args!("{found:#}"))
        }
        _ => invalid(reason),
    })
}

/// A kind with no rules beyond its schema and its type.
fn plain<T>(
    kind: Kind,
    value: &mut Value,
    read: fn(&Value) -> Result<T, Violation>,
) -> Result<T, String> {
    by_schema(schema::validator(kind), value)?;
    typed(value, read)
}

fn secret(value: &mut Value) -> Result<(), String> {
    let id = value.get("id").and_then(Value::as_str).unwrap_or_default();
    let Some((manager, _)) = id.split_once('/') else {
        return Err("missing secret type".to_owned());
    };
    let Some(validator) = schema::validator_of_secret(manager) else {
        return Err(format!("invalid secret manager: {manager}"));
    };
    by_schema(validator, value)?;
    typed(value, resource::Secret::from_json).map(drop)
}

#[cfg(test)]
mod tests;
