//! `deployment`: the role of this process, and where resources come from (APISIX,
//! deployment-modes.md).

use std::path::{Path, PathBuf};

use osmia_core::settings::{ConfigProvider, FileFormat, Seed};

use super::read::Key;
use super::{KeyError, KeyProblem, Origin, etcd};

/// What a process does in a deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// Admin API and traffic.
    Traditional,
    /// Admin API only.
    ControlPlane,
    /// Traffic only.
    DataPlane,
}

const ROLES: [(&str, Role); 3] = [
    ("traditional", Role::Traditional),
    ("data_plane", Role::DataPlane),
    ("control_plane", Role::ControlPlane),
];

/// `config_provider`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Name {
    Etcd,
    Yaml,
    Json,
    Embedded,
    Xds,
}

const NAMES: [(&str, Name); 5] = [
    ("etcd", Name::Etcd),
    ("yaml", Name::Yaml),
    ("json", Name::Json),
    ("embedded", Name::Embedded),
    ("xds", Name::Xds),
];

/// `deployment.role`.
pub(super) fn role(root: &Key<'_>) -> Result<Role, KeyError> {
    root.get("deployment")?.get("role")?.choice(&ROLES, Role::Traditional)
}

/// The provider that the settings ask for.
///
/// When none is named it is etcd if `deployment.etcd` (or the variable that overrides its hosts) is
/// there, a file if `osmia.standalone_file` is, and otherwise the embedded store.
pub(super) fn provider(
    root: &Key<'_>,
    role: Role,
    origin: &Origin<'_>,
) -> Result<ConfigProvider, KeyError> {
    let deployment = root.get("deployment")?;
    let part = match role {
        Role::Traditional => "role_traditional",
        Role::ControlPlane => "role_control_plane",
        Role::DataPlane => "role_data_plane",
    };
    let key = deployment.get(part)?.get("config_provider")?;
    let name = match key.value() {
        Some(_) => key.choice(&NAMES, Name::Embedded)?,
        None => unnamed(root, role, &key, origin)?,
    };
    if role == Role::ControlPlane && name != Name::Etcd {
        let text = "a control plane changes what other processes serve and needs etcd for that; \
                    for one process with its own store use deployment.role: traditional";
        return Err((key.path().to_owned(), KeyProblem::Rule(text.to_owned())));
    }
    match name {
        Name::Etcd => etcd::settings(root, origin).map(ConfigProvider::Etcd),
        Name::Yaml => standalone(root, FileFormat::Yaml, origin.file),
        Name::Json => standalone(root, FileFormat::Json, origin.file),
        Name::Embedded => Ok(ConfigProvider::Embedded { seed: seed(root, origin)? }),
        Name::Xds => Err(key.unsupported("xds")),
    }
}

fn unnamed(
    root: &Key<'_>,
    role: Role,
    key: &Key<'_>,
    origin: &Origin<'_>,
) -> Result<Name, KeyError> {
    if root.get("deployment")?.get("etcd")?.value().is_some() || etcd::hosts_in_env(origin) {
        return Ok(Name::Etcd);
    }
    let standalone = root.get("osmia")?.get("standalone_file")?.value().is_some();
    match role {
        Role::ControlPlane => Ok(Name::Etcd),
        _ if standalone => Ok(Name::Yaml),
        Role::Traditional => Ok(Name::Embedded),
        Role::DataPlane => {
            let text = "a data plane has no Admin API and takes its resources from elsewhere: set \
                        this to etcd, yaml or json";
            Err((key.path().to_owned(), KeyProblem::Rule(text.to_owned())))
        }
    }
}

fn standalone(
    root: &Key<'_>,
    format: FileFormat,
    file: Option<&Path>,
) -> Result<ConfigProvider, KeyError> {
    let default = match format {
        FileFormat::Yaml => "apisix.yaml",
        FileFormat::Json => "apisix.json",
    };
    let name = root.get("osmia")?.get("standalone_file")?.path_value(default)?;
    Ok(ConfigProvider::File { path: beside(file, name), format })
}

fn seed(root: &Key<'_>, origin: &Origin<'_>) -> Result<Seed, KeyError> {
    let key = root.get("osmia")?.get("embedded")?.get("seed")?;
    match (key.value(), origin.file) {
        (Some(_), _) => Ok(Seed::File(beside(origin.file, key.path_value("")?))),
        (None, Some(_)) => Ok(Seed::Empty),
        (None, None) => Ok(Seed::Demo),
    }
}

/// A path that is relative to the directory of `config.yaml`.
fn beside(file: Option<&Path>, name: PathBuf) -> PathBuf {
    match file.and_then(Path::parent) {
        Some(directory) => directory.join(name),
        None => name,
    }
}
