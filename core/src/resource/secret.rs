//! Access to secret managers (admin-api.md, "Secret"; secret.md).

use serde_json::{Map, Value};

use super::Violation;
use super::fields::{self, Object};

/// A secret manager as configured. The id of the resource is `{manager}/{id}`.
#[derive(Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "Value")]
pub struct Secret {
    /// `id`: `vault/1`.
    pub id: String,
    /// Which manager, with what it needs.
    #[serde(flatten)]
    pub manager: Manager,
}

/// The secret managers that APISIX knows.
#[derive(Clone, PartialEq, serde::Serialize)]
#[serde(untagged)]
pub enum Manager {
    /// `vault`: `HashiCorp` Vault.
    Vault {
        /// `uri`.
        uri: String,
        /// `prefix` of all keys.
        prefix: String,
        /// `token`.
        token: String,
        /// `namespace`.
        #[serde(skip_serializing_if = "Option::is_none")]
        namespace: Option<String>,
    },
    /// `aws`: AWS Secrets Manager.
    Aws {
        /// `access_key_id`.
        access_key_id: String,
        /// `secret_access_key`.
        secret_access_key: String,
        /// `session_token`.
        #[serde(skip_serializing_if = "Option::is_none")]
        session_token: Option<String>,
        /// `region`.
        region: String,
        /// `endpoint_url`.
        #[serde(skip_serializing_if = "Option::is_none")]
        endpoint_url: Option<String>,
    },
    /// `gcp`: Google Secret Manager.
    Gcp {
        /// `auth_config`: an account, written inline.
        #[serde(skip_serializing_if = "Option::is_none")]
        auth_config: Option<Map<String, Value>>,
        /// `auth_file`: the account's file.
        #[serde(skip_serializing_if = "Option::is_none")]
        auth_file: Option<String>,
        /// `ssl_verify`.
        ssl_verify: bool,
    },
}

fields::from_value!(Secret);

/// Tokens stay out of logs.
impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Secret").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Secret {
    /// Checks a JSON object and takes the manager from it; the `id` says which one it is.
    pub fn from_json(value: &Value) -> Result<Self, Violation> {
        let map = fields::object(value)?;
        let rule = |text: &str| Err(Violation::Rule(text.to_owned()));
        let Some(id) = map.get("id").and_then(Value::as_str) else { return rule("no secret id") };
        let manager = match id.split_once('/') {
            Some(("vault", _)) => vault(map)?,
            Some(("aws", _)) => aws(map)?,
            Some(("gcp", _)) => gcp(map)?,
            Some((other, _)) => return rule(&format!("invalid secret manager: {other}")),
            None => return rule("no secret id"),
        };
        Ok(Self { id: id.to_owned(), manager })
    }
}

fn vault(map: &Object) -> Result<Manager, Violation> {
    Ok(Manager::Vault {
        uri: fields::required(map, "uri", uri)?,
        prefix: fields::required(map, "prefix", fields::text)?,
        token: fields::required(map, "token", fields::text)?,
        namespace: fields::optional(map, "namespace", fields::text)?,
    })
}

fn aws(map: &Object) -> Result<Manager, Violation> {
    Ok(Manager::Aws {
        access_key_id: fields::required(map, "access_key_id", fields::text)?,
        secret_access_key: fields::required(map, "secret_access_key", fields::text)?,
        session_token: fields::optional(map, "session_token", fields::text)?,
        region: fields::optional(map, "region", fields::text)?
            .unwrap_or_else(|| "us-east-1".to_owned()),
        endpoint_url: fields::optional(map, "endpoint_url", uri)?,
    })
}

fn gcp(map: &Object) -> Result<Manager, Violation> {
    let auth_config = fields::optional(map, "auth_config", |value| {
        let map = fields::object(value)?;
        for name in ["client_email", "private_key", "project_id"] {
            fields::required(map, name, fields::string)?;
        }
        Ok(map.clone())
    })?;
    let auth_file = fields::optional(map, "auth_file", fields::text)?;
    if auth_config.is_some() == auth_file.is_some() {
        let fields = ["auth_config", "auth_file"];
        return Err(Violation::Exclusive { group: None, fields, both: auth_config.is_some() });
    }
    let ssl_verify = fields::optional(map, "ssl_verify", fields::boolean)?.unwrap_or(true);
    Ok(Manager::Gcp { auth_config, auth_file, ssl_verify })
}

/// APISIX's `uri_def`, as far as a host after the scheme goes; a reference may stand for it.
fn uri(value: &Value) -> Result<String, Violation> {
    const PATTERN: &str = r"^[^\/]+:\/\/([\da-zA-Z.-]+|\[[\da-fA-F:]+\])(:\d+)?";
    let text = fields::string(value)?;
    let host = text.split_once("://").filter(|(scheme, _)| !scheme.is_empty());
    let valid = host.is_some_and(|(scheme, host)| {
        let first = host.bytes().next();
        let plain = |b: u8| b.is_ascii_alphanumeric() || b".-[".contains(&b);
        !scheme.contains('/') && first.is_some_and(plain)
    });
    if valid || super::is_secret_ref(text) {
        return Ok(text.to_owned());
    }
    Err(Violation::Pattern { pattern: PATTERN, found: text.to_owned() })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn takes_every_manager() {
        for value in [
            json!({"id": "vault/1", "uri": "http://127.0.0.1:8200", "prefix": "kv/apisix",
                   "token": "t", "namespace": "n"}),
            json!({"id": "aws/a", "access_key_id": "k", "secret_access_key": "s",
                   "region": "us-east-1", "endpoint_url": "http://[::1]:80"}),
            json!({"id": "gcp/g", "auth_file": "f", "ssl_verify": false}),
            json!({"id": "gcp/g", "ssl_verify": true, "auth_config": {"client_email": "e",
                   "private_key": "p", "project_id": "i"}}),
        ] {
            let secret = Secret::from_json(&value).unwrap();
            assert_eq!(serde_json::to_value(&secret).unwrap(), value);
            assert!(!format!("{secret:?}").contains('k'));
        }
    }

    #[test]
    fn refuses_the_rest() {
        for (value, expected) in [
            (json!({}), "no secret id"),
            (json!({"id": "1"}), "no secret id"),
            (json!({"id": "other/1"}), "invalid secret manager: other"),
            (
                json!({"id": "vault/1", "uri": "http://a", "token": "t"}),
                "property \"prefix\" is required",
            ),
            (json!({"id": "gcp/1"}), "value should match only one schema, but matches none"),
        ] {
            assert_eq!(Secret::from_json(&value).unwrap_err().to_string(), expected);
        }
        let odd = json!({"id": "vault/1", "uri": "127.0.0.1", "prefix": "p", "token": "t"});
        let text = Secret::from_json(&odd).unwrap_err().to_string();
        assert!(text.starts_with("property \"uri\" validation failed: failed to match"), "{text}");
    }
}
