//! The schema of each resource kind, and its compiled validator, made once per process.

mod consumer;
mod health;
mod parts;
mod plugin;
mod route;
mod secret;
mod service;
mod ssl;
mod stream_route;
mod upstream;

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde_json::{Value, json};

use super::{Validator, definitions as d};
use crate::resource::Kind;

pub use plugin::with_meta;

/// A schema and its validator, made when first used.
struct Compiled {
    schema: Value,
    validator: Validator,
}

impl Compiled {
    fn new(schema: Value) -> Self {
        let validator = Validator::new(&schema).unwrap_or_else(Validator::refusing);
        Self { schema, validator }
    }
}

type Lazy = LazyLock<Compiled>;

static ROUTE: Lazy = Lazy::new(|| Compiled::new(route::schema()));
static SERVICE: Lazy = Lazy::new(|| Compiled::new(service::schema()));
static UPSTREAM: Lazy = Lazy::new(|| Compiled::new(upstream::schema()));
static CONSUMER: Lazy = Lazy::new(|| Compiled::new(consumer::schema()));
static CREDENTIAL: Lazy = Lazy::new(|| Compiled::new(consumer::credential()));
static CONSUMER_GROUP: Lazy = Lazy::new(|| Compiled::new(consumer::group()));
static GLOBAL_RULE: Lazy = Lazy::new(|| Compiled::new(plugin::global_rule()));
static PLUGIN_CONFIG: Lazy = Lazy::new(|| Compiled::new(plugin::config()));
static PLUGINS: Lazy = Lazy::new(|| Compiled::new(plugin::list()));
static PROTO: Lazy = Lazy::new(|| Compiled::new(parts::proto()));
static SSL: Lazy = Lazy::new(|| Compiled::new(ssl::schema()));
static STREAM_ROUTE: Lazy = Lazy::new(|| Compiled::new(stream_route::schema()));
static GRAPHQL_COST: Lazy = Lazy::new(|| Compiled::new(service::graphql_cost()));
static ANY_OBJECT: Lazy = Lazy::new(|| Compiled::new(json!({"type": "object"})));
static VAULT: Lazy = Lazy::new(|| Compiled::new(secret::vault()));
static AWS: Lazy = Lazy::new(|| Compiled::new(secret::aws()));
static GCP: Lazy = Lazy::new(|| Compiled::new(secret::gcp()));

/// Schemas that the Admin API serves beside those of the resources.
static PARTS: LazyLock<BTreeMap<&'static str, Value>> = LazyLock::new(parts::all);

fn compiled(kind: Kind) -> &'static Compiled {
    match kind {
        Kind::Route => &ROUTE,
        Kind::Service => &SERVICE,
        Kind::Upstream => &UPSTREAM,
        Kind::Consumer => &CONSUMER,
        Kind::Credential => &CREDENTIAL,
        Kind::ConsumerGroup => &CONSUMER_GROUP,
        Kind::GlobalRule => &GLOBAL_RULE,
        Kind::PluginConfig => &PLUGIN_CONFIG,
        Kind::Plugins => &PLUGINS,
        Kind::Proto => &PROTO,
        Kind::Ssl => &SSL,
        Kind::StreamRoute => &STREAM_ROUTE,
        Kind::GraphqlCost => &GRAPHQL_COST,
        Kind::PluginMetadata | Kind::Secret => &ANY_OBJECT,
    }
}

fn secret(manager: &str) -> Option<&'static Compiled> {
    match manager {
        "vault" => Some(&VAULT),
        "aws" => Some(&AWS),
        "gcp" => Some(&GCP),
        _ => None,
    }
}

/// The schema of a kind. That of plugin metadata is the plugin's, that of a secret its manager's
/// ([`of_secret`]); for these two any object passes here.
pub fn of(kind: Kind) -> &'static Value {
    &compiled(kind).schema
}

/// The validator of [`of`].
pub fn validator(kind: Kind) -> &'static Validator {
    &compiled(kind).validator
}

/// The schema of a secret manager's configuration: `vault`, `aws` or `gcp`.
pub fn of_secret(manager: &str) -> Option<&'static Value> {
    secret(manager).map(|compiled| &compiled.schema)
}

/// The validator of [`of_secret`].
pub fn validator_of_secret(manager: &str) -> Option<&'static Validator> {
    secret(manager).map(|compiled| &compiled.validator)
}

/// What `GET /apisix/admin/schema/{name}` serves: the resources by their singular name (`route`,
/// `plugin_config`, ...; `plugins`), and the parts that APISIX serves as well, such as `id_schema`.
pub fn named(name: &str) -> Option<&'static Value> {
    let kind = match name {
        "route" => Kind::Route,
        "service" => Kind::Service,
        "upstream" => Kind::Upstream,
        "consumer" => Kind::Consumer,
        "credential" => Kind::Credential,
        "consumer_group" => Kind::ConsumerGroup,
        "global_rule" => Kind::GlobalRule,
        "plugin_config" => Kind::PluginConfig,
        "plugins" => Kind::Plugins,
        "proto" => Kind::Proto,
        "ssl" => Kind::Ssl,
        "stream_route" => Kind::StreamRoute,
        "graphql_cost_decoration" => Kind::GraphqlCost,
        part => return PARTS.get(part),
    };
    Some(of(kind))
}
