//! Answers of the Admin API, in APISIX's envelopes.

use axum::body::Body;
use axum::http::{HeaderValue, Response, StatusCode, header};
use axum::response::IntoResponse;
use serde_json::{Value, json};

use crate::store::StoreError;

/// A finished answer.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) body: Vec<u8>,
}

/// `Err` holds the answer to a request that is refused.
pub(crate) type Answer = Result<Reply, Reply>;

impl Reply {
    /// An answer without a body.
    pub(crate) fn empty(status: StatusCode) -> Self {
        Self { status, body: Vec::new() }
    }

    /// A text that is not JSON: APISIX has a few of them.
    pub(crate) fn text(status: StatusCode, text: &str) -> Self {
        Self { status, body: text.as_bytes().to_vec() }
    }

    /// JSON that is already written.
    pub(crate) fn raw(status: StatusCode, mut json: Vec<u8>) -> Self {
        json.push(b'\n');
        Self { status, body: json }
    }

    pub(crate) fn json(status: StatusCode, value: &Value) -> Self {
        Self::raw(status, value.to_string().into_bytes())
    }

    /// `{"error_msg": ...}`.
    pub(crate) fn error(status: StatusCode, message: impl Into<String>) -> Self {
        Self::json(status, &json!({ "error_msg": message.into() }))
    }

    /// 400 with `{"error_msg": ...}`.
    pub(crate) fn bad(message: impl Into<String>) -> Self {
        Self::error(StatusCode::BAD_REQUEST, message)
    }

    /// 404 of a key that does not exist.
    pub(crate) fn no_key() -> Self {
        Self::json(StatusCode::NOT_FOUND, &json!({ "message": "Key not found" }))
    }

    /// `{"key": ..., "value": ...}` after a write, with the value as JSON.
    pub(crate) fn written(created: bool, key: &str, value: &[u8]) -> Self {
        let status = if created { StatusCode::CREATED } else { StatusCode::OK };
        let key = Value::from(key).to_string();
        let parts = [b"{\"key\":", key.as_bytes(), b",\"value\":", value, b"}"];
        Self::raw(status, parts.concat())
    }
}

impl From<StoreError> for Reply {
    fn from(error: StoreError) -> Self {
        let status = match error {
            StoreError::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
            StoreError::ReadOnly(_) => StatusCode::METHOD_NOT_ALLOWED,
            StoreError::Refused(_) => StatusCode::BAD_REQUEST,
        };
        Self::error(status, error.to_string())
    }
}

impl IntoResponse for Reply {
    fn into_response(self) -> Response<Body> {
        let mut response = Response::new(Body::from(self.body));
        *response.status_mut() = self.status;
        let json = HeaderValue::from_static("application/json");
        response.headers_mut().insert(header::CONTENT_TYPE, json);
        response
    }
}
