//! Programs that tests run.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// What a program has said.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Said {
    /// Both outputs.
    pub(crate) fn all(&self) -> String {
        format!("{}\n{}", self.stdout, self.stderr)
    }

    /// Fails unless it ended well.
    #[track_caller]
    pub(crate) fn ok(self) -> Self {
        assert_eq!(self.code, Some(0), "{}", self.all());
        self
    }
}

/// Runs a command with `input`, and ends it after a while that is only there for failures.
#[track_caller]
pub(crate) fn run(command: &mut Command, input: &[u8]) -> Said {
    let name = command.get_program().to_owned();
    let arguments: Vec<_> = command.get_args().map(ToOwned::to_owned).collect();
    let mut bounded = Command::new("timeout");
    bounded.arg("60").arg(&name).args(arguments);
    bounded.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = bounded.spawn().unwrap_or_else(|error| panic!("{}: {error}", name.display()));
    let mut stdin = child.stdin.take().unwrap();
    // It may end without reading.
    let _ = stdin.write_all(input);
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Said { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

/// The interpreter with the packages of `tests/python/requirements.txt`.
fn python() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let target = test.ancestors().nth(3).expect("target/<profile>/deps/<test>");
    let beside = target.join("test-venv/bin/python");
    let default = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/test-venv/bin/python");
    let found = [beside, default].into_iter().find(|path| path.exists());
    found.expect("Python with grpcio and websockets: run `make test-venv`")
}

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("python").join(name)
}

/// Runs a script of checks, all of which must hold: as many as it has functions for.
#[track_caller]
pub(crate) fn check(name: &str, arguments: &[&str]) {
    let said = run(Command::new(python()).arg(script(name)).args(arguments), b"").ok();
    let source = std::fs::read_to_string(script(name)).unwrap();
    let checks = source.lines().filter(|line| line.contains("def check_")).count();
    assert!(checks > 3, "{name} has no checks");
    let held = said.stdout.lines().filter(|line| line.starts_with("ok ")).count();
    assert_eq!(held, checks, "{}", said.all());
}

/// A server in Python, which prints its port. Killed when dropped.
pub(crate) struct Server {
    child: Child,
    pub(crate) addr: SocketAddr,
}

impl Server {
    pub(crate) fn start(name: &str, arguments: &[&Path]) -> Self {
        let mut command = Command::new(python());
        command.arg(script(name)).args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let port: u16 = line.trim().parse().unwrap_or_else(|_| panic!("{name} says {line:?}"));
        Self { child, addr: ([127, 0, 0, 1], port).into() }
    }

    pub(crate) fn node(&self) -> String {
        self.addr.to_string()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
