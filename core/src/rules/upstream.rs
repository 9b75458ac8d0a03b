//! Rules on an upstream's fields together (`apisix/upstream.lua`, `check_upstream_conf`).

use std::net::Ipv6Addr;
use std::sync::LazyLock;

use serde_json::Value;

use super::{Checker, by_schema_of, certificate, invalid};
use crate::resource::{self, Kind};
use crate::schema::{self, Validator};

/// The schema of a key of `chash`.
fn key_validator(name: &str) -> Validator {
    let schema = schema::named(name).ok_or_else(|| format!("no schema {name}"));
    schema.and_then(Validator::new).unwrap_or_else(Validator::refusing)
}

static VARS: LazyLock<Validator> = LazyLock::new(|| key_validator("upstream_hash_vars_schema"));
static HEADER: LazyLock<Validator> = LazyLock::new(|| key_validator("upstream_hash_header_schema"));
static COMBINED: LazyLock<Validator> =
    LazyLock::new(|| key_validator("upstream_hash_vars_combinations_schema"));

impl Checker<'_> {
    /// Checks an upstream, alone or in another resource.
    pub(super) fn upstream(&self, value: &mut Value) -> Result<(), String> {
        // Stored ones may have bare addresses: APISIX puts the brackets around them.
        if !self.stored {
            no_bare_ipv6(value)?;
        }
        by_schema_of(Kind::Upstream, value, resource::Upstream::from_json)?;
        ports(value)?;
        let text = |name: &str| value.get(name).and_then(Value::as_str);
        if text("pass_host") == Some("rewrite") && text("upstream_host").is_none_or(str::is_empty) {
            let reason = "`upstream_host` can't be empty when `pass_host` is `rewrite`";
            return Err(reason.to_owned());
        }
        let tls = |name: &str| value.get("tls").and_then(|tls| tls.get(name)?.as_str());
        if let Some(certificate) = tls("client_cert") {
            certificate::validate(&self.rules.keyring, certificate, tls("client_key"))?;
        }
        if text("type") == Some("chash") { hash_key(value) } else { Ok(()) }
    }
}

/// `host` of a node must say where it ends.
fn no_bare_ipv6(value: &Value) -> Result<(), String> {
    let nodes = value.get("nodes").and_then(Value::as_array);
    let mut hosts = nodes.into_iter().flatten().filter_map(|node| node.get("host")?.as_str());
    if hosts.any(|host| host.parse::<Ipv6Addr>().is_ok()) {
        return Err(invalid("IPv6 address must be enclosed with '[' and ']'"));
    }
    Ok(())
}

/// The ports of nodes that are written `host:port`.
fn ports(value: &Value) -> Result<(), String> {
    let nodes = value.get("nodes").and_then(Value::as_object);
    for (address, _) in nodes.into_iter().flatten() {
        let after_host = match address.rsplit_once("]:") {
            Some((_, port)) => Some(port),
            None => address.split_once(':').map(|(_, port)| port).filter(|p| !p.contains(':')),
        };
        let number = after_host.and_then(|port| port.parse::<i64>().ok());
        if let Some(port) = number.filter(|port| !(1..=65535).contains(port)) {
            return Err(format!("invalid port {port}"));
        }
    }
    Ok(())
}

/// `key` must be what `hash_on` says; defaults are filled in by now.
fn hash_key(value: &Value) -> Result<(), String> {
    let hash_on = value.get("hash_on").and_then(Value::as_str).unwrap_or("vars");
    let validator = match hash_on {
        "consumer" => return Ok(()),
        "header" | "cookie" => &HEADER,
        "vars_combinations" => &COMBINED,
        _ => &VARS,
    };
    let key = value.get("key").ok_or("missing key")?;
    schema::validate(validator, key).map_err(invalid)
}
