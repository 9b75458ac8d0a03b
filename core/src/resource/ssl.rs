//! Certificates (admin-api.md, "SSL").

use serde_json::Value;

use super::fields;
use super::upstream::{CERTIFICATE, PRIVATE_KEY};
use super::{Meta, Status, Violation};

const TYPES: [&str; 2] = ["server", "client"];
const PROTOCOLS: [&str; 3] = ["TLSv1.1", "TLSv1.2", "TLSv1.3"];

/// A certificate as configured. What is secret may refer to a secret manager or a variable.
#[derive(Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "Value")]
pub struct Ssl {
    /// Id, description, labels, times; there is no `name`.
    #[serde(flatten)]
    pub meta: Meta,
    /// `type`: for clients, or for the gateway as the client of an upstream.
    #[serde(rename = "type")]
    pub kind: SslType,
    /// `cert`, PEM, with the chain behind it.
    pub cert: String,
    /// `key`, PEM or encrypted.
    pub key: String,
    /// `sni` or `snis`, lower-cased; only a `client` certificate has none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub snis: Vec<String>,
    /// `certs`: further certificates for the same names, of other algorithms.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub certs: Vec<String>,
    /// `keys`: their private keys, in the same order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<String>,
    /// `client`: what is required of a client's certificate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client: Option<ClientVerification>,
    /// `ocsp_stapling`; `None`: nothing is stapled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ocsp_stapling: Option<OcspStapling>,
    /// `status`.
    pub status: Status,
    /// `ssl_protocols`; empty: the settings' ones.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ssl_protocols: Vec<&'static str>,
}

/// `ocsp_stapling`: what is shown with the certificate about its revocation (APISIX,
/// plugins/ocsp-stapling.md).
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct OcspStapling {
    /// `enabled`, default false.
    pub enabled: bool,
    /// `skip_verify`, default false: whether responses are stapled as they come.
    pub skip_verify: bool,
    /// `cache_ttl` in seconds, default 3600: how long a response is used.
    pub cache_ttl: u64,
    /// `response`: one in base64 that is stapled to `cert`, and nobody is asked (Osmia's own).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub response: Option<String>,
}

/// `type` of a certificate.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SslType {
    /// Shown to clients.
    #[default]
    Server,
    /// Shown to upstreams.
    Client,
}

/// `client`: mutual TLS.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct ClientVerification {
    /// `ca`, PEM.
    pub ca: String,
    /// `depth` of the chain.
    pub depth: u32,
    /// `skip_mtls_uri_regex`: paths that need no certificate.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub skip_mtls_uri_regex: Vec<String>,
}

fields::from_value!(Ssl);

/// Private keys stay out of logs.
impl std::fmt::Debug for Ssl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ssl")
            .field("meta", &self.meta)
            .field("kind", &self.kind)
            .field("snis", &self.snis)
            .field("status", &self.status)
            .finish_non_exhaustive()
    }
}

impl Ssl {
    /// Checks a JSON object and takes the certificate from it. The contents of certificates and
    /// keys are looked at by [`Rules::check`](crate::rules::Rules::check).
    pub fn from_json(value: &Value) -> Result<Self, Violation> {
        let map = fields::object(value)?;
        let mut ssl = Self::default();
        fields::each(map, |name, value| ssl.take(name, value))?;
        let has = |name| map.contains_key(name);
        let complete = has("cert") && has("key");
        match ssl.kind {
            SslType::Server if !complete || has("sni") == has("snis") => {
                Err(Violation::Rule("then clause did not match".to_owned()))
            }
            SslType::Client if !complete => {
                Err(Violation::Rule("else clause did not match".to_owned()))
            }
            _ => Ok(ssl),
        }
    }

    fn take(&mut self, name: &str, value: &Value) -> Result<bool, Violation> {
        match name {
            "type" => {
                let client = fields::one_of(value, &TYPES)? == "client";
                self.kind = if client { SslType::Client } else { SslType::Server };
            }
            "cert" => self.cert = pem(value, CERTIFICATE)?,
            "key" => self.key = pem(value, PRIVATE_KEY)?,
            "sni" => self.snis = vec![fields::host(value)?.to_ascii_lowercase()],
            "snis" => self.snis = snis(value)?,
            "certs" => self.certs = pems(value, CERTIFICATE)?,
            "keys" => self.keys = pems(value, PRIVATE_KEY)?,
            "client" => self.client = Some(ClientVerification::from_json(value)?),
            "ocsp_stapling" => self.ocsp_stapling = Some(OcspStapling::from_json(value)?),
            "status" => self.status = fields::status(value)?,
            "ssl_protocols" => {
                let protocol = |item| fields::one_of(item, &PROTOCOLS);
                self.ssl_protocols = fields::unique_strings(value, 0, protocol)?;
            }
            "name" => return Ok(false),
            _ => return self.meta.take(name, value),
        }
        Ok(true)
    }
}

impl ClientVerification {
    fn from_json(value: &Value) -> Result<Self, Violation> {
        let map = fields::object(value)?;
        let depth = |value| fields::integer(value, 0, i64::from(u32::MAX)).map(|n| n as u32);
        let regex = "skip_mtls_uri_regex";
        let patterns = |value| fields::unique_strings(value, 1, fields::string);
        Ok(Self {
            ca: fields::required(map, "ca", |value| pem(value, CERTIFICATE))?,
            depth: fields::optional(map, "depth", depth)?.unwrap_or(1),
            skip_mtls_uri_regex: fields::optional(map, regex, patterns)?
                .unwrap_or_default()
                .into_iter()
                .map(str::to_owned)
                .collect(),
        })
    }
}

impl OcspStapling {
    fn from_json(value: &Value) -> Result<Self, Violation> {
        let map = fields::object(value)?;
        let flag = |name| fields::optional(map, name, fields::boolean);
        let seconds = |value| fields::integer(value, 60, i64::from(u32::MAX)).map(|n| n as u64);
        let text = |value| fields::string(value).map(str::to_owned);
        Ok(Self {
            enabled: flag("enabled")?.unwrap_or(false),
            skip_verify: flag("skip_verify")?.unwrap_or(false),
            cache_ttl: fields::optional(map, "cache_ttl", seconds)?.unwrap_or(3600),
            response: fields::optional(map, "response", text)?,
        })
    }
}

/// A text of the given least and most characters; a reference to a secret may be shorter.
fn pem(value: &Value, (min, max): (usize, usize)) -> Result<String, Violation> {
    if let Some(text) = value.as_str().filter(|text| is_secret_ref(text)) {
        return Ok(text.to_owned());
    }
    fields::bounded(value, min, max).map(str::to_owned)
}

fn pems(value: &Value, range: (usize, usize)) -> Result<Vec<String>, Violation> {
    fields::items(fields::array(value)?, |item| pem(item, range))
}

fn snis(value: &Value) -> Result<Vec<String>, Violation> {
    let values = fields::array(value)?;
    if values.is_empty() {
        return Err(Violation::TooFewItems(1));
    }
    fields::items(values, |item| fields::host(item).map(str::to_ascii_lowercase))
}

/// Whether a value stands for one kept elsewhere: `$secret://...`, or `$env://...` in either case
/// (APISIX, secret.md).
pub fn is_secret_ref(text: &str) -> bool {
    let env = text.get(..7).is_some_and(|prefix| prefix.eq_ignore_ascii_case("$env://"));
    env || text.starts_with("$secret://")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn with(extra: Value) -> Value {
        let mut ssl = json!({"cert": "c".repeat(128), "key": "k".repeat(64), "sni": "A.com"});
        let Value::Object(extra) = extra else { panic!("not an object") };
        ssl.as_object_mut().unwrap().extend(extra);
        ssl
    }

    #[test]
    fn takes_every_field() {
        let mut value = with(json!({
            "id": 1, "desc": "d", "labels": {"a": "b"}, "status": 0, "type": "server",
            "snis": ["*.X.com", "y.com"], "ssl_protocols": ["TLSv1.2", "TLSv1.3"],
            "certs": ["c".repeat(128)], "keys": ["k".repeat(64)],
            "client": {"ca": "c".repeat(128), "depth": 2, "skip_mtls_uri_regex": ["/a"]},
            "ocsp_stapling": {"enabled": true, "cache_ttl": 60, "response": "AA=="},
        }));
        value.as_object_mut().unwrap().remove("sni");
        let ssl = Ssl::from_json(&value).unwrap();
        assert_eq!(ssl.snis, ["*.x.com", "y.com"]);
        assert_eq!((ssl.status, ssl.kind), (Status::Disabled, SslType::Server));
        assert_eq!(ssl.client.as_ref().unwrap().depth, 2);
        let stapling = ssl.ocsp_stapling.as_ref().unwrap();
        assert_eq!((stapling.enabled, stapling.skip_verify, stapling.cache_ttl), (true, false, 60));
        let written = serde_json::to_value(&ssl).unwrap();
        assert_eq!(Ssl::from_json(&written).unwrap(), ssl);
    }

    #[test]
    fn a_reference_may_stand_for_a_certificate() {
        let value = with(json!({"cert": "$secret://vault/1/c", "key": "$ENV://KEY"}));
        assert_eq!(Ssl::from_json(&value).unwrap().cert, "$secret://vault/1/c");
        assert!(!is_secret_ref("$en") && !is_secret_ref("secret://"));
    }

    #[test]
    fn refuses_in_the_words_of_apisix() {
        let cases = [
            (json!({"snis": ["a.com"]}), "then clause did not match"),
            (
                json!({"snis": []}),
                "property \"snis\" validation failed: expect array to have at least 1 items",
            ),
            (
                json!({"certs": ["short"]}),
                "property \"certs\" validation failed: failed to validate item 1: string too \
                 short, expected at least 128, got 5",
            ),
            (
                json!({"ssl_protocols": ["TLSv1.0"]}),
                "property \"ssl_protocols\" validation failed: failed to validate item 1: matches \
                 none of the enum values",
            ),
            (
                json!({"ocsp_stapling": {"cache_ttl": 59}}),
                "property \"ocsp_stapling\" validation failed: property \"cache_ttl\" validation \
                 failed: expected 59 to be at least 60",
            ),
            (json!({"name": "a"}), "additional properties forbidden, found name"),
            (
                json!({"client": {}}),
                "property \"client\" validation failed: property \"ca\" is required",
            ),
        ];
        for (extra, expected) in cases {
            assert_eq!(Ssl::from_json(&with(extra)).unwrap_err().to_string(), expected);
        }
        let mut value = with(json!({}));
        value.as_object_mut().unwrap().remove("sni");
        assert!(Ssl::from_json(&value).is_err());
        value["type"] = "client".into();
        assert!(Ssl::from_json(&value).is_ok());
    }

    #[test]
    fn keys_are_not_printed() {
        let ssl = Ssl::from_json(&with(json!({}))).unwrap();
        assert!(!format!("{ssl:?}").contains("kkk"));
    }
}
