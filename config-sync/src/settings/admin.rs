//! `deployment.admin`, and the other addresses that operators talk to.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use osmia_core::settings::{AdminKey, AdminRole, AdminSettings, AdminTls, ListenAddr, Listener};
use serde_json::Value;

use super::listen::{self, PORT_MAX};
use super::provider::Role;
use super::read::Key;
use super::{KeyError, KeyProblem};

/// APISIX's limit on a request body.
const BODY_BYTES: usize = 3 * 512 * 1024;
/// Who may use the Admin API when nothing is said, as in APISIX.
const ALLOWED: &str = "127.0.0.0/24";

const ROLES: [(&str, AdminRole); 2] = [("admin", AdminRole::Admin), ("viewer", AdminRole::Viewer)];

/// The Admin API: always on a control plane, never on a data plane, else `apisix.enable_admin`.
pub(super) fn settings(
    root: &Key<'_>,
    role: Role,
    warnings: &mut Vec<String>,
) -> Result<Option<AdminSettings>, KeyError> {
    let enabled = root.get("apisix")?.get("enable_admin")?.boolean(true)?;
    if role == Role::DataPlane || (role == Role::Traditional && !enabled) {
        return Ok(None);
    }
    let admin = root.get("deployment")?.get("admin")?;
    let version = admin.get("admin_api_version")?;
    if version.string("v3")? != "v3" {
        return Err(version.wrong("v3, the only version there is"));
    }
    let key_required = admin.get("admin_key_required")?;
    let settings = AdminSettings {
        listen: address(&admin.get("admin_listen")?, ([0, 0, 0, 0], 9180).into())?,
        keys: admin
            .get("admin_key")?
            .items()?
            .map(|key| admin_key(&key))
            .collect::<Result<_, _>>()?,
        key_required: key_required.boolean(true)?,
        allow: allow(&admin.get("allow_admin")?, warnings)?,
        cors: admin.get("enable_admin_cors")?.boolean(true)?,
        https: https(&admin)?,
        body_bytes: BODY_BYTES,
    };
    if !settings.key_required {
        warnings.push(format!(
            "{}: whoever reaches the Admin API may change everything",
            key_required.path()
        ));
    }
    Ok(Some(settings))
}

/// One key. Without a secret of its own one is generated; a number is read as its digits.
fn admin_key(key: &Key<'_>) -> Result<AdminKey, KeyError> {
    if !matches!(key.value(), Some(Value::Object(_))) {
        return Err(key.wrong("a map with name, key and role"));
    }
    let secret = key.get("key")?;
    let role = key.get("role")?;
    if role.value().is_none() {
        return Err(role.wrong("one of admin, viewer"));
    }
    let role_name = role.string("")?;
    Ok(AdminKey {
        name: key.get("name")?.text()?.unwrap_or(role_name),
        key: match secret.value() {
            None => None,
            Some(Value::String(text)) => Some(text.clone()).filter(|text| !text.is_empty()),
            Some(Value::Number(number)) => Some(number.to_string()),
            // Not with its value: a secret does not belong into a message.
            Some(_) => {
                let text = "expected a string".to_owned();
                return Err((secret.path().to_owned(), KeyProblem::Rule(text)));
            }
        },
        role: role.choice(&ROLES, AdminRole::Viewer)?,
    })
}

/// The networks, in CIDR form. As in APISIX the key's default is the local machine, while `null`
/// and an empty list mean everybody.
fn allow(key: &Key<'_>, warnings: &mut Vec<String>) -> Result<Vec<String>, KeyError> {
    if key.value().is_none() && !key.is_null() {
        return Ok(vec![ALLOWED.to_owned()]);
    }
    let network = |item: Key<'_>| {
        let text = item.value().and_then(Value::as_str).unwrap_or_default();
        let network = text.parse().or_else(|_| text.parse().map(|ip: IpAddr| IpNet::from(ip)));
        network
            .map(|network: IpNet| network.trunc().to_string())
            .map_err(|_| item.wrong("an IP address or a network such as 10.0.0.0/8"))
    };
    let networks: Vec<String> = key.items()?.map(network).collect::<Result<_, _>>()?;
    if networks.is_empty() {
        let line = "empty, which allows every address; leave the key out for this machine only";
        warnings.push(format!("{}: {line}", key.path()));
    }
    Ok(networks)
}

fn https(admin: &Key<'_>) -> Result<Option<AdminTls>, KeyError> {
    let https = admin.get("https_admin")?;
    if !https.boolean(false)? {
        return Ok(None);
    }
    let mtls = admin.get("admin_api_mtls")?;
    let Some(certificate) = mtls.pair("admin_ssl_cert", "admin_ssl_cert_key")? else {
        return Err(mtls.get("admin_ssl_cert")?.missing(https.path()));
    };
    let client_authority = mtls.get("admin_ssl_ca_cert")?.file()?;
    Ok(Some(AdminTls { certificate, client_authority }))
}

/// `apisix.control`, unless `apisix.enable_control` is off.
pub(super) fn control(apisix: &Key<'_>) -> Result<Option<SocketAddr>, KeyError> {
    let enabled = apisix.get("enable_control")?.boolean(true)?;
    let control = address(&apisix.get("control")?, ([127, 0, 0, 1], 9090).into())?;
    Ok(enabled.then_some(control))
}

/// `apisix.status`; `false` turns it off.
pub(super) fn status(apisix: &Key<'_>) -> Result<Option<SocketAddr>, KeyError> {
    let status = apisix.get("status")?;
    if status.value() == Some(&Value::Bool(false)) {
        return Ok(None);
    }
    address(&status, ([127, 0, 0, 1], 7085).into()).map(Some)
}

/// `{ip, port}`, each with its default.
fn address(key: &Key<'_>, default: SocketAddr) -> Result<SocketAddr, KeyError> {
    let ip = listen::ip(&key.get("ip")?)?.unwrap_or(default.ip());
    let port = key.get("port")?.integer_or(u64::from(default.port()), 1..=PORT_MAX)?;
    Ok(SocketAddr::new(ip, port as u16))
}

/// Refuses two servers on one address, which otherwise only one of them would get.
pub(super) fn no_conflicts(
    listeners: &[Listener],
    servers: &[(&str, Option<SocketAddr>)],
) -> Result<(), KeyError> {
    let traffic = |listener: &Listener| match &listener.addr {
        ListenAddr::Tcp(addr) if listener.tls => Some(("apisix.ssl.listen", *addr)),
        ListenAddr::Tcp(addr) => Some(("apisix.node_listen", *addr)),
        ListenAddr::Unix(_) => None,
    };
    let mut taken: Vec<(&str, SocketAddr)> = listeners.iter().filter_map(traffic).collect();
    for (key, addr) in servers {
        let Some(addr) = *addr else { continue };
        if let Some((other, _)) = taken.iter().find(|(_, other)| overlap(*other, addr)) {
            let text = format!("{addr} conflicts with {other}, choose another port");
            return Err(((*key).to_owned(), KeyProblem::Rule(text)));
        }
        taken.push((key, addr));
    }
    Ok(())
}

fn overlap(a: SocketAddr, b: SocketAddr) -> bool {
    let same_family = a.is_ipv4() == b.is_ipv4();
    let same_ip = a.ip() == b.ip() || a.ip().is_unspecified() || b.ip().is_unspecified();
    a.port() == b.port() && same_family && same_ip
}
