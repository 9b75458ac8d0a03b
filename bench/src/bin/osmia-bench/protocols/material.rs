//! The certificate that all contenders show, and what clients offer.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

/// The server name of all requests.
pub(super) const NAME: &str = "localhost";

/// What OpenSSL's clients read (`OPENSSL_CONF`): they offer one version, one suite and one key
/// exchange, so that all servers do the same work.
const CLIENT: &str = "openssl_conf = settings\n\
    [settings]\nssl_conf = modules\n\
    [modules]\nsystem_default = offer\n\
    [offer]\nMinProtocol = TLSv1.3\nMaxProtocol = TLSv1.3\n\
    Ciphersuites = TLS_AES_128_GCM_SHA256\nGroups = X25519\n";

/// Files of one run; removed with it.
pub(super) struct Material {
    pub(super) cert: String,
    pub(super) key: String,
    dir: TempDir,
}

impl Material {
    /// Makes a certificate: ECDSA on P-256, signed by itself.
    pub(super) fn make(openssl: &Path) -> Result<Self> {
        let dir = crate::child::scratch()?;
        let (cert, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
        let mut command = Command::new(openssl);
        command.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]);
        command.args(["-nodes", "-days", "30", "-subj", "/CN=localhost"]);
        command.args(["-addext", "subjectAltName=DNS:localhost", "-keyout"]);
        command.arg(&key).arg("-out").arg(&cert);
        let output = command.output().context("cannot run openssl")?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "openssl made no certificate: {said}");
        fs::write(dir.path().join("client.cnf"), CLIENT)?;
        fs::write(dir.path().join("call"), call())?;
        Ok(Self { cert: fs::read_to_string(cert)?, key: fs::read_to_string(key)?, dir })
    }

    /// The settings for OpenSSL's clients.
    pub(super) fn client_settings(&self) -> PathBuf {
        self.dir.path().join("client.cnf")
    }

    /// The file with the body of a unary call.
    pub(super) fn call_file(&self) -> PathBuf {
        self.dir.path().join("call")
    }
}

/// The body of a unary call: a message of 16 bytes in gRPC's frame.
pub(super) fn call() -> Vec<u8> {
    [&[0, 0, 0, 0, 16][..], &[b'q'; 16]].concat()
}
