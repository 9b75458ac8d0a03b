//! Answers in APISIX's form: JSON, a line feed at the end.

use axum::extract::Path;
use axum::http::header::CONTENT_TYPE;
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

/// A JSON answer.
pub(super) fn json(status: StatusCode, value: &Value) -> Response {
    json_text(status, value.to_string())
}

/// An answer that is JSON already, without the line feed.
pub(super) fn json_text(status: StatusCode, mut text: String) -> Response {
    text.push('\n');
    (status, [(CONTENT_TYPE, "application/json")], text).into_response()
}

/// 200 with JSON.
pub(super) fn ok(value: &Value) -> Response {
    json(StatusCode::OK, value)
}

/// A list as Lua writes it: an empty one is `{}`.
pub(super) fn list(items: Vec<Value>) -> Response {
    if items.is_empty() {
        return ok(&json!({}));
    }
    ok(&Value::Array(items))
}

/// An error in APISIX's form.
pub(super) fn error(status: StatusCode, message: &str) -> Response {
    json(status, &json!({ "error_msg": message }))
}

/// 200 with plain text.
pub(super) fn text(text: &'static str) -> Response {
    ([(CONTENT_TYPE, "text/plain")], text).into_response()
}

/// No such endpoint, or not with this method.
pub(super) async fn not_found(uri: Uri) -> Response {
    error(StatusCode::NOT_FOUND, &format!("no endpoint {} of the Control API", uri.path()))
}

/// No service discovery keeps anything that could be shown; that of type `dns` does not in APISIX
/// either.
pub(super) async fn no_discovery(Path(kind): Path<String>) -> Response {
    error(StatusCode::NOT_FOUND, &format!("discovery {kind} is not enabled or has no dump"))
}
