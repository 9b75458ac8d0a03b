//! `apisix.ssl` without its listeners: TLS with clients.

use osmia_core::settings::{TlsSettings, TlsVersion};
use osmia_core::tls;
use serde_json::Value;
use tokio_rustls::rustls::CipherSuite;

use super::read::Key;
use super::{KeyError, KeyProblem};

/// Most sessions that can be asked to be kept: a session takes up to some kilobytes.
const SESSIONS_MAX: u64 = 10_000_000;

/// The versions of OpenSSL; `None`: not spoken here.
const PROTOCOLS: [(&str, Option<TlsVersion>); 6] = [
    ("SSLv2", None),
    ("SSLv3", None),
    ("TLSv1", None),
    ("TLSv1.1", None),
    ("TLSv1.2", Some(TlsVersion::V12)),
    ("TLSv1.3", Some(TlsVersion::V13)),
];

pub(super) fn settings(
    root: &Key<'_>,
    warnings: &mut Vec<String>,
) -> Result<TlsSettings, KeyError> {
    let apisix = root.get("apisix")?;
    let ssl = apisix.get("ssl")?;
    let default = TlsSettings::default();
    let protocols = protocols(&ssl.get("ssl_protocols")?, default.protocols, warnings)?;
    let speaks_12 = protocols.contains(&TlsVersion::V12);
    let sessions = root.get("osmia")?.get("ssl_session_cache")?;
    Ok(TlsSettings {
        fallback_sni: ssl
            .get("fallback_sni")?
            .text()?
            .map(|name| name.strip_suffix('.').unwrap_or(&name).to_ascii_lowercase().into()),
        ciphers: ciphers(&ssl.get("ssl_ciphers")?, default.ciphers, speaks_12, warnings)?,
        protocols,
        session_tickets: ssl.get("ssl_session_tickets")?.boolean(false)?,
        session_cache: sessions.integer_or(TlsSettings::SESSION_CACHE as u64, 0..=SESSIONS_MAX)?
            as usize,
        http2: apisix.get("enable_http2")?.boolean(true)?,
    })
}

/// A list as in nginx, separated by spaces, or one in YAML.
fn words(key: &Key<'_>) -> Result<Vec<String>, KeyError> {
    match key.value() {
        Some(Value::Array(_)) => key.items()?.map(|item| item.string("")).collect(),
        _ => Ok(key.string("")?.split_ascii_whitespace().map(str::to_owned).collect()),
    }
}

fn protocols(
    key: &Key<'_>,
    default: Vec<TlsVersion>,
    warnings: &mut Vec<String>,
) -> Result<Vec<TlsVersion>, KeyError> {
    let names = words(key)?;
    if names.is_empty() {
        return Ok(default);
    }
    let (mut spoken, mut others) = (Vec::new(), Vec::new());
    for name in names {
        match PROTOCOLS.iter().find(|(known, _)| *known == name) {
            None => return Err(key.wrong("versions such as TLSv1.2 TLSv1.3")),
            Some((_, None)) => others.push(name),
            Some((_, Some(version))) if !spoken.contains(version) => spoken.push(*version),
            Some(_) => {}
        }
    }
    let others = others.join(", ");
    if spoken.is_empty() {
        let text = format!("{others} is not spoken by this gateway: add TLSv1.2 or TLSv1.3");
        return Err((key.path().to_owned(), KeyProblem::Rule(text)));
    }
    if !others.is_empty() {
        warnings.push(format!("{}: {others} not spoken, versions are 1.2 and 1.3", key.path()));
    }
    Ok(spoken)
}

fn ciphers(
    key: &Key<'_>,
    default: Vec<CipherSuite>,
    needed: bool,
    warnings: &mut Vec<String>,
) -> Result<Vec<CipherSuite>, KeyError> {
    let list = words(key)?.join(":");
    if list.is_empty() {
        return Ok(default);
    }
    let tls::Ciphers { suites, unknown } = tls::select_ciphers(&list);
    if suites.is_empty() && needed {
        let text = "has no cipher suite of TLSv1.2 that is supported: add \
                    ECDHE-ECDSA-AES128-GCM-SHA256 and ECDHE-RSA-AES128-GCM-SHA256, or leave it out";
        return Err((key.path().to_owned(), KeyProblem::Rule(text.to_owned())));
    }
    if !unknown.is_empty() {
        let unknown = unknown.join(", ");
        warnings.push(format!("{}: not supported, left out: {unknown}", key.path()));
    }
    Ok(suites)
}
