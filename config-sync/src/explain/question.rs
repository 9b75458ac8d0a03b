//! The request that is asked about.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use axum::http::Uri;
use serde::Deserialize;
use serde_json::{Map, Value};

/// A request, described.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Question {
    /// `http://host[:port]/path?query`, or only the path when there is a `Host` among the headers.
    url: String,
    #[serde(default = "get")]
    method: String,
    /// Values by name; several values of one name as a list.
    #[serde(default)]
    headers: Map<String, Value>,
    /// Address of the client.
    #[serde(default = "localhost")]
    pub(super) client: IpAddr,
    /// The body, for routes that look into it.
    #[serde(default)]
    body: Option<String>,
}

fn get() -> String {
    "GET".to_owned()
}

fn localhost() -> IpAddr {
    Ipv4Addr::LOCALHOST.into()
}

impl Question {
    /// The request as a client would send it. An error names the field.
    pub(super) fn bytes(&self) -> Result<Vec<u8>, String> {
        let url = self.uri()?;
        let target = url.path_and_query().map_or("/", |path| path.as_str());
        let mut text = format!("{} {target} HTTP/1.1\r\n", token("method", &self.method)?);
        let has = |name: &str| self.headers.keys().any(|header| header.eq_ignore_ascii_case(name));
        if !has("host") {
            let host = url.authority().ok_or("url: neither a host in it nor a Host header")?;
            let _ = write!(text, "Host: {host}\r\n");
        }
        for (name, value) in &self.headers {
            let name = token("headers", name)?;
            let values = match value {
                Value::Array(values) => values.as_slice(),
                single => std::slice::from_ref(single),
            };
            for value in values {
                let line = match value {
                    Value::String(line) => line.clone(),
                    Value::Number(number) => number.to_string(),
                    _ => return Err(format!("headers: {name}: expected a string")),
                };
                if line.contains(['\r', '\n', '\0']) {
                    return Err(format!("headers: {name}: a line break in the value"));
                }
                let _ = write!(text, "{name}: {line}\r\n");
            }
        }
        let body = self.body.as_deref().unwrap_or_default();
        if !body.is_empty() && !has("content-length") && !has("transfer-encoding") {
            let _ = write!(text, "Content-Length: {}\r\n", body.len());
        }
        Ok((text + "\r\n" + body).into_bytes())
    }

    /// The address that would have accepted it.
    pub(super) fn listener(&self) -> SocketAddr {
        let port = self.uri().ok().and_then(|uri| uri.port_u16()).unwrap_or(80);
        (Ipv4Addr::LOCALHOST, port).into()
    }

    fn uri(&self) -> Result<Uri, String> {
        self.url.parse().map_err(|error| format!("url: {error}"))
    }
}

/// Text that cannot end the line or the field it is in.
fn token<'t>(field: &str, text: &'t str) -> Result<&'t str, String> {
    let is_bad = |byte: u8| byte <= b' ' || byte == b':' || byte >= 0x7f;
    if text.is_empty() || text.bytes().any(is_bad) {
        return Err(format!("{field}: {text:?} is not a token"));
    }
    Ok(text)
}
