//! The Admin API's client.

use std::fmt;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use serde::Deserialize;
use serde_json::Value;
use ureq::Agent;
use ureq::http::{Request, Response};
use ureq::tls::{Certificate, ClientCert, PemItem, PrivateKey, RootCerts, TlsConfig, parse_pem};

/// Largest answer: an export of many hundred thousand resources.
const ANSWER_MAX: u64 = 1 << 30;
/// For a request as a whole.
const TIMEOUT: Duration = Duration::from_secs(120);

/// A gateway's Admin API.
pub(super) struct Client {
    agent: Agent,
    base: String,
    key: Option<String>,
}

/// An answer that is not a success.
#[derive(Debug)]
pub(super) struct Refused {
    status: u16,
    message: String,
    /// What is wrong with single resources: `routes/1: reason`.
    pub(super) problems: Vec<String>,
}

impl std::error::Error for Refused {}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the Admin API answered {}: {}", self.status, self.message)
    }
}

/// Everything that is stored.
#[derive(Debug, Deserialize)]
pub(super) struct Export {
    pub(super) revision: u64,
    pub(super) items: Vec<ExportItem>,
}

/// One stored resource.
#[derive(Debug, Deserialize)]
pub(super) struct ExportItem {
    /// `routes/1`.
    pub(super) key: String,
    pub(super) value: Value,
}

impl Client {
    pub(super) fn new(
        admin: &str,
        key: Option<String>,
        authority: Option<&Path>,
        identity: Option<(&Path, &Path)>,
    ) -> anyhow::Result<Self> {
        if !admin.starts_with("http://") && !admin.starts_with("https://") {
            bail!("--admin {admin}: expected a URL that begins with http:// or https://");
        }
        let mut tls = TlsConfig::builder();
        if let Some(path) = authority {
            tls = tls.root_certs(RootCerts::Specific(Arc::new(certificates(path)?)));
        }
        if let Some((certificate, key)) = identity {
            let key = PrivateKey::from_pem(&read(key)?)
                .with_context(|| format!("{}: no usable private key", key.display()))?;
            tls =
                tls.client_cert(Some(ClientCert::new_with_certs(&certificates(certificate)?, key)));
        }
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(TIMEOUT))
            // The Admin API is not behind a proxy that is meant for the Internet.
            .proxy(None)
            .tls_config(tls.build())
            .build();
        let base = format!("{}/apisix/admin", admin.trim_end_matches('/'));
        Ok(Self { agent: config.into(), base, key })
    }

    pub(super) fn get(&self, path: &str) -> anyhow::Result<Value> {
        Ok(serde_json::from_str(&self.text("GET", path, String::new())?)?)
    }

    pub(super) fn post(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        Ok(serde_json::from_str(&self.text("POST", path, body.to_string())?)?)
    }

    pub(super) fn export(&self) -> anyhow::Result<Export> {
        let text = self.text("GET", "export", String::new())?;
        serde_json::from_str(&text).context("the Admin API's answer is not what was expected")
    }

    fn text(&self, method: &str, path: &str, body: String) -> anyhow::Result<String> {
        let url = format!("{}/{path}", self.base);
        let mut request = Request::builder().method(method).uri(&url);
        if let Some(key) = &self.key {
            request = request.header("X-API-KEY", key);
        }
        let sent = if method == "GET" {
            self.agent.run(request.body(())?)
        } else {
            let request = request.header("Content-Type", "application/json");
            self.agent.run(request.body(body)?)
        };
        let response = sent.with_context(|| format!("cannot reach the Admin API at {url}"))?;
        read_answer(response)
    }
}

fn read_answer(mut response: Response<ureq::Body>) -> anyhow::Result<String> {
    let status = response.status();
    let body = response.body_mut().with_config().limit(ANSWER_MAX).read_to_string();
    let text = body.context("the Admin API's answer cannot be read")?;
    if status.is_success() {
        return Ok(text);
    }
    Err(refused(status.as_u16(), &text).into())
}

fn refused(status: u16, text: &str) -> Refused {
    let body: Value = serde_json::from_str(text).unwrap_or_default();
    let said = ["description", "error_msg", "message"].map(|name| body[name].as_str());
    let said: Vec<&str> = said.into_iter().flatten().collect();
    let message = if said.is_empty() { text.trim().to_owned() } else { said.join(": ") };
    let problem =
        |item: &Value| Some(format!("{}: {}", item["key"].as_str()?, item["error"].as_str()?));
    let problems = body["errors"].as_array().into_iter().flatten().filter_map(problem).collect();
    Refused { status, message, problems }
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

fn certificates(path: &Path) -> anyhow::Result<Vec<Certificate<'static>>> {
    let text = read(path)?;
    let mut found = Vec::new();
    for item in parse_pem(&text) {
        let item = item.with_context(|| format!("{}: not PEM", path.display()))?;
        if let PemItem::Certificate(certificate) = item {
            found.push(certificate);
        }
    }
    if found.is_empty() {
        bail!("{}: no certificate in it", path.display());
    }
    Ok(found)
}

/// Text as part of a query.
pub(super) fn encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~/".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Read, Write};
    use std::net::TcpListener;

    use serde_json::json;

    use super::*;

    #[test]
    fn refusals_are_told_in_the_servers_words() {
        let text =
            r#"{"error_msg": "2 resources", "errors": [{"key": "routes/1", "error": "no"}]}"#;
        let refusal = refused(400, text);
        assert_eq!(refusal.to_string(), "the Admin API answered 400: 2 resources");
        assert_eq!(refusal.problems, ["routes/1: no"]);
        assert_eq!(
            refused(502, "bad gateway\n").to_string(),
            "the Admin API answered 502: bad gateway"
        );
        let text = r#"{"error_msg": "failed to check token", "description": "wrong apikey"}"#;
        assert!(refused(401, text).to_string().ends_with("wrong apikey: failed to check token"));
    }

    /// A server that answers one request and says what it was.
    fn serve_once(answer: &'static str) -> (String, std::thread::JoinHandle<String>) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let served = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = String::new();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let mut length = 0;
            loop {
                let start = request.len();
                reader.read_line(&mut request).unwrap();
                let line = request[start..].trim_end().to_ascii_lowercase();
                if let Some(value) = line.strip_prefix("content-length: ") {
                    length = value.parse().unwrap();
                }
                if line.is_empty() {
                    break;
                }
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body).unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
            request + &String::from_utf8(body).unwrap()
        });
        (url, served)
    }

    #[test]
    fn requests_have_the_key_and_answers_are_read() {
        let answer = "HTTP/1.1 200 OK\r\nContent-Length: 14\r\n\r\n{\"revision\":7}";
        let (url, served) = serve_once(answer);
        let client = Client::new(&url, Some("sesame".to_owned()), None, None).unwrap();
        let done = client.post("rollback", &json!({"revision": 6})).unwrap();
        assert_eq!(done, json!({"revision": 7}));
        let request = served.join().unwrap();
        assert!(request.starts_with("POST /apisix/admin/rollback HTTP/1.1\r\n"), "{request}");
        assert!(request.to_ascii_lowercase().contains("x-api-key: sesame\r\n"), "{request}");
        assert!(request.ends_with("\r\n\r\n{\"revision\":6}"), "{request}");
    }

    #[test]
    fn a_refusal_is_an_error() {
        let answer =
            "HTTP/1.1 409 Conflict\r\nContent-Length: 22\r\n\r\n{\"error_msg\":\"busy!!\"}";
        let (url, served) = serve_once(answer);
        let client = Client::new(&url, None, None, None).unwrap();
        let error = client.get("history").unwrap_err();
        assert_eq!(error.to_string(), "the Admin API answered 409: busy!!");
        assert!(error.downcast_ref::<Refused>().is_some());
        assert!(!served.join().unwrap().to_ascii_lowercase().contains("x-api-key"));
    }

    #[test]
    fn queries_are_encoded() {
        assert_eq!(encoded("routes/a b&c"), "routes/a%20b%26c");
    }

    #[test]
    fn a_server_needs_a_scheme() {
        assert!(Client::new("127.0.0.1:9180", None, None, None).is_err());
    }
}
