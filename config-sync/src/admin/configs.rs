//! The standalone Admin API, `/apisix/admin/configs`: a gateway whose provider is a file takes its
//! whole configuration at once and holds it in memory (APISIX, deployment-modes.md, "API-driven
//! standalone mode").

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use osmia_core::resource::Kind;
use osmia_core::rules::Rules;
use serde_json::{Map, Number, Value};
use tokio::sync::Mutex;

use super::reply::Reply;
use super::{PUBLISH_LIMIT, body, dispatch};
use crate::plane::Plane;
use crate::store::file::{Config, Document, FileStore, Versions, collections, lists, read_item};

/// Largest configuration that is taken. APISIX knows no limit here; this one only keeps a mistake
/// from filling the memory.
const CONFIG_BYTES: usize = 256 * 1024 * 1024;

static DIGEST: HeaderName = HeaderName::from_static("x-digest");
static LAST_MODIFIED: HeaderName = HeaderName::from_static("x-last-modified");

/// What the handlers share.
struct Configs {
    plane: Plane,
    store: Arc<FileStore>,
    /// Held while a configuration is compared with the one before and put in its place.
    order: Mutex<()>,
}

/// `GET`, `HEAD` and `PUT` of `/apisix/admin/configs`, without access control.
pub fn router(plane: Plane, store: Arc<FileStore>) -> Router {
    let configs = Arc::new(Configs { plane, store, order: Mutex::new(()) });
    let methods = get(read).head(head).put(replace).fallback(dispatch::nowhere);
    Router::new().route("/apisix/admin/configs", methods).with_state(configs)
}

async fn head(State(configs): State<Arc<Configs>>) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    describe(&mut response, configs.store.config().as_deref());
    response
}

async fn read(State(configs): State<Arc<Configs>>, headers: HeaderMap) -> Response<Body> {
    let config = match configs.in_force().await {
        Ok(config) => config,
        Err(reply) => return reply.into_response(),
    };
    let given = configs.store.config();
    let yaml = has_prefix(&headers, &header::ACCEPT, "application/yaml");
    let written =
        tokio::task::spawn_blocking(move || write(&config, yaml).map_err(|e| e.to_string()));
    match written.await.map_err(|error| error.to_string()).and_then(|written| written) {
        Ok(text) => {
            let mut response = Response::new(Body::from(text));
            let kind = if yaml { "application/yaml" } else { "application/json" };
            response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
            describe(&mut response, given.as_deref());
            response
        }
        Err(reason) => Reply::error(StatusCode::INTERNAL_SERVER_ERROR, reason).into_response(),
    }
}

async fn replace(State(configs): State<Arc<Configs>>, request: Request<Body>) -> Response<Body> {
    configs.replace(request).await.unwrap_or_else(IntoResponse::into_response)
}

impl Configs {
    /// The configuration in force; without digest and time when it is the file's.
    async fn in_force(&self) -> Result<Config, Reply> {
        if let Some(config) = self.store.config() {
            return Ok(Config::clone(&config));
        }
        let (versions, contents) = self.store.in_force().await?;
        let lists = tokio::task::spawn_blocking(move || lists(&contents)).await;
        let lists = lists
            .map_err(|error| Reply::error(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))?;
        Ok(Config { versions: Versions::clone(&versions), lists, ..Config::default() })
    }

    async fn replace(&self, request: Request<Body>) -> Result<Response<Body>, Reply> {
        let (parts, bytes) = request.into_parts();
        let Some(digest) = parts.headers.get(&DIGEST) else {
            return Err(Reply::bad("missing digest header"));
        };
        let digest = String::from_utf8_lossy(digest.as_bytes()).into_owned();
        let yaml = has_prefix(&parts.headers, &header::CONTENT_TYPE, "application/yaml");
        let bytes = body::read(&parts.headers, bytes, CONFIG_BYTES).await?;
        let bytes = bytes.ok_or_else(|| body::refused("empty request body"))?;
        let _order = self.order.lock().await;
        let before = self.in_force().await?;
        let digest_before = self.store.config().map(|config| config.digest.clone());
        let rules = Arc::clone(&self.plane.rules);
        let next = tokio::task::spawn_blocking(move || {
            let given = parse(&bytes, yaml)?;
            if digest_before.as_deref() == Some(&digest) {
                return Ok(None);
            }
            next(given, &before, digest, &rules).map(Some)
        });
        let next = next
            .await
            .map_err(|error| Reply::error(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))?;
        let Some((config, document)) = next? else {
            return Ok(StatusCode::NO_CONTENT.into_response());
        };
        let mut response = StatusCode::ACCEPTED.into_response();
        describe(&mut response, Some(&config));
        let revision = self.store.replace(config, document).await?;
        if !self.plane.applied(revision, PUBLISH_LIMIT).await {
            tracing::warn!(
                "the configuration was accepted but not published within {PUBLISH_LIMIT:?}"
            );
        }
        Ok(response)
    }
}

fn has_prefix(headers: &HeaderMap, name: &HeaderName, prefix: &str) -> bool {
    let value = headers.get(name).and_then(|value| value.to_str().ok());
    value.is_some_and(|value| value.starts_with(prefix))
}

/// Adds the headers that tell one configuration from another.
fn describe(response: &mut Response<Body>, config: Option<&Config>) {
    let Some(config) = config else { return };
    let headers = response.headers_mut();
    headers.insert(LAST_MODIFIED.clone(), config.last_modified.into());
    if let Ok(digest) = HeaderValue::from_bytes(config.digest.as_bytes()) {
        headers.insert(DIGEST.clone(), digest);
    }
}

/// The configuration as clients get it.
fn write(config: &Config, yaml: bool) -> Result<Bytes, Box<dyn std::error::Error + Send + Sync>> {
    let mut out = b"{".to_vec();
    config.write_lists(&mut out);
    for name in collections() {
        let comma = if out.ends_with(b"{") { "" } else { "," };
        let version = number(config.versions.get(name).copied().unwrap_or_default());
        out.extend_from_slice(format!("{comma}\"{name}_conf_version\":{version}").as_bytes());
    }
    if !config.digest.is_empty() || config.last_modified > 0 {
        let digest = Value::from(config.digest.as_str());
        let modified = config.last_modified;
        let text = format!(",\"X-Last-Modified\":{modified},\"X-Digest\":{digest}");
        out.extend_from_slice(text.as_bytes());
    }
    out.push(b'}');
    if !yaml {
        return Ok(out.into());
    }
    let value: Value = serde_json::from_slice(&out)?;
    Ok(serde_saphyr::to_string(&value)?.into())
}

/// A version as Lua writes it: without a fraction where there is none.
fn number(version: f64) -> Number {
    let whole = version.fract() == 0.0 && version.abs() < 9e15;
    let float = if whole { None } else { Number::from_f64(version) };
    float.unwrap_or_else(|| Number::from(version as i64))
}

fn parse(bytes: &[u8], yaml: bool) -> Result<Map<String, Value>, Reply> {
    let value = if yaml {
        let text = std::str::from_utf8(bytes).map_err(|error| body::refused(&error.to_string()))?;
        crate::yaml::parse(text).map_err(|error| body::refused(&error))?
    } else {
        serde_json::from_slice(bytes).map_err(|error| body::refused(&error.to_string()))?
    };
    match value {
        Value::Object(map) => Ok(map),
        // An empty list of a script language may be its empty map as well.
        Value::Array(items) if items.is_empty() => Ok(Map::new()),
        _ if yaml => Err(body::refused("invalid yaml request body")),
        _ => Err(body::refused("expected an object")),
    }
}

/// The configuration that follows `before` when `given` is put.
fn next(
    given: Map<String, Value>,
    before: &Config,
    digest: String,
    rules: &Rules,
) -> Result<(Config, Document), Reply> {
    let checked = check(&given, rules).map_err(Reply::bad)?;
    let last_modified = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let mut config =
        Config { digest, last_modified, versions: Versions::new(), lists: BTreeMap::new() };
    for (name, items, version) in checked {
        let last = before.versions.get(name).copied().unwrap_or_default();
        let version = version.unwrap_or(last + 1.0);
        if version < last {
            let last = number(last);
            return Err(Reply::bad(format!(
                "{name}_conf_version must be greater than or equal to ({last})"
            )));
        }
        config.versions.insert(name, version);
        // The same version: what is given is not looked at.
        let same = (version - last).abs() < f64::EPSILON;
        let list = if same {
            before.lists.get(name).cloned()
        } else {
            (!items.is_empty()).then(|| Value::from(items.to_vec()).to_string().into())
        };
        if let Some(list) = list {
            config.lists.insert(name, list);
        }
    }
    let document = config.document().map_err(|error| Reply::bad(error.to_string()))?;
    Ok((config, document))
}

/// A collection's name, its items, and its version if one is given.
type Given<'g> = (&'static str, &'g [Value], Option<f64>);

/// Checks everything that is given; the error is APISIX's text.
fn check<'g>(given: &'g Map<String, Value>, rules: &Rules) -> Result<Vec<Given<'g>>, String> {
    let mut checked = Vec::new();
    for name in collections() {
        let key = format!("{name}_conf_version");
        let version = match given.get(&key) {
            None | Some(Value::Null) => None,
            Some(value) => Some(value.as_f64().ok_or_else(|| format!("{key} must be a number"))?),
        };
        let items: &[Value] = match given.get(name) {
            None | Some(Value::Null) => &[],
            Some(Value::Array(items)) => items,
            Some(Value::Object(map)) if map.is_empty() => &[],
            Some(_) => return Err(format!("{name} must be a list")),
        };
        if name != Kind::Plugins.collection() {
            check_items(name, items, rules)?;
        }
        checked.push((name, items, version));
    }
    Ok(checked)
}

fn check_items(name: &'static str, items: &[Value], rules: &Rules) -> Result<(), String> {
    let mut ids = HashSet::with_capacity(items.len());
    for (position, item) in items.iter().enumerate() {
        let (key, mut value) = read_item(name, position, item)?;
        rules.check(key.kind, &mut value)?;
        let (what, id) = match (item.get("id"), item.get("username")) {
            (Some(id), _) if name == "consumers" => ("credential id", Some(id)),
            (None, username) if name == "consumers" => ("username", username),
            (id, _) => ("id", id),
        };
        let Some(id) = id.filter(|id| !id.is_null()) else { continue };
        let id = id.as_str().map_or_else(|| id.to_string(), str::to_owned);
        if let Some(id) = ids.replace(id) {
            return Err(format!("found duplicate {what} {id} in {name}"));
        }
    }
    Ok(())
}

#[cfg(test)]
#[path = "configs_tests.rs"]
mod tests;
