//! `deployment.etcd`.

use std::path::PathBuf;
use std::time::Duration;

use osmia_core::settings::EtcdSettings;
use serde_json::Value;

use super::read::Key;
use super::{KeyError, KeyProblem, Origin};

/// Overrides `deployment.etcd.host` with a JSON list, as in APISIX.
const ENV_HOSTS: &str = "APISIX_DEPLOYMENT_ETCD_HOST";
/// APISIX's default endpoint.
const HOST: &str = "http://127.0.0.1:2379";
/// Longest time for one request: a day.
const SECONDS_MAX: u64 = 86_400;

/// Whether the environment names endpoints, which asks for etcd as the key itself does.
pub(super) fn hosts_in_env(origin: &Origin<'_>) -> bool {
    (origin.env)(ENV_HOSTS).is_some()
}

pub(super) fn settings(root: &Key<'_>, origin: &Origin<'_>) -> Result<EtcdSettings, KeyError> {
    let etcd = root.get("deployment")?.get("etcd")?;
    let tls = etcd.get("tls")?;
    Ok(EtcdSettings {
        endpoints: endpoints(&etcd.get("host")?, origin)?,
        prefix: prefix(&etcd.get("prefix")?)?,
        credentials: credentials(&etcd)?,
        timeout: Duration::from_secs(etcd.get("timeout")?.integer_or(30, 1..=SECONDS_MAX)?),
        client_certificate: tls.pair("cert", "key")?,
        verify: tls.get("verify")?.boolean(true)?,
        server_name: tls.get("sni")?.text()?,
        trusted: trusted(root)?,
        accept_empty: root.get("osmia")?.get("etcd")?.get("accept_empty")?.boolean(false)?,
    })
}

/// `apisix.ssl.ssl_trusted_certificate`; `None`: the system's authorities.
pub(super) fn trusted(root: &Key<'_>) -> Result<Option<PathBuf>, KeyError> {
    let key = root.get("apisix")?.get("ssl")?.get("ssl_trusted_certificate")?;
    match key.value() {
        Some(value) if value == "system" => Ok(None),
        Some(_) => key.path_value("").map(Some),
        None => Ok(None),
    }
}

fn endpoints(key: &Key<'_>, origin: &Origin<'_>) -> Result<Vec<String>, KeyError> {
    if let Some(text) = (origin.env)(ENV_HOSTS) {
        let path = format!("environment variable {ENV_HOSTS}");
        let hosts: Value = serde_json::from_str(&text).map_err(|error| {
            let text = format!("expected a JSON list such as [\"{HOST}\"]: {error}");
            (path.clone(), KeyProblem::Rule(text))
        })?;
        return urls(&Key::named(path, &hosts));
    }
    if key.value().is_none() { Ok(vec![HOST.to_owned()]) } else { urls(key) }
}

fn urls(key: &Key<'_>) -> Result<Vec<String>, KeyError> {
    let expected = "a URL that begins with http:// or https://";
    let url = |item: Key<'_>| {
        let url = item.value().and_then(Value::as_str).unwrap_or_default();
        let host = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
        let named = host.is_some_and(|host| !host.trim_matches('/').is_empty());
        if named { Ok(url.trim_end_matches('/').to_owned()) } else { Err(item.wrong(expected)) }
    };
    let urls: Vec<String> = key.items()?.map(url).collect::<Result<_, _>>()?;
    if urls.is_empty() { Err(key.wrong("a list with at least one URL")) } else { Ok(urls) }
}

/// The prefix without slashes at its end, which would otherwise stand twice in every key.
fn prefix(key: &Key<'_>) -> Result<String, KeyError> {
    let text = key.string("/apisix")?;
    let prefix = text.trim_end_matches('/');
    if prefix.is_empty() {
        Err(key.wrong("a prefix such as /apisix"))
    } else {
        Ok(prefix.to_owned())
    }
}

fn credentials(etcd: &Key<'_>) -> Result<Option<(String, String)>, KeyError> {
    let (user, password) = (etcd.get("user")?, etcd.get("password")?);
    match (user.text()?, password.text()?) {
        (Some(name), Some(word)) => Ok(Some((name, word))),
        (None, None) => Ok(None),
        (Some(_), None) => Err(password.missing("deployment.etcd.user")),
        (None, Some(_)) => Err(user.missing("deployment.etcd.password")),
    }
}
