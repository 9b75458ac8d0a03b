//! `tls`: certificates towards the nodes.

use serde_json::Value;

use super::super::fields;
use super::super::{Id, Violation};

/// Characters of a certificate: least and most.
pub(in super::super) const CERTIFICATE: (usize, usize) = (128, 64 * 1024);
/// Characters of a private key: least and most.
pub(in super::super) const PRIVATE_KEY: (usize, usize) = (64, 64 * 1024);

/// `tls` of an upstream.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Tls {
    /// `client_cert_id`: an `ssl` resource of type `client`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_cert_id: Option<Id>,
    /// `client_cert`, PEM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_cert: Option<String>,
    /// `client_key`, PEM or encrypted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_key: Option<String>,
    /// `verify`: whether the node's certificate is verified.
    pub verify: bool,
}

impl Tls {
    /// Checks and takes a `tls` object.
    pub(super) fn from_json(value: &Value) -> Result<Self, Violation> {
        let map = fields::object(value)?;
        let pem = |value, (min, max)| fields::bounded(value, min, max).map(str::to_owned);
        let tls = Self {
            client_cert_id: fields::optional(map, "client_cert_id", Id::from_json)?,
            client_cert: fields::optional(map, "client_cert", |v| pem(v, CERTIFICATE))?,
            client_key: fields::optional(map, "client_key", |v| pem(v, PRIVATE_KEY))?,
            verify: fields::optional(map, "verify", fields::boolean)?.unwrap_or(false),
        };
        let dependent = |name: &str, cause| Violation::Dependent {
            name: name.to_owned(),
            cause: Box::new(cause),
        };
        match (&tls.client_cert, &tls.client_key) {
            (Some(_), None) => Err(dependent("client_cert", Violation::Missing("client_key"))),
            (None, Some(_)) => Err(dependent("client_key", Violation::Missing("client_cert"))),
            (Some(_), Some(_)) if tls.client_cert_id.is_some() => {
                let cause = Violation::Forbidden("a certificate besides \"client_cert_id\"");
                Err(dependent("client_cert_id", cause))
            }
            _ => Ok(tls),
        }
    }
}
