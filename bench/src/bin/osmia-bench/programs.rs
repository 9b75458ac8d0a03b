//! Where the programs are, and what to do when one is missing.

use std::collections::BTreeMap;
use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::contender::Contender;

/// Directories that hold servers and are often not in a user's PATH.
const SYSTEM_DIRECTORIES: [&str; 2] = ["/usr/sbin", "/usr/local/sbin"];

/// This crate's directory; what is built on demand goes below it or into `target/`.
const CRATE: &str = env!("CARGO_MANIFEST_DIR");

/// The programs that were found.
#[derive(Debug, Clone, Default)]
pub(crate) struct Programs {
    contenders: BTreeMap<Contender, PathBuf>,
    upstream: Option<PathBuf>,
    grpc_upstream: Option<PathBuf>,
    wrk: Option<PathBuf>,
    h2load: Option<PathBuf>,
    openssl: Option<PathBuf>,
}

impl Programs {
    /// Looks for all programs. `osmia` and `baseline` override where Osmia is taken from.
    pub(crate) fn find(osmia: Option<&Path>, baseline: Option<&Path>) -> Self {
        let osmia = osmia.map_or_else(|| sibling("osmia"), |path| Some(path.to_owned()));
        let found = [
            (Contender::Osmia, osmia.clone()),
            (Contender::OsmiaLog, osmia.clone()),
            (Contender::OsmiaEpoll, osmia.clone()),
            (Contender::OsmiaRules, osmia),
            (Contender::OsmiaBase, baseline.map(Path::to_owned)),
            (Contender::Nginx, in_path("nginx")),
            (Contender::Haproxy, in_path("haproxy")),
            (Contender::Envoy, in_path("envoy").or_else(envoy_in_venv)),
            (Contender::Pingora, existing(pingora_binary())),
            (Contender::Relay, sibling("osmia-relay")),
        ];
        let contenders = found
            .into_iter()
            .filter_map(|(contender, path)| Some((contender, existing(path?)?)))
            .collect();
        Self {
            contenders,
            upstream: sibling("osmia-demo-upstream"),
            grpc_upstream: sibling("osmia-grpc-upstream"),
            wrk: in_path("wrk"),
            h2load: in_path("h2load"),
            openssl: in_path("openssl"),
        }
    }

    /// Every contender is `name`: for tests of what is made of it.
    #[cfg(test)]
    pub(crate) fn all_named(name: &str) -> Self {
        use clap::ValueEnum;
        let contenders =
            Contender::value_variants().iter().map(|&c| (c, PathBuf::from(name))).collect();
        Self { contenders, ..Self::default() }
    }

    /// The program of `contender`.
    pub(crate) fn path(&self, contender: Contender) -> Option<&Path> {
        self.contenders.get(&contender).map(PathBuf::as_path)
    }

    /// The program of `contender`; how to get it when it is missing.
    pub(crate) fn need(&self, contender: Contender) -> Result<&Path> {
        let missing = || format!("no {}: {}", contender.name(), advice(contender));
        self.path(contender).with_context(missing)
    }

    /// The demo upstream, built beside the harness.
    pub(crate) fn upstream(&self) -> Result<&Path> {
        self.upstream.as_deref().context(
            "osmia-demo-upstream is not beside osmia-bench: build it with \
             `cargo build --release -p osmia-bench`",
        )
    }

    /// The upstream for gRPC, built beside the harness.
    pub(crate) fn grpc_upstream(&self) -> Result<&Path> {
        self.grpc_upstream.as_deref().context(
            "osmia-grpc-upstream is not beside osmia-bench: build it with \
             `cargo build --release -p osmia-bench`",
        )
    }

    /// The load generator for HTTP/2.
    pub(crate) fn h2load(&self) -> Result<&Path> {
        let advice = "h2load is not installed: `apt-get install nghttp2-client`";
        self.h2load.as_deref().context(advice)
    }

    /// The command line of OpenSSL.
    pub(crate) fn openssl(&self) -> Result<&Path> {
        self.openssl.as_deref().context("openssl is not installed: `apt-get install openssl`")
    }

    /// The load generator.
    pub(crate) fn wrk(&self) -> Result<&Path> {
        self.wrk.as_deref().context("wrk is not installed: `apt-get install wrk`")
    }

    /// What each found program says its version is.
    pub(crate) fn versions(&self) -> BTreeMap<&'static str, String> {
        let mut versions: BTreeMap<_, _> = self
            .contenders
            .iter()
            .map(|(&contender, path)| (contender.name(), version(contender, path)))
            .collect();
        if let Some(wrk) = &self.wrk {
            versions.insert("wrk", first_line(Command::new(wrk).arg("-v")));
        }
        versions
    }
}

/// How to get a contender that is missing.
pub(crate) fn advice(contender: Contender) -> &'static str {
    match contender {
        Contender::OsmiaBase => "name it with --baseline",
        osmia if osmia.is_osmia() => {
            "build it with `cargo build --release`, or name one with --osmia"
        }
        Contender::Nginx => "`apt-get install nginx`",
        Contender::Haproxy => "`apt-get install haproxy`",
        Contender::Envoy => "`osmia-bench setup envoy` (needs python3-venv)",
        Contender::Pingora => "`osmia-bench setup pingora` (needs cmake)",
        _ => "build it with `cargo build --release -p osmia-bench`",
    }
}

/// The Python environment that Envoy is installed into.
pub(crate) fn venv() -> PathBuf {
    Path::new(CRATE).join("../target/bench-venv")
}

/// The workspace of the Pingora program.
pub(crate) fn pingora_workspace() -> PathBuf {
    Path::new(CRATE).join("pingora")
}

/// Where `osmia-bench setup pingora` builds to, whatever `CARGO_TARGET_DIR` says.
pub(crate) fn pingora_target() -> PathBuf {
    pingora_workspace().join("target")
}

/// Where results go unless told otherwise.
pub(crate) fn results_directory() -> PathBuf {
    Path::new(CRATE).join("../perf/results")
}

/// This crate's manifest.
pub(crate) fn manifest() -> PathBuf {
    Path::new(CRATE).join("Cargo.toml")
}

/// The committed instruction counts.
pub(crate) fn instruction_baseline() -> PathBuf {
    Path::new(CRATE).join("instructions.toml")
}

fn pingora_binary() -> PathBuf {
    pingora_target().join("release/osmia-peer-pingora")
}

/// The program itself, not the Python wrapper that `bin/envoy` is.
fn envoy_in_venv() -> Option<PathBuf> {
    std::fs::read_dir(venv().join("lib"))
        .ok()?
        .filter_map(|entry| Some(entry.ok()?.path().join("site-packages/envoy/_bin/envoy")))
        .find_map(existing)
}

/// A program built beside this one.
pub(crate) fn sibling(name: &str) -> Option<PathBuf> {
    existing(env::current_exe().ok()?.parent()?.join(name))
}

/// A program in PATH or a system directory.
pub(crate) fn in_path(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(SYSTEM_DIRECTORIES.iter().map(PathBuf::from))
        .find_map(|directory| existing(directory.join(name)))
}

fn existing(path: PathBuf) -> Option<PathBuf> {
    path.is_file().then(|| path.canonicalize().unwrap_or(path))
}

fn version(contender: Contender, path: &Path) -> String {
    let mut command = Command::new(path);
    match contender {
        Contender::Nginx | Contender::Haproxy => command.arg("-v"),
        osmia if osmia.is_osmia() => command.arg("version"),
        _ => command.arg("--version"),
    };
    let line = first_line(&mut command);
    match contender {
        // It begins with its own path.
        Contender::Envoy => line.split_once("version: ").map_or(line.clone(), |(_, v)| v.into()),
        Contender::Pingora => format!("pingora {}", locked(PINGORA_LOCK, "pingora")),
        _ => line,
    }
}

const PINGORA_LOCK: &str = include_str!("../../../pingora/Cargo.lock");

/// The version of a crate in the text of a Cargo.lock.
fn locked<'a>(lock: &'a str, name: &str) -> &'a str {
    let entry = format!("\nname = \"{name}\"\nversion = \"");
    lock.split_once(&entry)
        .and_then(|(_, rest)| rest.split_once('"'))
        .map_or("of an unknown version", |(version, _)| version)
}

/// First line that is not empty, of standard output or standard error.
pub(crate) fn first_line(command: &mut Command) -> String {
    let Ok(output) = command.output() else {
        return "unknown".into();
    };
    let text = [output.stdout, output.stderr].concat();
    String::from_utf8_lossy(&text)
        .lines()
        .map(str::trim)
        .find(|line| !line.is_empty())
        .unwrap_or("unknown")
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_a_lock_file() {
        let lock = "[[package]]\nname = \"pingora-core\"\nversion = \"1.0.0\"\n\n\
                    [[package]]\nname = \"pingora\"\nversion = \"2.0.0\"\n";
        assert_eq!(locked(lock, "pingora"), "2.0.0");
        assert_eq!(locked(lock, "tokio"), "of an unknown version");
        assert_ne!(locked(PINGORA_LOCK, "pingora"), "of an unknown version");
    }
}
