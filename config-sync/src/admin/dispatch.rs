//! From a request to what it asks for.

use std::mem;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::{Method, StatusCode, Uri};
use osmia_core::resource::Kind;
use serde_json::Value;

use super::query::Query;
use super::reply::{Answer, Reply};
use super::target::{self, Target};
use super::{Api, body, check, plugins, schema, validate};
use crate::explain;
use crate::store::Author;

/// `/apisix/admin` itself: `HEAD` says that the API is there.
pub(crate) async fn root(method: Method) -> Reply {
    if method == Method::HEAD { Reply::empty(StatusCode::OK) } else { nowhere().await }
}

/// Paths that do not exist.
#[allow(clippy::unused_async)] // a handler
pub(crate) async fn nowhere() -> Reply {
    Reply::error(StatusCode::NOT_FOUND, "not found")
}

/// Paths that exist, with a verb that they do not have.
pub(crate) async fn wrong_method(method: Method, uri: Uri) -> Reply {
    let message = format!("{} has no {method}", uri.path());
    Reply::error(StatusCode::METHOD_NOT_ALLOWED, message)
}

/// Everything below `/apisix/admin`.
pub(crate) async fn dispatch(State(api): State<Arc<Api>>, request: Request) -> Reply {
    answer(&api, request).await.unwrap_or_else(|refusal| refusal)
}

async fn answer(api: &Arc<Api>, request: Request) -> Answer {
    let (parts, mut content) = request.into_parts();
    if parts.method == Method::HEAD {
        return Ok(nowhere().await);
    }
    let segments = target::segments(parts.uri.path())?;
    let query = Query::parse(parts.uri.query());
    let author = parts.extensions.get::<Author>().cloned().unwrap_or_default();
    if let Some(special) = special(api, &segments, &query, &parts, &mut content).await {
        return special;
    }
    let target = Target::parse(segments)?;
    if target.kind == Kind::StreamRoute && !api.plane.rules.stream {
        return Err(Reply::bad("stream mode is disabled, can not add stream routes"));
    }
    if !target.rest.is_empty() && parts.method != Method::PATCH {
        return Ok(nowhere().await);
    }
    if is_unsupported(&parts.method, target.kind) {
        return Err(check::unsupported(parts.method.as_str(), target.kind));
    }
    let value = value(api, &parts.headers, content).await?;
    query.ttl()?;
    match parts.method {
        Method::GET => api.get(&target, &query).await,
        Method::PUT => api.put(&target, value, &query, author).await,
        Method::POST => api.post(&target, value, &query, author).await,
        Method::PATCH => api.patch(&target, value, &query, author).await,
        Method::DELETE => api.delete(&target, &query, author).await,
        _ => Ok(nowhere().await),
    }
}

/// What is not a resource: schemas, plugins, the check of a whole configuration.
async fn special(
    api: &Api,
    segments: &[String],
    query: &Query,
    parts: &Parts,
    content: &mut Body,
) -> Option<Answer> {
    let (first, below) = segments.split_first()?;
    let validates = below.first().is_some_and(|name| name == "validate");
    match first.as_str() {
        "plugins" => Some(plugins::answer(&api.plane.rules.plugins, &parts.method, below, query)),
        "configs" if validates && below.len() == 1 && parts.method == Method::POST => {
            let bytes = body::read(&parts.headers, mem::take(content), api.body_bytes).await;
            Some(bytes.and_then(|bytes| {
                validate::answer(&api.plane.rules, &parts.headers, bytes.as_deref())
            }))
        }
        "explain" if below.is_empty() && parts.method == Method::POST => {
            let bytes = body::read(&parts.headers, mem::take(content), explain::BODY_MAX).await;
            Some(bytes.and_then(|bytes| {
                explain::answer(&api.plane, bytes.as_deref().unwrap_or_default())
            }))
        }
        "schema" => {
            let value = value(api, &parts.headers, mem::take(content)).await;
            Some(value.and_then(|v| schema::answer(api, &parts.method, below, query, v)))
        }
        _ => None,
    }
}

async fn value(
    api: &Api,
    headers: &axum::http::HeaderMap,
    content: Body,
) -> Result<Option<Value>, Reply> {
    let bytes = body::read(headers, content, api.body_bytes).await?;
    bytes.map(|bytes| body::parse(&bytes)).transpose()
}

/// The verbs that some kinds do not have (admin-api.md).
fn is_unsupported(method: &Method, kind: Kind) -> bool {
    match *method {
        Method::POST => matches!(
            kind,
            Kind::Consumer
                | Kind::Credential
                | Kind::ConsumerGroup
                | Kind::PluginConfig
                | Kind::GlobalRule
                | Kind::PluginMetadata
                | Kind::Secret
        ),
        Method::PATCH => matches!(
            kind,
            Kind::Consumer
                | Kind::Credential
                | Kind::PluginMetadata
                | Kind::Proto
                | Kind::StreamRoute
        ),
        _ => false,
    }
}
