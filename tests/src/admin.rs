//! A client of the Admin, Control and status API.

use std::fmt::Write as _;
use std::net::{SocketAddr, TcpStream};

use serde_json::Value;

use crate::client::Client;
use crate::wire::Message;

/// The admin key of gateways that [`crate::Config::plane`] sets up.
pub const KEY: &str = "key-of-the-tests";

/// Collections that the Admin API lists.
pub const LISTS: [&str; 11] = [
    "routes",
    "services",
    "upstreams",
    "consumers",
    "consumer_groups",
    "global_rules",
    "plugin_configs",
    "plugin_metadata",
    "protos",
    "ssls",
    "secrets",
];

/// One of a gateway's APIs.
#[derive(Debug, Clone, Copy)]
pub struct Api {
    /// Where it listens.
    pub addr: SocketAddr,
}

impl Api {
    /// The response to a request with the admin key, on a connection of its own.
    #[track_caller]
    pub fn call(self, method: &str, path: &str, body: &str) -> Message {
        let length = body.len();
        Client::connect(self.addr).exchange(format!(
            "{method} {path} HTTP/1.1\r\nHost: api.test\r\nX-API-KEY: {KEY}\r\n\
             Content-Length: {length}\r\n\r\n{body}"
        ))
    }

    /// The response to a request with these headers, of which none is the key, unless given.
    #[track_caller]
    pub fn send(self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Message {
        let mut head = format!("{method} {path} HTTP/1.1\r\nHost: api.test\r\n");
        for (name, value) in headers {
            write!(head, "{name}: {value}\r\n").unwrap();
        }
        write!(head, "Content-Length: {}\r\n\r\n", body.len()).unwrap();
        Client::connect(self.addr).exchange([head.as_bytes(), body].concat())
    }

    /// Everything that is stored, with the indexes of each resource: what must be the same before
    /// and after something that is refused.
    #[track_caller]
    pub fn everything(self) -> Value {
        let export = self.json("/apisix/admin/export");
        let lists = LISTS.map(|name| (name, self.json(&format!("/apisix/admin/{name}"))));
        let lists: serde_json::Map<String, Value> =
            lists.into_iter().map(|(name, list)| (name.to_owned(), list)).collect();
        serde_json::json!({"export": export, "lists": lists})
    }

    /// Writes a resource below `/apisix/admin`, which must succeed.
    #[track_caller]
    pub fn put(self, path: &str, value: &Value) {
        let response = self.call("PUT", &format!("/apisix/admin/{path}"), &value.to_string());
        assert!([200, 201].contains(&response.status()), "{}", response.text());
    }

    /// Deletes a resource below `/apisix/admin`, which must succeed.
    #[track_caller]
    pub fn delete(self, path: &str) {
        let response = self.call("DELETE", &format!("/apisix/admin/{path}"), "");
        assert_eq!(response.status(), 200, "{}", response.text());
    }

    /// The JSON at `path`, which must be there.
    #[track_caller]
    pub fn json(self, path: &str) -> Value {
        let response = self.call("GET", path, "");
        assert_eq!(response.status(), 200, "{}", response.text());
        serde_json::from_str(&response.text()).unwrap()
    }

    /// The status of the response at `path`; `None` while nobody listens.
    pub fn status(self, path: &str) -> Option<u16> {
        TcpStream::connect(self.addr).ok()?;
        Some(self.call("GET", path, "").status())
    }
}
