//! `deployment`: where resources come from.

use std::path::{Path, PathBuf};

use osmia_core::settings::{ConfigProvider, FileFormat, Seed};

use super::KeyError;
use super::read::Key;

/// Name of the standalone file when none is set.
const STANDALONE_FILE: &str = "apisix.yaml";

/// The provider that the file at `file` asks for: `yaml` by role, or the built-in configuration
/// when it names none.
pub(super) fn provider(root: &Key<'_>, file: &Path) -> Result<ConfigProvider, KeyError> {
    let deployment = root.get("deployment")?;
    let standalone = root.get("osmia")?.get("standalone_file")?;
    let role = deployment.get("role")?;
    let provider = match role.string("traditional")?.as_str() {
        "traditional" => deployment.get("role_traditional")?.get("config_provider")?,
        "data_plane" => deployment.get("role_data_plane")?.get("config_provider")?,
        "control_plane" => return Err(role.unsupported("control_plane")),
        _ => return Err(role.wrong("one of traditional, data_plane, control_plane")),
    };
    let etcd = deployment.get("etcd")?;
    match provider.value().map(|value| value.as_str().unwrap_or_default()) {
        Some("yaml") => yaml(&standalone, file),
        Some(name @ ("etcd" | "json" | "xds")) => Err(provider.unsupported(name)),
        Some(_) => Err(provider.wrong("one of yaml, etcd, json, xds")),
        // Without a provider these two mean etcd to APISIX.
        None if role.value().is_some_and(|role| role == "data_plane") => {
            Err(provider.unsupported("etcd, the default for a data plane,"))
        }
        None if etcd.value().is_some() => Err(etcd.unsupported("etcd")),
        None if standalone.value().is_some() => yaml(&standalone, file),
        None => Ok(ConfigProvider::Embedded { seed: Seed::Demo }),
    }
}

fn yaml(standalone: &Key<'_>, file: &Path) -> Result<ConfigProvider, KeyError> {
    let name: PathBuf = standalone.path_value(STANDALONE_FILE)?;
    let directory = file.parent().unwrap_or(Path::new(""));
    Ok(ConfigProvider::File { path: directory.join(name), format: FileFormat::Yaml })
}
