//! Who may use the Admin API: networks, keys with roles, and CORS.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::Router;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::IntoResponse;
use ipnet::IpNet;
use osmia_core::settings::{AdminRole, AdminSettings};
use serde_json::json;

use super::keys::Keys;
use super::query::Query;
use super::reply::Reply;
use super::target::ROOT;
use crate::store::Author;

/// The server that clients are told. Tools of APISIX's ecosystem read the version from it to decide
/// which Admin API they speak to; this is the one that is implemented here.
const SERVER: &str = "APISIX/3.18.0";

/// What is decided for each request.
#[derive(Debug)]
struct Gate {
    keys: Keys,
    key_required: bool,
    /// Empty: all may.
    networks: Vec<IpNet>,
    restricted: bool,
    cors: bool,
}

/// Puts the routes behind the access control of the Admin API: `allow_admin`, keys with roles,
/// CORS. Handlers find the [`Author`] of what they do among the request's extensions.
pub fn guarded(routes: Router, settings: &AdminSettings, keys: Keys) -> Router {
    let gate = Gate {
        keys,
        key_required: settings.key_required,
        networks: networks(&settings.allow),
        restricted: !settings.allow.is_empty(),
        cors: settings.cors,
    };
    if !gate.key_required {
        tracing::warn!(
            "the Admin API takes requests without a key (deployment.admin.admin_key_required is \
             false)"
        );
    }
    routes.layer(middleware::from_fn_with_state(Arc::new(gate), pass))
}

fn networks(allow: &[String]) -> Vec<IpNet> {
    let network = |text: &String| match parse_network(text) {
        Some(network) => Some(network),
        None => {
            tracing::error!(
                "deployment.admin.allow_admin: {text:?} is neither an address nor a network in \
                 CIDR form and lets nobody in"
            );
            None
        }
    };
    allow.iter().filter_map(network).collect()
}

/// A network, whatever its host bits, or an address.
fn parse_network(text: &str) -> Option<IpNet> {
    let text = text.trim();
    text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
}

async fn pass(
    State(gate): State<Arc<Gate>>,
    mut request: Request,
    next: Next,
) -> impl IntoResponse {
    let address = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|info| info.0.ip());
    let mut response = match gate.admit(&request, address) {
        Ok(author) => {
            request.extensions_mut().insert(author);
            next.run(request).await
        }
        Err(refusal) => *refusal,
    };
    gate.finish(response.headers_mut());
    response
}

impl Gate {
    /// Who makes the request, or what is answered instead of it.
    fn admit(
        &self,
        request: &Request,
        address: Option<IpAddr>,
    ) -> Result<Author, Box<axum::response::Response>> {
        let refuse = |reply: Reply| Err(Box::new(reply.into_response()));
        let address = address.map(|address| address.to_canonical());
        if self.restricted
            && !address.is_some_and(|address| self.networks.iter().any(|n| n.contains(&address)))
        {
            let message = "the client's address is not in deployment.admin.allow_admin";
            return refuse(Reply::error(StatusCode::FORBIDDEN, message));
        }
        let method = request.method();
        if self.cors && method == Method::OPTIONS {
            return Err(Box::new(preflight()));
        }
        let from = address.map(|address| address.to_string()).unwrap_or_default();
        let path = request.uri().path();
        if *method == Method::HEAD && path.trim_end_matches('/') == ROOT {
            return Ok(Author { name: String::new(), address: from });
        }
        match self.key(request) {
            Ok(name) => Ok(Author { name, address: from }),
            Err(reason) => {
                tracing::warn!("Admin API: {method} {path} from {from} refused: {reason}");
                let body = json!({ "error_msg": "failed to check token", "description": reason });
                refuse(Reply::json(StatusCode::UNAUTHORIZED, &body))
            }
        }
    }

    /// The name of the key, or why the request is refused.
    fn key(&self, request: &Request) -> Result<String, &'static str> {
        if !self.key_required {
            return Ok("no key required".to_owned());
        }
        let argument = Query::parse(request.uri().query()).get("api_key").map(str::to_owned);
        let given = argument
            .or_else(|| header_text(request.headers(), "x-api-key"))
            // nginx's variables do not tell the two apart, and clients have come to use it.
            .or_else(|| header_text(request.headers(), "x_api_key"))
            .or_else(|| cookie(request.headers(), "x_api_key"))
            .ok_or("missing apikey")?;
        let (name, role) = self.keys.find(&given).ok_or("wrong apikey")?;
        if role == AdminRole::Viewer && *request.method() != Method::GET {
            return Err("invalid method for role viewer");
        }
        Ok(name.to_owned())
    }

    /// Headers of every answer.
    fn finish(&self, headers: &mut HeaderMap) {
        headers.insert(header::SERVER, HeaderValue::from_static(SERVER));
        headers.insert("x-api-version", HeaderValue::from_static("v3"));
        if self.cors {
            set(headers, &CORS);
        }
    }
}

const CORS: [(&str, &str); 4] = [
    ("access-control-allow-origin", "*"),
    ("access-control-allow-credentials", "true"),
    ("access-control-expose-headers", "*"),
    ("access-control-max-age", "3600"),
];

fn set(headers: &mut HeaderMap, values: &[(&'static str, &'static str)]) {
    for (name, value) in values {
        headers.insert(*name, HeaderValue::from_static(value));
    }
}

/// The answer to a browser's question before it sends a request.
fn preflight() -> axum::response::Response {
    let mut response = Response::new(axum::body::Body::empty());
    set(
        response.headers_mut(),
        &[
            ("access-control-allow-methods", "POST, GET, PUT, OPTIONS, DELETE, PATCH"),
            ("access-control-allow-headers", "*"),
            ("content-type", "text/plain"),
        ],
    );
    response
}

fn header_text(headers: &HeaderMap, name: &str) -> Option<String> {
    Some(String::from_utf8_lossy(headers.get(name)?.as_bytes()).into_owned())
}

fn cookie(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get_all(header::COOKIE).iter().find_map(|line| {
        let mut pairs = line.to_str().ok()?.split(';').filter_map(|pair| pair.split_once('='));
        pairs.find(|(own, _)| own.trim() == name).map(|(_, value)| value.trim().to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_are_addresses_or_cidr() {
        let inside = |network: &str, address: &str| {
            parse_network(network).is_some_and(|n| n.contains(&address.parse::<IpAddr>().unwrap()))
        };
        assert!(inside("127.0.0.0/24", "127.0.0.1"));
        assert!(inside("127.0.0.77/24", "127.0.0.1"));
        assert!(inside("10.0.0.1", "10.0.0.1"));
        assert!(inside("::/64", "::1"));
        assert!(inside("0.0.0.0/0", "8.8.8.8"));
        assert!(!inside("127.0.0.0/24", "127.0.1.1"));
        assert!(!inside("127.0.0.0/24", "::1"));
        assert!(parse_network("localhost").is_none());
    }

    #[test]
    fn a_cookie_is_found_among_others() {
        let mut headers = HeaderMap::new();
        headers.insert(header::COOKIE, HeaderValue::from_static("a=b; x_api_key=secret ;c=d"));
        assert_eq!(cookie(&headers, "x_api_key").as_deref(), Some("secret"));
        assert_eq!(cookie(&headers, "api_key"), None);
    }
}
